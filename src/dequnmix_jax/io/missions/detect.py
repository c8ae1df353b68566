"""Read the HDF5 files of missions: which one a file is, its own layout tells."""

import os
from collections.abc import Sequence
from pathlib import Path

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.missions import emit, hdf5, prisma
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source


def read_image(
    path: str | os.PathLike[str],
    *,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
) -> Scene:
    """Read an EMIT (L2A reflectance, L1B radiance) or PRISMA (L2D, L2C, L2B) file.

    Args:
        path: the file; needs the extra `geo`.
        nodata: stored value of missing data; as the mission documents it by default.
        scale: divide the stored values by this, in place of the file's own scale.
        saturation: stored value from which a pixel is saturated.
        ignore: ranges (shortest, longest) of wavelength in nm whose bands are marked bad.

    Returns:
        A Scene.

    Raises:
        InputError: the file is damaged, of another mission, or its arrays do not fit together.
    """
    return open_image(path, nodata=nodata, scale=scale, saturation=saturation, ignore=ignore).scene()


def open_image(
    path: str | os.PathLike[str],
    *,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
) -> Source:
    """Open an EMIT or PRISMA file without reading it; arguments and errors as for `read_image`."""
    path = Path(path)
    with hdf5.opened(path) as file:
        for mission in (emit, prisma):
            if mission.holds(file):
                return mission.open_scene(file, path, nodata=nodata, scale=scale, saturation=saturation, ignore=ignore)
        names = ", ".join(sorted(file)[:8]) or "nothing"
    raise InputError(
        f"{path} is an HDF5 file that holds {names}; expected the layout of EMIT L2A (reflectance) or PRISMA L2 "
        "(HDFEOS/SWATHS/PRS_L2D_HCO). Convert it to GeoTIFF, ENVI, .npz or Zarr; a MATLAB file needs the suffix .mat."
    )

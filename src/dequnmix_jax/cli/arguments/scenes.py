"""The commands about a scene that unmix nothing: info, endmembers and convert."""

from typing import Any

from dequnmix_jax.cli.arguments.common import COUNT, add_command, add_json, add_most, add_output, add_seed
from dequnmix_jax.cli.arguments.reading import add_scene
from dequnmix_jax.cli.arguments.spectra import add_fixed
from dequnmix_jax.cli.arguments.words import number_or_auto

METHODS = ("start", "vca", "nfindr", "sivm", "atgp", "minimum-volume")
"""Methods of `endmembers`; the first is the default."""


def add_info(commands: Any) -> None:
    """Add the command info."""
    text = "print the metadata of a scene and warnings about it"
    info = add_command(commands, "info", text, "scene.hdr", "scene.tif --nodata -9999 --json")
    add_scene(info)
    add_json(info)


def add_endmembers(commands: Any) -> None:
    """Add the command endmembers."""
    endmembers = add_command(
        commands,
        "endmembers",
        "find the spectra of a scene without a network, and write them as a library",
        "scene.hdr --count 5 -o spectra.sli",
        "scene.tif --count auto --method nfindr --scaled -o spectra.csv",
    )
    add_scene(endmembers)
    endmembers.add_argument("--count", type=number_or_auto, required=True, metavar="N", help=f"{COUNT} (required)")
    add_most(endmembers)
    add_fixed(endmembers)
    text = f"{', '.join(METHODS)}; start compares 16 candidates, chooses one and says why (default: {METHODS[0]})"
    endmembers.add_argument("--method", choices=METHODS, default=METHODS[0], metavar="WORD", help=text)
    text = "divide each pixel by its brightness first; for sivm, nfindr and minimum-volume (default: no division)"
    endmembers.add_argument("--scaled", action="store_true", help=text)
    add_seed(endmembers)
    add_output(endmembers, "FILE", "file to make, .sli (ENVI spectral library) or .csv")
    add_json(endmembers)


def add_convert(commands: Any) -> None:
    """Add the command convert."""
    convert = add_command(
        commands,
        "convert",
        "write a scene in another format, with wavelengths, mask and georeference",
        "scene.hdr -o copy.tif",
        "scene.nc -o scene.zarr",
        "scene.mat --variable Y --scale 10000 -o scene.npz",
    )
    add_scene(convert)
    add_output(convert, "FILE", "to make: .npz, .tif, .nc, .zarr, or .img (ENVI)")
    add_json(convert)

"""Scenes, results and estimates as data sets of xarray."""

from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import xarrays
from dequnmix_jax.io.formats import read
from dequnmix_jax.results.dataset import dataset_of
from dequnmix_jax.results.result import Result, arrays_of, result_of
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source


def is_labelled(item: Any) -> bool:
    """Return whether an item is a DataArray or Dataset of xarray."""
    return type(item).__module__.split(".")[0] == "xarray"


def to_xarray(item: Any, scene: Any = None) -> Any:
    """Return a scene, a result or an estimate as an xarray Dataset.

    A scene: reflectance (y, x, band). A result: abundances (y, x, endmember), brightness, residual and convergence
    (y, x), endmembers (endmember, band). All are float32 or float64 as they were, NaN where masked. Coordinates:
    wavelength and fwhm (nm) along band, the names of the endmembers, x, y, and spatial_ref, from which `.rio.crs` and
    `.rio.transform()` follow. A swath such as EMIT's is rectified. `.to_netcdf` and `.to_zarr` write it.

    Args:
        item: a `Scene` or `Source`; a `Result`, as `run` and `read_result` return it; or an `Estimate`, as `unmix`
            returns it; or a Dataset, which is returned as it is.
        scene: of an estimate: what was unmixed, a `Scene`, or anything that `read` takes, such as a DataArray.

    Raises:
        InputError: the item is of another kind, an estimate comes without its scene, or the extra `xarray` is not
            installed.
    """
    xarray = xarrays.require("to_xarray")
    if isinstance(item, xarray.Dataset):
        return item
    if isinstance(item, Scene | Source):
        return xarrays.scene_dataset(item if isinstance(item, Scene) else item.scene())
    if hasattr(item, "state") and not isinstance(item, Result):
        if scene is None:
            raise InputError(
                "An estimate has neither wavelengths nor a place; expected its scene as well: to_xarray(estimate, "
                "scene), the scene or the DataArray that was unmixed."
            )
        item = result_of(item, scene if isinstance(scene, Scene) else read(scene))
    if not isinstance(item, Result):
        raise InputError(
            f"to_xarray got {type(item).__name__}; expected a Scene, a Result or an Estimate. A file is opened by "
            "open_xarray."
        )
    return result_dataset(item)


def result_dataset(result: Result) -> Any:
    """Return a result as a data set, like `to_xarray`."""
    title = str(result.summary.get("scene") or "")
    return dataset_of(arrays_of(result), result.summary, result.georeference, title)

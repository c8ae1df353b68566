"""`dq.unmix`: the equilibrium of a scene in an array, as `equilibrium.unmix`, or in a DataArray of xarray."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.pipeline import scene_of
from dequnmix_jax.results.labelled import is_labelled, to_xarray
from dequnmix_jax.results.result import result_of

if TYPE_CHECKING:
    from dequnmix_jax.equilibrium.config import Model
    from dequnmix_jax.types import Estimate, Params, Trace


def unmix(
    params: "Params", cube: Any, config: "Model", *, initial: Any = None, mask: Any = None
) -> "tuple[Estimate, Trace]":
    """Unmix a scene: find the equilibrium A* = f(A*; Y).

    Differentiable in `params` and `cube` by the implicit function theorem, at constant memory.

    Args:
        params: from `init` or `fit`.
        cube: (H, W, B), in the units of the cube that `params` were made for; float16 or bfloat16 are read as float32.
            Or a DataArray or Dataset of xarray, of which invalid pixels are masked and bad bands are left out, as by
            `read`; its bands in the order of the training, as parameters hold no wavelengths.
        config: the parts of the map and its solvers.
        initial: (H, W, R), the first state (`Estimate.state` of an earlier solve); it changes the number of steps, not
            the answer. None: A = 1/R, or zero on the cone.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (Estimate, Trace): abundances (H, W, R), endmembers (R, B), brightness (H, W), state (H, W, R); steps, relative
        residual, converged. For a DataArray or Dataset (Dataset, Trace), the first as by `to_xarray`, with the
        coordinates and the place of what was unmixed.

    Raises:
        InputError: if shapes or values do not fit, in a sentence.
    """
    from dequnmix_jax.equilibrium import model

    if not is_labelled(cube):
        return model.unmix(params, cube, config, initial=initial, mask=mask)
    import jax
    import jax.numpy as jnp

    scene = scene_of(cube, {})
    valid = scene.valid
    if mask is not None:
        given = np.asarray(mask)
        if given.shape != valid.shape or given.dtype != np.bool_:
            raise InputError(
                f"mask has shape {given.shape} and type {given.dtype}; expected {valid.shape}, bool, True where the "
                "pixel is valid."
            )
        valid = valid & given
    estimate, trace = model.unmix(params, jnp.asarray(scene.cube), config, initial=initial, mask=jnp.asarray(valid))
    result = result_of(jax.tree.map(np.asarray, estimate), replace(scene, mask=valid), trace=trace)
    return to_xarray(result), trace

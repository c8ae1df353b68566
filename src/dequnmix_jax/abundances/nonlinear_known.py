"""Nonlinear methods by their word, with the measured error of their answer, for `known.unmix_known`.

All have the constants of their functions (`nonlinear_inversion`, `kernel`).
"""

import jax
import jax.numpy as jnp

from dequnmix_jax.abundances import kernel, nonlinear, nonlinear_inversion
from dequnmix_jax.mixing import project_cone, project_simplex
from dequnmix_jax.ops.guards import positive


def unmix_nonlinear(
    cube: jax.Array, endmembers: jax.Array, mask: jax.Array, word: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return abundances (H, W, R), the RMS (H, W) of what the model leaves, and the change by a further step (H, W).

    The change is the RMS over spectra of P(x - g / L) - x, g the gradient in x of the model's objective, its other
    unknowns at their answer, and L the norm of E E^T.

    Args:
        cube: (H, W, B), reflectance, 0 where masked.
        endmembers: (R, B), reflectance.
        mask: (H, W) bool.
        word: of `methods.NONLINEAR`.
    """
    if word in ("khype", "skhype"):
        return _by_kernel(cube, endmembers, mask, word)
    function = getattr(nonlinear_inversion, word)
    found: nonlinear_inversion.Mixed = function(cube, endmembers, mask=mask)
    x, E, t = found.abundances, endmembers, found.parameters
    if word == "nascimento":
        x = jnp.concatenate([x * (1 - jnp.sum(t, axis=-1, keepdims=True)), t], axis=-1)
        E = jnp.concatenate([E, nonlinear.interactions(E)])

    def objective(x: jax.Array) -> jax.Array:
        mixed = {
            "nascimento": lambda: jnp.matmul(x, E, precision="highest"),
            "fan": lambda: nonlinear.bilinear(x, E),
            "gbm": lambda: nonlinear.bilinear(x, E, t),
            "ppnm": lambda: nonlinear.post_nonlinear(x, E, t[..., 0]),
            "mlm": lambda: nonlinear.multilinear(x, E, t[..., 0]),
        }[word]()
        return 0.5 * jnp.sum(jnp.square(cube - mixed))

    change = _step(x, jax.grad(objective)(x), E, 0.0, True)
    return found.abundances, found.error, jnp.where(mask, change, 0)


def _by_kernel(cube: jax.Array, E: jax.Array, mask: jax.Array, word: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    sum_to_one = word == "khype"
    found = kernel.khype(cube, E, mask=mask) if sum_to_one else kernel.skhype(cube, E, mask=mask)
    x = found.coefficients
    rest = jnp.where(mask[..., None], cube - jnp.matmul(x, E, precision="highest") - found.fluctuation, 0)
    ridge = kernel.MU if sum_to_one else kernel.SK_MU / positive(found.weight)
    ridge = jnp.broadcast_to(jnp.asarray(ridge, cube.dtype), mask.shape)
    g = ridge[..., None] * x - jnp.matmul(rest, E.T, precision="highest")
    change = _step(x, g, E, ridge, sum_to_one)
    return found.abundances, jnp.sqrt(jnp.mean(jnp.square(rest), axis=-1)), jnp.where(mask, change, 0)


def _step(x: jax.Array, g: jax.Array, E: jax.Array, ridge: jax.Array | float, sum_to_one: bool) -> jax.Array:
    L = positive(jnp.linalg.norm(jnp.matmul(E, E.T, precision="highest"))) + ridge
    moved = x - g / jnp.broadcast_to(L, x.shape[:2])[..., None]
    moved = project_simplex(moved) if sum_to_one else project_cone(moved)
    return jnp.sqrt(jnp.mean(jnp.square(moved - x), axis=-1))

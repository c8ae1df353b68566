"""Find the largest simplex whose vertices are pixels: N-FINDR."""

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import lapack
from dequnmix_jax.checks import Array
from dequnmix_jax.extreme import corners
from dequnmix_jax.subspace import Frame, checked, frame, on_plane

_GAIN = 1e-3
"""Relative growth of the volume below which no vertex is exchanged: a gain of rounding could be made for ever."""

_EXCHANGES = 20
"""Most exchanges for each endmember; each makes the volume larger, so that none is made twice."""


def nfindr(cube: Array, count: int, *, mask: Array | None = None, scaled: bool = False) -> jax.Array:
    r"""Find endmembers as the vertices of the largest simplex of pixels.

    max over R pixels of |det (1, x_1; ..; 1, x_R)|, x the R - 1 principal coordinates (`scaled`: of the pixels divided
    by their brightness). A pixel in the place of vertex r multiplies the volume by the modulus of its barycentric
    coordinate r, so that one solve gives the gain of all N R exchanges; the best is made until none gains. The start is
    that of `sivm`; nothing is random.

    Args:
        cube: (H, W, B), any units.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True where the pixel is valid.
        scaled: static; whether the brightness of a pixel says nothing of what it holds.

    Returns:
        (R, B), spectra of R pixels projected on the plane (or the span), in the units of the cube. They can be slightly
        negative. Not differentiated (derivative 0).

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.

    Reference:
        Winter, N-FINDR: an algorithm for fast autonomous spectral end-member determination in hyperspectral data, Proc.
        SPIE 3753, 1999.
    """
    Y, valid = checked(cube, count, mask)
    view = frame(Y, valid, count, scaled)
    chosen = exchange(view, valid, corners(view, valid, count))
    return jnp.matmul(view.points[chosen], view.lift, precision="highest")


@jax.jit  # its loop, run eagerly, would be compiled at every call
def exchange(view: Frame, valid: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return the pixels (R,) at which no single exchange makes the simplex larger."""
    x, lit = on_plane(view.points, view.height, valid)
    x = jnp.concatenate([lit.astype(x.dtype)[:, None], x], axis=1)
    R = chosen.size

    def gains(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the largest factor of the volume, and which exchange (pixel * R + vertex) gives it."""
        ratio = jnp.abs(jnp.matmul(x, lapack.inverse(x[chosen]), precision="highest"))
        # Vertices that coincide span nothing: not a number, and no gain.
        ratio = jnp.where(lit[:, None] & jnp.isfinite(ratio), ratio, 0).reshape(-1)
        best = jnp.argmax(ratio).astype(jnp.int32)
        return ratio[best], best

    def more(carry: tuple) -> jax.Array:
        return (carry[1] > 1 + _GAIN) & (carry[3] < _EXCHANGES * R)

    def swap(carry: tuple) -> tuple:
        chosen, _, best, steps = carry
        chosen = chosen.at[jnp.mod(best, R)].set(best // R)
        return chosen, *gains(chosen), steps + 1

    return lax.while_loop(more, swap, (chosen, *gains(chosen), jnp.zeros((), jnp.int32)))[0]

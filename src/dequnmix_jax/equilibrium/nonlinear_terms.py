r"""The data terms of mixing that is not linear (`Model.nonlinear`).

**K-Hype** is the linear term in the metric W = (I + K(E) / xi)^-1 of the bands, with the ridge mu |a|^2:

    a E W E^T a^T / 2 - a E W y + mu |a|^2 / 2  =  |y~ - a E~|^2 / 2 + const,
    E~ = [E C^-T, sqrt(mu) I],    y~ = [y C^-T, 0],    C C^T = I + K / xi.                                          (1)

A change of the bands, one for a scene: the map is that of linear mixing on E~ and y~, with its proof, its exact
projection and its prior; K(E) takes part in every derivative.

**PPNM and MLM** are post-nonlinear, f(x, t) band by band of the linear mixture x = a E, with one number t of the pixel,
b or P. With t(a) its least squares at a, the term and its gradient are

    phi(a) = min over t of |y - f(a E, t)|^2 / 2,        grad phi = -(f' o r) E^T,    r = y - f(x, t(a)),          (2)

f' the slope in x. The map takes the step in the pixel's own metric, by an exact quadratic problem on the simplex:

    a <- argmin over the simplex of |x - (a - step N^-1 (grad phi + G))|_N,      N = H + D / 2 + shift I,           (3)
    H = J J^T less its part along df / dt,    J = E o f',
    D = the sums of the absolute rows of (Hessian of phi) - H, on the diagonal, so that the Hessian is at most H + D,

H the Hessian without the terms in r (Golub and Pereyra 1973; Kaufman 1975), G the network, and shift as in the linear
map: the proximity times the mean of f'^2, and the bound of the network's curvature. For f' = 1 and r = 0 this is the
map of linear mixing. N has no derivative: a change of N does not move an equilibrium.

*Where it contracts.* At an equilibrium the map has the derivative I - step N^-1 S on the face of each pixel, S the
Hessian of phi and the derivative of G. Both are symmetric, and S < 2 N with Analytic() or Energy(), so that at step 1
all eigenvalues lie above -1, and below 1 where S is positive definite: the map contracts near every strict local
minimum of the energy. Where phi fits (r of the size of the noise) and f' is not small, the Hessian is near H and the
rate is near that of linear mixing. Elsewhere the Hessian need not be positive, and with a network there may be no
equilibrium near the first state:

* PPNM: f' = 1 + 2 b x is zero at x = -1 / (2 b): within reflectance for b < -1/2. Beyond it f falls, and two mixtures,
  x and -1 / b - x, have one value. Pixels that are dark by shade look so.
* MLM: f' = (1 - P) / (1 - P x)^2 is at least 1 - P: never zero, and P near 1 costs accuracy alone.

Nothing is certified: phi is not convex. `Trace.converged` says whether an equilibrium was reached, and `folded` in
which pixels f' <= 0 in some band, so that another mixture may fit as well. The first state is the answer of the method
of single pixels (`abundances.ppnm`, `mlm`), whose search never raises phi: without a network that is the equilibrium.

Left out: Fan and GBM, whose J is no scaling of bands (R B numbers a pixel in each step), and GBM's interactions in
[0, 1] have no closed form; SK-Hype, whose weight gives each pixel a metric over its bands.

References:
    Those of `abundances.kernel`, `abundances.nonlinear`. Golub and Pereyra, The differentiation of pseudo-inverses and
    nonlinear least squares problems whose variables separate, SIAM Journal on Numerical Analysis 10(2), 1973; Kaufman,
    BIT 15, 1975.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances import kernel, nonlinear, nonlinear_inversion
from dequnmix_jax.abundances.simplex_steps import on_face, simplex_minimum
from dequnmix_jax.checks import InputError, check_kind
from dequnmix_jax.equilibrium.config import MLM, PPNM, KHype, Model
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.types import Estimate


class PixelTerm(NamedTuple):
    """The data term of PPNM or MLM.

    Attributes:
        E: (R, B), reflectance, 0 in bands without weight.
        Y: (H, W, B), reflectance, 0 in bands without weight and in masked pixels.
        unit: (), the constant by which the term is divided, that of linear mixing.
        proximity, learned: (), the parts of the shift.
    """

    E: jax.Array
    Y: jax.Array
    unit: jax.Array
    proximity: jax.Array
    learned: jax.Array


def _times(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.matmul(x, matrix, precision=lax.Precision.HIGHEST)


# --- K-Hype -------------------------------------------------------------------------------------------------------


def whitening(nonlinear: KHype, E: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return C^-1 of (1) and K, (B, B) each, of spectra in reflectance (R, B), with weights of the bands (B,)."""
    K = weight[:, None] * kernel.kernel(E) * weight[None]
    return kernel.whitening(K, jnp.asarray(1 / nonlinear.xi, E.dtype)), K


# --- PPNM and MLM -------------------------------------------------------------------------------------------------


def _mixed(config: Model) -> tuple[Callable[..., jax.Array], Callable[..., jax.Array]]:
    """Return f(x, t), and t(x, y) of least squares: x, y (..., B), t (..., 1)."""
    if isinstance(config.nonlinear, PPNM):
        return nonlinear.polynomial, nonlinear.best_curvature
    assert isinstance(config.nonlinear, MLM)

    def probability(x: jax.Array, y: jax.Array) -> jax.Array:
        return nonlinear.best_probability(x, y, nonlinear.best_multiplied_probability(x, y))

    return nonlinear.reflections, probability


def step(term: PixelTerm, state: jax.Array, G: jax.Array, eta: jax.Array, config: Model) -> jax.Array:
    """Take the step (3) in every pixel.

    Args:
        term: of the scene.
        state: (H, W, R).
        G: (H, W, R), the network's part of the gradient.
        eta: (), the step.
        config: the parts of the map.
    """
    R, B = term.E.shape
    mix, own = _mixed(config)
    a, y = state.reshape(-1, R), term.Y.reshape(-1, B)
    x = _times(a, term.E)
    t = own(x, y)
    f, slope = _with_slope(mix, x, t)
    rest = y - f
    # Only differences of sum zero count: with spectra from their mean, less is lost to rounding.
    C = term.E - jnp.mean(term.E, axis=0, keepdims=True)
    g = _times(slope * rest, C.T) / term.unit - G.reshape(-1, R)
    H, rise = _curvatures(mix, *lax.stop_gradient((x, t, rest, C)))
    shift = term.proximity * jnp.mean(jnp.square(slope), axis=-1) + term.learned
    added = rise / term.unit + lax.stop_gradient(shift)[:, None]
    N = H / term.unit + added[:, None] * jnp.eye(R, dtype=H.dtype)[None]
    return _nearest(N, eta * g, a).reshape(state.shape)


def _with_slope(mix: Callable[..., jax.Array], x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return f(x, t) and its slope in x."""
    f, slope = jax.jvp(lambda x: mix(x, t), (x,), (jnp.ones_like(x),))
    return f, slope


def _curvatures(
    mix: Callable[..., jax.Array], x: jax.Array, t: jax.Array, rest: jax.Array, C: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return H of (3), (n, R, R), and d (n, R) such that H + diag(d) is at least the Hessian of phi.

    Args:
        mix: f.
        x, rest: (n, B), a E and y - f.
        t: (n, 1).
        C: (R, B), the spectra less their mean.
    """
    R, B = C.shape
    one, ones = jnp.ones_like(t), jnp.ones_like(x)

    def in_t(x: jax.Array, t: jax.Array) -> jax.Array:
        return jax.jvp(lambda t: mix(x, t), (t,), (one,))[1]

    def in_x(x: jax.Array, t: jax.Array) -> jax.Array:
        return _with_slope(mix, x, t)[1]

    slope, bend = jax.jvp(lambda x: in_x(x, t), (x,), (ones,))
    along, mixed = jax.jvp(lambda x: in_t(x, t), (x,), (ones,))
    turn = jax.jvp(lambda t: in_t(x, t), (t,), (one,))[1]
    products = (C[:, None] * C[None]).reshape(R * R, B).T

    def reduced(weight: jax.Array, coupling: jax.Array, own: jax.Array) -> jax.Array:
        """Return C diag(weight) C^T less what t takes away."""
        c = _times(coupling, C.T)
        least = jnp.sum(own, axis=-1)[:, None, None]
        taken = jnp.where(least > 0, c[:, :, None] * c[:, None] / positive(least), 0)
        return _times(weight, products).reshape(-1, R, R) - taken

    H = reduced(jnp.square(slope), slope * along, jnp.square(along))
    # Where P is at its limit it does not move.
    held = (t >= nonlinear.LARGEST_P) if mix is nonlinear.reflections else jnp.zeros_like(t, bool)
    coupling = jnp.where(held, 0, slope * along - rest * mixed)
    hessian = reduced(jnp.square(slope) - rest * bend, coupling, jnp.square(along) - rest * turn)
    return H, jnp.sum(jnp.abs(hessian - H), axis=-1) / 2


@jax.custom_jvp
def _nearest(N: jax.Array, g: jax.Array, a: jax.Array) -> jax.Array:
    """Return argmin over x on the simplex of (x - a) N (x - a)^T / 2 - (x - a) g; N (n, R, R) has no derivative."""
    return simplex_minimum(jnp.moveaxis(N, 0, -1), g.T, a)


@_nearest.defjvp
def _nearest_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    N, g, a = primals
    _, dg, da = tangents
    x = _nearest(N, g, a)
    moved = jnp.sum(N * da[:, None], axis=-1) + dg
    return x, on_face(N, x > 0, moved, x.shape[1])


def first_state(E: jax.Array, cube: jax.Array, config: Model) -> jax.Array:
    """Return the abundances of the method of single pixels, whose search never raises phi; any numbers where masked."""
    Y = jnp.where(jnp.isfinite(cube), cube, 0)
    method = nonlinear_inversion.ppnm if isinstance(config.nonlinear, PPNM) else nonlinear_inversion.mlm
    return method(*lax.stop_gradient((Y, E))).abundances


# --- What the models say of a pixel -------------------------------------------------------------------------------


def fluctuation(
    A: jax.Array, E: jax.Array, cube: jax.Array, valid: jax.Array, config: Model, bands: jax.Array | None
) -> jax.Array:
    """Return what mixing adds to A E in all bands, (H, W, B), from the bands with a weight; 0 in masked pixels.

    Args:
        A: (H, W, R).
        E: (R, B), reflectance.
        cube: (H, W, B).
        valid: (H, W) bool.
        config: with `nonlinear`.
        bands: (B,), weights 0 or 1; None: 1.
    """
    weight = jnp.ones(E.shape[1], E.dtype) if bands is None else bands
    x, Y = _times(A, E), jnp.where(valid[..., None], cube, 0)
    if isinstance(config.nonlinear, KHype):
        back, K = whitening(config.nonlinear, E, weight)
        rest = _times((Y - x) * weight[None, None], back.T)
        K = weight[:, None] * kernel.kernel(E)  # from the bands with a weight to all
        added = _times(rest, _times(back, K)) / config.nonlinear.xi
    else:
        mix, own = _mixed(config)
        seen = weight[None, None]
        added = mix(x, own(x * seen, Y * seen)) - x
    return jnp.where(valid[..., None], added, 0)


def pixel_parameter(estimate: Estimate, config: Model) -> jax.Array:
    """Return the number of each pixel that an estimate of PPNM() or MLM() has, (H, W): b or P; 0 in masked pixels.

    Args:
        estimate: of `unmix`, with its `fluctuation`.
        config: with PPNM() or MLM().

    Raises:
        InputError: the model has no such number.
    """
    x, t = _mixture(estimate, config)
    return jnp.where(jnp.any(x != 0, axis=-1), t[..., 0], 0)


def folded(estimate: Estimate, config: Model) -> jax.Array:
    """Return where the curve of a pixel falls in some band, f' <= 0 at the mixture found, (H, W) bool.

    There a second mixture has the same value, and nothing says which of them is meant. Arguments and errors as
    `pixel_parameter`.
    """
    x, t = _mixture(estimate, config)
    mix, _ = _mixed(config)
    slope = jax.jvp(lambda x: mix(x, t), (x,), (jnp.ones_like(x),))[1]
    return jnp.any(slope <= 0, axis=-1) & jnp.any(x != 0, axis=-1)


def _mixture(estimate: Estimate, config: Model) -> tuple[jax.Array, jax.Array]:
    check_kind(config, Model, "config")
    check_kind(estimate, Estimate, "estimate", "`unmix` returns a pair: estimate, trace = unmix(...).")
    if not config.post_nonlinear or estimate.fluctuation is None:
        raise InputError(
            f"Model.nonlinear is {config.nonlinear!r}, which has no number of each pixel; expected an estimate of "
            'nonlinear="ppnm" or "mlm", and its model.'
        )
    x = _times(jnp.asarray(estimate.abundances), jnp.asarray(estimate.endmembers))
    # What was found is least squares of its own curve, with nothing left.
    return x, _mixed(config)[1](x, x + jnp.asarray(estimate.fluctuation))

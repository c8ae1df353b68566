"""Find the smallest simplex that encloses the pixels up to noise: no pixel needs to be pure."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_key
from dequnmix_jax.endmembers.noise import simplex_noise
from dequnmix_jax.endmembers.pure_pixel import vca
from dequnmix_jax.endmembers.subspace import Frame, checked, frame
from dequnmix_jax.metrics import align
from dequnmix_jax.ops import lapack, small_systems
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.types import Trace

RUNS = 8
"""Draws of VCA for the initial simplex."""

WEIGHT = 2.0
"""Of the data against the volume. On 51 generated scenes 1 has an mSAD 0.93 times as large in the mean and twice as
large at worst, and 4 one 1.14 times as large (`results/minimum_volume.md`, as all figures here)."""

MAX_STEPS = 200
"""Generated scenes of 3 to 8 endmembers needed 61 at most."""

_CHANGE = 1e-3
"""Relative change of the facets at convergence; the abundances change by less."""


class Constants(NamedTuple):
    """Constants of the search; how the defaults were chosen: `experiments.defaults.minimum_volume`.

    Attributes:
        dilations: sizes of the start, relative to VCA's simplex: the search runs from each, and the lowest objective is
            kept. Without pure pixels VCA's simplex is much too small, and from it alone 1 of 51 generated scenes ended
            in a wrong place (0.35 rad).
        far: standard deviations of the noise beyond which a pixel outside pulls no harder: an outlier, or a material's
            own variability. Between 2 and 10 no generated scene changed by more than 6 %.
        flat: weight of the squared noise in the abundances. Without it the simplex can collapse along directions that
            hold nothing but noise: the mean is the same, the worst of 51 scenes 2.8 times as large, and one search does
            not end. 20 has an mSAD 0.95 times as large in the mean (1.33 at worst), 300 one 1.2 times as large.
    """

    dilations: tuple[float, ...] = (1.0, 2.0)
    far: float = 4.0
    flat: float = 100.0


_CONSTANTS = Constants()


class _Search(NamedTuple):
    """State of the search: facets Q (R, R), damping, last change, steps done, whether it has converged."""

    Q: jax.Array
    damping: jax.Array
    change: jax.Array
    steps: jax.Array
    done: jax.Array


def minimum_volume(
    key: Array,
    cube: Array,
    count: int,
    *,
    mask: Array | None = None,
    scaled: bool = False,
    weight: float | Array = WEIGHT,
    max_steps: int = MAX_STEPS,
) -> tuple[jax.Array, Trace]:
    r"""Find endmembers as the smallest simplex that encloses the pixels up to noise.

    min over Q, 1^T Q given, of -log |det Q| + w mean_n sum_r h(q_r . g_n / sigma_r) + k sum_r sigma_r^2 / 2

    g are the pixels in R coordinates, s = Q g their abundances (`scaled`: times the brightness), q_r facet r,
    sigma_r^2 = q_r N q_r^T the noise of abundance r for the band noise N of the cube. h(u) = min(u, 0)^2 / 2 down to
    u = -4, and linear below: a pixel inside costs nothing, one outside costs its squared distance in units of the
    noise, and outliers have a bounded pull. Sequential majorisation: sigma is that of the step before, -log |det| is
    replaced by a quadratic function of the relative change of Q and h by its own second derivative, and the R blocks of
    R unknowns are solved exactly, with damping if the objective would rise. It starts from `vca`.

    Args:
        key: random key, of VCA.
        cube: (H, W, B), any units; the mean of the valid pixels must not be zero.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True for valid pixels.
        scaled: static; find the smallest cone in the span of R directions, if the illumination varies. The spectra,
            whose scale a cone does not determine, have the mean brightness.
        weight: w > 0, of the data against the volume; 1 is that of a uniform density inside the simplex.
        max_steps: static.

    Returns:
        endmembers: (R, B), units of the cube; they can be slightly negative. Not differentiated (derivative 0).
        trace: residual is the largest relative change of a facet in the last step, converged if at most 1e-3. If the
            initial simplex is flat or the search fails, the endmembers are the initial ones.

    Raises:
        InputError: if the shapes do not fit, a number is out of range, or outside jit if valid values are not finite.

    Reference:
        Bioucas-Dias, A variable splitting augmented Lagrangian approach to linear spectral unmixing (SISAL), WHISPERS
        2009; Li, Agathos, Zaharie, Bioucas-Dias, Plaza and Li, Minimum volume simplex analysis: a fast algorithm for
        linear hyperspectral unmixing (MVSA), IEEE TGRS 53(9), 2015. The facets as unknowns, the determinant and the
        soft constraint are theirs; h in units of the noise, the last term and the solver are ours.
    """
    check_key(key)
    if max_steps < 1:
        raise InputError(f"max_steps is {max_steps}; expected at least 1.")
    Y, valid = checked(cube, count, mask)
    start = vca(key, cube, count, mask=mask, runs=RUNS)
    noise = simplex_noise(cube, count, mask=mask)
    return enclosing(frame(Y, valid, count, scaled), valid, start, noise, scaled, weight, max_steps)


def enclosing(
    view: Frame,
    valid: jax.Array,
    start: jax.Array,
    noise: jax.Array,
    scaled: bool | jax.Array,
    weight: float | Array = WEIGHT,
    max_steps: int = MAX_STEPS,
    constants: Constants = _CONSTANTS,
    held: jax.Array | None = None,
) -> tuple[jax.Array, Trace]:
    """Return what `minimum_volume` returns, from a start (R, B) and the variance of the noise (B,).

    `held` (F, R), from `subspace.in_frame`, are the first F vertices, which stay.
    """
    back = lapack.pinv(view.lift)
    E = jnp.matmul(lax.stop_gradient(start), back, precision="highest")
    # All endmembers have brightness one; an initial spectrum without brightness is kept.
    E = (E / positive(E[:, :1])).at[:, 0].set(1) / view.height
    first = 0 if held is None else held.shape[0]
    if held is not None:
        E = E.at[:first].set(held)
    # Noise stays in a plane: the first coordinate is one.
    back = jnp.where(scaled, back, back.at[:, 0].set(0))
    N = jnp.matmul(back.T * lax.stop_gradient(noise)[None], back, precision="highest")
    axis = jnp.zeros_like(E[:1]).at[0, 0].set(1) / view.height
    starts = jnp.stack([(axis + k * (E - axis)).at[:first].set(E[:first]) for k in constants.dilations])
    vertices, values, traces = _searches(
        view, valid, starts, N, jnp.asarray(weight, E.dtype), max_steps, constants, first
    )
    best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
    vertices, trace = vertices[best], Trace(*(field[best] for field in traces))
    spectra = jnp.matmul(jnp.where(jnp.isfinite(vertices).all(), vertices, E), view.lift, precision="highest")
    if held is not None:
        return spectra, trace
    # Searches that end in the same simplex can permute its vertices: keep the order of the start.
    return spectra[align(spectra, lax.stop_gradient(start))], trace


@partial(jax.jit, static_argnames=("max_steps", "constants", "first"))  # an eager call would compile its loop each time
def _searches(
    view: Frame,
    valid: jax.Array,
    starts: jax.Array,
    N: jax.Array,
    weight: jax.Array,
    max_steps: int,
    constants: Constants,
    first: int = 0,
) -> tuple[jax.Array, jax.Array, Trace]:
    """Search from several starts, one after the other, each to its own convergence; the first vertices stay."""
    return lax.map(lambda E: _search(view, valid, E, N, weight, max_steps, constants, first), starts)


def _search(
    view: Frame,
    valid: jax.Array,
    E: jax.Array,
    N: jax.Array,
    weight: jax.Array,
    max_steps: int,
    constants: Constants,
    held: int = 0,
) -> tuple[jax.Array, jax.Array, Trace]:
    """Return vertices (R, R) in the frame and their objective, from the start E, for the noise covariance N (R, R)."""
    G, R, far, flat = view.points, E.shape[0], constants.far, constants.flat
    pixels = jnp.maximum(jnp.sum(valid), 1).astype(G.dtype)
    eye = jnp.eye(R, dtype=G.dtype)
    free = jnp.arange(R) >= held
    moves = free[:, None] & free[None]
    weight = weight / pixels
    tiny = jnp.finfo(G.dtype).eps ** 2

    def noise(Q: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.maximum(jnp.sum(jnp.matmul(Q, N, precision="highest") * Q, axis=1), tiny))

    def objective(Q: jax.Array, u: jax.Array) -> jax.Array:
        near = jnp.clip(u, -far, 0)
        cost = jnp.sum(near * (near / 2 + jnp.minimum(u + far, 0)))
        return -lapack.log_determinant(Q) + weight * cost + flat / 2 * jnp.sum(jnp.square(noise(Q)))

    def step(at: _Search) -> _Search:
        sigma, s = noise(at.Q), jnp.matmul(G, at.Q.T, precision="highest")
        u = s / sigma[None]
        curved = ((u < 0) & (u > -far)).astype(G.dtype)
        spread = jnp.matmul(jnp.matmul(at.Q, N, precision="highest"), at.Q.T, precision="highest")
        # Gradient and curvature in e, Q + e Q: row r of e moves facet r. The trace of the identity is the determinant.
        slope = jnp.matmul((jnp.clip(u, -far, 0) * weight / sigma[None]).T, s, precision="highest")
        gradient = slope - eye + flat * spread

        def curvature(row: jax.Array) -> jax.Array:
            return jnp.matmul((s * row[:, None]).T, s, precision="highest")

        H = lax.map(curvature, (curved * weight / jnp.square(sigma)[None]).T) + flat * spread[None]
        H = H + (1 + at.damping) * eye[None]
        if held:  # vertex f stays where column f of e is zero
            H = jnp.where(moves[None], H, eye[None])
        inverse = small_systems.inverses(H)
        if held:
            inverse = jnp.where(moves[None], inverse, 0)
        e = -jnp.einsum("rij,rj->ri", inverse, gradient, precision="highest")
        # The abundances of the frame's axis sum to one whatever Q: the rows of e sum to zero.
        total = jnp.sum(inverse, axis=0)
        price = small_systems.solve(jnp.where(moves, total, eye) if held else total, jnp.sum(e, axis=0))
        e = e - jnp.einsum("rij,j->ri", inverse, price, precision="highest")
        Q = at.Q + jnp.matmul(e, at.Q, precision="highest")
        better = objective(Q, jnp.matmul(G, Q.T, precision="highest") / sigma[None]) < objective(at.Q, u)
        change = jnp.max(jnp.abs(e))
        damping = jnp.where(better, at.damping / 3, jnp.maximum(4 * at.damping, 0.1))
        # A small step uphill is rounding. NaN is never an answer and ends the search.
        done = (change <= _CHANGE) | ~jnp.isfinite(change)
        return _Search(jnp.where(better, Q, at.Q), damping, change, at.steps + 1, done)

    one = jnp.ones((), G.dtype)
    first = _Search(lapack.inverse(E).T, one, one, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.bool_))
    last = lax.while_loop(lambda at: ~at.done & (at.steps < max_steps), step, first)
    value = objective(last.Q, jnp.matmul(G, last.Q.T, precision="highest") / noise(last.Q)[None])
    return lapack.inverse(last.Q.T), value, Trace(last.steps, last.change, last.change <= _CHANGE)

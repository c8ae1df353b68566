r"""Unmix pixels that are not linear mixtures, with known spectra (the models of `nonlinear`).

For each pixel min |y - f(a, t)|^2 over a on the simplex and the pixel's own parameters t: g of GBM in [0, 1], b of
PPNM, P < 1 of MLM. Nascimento's model is FCLS on the spectra {e_i, e_i o e_j}. The others alternate, from FCLS or from
NNLS over its sum, whichever fits better:

    t <- its least squares at a, in closed form (MLM fitted directly: by scalar Newton steps)
    a <- FCLS whose endmembers are the rows of the Jacobian of f in a, less what a change of t explains as well
         (Kaufman's form of variable projection), with backtracking: the best of five lengths of the step

The objective never rises. It is not convex: what is found is a stationary point near the start.

The derivative is that of the stationary point, by the implicit function theorem with the exact Hessian, where neither
the support of a nor the parameters at their bounds change; the search is not differentiated.

References:
    The models: `nonlinear`. Kaufman, A variable projection method for solving separable nonlinear least squares
    problems, BIT 15, 1975. Wei, Chen, Tourneret and Godsill, Unsupervised nonlinear spectral unmixing based on a
    multilinear mixing model, IEEE TGRS 55(8), 2017 (MLM multiplied out, and P in closed form).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import check_problem, fcls, finish, nnls, prepare
from dequnmix_jax.abundances.nonlinear import (
    LARGEST_P,
    best_curvature,
    best_multiplied_probability,
    best_probability,
    check_reflectance,
    interactions,
    pairs,
    polynomial,
    reflections,
)
from dequnmix_jax.abundances.simplex_steps import RIDGE, on_face, simplex_step
from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.mixing import normalise_abundances
from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.guards import divide, nonzero, positive
from dequnmix_jax.ops.xla import alongside

_STEPS = 60
"""Largest number of steps of a pixel; most end after 4 to 10."""

_TOLERANCE = 1e-6
"""Change of the abundances at which a pixel ends."""

_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.02)
"""Lengths of a step that are tried."""

_BLOCK = 2**19
"""Numbers of a block's Jacobians."""

_SWEEPS = 12
"""Sweeps of coordinate descent on the interactions of a pixel, from those of the step before."""

DIRECT, MULTIPLIED = "direct", "multiplied"
FITS = (DIRECT, MULTIPLIED)
"""What `mlm` minimises."""


class Mixed(NamedTuple):
    """What is found in each pixel.

    Attributes:
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        parameters: (H, W, p), the pixel's own: g or b_ij (pairs), b (1), P (1), or none (0).
        error: (H, W), RMS over bands of y - f(a, t), units of the cube; 0 in masked pixels.
    """

    abundances: jax.Array
    parameters: jax.Array
    error: jax.Array


def nascimento(cube: Array, endmembers: Array, *, mask: Array | None = None) -> Mixed:
    r"""Unmix by Nascimento's bilinear model.

    min |y - a E - sum b_ij e_i o e_j|^2, a and b >= 0 and summing to one together: FCLS on R (R + 1) / 2 spectra.
    Abundances are a / sum a, since b is no area (1 / R where a is zero).

    Args:
        cube: (H, W, B), reflectance.
        endmembers: (R, B), reflectance.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        Mixed, its parameters b_ij. Differentiable as `fcls`.

    Raises:
        InputError: if the shapes do not fit, or outside jit if a valid value is not finite or a spectrum exceeds 2.
    """
    E = _checked(cube, endmembers, mask)
    x = fcls(cube, jnp.concatenate([E, interactions(E)]), mask=mask)
    a, b = x[..., : E.shape[0]], x[..., E.shape[0] :]
    rest = _pixels(cube, mask) - jnp.matmul(x, jnp.concatenate([E, interactions(E)]), precision="highest")
    total = jnp.sum(a, axis=-1, keepdims=True)
    valid = jnp.ones(x.shape[:2], bool) if mask is None else jnp.asarray(mask)
    shares = jnp.where(valid[..., None], jnp.where(total > 0, divide(a, total), 1 / E.shape[0]), 0)
    shares = jnp.where(jnp.isnan(total), total, shares)
    return Mixed(shares, b, jnp.where(valid, _rms(rest), 0))


def fan(cube: Array, endmembers: Array, *, mask: Array | None = None) -> Mixed:
    """Unmix by Fan's bilinear model, which has no parameters beside the abundances; arguments as `nascimento`.

    Returns:
        Mixed, without parameters.
    """
    return _invert(_Model("fan"), cube, endmembers, mask)


def gbm(cube: Array, endmembers: Array, *, mask: Array | None = None) -> Mixed:
    """Unmix by the generalised bilinear model; arguments as `nascimento`.

    Returns:
        Mixed, its parameters g_ij in [0, 1]; where a_i a_j is 0 they mean nothing.
    """
    return _invert(_Model("gbm"), cube, endmembers, mask)


def ppnm(cube: Array, endmembers: Array, *, mask: Array | None = None) -> Mixed:
    """Unmix by the polynomial post-nonlinear model; arguments as `nascimento`.

    b and a brightness of the pixel explain much of the same: before claiming nonlinearity, compare with a method that
    has a brightness (`soft_nnls`).

    Returns:
        Mixed, its parameter b, of either sign.
    """
    return _invert(_Model("ppnm"), cube, endmembers, mask)


def mlm(cube: Array, endmembers: Array, *, fit: str = DIRECT, mask: Array | None = None) -> Mixed:
    """Unmix by the multilinear model.

    Args:
        cube, endmembers, mask: as `nascimento`.
        fit: "direct": min |y - (1 - P) x / (1 - P x)|^2; "multiplied": min |y - (1 - P) x - P x o y|^2 (Wei et al.
            2017), which weighs bands by 1 - P x, so that its minimum is another one where there is noise.

    Returns:
        Mixed, its parameter P, below 1 and perhaps negative. `error` is that of the direct model.

    Raises:
        InputError: as `nascimento`, or the word is unknown.
    """
    if fit not in FITS:
        raise InputError(f"fit is {fit!r}; expected {' or '.join(FITS)}.")
    return _invert(_Model("mlm" if fit == DIRECT else "mlm multiplied"), cube, endmembers, mask)


class _Model(NamedTuple):
    """A model by its word; static. Functions of pixels a (n, R), t (n, p), y (n, B) with shared E (R, B)."""

    word: str

    def size(self, count: int) -> int:
        return {"fan": 0, "gbm": pairs(count)}.get(self.word, 1)

    @property
    def bounds(self) -> tuple[float, float]:
        return {"gbm": (0.0, 1.0), "ppnm": (-np.inf, np.inf)}.get(self.word, (-np.inf, LARGEST_P))

    def mix(self, a: jax.Array, t: jax.Array, E: jax.Array, y: jax.Array) -> jax.Array:
        """Return f(a, t), (n, B); of "mlm multiplied" (1 - P) x + P x o y."""
        x = _times(a, E)
        if self.word in ("fan", "gbm"):
            first, second = np.triu_indices(E.shape[0], 1)
            products = a[..., first] * a[..., second]
            return x + _times(products * t if self.word == "gbm" else products, interactions(E))
        if self.word == "ppnm":
            return polynomial(x, t)
        return reflections(x, t) if self.word == "mlm" else x + t * (x * y - x)

    def own(self, a: jax.Array, t: jax.Array, E: jax.Array, y: jax.Array) -> jax.Array:
        """Return the parameters (n, p) at a: their least squares, or better ones than t."""
        if self.word == "fan":
            return t
        x = _times(a, E)
        if self.word == "gbm":
            return _box(_interactions(a, E), y - x, t)
        if self.word == "ppnm":
            return best_curvature(x, y)
        return best_probability(x, y, t) if self.word == "mlm" else best_multiplied_probability(x, y)


def _times(a: jax.Array, E: jax.Array) -> jax.Array:
    return jnp.matmul(a, E, precision="highest")


def _rms(rest: jax.Array) -> jax.Array:
    square = jnp.mean(jnp.square(rest), axis=-1)
    return jnp.where(square == 0, 0, jnp.sqrt(nonzero(square)))


def _interactions(a: jax.Array, E: jax.Array) -> jax.Array:
    """Return a_i a_j e_i o e_j, (n, pairs, B)."""
    first, second = np.triu_indices(E.shape[0], 1)
    return (a[:, first] * a[:, second])[:, :, None] * interactions(E)[None]


def _box(C: jax.Array, r: jax.Array, t: jax.Array) -> jax.Array:
    """Return t in [0, 1] that lowers |r - t C|^2, by coordinate descent from t: C (n, p, B), r (n, B), t (n, p)."""
    G = jnp.einsum("npb,nqb->pqn", C, C, precision="highest")
    c = jnp.einsum("npb,nb->pn", C, r, precision="highest")
    order = jnp.tile(jnp.arange(G.shape[0], dtype=jnp.int32), _SWEEPS)

    def one(t: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        g = c[k] - jnp.sum(G[k] * t, axis=0)
        return t.at[k].set(jnp.clip(t[k] + divide(g, G[k, k]), 0, 1)), None

    return lax.scan(one, t.T, order)[0].T


def _pixels(cube: Array, mask: Array | None) -> jax.Array:
    return prepare(cube, jnp.zeros((1, np.shape(cube)[2]), jnp.asarray(cube).dtype), mask)[0].reshape(np.shape(cube))


def _checked(cube: Array, endmembers: Array, mask: Array | None) -> jax.Array:
    """Check the inputs and return the endmembers."""
    check_problem(cube, endmembers, mask)
    check_reflectance(endmembers)
    return prepare(cube, endmembers, mask)[1]


def _invert(model: _Model, cube: Array, endmembers: Array, mask: Array | None) -> Mixed:
    E = _checked(cube, endmembers, mask)
    Y, _ = prepare(cube, endmembers, mask)
    a, t = _solve(model, Y, E)
    direct = _Model("mlm") if model.word == "mlm multiplied" else model
    error = _rms(Y - direct.mix(a, t, E, Y))[:, None]
    return Mixed(finish(a, cube, mask), finish(t, cube, mask), finish(error, cube, mask)[..., 0])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solve(model: _Model, Y: jax.Array, E: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a (N, R) and t (N, p) of pixels Y (N, B)."""
    start = fcls(Y[None], E)[0]
    if E.shape[0] == 1 and model.word in ("fan", "gbm"):
        return start, jnp.zeros((Y.shape[0], 0), Y.dtype)
    free = normalise_abundances(nnls(Y[None], E))[0][0]
    return _search(model, Y, E, start, free)


@_solve.defjvp
def _solve_jvp(model: _Model, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    (Y, E), (dY, dE) = primals, tangents
    a, t = _solve(model, Y, E)
    R = E.shape[0]

    def gradient(z: jax.Array, y: jax.Array, E: jax.Array) -> jax.Array:
        def objective(z: jax.Array) -> jax.Array:
            rest = y - model.mix(z[None, :R], z[None, R:], E, y[None])[0]
            return 0.5 * jnp.sum(rest * rest)

        return jax.grad(objective)(z)

    z = jnp.concatenate([a, t], axis=1)
    H = jax.vmap(jax.jacfwd(gradient), (0, 0, None))(z, Y, E)
    change = jax.jvp(lambda y, E: jax.vmap(gradient, (0, 0, None))(z, y, E), (Y, E), (dY, dE))[1]
    low, high = model.bounds
    free = jnp.concatenate([a > 0, (t > low) & (t < high)], axis=1)
    dz = on_face(H, free, -change, R)
    return (a, t), (dz[:, :R], dz[:, R:])


@partial(jax.jit, static_argnums=0)  # run eagerly, the loops would be compiled at every call
def _search(
    model: _Model, Y: jax.Array, E: jax.Array, start: jax.Array, other: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return a (N, R) and t (N, p) from the better of two first a, block by block."""
    N, B = Y.shape
    size = min(N, max(64, _BLOCK // (E.shape[0] * B)))
    count = -(-N // size)
    blocks = [jnp.pad(x, ((0, count * size - N), (0, 0))).reshape(count, size, -1) for x in (Y, start, other)]
    a, t = lax.map(lambda b: _search_block(model, b[0], b[1], b[2], E), tuple(blocks))
    return a.reshape(count * size, -1)[:N], t.reshape(count * size, -1)[:N]


def _search_block(
    model: _Model, Y: jax.Array, a: jax.Array, other: jax.Array, E: jax.Array
) -> tuple[jax.Array, jax.Array]:
    low, high = model.bounds
    eps = jnp.finfo(Y.dtype).eps

    def value(a: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(Y - model.mix(a, t, E, Y)), axis=1)

    def better(a: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the parameters at a, and the objective; those given where they are better."""
        new, old = model.own(a, t, E, Y), value(a, t)
        least = value(a, new)
        lower = least <= old
        return jnp.where(lower[:, None], new, t), jnp.where(lower, least, old)

    in_a = jax.vmap(jax.jacfwd(lambda a, t, y: model.mix(a[None], t[None], E, y[None])[0]))
    in_t = jax.vmap(jax.jacfwd(lambda t, a, y: model.mix(a[None], t[None], E, y[None])[0]))

    def unfinished(carry: tuple) -> jax.Array:
        return carry[3].any() & (carry[4] < _STEPS)

    def advance(carry: tuple) -> tuple:
        a, t, least, busy, number = carry
        rest = Y - model.mix(a, t, E, Y)
        J = jnp.swapaxes(in_a(a, t, Y), 1, 2)  # (n, R, B)
        moves = []
        if t.shape[1]:
            C = jnp.swapaxes(in_t(t, a, Y), 1, 2)
            pull = jnp.einsum("npb,nb->np", C, rest, precision="highest")
            held = ((t <= low) & (pull <= 0)) | ((t >= high) & (pull >= 0))
            free = jnp.where(held[:, :, None], 0, C)
            within, factors = _without(jnp.concatenate([J, rest[:, None]], axis=1), free)
            d = simplex_step(within[:, :-1], a, rest) - a
            both = jnp.concatenate([-d, jnp.ones_like(d[:, :1])], axis=1)
            dt = jnp.einsum("nr,nrp->np", both, factors, precision="highest")
            moves += [(length * d, length * dt) for length in _LENGTHS]
        if t.shape[1] != 1:
            # With parameters that stay: shorter, and safe where parameters would leave their bounds.
            d = simplex_step(J, a, rest) - a
            moves += [(length * d, jnp.zeros_like(t)) for length in _LENGTHS[:3]]

        def attempt(best: tuple, move: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
            new = jnp.maximum(a + move[0], 0)
            new = new / positive(jnp.sum(new, axis=1, keepdims=True))
            own, goal = better(new, jnp.clip(t + move[1], low, high))
            lower = (goal < best[2])[:, None]
            return (
                jnp.where(lower, new, best[0]),
                jnp.where(lower, own, best[1]),
                jnp.minimum(goal, best[2]),
            ), None

        # Near the end a rise may be rounding alone: the step is then better known than the objective.
        bound = jnp.where(jnp.max(jnp.abs(moves[0][0]), axis=1) < 1e-3, least * (1 + 4 * eps), least)
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *moves)
        (new, own, goal), _ = lax.scan(attempt, (a, t, bound), stacked)
        change = jnp.maximum(jnp.max(jnp.abs(new - a), axis=1), jnp.max(jnp.abs(own - t), axis=1, initial=0.0))
        a, t = (jnp.where(busy[:, None], x, old) for x, old in ((new, a), (own, t)))
        return a, t, jnp.where(busy, jnp.minimum(goal, least), least), busy & (change > _TOLERANCE), number + 1

    none = jnp.zeros((Y.shape[0], model.size(E.shape[0])), Y.dtype)
    (t, least), (t_other, least_other) = better(a, none), better(other, none)
    lower = least_other < least
    a, t = (jnp.where(lower[:, None], x, y) for x, y in ((other, a), (t_other, t)))
    least = jnp.minimum(least, least_other)
    start = alongside((a, t, least, jnp.ones(Y.shape[0], bool), jnp.int32(0)), Y, E)
    a, t, *_ = lax.while_loop(unfinished, advance, start)
    undefined = ~jnp.isfinite(jnp.sum(Y, axis=1, keepdims=True))
    return jnp.where(undefined, jnp.nan, a), jnp.where(undefined, jnp.nan, t)


def _without(J: jax.Array, C: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return J (n, R, B) less its projection on the rows of C (n, p, B), and the projection's factors (n, R, p)."""
    p = C.shape[1]
    G = jnp.einsum("npb,nqb->pqn", C, C, precision="highest")
    top = jnp.max(jnp.diagonal(G, axis1=0, axis2=1), axis=1)
    G = G + (RIDGE * nonzero(top))[None, None] * jnp.eye(p, dtype=G.dtype)[:, :, None]
    factors = small_systems.eliminate(G, jnp.einsum("npb,nrb->prn", C, J, precision="highest"))
    factors = jnp.moveaxis(factors, -1, 0).swapaxes(1, 2)
    return J - jnp.einsum("nrp,npb->nrb", factors, C, precision="highest"), factors

r"""Nonnegative factorisation with a quadratic prior on the endmembers in the place of their volume: NMF-QMV."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.endmembers import nmf_descent
from dequnmix_jax.endmembers.nmf_descent import EXTRAPOLATE, Factoring, Factors, Problem, check, descend, prepare
from dequnmix_jax.ops import lapack

BOUNDARY, CENTRE, VARIATION = "boundary", "centre", "variation"
PRIORS = (BOUNDARY, CENTRE, VARIATION)
"""f(E): |E - E_0|^2 from the initial spectra; |E - m|^2 from the mean pixel; sum over i < j of |e_i - e_j|^2."""

_WEIGHTS = tuple(10.0**power for power in range(-5, 1))
"""Weights that are tried, in units of N / R, which is about the mean diagonal of A^T A."""

_ALLOWED = 0.25
"""Rise of the misfit that a weight may cause, in units of N (R - 1) sigma^2, the noise inside the span."""

_DEFAULT = Factoring()


def qmv_nmf(
    key: Array | None,
    cube: Array,
    *,
    endmembers: Array | None = None,
    count: int | None = None,
    prior: str = VARIATION,
    weight: Array | float | None = None,
    mask: Array | None = None,
    solver: Factoring = _DEFAULT,
) -> Factors:
    r"""Factor a scene into endmembers that a quadratic prior holds together and abundances: NMF-QMV.

    min |Y - A E|^2 / 2 + beta / 2 f(E) over E >= 0 and A on the simplex, exactly; f is one of three quadratic stand-ins
    for the volume (`PRIORS`). beta = weight N / R.

    Without a weight it is found by a rule that needs no truth: of 10^-5 .. 1 the largest that raises the misfit, over
    that of the smallest, by no more than a quarter of the noise inside the span, N (R - 1) sigma^2; sigma^2 is the mean
    variance of the pixels outside the first R - 1 principal axes. So endmembers are as near to each other as the noise
    allows.

    Args:
        key, cube, endmembers, count, mask, solver: as `mvc_nmf`; the weight of sums is not used.
        prior: of `PRIORS`.
        weight: >= 0, or None: the rule, which costs six factorisations.

    Returns:
        endmembers: (R, B), >= 0, in the units of the cube.
        abundances: (H, W, R), >= 0 and summing to one, the optimum for these endmembers; 0 in masked pixels.
        descent: as `mvc_nmf`; of the weight found.

        Not differentiated, as `mvc_nmf`.

    Raises:
        InputError: as `mvc_nmf`, or the prior is unknown.

    Reference:
        Zhuang, Lin, Figueiredo and Bioucas-Dias, Regularization parameter selection in minimum volume hyperspectral
        unmixing, IEEE TGRS 57(12), 2019. Its rule for beta was not had; the one here is ours. Its alternating direction
        method is replaced by exact minimisation.
    """
    if prior not in PRIORS:
        raise InputError(f"prior is {prior!r}; expected {', '.join(PRIORS)}.")
    start = check(key, cube, endmembers, count, 0.0 if weight is None else weight, mask, solver)
    given = None if weight is None else lax.stop_gradient(jnp.asarray(weight, start[0].dtype))
    return _qmv_nmf(*start, given, prior, solver)


@partial(jax.jit, static_argnames=("prior", "solver"))
def _qmv_nmf(
    cube: jax.Array, mask: jax.Array, E: jax.Array, weight: jax.Array | None, prior: str, solver: Factoring
) -> Factors:
    problem, E = prepare(cube, mask, E, solver)
    pixels = jnp.maximum(jnp.sum(problem.valid), 1).astype(E.dtype)
    pull, towards = _rows(problem, E, pixels, prior)

    def solved(weight: jax.Array) -> tuple[Factors, jax.Array]:
        rows = jnp.sqrt(weight * pixels / E.shape[0]) * pull
        aims = jnp.sqrt(weight * pixels / E.shape[0]) * towards
        extended = jnp.concatenate([problem.Y, aims])

        def abundances(E: jax.Array) -> jax.Array:
            return jnp.where(problem.valid[:, None], fcls(problem.Y[None], E)[0], 0)

        def misfit(E: jax.Array, A: jax.Array) -> jax.Array:
            return 0.5 * jnp.sum(jnp.square(problem.Y - jnp.matmul(A, E, precision="highest")))

        def objective(E: jax.Array, A: jax.Array) -> jax.Array:
            return misfit(E, A) + 0.5 * jnp.sum(jnp.square(aims - jnp.matmul(rows, E, precision="highest")))

        def step(E: jax.Array, A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            # The prior is further pixels, of known abundances.
            E = nmf_descent.endmember_sweep(E, jnp.concatenate([A, rows]), extended, None)
            A = abundances(E)
            return E, A, objective(E, A)

        A = abundances(E)
        found = descend(step, E, A, objective(E, A), problem, mask.shape, solver, EXTRAPOLATE)
        return found, misfit(found[0] / problem.unit, found[1].reshape(A.shape))

    if weight is not None:
        return solved(weight)[0]
    found, misfits = lax.map(solved, jnp.asarray(_WEIGHTS, E.dtype))
    bound = misfits[0] + _ALLOWED * 0.5 * pixels * max(E.shape[0] - 1, 1) * _noise(problem, pixels, E.shape[0])
    best = jnp.max(jnp.where(misfits <= bound, jnp.arange(misfits.size, dtype=jnp.int32), 0))
    return jax.tree.map(lambda x: x[best], found)


def _rows(problem: Problem, E: jax.Array, pixels: jax.Array, prior: str) -> tuple[jax.Array, jax.Array]:
    """Return M (K, R) and T (K, B) of the prior |T - M E|^2."""
    eye = jnp.eye(E.shape[0], dtype=E.dtype)
    if prior == BOUNDARY:
        return eye, E
    if prior == CENTRE:
        return eye, jnp.broadcast_to(jnp.sum(problem.Y, axis=0) / pixels, E.shape)
    first, second = np.triu_indices(E.shape[0], 1)
    M = eye[first] - eye[second]
    return M, jnp.zeros((M.shape[0], E.shape[1]), E.dtype)


def _noise(problem: Problem, pixels: jax.Array, count: int) -> jax.Array:
    """Return the mean variance of the pixels outside their first R - 1 principal axes."""
    mean = jnp.sum(problem.Y, axis=0) / pixels
    away = jnp.where(problem.valid[:, None], problem.Y - mean[None], 0)
    energies = lapack.eigh(jnp.matmul(away.T, away, precision="highest") / pixels)[0]
    outside = energies[: max(energies.size - count + 1, 1)]
    return jnp.mean(jnp.maximum(outside, 0))

"""Find endmembers and abundances together: nonnegative factorisation with minimum volume, l1/2, or group sparsity.

min over E >= 0 and A >= 0 of |Y - A E|^2 / 2 + delta^2 |1 - A 1|^2 / 2 + prior; the second term is an augmented row for
the sum to one. Endmembers and abundances are updated in turn: endmembers one by one and exactly
(`nmf_descent.endmember_sweep`), abundances exactly or by multiplicative steps. All constants are for spectra of maximum
one: cube and endmembers are divided by the largest entry of the initial endmembers, and multiplied by it at the end, so
that units do not matter.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls, nnls
from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.endmembers import nmf_descent
from dequnmix_jax.endmembers.nmf_descent import (
    EXTRAPOLATE,
    Factoring,
    Factors,
    Problem,
    check,
    descend,
    first_abundances,
    misfit,
    prepare,
)
from dequnmix_jax.endmembers.slic import Superpixels, superpixels
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero

_DEFAULT = Factoring()
_FEW = Factoring(max_steps=100)
"""The step limit of the SGSNMF authors' program. Ten times as many steps lower the objective but move the spectra away
from the truth on three of four scenes (`results/factorisation.md`)."""


def mvc_nmf(
    key: Array | None,
    cube: Array,
    *,
    endmembers: Array | None = None,
    count: int | None = None,
    weight: Array | float = 1.0,
    mask: Array | None = None,
    solver: Factoring = _DEFAULT,
) -> Factors:
    r"""Factor a scene into endmembers of small volume and abundances: minimum volume constrained NMF.

    min |Y - A E|^2 / 2 + delta^2 |1 - A 1|^2 / 2 + tau / 2 det(Z)^2 over A, E >= 0; row r of Z is (1, (e_r - m) U), U
    the first R - 1 principal axes of the pixels and m their mean, so that det(Z) is (R - 1)! times the volume of the
    simplex. The prior pulls endmembers inward where noise alone would push them out; no pixel needs to be pure.

    tau = weight N sigma^2 / det(Z_0)^2: N pixels, Z_0 of the initial endmembers, and sigma^2 the mean variance of the
    pixels along the B - R + 1 directions outside U. This is the maximum-likelihood value at Z_0 if pixels are uniform
    in the simplex: each has the density 1 / volume, which adds N sigma^2 log |det Z| to the squares, and the prior has
    its slope at Z_0. The paper's tau is a fixed number that depends on units and size, 0.015 in its authors' program.
    If the initial simplex is much too small, as with two nearly equal vertices, tau is much too large: compare the
    objective of several starts.

    Args:
        key: random key of VCA; None if endmembers are given.
        cube: (H, W, B), any units.
        endmembers: (R, B), initial, in the units of the cube; negative values count as 0. None: those of VCA.
        count: R for VCA, static, if no endmembers are given.
        weight: >= 0; 0: factorisation without prior.
        mask: (H, W) bool, True for valid pixels.
        solver: tolerance, steps and weight of sums.

    Returns:
        endmembers: (R, B), >= 0, in the units of the cube.
        abundances: (H, W, R), >= 0, the optimum for these endmembers; their sums are one up to the weight of sums (not
            exactly); 0 in masked pixels.
        descent: steps, residual, the objective over the steps. NaN, and not converged, if a valid pixel holds NaN.
            In float32 the objective has a relative accuracy of about 1e-6.

        Not differentiated (derivative 0 of all three): `fcls` with these endmembers has a derivative in the cube.

    Raises:
        InputError: if the shapes do not fit, neither or both of endmembers and count are given, a weight is negative,
            or outside jit if values are not finite.

    Reference:
        Miao and Qi, Endmember extraction from highly mixed data using minimum volume constrained nonnegative matrix
        factorization, IEEE TGRS 45(3), 2007. Its alternating projected gradients are replaced by exact minimisation.
    """
    start = check(key, cube, endmembers, count, weight, mask, solver)
    return _mvc_nmf(*start, lax.stop_gradient(jnp.asarray(weight, start[0].dtype)), solver)


def l_half_nmf(
    key: Array | None,
    cube: Array,
    *,
    endmembers: Array | None = None,
    count: int | None = None,
    weight: Array | float = 1.0,
    mask: Array | None = None,
    solver: Factoring = _DEFAULT,
) -> Factors:
    r"""Factor a scene into endmembers and sparse abundances: l1/2-NMF.

    min |Y - A E|^2 / 2 + delta^2 |1 - A 1|^2 / 2 + lambda sum sqrt(a) over A, E >= 0, for spectra of maximum one.
    lambda = weight B^(-1/2) sum over bands b of (sqrt(N) - |y_b|_1 / |y_b|_2) / sqrt(N - 1), the rule of the paper: the
    sparseness of each band's image, summed over bands and divided by the root of their number.

    Args:
        key, cube, endmembers, count, mask, solver: as `mvc_nmf`.
        weight: >= 0, factor of the paper's lambda.

    Returns:
        endmembers, abundances, descent: as `mvc_nmf`; abundances are near their optimum, and many near 0.

    Raises:
        InputError: as `mvc_nmf`.

    Reference:
        Qian, Jia, Zhou and Robles-Kelly, Hyperspectral unmixing via L1/2 sparsity-constrained nonnegative matrix
        factorization, IEEE TGRS 49(11), 2011. Abundances by its multiplicative steps, endmembers exactly.
    """
    start = check(key, cube, endmembers, count, weight, mask, solver)
    return _l_half_nmf(*start, lax.stop_gradient(jnp.asarray(weight, start[0].dtype)), solver)


def sgs_nmf(
    key: Array | None,
    cube: Array,
    *,
    endmembers: Array | None = None,
    count: int | None = None,
    weight: Array | float = 0.3,
    patches: Superpixels | None = None,
    mask: Array | None = None,
    solver: Factoring = _FEW,
) -> Factors:
    r"""Factor a scene into endmembers and abundances that share their support in each superpixel: SGSNMF.

    min |Y - A E|^2 / 2 + delta^2 |1 - A 1|^2 / 2 + weight sum over patches p and their pixels j of c_j |W_p a_j|_2 over
    A, E >= 0, for spectra of maximum one; W_p = diag(1 / (R^2 s_p + 1)), s_p the FCLS abundances of the mean spectrum
    of the patch, recomputed in each step, and c_j the confidence of the pixel (`superpixels`). An endmember that is
    absent from a patch as a whole is expensive in all its pixels.

    Args:
        key, cube, endmembers, count, mask, solver: as `mvc_nmf`, but at most 100 steps, as in that program.
        weight: >= 0; 0.3 in the program of the paper's authors.
        patches: of the same scene; None: `superpixels(cube, mask=mask)`.

    Returns:
        endmembers, abundances, descent: as `mvc_nmf`. The objective falls in each step for the weights W of that step,
        and can rise when the weights change.

    Raises:
        InputError: as `mvc_nmf`, or the patches are of another scene.

    Reference:
        Wang, Zhong, Zhang and Xu, Spatial group sparsity regularized nonnegative matrix factorization for hyperspectral
        unmixing, IEEE TGRS 55(11), 2017; constants and weights as in its authors' program.
    """
    start = check(key, cube, endmembers, count, weight, mask, solver)
    cut = superpixels(cube, mask=mask) if patches is None else patches
    if np.shape(cut.labels) != np.shape(cube)[:2] or np.shape(cut.spectra)[1] != np.shape(cube)[2]:
        raise InputError(
            f"The patches are of a scene of {np.shape(cut.labels)} pixels and {np.shape(cut.spectra)[1]} bands, and "
            f"the cube has shape {np.shape(cube)}; expected those of the cube. Make them by superpixels(cube)."
        )
    return _sgs_nmf(*start, *lax.stop_gradient((jnp.asarray(weight, start[0].dtype), cut)), solver)


@partial(jax.jit, static_argnames="solver")  # an eager call would compile its loops each time
def _mvc_nmf(cube: jax.Array, mask: jax.Array, E: jax.Array, weight: jax.Array, solver: Factoring) -> Factors:
    problem, E = prepare(cube, mask, E, solver)
    volume = _volume(problem, E, weight)
    row = jnp.sqrt(problem.sums)
    extended = jnp.concatenate([problem.Y, row], axis=1)[None]

    def abundances(E: jax.Array) -> jax.Array:
        ones = jnp.full_like(E[:, :1], solver.sum_weight)
        return nnls(extended, jnp.concatenate([E, ones], axis=1))[0]

    def objective(E: jax.Array, A: jax.Array) -> jax.Array:
        return misfit(problem, E, A) + nmf_descent.size(E, volume)

    def step(E: jax.Array, A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        E = nmf_descent.endmember_sweep(E, A, problem.Y, volume)
        A = abundances(E)
        return E, A, objective(E, A)

    A = abundances(E)
    return descend(step, E, A, objective(E, A), problem, mask.shape, solver, EXTRAPOLATE)


def _volume(problem: Problem, E: jax.Array, weight: jax.Array) -> nmf_descent.Volume:
    """Return the prior of `mvc_nmf`, in a unit of length in which the first simplex has the determinant one."""
    Y, valid = problem.Y, problem.valid
    pixels = jnp.maximum(jnp.sum(valid), 1).astype(Y.dtype)
    mean = jnp.sum(Y, axis=0) / pixels
    C = jnp.where(valid[:, None], Y - mean[None, :], 0)
    energies, axes = lapack.eigh(jnp.matmul(C.T, C, precision="highest") / pixels)  # smallest first
    inside = E.shape[0] - 1
    outside = energies.size - inside
    noise = jnp.mean(jnp.maximum(energies[:outside], 0)) if outside > 0 else jnp.zeros_like(weight)
    volume = nmf_descent.Volume(weight * pixels * noise, mean, axes[:, outside:])
    if inside == 0:
        return volume
    first = jnp.abs(lapack.determinant(nmf_descent.coordinates(E, volume)))
    # A simplex whose volume is at rounding level, relative to the spread of the pixels, gives no unit: no prior.
    spread = jnp.prod(jnp.sqrt(jnp.maximum(energies[outside:], 0)))
    flat = ~(first > jnp.sqrt(jnp.finfo(Y.dtype).eps) * spread)
    length = jnp.where(flat, 1, first) ** (1 / inside)
    return volume._replace(weight=jnp.where(flat, 0, volume.weight), axes=volume.axes / length)


@partial(jax.jit, static_argnames="solver")
def _l_half_nmf(cube: jax.Array, mask: jax.Array, E: jax.Array, weight: jax.Array, solver: Factoring) -> Factors:
    problem, E = prepare(cube, mask, E, solver)
    level = weight * sparseness(problem)
    least = jnp.finfo(cube.dtype).tiny ** 0.5

    def slope(A: jax.Array) -> jax.Array:
        return 0.5 * level / jnp.maximum(jnp.sqrt(A), least)

    def objective(E: jax.Array, A: jax.Array) -> jax.Array:
        return misfit(problem, E, A) + level * jnp.sum(jnp.sqrt(A))

    def step(E: jax.Array, A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        E = nmf_descent.endmember_sweep(E, A, problem.Y, None)
        A = nmf_descent.multiplicative(A, E, problem.Y, problem.sums, slope, solver.inner)
        return E, A, objective(E, A)

    A = first_abundances(problem, E)
    return descend(step, E, A, objective(E, A), problem, mask.shape, solver)


def sparseness(problem: Problem) -> jax.Array:
    """Return the lambda of Qian et al. for spectra of maximum one; an empty band counts as not sparse."""
    Y = problem.Y
    root = jnp.sqrt(jnp.sum(problem.valid).astype(Y.dtype))
    length = jnp.sqrt(jnp.sum(Y * Y, axis=0))
    ratio = jnp.sum(jnp.abs(Y), axis=0) / nonzero(length)
    sparse = (root - jnp.where(length == 0, root, ratio)) / jnp.sqrt(jnp.maximum(root * root - 1, 1))
    return jnp.sum(sparse) / np.sqrt(Y.shape[1])


@partial(jax.jit, static_argnames="solver")
def _sgs_nmf(
    cube: jax.Array, mask: jax.Array, E: jax.Array, weight: jax.Array, cut: Superpixels, solver: Factoring
) -> Factors:
    problem, E = prepare(cube, mask, E, solver)
    labels = cut.labels.reshape(-1)
    confidence = (weight * cut.confidence.reshape(-1))[:, None]
    means = cut.spectra / problem.unit
    least = jnp.finfo(cube.dtype).tiny ** 0.5

    def weights(E: jax.Array) -> jax.Array:
        return (1 / (E.shape[0] ** 2 * fcls(means[None], E)[0] + 1))[labels]

    def length(A: jax.Array, W: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(W * A), axis=1, keepdims=True))

    def objective(E: jax.Array, A: jax.Array, W: jax.Array) -> jax.Array:
        return misfit(problem, E, A) + jnp.sum(confidence * length(A, W))

    def step(E: jax.Array, A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        W = weights(E)

        def slope(A: jax.Array) -> jax.Array:
            return confidence * W * W * A / jnp.maximum(length(A, W), least)

        E = nmf_descent.endmember_sweep(E, A, problem.Y, None)
        A = nmf_descent.multiplicative(A, E, problem.Y, problem.sums, slope, solver.inner)
        return E, A, objective(E, A, W)

    A = first_abundances(problem, E)
    return descend(step, E, A, objective(E, A, weights(E)), problem, mask.shape, solver)

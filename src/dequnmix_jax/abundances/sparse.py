"""Unmix with priors: sparse, row-sparse over the scene, and piecewise smooth.

Differentiable in cube, endmembers and weights by the implicit function theorem (`admm.minimise`), where no entry
changes its sign or becomes zero.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.abundances.admm import Admm, Prior, Problem, minimise
from dequnmix_jax.abundances.least_squares import check_problem
from dequnmix_jax.checks import Array, InputError, check_kind, concrete
from dequnmix_jax.mixing import correlate, gram, wide
from dequnmix_jax.ops.guards import nonzero
from dequnmix_jax.types import Trace

__all__ = ["Admm", "collaborative_sunsal", "sunsal", "sunsal_tv"]

_DEFAULT = Admm()


def sunsal(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    *,
    nonnegative: bool = True,
    sum_to_one: bool = False,
    mask: Array | None = None,
    solver: Admm = _DEFAULT,
) -> tuple[jax.Array, Trace]:
    r"""Find sparse abundances in each pixel.

    min over X of |Y - X E|^2 / 2 + weight sum |X|, with X >= 0 and X 1 = 1 if chosen.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube, for example a library.
        weight: >= 0, of the l1 norm, in units of the cube squared. No effect under both constraints.
        nonnegative: X >= 0.
        sum_to_one: X 1 = 1.
        mask: (H, W) bool, True where the pixel is valid.
        solver: tolerance, steps, penalty.

    Returns:
        abundances: (H, W, R), exactly sparse and non-negative, summing to one within the tolerance; 0 in masked pixels,
            NaN in pixels that hold NaN, without effect on others.
        trace: `residual` is the larger of |X - U| / |X| and of the change of the multipliers / their size, over the
            scene.

    Raises:
        InputError: if the shapes do not fit, the weight is negative, or outside jit if values are not finite.

    Reference:
        Bioucas-Dias and Figueiredo, Alternating direction algorithms for constrained sparse regression: application to
        hyperspectral unmixing, WHISPERS 2010.
    """
    return _run(cube, endmembers, weight, None, Prior(nonnegative, sum_to_one), mask, solver)


def collaborative_sunsal(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    *,
    nonnegative: bool = True,
    sum_to_one: bool = False,
    mask: Array | None = None,
    solver: Admm = _DEFAULT,
) -> tuple[jax.Array, Trace]:
    r"""Find abundances that use few endmembers over the whole scene.

    min over X of |Y - X E|^2 / 2 + weight sum over r of |x_r|_2, x_r the map of endmember r, with X >= 0 and X 1 = 1
    if chosen.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube.
        weight: >= 0, of the l2,1 norm, in units of the cube squared.
        nonnegative: X >= 0.
        sum_to_one: X 1 = 1.
        mask: (H, W) bool, True where the pixel is valid.
        solver: tolerance, steps, penalty.

    Returns:
        abundances and trace, as `sunsal`; whole maps are zero.

    Raises:
        InputError: as `sunsal`.

    Reference:
        Iordache, Bioucas-Dias and Plaza, Collaborative sparse regression for hyperspectral unmixing, IEEE TGRS 52(1),
        2014.
    """
    return _run(cube, endmembers, weight, None, Prior(nonnegative, sum_to_one, maps=True), mask, solver)


def sunsal_tv(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    variation: Array | float,
    *,
    isotropic: bool = False,
    nonnegative: bool = True,
    sum_to_one: bool = False,
    mask: Array | None = None,
    solver: Admm = _DEFAULT,
) -> tuple[jax.Array, Trace]:
    r"""Find abundances that are sparse and piecewise constant.

    min over X of |Y - X E|^2 / 2 + weight sum |X| + variation TV(X), with X >= 0 and X 1 = 1 if chosen. TV sums the
    absolute differences between neighbours (anisotropic) or the lengths of the gradient of each map (isotropic); the
    scene is treated as periodic.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube.
        weight: >= 0, of the l1 norm, in units of the cube squared.
        variation: >= 0, of the total variation, in units of the cube squared.
        isotropic: lengths of gradients instead of absolute differences.
        nonnegative: X >= 0.
        sum_to_one: X 1 = 1.
        mask: (H, W) bool, True where the pixel is valid. Masked pixels have no data term: the variation fills them in.
        solver: tolerance, steps, penalty.

    Returns:
        abundances and trace, as `sunsal`.

    Raises:
        InputError: as `sunsal`.

    Reference:
        Iordache, Bioucas-Dias and Plaza, Total variation spatial regularization for sparse hyperspectral unmixing, IEEE
        TGRS 50(11), 2012.
    """
    return _run(cube, endmembers, weight, variation, Prior(nonnegative, sum_to_one, False, isotropic), mask, solver)


def _run(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    variation: Array | float | None,
    prior: Prior,
    mask: Array | None,
    solver: Admm,
) -> tuple[jax.Array, Trace]:
    """Check the problem, scale it, and solve it."""
    check_kind(solver, Admm, "solver")
    check_problem(cube, endmembers, mask)
    for name, value in (("weight", weight), ("variation", 0.0 if variation is None else variation)):
        if np.shape(value) != () or (concrete(value) and not float(value) >= 0.0):
            raise InputError(f"{name} is {value}; expected one number >= 0, in units of the cube squared.")
    Y, E = wide(cube), wide(endmembers)
    if mask is not None:
        Y = jnp.where(mask[..., None], Y, 0.0)
    # A pixel with NaN is treated as masked: otherwise the residual of the whole scene would be NaN.
    finite = jnp.isfinite(Y).all(axis=-1, keepdims=True)
    valid = finite if mask is None else finite & jnp.asarray(mask)[..., None]
    Y = jnp.where(finite, Y, 0.0)
    G, F = gram(E), correlate(Y, E)
    # In units of the mean squared length L of an endmember, so that the penalty has no unit.
    L = nonzero(jnp.mean(jnp.diagonal(G)))
    by, tv = (None if w is None else jnp.asarray(w, F.dtype) / L for w in (weight, variation))
    assert by is not None
    U, trace = minimise(prior, solver, Problem(G / L, F / L, valid, by, tv))
    U = jnp.where(valid, U, 0.0)
    return jnp.where(finite, U, jnp.nan), trace

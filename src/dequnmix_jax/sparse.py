"""Unmix with priors: sparse, row-sparse over the scene, and piecewise smooth, by one alternating direction method.

The methods share one loop. The abundances X answer the data term; a copy U takes sparsity and signs; for total
variation a further copy W lives on the image plane and V holds its differences. Only E E^T and Y E^T are formed, once;
the eigenvectors of the former let the penalty parameter change at no cost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, concrete
from dequnmix_jax.classical import check_problem
from dequnmix_jax.mixing import correlate, gram
from dequnmix_jax.records import Trace
from dequnmix_jax.sparse_steps import data_step, differences, differences_adjoint, shrink, shrink_length, smooth

_BALANCE, _FACTOR, _EVERY = 10.0, 2.0, 10
"""The penalty changes by the factor when one residual is that much larger than the other (Boyd et al. 2011, 3.4.1),
once in so many steps and in the first half of them only: with a fixed penalty sparse and collaborative unmixing
converge. Total variation couples its copies in a chain, for which no proof is known to us; it did in every test."""

_FLOOR = 1e-3
"""Least size of the multipliers, in parts of |Y E^T|, that the dual residual is measured by: they vanish where no
constraint and no prior acts."""


@dataclass(frozen=True)
class Admm:
    """How the alternating direction method runs; static under jit.

    Attributes:
        tolerance: relative primal and dual residual at which it stops.
        max_steps: steps at most.
        penalty: first penalty parameter, in units of the mean squared length of an endmember.
    """

    tolerance: float = 1e-4
    max_steps: int = 1000
    penalty: float = 0.01

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.tolerance >= 0 and self.max_steps >= 1 and self.penalty > 0):
            raise InputError(f"{self} cannot run; expected tolerance >= 0, max_steps >= 1 and penalty > 0.")


def sunsal(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    *,
    nonnegative: bool = True,
    sum_to_one: bool = False,
    mask: Array | None = None,
    solver: Admm = Admm(),
) -> tuple[jax.Array, Trace]:
    r"""Find sparse abundances in each pixel.

    min over X of |Y - X E|^2 / 2 + weight sum |X|, with X >= 0 and X 1 = 1 where asked.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube; a library is welcome.
        weight: >= 0, of the l1 norm, in units of the cube squared. Without effect under both constraints.
        nonnegative: ask for X >= 0.
        sum_to_one: ask for sums of one.
        mask: (H, W) bool, True where the pixel is valid.
        solver: tolerance, steps, penalty.

    Returns:
        abundances: (H, W, R), exactly sparse and non-negative, summing to one within the tolerance; 0 in masked pixels.
        trace: `residual` is the larger of |X - U| / |X| and of the change of the multipliers / their size, over the
            scene; NaN, and not converged, where a pixel holds NaN.

    Raises:
        InputError: if the shapes do not fit, the weight is negative, or outside jit if values are not finite.

    Reference:
        Bioucas-Dias and Figueiredo, Alternating direction algorithms for constrained sparse regression: application to
        hyperspectral unmixing, WHISPERS 2010.
    """

    def copy(v: jax.Array, by: jax.Array) -> jax.Array:
        return jax.nn.relu(v - by) if nonnegative else shrink(v, by)

    return _run(cube, endmembers, weight, None, copy, True, sum_to_one, mask, solver)


def collaborative_sunsal(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    *,
    nonnegative: bool = True,
    sum_to_one: bool = False,
    mask: Array | None = None,
    solver: Admm = Admm(),
) -> tuple[jax.Array, Trace]:
    r"""Find abundances that use few endmembers over the whole scene.

    min over X of |Y - X E|^2 / 2 + weight sum over r of |x_r|_2, x_r the map of endmember r, with X >= 0 and X 1 = 1
    where asked.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube.
        weight: >= 0, of the l2,1 norm, in units of the cube squared.
        nonnegative: ask for X >= 0.
        sum_to_one: ask for sums of one.
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

    def copy(v: jax.Array, by: jax.Array) -> jax.Array:
        return shrink_length(jax.nn.relu(v) if nonnegative else v, by, axis=(0, 1))

    return _run(cube, endmembers, weight, None, copy, True, sum_to_one, mask, solver)


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
    solver: Admm = Admm(),
) -> tuple[jax.Array, Trace]:
    r"""Find abundances that are sparse and piecewise constant.

    min over X of |Y - X E|^2 / 2 + weight sum |X| + variation TV(X), with X >= 0 and X 1 = 1 where asked. TV sums the
    absolute differences between neighbours (anisotropic) or the lengths of the gradient of each map (isotropic); the
    scene is taken for periodic.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube.
        weight: >= 0, of the l1 norm, in units of the cube squared.
        variation: >= 0, of the total variation, in units of the cube squared.
        isotropic: which of the two variations.
        nonnegative: ask for X >= 0.
        sum_to_one: ask for sums of one.
        mask: (H, W) bool, True where the pixel is valid. Others have no data term: the variation fills them in.
        solver: tolerance, steps, penalty.

    Returns:
        abundances and trace, as `sunsal`.

    Raises:
        InputError: as `sunsal`.

    Reference:
        Iordache, Bioucas-Dias and Plaza, Total variation spatial regularization for sparse hyperspectral unmixing, IEEE
        TGRS 50(11), 2012.
    """

    def copy(v: jax.Array, by: jax.Array) -> jax.Array:
        return jax.nn.relu(v - by) if nonnegative else shrink(v, by)

    return _run(cube, endmembers, weight, variation, copy, isotropic, sum_to_one, mask, solver)


def _run(
    cube: Array,
    endmembers: Array,
    weight: Array | float,
    variation: Array | float | None,
    copy: Callable[[jax.Array, jax.Array], jax.Array],
    isotropic: bool,
    sum_to_one: bool,
    mask: Array | None,
    solver: Admm,
) -> tuple[jax.Array, Trace]:
    """Run the method; `copy` is the proximal map of what is asked of X beside the variation."""
    check_problem(cube, endmembers, mask)
    for name, value in (("weight", weight), ("variation", 0.0 if variation is None else variation)):
        if np.shape(value) != () or (concrete(value) and not float(value) >= 0.0):
            raise InputError(f"{name} is {value}; expected one number >= 0, in units of the cube squared.")
    Y, E = jnp.asarray(cube), jnp.asarray(endmembers)
    if mask is not None:
        Y = jnp.where(mask[..., None], Y, 0.0)
    G, F = gram(E), correlate(Y, E)
    # In units of the mean squared length L of an endmember, so that the penalty has none.
    L = jnp.mean(jnp.diagonal(G))
    L = jnp.where(L == 0.0, 1.0, L)
    values, basis = jnp.linalg.eigh(G / L)
    F = F / L
    by, tv = jnp.asarray(weight, F.dtype) / L, None if variation is None else jnp.asarray(variation, F.dtype) / L
    valid = None if mask is None else jnp.asarray(mask)[..., None]

    def length(*parts: jax.Array) -> jax.Array:
        return jnp.sqrt(sum((jnp.sum(part * part) for part in parts), jnp.zeros((), F.dtype)))

    size = length(F)
    size = jnp.where(size == 0.0, 1.0, size)

    def step(carry: Any) -> Any:
        copies, duals, mu, steps, _ = carry
        U, *spatial = copies
        count = 1.0 if tv is None else 2.0
        pull = sum((mu * (c + d) for c, d in zip(copies[:2], duals[:2], strict=True)), jnp.zeros_like(F))
        X = data_step(basis, values, F + pull, count * mu, sum_to_one)
        if valid is not None:  # no data there
            X = jnp.where(valid, X, data_step(basis, 0.0 * values, pull, count * mu, sum_to_one))
        U = copy(X - duals[0], by / mu)
        new, gaps = [U], [U - X]
        if tv is not None:
            W = smooth(X - duals[1] + differences_adjoint(spatial[1] + duals[2]))
            D = differences(W)
            v = D - duals[2]
            V = shrink_length(v, tv / mu, axis=0) if isotropic else shrink(v, tv / mu)
            new, gaps = [U, W, V], [U - X, W - X, V - D]
        duals = [dual + gap for dual, gap in zip(duals, gaps, strict=True)]
        scale = length(X, *new)
        primal = length(*gaps) / jnp.where(scale == 0.0, 1.0, scale)
        price = jnp.maximum(mu * length(*duals), _FLOOR * size)
        dual = mu * length(*(a - b for a, b in zip(new, copies, strict=True))) / price
        turn = (steps % _EVERY == _EVERY - 1) & (steps < solver.max_steps // 2)
        up, down = turn & (primal > _BALANCE * dual), turn & (dual > _BALANCE * primal)
        change = jnp.where(up, _FACTOR, jnp.where(down, 1.0 / _FACTOR, 1.0))
        return new, [d / change for d in duals], mu * change, steps + 1, jnp.maximum(primal, dual)

    zero = F * 0.0
    copies = [zero] if tv is None else [zero, zero, jnp.stack([zero, zero])]
    start = (copies, copies, L * 0.0 + solver.penalty, jnp.int32(0), size * 0.0 + jnp.inf)
    go = lambda carry: (carry[4] > solver.tolerance) & (carry[3] < solver.max_steps)  # noqa: E731
    (U, *_), _, _, steps, residual = lax.while_loop(go, step, start)
    if mask is not None:
        U = jnp.where(mask[..., None], U, 0.0)
    return U, Trace(steps, residual, residual <= solver.tolerance)

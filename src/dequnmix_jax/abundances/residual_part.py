r"""Linear mixing plus a residual component that is sparse over pixels (RCA-SU, RUSAL).

    min over a on the simplex and c of   |y - a E - c D|^2 / 2 + weight |c|_2      in each pixel

D holds either the interactions {e_i o e_i, sqrt(2) e_i o e_j}, with c >= 0, or the first cosines over the bands, with c
of either sign: a smooth spectrum. The length |c|, and not its square, lets pixels that are linear mixtures have c = 0.
Summed over pixels it is the l2,1 norm of the paper.

The problem is convex. Its map: a by exact FCLS of y - c D, then c by a proximal step of length 1 / |D D^T|.
`fixed_point` accelerates it, and differentiates its answer implicitly.

Reference:
    Fevotte and Dobigeon, Nonlinear hyperspectral unmixing with robust nonnegative matrix factorization, IEEE TIP
    24(12), 2015; Halimi, Bioucas-Dias, Dobigeon, Buller and McLaughlin, Fast hyperspectral unmixing in presence of
    nonlinearity or mismodeling effects, IEEE Transactions on Computational Imaging 3(2), 2017. Without the prior over
    neighbouring pixels of the latter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.abundances.admm import shrink_length
from dequnmix_jax.abundances.least_squares import check_problem, fcls
from dequnmix_jax.abundances.nonlinear import interactions
from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.mixing import project_cone, wide
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.solvers.config import Adjoint, Solver
from dequnmix_jax.solvers.implicit import fixed_point
from dequnmix_jax.types import Trace

INTERACTIONS, SMOOTH = "interactions", "smooth"
KINDS = (INTERACTIONS, SMOOTH)
"""What the component is made of."""

_SOLVER = Solver(tolerance=3e-6, max_steps=2000)


class Component(NamedTuple):
    """What is found in each pixel.

    Attributes:
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        fluctuation: (H, W, B), c D, units of the cube; 0 in masked pixels. It is a part of the model, as that of
            K-Hype, and not what the model leaves: that is y - a E - c D.
        coefficients: (H, W, K), c.
        trace: of the fixed point, over the scene.
    """

    abundances: jax.Array
    fluctuation: jax.Array
    coefficients: jax.Array
    trace: Trace

    @property
    def residual(self) -> jax.Array:
        """The earlier name of `fluctuation`; elsewhere a residual is what a model leaves."""
        return self.fluctuation


def dictionary(endmembers: Array, kind: str = INTERACTIONS, count: int = 20) -> jax.Array:
    """Return D: (R (R + 1) / 2, B) of "interactions", squares first, or (count, B) of "smooth", orthonormal.

    Raises:
        InputError: if the word is unknown, or there are fewer bands than cosines.
    """
    E = wide(endmembers)
    if kind == INTERACTIONS:
        return jnp.concatenate([E * E, jnp.sqrt(jnp.asarray(2, E.dtype)) * interactions(E)])
    bands = E.shape[1]
    if kind != SMOOTH or not 1 <= count <= bands:
        raise InputError(
            f"kind is {kind!r} and count {count} at {bands} bands; expected {' or '.join(KINDS)}, and 1 to {bands} "
            "cosines."
        )
    waves = np.cos(np.pi / bands * np.arange(count)[:, None] * (np.arange(bands) + 0.5)[None])
    return jnp.asarray(waves / np.linalg.norm(waves, axis=1, keepdims=True), E.dtype)


def residual_component(
    cube: Array,
    endmembers: Array,
    *,
    weight: float | Array = 1e-3,
    kind: str = INTERACTIONS,
    count: int = 20,
    mask: Array | None = None,
    solver: Solver = _SOLVER,
) -> Component:
    """Unmix by a linear mixture and a residual component.

    Args:
        cube: (H, W, B), reflectance.
        endmembers: (R, B), reflectance.
        weight: >= 0, of |c|, units of the cube; 1e-3 in the public variability toolbox.
        kind: "interactions" or "smooth".
        count: cosines of "smooth".
        mask: (H, W) bool, True where the pixel is valid.
        solver: of the fixed point; its tolerance is that of the whole scene.

    Returns:
        Component; elsewhere in the library a residual is what a model leaves, here the component is part of the model.
        Differentiable in cube, endmembers and weight.

    Raises:
        InputError: as `fcls`, or `dictionary`.
    """
    check_problem(cube, endmembers, mask)
    E = wide(endmembers)
    D = dictionary(E, kind, count)
    Y = wide(cube)
    valid = jnp.ones(Y.shape[:2], bool) if mask is None else jnp.asarray(mask)
    Y = jnp.where(valid[..., None], Y, 0)
    # The largest row sum bounds the largest eigenvalue of D D^T, and is 1 for orthonormal rows.
    G = jnp.matmul(D, D.T, precision="highest")
    top = positive(jnp.max(jnp.sum(jnp.abs(G), axis=1)))
    one_sided = kind == INTERACTIONS

    def step(theta: tuple[jax.Array, ...], c: jax.Array) -> jax.Array:
        Y, E, D, weight, top, valid = theta
        a = _abundances(Y, E, D, c)
        rest = Y - jnp.matmul(a, E, precision="highest") - jnp.matmul(c, D, precision="highest")
        v = c + jnp.matmul(rest, D.T, precision="highest") / top
        return valid * shrink_length(project_cone(v) if one_sided else v, weight / top, axis=-1)

    theta = (Y, E, D, jnp.asarray(weight, Y.dtype), top, valid[..., None].astype(Y.dtype))
    c, trace = fixed_point(step, solver, Adjoint(), theta, jnp.matmul(Y * 0, D.T))
    a = jnp.where(valid[..., None], _abundances(Y, E, D, c), 0)
    return Component(a, jnp.matmul(c, D, precision="highest"), c, trace)


def _abundances(Y: jax.Array, E: jax.Array, D: jax.Array, c: jax.Array) -> jax.Array:
    return fcls(Y - jnp.matmul(c, D, precision="highest"), E)

"""Certify the equilibrium: a proved rate of the plain iteration, from the weights alone, and the observed rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import mixing
from dequnmix_jax.equilibrium import curvature, fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model, Residual, Softmax
from dequnmix_jax.equilibrium.fixed_point_map import Factors
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.types import Params, Trace

_WARM, _OVER = 150, 50
"""Products with the Jacobian before the observed rate is measured, and over which it is the geometric mean. It
approaches from below: on DC1, trained, 60 + 60 products gave 0.922, 600 + 600 gave 0.927."""


class Certificate(NamedTuple):
    """The proved and the observed convergence of the plain iteration; all arrays of shape ().

    The first seven follow from the weights (endmembers included) alone, and are NaN (False) without a proof.

    Attributes:
        exists: bool, the plain iteration at `Model.step` and `Solver.damping` is proven to converge at `rate`.
        monotonicity: alpha, the least curvature of the energy in the metric of the map.
        lipschitz: beta, its largest.
        step_limit: the steps below which the proof holds.
        rate: the factor by which the distance to the equilibrium falls in each step, damping included.
        best_step: the step with the smallest `rate`.
        best_rate: the rate there, without damping.
        observed_rate: spectral radius of the (damped) map's Jacobian at the state found for this scene.
        bound_steps: proved bound of the plain steps to `Solver.tolerance`, from the default first state; NaN without
            one.
        expected_steps: plain steps if the residual fell by `observed_rate` from the first; inf at a rate of one.
        trace: of the solve of the equilibrium, with the solver of the configuration.
    """

    exists: jax.Array
    monotonicity: jax.Array
    lipschitz: jax.Array
    step_limit: jax.Array
    rate: jax.Array
    best_step: jax.Array
    best_rate: jax.Array
    observed_rate: jax.Array
    bound_steps: jax.Array
    expected_steps: jax.Array
    trace: Trace


def certificate(params: Params, cube: jax.Array, config: Model, *, mask: jax.Array | None = None) -> Certificate:
    r"""Certify the convergence of an equilibrium model on one scene.

    For the gradients Energy() and Analytic() with a physical init, on the cone or the simplex, the map is

        f(A) = C_N(A - step N^-1 G(A)),    N = H + c I ("data") or c I ("euclidean"),                          (1)

    with C_N the projection in the norm |x|_N = (x^T N x)^(1/2). The learned part has the derivative W^T s sigma' W,
    0 <= sigma' <= 1. At any state, and for any data,

        H <= grad G <= H + W^T s W,        hence        alpha N <= grad G <= beta N,                           (2)
        alpha = min h / n(h) over the eigenvalues h of H,  n(h) = h + c or c,
        beta = max over frequencies omega of the largest eigenvalue of N^-1/2 (H + S(omega)^* s S(omega)) N^-1/2,

    because zero padding, masks and omitted windows are compressions of the convolution on the infinite grid, whose
    symbol is S, and H and N act within a pixel. *Theorem.* For 0 < step < 2 / beta and alpha > 0, f is a contraction:

        |f(A) - f(B)|_N <= q |A - B|_N,      q = max(|1 - step alpha|, |1 - step beta|) < 1.                   (3)

    *Proof.* grad G is symmetric, so G(A) - G(B) = S (A - B) with S = the mean of grad G on the segment, and
    alpha N <= S <= beta N. I - step N^-1 S is self-adjoint in the inner product of N, with eigenvalues between
    1 - step beta and 1 - step alpha. C_N does not expand in the norm of N. QED. The equilibrium is therefore unique,
    and the plain iteration converges to it from any state at the rate q, damped by theta at 1 - theta + theta q
    (triangle inequality: damping never improves the bound), and q is least, (beta - alpha) / (beta + alpha), at
    step = 2 / (alpha + beta).

    *On the simplex* all states have the same sum, so that only differences of sum zero count. The model subtracts the
    mean endmember from E there, H 1 = 0: H and N leave the differences of sum zero invariant. C_N first projects on
    the plane of sum one, which in the norm of N is the plain centring Q; (2) is then taken for Q grad G Q, and alpha
    is the least eigenvalue of H on that subspace, not the zero at 1.

    *With a learned prox* P, nonexpansive in the Euclidean norm: on the cone (3) holds in the metric "euclidean". On the
    simplex P acts on the part of G that Q removes. There 0 <= S <= beta N on all of space and alpha N <= S on
    differences of sum zero; |(I - t N^-1 S) d|^2 <= |d|^2 - t (2 - t beta) <d, S d> gives
    q = (1 - t alpha (2 - t beta))^(1/2), least at 1 / beta. In the metric "data" nothing is proved: P may expand the
    norm of N by up to cond(N)^(1/2).

    *softmax on logits* is mirror descent on F = energy + entropy / gamma. Relative to the entropy F is
    1-strongly convex, and (1 + gamma L / 2)-smooth on the simplex since d^T diag(1 / a) d >= |d|_1^2 >= 2 |d|^2 for
    differences of sum zero. The Kullback-Leibler distance to the equilibrium then falls by 1 - step alpha in
    each step, step <= 1 / beta (Lu, Freund & Nesterov 2018, theorem 3.1; Bauschke, Bolte & Teboulle 2017), and a bound
    of |A - A*| with it (Pinsker) by rate = (1 - step alpha)^(1/2). This is convergence to the equilibrium, not a
    contraction between any two states; the Jacobian there has real eigenvalues of at most 1 - step alpha.

    Nothing is proved for the gradient Residual(), whose derivative is not symmetric and whose attention has no global
    Lipschitz constant, nor with init="random", without a data term that bounds the curvature from below, nor for PPNM()
    and MLM(), whose data term is not convex. With KHype() H is that of its bands (`nonlinear_terms`).

    `bound_steps` is the least k + 1 with q^k (a + tol q b) <= tol |A*|: the residual after k steps is at most a q^k in
    the Euclidean norm and |f(A_k)| at least |A*| - b q^(k+1), with a and b the first residual and the distance of the
    start from A* in the norm of N over the root of its least eigenvalue.

    Args:
        params: from `init` or `fit`.
        cube: (H, W, B).
        config: the parts of the map; `forward`: tolerance, damping, and the solver of the equilibrium.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        The certificate. Safe under jit and vmap. The proof is for exact arithmetic, and alpha is lowered by the
        rounding of its eigenvalues, so that endmembers equal to rounding have no certificate. It holds in
        float32 in the metric of the data: on untrained misicnet_sim1 (two spectra nearly equal, cone) the plain
        iteration at the best step passes 1e-4 in 91 steps, of at most 127.

    Raises:
        InputError: if shapes or values do not fit, in a sentence.

    Reference:
        Bauschke and Combettes, Convex Analysis and Monotone Operator Theory in Hilbert Spaces, 2nd ed. 2017, ch. 26;
        Lu, Freund and Nesterov, SIAM J. Optim. 28(1), 2018; Bauschke, Bolte and Teboulle, Math. Oper. Res. 42(2), 2017.
    """
    model.check(params, cube, config, mask)
    cube = mixing.wide(cube)
    estimate, trace, factors = model.equilibrium(params, cube, config, mask=mask)
    initial, state = fixed_point_map.initial_state(params, cube, config), estimate.state
    first = fixed_point_map.state_map(config)(factors, initial) - initial
    goal = config.forward.tolerance * _norm(state)
    observed = _observed(factors, state, config)
    unknown = jnp.full((), jnp.nan, cube.dtype)
    unproved = Certificate(
        exists=jnp.asarray(False), monotonicity=unknown, lipschitz=unknown, step_limit=unknown, rate=unknown,
        best_step=unknown, best_rate=unknown, observed_rate=observed, bound_steps=unknown,
        expected_steps=_steps(_norm(first), goal, observed), trace=trace,
    )  # fmt: skip
    if not _provable(config):
        return unproved
    alpha, beta, least = _curvatures(factors, config)
    by_entropy = isinstance(config.constraint, Softmax)
    limit, best = (1 if by_entropy else 2) / beta, _best(alpha, beta, config)
    step, damping = factors.step, config.forward.damping
    if by_entropy:
        step = step * damping  # the map moves logits along a line: damping is a shorter step
        rate = _rate(alpha, beta, step, config)
        exists = step <= limit
        a, b = _logit_distances(factors, initial, state, config, step * alpha, rate)
    else:
        rate = 1 - damping + damping * _rate(alpha, beta, step, config)
        exists = step < limit

        # A masked pixel becomes zero in one step; its first state need not have the sum of the others.
        def distance(x: jax.Array) -> jax.Array:
            valid = factors.mask
            return _norm(x * valid, _metric(factors, config)) / jnp.sqrt(least) + _norm(x * (1 - valid))

        a, b = distance(first), distance(initial - state)
    convex = alpha > 0
    exists = exists & convex & (rate < 1)
    return unproved._replace(
        exists=exists,
        monotonicity=alpha,
        lipschitz=beta,
        step_limit=jnp.where(convex, limit, jnp.nan),
        rate=jnp.where(exists, rate, jnp.nan),
        best_step=jnp.where(convex, best, jnp.nan),
        best_rate=jnp.where(convex, _rate(alpha, beta, best, config), jnp.nan),
        # A damped iterate is not an image of the map: one more application measures its image.
        bound_steps=jnp.where(exists, _steps(a + config.forward.tolerance * rate * b, goal, rate), jnp.nan)
        + float(damping != 1),
    )


def _provable(config: Model) -> bool:
    """Return whether a theorem above applies to these choices."""
    plain = not isinstance(config.gradient, Residual) and config.physical and not config.post_nonlinear
    in_euclid = not config.in_data_metric and not isinstance(config.constraint, Softmax)
    return plain and (config.prox is None or in_euclid)


def _rate(alpha: jax.Array, beta: jax.Array, step: jax.Array, config: Model) -> jax.Array:
    """Return the factor of the three theorems, without damping."""
    if isinstance(config.constraint, Softmax):
        return jnp.sqrt(jnp.maximum(1 - step * alpha, 0))
    if config.prox is not None and config.sums_to_one:
        return jnp.sqrt(jnp.maximum(1 - step * alpha * (2 - step * beta), 0))
    return jnp.maximum(jnp.abs(1 - step * alpha), jnp.abs(1 - step * beta))


def _best(alpha: jax.Array, beta: jax.Array, config: Model) -> jax.Array:
    """Return the step at which `_rate` is least."""
    one_sided = isinstance(config.constraint, Softmax) or (config.prox is not None and config.sums_to_one)
    return 1 / beta if one_sided else 2 / (alpha + beta)


def _norm(x: jax.Array, N: jax.Array | None = None) -> jax.Array:
    """Return (sum over pixels of x^T N x)^(1/2)."""
    image = x if N is None else jnp.matmul(x, N, precision=lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.maximum(jnp.sum(x * image), 0))


def _steps(first: jax.Array, last: jax.Array, rate: jax.Array) -> jax.Array:
    """Return the least k + 1 with first rate^k <= last: infinite at a rate of one or if `last` is zero."""
    tiny = jnp.finfo(first.dtype).tiny
    fall = jnp.log(jnp.maximum(first, tiny)) - jnp.log(last)
    slope = -jnp.log(jnp.maximum(rate, tiny))
    steps = 1 + jnp.maximum(jnp.ceil(fall / positive(slope)), 0)
    return jnp.where(slope > 0, steps, jnp.where(rate >= 1, jnp.inf, jnp.nan))


def _metric(factors: Factors, config: Model) -> jax.Array:
    """Return N, (R, R), such that the map steps by N^-1 G in units of `Model.step`."""
    if factors.metric is not None:
        return factors.metric.M
    assert factors.data is not None
    scale = factors.step / factors.eta
    if isinstance(config.constraint, Softmax):
        scale = scale * (1 + config.constraint.gamma / 2)
    return scale * jnp.eye(factors.data.H.shape[0], dtype=factors.data.H.dtype)


def _curvatures(factors: Factors, config: Model) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return alpha, beta and the least eigenvalue of N, on differences of states."""
    assert factors.data is not None
    H, N = factors.data.H, _metric(factors, config)
    h, U = curvature.data_modes(H, not config.free_brightness)
    if isinstance(config.constraint, Softmax):
        L = jnp.minimum(_largest_curvature(factors, U), factors.step / factors.eta)
        alpha = 1 / N[0, 0]
        return alpha, alpha * (1 + config.constraint.gamma / 2 * L), N[0, 0]
    # H and N have the same eigenvectors.
    n = h + jnp.mean(jnp.diagonal(N - H)) if factors.metric is not None else jnp.ones_like(h) * N[0, 0]
    if config.prox is not None:
        beta = _largest_curvature(factors, jnp.eye(H.shape[0], dtype=H.dtype)) / N[0, 0]
    else:
        beta = _largest_curvature(factors, U / jnp.sqrt(n)[None])
    # N >= grad G by construction; the bound over frequencies is up to 1 % above.
    return jnp.min(h / n), jnp.minimum(beta, 1), jnp.min(n)


def _largest_curvature(factors: Factors, U: jax.Array) -> jax.Array:
    assert factors.data is not None
    weights = None if factors.energy is None else factors.energy.weights
    return curvature.largest_curvature(factors.data.H, weights, U)


def _logit_distances(
    factors: Factors, initial: jax.Array, state: jax.Array, config: Model, eta: jax.Array, rate: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return (a, b) of `bound_steps` on logits: z_k - z* obeys w <- (1 - eta) w - eta (G(A_k) - G(A*)).

    |A_k - A*|^2 <= gamma D rate^(2 k), D the divergence of the first state; with |G(A_k) - G(A*)| <= L |A_k - A*| and
    1 - eta = rate^2 the sum is at most rate^k (|w_0| + eta L (gamma D)^(1/2) / (rate (1 - rate))).
    """
    valid, gamma = factors.mask, config.constraint.gamma  # type: ignore[union-attr]
    ends = [jax.nn.log_softmax(gamma * z, axis=-1) for z in (state, initial)]
    divergence = jnp.maximum(jnp.sum(valid * jnp.exp(ends[0]) * (ends[0] - ends[1])), 0)  # gamma D
    L = _largest_curvature(factors, jnp.eye(state.shape[-1], dtype=state.dtype))
    distance = L * jnp.sqrt(divergence)
    b = _norm(initial - state) + eta * distance / (rate * (1 - rate))
    return eta * (distance + b), b


def _observed(factors: Factors, state: jax.Array, config: Model) -> jax.Array:
    """Return the spectral radius of the damped map's Jacobian, by power iteration on its transpose.

    If a theorem applies, J is self-adjoint in the inner product of N, and J^T in that of N^-1, in which the result
    never exceeds the certified rate. The mean over many products is also right for pairs of complex eigenvalues.
    """
    f, damping = fixed_point_map.state_map(config), config.forward.damping
    _, pull = jax.vjp(lambda z: f(factors, z), state)
    inverse = None if factors.metric is None else lapack.inverse(factors.metric.M)

    def advance(u: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        u = (1 - damping) * u + damping * pull(u)[0]
        if config.sums_to_one:
            u = u - jnp.mean(u, axis=-1, keepdims=True)
        size = _norm(u, inverse)
        return u / positive(size), size

    # A chirp contains all frequencies, and needs no random key.
    index = jnp.arange(state.size, dtype=state.dtype)
    u = jnp.sin(jnp.pi * index * (index / state.size)).reshape(state.shape) * factors.mask
    _, sizes = lax.scan(advance, u, None, length=_WARM + _OVER)
    return jnp.exp(jnp.mean(jnp.log(jnp.maximum(sizes[_WARM:], jnp.finfo(state.dtype).tiny))))

"""DE-GRAD, DE-PROX and DE-ADMM: equilibria of three classical iterations with a pretrained denoiser in them.

With a E the mixing, H = E E^T / L and b = y E^T / L (L at least the norm of E E^T), D the denoiser and N = D - 1 its
residual network:

    DE-GRAD   z <- z - eta (z H - b - N(z))
    DE-PROX   g = z - eta (z H - b),   z <- g + N(g)
    DE-ADMM   v = (b + alpha (z - u)) (H + alpha I)^-1,   z <- (v + u) + N(v + u),   u <- u + eta (v - z)

The last is an iteration of z and u together, and is accelerated as one: u has the unit of z. At its equilibrium v = z,
z = D(z + u) and alpha u = b - z H, whatever eta is; that of DE-GRAD has z H - b = N(z). The abundances are the
projection of z on the simplex. N, E and eta (a logarithm) are learned on the scene itself, by the loss mean spectral
angle + alpha' MSE of its reconstruction, with the implicit gradient of the equilibrium; each solve starts from the last
equilibrium.

Gilton, Ongie and Willett, Deep equilibrium architectures for inverse problems in imaging, IEEE TCI 7, 2021. From their
public code: N with spectral normalisation, trained beforehand as a denoiser at a noise of 0.01; alpha 0.4; eta 0.2 at
first (DE-ADMM: 0.1); Anderson acceleration with 5 differences and a ridge of 1e-4; Adam, x0.1 every 10 epochs, 80
epochs.

`Inertia` solves without Anderson, by momentum: f is applied to x + (1 - theta) (x - x'), x' the iterate before x, and
x' = x again every 100 steps of 200, or where k sum |x - x'|^2 > r^2 over the k steps since (Li and Lin, JMLR 24, 2023).
That is the inertial iteration of i-DEQ (Clerc, Renaud, Denis de Senneville and Papadakis, arXiv 2605.19705, 2026; theta
0.2), whose regulariser is an explicit potential with a line search, for which there is none here: the equilibrium is
that of the map.

Guessed: all that belongs to unmixing instead of images: L, the projection, the loss (alpha' 0.2) and the rate of E,
0.007, those of `unrolled_pnp`; the denoiser, a bounded `dncnn`. z is not clamped: there the fixed point would not obey
the equations above. Adam's rate for N and eta is 1e-3 (there 0.1, with images for training whose truth is known). The
tolerance is 1e-3: theirs, 1e-2, is too loose for an implicit gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines import dncnn
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.equilibrium.curvature import spectral_bound
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.ops import lapack
from dequnmix_jax.solvers.config import Adjoint, Anderson, Solver
from dequnmix_jax.solvers.implicit import fixed_point
from dequnmix_jax.types import Trace


@dataclass(frozen=True)
class Inertia:
    """Momentum with restarts: `interpolation` is theta, `radius` r relative to the RMS of the state."""

    interpolation: float = 0.2
    radius: float = 1.0
    restart: int = 100
    max_steps: int = 200
    tolerance: float = 1e-3


_SOLVER = Solver(Anderson(memory=5, ridge=1e-4), tolerance=1e-3, max_steps=100)
_ADJOINT = Adjoint(tolerance=1e-2, max_steps=100)


@dataclass(frozen=True)
class Settings:
    """Constants of the iterations, of their solution and of the training.

    Attributes:
        kind: "grad", "prox" or "admm".
        solver: of the equilibrium; an `Inertia` for momentum instead.
        sigma: noise level of the denoiser.
        penalty: alpha.
        step: eta at the start; None: 0.2, in DE-ADMM 0.1.
        denoiser: trained first where no weights are given.
    """

    kind: str = "prox"
    solver: Solver | Inertia = _SOLVER
    adjoint: Adjoint = _ADJOINT
    sigma: float = 0.01
    penalty: float = 0.4
    step: float | None = None
    epochs: int = 80
    rate: float = 1e-3
    endmembers: float = 7e-3
    error: float = 0.2
    denoiser: dncnn.Settings = field(default_factory=lambda: dncnn.Settings(bounded=True))

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in MAPS:
            raise ValueError(f"kind is {self.kind!r}; expected {', '.join(MAPS)}.")


def residual(weights: Any, maps: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return N of maps (H, W, R)."""
    noise = jax.vmap(dncnn.noise_of, in_axes=(None, -1, None), out_axes=-1)
    return -noise(weights, maps, sigma)


def factor(params: dict[str, Any], cube: jax.Array, settings: Settings) -> dict[str, Any]:
    """Return what the maps need of the parameters and the cube, computed once for a solve."""
    E = params["endmembers"]
    gram = jnp.matmul(E, E.T, precision="highest")
    L = spectral_bound(gram)
    H = gram / L
    return {
        "H": H,
        "b": jnp.matmul(cube, E.T, precision="highest") / L,
        "inverse": lapack.inverse(H + settings.penalty * jnp.eye(E.shape[0], dtype=H.dtype)),
        "denoiser": dncnn.bounded(params["denoiser"]),
        "eta": jnp.exp(params["eta"]),
        "sigma": jnp.asarray(settings.sigma, H.dtype),
        "penalty": jnp.asarray(settings.penalty, H.dtype),
    }


def _slope(theta: dict[str, Any], z: jax.Array) -> jax.Array:
    return jnp.matmul(z, theta["H"], precision="highest") - theta["b"]


def grad_map(theta: dict[str, Any], z: jax.Array) -> jax.Array:
    """Return the next z of DE-GRAD."""
    return z - theta["eta"] * (_slope(theta, z) - residual(theta["denoiser"], z, theta["sigma"]))


def prox_map(theta: dict[str, Any], z: jax.Array) -> jax.Array:
    """Return the next z of DE-PROX."""
    g = z - theta["eta"] * _slope(theta, z)
    return g + residual(theta["denoiser"], g, theta["sigma"])


def admm_map(theta: dict[str, Any], state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return the next (z, u) of DE-ADMM."""
    z, u = state
    v = jnp.matmul(theta["b"] + theta["penalty"] * (z - u), theta["inverse"], precision="highest")
    z = v + u + residual(theta["denoiser"], v + u, theta["sigma"])
    return z, u + theta["eta"] * (v - z)


MAPS: dict[str, Callable[..., Any]] = {"grad": grad_map, "prox": prox_map, "admm": admm_map}
"""The iterations by kind: (theta of `factor`, state) -> state; the state is z, or (z, u) for "admm"."""


def inertial(f: Callable[..., Any], theta: Any, z0: Any, settings: Inertia) -> tuple[Any, Trace]:
    """Iterate with momentum and restarts until RMS(f(y) - y) / RMS(f(y)) is within the tolerance at y = z."""

    def size(x: Any) -> jax.Array:
        leaves = jax.tree.leaves(x)
        return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in leaves) / sum(leaf.size for leaf in leaves))

    def unfinished(carry: tuple) -> jax.Array:
        _, _, _, _, count, left = carry
        return (count < settings.max_steps) & ~(left <= settings.tolerance) & ~jnp.isnan(left)

    def advance(carry: tuple) -> tuple:
        x, before, since, moved, count, _ = carry
        y = jax.tree.map(lambda a, b: a + (1 - settings.interpolation) * (a - b), x, before)
        new = f(theta, y)
        left = size(jax.tree.map(jnp.subtract, new, y)) / size(new)
        moved = moved + jnp.square(size(jax.tree.map(jnp.subtract, new, x)) / size(new))
        since = since + 1
        again = (since >= settings.restart) | (since.astype(moved.dtype) * moved > settings.radius**2)
        x = jax.tree.map(lambda a, b: jnp.where(again, a, b), new, x)
        return new, x, jnp.where(again, 0, since), jnp.where(again, 0, moved), count + 1, left

    zero = 0 * size(z0)
    start = (z0, z0, jnp.int32(0), zero, jnp.int32(0), zero + jnp.inf)
    z, _, _, _, count, left = lax.while_loop(unfinished, advance, start)
    return z, Trace(count, left, left <= settings.tolerance)


def equilibrium(
    params: dict[str, Any], cube: jax.Array, state: Any, settings: Settings
) -> tuple[jax.Array, tuple[Any, Trace]]:
    """Return the abundances (H, W, R) at the equilibrium, and the state there with a trace of the solve."""
    f, theta = MAPS[settings.kind], factor(params, cube, settings)
    solver = settings.solver
    if isinstance(solver, Inertia):
        state, trace = inertial(f, *lax.stop_gradient((theta, state)), solver)
        # One more application carries the implicit gradient.
        state, _ = fixed_point(f, Solver(tolerance=solver.tolerance, max_steps=1), settings.adjoint, theta, state)
    else:
        state, trace = fixed_point(f, solver, settings.adjoint, theta, state)
    z = state[0] if settings.kind == "admm" else state
    return project_simplex(z), (lax.stop_gradient(state), trace)


def loss(params: dict[str, Any], cube: jax.Array, state: Any, settings: Settings) -> tuple[jax.Array, Any]:
    """Return the mean spectral angle + alpha' MSE of the reconstruction, and the state at the equilibrium."""
    maps, (state, trace) = equilibrium(params, cube, state, settings)
    rebuilt = jnp.matmul(maps, params["endmembers"])
    value = metrics.mean_spectral_angle(cube, rebuilt) + settings.error * jnp.mean(jnp.square(rebuilt - cube))
    return value, (state, trace)


def first_state(maps: jax.Array, settings: Settings) -> Any:
    """Return the state with z the maps, and u = 0."""
    return (maps, jnp.zeros_like(maps)) if settings.kind == "admm" else maps


def init(endmembers: jax.Array, weights: Any, settings: Settings) -> dict[str, Any]:
    """Return the parameters: `weights` of the denoiser, E (R, B) and log eta."""
    step = (0.1 if settings.kind == "admm" else 0.2) if settings.step is None else settings.step
    return {"denoiser": weights, "endmembers": endmembers, "eta": jnp.log(jnp.asarray(step, endmembers.dtype))}


def deep_equilibrium(settings: Settings | None = None, weights: Any = None) -> Method:
    """Return the method; without weights the denoiser is trained first, on generated maps drawn from the key."""
    settings = Settings() if settings is None else settings
    rates = optax.exponential_decay(1.0, 10, 0.1, staircase=True)
    optimiser = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(rates))

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        denoiser = dncnn.train(key, replace(settings.denoiser, bounded=True))[0] if weights is None else weights
        params = init(E, denoiser, settings)

        def step(carry: tuple[Any, Any, Any], _: None) -> tuple[tuple[Any, Any, Any], None]:
            params, moments, state = carry
            gradient, (state, _) = jax.grad(loss, has_aux=True)(params, Y, state, settings)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = optimiser.update(gradient, moments)
            E = jnp.maximum(params["endmembers"] - settings.endmembers * change.pop("endmembers"), 1e-5)
            others = {name: params[name] for name in change}
            params = jax.tree.map(lambda w, c: w - settings.rate * c, others, change) | {"endmembers": E}
            return (params, moments, state), None

        carry = (params, optimiser.init(params), first_state(fcls(Y, E), settings))
        (params, _, state), _ = lax.scan(step, carry, None, length=settings.epochs)
        maps, _ = equilibrium(params, Y, state, settings)
        return MethodResult(maps, params["endmembers"] * peak)

    name = f"DE-{settings.kind.upper()}"
    return Method(f"{name}, inertial" if isinstance(settings.solver, Inertia) else name, estimate)

"""DE-GRAD, DE-PROX and DE-ADMM: equilibria of three classical iterations with a pretrained denoiser in them.

With a E the mixing, H = E E^T / L and b = y E^T / L (L at least the norm of E E^T), D the denoiser at the level sigma,
N = D - 1 its residual network, and w = rho / L the weight of the prior:

    DE-GRAD   z <- z - eta (z H - b - w N(z))
    DE-PROX   g = z - eta (z H - b),   z <- g + N(g)
    DE-ADMM   v = (b + alpha w (z - u)) (H + alpha w I)^-1,   z <- (v + u) + N(v + u),   u <- u + eta (v - z)

The last is an iteration of z and u together, and is accelerated as one: u has the unit of z. At its equilibrium v = z,
z = D(z + u) and alpha w u = b - z H, whatever eta is; that of DE-GRAD has z H - b = w N(z). The abundances are the
projection of z on the simplex. N, E and eta (a logarithm) are learned on the scene itself, by the mean squared error of
its reconstruction, with the implicit gradient of the equilibrium; each solve starts from the last equilibrium.

Gilton, Ongie and Willett, Deep equilibrium architectures for inverse problems in imaging, IEEE TCI 7, 2021. From their
public code: N with spectral normalisation, trained beforehand as a denoiser at a noise of 0.01; alpha 0.4; eta 0.2 at
first (DE-ADMM: 0.1); Anderson acceleration with 5 differences and a ridge of 1e-4; Adam, x0.1 every 10 epochs, 80
epochs.

`Inertia` solves without Anderson, by momentum: f is applied to x + (1 - theta) (x - x'), x' the iterate before x, and
x' = x again every 100 steps of 200, or where k sum |x - x'|^2 > r^2 over the k steps since (Li and Lin, JMLR 24, 2023).
That is the inertial iteration of i-DEQ (Clerc, Renaud, Denis de Senneville and Papadakis, arXiv 2605.19705, 2026; theta
0.2), whose regulariser is an explicit potential with a line search, for which there is none here: the equilibrium is
that of the map.

Guessed: all that belongs to unmixing instead of images. sigma and rho follow from the noise of the cube, as in
`plug_and_play.ESTIMATED`: rho = v / s^2, sigma = s, v the noise of the cube and s the one it causes in the abundances.
In their experiments the data have the denoiser's noise, so that rho is 1 and does not show; here with a weight of one
the prior outweighs the data along all directions in which spectra differ little. In DE-PROX the denoiser acts in each
step, which moves by eta / L, and its level is sqrt(eta v / L), which may be below those it was trained at. The scene
stands in the place of a truth in their loss; the denoiser is a bounded `dncnn`; z is not clamped: there the fixed point
would not obey the equations above. Adam's rate is 1e-3 for all (there 0.1, with many images for training). The
tolerance is 1e-3: theirs, 1e-2, is too loose for an implicit gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines import dncnn
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.baselines.plug_and_play import abundance_noise
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
        penalty: alpha.
        step: eta at the start; None: 0.2, in DE-ADMM 0.1.
        denoiser: trained first where no weights are given.
    """

    kind: str = "prox"
    solver: Solver | Inertia = _SOLVER
    adjoint: Adjoint = _ADJOINT
    penalty: float = 0.4
    step: float | None = None
    epochs: int = 80
    rate: float = 1e-3
    denoiser: dncnn.Settings = field(default_factory=lambda: dncnn.Settings(bounded=True))

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in MAPS:
            raise ValueError(f"kind is {self.kind!r}; expected {', '.join(MAPS)}.")

    @property
    def first_step(self) -> float:
        """Eta at the start."""
        return (0.1 if self.kind == "admm" else 0.2) if self.step is None else self.step


def residual(weights: Any, maps: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return N of maps (H, W, R)."""
    noise = jax.vmap(dncnn.noise_of, in_axes=(None, -1, None), out_axes=-1)
    return -noise(weights, maps, sigma)


class Level(NamedTuple):
    """Noise: `rho` (), weight of the prior, and `sigma` (), level of the denoiser."""

    rho: jax.Array
    sigma: jax.Array


def level(cube: jax.Array, endmembers: jax.Array, settings: Settings) -> Level:
    """Return the level that follows from the noise of a cube."""
    v, s = abundance_noise(cube, endmembers)
    rho = v / jnp.maximum(jnp.square(s), jnp.finfo(v.dtype).tiny)
    if settings.kind == "prox":
        s = jnp.sqrt(settings.first_step * v / spectral_bound(jnp.matmul(endmembers, endmembers.T)))
    return Level(rho, s)


def factor(params: dict[str, Any], cube: jax.Array, noise: Level, settings: Settings) -> dict[str, Any]:
    """Return what the maps need of the parameters and the cube, computed once for a solve."""
    E = params["endmembers"]
    gram = jnp.matmul(E, E.T, precision="highest")
    L = spectral_bound(gram)
    H = gram / L
    weight = noise.rho / L
    penalty = settings.penalty * weight
    return {
        "H": H,
        "b": jnp.matmul(cube, E.T, precision="highest") / L,
        "inverse": lapack.inverse(H + penalty * jnp.eye(E.shape[0], dtype=H.dtype)),
        "denoiser": dncnn.bounded(params["denoiser"]),
        "eta": jnp.exp(params["eta"]),
        "sigma": noise.sigma,
        "weight": weight,
        "penalty": penalty,
    }


def _slope(theta: dict[str, Any], z: jax.Array) -> jax.Array:
    return jnp.matmul(z, theta["H"], precision="highest") - theta["b"]


def grad_map(theta: dict[str, Any], z: jax.Array) -> jax.Array:
    """Return the next z of DE-GRAD."""
    prior = theta["weight"] * residual(theta["denoiser"], z, theta["sigma"])
    return z - theta["eta"] * (_slope(theta, z) - prior)


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
    params: dict[str, Any], cube: jax.Array, state: Any, noise: Level, settings: Settings
) -> tuple[jax.Array, tuple[Any, Trace]]:
    """Return the abundances (H, W, R) at the equilibrium, and the state there with a trace of the solve."""
    f, theta = MAPS[settings.kind], factor(params, cube, noise, settings)
    solver = settings.solver
    if isinstance(solver, Inertia):
        state, trace = inertial(f, *lax.stop_gradient((theta, state)), solver)
        # One more application carries the implicit gradient.
        state, _ = fixed_point(f, Solver(tolerance=solver.tolerance, max_steps=1), settings.adjoint, theta, state)
    else:
        state, trace = fixed_point(f, solver, settings.adjoint, theta, state)
    z = state[0] if settings.kind == "admm" else state
    return project_simplex(z), (lax.stop_gradient(state), trace)


def loss(
    params: dict[str, Any], cube: jax.Array, state: Any, noise: Level, settings: Settings
) -> tuple[jax.Array, Any]:
    """Return the mean squared error of the reconstruction, and the state at the equilibrium."""
    maps, kept = equilibrium(params, cube, state, noise, settings)
    return jnp.mean(jnp.square(jnp.matmul(maps, params["endmembers"]) - cube)), kept


def first_state(maps: jax.Array, settings: Settings) -> Any:
    """Return the state with z the maps, and u = 0."""
    return (maps, jnp.zeros_like(maps)) if settings.kind == "admm" else maps


def init(endmembers: jax.Array, weights: Any, settings: Settings) -> dict[str, Any]:
    """Return the parameters: `weights` of the denoiser, E (R, B) and log eta."""
    eta = jnp.log(jnp.asarray(settings.first_step, endmembers.dtype))
    return {"denoiser": weights, "endmembers": endmembers, "eta": eta}


def deep_equilibrium(settings: Settings | None = None, weights: Callable[[], Any] | None = None) -> Method:
    """Return the method; `weights` returns those of a bounded denoiser, otherwise trained on generated maps."""
    settings = Settings() if settings is None else settings
    optimiser = optax.adam(optax.exponential_decay(settings.rate, 10, 0.1, staircase=True))

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        denoiser = weights() if weights else dncnn.train(key, replace(settings.denoiser, bounded=True))[0]
        params, noise = init(E, denoiser, settings), level(Y, E, settings)

        def step(carry: tuple[Any, Any, Any], _: None) -> tuple[tuple[Any, Any, Any], None]:
            params, moments, state = carry
            gradient, (state, _) = jax.grad(loss, has_aux=True)(params, Y, state, noise, settings)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = optimiser.update(gradient, moments)
            params = optax.apply_updates(params, change)
            return (params | {"endmembers": jnp.maximum(params["endmembers"], 1e-5)}, moments, state), None

        carry = (params, optimiser.init(params), first_state(fcls(Y, E), settings))
        (params, _, state), _ = lax.scan(step, carry, None, length=settings.epochs)
        maps, _ = equilibrium(params, Y, state, noise, settings)
        return MethodResult(maps, params["endmembers"] * peak)

    name = f"DE-{settings.kind.upper()}"
    return Method(f"{name}, inertial" if isinstance(settings.solver, Inertia) else name, estimate)

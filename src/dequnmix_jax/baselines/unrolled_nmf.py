"""Unrolled factorisation with spatial group sparsity: projected gradient steps of SGSNMF, with learned steps.

    A <- normalise(relu(G(A - l (A E - Y) (E^T + V))))     V (B, R), at first 0
    E <- relu(E - m A^T (A E - Y) / N)                     N the number of pixels

in each of K = 10 layers. G shrinks the map of each material r in each superpixel p as a whole,

    a_r,p <- max(0, 1 - theta_r w_p,r / |a_r,p|) a_r,p,   |a|^2 = sum_j c_j a_j^2 / sum_j c_j over the pixels j of p,

so that a material whose map is below the threshold there vanishes from all its pixels. c_j is the confidence of the
pixel (`superpixels`) and w_p,r = 1 / (R^2 s_p,r + 1), s_p the FCLS abundances of the mean spectrum of the superpixel:
both are those of SGSNMF (`dequnmix_jax.endmembers.sgs_nmf`), and s_p is recomputed in each layer with its E. Each layer
has its own l, m, theta (R) and V. Trained on the mean over layers of |Y - A E|^2 of the scene itself. Before training l
and m are 1 / Lipschitz constant (of the start), theta = lambda l, and the network is K steps of proximal gradient on

    |Y - A E|^2 / 2 + lambda sum over p and r of w_p,r |a_r,p|

with abundances projected by relu and division.

A reconstruction after the title of Cui, Wang, Wang, Zhang and Zhong, Unrolling nonnegative matrix factorization with
group sparsity for blind hyperspectral unmixing, IEEE TGRS 61, 2023 (neither code nor abstract was available), and after
its parent: Wang, Zhong, Zhang and Xu, Spatial group sparsity regularized nonnegative matrix factorization for
hyperspectral unmixing, IEEE TGRS 55(11), 2017 (lambda 0.3).

Guessed: all of the network. The parent, as its authors' program and `sgs_nmf` have it, takes the norm over the
materials of a pixel; here it is over the pixels of a material, as the title's group says, and relative to the size of
the group. The optimiser is that of `snmf_net`: the positive numbers are learned as logarithms, at 0.01, V at 0.001 of
the RMS of E, by 300 steps of Adam on the whole scene; cubes have maximum one. A pixel of which nothing is left gets
1/R.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.endmembers.slic import Superpixels, superpixels
from dequnmix_jax.equilibrium.curvature import spectral_bound
from dequnmix_jax.mixing import normalise_abundances
from dequnmix_jax.ops.guards import nonzero


@dataclass(frozen=True)
class Settings:
    """Depth and training; `weight`: lambda, `width`: of a superpixel in pixels."""

    layers: int = 10
    weight: float = 0.3
    width: int = 6
    steps: int = 300
    rate: float = 1e-2
    filters: float = 1e-3


class Groups(NamedTuple):
    """The superpixels: `labels` (N,), `spectra` (P, B) of their means, `shares` (N,), c_j / sum of c in its group."""

    labels: jax.Array
    spectra: jax.Array
    shares: jax.Array


def groups(cut: Superpixels) -> Groups:
    """Return the groups of a scene, pixels row by row."""
    labels, c = cut.labels.reshape(-1), cut.confidence.reshape(-1)
    total = jax.ops.segment_sum(c, labels, cut.spectra.shape[0])
    return Groups(labels, cut.spectra, c / nonzero(total)[labels])


def shrink(maps: jax.Array, cut: Groups, threshold: jax.Array) -> jax.Array:
    """Return G of maps (N, R) for thresholds theta_r w_p,r (P, R)."""
    weighted = cut.shares[:, None] * jnp.square(maps)
    square = jax.ops.segment_sum(weighted, cut.labels, threshold.shape[0])
    size = jnp.sqrt(jnp.where(square > 0, square, 1))
    factor = jnp.where(square > 0, jax.nn.relu(1 - threshold / size), 0)
    return factor[cut.labels] * maps


def rarity(cut: Groups, endmembers: jax.Array) -> jax.Array:
    """Return w_p,r, (P, R), without a derivative."""
    spectra, E = lax.stop_gradient((cut.spectra, endmembers))
    return 1 / (E.shape[0] ** 2 * fcls(spectra[None], E)[0] + 1)


def init(endmembers: jax.Array, abundances: jax.Array, settings: Settings) -> dict[str, jax.Array]:
    """Return the weights of all layers, stacked; the numbers as logarithms. Abundances are (N, R)."""
    inner = 1 / spectral_bound(jnp.matmul(endmembers, endmembers.T, precision="highest"))
    outer = 1 / spectral_bound(jnp.matmul(abundances.T, abundances, precision="highest") / abundances.shape[0])
    one = {
        "inner": jnp.log(inner),
        "outer": jnp.log(outer),
        "theta": jnp.full(endmembers.shape[0], jnp.log(settings.weight * inner)),
        "filters": jnp.zeros_like(endmembers.T),
    }
    return jax.tree.map(lambda x: jnp.stack([x] * settings.layers), one)


def forward(
    weights: dict[str, jax.Array], pixels: jax.Array, endmembers: jax.Array, abundances: jax.Array, cut: Groups
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return abundances (N, R) and endmembers of the last layer, and the mean squared error of each."""
    power = jnp.sum(jnp.square(pixels))

    def layer(state: tuple[jax.Array, jax.Array], w: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
        A, E = state
        # (A E - Y) W without the residual, which is as large as the scene.
        W = E.T + w["filters"]
        slope = jnp.matmul(A, jnp.matmul(E, W)) - jnp.matmul(pixels, W)
        theta = jnp.exp(w["theta"])[None] * rarity(cut, E)
        kept = jax.nn.relu(shrink(A - jnp.exp(w["inner"]) * slope, cut, theta))
        A = normalise_abundances(kept[None])[0][0]
        gram, data = jnp.matmul(A.T, A), jnp.matmul(A.T, pixels)
        E = jax.nn.relu(E - jnp.exp(w["outer"]) * (jnp.matmul(gram, E) - data) / A.shape[0])
        error = power - 2 * jnp.sum(data * E) + jnp.sum(gram * jnp.matmul(E, E.T))
        return (A, E), error / pixels.size

    (A, E), errors = lax.scan(layer, (abundances, endmembers), weights)
    return A, E, errors


def unrolled_nmf(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        cut = groups(superpixels(Y, width=settings.width))
        pixels, A = Y.reshape(-1, Y.shape[-1]), fcls(Y, E).reshape(-1, E.shape[0])
        weights = init(E, A, settings)
        size = jnp.sqrt(jnp.mean(jnp.square(E)))
        adam = optax.scale_by_adam()

        def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            weights, moments = state
            gradient = jax.grad(lambda w: jnp.mean(forward(w, pixels, E, A, cut)[2]))(weights)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = adam.update(gradient, moments)
            rates = dict.fromkeys(weights, settings.rate) | {"filters": settings.filters * size}
            return ({name: w - rates[name] * change[name] for name, w in weights.items()}, moments), None

        (weights, _), _ = lax.scan(step, (weights, adam.init(weights)), None, length=settings.steps)
        shares, spectra, _ = forward(weights, pixels, E, A, cut)
        return MethodResult(shares.reshape(*cube.shape[:2], -1), spectra * peak)

    return Method("unrolled SGSNMF", estimate)

r"""Endmembers as a learned fixed point: the joint equilibrium of abundances and endmembers.

The state of blind unmixing is (A, E). A follows from E exactly (its barycentric coordinates in the simplex, or cone, of
E), so that the fixed point is one of E alone, E = T(A(E), E). In the R coordinates of `subspace.frame`, endmembers are
the vertices of a simplex and its facets are the rows q_k of Q = V^-T: a_nk = q_k . g_n. A step moves facet k by

    Q <- N((I - C) Q),    c_kj = damping h(gate_kj (sum_t w_kjt c_kj^(t) + b_kj sigma_k)),    c_kk = 0

h(x) = tanh(2 x) / 2 bounds the step, the gate lies in (0, 1), and the damping is 0.8, less for more than four
endmembers. N scales the vertices to brightness one. c_k^(t) is the expectile regression of coordinate k on the others,

    argmin_c sum_n w_n rho_t(a_nk - sum_j c_j a_nj),    rho_t(r) = r^2 (below 0), t r^2 (above),

at asymmetries t from 0.1 to 0.001: at c = 0 the lower t-expectile of the pixels lies on the facet. For small t that is
the smallest simplex around the pixels, for larger ones it has pixels outside, as noise and spectra that vary require; a
facet without any pixel near it is extrapolated from those that mix along it. Which of them holds in a scene is what a
network of about 4,000 weights learned on scenes whose truth is known: w_kj, b_kj and the gate are functions of the pair
(k, j) and of means over pairs. Its features are ratios and logarithms: no number of pixels, bands or endmembers and no
unit is among them, and the map is equivariant to the order of the endmembers.

The equilibrium is found by plain steps and differentiated implicitly (`solvers.fixed_point`). The map is not a
contraction by construction, and where gates are nearly closed it is close to the identity: `spectral_radius` measures
that of its Jacobian, R^2 x R^2, at the answer.

References:
    Newey and Powell, Asymmetric least squares estimation and testing, Econometrica 55(4), 1987 (expectiles). Li,
    Agathos, Zaharie, Bioucas-Dias, Plaza and Li, Minimum volume simplex analysis, IEEE TGRS 53(9), 2015 (facets as
    unknowns). Bai, Kolter and Koltun, Deep equilibrium models, NeurIPS 2019. Zaheer et al., Deep sets, NeurIPS 2017
    (layers equivariant to order). Their combination is ours.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.endmembers.subspace import Frame
from dequnmix_jax.ops import lapack, small_systems
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.solvers.config import Adjoint, BiCGSTAB, Picard, Solver
from dequnmix_jax.solvers.implicit import fixed_point
from dequnmix_jax.types import Trace

ASYMMETRIES = (0.1, 0.02, 0.004, 0.001)
"""t of the expectiles, in the order of the search: each starts at the one before."""

FORWARD = Solver(Picard(), tolerance=3e-3, max_steps=40)
"""Plain steps: Anderson acceleration leaves the basin of the start on some scenes."""

BACKWARD = Adjoint(BiCGSTAB(), tolerance=1e-2, max_steps=20)

MOST_PIXELS = 4096
"""Pixels that are read: of a larger scene every second, third, ... in the order of the rows."""

_FITS = 2
_LARGEST = 0.5
"""Largest |c_kj| of a step."""

_DAMPING = 0.8
_RIDGE = 1e-3
_DARK = 0.05
_QUANTILES = (0.002, 0.02, 0.1, 0.5, 0.9, 0.98, 0.998)


class Geometry(NamedTuple):
    """What the equilibrium reads of a scene.

    Attributes:
        points: g, (N, R), coordinates of the pixels (`subspace.Frame`), and
        height: (), of the same frame.
        noise: (R, R), covariance of the noise of g.
        valid: (N,) bool.
        scaled: () bool, True for the cone.
        context: (5,), of the scene (`learned.features.context`).
        free: (R,) bool, vertices that move; None: all.
    """

    points: jax.Array
    height: jax.Array
    noise: jax.Array
    valid: jax.Array
    scaled: jax.Array
    context: jax.Array
    free: jax.Array | None = None


class JointWeights(NamedTuple):
    """Weights of the network: mean and scale of the features (F,), and the layers ((F, W), (W,)), ..."""

    mean: jax.Array
    scale: jax.Array
    layers: tuple[tuple[jax.Array, jax.Array], ...]


def geometry(
    view: Frame,
    noise: jax.Array,
    valid: jax.Array,
    scaled: bool | jax.Array,
    context: jax.Array,
    free: jax.Array | None = None,
) -> Geometry:
    """Return the geometry of a frame of pixels, for the variance of the noise of each band (B,)."""
    back = lapack.pinv(view.lift)
    covariance = jnp.matmul(back.T * noise[None], back, precision="highest")
    stride = -(-view.points.shape[0] // MOST_PIXELS)
    points, inside = view.points[::stride], valid[::stride]
    return Geometry(points, view.height, covariance, inside, jnp.asarray(scaled), context, free)


def facets_of(vertices: jax.Array, height: jax.Array) -> jax.Array:
    """Return the facets Q (R, R) of vertices (R, R), each scaled to brightness one."""
    return lapack.inverse(vertices / (_nonzero(vertices[:, :1]) * height)).T


def vertices_of(facets: jax.Array) -> jax.Array:
    """Return the vertices (R, R) of facets, its rows."""
    return lapack.inverse(facets).T


def equilibrium(
    weights: JointWeights,
    scene: Geometry,
    vertices: jax.Array,
    forward: Solver = FORWARD,
    backward: Adjoint = BACKWARD,
    exact: bool = True,
) -> tuple[jax.Array, Trace]:
    """Return the vertices (R, R) at equilibrium and how the solve went, from initial vertices in the same frame.

    Differentiable in the weights, by the implicit function theorem; `exact` as for `joint_map` and `cheap_map`.
    """
    first = lax.stop_gradient(facets_of(vertices, scene.height))
    facets, trace = fixed_point(joint_map if exact else cheap_map, forward, backward, (weights, scene), first)
    return vertices_of(facets), trace


def joint_map(theta: tuple[JointWeights, Geometry], facets: jax.Array) -> jax.Array:
    """Apply one step to the facets Q (R, R)."""
    return _step(theta, facets, True)


def cheap_map(theta: tuple[JointWeights, Geometry], facets: jax.Array) -> jax.Array:
    """Apply the step of `joint_map`; its derivative is that of the last of the regressions alone, a third of the cost.

    Training uses it.
    """
    return _step(theta, facets, False)


def _step(theta: tuple[JointWeights, Geometry], facets: jax.Array, exact: bool) -> jax.Array:
    weights, scene = theta
    x, c, sigma = pair_features(facets, scene, exact)
    out = _network(weights, x)
    number, count = len(ASYMMETRIES), facets.shape[0]
    eye = jnp.eye(count, dtype=facets.dtype)
    gate = jax.nn.sigmoid(4 * out[..., number + 1] - 2)
    moved = jnp.sum(out[..., :number] * c, axis=-1) + out[..., number] * jnp.minimum(sigma, 0.1)[:, None]
    C = (1 - eye) * _LARGEST * jnp.tanh(gate * moved / _LARGEST) * _DAMPING / max(1.0, (count - 1) / 3)
    if scene.free is not None:  # q_k . v_j stays as it is for every facet k
        C = C * scene.free.astype(C.dtype)[None]
    V = vertices_of(jnp.matmul(eye - C, facets, precision="highest"))
    return facets_of(V, scene.height)


def spectral_radius(weights: JointWeights, scene: Geometry, vertices: jax.Array) -> jax.Array:
    """Return an estimate of the spectral radius of the map's Jacobian J at vertices.

    It is the mean growth of a vector in its products with J, from the fifth to the twelfth (power iteration).
    """
    facets = facets_of(vertices, scene.height)
    derivative = jax.linearize(lambda q: joint_map((weights, scene), q), facets)[1]

    def product(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        y = derivative(x)
        size = jnp.sqrt(jnp.sum(jnp.square(y)))
        return y / positive(size), size

    # A direction without symmetry.
    x = jnp.sin(1.7 * jnp.arange(1, facets.size + 1, dtype=facets.dtype)).reshape(facets.shape)
    sizes = lax.scan(product, x / jnp.sqrt(jnp.sum(jnp.square(x))), None, length=12)[1]
    return jnp.exp(jnp.mean(jnp.log(jnp.maximum(sizes[4:], 1e-12))))


def init(key: jax.Array, features: jax.Array, width: int = 24) -> JointWeights:
    """Draw weights whose map moves little; `features` (M, F) of some pairs give mean and scale."""
    inputs = features.shape[1]
    sizes = [(inputs, width), (width, width), (4 * width, width), (width, len(ASYMMETRIES) + 2)]
    keys = jax.random.split(key, len(sizes))
    layers = [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]
    layers[-1] = (0.01 * layers[-1][0], layers[-1][1])
    return JointWeights(jnp.median(features, axis=0), jnp.std(features, axis=0) + 0.05, tuple(layers))


def coordinates(facets: jax.Array, scene: Geometry) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return barycentric coordinates a (N, R), 0 in dark pixels, their noise (R,), and weights of pixels (N,)."""
    s = jnp.matmul(scene.points, facets.T, precision="highest")
    level = jnp.sum(s, axis=1)
    dark = (level < _DARK) | ~scene.valid
    level = jnp.where(dark, 1, level)
    a = jnp.where(dark[:, None], 0, s / level[:, None])
    w = jnp.where(dark, 0, jnp.where(scene.scaled, jnp.minimum(jnp.square(level), 4), 1))
    sigma = jnp.sum(jnp.matmul(facets, scene.noise, precision="highest") * facets, axis=1)
    return a, jnp.sqrt(jnp.maximum(sigma, 1e-12)), w / positive(jnp.sum(w))


def _expectiles(a: jax.Array, sigma: jax.Array, w: jax.Array, exact: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return c (R, T, R) of every facet, the weight of pixels near it and the RMS of those below, (R, T) each."""
    count = a.shape[1]
    eye = jnp.eye(count, dtype=a.dtype)
    levels = jnp.asarray(ASYMMETRIES, a.dtype)

    def below(a: jax.Array, c: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.matmul(a, eye[k] - c, precision="highest")

    def weigh(a: jax.Array, sigma: jax.Array, c: jax.Array, k: jax.Array, level: jax.Array) -> jax.Array:
        r = below(a, c, k)
        outside = jax.nn.sigmoid(-4 * r / sigma[k])
        far = jnp.minimum(1, 6 * sigma[k] / jnp.maximum(jnp.abs(r), 1e-9))  # outliers have a bounded pull
        return w * (level + (1 - level) * outside) * jnp.where(r < 0, jnp.maximum(far, 0.1), 1)

    def fit(a: jax.Array, weights: jax.Array, k: jax.Array) -> jax.Array:
        weighted = (a * weights[:, None]).T
        others = 1 - eye[k]
        moments = jnp.matmul(weighted, a, precision="highest")
        G = moments * others[:, None] * others[None]
        size = jnp.trace(G) / count
        H = G + (_RIDGE * size + 1e-9) * eye + size * eye[k][:, None] * eye[k][None]
        b = jnp.matmul(moments, eye[k], precision="highest") * others
        return small_systems.solve(H, b)

    held = (lambda x: x) if exact else lax.stop_gradient
    fixed, noise = held(a), held(sigma)

    def facet(k: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def search(c: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
            c = fit(fixed, weigh(fixed, noise, c, k, level), k)
            return c, c

        # Fits of one level are steps of the same loop, whose body is compiled once.
        found = lax.scan(search, jnp.zeros(count, a.dtype), jnp.repeat(levels, _FITS))[1]
        starts = held(found[_FITS - 1 :: _FITS])

        def last(c: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            c = fit(a, weigh(a, sigma, c, k, level), k)
            r = below(a, c, k)
            near = jnp.sum(w * jnp.exp(-0.5 * jnp.square(r / (2 * sigma[k]))))
            return c, near, jnp.sqrt(jnp.sum(w * jnp.square(jnp.minimum(r, 0))) + 1e-16)

        return jax.vmap(last)(starts, levels)

    return jax.vmap(facet)(jnp.arange(count))


def pair_features(facets: jax.Array, scene: Geometry, exact: bool = True) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return features (R, R, F) of all pairs, the expectiles (R, R, T) and the noise of the coordinates (R,)."""
    a, sigma, w = coordinates(facets, scene)
    count = a.shape[1]
    c, near, low = _expectiles(a, sigma, w, exact)
    c = jnp.swapaxes(c, 1, 2)
    last = jnp.maximum(jnp.sum(w > 0) - 1, 0)
    ordered = jnp.sort(jnp.where(w[:, None] > 0, a, jnp.inf), axis=0)
    places = jnp.floor(jnp.asarray(_QUANTILES, jnp.float32) * last.astype(jnp.float32)).astype(jnp.int32)
    quantiles = ordered[places]

    def log(x: jax.Array) -> jax.Array:
        return jnp.clip(jnp.log(jnp.maximum(x, 1e-6)) / 3, -4, 2)

    of_facet = jnp.concatenate(
        [
            jnp.clip(quantiles, -0.5, 1.5).T,
            log(near),
            log(low / sigma[:, None]),
            (jnp.clip(jnp.log(sigma), -9, 0) / 3)[:, None],
            log(jnp.maximum(-quantiles[0], 1e-6) / sigma)[:, None],
        ],
        axis=1,
    )
    purity = w[:, None] * jnp.maximum(a, 0) ** 8
    purity = purity / (jnp.sum(purity, axis=0)[None] + 1e-12)
    mean = jnp.matmul(a.T, purity, precision="highest")
    square = jnp.matmul((a * a).T, purity, precision="highest")
    spread = jnp.sqrt(jnp.maximum(square - mean * mean, 1e-12))
    of_pair = jnp.concatenate(
        [
            jnp.clip(c, -_LARGEST, _LARGEST) * 4,
            jnp.clip(mean[..., None], -0.5, 1),
            log(spread / sigma[:, None])[..., None],
            jnp.clip(c / sigma[:, None, None], -10, 10) / 5,
        ],
        axis=-1,
    )
    pairs = (count, count, of_facet.shape[1])
    x = jnp.concatenate(
        [
            of_pair,
            jnp.broadcast_to(of_facet[:, None], pairs),
            jnp.broadcast_to(of_facet[None], pairs),
            jnp.broadcast_to(scene.context[None, None], (count, count, scene.context.size)),
        ],
        axis=-1,
    )
    return x, c, sigma


def _network(weights: JointWeights, x: jax.Array) -> jax.Array:
    """Return T + 2 numbers for every pair, (R, R, T + 2)."""

    def dense(x: jax.Array, layer: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.matmul(x, layer[0]) + layer[1][None, None]

    x = jnp.clip((x - weights.mean[None, None]) / weights.scale[None, None], -4, 4)
    h = jax.nn.gelu(dense(jax.nn.gelu(dense(x, weights.layers[0])), weights.layers[1]))
    count = h.shape[0]
    others = (1 - jnp.eye(count, dtype=h.dtype))[..., None] / (count - 1)
    rows = jnp.sum(h * others, axis=1)[:, None]
    columns = jnp.sum(h * others, axis=0)[None]
    every = jnp.mean(rows, axis=0)[None]
    h = jnp.concatenate([h, *(jnp.broadcast_to(y, h.shape) for y in (rows, columns, every))], axis=-1)
    return dense(jax.nn.gelu(dense(h, weights.layers[2])), weights.layers[3])


def _nonzero(x: Any) -> jax.Array:
    return jnp.where(jnp.abs(x) < 1e-6, jnp.where(x < 0, -1e-6, 1e-6), x)

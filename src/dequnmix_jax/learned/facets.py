"""prototype"""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

TAUS = (0.1, 0.02, 0.004, 0.001)
ITER = 2
LIMIT = 0.5


class Geometry(NamedTuple):
    points: jax.Array  # (N, R)
    height: jax.Array
    noise: jax.Array  # (R, R)
    valid: jax.Array  # (N,)
    scaled: jax.Array  # () bool


def coordinates(Q, geo):
    """a (N,R), sigma (R,), pixel weight (N,)"""
    s = jnp.matmul(geo.points, Q.T, precision="highest")
    level = jnp.sum(s, axis=1)
    dark = (level < 0.05) | ~geo.valid
    safe = jnp.where(dark, 1.0, level)
    a = jnp.where(dark[:, None], 0, s / safe[:, None])
    w = jnp.where(dark, 0.0, jnp.where(geo.scaled, jnp.minimum(jnp.square(safe), 4.0), 1.0))
    w = w / jnp.sum(w)
    N = jnp.where(geo.scaled, geo.noise, geo.noise)
    sigma = jnp.sqrt(jnp.maximum(jnp.sum(jnp.matmul(Q, N, precision="highest") * Q, axis=1), 1e-12))
    return a, sigma, w


def expectiles(a, sigma, w):
    """c (T, R, R): rows k: coefficients on j (0 on the diagonal), and residual summaries."""
    R = a.shape[1]
    eye = jnp.eye(R, dtype=a.dtype)
    gram_ridge = 1e-3

    def fit(weights, k, a):
        G = jnp.matmul((a * weights[:, None]).T, a, precision="highest")
        off = 1 - eye[k]
        G = G * off[:, None] * off[None]
        size = jnp.trace(G) / R
        H = G + (gram_ridge * size + 1e-9) * eye + jnp.diag(eye[k]) * size
        b = jnp.matmul((a * weights[:, None]).T, a[:, k], precision="highest") * off
        return jnp.linalg.solve(H, b)

    a0, sigma0 = lax.stop_gradient(a), lax.stop_gradient(sigma)

    def weigh(a, sigma, c, k, tau):
        r = a[:, k] - a @ c
        below = jax.nn.sigmoid(-4 * r / sigma[k])
        far = jnp.minimum(1.0, 6 * sigma[k] / jnp.maximum(jnp.abs(r), 1e-9))
        return w * (tau + (1 - tau) * below) * jnp.where(r < 0, jnp.maximum(far, 0.1), 1.0)

    def facet(k):
        def one(c, tau):
            for _ in range(ITER):
                c = fit(lax.stop_gradient(weigh(a0, sigma0, c, k, tau)), k, a0)
            return c, c

        cs = lax.scan(one, jnp.zeros(R, a.dtype), jnp.asarray(TAUS, a.dtype))[1]
        cs = lax.stop_gradient(cs)

        def last(c, tau):
            c = fit(weigh(a, sigma, c, k, tau), k, a)
            r = a[:, k] - a @ c
            near = jnp.sum(w * jnp.exp(-0.5 * jnp.square(r / (2 * sigma[k]))))
            low = jnp.sqrt(jnp.sum(w * jnp.square(jnp.minimum(r, 0))) + 1e-16)
            return c, near, low

        return jax.vmap(last)(cs, jnp.asarray(TAUS, a.dtype))

    c, near, low = jax.vmap(facet)(jnp.arange(R))  # (R, T, R), (R,T)
    return jnp.moveaxis(c, 0, 1), near, low


def features(Q, geo, extra):
    a, sigma, w = coordinates(Q, geo)
    R = a.shape[1]
    c, near, low = expectiles(a, sigma, w)
    order = jnp.sort(jnp.where(w[:, None] > 0, a, 0), axis=0)
    n = a.shape[0]
    q = jnp.stack([order[int(p * (n - 1))] for p in (0.002, 0.02, 0.1, 0.5, 0.9, 0.98, 0.998)])  # (7, R)
    lsig = jnp.log(sigma)
    def logc(x):
        return jnp.clip(jnp.log(jnp.maximum(x, 1e-6)) / 3, -4, 2)
    per_facet = jnp.concatenate([jnp.clip(q, -0.5, 1.5), logc(near.T), logc(low.T / sigma[None]), (jnp.clip(lsig, -9, 0) / 3)[None], logc(jnp.maximum(-q[0], 1e-6) / sigma)[None]])  # (F, R)
    pf = per_facet.T
    # purity weights: mean of a_k near the purest of j, in units
    pw = w[:, None] * jnp.maximum(a, 0) ** 8
    pw = pw / (jnp.sum(pw, axis=0, keepdims=True) + 1e-12)
    m = jnp.matmul(pw.T, a, precision="highest").T  # (k, j): mean a_k near vertex j
    m2 = jnp.sqrt(jnp.maximum(jnp.matmul(pw.T, a * a, precision="highest").T - m * m, 1e-12))
    T = c.shape[0]
    pair = jnp.concatenate([jnp.clip(jnp.moveaxis(c, 0, -1), -LIMIT, LIMIT) * 4, jnp.clip(m[..., None], -0.5, 1), logc(m2[..., None] / sigma[:, None, None]),
        jnp.clip(jnp.moveaxis(c, 0, -1) / sigma[:, None, None], -10, 10) / 5], axis=-1)
    x = jnp.concatenate([pair, jnp.broadcast_to(pf[:, None], (R, R, pf.shape[1])), jnp.broadcast_to(pf[None], (R, R, pf.shape[1])),
        jnp.broadcast_to(extra[None, None], (R, R, extra.size))], axis=-1)
    return x, c, sigma


def init(key, inputs, width=24):
    T = len(TAUS)
    sizes = [(inputs, width), (width, width), (4 * width, width), (width, T + 2)]
    keys = jax.random.split(key, len(sizes))
    net = [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes)]
    net[-1] = (net[-1][0] * 0.01, net[-1][1])
    return {"mean": jnp.zeros(inputs), "scale": jnp.ones(inputs), "net": net}


def network(weights, x):
    x = jnp.clip((x - weights["mean"]) / weights["scale"], -4, 4)
    (a, p), (b, q), (c, r), (d, s) = weights["net"]
    h = jax.nn.gelu(jax.nn.gelu(x @ a + p) @ b + q)
    R = h.shape[0]
    off = (1 - jnp.eye(R))[..., None]
    rows = jnp.sum(h * off, axis=1, keepdims=True) / (R - 1)
    cols = jnp.sum(h * off, axis=0, keepdims=True) / (R - 1)
    all_ = jnp.mean(rows, axis=0, keepdims=True)
    h = jnp.concatenate([h, jnp.broadcast_to(rows, h.shape), jnp.broadcast_to(cols, h.shape), jnp.broadcast_to(all_, h.shape)], axis=-1)
    return jax.nn.gelu(h @ c + r) @ d + s


def move(weights, Q, geo, extra, damping=1.0):
    """one step; Q (R,R) facets"""
    x, c, sigma = features(Q, geo, extra)
    out = network(weights, x)
    T = len(TAUS)
    R = Q.shape[0]
    off = 1 - jnp.eye(R)
    gate = jax.nn.sigmoid(4 * out[..., T + 1] - 2)
    C = gate * (jnp.sum(out[..., :T] * jnp.moveaxis(c, 0, -1), axis=-1) + out[..., T] * jnp.minimum(sigma, 0.1)[:, None])
    C = off * LIMIT * jnp.tanh(C / LIMIT) * damping / jnp.maximum(1.0, (R - 1) / 3)
    new = jnp.matmul(jnp.eye(R) - C, Q, precision="highest")
    return normalised(new, geo), C


def normalised(Q, geo):
    V = jnp.linalg.inv(Q).T  # rows: vertices
    V = V / (V[:, :1] * geo.height)
    return jnp.linalg.inv(V).T

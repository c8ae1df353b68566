# ruff: noqa: B023, E731, SIM108
"""Compare compiled with eager, for test_compiled: `compare_compiled.py GROUPS COUNTS`; status 1 where they differ."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import mixing

groups, counts = sys.argv[1].split(","), [int(word) for word in sys.argv[2].split(",")]
key = jax.random.key(0)
bad = []


def shift(x):
    return x + x.mean((0, 1))


def stretch(x):
    m = x.mean((0, 1))
    return (x - m) * 1.3 + m


def far(x):
    return (x - x.mean((0, 1))) @ (jnp.eye(x.shape[-1]) + 0.1) + x.mean((0, 1)) * x


FORMS = {"shift": shift, "stretch": stretch, "far": far}
ONLY = {"stretch": stretch}
JIT = ("jit",)


def compare(name, function, x, tolerance, forms=FORMS, ways=("jit", "vmap"), how=None):
    # The reference has its argument in memory: nothing is fused into it.
    for form, expression in forms.items():
        moved = jnp.asarray(np.asarray(expression(x)))
        expected = np.asarray(function(moved))
        for way in ways if form == "shift" else ways[:1]:
            composed = lambda x: function(expression(x))
            if way == "jit":
                found = jax.jit(composed)(x)
            else:
                found = jax.jit(jax.vmap(composed))(jnp.stack([x, x]))[1]
            found = np.asarray(found)
            off = np.nanmax(np.abs(found - expected)) if how is None else how(moved, found, expected)
            if not off <= tolerance or (np.isnan(found) != np.isnan(expected)).any():
                bad.append(f"{name}, {form}, {way}: {off:.2g}")


def slope(name, function, x, tolerance, forms=FORMS):
    w = jax.random.normal(jax.random.key(9), x.shape)
    for form, expression in forms.items():
        moved = jnp.asarray(np.asarray(expression(x)))

        def energy(v):
            a = function(v)
            return jnp.sum(jnp.sin(a) * w[..., : a.shape[-1]])

        outer = jnp.asarray(np.asarray(jax.grad(energy)(moved)))
        expected = np.asarray(jax.vjp(expression, x)[1](outer)[0])
        found = np.asarray(jax.jit(jax.grad(lambda x: energy(expression(x))))(x))
        # An entry at a kink may take either side: of thousands, a few.
        off = np.abs(found - expected) > tolerance * max(1.0, np.abs(expected).max())
        if off.mean() > 0.002 or np.isnan(found).any():
            bad.append(f"{name}, {form}, grad: {off.mean():.2g} of the entries")


for R in counts:
    a = jax.nn.softmax(2 * jax.random.normal(jax.random.fold_in(key, R), (36, 36, R)))
    n = jax.random.normal(jax.random.fold_in(key, R), (36, 36, R)) * 0.5 + 1 / R
    rng = np.random.default_rng(R)
    E = jnp.asarray(0.2 + rng.random((R, 14)), jnp.float32)
    Y = jnp.asarray(np.asarray(a) @ np.asarray(E) + 0.01 * rng.standard_normal((36, 36, 14)), jnp.float32)
    one = {"shift": shift}
    if "mixing" in groups:
        for x in (a, n):
            compare(f"project_simplex R={R}", mixing.project_simplex, x, 1e-5)
        slope(f"project_simplex R={R}", mixing.project_simplex, n, 1e-4)
        compare(f"normalise R={R}", lambda v: mixing.normalise_abundances(jnp.abs(v))[0], n, 1e-5, one)
        compare(f"cone R={R}", mixing.project_cone, n, 1e-5, one)

        def maximum(v):
            return mixing.scale_to_unit_maximum(v.reshape(-1, v.shape[-1])).reshape(v.shape)

        if R > 1:
            compare(f"unit maximum R={R}", maximum, jnp.abs(n) + 0.1, 1e-5, one)
            slope(f"unit maximum R={R}", maximum, jnp.abs(n) + 0.1, 1e-4, one)
    if "exact" in groups:
        for name, f, sum_to_one in (("fcls", dq.abundances.fcls, True), ("nnls", dq.abundances.nnls, False)):

            def residual(moved, found, expected):
                off = np.abs(found.sum(-1) - 1).max() if sum_to_one else 0.0
                return max(float(jnp.max(dq.abundances.kkt_residual(moved, E, jnp.asarray(found), sum_to_one))), off)

            compare(f"{name} R={R}", lambda Y: f(Y, E), Y, 1e-4, ONLY, how=residual)
            slope(f"{name} R={R}", lambda Y: f(Y, E), Y, 1e-2, ONLY)
    if "purest" in groups and R > 1:
        # The mean of few of the purest pixels: with one of them, an entry that is lost leaves nothing.
        compare(f"purify R={R}", lambda a: dq.endmembers.purify(Y, E, a, fraction=1 / 1296), n, 1e-5, ways=JIT)
    if "search" in groups and R > 1:

        def volume(found):
            U = found / np.linalg.norm(found, axis=1, keepdims=True)
            return np.linalg.slogdet(U @ U.T)[1]

        def worse(moved, found, expected):
            return abs(volume(found) - volume(expected))

        for name, f in (
            ("vca", lambda Y: dq.endmembers.vca(key, Y, R)),
            ("atgp", lambda Y: dq.endmembers.atgp(Y, R)),
            ("sivm", lambda Y: dq.endmembers.sivm(Y, R)),
            ("nfindr", lambda Y: dq.endmembers.nfindr(Y, R)),
        ):
            compare(f"{name} R={R}", f, Y, 1e-2, {"shift": shift}, ways=JIT, how=worse)
        compare(f"kkt_residual R={R}", lambda Y: dq.abundances.kkt_residual(Y, E, a, True), Y, 1e-4, ONLY, ways=JIT)
        compare(f"psnr R={R}", lambda v: dq.metrics.psnr(Y, v), Y, 1e-2, ONLY, ways=JIT)
        compare(f"spectral_angle R={R}", lambda v: dq.metrics.spectral_angle(Y, v), Y, 1e-3, ONLY, ways=JIT)
    if "unmix" in groups and R > 1:
        config = dq.Model(gradient=dq.equilibrium.Analytic(), prior="none", constraint=dq.equilibrium.Simplex())
        params = dq.init(key, Y, config, endmembers=E)
        compare(f"unmix R={R}", lambda Y: dq.unmix(params, Y, config)[0].abundances, Y, 2e-3, ONLY, ways=JIT)
print("\n".join(bad))
sys.exit(bool(bad))

"""`unmix` as a part of other people's programs: upstream corrections, flax, optax, scan, checkpoint, export."""

import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic

CONFIG = dq.Model(gradient=dq.equilibrium.Energy(width=8))
BANDS = 40


@pytest.fixture(scope="module")
def scene():
    """Return a noise-free cube, its spectra and abundances."""
    spectra, mix = jax.random.split(jax.random.key(5))
    return synthetic.linear_scene(mix, (8, 9), synthetic.spectra(spectra, 3, BANDS))


def model(scene):
    """Return a model whose network has an effect."""
    key = jax.random.key(1)
    params = dq.init(key, scene.cube, CONFIG, endmembers=scene.endmembers)
    last = params["network"]["net"]["last"]
    last["kernel"] = 0.1 * jax.random.normal(key, last["kernel"].shape)
    params["network"]["energy"]["gain"] = jnp.full(8, 0.05)
    return params


def measured(cube, shift, gain):
    """Return the cube of a sensor with shifted bands (in bands) and a wrong gain."""
    positions = jnp.arange(BANDS, dtype=cube.dtype)
    moved = jax.vmap(lambda y: jnp.interp(positions + shift, positions, y))(cube.reshape(-1, BANDS))
    return gain * moved.reshape(cube.shape)


def test_a_spectral_shift_and_a_gain_upstream_are_found(scene):
    """Known spectra, a sensor that is off: the gradient through `unmix` in the cube sets it right."""
    config = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex())
    params = dq.init(jax.random.key(0), scene.cube, config, endmembers=scene.endmembers)
    seen = measured(scene.cube, 0.6, 1.15)

    def loss(unknown):
        cube = measured(seen, unknown[0], unknown[1])
        estimate, _ = dq.unmix(params, cube, config)
        return jnp.mean(jnp.square(dq.reconstruct(estimate) - cube)[..., 2:-2])

    rule = optax.adam(0.05)

    def step(carry, _):
        unknown, state = carry
        value, gradient = jax.value_and_grad(loss)(unknown)
        with jax.numpy_dtype_promotion("standard"):
            change, state = rule.update(gradient, state)
        return (optax.apply_updates(unknown, change), state), value

    start = jnp.asarray([0.0, 1.0])
    (found, _), values = jax.jit(lambda: jax.lax.scan(step, (start, rule.init(start)), None, length=150))()
    assert values[-1] < 0.05 * values[0]
    np.testing.assert_allclose(found, [-0.6, 1 / 1.15], atol=0.08)


class Unmixing(nn.Module):
    """A flax module that holds endmembers among its own parameters."""

    start: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(self, cube):
        E = self.param("endmembers", lambda key: jnp.asarray(self.start))
        estimate, _ = dq.unmix({"endmembers": E, "network": {}}, cube, dq.Model(gradient=dq.equilibrium.Analytic()))
        return dq.reconstruct(estimate)


def test_inside_a_flax_module_and_an_optax_loop(scene):
    wrong = 0.9 * scene.endmembers + 0.1 * jnp.mean(scene.endmembers, axis=0, keepdims=True)
    module = Unmixing(tuple(map(tuple, np.asarray(wrong).tolist())))
    variables = module.init(jax.random.key(0), scene.cube)
    rule = optax.adam(3e-3)

    def step(carry, _):
        variables, state = carry
        loss = lambda v: jnp.mean(jnp.square(module.apply(v, scene.cube) - scene.cube))  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(variables)
        with jax.numpy_dtype_promotion("standard"):
            change, state = rule.update(gradient, state)
        return (optax.apply_updates(variables, change), state), value

    carry = (variables, rule.init(variables))
    (found, _), values = jax.jit(lambda c: jax.lax.scan(step, c, None, length=60))(carry)
    assert values[-1] < 0.1 * values[0]
    moved = found["params"]["endmembers"] - wrong  # whether nearer to the truth, reconstruction alone does not say
    assert jnp.isfinite(moved).all() and jnp.abs(moved).max() > 0.01


def test_vmap_checkpoint_and_scan_give_the_same_gradient(scene):
    params = model(scene)
    cubes = jnp.stack([scene.cube, 0.8 * scene.cube[::-1]])
    weight = jax.random.normal(jax.random.key(2), (8, 9, 3))

    def loss(params, cube):
        return jnp.sum(weight * dq.unmix(params, cube, CONFIG)[0].abundances)

    def summed(params, how):
        if how == "vmap":
            return jnp.sum(jax.vmap(loss, in_axes=(None, 0))(params, cubes))
        if how == "checkpoint":
            return jnp.sum(jax.vmap(jax.checkpoint(loss), in_axes=(None, 0))(params, cubes))
        return jax.lax.scan(lambda total, cube: (total + loss(params, cube), None), jnp.zeros(()), cubes)[0]

    found = {
        how: jax.jit(jax.grad(lambda p, how=how: summed(p, how)))(params) for how in ("vmap", "checkpoint", "scan")
    }
    for how in ("checkpoint", "scan"):
        for a, b in zip(jax.tree.leaves(found["vmap"]), jax.tree.leaves(found[how]), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3 * float(jnp.abs(a).max()) + 1e-6)


def test_exported_with_symbolic_sides_and_loaded_without_this_package(scene, tmp_path):
    pytest.importorskip("flatbuffers", reason="pip install 'dequnmix-jax[export]'")
    params = model(scene)
    weight = jnp.arange(3.0)[None, None]

    def abundances(cube):
        return dq.unmix(params, cube, CONFIG)[0].abundances

    def gradient(cube):
        return jax.grad(lambda cube: jnp.sum(jnp.square(abundances(cube)) * weight))(cube)

    sides = jax.export.symbolic_shape("h, w, 40")
    for name, function in (("unmix", abundances), ("gradient", gradient)):
        exported = jax.export.export(jax.jit(function))(jax.ShapeDtypeStruct(sides, jnp.float32))
        (tmp_path / name).write_bytes(exported.serialize())
        np.save(tmp_path / f"{name}.npy", jax.jit(function)(scene.cube))
    np.save(tmp_path / "cube.npy", scene.cube)
    script = textwrap.dedent("""
        import sys
        sys.modules["dequnmix_jax"] = None  # an import of it would fail
        import jax, jax.export, numpy as np
        cube = np.load("cube.npy")
        for name in ("unmix", "gradient"):
            found = jax.export.deserialize(open(name, "rb").read()).call(cube)
            want = np.load(name + ".npy")
            assert np.abs(found - want).max() <= 1e-5 * max(1, np.abs(want).max()), name
        """)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The competitors: each obeys its constraints and does what its equations say, and the twin is ours, unrolled."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.baselines import (
    ae_red,
    bundles,
    closed_forms,
    deeptrans,
    denoisers,
    elmm,
    plmm,
    plug_and_play,
    polyhedral,
    snmf_net,
    unrolled,
)
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import fixed_point_map

SHAPE, COUNT, BANDS = (10, 15), 3, 12
SHORT = replace(dq.RECOMMENDED[0], epochs=4)
CONFIG = dq.Model(gradient=dq.equilibrium.Energy(width=2))
SMALL_TRANSFORMER = deeptrans.Settings(patch=2, width=8, heads=2, blocks=1, hidden=4, epochs=3)


@pytest.fixture(scope="module")
def scene():
    spectra = synthetic.spectra(jax.random.key(1), COUNT, BANDS)
    return synthetic.linear_scene(jax.random.key(0), SHAPE, spectra, 25.0, contrast=2.0)


@pytest.fixture(scope="module")
def start(scene):
    return jnp.maximum(dq.endmembers.vca(jax.random.key(3), scene.cube, COUNT), 1e-5)


def methods():
    short = {"config": CONFIG, "schedule": SHORT}
    return [
        closed_forms.VCA_FCLS,
        closed_forms.VCA_SCALED,
        unrolled.unrolled(3, True, **short),
        unrolled.unrolled(3, False, **short),
        plug_and_play.plug_and_play("TV", denoisers.total_variation),
        plug_and_play.plug_and_play("NLM", denoisers.non_local_means, plug_and_play.ESTIMATED),
        deeptrans.deeptrans(SMALL_TRANSFORMER),
        ae_red.ae_red(ae_red.Settings(widths=(6, 4), rounds=3, steps=3)),
        snmf_net.snmf_net(snmf_net.Settings(layers=3, steps=5, pixels=60)),
        polyhedral.polyhedral(polyhedral.Settings(components=4, starts=2, steps=5, sweeps=5)),
    ]


def tested_apart():
    return [  # `test_spectral_variability` has their equations
        elmm.elmm(elmm.Settings(turns=2, steps=3)),
        plmm.plmm(plmm.Settings(steps=2)),
        bundles.bundles(bundles.Settings(subsets=2, steps=5)),
    ]


SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in tested_apart()]


@pytest.mark.parametrize("method", [*methods(), *SLOW], ids=lambda method: method.name)
def test_every_competitor_obeys_the_constraints(method, scene, start):
    """Two scenes at once, as the tables run them."""
    found = jax.jit(jax.vmap(method.estimate, in_axes=(0, None, 0)))(
        jax.random.split(jax.random.key(0)), scene.cube, jnp.stack([start, 1.1 * start])
    )
    assert found.abundances.shape == (2, *SHAPE, COUNT) and found.endmembers.shape == (2, COUNT, BANDS)
    assert float(jnp.min(found.abundances)) >= 0 and float(jnp.min(found.endmembers)) >= 0
    np.testing.assert_allclose(jnp.sum(found.abundances, axis=-1), 1, atol=1e-5)


def test_a_deep_tied_twin_is_the_equilibrium(scene, start):
    params = dq.init(jax.random.key(2), scene.cube, CONFIG, endmembers=start)
    params["network"]["energy"]["gain"] = params["network"]["energy"]["gain"] + 0.3
    ours, parts = jax.jit(dq.training.loss, static_argnums=2)(params, scene.cube, CONFIG, dq.RECOMMENDED[1])
    twin, same = jax.jit(unrolled.loss, static_argnums=(2, 4, 5))(
        params, scene.cube, CONFIG, dq.RECOMMENDED[1], 200, True
    )
    np.testing.assert_allclose(twin, ours, rtol=1e-4)
    np.testing.assert_allclose(same["state"], parts["state"], atol=2e-3 * float(jnp.max(parts["state"])))


def test_an_untied_twin_with_equal_layers_is_the_tied_one(scene, start):
    params = dq.init(jax.random.key(2), scene.cube, CONFIG, endmembers=start)
    params["network"]["energy"]["gain"] = params["network"]["energy"]["gain"] + 0.3
    layers = {**params, "network": jax.tree.map(lambda x: jnp.stack([x] * 3), params["network"])}
    forward = jax.jit(unrolled.forward, static_argnums=(2, 3, 4))
    tied, _ = forward(params, scene.cube, CONFIG, 3, True)
    untied, _ = forward(layers, scene.cube, CONFIG, 3, False)
    np.testing.assert_allclose(untied, tied, atol=1e-5 * float(jnp.max(tied)))
    once = fixed_point_map.state_map(CONFIG)(
        fixed_point_map.factor(params, scene.cube, CONFIG), fixed_point_map.initial_state(params, scene.cube, CONFIG)
    )
    np.testing.assert_allclose(unrolled.forward(params, scene.cube, CONFIG, 1, True)[0], once, rtol=1e-6)


def test_the_transformer_is_the_sum_of_its_parts(scene, start):
    """Attention by hand, and no chance in evaluation."""
    settings = SMALL_TRANSFORMER
    cube = jnp.pad(scene.cube, ((0, 0), (0, 1), (0, 0)), mode="symmetric")
    weights = deeptrans.init(jax.random.key(0), cube.shape, start, settings)
    block, x = weights["blocks"][0], jax.random.normal(jax.random.key(1), (7, 8 * COUNT))
    q, k, v = (np.asarray(x @ block[name]["w"]) for name in ("query", "key", "value"))
    half = 8 * COUNT // 2
    expected = []
    for head in (slice(0, half), slice(half, None)):
        logits = k[:, head] @ q[0, head] / half**0.5
        share = np.exp(logits - logits.max())
        expected.append(share @ v[:, head] / share.sum())
    expected = np.concatenate(expected) @ np.asarray(block["out"]["w"]) + np.asarray(block["out"]["b"])
    np.testing.assert_allclose(deeptrans._attend(block, x, 2)[0], expected, rtol=1e-4, atol=1e-5)
    running = [(jnp.zeros_like(e["b"]), jnp.ones_like(e["b"])) for e in weights["encoder"]]
    value = jax.jit(deeptrans.loss, static_argnums=2)
    drawn = [value(weights, cube, settings, running, jax.random.key(i)) for i in (0, 0, 1)]
    assert drawn[0][0] == drawn[1][0] != drawn[2][0]
    (mean, variance), *_ = drawn[0][1]
    first = jnp.matmul(cube, weights["encoder"][0]["w"]) + weights["encoder"][0]["b"][None, None]
    np.testing.assert_allclose(mean, 0.9 * jnp.mean(first, axis=(0, 1)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(variance, 0.1 + 0.9 * jnp.var(first, axis=(0, 1), ddof=1), rtol=1e-3)


def test_learned_competitors_lower_their_objectives(scene, start):
    """More epochs fit the scene better than few."""

    def misfit(method):
        found = jax.jit(method.estimate)(jax.random.key(0), scene.cube, 1.3 * start)
        return float(jnp.mean(jnp.square(found.abundances @ found.endmembers - scene.cube)))

    few, many = (snmf_net.Settings(layers=3, steps=n, pixels=60) for n in (0, 60))
    assert misfit(snmf_net.snmf_net(many)) < misfit(snmf_net.snmf_net(few))
    few, many = (ae_red.Settings(widths=(6, 4), rounds=n, steps=10, rate=1e-2) for n in (1, 30))
    assert misfit(ae_red.ae_red(many)) < misfit(ae_red.ae_red(few))


def test_lp_thresholding_minimises_its_penalty():
    """Against the least of |z - x|^2 / 2 + theta z^p on a fine grid, to first order in theta."""
    theta, p = 0.02, 0.5
    z = np.linspace(1e-6, 1.5, 200_001)
    for x in (0.05, 0.1, 0.5, 1.0):
        cost = 0.5 * (z - x) ** 2 + theta * z**p
        best = z[np.argmin(cost)] if cost.min() < 0.5 * x**2 else 0.0
        found = float(snmf_net.threshold(jnp.float32(x), jnp.float32(theta), jnp.float32(p)))
        np.testing.assert_allclose(found, best, atol=2e-3)
    assert float(snmf_net.threshold(jnp.float32(-0.5), jnp.float32(theta), jnp.float32(p))) == 0


def test_the_filters_of_snmf_net_start_at_least_coherence(start):
    A = jnp.full((2, 2, COUNT), 1 / COUNT)
    weights = snmf_net.init(start, A, snmf_net.Settings(layers=2))
    np.testing.assert_allclose(start @ weights["filters"][0], np.eye(COUNT), atol=1e-3)


def test_the_augmented_objective_pulls_towards_the_denoised_maps(scene, start):
    weights = ae_red.init(jax.random.key(0), BANDS, start, ae_red.Settings(widths=(6, 4)))
    A = ae_red.encode(weights, scene.cube)
    alone = ae_red.augmented(weights, scene.cube, A, jnp.float32(3.0))
    apart = ae_red.augmented(weights, scene.cube, A + 0.1, jnp.float32(3.0))
    np.testing.assert_allclose(apart - alone, 3.0 * COUNT * 0.01 / 2, rtol=1e-3)

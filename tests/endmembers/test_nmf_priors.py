"""Factorisations with a quadratic prior on the spectra and with a graph of the pixels: stationary, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.endmembers import nmf_graph, nmf_quadratic
from tests.endmembers.test_nmf import misfit, optimality, scene, wrong_start

TIGHT = dq.endmembers.Factoring(tolerance=1e-8, max_steps=5000)


@pytest.mark.parametrize(
    "prior", ["variation", *(pytest.param(w, marks=pytest.mark.slow) for w in ("boundary", "centre"))]
)
def test_quadratic_priors_are_stationary(x64, prior):
    Y, E, _ = scene(noise=0.02)
    start, weight = wrong_start(E), 0.02
    found, a, descent = dq.endmembers.qmv_nmf(None, Y, endmembers=start, prior=prior, weight=weight, solver=TIGHT)
    assert descent.converged
    np.testing.assert_allclose(a.sum(-1), 1, atol=1e-9)
    np.testing.assert_allclose(a, dq.abundances.fcls(Y, found), atol=1e-6)
    unit = start.max()
    y, e, x = Y.reshape(-1, 15) / unit, found / unit, a.reshape(-1, 3)
    beta = weight * len(y) / 3

    def value(e):
        size = {
            "boundary": lambda: jnp.sum((e - start / unit) ** 2),
            "centre": lambda: jnp.sum((e - y.mean(0)[None]) ** 2),
            "variation": lambda: sum(jnp.sum((e[i] - e[j]) ** 2) for i in range(3) for j in range(i)),
        }[prior]()
        return 0.5 * jnp.sum((y - x @ e) ** 2) + beta / 2 * size

    np.testing.assert_allclose(descent.objective[-1], value(e), rtol=1e-8)
    assert optimality(e, jax.grad(value)(e)) < 1e-5
    history = np.asarray(descent.objective)
    assert np.all(np.diff(history) <= 1e-9 * history[0])


def test_the_rule_takes_the_largest_weight_that_the_noise_allows():
    """Nothing is pulled where there is no noise, and more where there is more; the weight given is the weight used."""
    found = {}
    for noise in (0.0, 0.05):
        Y, E, _ = (x.astype("f") for x in scene(noise=noise))
        start = wrong_start(E).astype("f")
        free, ruled = (
            dq.endmembers.qmv_nmf(None, Y, endmembers=start, weight=w) for w in (nmf_quadratic._WEIGHTS[0], None)
        )
        apart = [
            float(jnp.sum((e[0] - e[1]) ** 2 + (e[0] - e[2]) ** 2 + (e[1] - e[2]) ** 2)) for e, *_ in (free, ruled)
        ]
        found[noise] = apart[1] / apart[0]
    assert found[0.05] < 0.99 and found[0.05] < found[0.0] <= 1 + 1e-5


def test_the_graph_is_that_of_all_distances(x64):
    rng = np.random.default_rng(0)
    Y, valid = rng.uniform(size=(30, 4)), np.arange(30) != 7
    graph = nmf_graph.graph(jnp.asarray(Y), jnp.asarray(valid), 3)
    square = np.sum((Y[:, None] - Y[None]) ** 2, axis=-1)
    square[:, 7] = np.inf
    np.fill_diagonal(square, np.inf)
    near = np.argsort(square, axis=1)[:, :3]
    kept = [n for n in range(30) if n != 7]
    width = np.mean([square[n, m] for n in kept for m in near[n]])
    W = np.zeros((30, 30))
    for n in kept:
        for m in near[n]:
            W[n, m] += 0.5 * np.exp(-square[n, m] / width)
    W = W + W.T
    A = rng.uniform(size=(30, 2))
    np.testing.assert_allclose(graph.product(jnp.asarray(A)), W @ A, atol=1e-12)
    np.testing.assert_allclose(graph.degrees[:, 0], W.sum(1), atol=1e-12)


def test_a_graph_joins_similar_pixels_and_without_it_is_l_half(x64):
    Y, E, _ = scene(noise=0.02)
    start, few = wrong_start(E), dq.endmembers.Factoring(tolerance=0.0, max_steps=60)
    run = lambda mu: dq.endmembers.gl_nmf(None, Y, endmembers=start, weight=0.05, smoothness=mu, solver=few)  # noqa: E731
    plain = dq.endmembers.l_half_nmf(None, Y, endmembers=start, weight=0.05, solver=few)
    for x, y in zip(run(0.0)[:2], plain[:2], strict=True):
        np.testing.assert_allclose(x, y, atol=1e-10)
    found, a, descent = run(2.0)
    history = np.asarray(descent.objective)
    assert np.all(np.diff(history) <= 1e-9 * history[0])
    unit = start.max()
    y = Y.reshape(-1, 15) / unit
    graph = nmf_graph.graph(jnp.asarray(y), jnp.ones(len(y), bool), 5)
    W = np.asarray(graph.product(jnp.eye(len(y))))
    level = 0.05 * ((10 - np.abs(y).sum(0) / np.linalg.norm(y, axis=0)) / np.sqrt(99)).sum() / np.sqrt(15)

    def rough(x):
        return 0.5 * np.sum(W * np.sum((x[:, None] - x[None]) ** 2, axis=-1)) / 1

    x = np.asarray(a.reshape(-1, 3))
    total = misfit(found / unit, x, y) + level * np.sqrt(x).sum() + 0.5 * 2.0 * rough(x)
    np.testing.assert_allclose(history[-1], total, rtol=1e-8)
    assert rough(x) < 0.9 * rough(np.asarray(plain[1].reshape(-1, 3)))


def test_bad_input_is_named():
    Y, E, _ = (x.astype("f") for x in scene())
    with pytest.raises(dq.InputError, match="expected boundary, centre, variation"):
        dq.endmembers.qmv_nmf(None, Y, endmembers=E, prior="volume")
    with pytest.raises(dq.InputError, match="expected 1 to 99"):
        dq.endmembers.gl_nmf(None, Y, endmembers=E, neighbours=100)
    with pytest.raises(dq.InputError, match="smoothness is -1"):
        dq.endmembers.gl_nmf(None, Y, endmembers=E, smoothness=-1)

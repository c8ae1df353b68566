"""Competitors whose spectra vary: each block of ELMM and PLMM at its minimum, and the norms of bundles."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from dequnmix_jax.abundances import fcls
from dequnmix_jax.baselines import bundles, elmm, plmm

H, W, R, B = 4, 5, 3, 9


@pytest.fixture
def problem(x64):
    """Return a cube with a brightness of each material in each pixel, its spectra, and its fractions."""
    rng = np.random.default_rng(0)
    E = rng.uniform(0.2, 0.8, (R, B))
    A = rng.dirichlet(np.ones(R), (H, W))
    scales = rng.uniform(0.8, 1.2, (H, W, R))
    cube = (scales * A) @ E + 0.01 * rng.normal(size=(H, W, B))
    return tuple(jnp.asarray(x) for x in (cube, E, A))


def test_the_blocks_of_elmm_are_at_their_minimum(problem):
    cube, E, _ = problem
    settings = elmm.Settings(steps=2000, inner=1e-9)
    state = elmm.begin(cube, E)
    values = [elmm.objective(cube, E, state, settings)]
    turn = jax.jit(elmm.turn, static_argnums=3)
    for _ in range(3):
        state = turn(cube, E, state, settings)
        values.append(elmm.objective(cube, E, state, settings))
    assert all(after < before for before, after in pairwise(values))
    spectra = state._replace(spectra=elmm.pixel_spectra(cube, E, state, settings.spectra))
    slope = jax.grad(lambda s: elmm.objective(cube, E, s, settings))
    np.testing.assert_allclose(slope(spectra).spectra[spectra.spectra > 1e-6], 0, atol=1e-10)
    np.testing.assert_allclose(slope(state).scales, 0, atol=1e-10)  # psi is the last block of a turn
    # Weak ties to E: psi follows the brightness of each material.
    assert float(jnp.std(state.scales)) > 0.01
    free = elmm.abundances(
        cube, state.spectra * 0 + E[None, None], state.abundances, elmm.Settings(0, 0, 0, 1, 0, 5000, 1e-10)
    )
    np.testing.assert_allclose(free, fcls(cube, E), atol=1e-6)


def test_the_blocks_of_plmm_are_at_their_minimum(problem):
    cube, E, _ = problem
    state = plmm.begin(cube, E)
    weights = plmm.weigh(cube, state, plmm.Settings())
    misfit, rough, apart, changes = plmm.terms(cube, state)
    np.testing.assert_allclose([weights.smoothness * rough, weights.distance * apart], 0.1 * misfit, rtol=1e-6)
    pairs = sum(float(jnp.sum((E[i] - E[j]) ** 2)) for i in range(R) for j in range(i))
    np.testing.assert_allclose(apart, pairs, rtol=1e-12)
    assert changes == 0
    values = [plmm.objective(cube, state, weights)]
    step = jax.jit(plmm.step)
    for _ in range(60):
        state = step(cube, state, weights)
        values.append(plmm.objective(cube, state, weights))
    assert values[0] > values[1] > values[5] > values[-1]
    slope = jax.grad(lambda s: plmm.objective(cube, s, weights))
    found = state._replace(changes=plmm.perturbations(cube, state, weights.perturbation))
    np.testing.assert_allclose(slope(found).changes, 0, atol=1e-10)
    found = state._replace(endmembers=plmm.endmembers(cube, state, weights.distance))
    np.testing.assert_allclose(slope(found).endmembers, 0, atol=1e-4)  # its ridge is 1e-6
    g = slope(state).abundances
    level = jnp.sum(state.abundances * g, axis=-1, keepdims=True)
    off = jnp.where(state.abundances > 0, jnp.abs(g - level), jnp.maximum(level - g, 0))
    assert float(jnp.max(off)) < 0.05 * float(jnp.max(jnp.abs(slope(plmm.begin(cube, E)).abundances)))


@pytest.mark.parametrize("norm", [bundles.GROUP, bundles.ELITIST])
def test_norms_of_bundles(x64, norm):
    """The shrinkage minimises its penalty, and a pixel the whole objective."""
    rng = np.random.default_rng(3)

    def penalty(x):
        each = np.linalg.norm(x, axis=0) if norm == bundles.GROUP else 0.5 * np.sum(x, axis=0) ** 2
        return each.sum()

    v = rng.normal(size=(4, 3)) + 0.3
    found = np.asarray(bundles.shrunk(jnp.asarray(v), jnp.asarray(0.7), norm))
    cost = lambda x: 0.5 * np.sum((x - v) ** 2) + 0.7 * penalty(x)  # noqa: E731
    near = [np.maximum(found + step, 0) for step in 1e-3 * rng.normal(size=(300, 4, 3))]
    assert all(cost(found) <= cost(x) for x in near) and (found == 0).any() and (found > 0).any()

    Q, weight = rng.uniform(0.1, 0.9, (2, 2, 8)), 0.05
    y = rng.dirichlet(np.ones(4)) @ Q.reshape(4, 8) + 0.02 * rng.normal(size=8)
    settings = bundles.Settings(norm, weight, penalty=1.0, steps=20_000, tolerance=1e-10)
    x = np.asarray(bundles.fractions(jnp.asarray(y)[None, None], jnp.asarray(Q), settings))[0, 0]
    np.testing.assert_allclose(x.sum(), 1, atol=1e-9)

    def whole(z):
        return 0.5 * np.sum((y - z @ Q.reshape(4, 8)) ** 2) + weight * penalty(z.reshape(2, 2))

    best = min(
        minimize(whole, start, bounds=[(1e-12, 1)] * 4, method="SLSQP", options={"ftol": 1e-14},
                 constraints={"type": "eq", "fun": lambda z: z.sum() - 1}).fun
        for start in rng.dirichlet(np.ones(4), 5)
    )  # fmt: skip
    assert whole(x.ravel()) <= best + 1e-7


def test_the_library_of_bundles_has_the_order_of_the_start(x64):
    """Pure pixels everywhere: every subset finds the spectra of the start, class by class."""
    rng = np.random.default_rng(4)
    E = rng.uniform(0.2, 0.8, (R, B))
    A = np.eye(R)[rng.integers(0, R, (12, 10))] * 0.98 + 0.02 / R
    found = bundles.library(jax.random.key(0), jnp.asarray(A @ E), jnp.asarray(E), bundles.Settings(subsets=2))
    np.testing.assert_allclose(found, np.broadcast_to((0.98 * np.eye(R) + 0.02 / R) @ E, (2, R, B)), atol=1e-6)

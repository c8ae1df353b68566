"""The fast search, block by block, against the slow one; and the repair of pixels that fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.abundances import active_set, enumeration, exact, pivoting, splitting


def problem(count, pixels, seed=0):
    draw = np.random.default_rng(seed)
    P = draw.normal(size=(count, count + 1)).astype("f")
    P = P - P.mean(0)
    P = P / np.linalg.norm(P, axis=1).max()
    t = draw.dirichlet(np.full(count, 0.4), size=pixels) @ P + 0.1 * draw.normal(size=(pixels, count + 1))
    return P, t.astype("f")


@pytest.mark.parametrize("sum_to_one", [True, False])
@pytest.mark.parametrize("count", [3, 8])
def test_blocks_and_repair(count, sum_to_one, monkeypatch):
    """More pixels than a block, NaN in one of them, and all pixels refused: the results do not change."""
    P, t = problem(count, 530)
    t[517, 0] = np.nan
    Q = np.eye(count + 1, dtype="f")
    x = exact.solve(t, None, Q, P, sum_to_one)
    assert np.isnan(x[517]).all() and np.isnan(x).sum() == count
    slow = active_set.active_set(P, jnp.asarray(t), sum_to_one)
    np.testing.assert_allclose(x, slow, atol=1e-5)
    assert 0.1 < np.mean(np.asarray(x) == 0) < 0.9
    # A search that finds nothing, and says so: every pixel is repaired, handful by handful.
    nothing = lambda points, tab, t, sum_to_one: (0.0 * t[:count], jnp.zeros(t.shape[1], bool))  # noqa: E731
    monkeypatch.setattr(exact, "_attempt", nothing)
    repaired = exact.solve.__wrapped__(jnp.asarray(t), None, Q, jnp.asarray(P), sum_to_one)
    np.testing.assert_allclose(repaired, slow, atol=5e-6)


def test_a_dependent_column_takes_no_part():
    """Of a column and its multiple the first explains everything; rounding does not select the second."""
    v = np.random.default_rng(0).normal(size=(4, 1, 20)).astype("f")
    factor = np.linspace(0.3, 3.0, 20, dtype="f")[None, None]
    z, r = active_set.least_squares(
        jnp.asarray(np.concatenate([v, v * factor], 1)), 2 * v[:, 0], jnp.ones((2, 20), bool)
    )
    np.testing.assert_allclose(z, np.repeat([[2.0], [0.0]], 20, axis=1), atol=1e-5)
    np.testing.assert_allclose(r, 0, atol=1e-5)


def test_a_wrong_answer_of_the_search_is_noticed(monkeypatch):
    """A search that returns 1 / R for every pixel as solved: the optimality conditions refuse it."""
    P, t = problem(3, 40)
    wrong = lambda tab, t: (jnp.full((3, t.shape[1]), 1 / 3), jnp.zeros((3, t.shape[0], t.shape[1])))  # noqa: E731
    monkeypatch.setattr(enumeration, "search", wrong)
    found = exact.solve.__wrapped__(jnp.asarray(t), None, np.eye(4, dtype="f"), jnp.asarray(P), True)
    np.testing.assert_allclose(found, active_set.active_set(P, jnp.asarray(t), True), atol=1e-5)


@pytest.mark.parametrize("sum_to_one", [True, False])
def test_both_searches_agree_and_need_no_repair(sum_to_one):
    P, t = problem(5, 200)
    by_table = jax.jit(lambda P, t: enumeration.search(enumeration.table(P, sum_to_one), t)[0])(P, t.T)
    by_pivots = jax.jit(lambda P, t: pivoting.search(P, t, sum_to_one)[0])(P, t.T)
    slow = active_set.active_set(P, jnp.asarray(t), sum_to_one).T
    np.testing.assert_allclose(by_table, slow, atol=3e-5)
    np.testing.assert_allclose(by_pivots, slow, atol=3e-5)


def many(count, pixels, sum_to_one):
    """Draw spectra that wander, two of them equal, and noisy mixtures, in coordinates as `exact.solve` gets them."""
    draw = np.random.default_rng(0)
    E = np.abs(np.cumsum(draw.normal(size=(count, 40)), axis=1)) + 0.5
    E[5] = E[2]
    Y = draw.dirichlet(np.full(count, 0.2), size=pixels) @ E + 0.1 * draw.normal(size=(pixels, 40))
    if not sum_to_one:
        length = np.linalg.norm(E, axis=1, keepdims=True)
        return (E / length).astype("f"), (Y / np.linalg.norm(Y, axis=1, keepdims=True)).astype("f")
    P = E - E.mean(0)
    scale = np.linalg.norm(P, axis=1).max()
    return (P / scale).astype("f"), ((Y - E.mean(0)) / scale).astype("f")


@pytest.mark.parametrize("sum_to_one", [True, False])
def test_many_endmembers_need_rounds_and_no_repair(sum_to_one, monkeypatch):
    """More pixels than a block, most without proof in a short first round; NaN in a pixel, and equal endmembers."""
    P, t = many(18, 300, sum_to_one)
    t[7, 0] = np.nan
    slow = np.array(active_set.active_set(P, jnp.asarray(t), sum_to_one))
    shares, check = [], exact._check

    def noted(points, t, x, sum_to_one, inside):
        x, proved = check(points, t, x, sum_to_one, inside)
        jax.debug.callback(lambda proved: shares.append(np.mean(proved)), proved)
        return x, proved

    no_repair = lambda points, targets, sum_to_one: jnp.full((targets.shape[0], 18), -1.0)  # noqa: E731
    monkeypatch.setattr(exact, "active_set", no_repair)
    monkeypatch.setattr(exact, "_check", noted)
    monkeypatch.setattr(exact, "_ROUNDS", ((4, 4), (60, 40), (1000, 90)))
    x = exact.solve.__wrapped__(jnp.asarray(t), None, jnp.eye(40), jnp.asarray(P), sum_to_one)
    jax.effects_barrier()
    assert shares[0] < 0.5 and shares[-1] > 0.9 and len(shares) > 4
    # The first of equal endmembers gets their share.
    slow[:, 2] += slow[:, 5]
    slow[:, 5] *= 0.0
    np.testing.assert_allclose(x, slow, atol=1e-4)
    assert np.isnan(x[7]).all() and np.isnan(x).sum() == 18


def test_a_wrong_answer_of_splitting_is_repaired(monkeypatch):
    """No support, or all of them alike: without a proof the slow search answers, in the last round too."""
    P, t = many(18, 70, True)
    slow = active_set.active_set(P, jnp.asarray(t), True)
    for wrong in (0.0, 1 / 18):
        search = lambda tab, points, t, *rest, wrong=wrong: jnp.full((18, t.shape[1]), wrong)  # noqa: E731
        monkeypatch.setattr(splitting, "search", search)
        found = exact.solve.__wrapped__(jnp.asarray(t), None, jnp.eye(40), jnp.asarray(P), True)
        np.testing.assert_allclose(found, slow, atol=1e-6)

"""The learned convex prior: its energy, its certified contraction, its gradient, and what it does to maps."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances import learned_smoothing as ls
from dequnmix_jax.abundances import map_statistics
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.mixing import linear_mix, project_simplex
from dequnmix_jax.solvers.config import Adjoint, Solver

SHAPE = (22, 24)
look = jax.jit(ls.look)
TIGHT = Solver(tolerance=1e-6, max_steps=500)


@pytest.fixture(scope="module")
def maps():
    """Smooth maps (22, 24, 3), the same with errors of 0.1, and halves with as much noise that is independent."""
    A = synthetic.abundance_field(jax.random.key(3), SHAPE, 3, length=6.0, contrast=0.6)
    noise = 0.1 * jax.random.normal(jax.random.key(4), (2, *A.shape))
    noisy = [project_simplex(A + n) for n in ((noise[0] + noise[1]) / 2**0.5, 2**0.5 * noise[0], 2**0.5 * noise[1])]
    return A, *noisy


@pytest.fixture(scope="module")
def prior(maps):
    """Strong enough to bend: the weights at the start of training, eight times as strong."""
    _, noisy, even, odd = maps
    made = ls.assemble(ls.init_weights(jax.random.key(0)), *look(noisy, (even - odd) / 2, jnp.ones(SHAPE, bool)))
    return made._replace(strength=8 * made.strength)


def energy(x, A, valid, prior):
    """Return the energy of the docstring by sums over windows, in NumPy."""
    V, w, delta = np.asarray(prior.directions), np.asarray(prior.filters, float), np.asarray(prior.bend, float)
    u0 = np.asarray(A, float) @ V
    u = u0 + x
    total = 0.5 * np.sum((x * np.asarray(valid)[..., None]) ** 2)
    for i in range(SHAPE[0] - 4):
        for j in range(SHAPE[1] - 4):
            if valid[i : i + 5, j : j + 5].all():
                t = np.einsum("hwf,hwd->df", w, u[i : i + 5, j : j + 5])
                total += np.sum(np.asarray(prior.strength) * delta**2 * (np.sqrt(1 + (t / delta) ** 2) - 1))
    return total


def test_the_answer_is_the_minimum_of_the_energy(maps, prior):
    A = maps[1]
    valid = np.ones(SHAPE, bool)
    valid[8, 9] = valid[0, :4] = False
    A = jnp.where(valid[..., None], A, 0)
    moved = ls.correction(A, jnp.asarray(valid), prior, TIGHT)
    x = np.asarray(moved, float) @ np.asarray(prior.directions, float)
    least = energy(x, A, valid, prior)
    assert least < 0.9 * energy(np.zeros_like(x), A, valid, prior)
    draw = np.random.default_rng(0)
    for size in (1e-2, 1e-1):
        step = size * draw.standard_normal(x.shape) * valid[..., None]
        # 1-strongly convex: beyond the minimum by at least half the square of the step.
        assert energy(x + step, A, valid, prior) >= least + 0.5 * np.sum(step**2) * (1 - 1e-2)
    assert np.abs(np.asarray(moved)[~valid]).max() == 0


def test_the_step_contracts_as_certified(maps, prior):
    """Two states come nearer by the factor L / (2 + L) or more, with masks too; without, near the bound."""
    A = maps[1]
    rates = np.asarray(ls.contraction(prior))
    assert (rates > 0.5).all() and (rates < 1).all()
    draw = jax.random.key(1)
    for share in (0.0, 0.05):
        valid = jax.random.uniform(jax.random.key(2), SHAPE) >= share
        flat = prior._replace(bend=jnp.full(ls.FILTERS, 1e6))  # the largest curvature: no bend
        theta = ls.terms(A, valid, flat)
        x = jax.random.normal(draw, (2, SHAPE[0], SHAPE[1], 1))

        def difference(y, theta=theta):  # linear without a bend
            return ls.descend(theta, y) - ls.descend(theta, jnp.zeros_like(y))

        for _ in range(60):  # the power method, on the map's square
            x = difference(difference(x))
            x = x / jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2, 3), keepdims=True))
        norm = np.sqrt(np.sum(np.square(np.asarray(difference(x))), axis=(1, 2, 3)))
        assert (norm <= rates * (1 + 1e-5)).all()
        if not share:
            bound, found = 2 * rates / (1 - rates), 2 * norm / (1 - norm)
            assert (found > 0.7 * bound).all()


def test_the_gradient_is_that_of_the_path_and_of_differences(maps):
    """Implicit, unrolled, and central differences in one weight of each kind."""
    A, noisy, even, odd = maps
    weights = ls.init_weights(jax.random.key(0))
    valid = jnp.ones(SHAPE, bool)
    parts = look(noisy, (even - odd) / 2, valid)

    def implicit(weights):
        made = ls.correction(noisy, valid, ls.assemble(weights, *parts), TIGHT, Adjoint(tolerance=1e-6))
        return jnp.sum(jnp.square(noisy + made - A))

    def unrolled(weights):
        prior = ls.assemble(weights, *parts)
        theta = ls.terms(noisy, valid, prior)
        x, _ = jax.lax.scan(lambda x, _: (ls.descend(theta, x), None), jnp.zeros((2, *SHAPE, 1)), None, length=60)
        made = jnp.moveaxis(x[..., 0], 0, -1) @ prior.back
        return jnp.sum(jnp.square(noisy + made - A))

    value, by_theorem = jax.jit(jax.value_and_grad(implicit))(weights)
    by_path = jax.jit(jax.grad(unrolled))(weights)
    for name, a, b in zip(weights._fields, by_theorem, by_path, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * float(jnp.max(jnp.abs(b))), err_msg=name)
    direction = jax.tree.map(lambda g: g / jnp.sqrt(jnp.sum(jnp.square(g))), by_theorem)
    ahead, behind = (
        float(jax.jit(implicit)(jax.tree.map(lambda w, d, e=e: w + e * d, weights, direction))) for e in (1e-2, -1e-2)
    )
    slope = sum(float(jnp.sum(g * d)) for g, d in zip(by_theorem, direction, strict=True))
    assert (ahead - behind) / 2e-2 == pytest.approx(slope, rel=2e-2)
    assert float(value) < float(jnp.sum(jnp.square(noisy - A)))


def test_order_and_scale_of_what_it_sees_do_not_matter(maps):
    """Another order of endmembers gives the same maps in that order."""
    _, noisy, even, odd = maps
    order = jnp.asarray([2, 0, 1])
    found = dq.abundances.learned_smoother(noisy, even, odd)
    turned = dq.abundances.learned_smoother(noisy[..., order], even[..., order], odd[..., order])
    np.testing.assert_allclose(
        dq.abundances.smooth_learned(noisy, found)[..., order],
        dq.abundances.smooth_learned(noisy[..., order], turned),
        atol=2e-4,
    )


def test_it_removes_noise_and_leaves_what_has_none(maps):
    A, noisy, even, odd = maps
    found = dq.abundances.learned_smoother(noisy, even, odd)
    smoothed = dq.abundances.smooth_learned(noisy, found)
    error = [float(jnp.sqrt(jnp.mean(jnp.square(x - A)))) for x in (noisy, dq.abundances.smooth(noisy), smoothed)]
    assert error[2] < 0.75 * error[0] and error[2] < error[1]
    assert float(smoothed.min()) >= 0
    np.testing.assert_allclose(jnp.sum(smoothed, axis=-1), 1, atol=1e-5)
    exact = dq.abundances.learned_smoother(A, A, A)
    assert float(jnp.max(jnp.abs(exact.strength))) == 0
    np.testing.assert_array_equal(dq.abundances.smooth_learned(A, exact), A)


def test_two_maps_and_constant_maps(maps):
    two = [jnp.stack([x[..., 0], 1 - x[..., 0]], axis=-1) for x in maps]
    found = dq.abundances.learned_smoother(*two[1:])
    assert found.directions.shape == (2, 1) and float(jnp.max(found.strength)) > 0
    smoothed = dq.abundances.smooth_learned(two[1], found)
    np.testing.assert_allclose(jnp.sum(smoothed, axis=-1), 1, atol=1e-5)
    assert float(jnp.mean(jnp.square(smoothed - two[0]))) < float(jnp.mean(jnp.square(two[1] - two[0])))
    flat = jnp.full((*SHAPE, 2), 0.5)
    still = dq.abundances.learned_smoother(flat, flat, flat)
    assert float(jnp.max(still.strength)) == 0
    np.testing.assert_array_equal(dq.abundances.smooth_learned(flat, still), flat)
    few = np.zeros(SHAPE, bool)
    few[4:10, 4:10] = True  # fewer than 100 pairs
    assert float(jnp.max(dq.abundances.learned_smoother(*two[1:], mask=few).strength)) == 0


def test_masked_pixels_have_no_influence(maps):
    _, noisy, even, odd = maps
    mask = np.ones(SHAPE, bool)
    mask[3:5, 10:13] = mask[15, :] = False
    wrong = [jnp.where(mask[..., None], x, jnp.asarray([jnp.nan, 7.0, -3.0])) for x in (noisy, even, odd)]
    priors = [dq.abundances.learned_smoother(*x, mask=mask) for x in ((noisy, even, odd), wrong)]
    jax.tree.map(np.testing.assert_array_equal, *priors)
    smoothed = [dq.abundances.smooth_learned(x, p, mask=mask) for x, p in zip((noisy, wrong[0]), priors, strict=True)]
    np.testing.assert_array_equal(*smoothed)
    assert float(jnp.max(jnp.abs(smoothed[0][~mask]))) == 0
    # Between the masked row and the border below, six rows of pixels, are whole windows of valid pixels only.
    alone = dq.abundances.smooth_learned(noisy[16:], priors[0])
    np.testing.assert_allclose(smoothed[0][16:], alone, atol=2e-4)


def matern(key, side=32, count=4, length=1.5):
    """Return maps of rough fields (Matern, nu = 1/2: covariance exp(-distance / length)) on the simplex."""
    rows, columns = (x.reshape(-1) for x in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    distance = np.hypot(rows[:, None] - rows[None], columns[:, None] - columns[None])
    root = np.linalg.cholesky(np.exp(-distance / length) + 1e-8 * np.eye(side * side))
    field = (root @ np.random.default_rng(key).standard_normal((side * side, count))).reshape(side, side, count)
    return project_simplex(jnp.asarray(1 / count + 0.25 * field, jnp.float32))


@pytest.mark.parametrize(("snr", "harm"), [(20.0, 1.2), (30.0, 2.0), (40.0, 5.0)])
def test_fine_texture_is_kept(snr, harm):
    """True spectra: `smooth` multiplies the error by `harm` and more, the learned prior does not raise it."""
    A = matern(5)
    E = synthetic.spectra(jax.random.key(6), 4, 48)
    cube = linear_mix(A, E)
    sigma = jnp.sqrt(jnp.mean(jnp.square(cube))) * 10 ** (-snr / 20)
    cube = cube + sigma * jax.random.normal(jax.random.key(7), cube.shape)
    whole, even, odd = (
        dq.abundances.fcls(cube[..., s], E[:, s]) for s in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    raw, old, new = (
        float(dq.metrics.armse(x, A))
        for x in (
            whole,
            dq.abundances.smooth(whole),
            dq.abundances.smooth_learned(whole, dq.abundances.learned_smoother(whole, even, odd)),
        )
    )
    assert old > harm * raw
    assert new <= 1.02 * raw


def test_statistics_have_no_size(maps):
    """Four copies of a scene side by side, and maps in other units along their directions, look the same."""
    _, noisy, even, odd = maps
    valid = jnp.ones(SHAPE, bool)
    seen = look(noisy, (even - odd) / 2, valid)[0]
    assert seen.shape == (2, map_statistics.COUNT)
    assert bool(jnp.all(jnp.abs(seen) <= 3.01))
    mirrored = [jnp.concatenate([x, x[::-1]], axis=0) for x in (noisy, even, odd)]
    large = look(mirrored[0], (mirrored[1] - mirrored[2]) / 2, jnp.ones(mirrored[0].shape[:2], bool))[0]
    np.testing.assert_allclose(large, seen, atol=0.12)
    shrunk = [0.1 * x + 0.3 for x in (noisy, even, odd)]
    small = look(shrunk[0], (shrunk[1] - shrunk[2]) / 2, valid)[0]
    np.testing.assert_allclose(small, seen, atol=2e-3)


def test_what_does_not_fit_is_refused(maps):
    noisy = maps[1]
    with pytest.raises(dq.InputError, match="odd has shape"):
        dq.abundances.learned_smoother(noisy, noisy, noisy[:5])
    with pytest.raises(dq.InputError, match="directions"):
        dq.abundances.smooth_learned(noisy, ls.identity_learned(4))


def test_the_shipped_weights_say_how_they_were_made():
    weights = ls.shipped_weights()
    made = ls.weights_provenance()
    assert weights.filters.shape == (ls.KERNEL, ls.KERNEL, ls.FILTERS)
    number = sum(np.size(w) for w in weights)
    assert number == ls.NUMBER_OF_WEIGHTS == 817
    assert {"command", "seed", "generator", "generator_version", "version", "date"} <= set(made)
    assert made["generator"] == dq.datasets.generator.fingerprint()
    assert all(np.isfinite(w).all() and w.dtype == np.float32 for w in weights)
    prior = ls.assemble(
        ls.SpatialWeights(*(jnp.asarray(w) for w in weights)),
        jnp.ones((1, map_statistics.COUNT)), jnp.ones((2, 1)), jnp.ones((1, 2)), jnp.asarray(True),
    )  # fmt: skip
    np.testing.assert_allclose(jnp.sum(prior.filters, axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.sum(jnp.square(prior.filters), axis=(0, 1)), 1, rtol=1e-5)


def test_the_bound_of_a_symbol_is_exact_for_a_known_filter():
    """(1, -1) / sqrt 2: |w(omega)|^2 = 1 - cos omega, at most 2."""
    w = jnp.zeros((5, 5, 1)).at[2, 2, 0].set(0.5**0.5).at[2, 3, 0].set(-(0.5**0.5))
    bounds = [float(ls.curvature_bound(w, jnp.asarray([[s]]))[0]) for s in (1.0, 3.0)]
    assert 2 <= bounds[0] <= 2.4
    assert all(b == pytest.approx(3 * a) for a, b in pairwise(bounds))

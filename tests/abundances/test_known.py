"""Unmixing by known spectra: every method against its own function, optimality, and the numbers of the methods."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.abundances.known import OPTIMAL, unmix_known
from dequnmix_jax.abundances.least_squares import SLACK, fcls, nnls, scaled_nnls, soft_nnls
from dequnmix_jax.abundances.methods import METHODS, Known, Mesma
from dequnmix_jax.abundances.sparse import sunsal, sunsal_tv
from dequnmix_jax.checks import InputError
from dequnmix_jax.mixing import normalise_abundances, scale_to_unit_maximum

H, W, B, R = 5, 4, 9, 3


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    E = rng.uniform(0.1, 0.8, (R, B)).astype(np.float32)
    A = rng.dirichlet(np.full(R, 0.6), (H, W))
    cube = (rng.uniform(0.6, 1.3, (H, W, 1)) * (A @ E) + 0.02 * rng.standard_normal((H, W, B))).astype(np.float32)
    mask = np.ones((H, W), np.bool_)
    mask[1, 2] = False
    cube[~mask] = 0
    norm = np.sqrt(np.mean(np.sum(cube[mask] ** 2, axis=-1)))
    return jnp.asarray(cube), jnp.asarray(E), jnp.asarray(mask), jnp.asarray(norm)


@pytest.fixture(scope="module")
def found(problem):
    return {method: unmix_known(*problem, Known(method)) for method in METHODS}


def expected(method, cube, E, mask, norm):
    if method == "fcls":
        return fcls(cube, E, mask=mask), mask.astype(cube.dtype)
    if method == "nnls":
        return normalise_abundances(nnls(cube, E, mask=mask), mask)
    if method == "scaled":
        return scaled_nnls(cube, E, mask=mask)
    if method == "soft":
        return soft_nnls(cube, E, mask=mask)
    unit = norm * jnp.mean(jnp.linalg.norm(E, axis=1))
    known = Known(method)
    if method == "sunsal":
        x, _ = sunsal(cube, E, known.sparsity * unit, mask=mask)
    else:
        x, _ = sunsal_tv(cube, E, known.sparsity * unit, known.variation * unit, mask=mask)
    return normalise_abundances(jnp.where(mask[..., None], x, 0), mask)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_its_function(problem, found, method):
    abundances, brightness = expected(method, *problem)
    np.testing.assert_allclose(found[method].abundances, abundances, atol=1e-4)
    np.testing.assert_allclose(found[method].brightness, brightness, atol=1e-4)
    assert bool(found[method].trace.converged) and float(found[method].trace.residual) <= OPTIMAL
    assert not np.asarray(found[method].abundances)[1, 2].any() and found[method].brightness[1, 2] == 0


@pytest.mark.parametrize("method", ["fcls", "soft", "sunsal"])
def test_a_pixel_does_not_depend_on_the_others(problem, found, method):
    """So that tiles give the maps of the whole scene, for the norm of the whole scene."""
    cube, E, mask, norm = problem
    part = unmix_known(cube[:2], E, mask[:2], norm, Known(method))
    atol = 2e-3 if method == "sunsal" else 1e-5  # it ends when the mean error of its pixels is small
    np.testing.assert_allclose(part.abundances, found[method].abundances[:2], atol=atol)
    assert Known(method).by_pixel and not Known("sunsal-tv").by_pixel


def test_the_change_measures_the_error(problem):
    """At the optimum the change is rounding; elsewhere it grows with the distance."""
    from dequnmix_jax.abundances.known import _change

    cube, E, mask, _ = problem
    for optimum, one in ((fcls(cube, E, mask=mask), True), (nnls(cube, E, mask=mask), False)):
        away = 0.95 * optimum + 0.05 / R if one else optimum + 0.05
        weight = jnp.zeros((), cube.dtype)
        at, off = (np.asarray(_change(cube, E, x, weight, one))[np.asarray(mask)] for x in (optimum, away))
        assert at.max() < 1e-5 < 1e-4 < off.min()


def test_scaled_and_nnls_say_the_same_of_a_pixel(problem, found):
    E = problem[1]
    unit = scale_to_unit_maximum(E)
    np.testing.assert_allclose(
        found["nnls"].brightness[..., None] * found["nnls"].abundances @ E,
        found["scaled"].brightness[..., None] * found["scaled"].abundances @ unit,
        atol=1e-5,
    )


def test_methods_and_numbers_that_do_not_fit():
    assert Known("soft").slack == SLACK
    for arguments, sentence in (
        (("best",), "method is 'best'; expected fcls, nnls"),
        (("soft", 0.0), "Known.slack is 0.0"),
        (("sunsal", 0.3, -1.0), "Known.sparsity is -1.0"),
    ):
        with pytest.raises(InputError, match=sentence):
            Known(*arguments)
    Known("sunsal").check_count(30, 10)
    Known("fcls").check_count(11, 10)  # the sum is one more equation
    for method, count in (("fcls", 12), ("nnls", 11)):
        with pytest.raises(InputError, match=f"There are {count} spectra and 10 bands"):
            Known(method).check_count(count, 10)


@pytest.mark.parametrize("method", [Known("fcls"), Mesma(max_classes=3)])
def test_a_brightness_that_is_divided_out_changes_nothing_but_itself(method):
    rng = np.random.default_rng(5)
    E = (rng.uniform(0.1, 0.5, (3, 12)) * [[1], [2], [0.4]]).astype(np.float32)
    x = rng.dirichlet(np.ones(3), (4, 5)).astype(np.float32)
    light = rng.uniform(0.3, 2, (4, 5)).astype(np.float32)
    known = method.of(("a", "b", "c")) if isinstance(method, Mesma) else method
    mask = np.ones((4, 5), np.bool_)
    mask[0, 0] = False
    cube = np.where(mask[..., None], light[..., None] * (x @ E), 0)
    threshold = {"threshold": 0.0} if isinstance(known, Mesma) else {}
    known = replace(known, normalised=True, **threshold)
    found = unmix_known(jnp.asarray(cube), jnp.asarray(E), jnp.asarray(mask), jnp.float32(1), known)
    np.testing.assert_allclose(found.abundances[mask], x[mask], atol=2e-3)
    np.testing.assert_allclose(found.brightness[mask], light[mask], rtol=2e-3)
    assert not found.abundances[0, 0].any() and not found.brightness[0, 0]
    assert not known.sums_to_one and known.convention == "reflectance"


@pytest.mark.parametrize("words", [{"method": "scaled"}, {"method": "sunsal"}])
def test_a_brightness_is_divided_out_where_the_sum_is_held(words):
    with pytest.raises(InputError, match="does not apply to"):
        Known(**words, normalised=True)
    with pytest.raises(InputError, match="does not apply to mesma with shade"):
        Mesma(shade="kept", normalised=True)
    with pytest.raises(InputError, match="combine is 'pairs'; expected classes, spectra"):
        Mesma(combine="pairs")

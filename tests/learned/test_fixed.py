"""Spectra that are known beside others that are found: they stay as they are, in every candidate and in a training."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import metrics
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers.minimum_volume_simplex import enclosing
from dequnmix_jax.endmembers.pure_pixel import corners, exchange
from dequnmix_jax.endmembers.subspace import frame, in_frame, pixels
from dequnmix_jax.learned import selection
from dequnmix_jax.ops.padding import pad, padded_shape
from dequnmix_jax.training import fitting
from dequnmix_jax.training.config import Rates, Training

BANDS, COUNT = 20, 4
WAVELENGTHS = np.linspace(400, 2400, BANDS)


@cache
def scene():
    """Return a scene of four materials, the third of which is rare and nowhere pure."""
    E = synthetic.spectra(jax.random.key(2), COUNT, BANDS)
    others = synthetic.linear_scene(jax.random.key(1), (20, 20), E[jnp.asarray([0, 1, 3])], contrast=2.0, length=2.0)
    A = np.insert(np.asarray(others.abundances), 2, 0, axis=-1)
    A[4, 3:7] *= 0.5
    A[4, 3:7, 2] = 0.5
    noise = 2e-4 * np.random.default_rng(0).standard_normal((20, 20, BANDS))
    return (A @ np.asarray(E) + noise).astype(np.float32), A, np.asarray(E)


def fixed():
    return scene()[2][[2]]


@cache
def candidates():
    """Return the spectra of all candidates, by the program that `select` and `run` use too."""
    cube, *_ = scene()
    key, true = jax.random.key(0), cube.shape[:2]
    images = (cube, np.ones(true, np.bool_), selection._half(key, true))
    image, valid, half = (pad(x, padded_shape(cube, COUNT)) for x in images)
    return np.asarray(selection._spectra(key, jnp.asarray(image), valid, half, COUNT, jnp.asarray(fixed()))[0])


def test_every_candidate_begins_with_the_fixed_spectra_and_finds_the_others():
    found, E = candidates(), scene()[2]
    assert (found[:, :, :1] == fixed()).all()
    others = E[[0, 1, 3]]
    angles = [float(metrics.msad(x[1:][metrics.align(x[1:], others)], others)) for x in found[0]]
    assert max(angles[:4]) < 0.02  # on the plane, not purified: VCA, SiVM, N-FINDR, minimum volume


def test_without_it_the_rare_material_is_not_found():
    cube, _, E = scene()
    blind = dq.endmembers.vca(jax.random.key(0), cube, COUNT, runs=8)
    order = metrics.align(blind, E)
    assert float(metrics.spectral_angle(blind[order], E)[2]) > 0.05


@pytest.mark.parametrize("scaled", [False, True])
def test_fixed_vertices_do_not_move(scaled):
    cube, _, E = scene()
    Y, valid = pixels(jnp.asarray(cube), None)
    known = jnp.asarray(fixed())
    view = frame(Y, valid, COUNT, scaled, known)
    held = in_frame(view, known, scaled)
    back = np.asarray(held @ view.lift)
    np.testing.assert_allclose(back / np.linalg.norm(back), fixed() / np.linalg.norm(fixed()), atol=1e-4)
    rows = exchange(view, valid, corners(view, valid, COUNT, held), held)
    assert rows.size == COUNT - 1
    # From a start that is too large: the free vertices come in, the held one stays.
    start = jnp.asarray(1.2 * E[[2, 0, 1, 3]] - 0.2 * E.mean(axis=0)).at[0].set(known[0])
    spectra, trace = enclosing(view, valid, start, jnp.full(BANDS, 4e-8), scaled, held=held)
    assert bool(trace.converged)
    np.testing.assert_allclose(spectra[0] / jnp.linalg.norm(spectra[0]), back[0] / np.linalg.norm(back), atol=1e-4)
    assert float(metrics.msad(spectra[1:], E[[0, 1, 3]])) < (0.04 if scaled else 0.01)


def test_a_training_leaves_them_as_they_are():
    cube, _, E = scene()
    held = jnp.asarray([True, False, False, True])
    config = dq.Model(gradient=dq.equilibrium.Analytic())
    with pytest.raises(InputError, match="one bool for each of the endmembers"):
        dq.fit(jax.random.key(0), cube, config, endmembers=E, fixed=held[:2])
    state = jax.eval_shape(lambda: fitting.begin(jax.random.key(0), cube, config, endmembers=E, fixed=held))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state._replace(key=None))
    state = state._replace(params={**state.params, "endmembers": jnp.asarray(E)}, fixed=held, size=jnp.asarray(0.5))
    gradient = jax.tree.map(jnp.ones_like, state.params)
    after = fitting._step(state, gradient, Training(), Rates()).params["endmembers"]
    assert (np.asarray(after)[[0, 3]] == E[[0, 3]]).all()
    assert (np.asarray(after)[[1, 2]] != E[[1, 2]]).all()


def test_run_names_them_and_returns_them_unchanged():
    cube, A, _ = scene()
    library = dq.libraries.Library(("grass", "target"), WAVELENGTHS, np.concatenate([scene()[2][:1], fixed()]))
    image = dq.Scene(cube, wavelengths=WAVELENGTHS)
    found = dq.run(image, COUNT, jax.random.key(0), fixed=library, fixed_names=["target"])
    assert found.names == ("target", "endmember 2", "endmember 3", "endmember 4")
    assert (found.endmembers[0] == fixed()[0]).all() and found.summary["fixed"] == ["target"]
    assert np.sqrt(np.mean((found.abundances[..., 0] - A[..., 2]) ** 2)) < 0.01
    assert (found.abundances >= 0).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"fixed": lambda E: E[:4]}, "4 spectra are fixed and 4 endmembers asked for; expected at least one more"),
        ({"fixed": lambda E: E[[1, 1]]}, "fixed spectra 1 and 2 are the same"),
        ({"fixed": lambda E: E[:2, 1:]}, r"expected spectra on the bands of the scene, \(spectra, 20\)"),
        ({"fixed": lambda E: 0 * E[:1], "mixing": "scaled"}, "zero in every band"),
        ({"fixed": lambda E: E[:1], "fixed_names": ["soil"]}, "expected fixed to be a Library"),
        ({"max_endmembers": 5}, "max_endmembers limits"),
    ],
)
def test_refusals(words, message):
    cube, _, E = scene()
    words = {name: value(E) if callable(value) else value for name, value in words.items()}
    with pytest.raises(InputError, match=message):
        dq.run(cube, COUNT, jax.random.key(0), **words)


def test_a_library_that_does_not_cover_the_bands():
    cube, _, E = scene()
    image = dq.Scene(cube, wavelengths=WAVELENGTHS)
    short = dq.libraries.Library(("target",), WAVELENGTHS[:15], E[2:3, :15])
    with pytest.raises(InputError, match=r"do not cover 5 of 20 bands .*ignore=\[\(from, to\)\]"):
        dq.run(image, COUNT, jax.random.key(0), fixed=short)
    percent = dq.libraries.Library(("target",), WAVELENGTHS, 100 * E[2:3])
    with pytest.raises(InputError, match="--fixed-scale 100"):
        dq.run(image, COUNT, jax.random.key(0), fixed=percent)

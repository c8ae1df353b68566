"""The convention of the fractions of a result: its word in the record, levels of the spectra, and conversion."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dequnmix_jax import mixing
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.report import with_scene
from dequnmix_jax.conventions import MEANINGS
from dequnmix_jax.equilibrium import Cone, Model, Simplex, Soft, Softmax
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.results.maps import level_sums, levels, no_levels
from dequnmix_jax.results.result import read_result, result_of
from dequnmix_jax.results.writer import write, write_result
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate

H, W, B = 9, 8, 30
TALL = np.array([0.9, 0.4, 0.1], np.float32)
R = TALL.size


def spectra():
    x = np.linspace(0, 1, B)
    shapes = np.stack([0.2 + np.exp(-((x - c) ** 2) / 0.02) for c in (0.1, 0.5, 0.9)])
    return (TALL[:, None] * shapes / shapes.max(axis=1, keepdims=True)).astype(np.float32)


def mixed(purity=0.7, light=0.0):
    """Return fractions without a pure pixel, a scene, and the exact estimate of a scaled model."""
    draw = np.random.default_rng(2)
    shares = draw.dirichlet(np.full(R, 0.7), (H, W))
    shares = (1 / R + (shares - 1 / R) * purity).astype(np.float32)
    s = (1 + light * draw.standard_normal((H, W))).astype(np.float32)
    x = s[..., None] * shares * TALL
    estimate = Estimate(x / x.sum(-1, keepdims=True), spectra() / TALL[:, None], x.sum(-1), x)
    return shares, Scene(s[..., None] * (shares @ spectra()), wavelengths=np.linspace(400, 900, B)), estimate


def test_levels_are_exact_without_pure_pixels_where_mixing_is_linear():
    shares, scene, found = mixed()
    assert shares.max() < 0.91
    sums = level_sums(found.abundances, found.brightness, scene.valid)
    np.testing.assert_allclose(levels(sums), TALL, rtol=1e-3)
    halves = [level_sums(found.abundances[rows], found.brightness[rows], scene.valid[rows]) for rows in
              (slice(0, 4), slice(4, None))]  # fmt: skip
    np.testing.assert_allclose(sum(halves), sums, rtol=1e-12)
    _, scene, found = mixed(1.0, light=0.1)
    np.testing.assert_allclose(levels(level_sums(found.abundances, found.brightness, scene.valid)), TALL, rtol=0.15)


def test_levels_of_what_is_absent_or_undetermined_are_near_the_others():
    _, scene, found = mixed()
    A = np.zeros((H, W, 4), np.float32)
    A[..., :3] = found.abundances
    level = levels(level_sums(A, found.brightness, scene.valid))
    np.testing.assert_allclose(level[:3], TALL, rtol=1e-3)
    assert found.brightness.min() < level[3] < found.brightness.max()
    alike = levels(level_sums(np.full((H, W, 2), 0.5), np.full((H, W), 3.0), scene.valid))  # one kind of pixel
    np.testing.assert_allclose(alike, 3.0, rtol=1e-6)
    dark = levels(level_sums(A, np.zeros((H, W)), scene.valid))
    assert np.isfinite(dark).all() and (dark > 0).all()
    np.testing.assert_array_equal(levels(no_levels(2)), 1.0)


@pytest.mark.parametrize("model", [Model(), Model(constraint=Simplex()), Model(constraint=Soft()),
                                   Model(constraint=Softmax())], ids=lambda model: model.constraint.word)  # fmt: skip
def test_a_model_says_its_convention(model):
    assert model.convention == ("scaled" if isinstance(model.constraint, Cone) else "reflectance")


def test_the_record_names_the_convention_and_spectra_have_the_unit_of_the_scene(tmp_path):
    _, scene, found = mixed()
    files = write(tmp_path / "out", found, scene, convention=Model().convention)
    assert tmp_path / "out" / "abundances.hdr" in files
    result = read_result(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert result.convention == record["convention"] == "scaled"
    assert record["convention_meaning"] == MEANINGS["scaled"]
    assert "convention: scaled" in (tmp_path / "out" / "abundances.hdr").read_text()
    np.testing.assert_allclose(result.endmembers, spectra(), rtol=2e-3)
    np.testing.assert_allclose(read_library(tmp_path / "out" / "endmembers.csv").spectra, result.endmembers, rtol=1e-5)
    np.testing.assert_array_equal(result.abundances, found.abundances)  # the fractions stay as they were
    again = result.brightness[..., None] * (result.abundances @ result.referred)
    np.testing.assert_allclose(again, scene.cube, atol=1e-5)
    assert result.residual.max() < 1e-5


def test_a_result_is_converted_and_back(tmp_path):
    shares, scene, found = mixed(light=0.05)
    result = result_of(found, scene)
    converted = result.in_convention("reflectance")
    np.testing.assert_allclose(converted.abundances, shares, atol=0.03)
    again = converted.brightness[..., None] * (converted.abundances @ converted.endmembers)
    np.testing.assert_allclose(again, scene.cube, atol=1e-5)  # exact whatever the levels are
    np.testing.assert_array_equal(converted.referred, converted.endmembers)
    np.testing.assert_allclose(converted.in_convention("scaled").abundances, result.abundances, atol=1e-6)
    theirs, light = mixing.convert(result.abundances, result.levels, "reflectance", result.brightness)
    np.testing.assert_allclose(converted.abundances, theirs, atol=1e-6)
    np.testing.assert_allclose(converted.brightness, light, rtol=1e-5)
    assert converted.summary["convention"] == "reflectance" and result.summary["convention"] == "scaled"
    means = converted.abundances.mean(axis=(0, 1))
    np.testing.assert_allclose(converted.summary["mean_abundances"], means, rtol=1e-5)
    np.testing.assert_allclose(converted.summary["maps"]["abundances"]["mean"], means, rtol=1e-5)
    assert converted.in_convention("reflectance") is converted
    write_result(tmp_path / "out", converted, scene)
    stored = read_result(tmp_path / "out")
    assert stored.convention == "reflectance"
    np.testing.assert_array_equal(stored.endmembers, result.endmembers)
    with pytest.raises(InputError, match="'level'; expected 'reflectance' or 'scaled'"):
        result.in_convention("level")


def test_a_residual_that_is_made_later_is_that_of_the_fractions():
    _, scene, found = mixed(light=0.05)
    result = result_of(found, scene)
    for one in (result, result.in_convention("reflectance")):
        assert with_scene(replace(one, residual=None), scene).residual.max() < 1e-5
        own = np.full(one.brightness.shape, 0.3, np.float32)  # as of mixing that is not linear
        np.testing.assert_array_equal(with_scene(replace(one, residual=own), scene).residual, own)


def test_an_estimate_of_a_linear_model_is_as_it_was():
    shares, scene, _ = mixed()
    result = result_of(Estimate(shares, spectra(), np.ones((H, W), np.float32), shares), scene)
    assert result.convention == "reflectance" and result.referred is result.endmembers
    np.testing.assert_array_equal(result.endmembers, spectra())
    one = spectra() / TALL[:, None]  # materials of one level do not make a model scaled
    assert result_of(Estimate(shares, one, np.ones((H, W), np.float32), shares), scene).convention == "reflectance"
    dark = spectra()
    dark[1] = 0
    with pytest.raises(InputError, match="no positive value"):
        result_of(Estimate(shares, dark, np.ones((H, W), np.float32), shares), scene).in_convention("scaled")

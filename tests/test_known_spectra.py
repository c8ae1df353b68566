"""Unmixing by the spectra of a library in one call: the stand-in of EMIT's example, conventions, classes, refusals."""

import jax
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.known_spectra import method_of
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.results.maps import class_sums
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.scene import Scene

H, W, B, R = 5, 4, 12, 4
BANDS = np.linspace(420.0, 970.0, B)
CENTRES = np.linspace(400.0, 1000.0, 61)
NAMES = ("SOIL", "SOIL", "PV", "NPV")


def library():
    x = (CENTRES - 400) / 600
    rows = [0.2 + 0.3 * x, 0.1 + 0.5 * x**2, 0.05 + 0.6 / (1 + np.exp(-20 * (x - 0.5))), 0.3 + 0.1 * np.sin(6 * x)]
    return Library(NAMES, CENTRES, np.array(rows), columns={"Class": NAMES})


def scene(brightness=1.0):
    """Return a scene that mixes the library without noise, one pixel masked, and its fractions."""
    spectra = dq.resample(library(), BANDS, 15.0).spectra.astype(np.float64)
    rng = np.random.default_rng(1)
    A = rng.dirichlet(np.full(R, 0.7), (H, W))
    mask = np.ones((H, W), np.bool_)
    mask[0, 1] = False
    light = rng.uniform(0.7, 1.2, (H, W, 1)) if brightness != 1.0 else 1.0
    return Scene(light * (A @ spectra), mask, wavelengths=BANDS, fwhm=np.full(B, 15.0)), A


def test_fcls_finds_the_fractions_and_sums_the_classes(tmp_path):
    cube, truth = scene()
    result = dq.unmix_with(cube, library(), classes="Class")
    valid = cube.valid
    np.testing.assert_allclose(result.abundances[valid], truth[valid], atol=2e-4)
    assert result.names == ("SOIL 1", "SOIL 2", "PV", "NPV") and result.class_names == ("SOIL", "PV", "NPV")
    np.testing.assert_allclose(result.classes[valid, 0], truth[valid, :2].sum(axis=1), atol=2e-4)
    assert not result.classes[~valid].any() and result.convention == "reflectance"
    means = truth[valid].mean(axis=0)
    np.testing.assert_allclose(result.summary["classes"]["mean_abundances"], class_sums(means, NAMES), atol=2e-4)
    assert result.summary["trace"]["converged"] and result.convergence.max() < 1e-4
    write_result(tmp_path / "out", result, cube)
    again = dq.read_result(tmp_path / "out")
    assert again.class_of == NAMES and again.names == result.names
    np.testing.assert_array_equal(again.classes, result.classes)
    image = dq.read(tmp_path / "out" / "classes.img")
    np.testing.assert_array_equal(image.cube[valid], result.classes[valid])
    assert "class SOIL" in (tmp_path / "out" / "classes.hdr").read_text()


def test_the_convention_of_scaled_converts_to_that_of_nnls():
    cube, truth = scene(brightness=0.0)
    scaled, nnls = (dq.unmix_with(cube, library(), method=word, classes="name") for word in ("scaled", "nnls"))
    assert (scaled.convention, nnls.convention) == ("scaled", "reflectance")
    np.testing.assert_array_equal(scaled.endmembers, nnls.endmembers)  # both at the level of the library
    valid = cube.valid
    np.testing.assert_allclose(nnls.abundances[valid], truth[valid], atol=1e-3)
    converted = scaled.in_convention("reflectance")
    np.testing.assert_allclose(converted.abundances[valid], nnls.abundances[valid], atol=1e-3)
    means = nnls.summary["classes"]["mean_abundances"]
    np.testing.assert_allclose(converted.summary["classes"]["mean_abundances"], means, atol=1e-3)
    assert np.abs(np.array(scaled.summary["classes"]["mean_abundances"]) - means).max() > 0.01


def test_bands_without_spectra_are_left_out():
    cube, truth = scene()
    known = library()
    short = Library(NAMES, CENTRES[:46], known.spectra[:, :46])  # up to 850 nm
    result = dq.unmix_with(cube, short)
    kept = BANDS <= 850
    np.testing.assert_array_equal(result.wavelengths_nm, BANDS[kept])
    assert any("3 of 12 bands are not covered" in note for note in result.summary["notes"])
    np.testing.assert_allclose(result.abundances[cube.valid], truth[cube.valid], atol=2e-3)


def test_an_array_of_spectra_on_the_bands_of_the_scene():
    cube, _ = scene()
    spectra = dq.resample(library(), BANDS, 15.0).spectra
    result = dq.unmix_with(np.asarray(cube.cube), spectra)
    expected = dq.fcls(cube.cube, spectra)
    np.testing.assert_allclose(result.abundances, expected, atol=1e-5)
    with pytest.raises(InputError, match=r"shape \(4, 11\); expected at least two"):
        dq.unmix_with(np.asarray(cube.cube), spectra[:, 1:])
    with pytest.raises(InputError, match="an array, without names and classes"):
        dq.unmix_with(np.asarray(cube.cube), spectra, classes="Class")


def test_the_operator_is_trained_with_the_spectra_held():
    cube, _ = scene()
    few = {"training": dq.Training(epochs=2), "config": dq.Model(gradient=dq.equilibrium.Analytic())}
    result = dq.unmix_with(cube, library(), method="deq", key=jax.random.key(0), classes="Class", **few)
    np.testing.assert_array_equal(result.endmembers, dq.resample(library(), BANDS, 15.0).spectra)
    assert result.class_names == ("SOIL", "PV", "NPV") and result.summary["trace"]["converged"]
    scaled = dq.unmix_with(cube, library(), method="scaled")  # the equilibrium without a network
    np.testing.assert_allclose(result.abundances, scaled.abundances, atol=5e-3)


def test_units_that_differ_are_named_and_the_advice_works():
    cube, truth = scene()
    known = library()
    large = Library(NAMES, CENTRES, known.spectra * 10_000)
    with pytest.raises(InputError, match=r"Divide the library, .* by 10000 \(--library-scale 10000"):
        dq.unmix_with(cube, large)
    whole = dq.unmix_with(cube, Library(NAMES, CENTRES, large.spectra / 10_000))
    np.testing.assert_allclose(whole.abundances[cube.valid], truth[cube.valid], atol=2e-4)
    integers = Scene(cube.cube * 10_000, cube.mask, wavelengths=BANDS, fwhm=np.full(B, 15.0))
    with pytest.raises(InputError, match=r"Divide the scene, .* \(--scale 10000, or scale=10000\)"):
        dq.unmix_with(integers, known)
    dq.unmix_with(cube, large, method="scaled")  # the level of a spectrum has no influence


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"method": "best"}, "method is 'best'; expected fcls, nnls, .* deq"),
        ({"method": "deq"}, "Pass key=jax.random.key"),
        ({"key": 0}, "no key. Leave it out"),
        ({"training": dq.Training(epochs=1)}, "trains nothing"),
        ({"sparsity": 0.1}, "sparsity has no effect on the method 'fcls'; expected no number"),
        ({"method": "sunsal", "variation": 0.1}, "variation has no effect .* expected sparsity with it"),
        ({"library_scale": 10.0}, "library_scale is for the path"),
        ({"nodata": 0.0}, "the scene is in memory"),
        ({"spectra": ["PV"]}, "expected at least two"),
    ],
)
def test_what_does_not_fit_is_a_sentence(more, sentence):
    with pytest.raises(InputError, match=sentence):
        dq.unmix_with(scene()[0], library(), **more)


def test_more_spectra_than_bands_and_no_wavelengths():
    cube, _ = scene()
    three = Scene(cube.cube[:, :, :3], cube.mask, wavelengths=BANDS[:3], fwhm=cube.fwhm[:3])
    with pytest.raises(InputError, match="There are 4 spectra and 3 bands"):
        dq.unmix_with(three, library(), method="nnls")
    assert dq.unmix_with(three, library(), method="sunsal").abundances.shape == (H, W, R)
    with pytest.raises(InputError, match="The scene has no wavelengths"):
        dq.unmix_with(np.asarray(cube.cube), library())


def test_numbers_of_a_method_reach_it():
    assert method_of("sunsal-tv", sparsity=0.5, variation=2).variation == 2
    assert method_of("deq") is None


def test_mixing_that_is_not_linear():
    """The residual is that of the model, and values that are no reflectance are refused."""
    cube, truth = scene()
    bent = cube.cube * (1 + 0.2 * cube.cube)
    curved = Scene(bent, cube.mask, wavelengths=BANDS, fwhm=cube.fwhm)
    found, plain = (dq.unmix_with(curved, library(), method=word) for word in ("ppnm", "fcls"))
    valid = cube.valid
    np.testing.assert_allclose(found.abundances[valid], truth[valid], atol=2e-3)
    assert found.residual.max() < 1e-3 * plain.residual.max() and not found.residual[~valid].any()
    assert found.summary["residual_structure"] is None and found.convention == "reflectance"
    percent = Library(NAMES, CENTRES, 100 * library().spectra, columns={"Class": NAMES})
    with pytest.raises(InputError, match=r"The spectra reach .* expected reflectance, at most about 1, for ppnm"):
        dq.unmix_with(curved, percent, method="ppnm")


def test_deviations_of_fractions(tmp_path):
    cube, _ = scene()
    noise = np.full(B, 0.01)
    result = dq.unmix_with(cube, library(), classes="Class", uncertainty=noise)
    same = dq.unmix_with(cube, library(), classes="Class", uncertainty=0.01)
    np.testing.assert_allclose(result.abundances_sd, same.abundances_sd, rtol=1e-5)
    assert result.abundances_sd.shape == (H, W, R) and result.classes_sd.shape == (H, W, 3)
    double = dq.unmix_with(cube, library(), classes="Class", uncertainty=0.02)
    np.testing.assert_allclose(double.classes_sd, 2 * result.classes_sd, rtol=1e-4)
    alone = result.abundances[..., 2] > 0  # the class PV is one spectrum
    np.testing.assert_allclose(result.classes_sd[..., 1][alone], result.abundances_sd[..., 2][alone], rtol=1e-4)
    assert not result.abundances_sd[~cube.valid].any()
    write_result(tmp_path / "out", result, cube)
    again = dq.read_result(tmp_path / "out")
    np.testing.assert_array_equal(again.classes_sd, result.classes_sd)
    converted = again.in_convention("scaled")
    assert converted.abundances_sd is None and "uncertainty" not in converted.summary


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"uncertainty": "bands", "method": "sunsal-tv"}, "sunsal-tv has no closed form"),
        ({"uncertainty": "bands", "method": "ppnm"}, "ppnm has no closed form"),
        ({"uncertainty": "best"}, "uncertainty is 'best'; expected bands, residual"),
        ({"uncertainty": -1.0}, "standard deviations above 0"),
        ({"uncertainty": np.ones(3)}, "has 3 values; expected one for each of the 12 bands"),
    ],
)
def test_noise_that_does_not_fit_is_a_sentence(more, sentence):
    with pytest.raises(InputError, match=sentence):
        dq.unmix_with(scene()[0], library(), **more)


def test_noise_of_bands_needs_more_pixels_than_bands_and_the_advice_works():
    cube, _ = scene()
    few = Scene(cube.cube[:2], None, wavelengths=BANDS, fwhm=np.full(B, 15.0))
    with pytest.raises(InputError, match=r"estimated from 8 valid pixels; .* Use uncertainty 'residual'"):
        dq.unmix_with(few, library(), uncertainty="bands")
    assert np.isfinite(dq.unmix_with(few, library(), uncertainty="residual").abundances_sd).all()
    assert dq.unmix_with(cube, library(), uncertainty="bands").summary["uncertainty"]["mean_noise"] >= 0


def test_errors_of_the_scene_and_bounds():
    """Errors that are smooth over bands: larger deviations than those of as much independent noise."""
    clean, truth = scene()
    bump = np.exp(-(((np.arange(B) - 4) / 3.0) ** 2))
    errors = 0.03 * np.random.default_rng(2).standard_normal((H, W, 1)) * bump
    cube = Scene(clean.cube + errors.astype(np.float32), clean.mask, wavelengths=BANDS, fwhm=np.full(B, 15.0))
    found = dq.unmix_with(cube, library(), uncertainty="scene", bounds=True, classes="Class")
    alone = dq.unmix_with(cube, library(), uncertainty="residual", bounds=True)
    record = found.summary["uncertainty"]
    assert sum(record["kinds"].values()) == pytest.approx(1) and record["by"] == "closed form"
    inside = (truth >= found.abundances_p05 - 1e-5) & (truth <= found.abundances_p95 + 1e-5)
    few = (truth >= alone.abundances_p05 - 1e-5) & (truth <= alone.abundances_p95 + 1e-5)
    assert inside[cube.valid].mean() > 0.85 > few[cube.valid].mean()
    assert found.classes_p95.shape == (H, W, 3) and not found.abundances_p95[~cube.valid].any()
    assert found.in_convention("scaled").abundances_p05 is None


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"uncertainty_by": "draws"}, "uncertainty_by is 'draws', which takes a random key. Pass key=jax.random.key"),
        ({"uncertainty_by": "guess"}, "uncertainty_by is 'guess'; expected 'off', 'closed form', 'draws'"),
        ({"bounds": True}, "needs a noise, and none is given"),
        ({"uncertainty_by": "draws", "draws": 1}, "draws is 1; expected a whole number of at least 2"),
        ({"uncertainty": np.ones((2, 2, B))}, "expected one for each of the 12 bands"),
    ],
)
def test_an_uncertainty_that_does_not_fit_is_a_sentence(more, sentence):
    with pytest.raises(InputError, match=sentence):
        dq.unmix_with(scene()[0], library(), **more)

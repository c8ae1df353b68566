"""`score` on constructed estimates with known errors, in orders that are not their own inverse."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import metrics, mixing
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.results.result import read_result
from dequnmix_jax.results.score import as_estimate, compare, ratios, reference_convention
from dequnmix_jax.results.writer import write
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.types import Estimate

H, W, B, R = 5, 4, 12, 3
CYCLE = [1, 2, 0]  # endmember 1 of the estimate is 2 of the reference, ...: its inverse is [2, 0, 1]
OFF = np.array([0.01, 0.02, 0.04])  # error of each reference's map, the same in all pixels
TALL = np.array([0.9, 0.5, 0.2], np.float32)  # levels of the reference's spectra


def spectra():
    x = np.linspace(0, 1, B)
    shapes = np.stack([0.2 + np.exp(-((x - c) ** 2) / 0.02) for c in (0.1, 0.5, 0.9)])
    return (TALL[:, None] * shapes / shapes.max(axis=1, keepdims=True)).astype(np.float32)


def maps():
    return np.random.default_rng(0).dirichlet(np.full(R, 0.6), (H, W)).astype(np.float32)


def save(path, **arrays):
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return path


def scored(capsys, *words):
    assert main.main(["score", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("with_spectra", [True, False], ids=["by spectra", "by maps"])
def test_a_cycle_of_three_is_put_into_the_order_of_the_reference(tmp_path, capsys, with_spectra):
    truth = {"abundances": maps(), "names": ["a", "b", "c"], "endmembers": spectra()}
    moved = (maps() + OFF).astype(np.float32)
    turned = {"abundances": moved[:, :, CYCLE], "names": ["b'", "c'", "a'"], "endmembers": spectra()[CYCLE]}
    if not with_spectra:
        truth.pop("endmembers")
    found = scored(capsys, save(tmp_path / "e.npz", **turned), save(tmp_path / "t.npz", **truth))
    rows = [(row["estimate"], row["reference"]) for row in found["endmembers"]]
    assert rows == [("a'", "a"), ("b'", "b"), ("c'", "c")]
    np.testing.assert_allclose([row["rmse"] for row in found["endmembers"]], OFF, rtol=1e-4)
    assert found["armse"] == pytest.approx(OFF.mean(), rel=1e-4)
    assert found["pooled_rmse"] == pytest.approx(np.sqrt((OFF**2).mean()), rel=1e-4)
    if with_spectra:
        assert max(row["sad"] for row in found["endmembers"]) < 1e-3


@pytest.mark.parametrize("with_spectra", [True, False], ids=["by spectra", "by maps"])
def test_what_the_estimate_masks_is_not_counted(tmp_path, capsys, with_spectra):
    mask = np.ones((H, W), bool)
    mask[:3] = False
    moved = (maps() + OFF).astype(np.float32)
    moved[:3] = 1 - maps()[:3]  # where nothing was measured, the maps are as wrong as can be
    moved[:3, :, 0] += 5 * maps()[:3, :, 1]
    estimate = {"abundances": moved[:, :, CYCLE], "names": ["b'", "c'", "a'"], "mask": mask}
    if with_spectra:
        estimate["endmembers"] = spectra()[CYCLE]
    truth = save(tmp_path / "t.npz", abundances=maps(), endmembers=spectra(), names=["a", "b", "c"])
    found = scored(capsys, save(tmp_path / "e.npz", **estimate), truth)
    assert [row["estimate"] for row in found["endmembers"]] == ["a'", "b'", "c'"]
    np.testing.assert_allclose([row["rmse"] for row in found["endmembers"]], OFF, rtol=1e-3)
    assert found["armse"] == pytest.approx(OFF.mean(), rel=1e-3)
    assert found["as_they_are"]["pooled_rmse"] == pytest.approx(np.sqrt((OFF**2).mean()), rel=1e-3)
    if with_spectra:
        assert found["in_the_unit_of_the_estimate"]["armse"] == pytest.approx(OFF.mean(), rel=1e-3)
    whole = scored(capsys, save(tmp_path / "w.npz", **{**estimate, "mask": None}), truth)
    assert whole["armse"] > 0.2  # without its mask


def scaled_answer():
    """Return fractions and spectra of maximum 1 for the mixtures of the reference."""
    x = maps() * TALL
    return x / x.sum(axis=2, keepdims=True), spectra() / TALL[:, None], x.sum(axis=2)


def test_fractions_of_scaled_spectra_are_compared_in_both_units(tmp_path, capsys):
    shares, scaled, _ = scaled_answer()
    estimate = save(tmp_path / "e.npz", abundances=shares[:, :, CYCLE], endmembers=scaled[CYCLE])
    truth = save(tmp_path / "t.npz", abundances=maps(), endmembers=spectra())
    found = scored(capsys, estimate, truth)
    raw = np.sqrt(((shares - maps()) ** 2).mean(axis=(0, 1))).mean()
    assert raw > 0.1
    assert found["as_they_are"]["armse"] == pytest.approx(raw, rel=1e-4)
    assert found["armse"] < 1e-6 and found["convention"]["converted"]  # into the unit of the reference
    assert max(row["rmse"] for row in found["endmembers"]) < 1e-6
    assert found["in_the_unit_of_the_estimate"]["armse"] < 1e-6  # they describe the same mixtures
    assert main.main(["score", str(estimate), str(truth)]) == 0
    text = capsys.readouterr().out
    assert "Those of the estimate, 'scaled', are converted with the levels of the spectra of the reference" in text
    assert scored(capsys, estimate, truth, "--convention", "as-is")["armse"] == pytest.approx(raw, rel=1e-4)
    assert f"fractions as they are: aRMSE {raw:.4f}, pooled RMSE " in text
    assert "reference in the unit of the estimate's spectra: aRMSE 0.0000, pooled RMSE 0.0000" in text


def test_each_spectrum_is_held_against_its_own_unit():
    shares, scaled, _ = scaled_answer()
    heights = np.array([2.0, 0.5, 7.0], np.float32)  # of the estimate's spectra, another one for each
    mine = shares / heights
    mine = (mine / mine.sum(axis=2, keepdims=True))[:, :, CYCLE]
    found = compare(Truth(mine, (scaled * heights[:, None])[CYCLE]), Truth(maps(), spectra()))
    assert found["in_the_unit_of_the_estimate"]["armse"] < 1e-6 < 0.1 < found["as_they_are"]["armse"]


def test_spectra_of_the_same_levels_give_one_figure_twice():
    found = compare(Truth(maps() + np.float32(0.1), spectra()), Truth(maps(), spectra()))
    assert found["as_they_are"]["armse"] == pytest.approx(found["in_the_unit_of_the_estimate"]["armse"], rel=1e-5)


def test_without_spectra_or_levels_there_is_one_figure():
    found = compare(Truth(maps()), Truth(maps(), spectra()))
    assert found["as_they_are"]["armse"] == 0 and found["in_the_unit_of_the_estimate"] is None
    dark = spectra()
    dark[1] = 0
    found = compare(Truth(maps(), dark), Truth(maps(), dark))
    assert found["in_the_unit_of_the_estimate"] is None and "no positive value" in found["notes"][-1]
    assert ratios(dark, spectra()) is None
    assert compare(Truth(None, spectra()), Truth(None, spectra()))["as_they_are"] is None


@pytest.mark.parametrize(("factor", "shift"), [(100, 0), (1, -0.2)])
def test_a_reference_without_fractions_is_said(factor, shift):
    mine = Truth(maps(), spectra())
    (note,) = compare(mine, Truth(factor * maps() + np.float32(shift), spectra()))["notes"]
    assert "expected 0 to 1" in note
    outside = np.where(np.arange(maps().shape[0])[:, None, None] == 0, 7, maps())
    valid = np.arange(maps().shape[0])[:, None] > np.zeros(maps().shape[1])
    assert not compare(mine, Truth(outside, spectra()), valid)["notes"]


def test_a_change_of_unit():
    a = jnp.asarray([[[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.2, 0.3, 0.5]]])
    found = np.asarray(metrics.in_unit(a, jnp.asarray([3.0, 1.0, 2.0])))
    np.testing.assert_allclose(found[0], [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0], [6 / 19, 3 / 19, 10 / 19]], rtol=1e-6)
    back = metrics.in_unit(found, 1 / jnp.asarray([3.0, 1.0, 2.0]))
    np.testing.assert_allclose(back, a, atol=1e-6)
    old, _ = mixing.normalise_abundances(maps() * TALL)  # as the experiments had it
    np.testing.assert_allclose(metrics.in_unit(maps(), TALL), old, rtol=1e-6)
    with pytest.raises(InputError, match=r"factors have shape \(2,\)"):
        metrics.in_unit(a, jnp.ones(2))


NM = np.linspace(400, 1000, B)


def library(path, named):
    """Write spectra as a table, as a stranger's program would."""
    lines = [",".join(["wavelength (nm)", *named])]
    lines += [",".join(f"{value:.6f}" for value in (at, *row)) for at, row in zip(NM, spectra().T, strict=True)]
    path.write_text("\n".join(lines))
    return path


def test_a_table_of_spectra_is_a_reference(tmp_path, capsys):
    turned = save(tmp_path / "e.npz", abundances=maps()[:, :, CYCLE], endmembers=spectra()[CYCLE])
    found = scored(capsys, turned, library(tmp_path / "truth.csv", ("oak", "sand", "brick")))
    assert [(row["estimate"][-1], row["reference"]) for row in found["endmembers"]] == [
        ("3", "oak"), ("1", "sand"), ("2", "brick"),
    ]  # fmt: skip
    assert found["reference"] == "truth.csv" and found["armse"] is None and found["msad"] < 1e-3
    both = scored(capsys, library(tmp_path / "a.txt", "abc"), tmp_path / "truth.csv")
    assert both["msad"] < 1e-3 and both["endmembers"][0]["estimate"] == "a"


def test_the_table_of_an_output_is_read_beside_its_header(tmp_path, capsys):
    scene, _, found = pure_scene()
    write(tmp_path / "out", found, replace(scene, wavelengths=NM))
    for name in ("endmembers.csv", "endmembers.sli", "endmembers.hdr"):
        assert scored(capsys, tmp_path / "out", tmp_path / "out" / name)["msad"] < 1e-3
    write(tmp_path / "bare", found, scene)
    for name in ("bare", "bare/endmembers.sli"):
        assert scored(capsys, tmp_path / "out", tmp_path / name)["msad"] < 1e-3
    assert main.main(["score", str(tmp_path / "out"), str(tmp_path / "bare" / "endmembers.csv")]) == 1
    assert "pass the .sli file beside it, or the folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "does not exist; expected a reference"),
        ("t.tif", b"II*\0" + bytes(600), "is a TIFF file; expected a reference"),
        ("t.csv", b"no numbers at all\n", "t.csv"),
    ],
)
def test_what_is_no_reference_is_said(tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    estimate = save(tmp_path / "e.npz", endmembers=spectra())
    assert main.main(["score", str(estimate), str(tmp_path / name)]) == 1
    assert message in capsys.readouterr().err


# --- the levels of an output -----------------------------------------------------------------------------------------


def pure_scene():
    """Return a scene with a pure pixel of each reference spectrum, its fractions, and the scaled estimate."""
    shares = np.array(maps())
    shares[0, :R] = np.eye(R)
    cube = shares @ spectra()
    x = shares * TALL
    return Scene(cube), shares, Estimate(x / x.sum(-1, keepdims=True), spectra() / TALL[:, None], x.sum(-1), x)


def test_an_output_keeps_the_levels_of_its_spectra(tmp_path):
    scene, shares, found = pure_scene()
    write(tmp_path / "out", found, scene)
    result = read_result(tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "summary.json").read_text())["endmember_levels"]
    np.testing.assert_array_equal(result.levels, kept)
    np.testing.assert_allclose(result.endmembers, spectra(), rtol=1e-4)
    converted = metrics.in_unit(result.abundances, 1 / jnp.asarray(result.levels, jnp.float32))
    assert float(dq.metrics.armse(converted, shares)) < 1e-4 < 0.1 < float(dq.metrics.armse(found.abundances, shares))


def test_levels_without_brightness_are_those_of_the_spectra(tmp_path):
    scene, shares, _ = pure_scene()
    mask = np.ones((H, W), bool)
    mask[1] = False
    light = np.where(mask, 1.0, 99.0).astype(np.float32)  # what is masked has no light that counts
    write(tmp_path / "out", Estimate(shares, spectra(), light, shares), Scene(scene.cube, mask=mask))
    np.testing.assert_allclose(read_result(tmp_path / "out").levels, TALL, rtol=1e-6)


def test_an_output_of_an_earlier_version_gets_its_levels(tmp_path):
    scene, _, found = pure_scene()
    write(tmp_path / "out", found, scene)
    kept = read_result(tmp_path / "out")
    path = tmp_path / "out" / "estimate.npz"
    arrays = dict(np.load(path))
    arrays.pop("convention")
    np.savez(path, **{**arrays, "endmembers": found.endmembers})  # at maximum 1
    old = read_result(tmp_path / "out")
    assert old.convention == kept.convention == "scaled"
    np.testing.assert_allclose(old.endmembers, kept.endmembers, rtol=1e-6)
    np.savez(path, **arrays, convention="of its own")
    with pytest.raises(InputError, match="'of its own'; expected reflectance or scaled"):
        read_result(tmp_path / "out")


# --- the convention of a reference ------------------------------------------------------------------------------------


def light():
    return np.random.default_rng(3).uniform(0.5, 1.5, (H, W)).astype(np.float32)


@pytest.mark.parametrize(
    ("fractions", "truth_spectra", "brightness", "word"),
    [
        ("reflectance", "level", "one", "reflectance"),
        ("reflectance", "level", "free", "reflectance"),
        ("scaled", "level", "free", "scaled"),
        ("scaled", "level", "one", "scaled"),
        ("scaled", "one", "free", "scaled"),
        ("reflectance", "one", "one", "reflectance"),  # materials of one level: both conventions are the same
    ],
)
def test_the_convention_of_a_reference_is_that_which_makes_its_scene(fractions, truth_spectra, brightness, word):
    E = spectra() if truth_spectra == "level" else spectra() / TALL[:, None]
    U = E if fractions == "reflectance" else E / E.max(axis=1, keepdims=True)
    s = light() if brightness == "free" else np.ones((H, W), np.float32)
    cube = s[..., None] * (maps() @ U) + np.random.default_rng(1).normal(0, 1e-3, (H, W, B))
    for unit in (1, 10000):  # of the cube
        for size in (1, 0.4):  # of the spectra
            found = reference_convention(Truth(maps(), size * E), (unit * cube).astype(np.float32))
            assert found[0] == word
    mask = np.ones((H, W), bool)
    mask[2] = False
    damaged = np.where(mask[..., None], cube, np.nan)
    assert reference_convention(Truth(maps(), E), damaged.astype(np.float32), mask)[0] == word


def test_noise_does_not_hide_the_convention_of_a_reference():
    draw = np.random.default_rng(0)
    x = np.linspace(0, 1, 60)
    E = np.array([[0.9], [0.4], [0.3]]) * (0.2 + 0.8 * np.exp(-((x - np.array([[0.1], [0.5], [0.9]])) ** 2) / 0.02))
    A = draw.dirichlet(np.full(R, 0.6), (20, 20))
    B = A * E.max(axis=1)
    B /= B.sum(-1, keepdims=True)
    cube = (A @ E + draw.normal(0, 0.15, (20, 20, 60))).astype(np.float32)
    mixed = [a @ U for a, U in ((A, E), (B, E), (B, E / E.max(axis=1, keepdims=True)))]
    whole = [
        np.sqrt(np.sum((cube - m * (cube * m).sum(-1)[..., None] / (m * m).sum(-1)[..., None]) ** 2)) for m in mixed
    ]
    assert whole[2] > 0.95 * whole[1]  # in the whole of spectral space
    assert reference_convention(Truth(A, E), cube)[0] == "reflectance"
    assert reference_convention(Truth(B, E), cube)[0] == "scaled"


def test_without_a_scene_the_spectra_of_a_reference_decide():
    assert reference_convention(Truth(maps(), spectra()))[0] == "reflectance"
    assert reference_convention(Truth(maps(), spectra() / TALL[:, None]))[0] == "scaled"
    assert reference_convention(Truth(maps(), 0.3 * spectra() / TALL[:, None]))[0] == "scaled"
    assert reference_convention(Truth(maps()))[0] == "reflectance"
    assert reference_convention(Truth(maps(), spectra(), convention="scaled"))[0] == "scaled"
    with pytest.raises(InputError, match="convention of the reference is 'level'"):
        Truth(maps(), convention="level")


@pytest.mark.parametrize("theirs", ["reflectance", "scaled"])
@pytest.mark.parametrize("mine", ["reflectance", "scaled"])
def test_a_perfect_answer_has_no_error_in_any_convention(tmp_path, capsys, mine, theirs):
    """All answers describe the scene exactly; conventions of answer and reference are all pairs."""
    scene, shares, scaled = pure_scene()
    truth = shares if theirs == "reflectance" else scaled.abundances
    file = save(tmp_path / "t.npz", abundances=truth, endmembers=spectra(), cube=scene.cube)
    found = scaled if mine == "scaled" else Estimate(shares, spectra(), np.ones((H, W), np.float32), shares)
    write(tmp_path / "out", found, scene)
    errors = scored(capsys, tmp_path / "out", file)
    said = errors["convention"]
    assert (said["estimate"], said["reference"], said["converted"]) == (mine, theirs, mine != theirs)
    assert errors["armse"] < 1e-4 and errors["in_the_unit_of_the_estimate"]["armse"] < 1e-4
    raw = errors["as_they_are"]["armse"]
    assert (raw > 0.1) if mine != theirs else (raw < 1e-4)
    other = "scaled" if theirs == "reflectance" else "reflectance"
    assert scored(capsys, tmp_path / "out", file, "--convention", other)["armse"] > 0.1
    bare = save(tmp_path / "bare.npz", abundances=truth, endmembers=spectra())
    again = scored(capsys, tmp_path / "out", bare, "--scene", file)
    assert again["convention"]["reference"] == theirs and again["armse"] == errors["armse"]
    np.savez(tmp_path / "small.npz", cube=scene.cube[:-1])
    assert main.main(["score", str(tmp_path / "out"), str(bare), "--scene", str(tmp_path / "small.npz")]) == 1
    assert "expected the scene of the reference" in capsys.readouterr().err


def test_figures_of_arrays_are_those_of_their_output(tmp_path, capsys):
    scene, shares, found = pure_scene()
    noisy = np.abs(found.state + np.random.default_rng(0).normal(0, 0.02, found.state.shape)).astype(np.float32)
    total = noisy.sum(-1)
    write(tmp_path / "out", Estimate(noisy / total[..., None], found.endmembers, total, noisy), scene)
    truth = save(tmp_path / "t.npz", abundances=shares, endmembers=spectra(), cube=scene.cube)
    written = scored(capsys, tmp_path / "out", truth)
    # The level of the spectra that a caller holds does not matter under "scaled".
    held = as_estimate(noisy / total[..., None], 3 * spectra(), total, "scaled")
    direct = compare(held, Truth(shares, spectra()), cube=scene.cube)
    for name in ("armse", "pooled_rmse", "msad"):
        assert direct[name] == pytest.approx(written[name], rel=1e-4, abs=1e-6)
    assert written["armse"] > 0.005

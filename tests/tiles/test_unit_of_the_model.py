"""Tiles by the unit and the pools of the scene of the training: exact, read once, and never silent about NaN."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.equilibrium import model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.tiles import survey
from dequnmix_jax.training import checkpoint

H, W, B, R = 40, 21, 10, 3
CONFIG = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Cone())


def scenes():
    """Return two scenes of the same materials, one three times as bright, and parameters."""
    rng = np.random.default_rng(0)
    E = rng.uniform(0.1, 0.8, (R, B)).astype(np.float32)
    first = (rng.dirichlet(np.ones(R), (H, W)) @ E).astype(np.float32)
    second = (3 * rng.dirichlet(np.ones(R), (H, W)) @ E).astype(np.float32)
    params = dq.init(jax.random.key(0), jnp.asarray(first), CONFIG, endmembers=jnp.asarray(E))
    return first, second, params


FIRST, SECOND, PARAMS = scenes()


def maps(folder):
    return {name: dq.read_result(folder).__getattribute__(name) for name in ("abundances", "brightness", "state")}


def test_its_own_statistics_change_nothing(tmp_path):
    whole = dq.tiles.statistics_of(PARAMS, dq.Scene(FIRST), CONFIG)
    np.testing.assert_allclose(whole.scale, np.sqrt(np.mean(FIRST**2)), rtol=1e-6)
    dq.unmix_tiled(PARAMS, FIRST, CONFIG, tmp_path / "own", tile=16)
    dq.unmix_tiled(PARAMS, FIRST, CONFIG, tmp_path / "given", tile=16, whole=whole)
    for name in ("abundances.img", "brightness.img", "residual.img"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "given" / name).read_bytes()
    records = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("own", "given")]
    assert [record.get("statistics") for record in records] == [None, "model"]
    assert records[0]["valid_pixels"] == records[1]["valid_pixels"] == H * W


def test_a_neighbour_is_unmixed_in_the_unit_of_the_training(tmp_path):
    whole = dq.tiles.statistics_of(PARAMS, FIRST, CONFIG)
    dq.unmix_tiled(PARAMS, SECOND, CONFIG, tmp_path / "out", tile=16, whole=whole)
    expected, _, _ = model.equilibrium(PARAMS, jnp.asarray(SECOND), CONFIG, whole=jax.tree.map(jnp.asarray, whole))
    found = dq.read_result(tmp_path / "out")
    np.testing.assert_allclose(found.abundances, expected.abundances, atol=1e-5)
    np.testing.assert_allclose(found.brightness, expected.brightness, rtol=1e-4)


def test_the_scene_is_read_once(tmp_path, monkeypatch):
    rows = []
    read = survey.View.read

    def counted(seen, window):
        rows.append((window.rows.stop - window.rows.start) * (window.columns.stop - window.columns.start))
        return read(seen, window)

    monkeypatch.setattr(survey.View, "read", counted)
    monkeypatch.setattr(survey, "_GLANCED", 2)
    whole = Scenewide(np.float32(0.5))
    dq.unmix_tiled(PARAMS, FIRST, CONFIG, tmp_path / "given", tile=40, halo=0, whole=whole)
    assert sum(rows) == H * W + 2 * W  # the tiles, and two rows for the colours
    rows.clear()
    dq.unmix_tiled(PARAMS, FIRST, CONFIG, tmp_path / "own", tile=40, halo=0)
    assert sum(rows) == 2 * H * W


def test_nan_in_a_row_that_was_not_looked_at_is_no_silent_map(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "_GLANCED", 2)
    cube = FIRST.copy()
    cube[17, 3, 4] = np.nan
    with pytest.raises(
        InputError, match="holds NaN or infinite values in valid pixels of rows 16 to 31; expected finite"
    ):
        dq.unmix_tiled(
            PARAMS, dq.Scene(cube), CONFIG, tmp_path / "out", tile=16, halo=0, whole=Scenewide(np.float32(1))
        )
    assert not (tmp_path / "out").exists()


def test_a_scene_that_is_masked_where_it_was_looked_at_is_read_through(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "_GLANCED", 2)
    mask = np.zeros((H, W), np.bool_)
    mask[5:9] = True
    scene = dq.Scene(FIRST, mask=mask)
    dq.unmix_tiled(PARAMS, scene, CONFIG, tmp_path / "out", tile=16, halo=0, whole=Scenewide(np.float32(0.4)))
    assert dq.read_result(tmp_path / "out").summary["valid_pixels"] == 4 * W


@pytest.mark.parametrize(
    ("config", "whole", "sentence"),
    [
        (CONFIG, Scenewide(np.float32(0)), "The unit in whole is 0.0; expected the RMS of a scene"),
        (dq.Model(), Scenewide(np.float32(1)), r"The pools in whole have the shapes \[\]; expected \[\("),
    ],
)
def test_refusals(tmp_path, config, whole, sentence):
    params = dq.init(jax.random.key(0), jnp.asarray(FIRST), config, endmembers=PARAMS["endmembers"])
    with pytest.raises(InputError, match=sentence):
        dq.unmix_tiled(params, FIRST, config, tmp_path / "out", whole=whole)


def test_the_command_takes_the_unit_from_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    bands = f"{{{', '.join(str(500 + 10 * band) for band in range(B))}}}"
    spectral = {"wavelength": bands, "wavelength units": "Nanometers"}
    write_image(tmp_path / "a.img", FIRST, spectral=spectral)
    write_image(tmp_path / "b.img", SECOND, spectral=spectral)
    words = "fit a.img --endmembers 3 --epochs 1 --gradient analytic --start vca --constraint cone -o model.npz"
    assert main.main(words.split()) == 0
    params, metadata = checkpoint.load(tmp_path / "model.npz")
    assert metadata["whole"]["scale"] == pytest.approx(np.sqrt(np.mean(FIRST**2)), rel=1e-5)
    assert main.main(["unmix", "b.img", "model.npz", "--unit", "model", "--no-plots", "-o", "out"]) == 0
    record = json.loads((tmp_path / "out/summary.json").read_text())
    assert record["statistics"] == "model"
    metadata.pop("whole")
    checkpoint.save(tmp_path / "old.npz", params, metadata)
    capsys.readouterr()
    assert main.main(["unmix", "b.img", "old.npz", "--unit", "model", "-o", "other"]) == 1
    assert "does not hold the unit of the scene that it was trained on" in capsys.readouterr().err
    rows = "".join(f"{500 + 10 * i},0.{i % 8 + 1},0.{9 - i % 8}\n" for i in range(B))
    (tmp_path / "l.csv").write_text(f"wavelength_nm,clay,oak\n{rows}")
    assert main.main(["unmix", "b.img", "--endmembers", "l.csv", "--unit", "model", "-o", "other"]) == 1
    assert "expected none with known spectra. Leave it out." in capsys.readouterr().err
    assert not (tmp_path / "other").exists()

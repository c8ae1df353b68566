"""--fixed on the command line: spectra that stay, their names, and what is refused."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.cli import report as command
from dequnmix_jax.libraries.reading import read_library
from tests.cli.test_commands import WAVELENGTHS, B, H, R, W, spectra

E = spectra()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.full(R, 0.5), (H, W))
    cube = maps @ E + 0.001 * rng.standard_normal((H, W, B))
    np.savez(folder / "scene.npz", cube=cube.astype(np.float32), wavelengths_nm=WAVELENGTHS)
    for name, bands in (("library.csv", B), ("short.csv", B - 4)):
        rows = [",".join(["wavelength_nm", "sand", "brick"])]
        rows += [f"{w:g},{E[0, i]:.6g},{E[1, i]:.6g}" for i, w in enumerate(WAVELENGTHS[:bands])]
        (folder / name).write_text("\n".join(rows))
    return folder


def run(*words):
    return main.main([str(word) for word in words])


def refused(capsys, *words):
    assert run(*words) == 1
    return capsys.readouterr().err


def test_a_fixed_spectrum_comes_first_with_its_name(place, tmp_path):
    words = ["endmembers", place / "scene.npz", "--count", 3, "--fixed", place / "library.csv", "--fixed-names"]
    assert run(*words, "brick", "--method", "vca", "-o", tmp_path / "e.csv") == 0
    found = read_library(tmp_path / "e.csv")
    assert found.names == ("brick", "endmember 2", "endmember 3")
    np.testing.assert_allclose(found.spectra[0], E[1], rtol=1e-5)
    cosines = found.spectra @ E.T / np.outer(*(np.linalg.norm(s, axis=1) for s in (found.spectra, E)))
    assert sorted(cosines.argmax(axis=1)) == [0, 1, 2]


def test_fit_and_report_pass_them_on(place, tmp_path, capsys, monkeypatch):
    given = []

    def train(*_, fixed, **__):
        given.append(fixed)
        raise InputError("The work begins.")

    monkeypatch.setattr(command, "train", train)
    words = ["report", place / "scene.npz", "--endmembers", "auto", "-o", tmp_path / "r.html", "--fixed"]
    assert "The work begins." in refused(capsys, *words, place / "library.csv")
    assert given[0].names == ("sand", "brick") and given[0].spectra.shape == (2, B)
    # At least one more than are fixed.
    assert "The work begins." in refused(capsys, *words, place / "library.csv", "--max-endmembers", 2)


def test_refusals(place, tmp_path, capsys):
    scene, library = place / "scene.npz", place / "library.csv"
    words = ["endmembers", scene, "--count", 3, "-o", tmp_path / "e.csv"]
    said = refused(capsys, *words, "--method", "nfindr", "--fixed", library)
    assert "--fixed does not apply to nfindr; expected vca or start" in said
    assert "--fixed-names without a library; expected --fixed FILE" in refused(capsys, *words, "--fixed-names", "sand")
    assert "no spectrum 'gold'" in refused(capsys, *words, "--fixed", library, "--fixed-names", "gold")
    assert "2 spectra are fixed and 2 endmembers asked for" in refused(
        capsys, *words[:2], "--count", 2, "--fixed", library, "-o", tmp_path / "e.csv"
    )
    fit = ["fit", scene, "--endmembers", 3, "--fixed", library, "-o", tmp_path / "m.npz"]
    assert "expected no --start vca and no --patches" in refused(capsys, *fit, "--start", "vca")
    assert not list(tmp_path.iterdir())


def test_bands_that_the_library_lacks_are_left_out_on_request(place, tmp_path, capsys):
    words = ["endmembers", place / "scene.npz", "--count", 3, "--fixed", place / "short.csv"]
    words += ["--method", "vca", "-o", tmp_path / "e.csv"]
    said = refused(capsys, *words)
    assert "do not cover 4 of 20 bands" in said and "--ignore FROM:TO" in said
    assert run(*words, "--ignore", f"{WAVELENGTHS[-4]:g}:{WAVELENGTHS[-1]:g}") == 0
    assert read_library(tmp_path / "e.csv").spectra.shape == (3, B - 4)

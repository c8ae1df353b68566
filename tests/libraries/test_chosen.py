"""Spectra of a library on the bands of a scene: names, classes, coverage, and what is refused."""

import dataclasses

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.libraries.chosen import choose_spectra, numbered
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.libraries.resampling import resample

CENTRES = np.linspace(400.0, 900.0, 26)
BANDS = np.linspace(430.0, 850.0, 8)
NAMES = ("SOIL", "SOIL", "PV", "a,b")


def library(**changes):
    spectra = np.stack([0.1 + 0.1 * i + 0.3 * np.sin(CENTRES / (60 + 20 * i)) ** 2 for i in range(len(NAMES))])
    columns = {"Class": ("soil", "soil", "plant", "plant"), "Site": ("1", "2", "3", " ")}
    return dataclasses.replace(Library(NAMES, CENTRES, spectra, columns=columns), **changes)


def test_names_classes_and_values():
    whole = library()
    chosen = choose_spectra(whole, BANDS, np.full(8, 30.0), classes="class")
    assert chosen.names == ("SOIL 1", "SOIL 2", "PV", "a,b")
    assert chosen.classes == ("soil", "soil", "plant", "plant")
    assert chosen.covered.all()
    np.testing.assert_array_equal(chosen.spectra, resample(whole, BANDS, np.full(8, 30.0)).spectra)
    assert choose_spectra(whole, BANDS, classes="name").classes == NAMES
    assert choose_spectra(whole, BANDS).classes == ()


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [(["SOIL"], [0, 1]), (["PV,SOIL 2"], [2, 1]), (["a,b", "PV"], [3, 2]), (["SOIL,SOIL 1", "PV"], [0, 1, 2])],
)
def test_spectra_by_name(wanted, rows):
    chosen = choose_spectra(library(), BANDS, spectra=wanted, classes="Class")
    everything = choose_spectra(library(), BANDS, classes="Class")
    assert chosen.names == tuple(everything.names[row] for row in rows)
    assert chosen.classes == tuple(everything.classes[row] for row in rows)
    np.testing.assert_array_equal(chosen.spectra, everything.spectra[rows])


def test_bands_that_some_spectrum_does_not_cover_are_left_out_and_named():
    bands = np.append(BANDS, [950.0, 980.0])
    gap = library().spectra.copy()
    gap[1, 4:7] = np.nan  # 480 to 520 nm
    chosen = choose_spectra(library(spectra=gap), bands)
    assert chosen.covered.tolist() == [True, False, *[True] * 6, False, False]
    assert chosen.spectra.shape == (4, 7) and np.isfinite(chosen.spectra).all()
    assert chosen.notes[-1].startswith(
        "3 of 10 bands are not covered by every spectrum and are left out: 490 to 490 nm"
    )
    assert chosen.notes[-1].endswith("490 to 490 nm, 950 to 980 nm.")
    good = np.ones(10, np.bool_)
    good[-2:] = False  # bands that are not in use are not counted
    assert choose_spectra(library(spectra=gap), bands, good=good).notes[-1].startswith("1 of 8 bands")


def short(row=3, kept=5):
    spectra = library().spectra.copy()
    spectra[row, kept:] = np.nan
    return library(spectra=spectra)


@pytest.mark.parametrize(
    ("more", "wavelengths", "sentence"),
    [
        ({}, None, "has no wavelengths"),
        ({"classes": "Klass"}, BANDS, "no column 'Klass' of classes; expected one of: Class, Site, name"),
        ({"classes": "Site"}, BANDS, "no class for a,b"),
        ({"spectra": ["grass,PV"]}, BANDS, "no spectrum 'grass'; expected names among: SOIL, PV, a,b"),
        ({"spectra": ["PV"]}, BANDS, "gives 1 spectrum to unmix with; expected at least two"),
        ({}, BANDS + 5000, "expected them to overlap"),
        ({}, np.array([500.0, 5000.0, 6000.0]), "share 1 band in"),
    ],
)
def test_what_does_not_fit_is_a_sentence(more, wavelengths, sentence):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(")):
        choose_spectra(library(), wavelengths, **more)


def test_a_spectrum_of_another_range_is_named_and_the_others_can_be():
    with pytest.raises(InputError, match=r"a,b is known in 1 of the 8 bands .*--spectra"):
        choose_spectra(short(), BANDS)
    assert choose_spectra(short(), BANDS, spectra=["SOIL", "PV"]).covered.all()


def test_numbers_do_not_collide_with_names():
    assert numbered(["a", "a 1", "a"]) == ("a 2", "a 1", "a 3")


def test_columns_of_a_table_are_kept(tmp_path):
    path = tmp_path / "library.csv"
    path.write_text("Class,Site,400,500,600\nSOIL,x,0.1,0.2,0.3\nPV,y,0.2,0.3,0.4\n")
    read = read_library(path)
    assert read.names == ("SOIL", "PV")
    assert read.columns == {"Class": ("SOIL", "PV"), "Site": ("x", "y")}
    with pytest.raises(InputError, match="has 1 entry for 2 spectra"):
        dataclasses.replace(read, columns={"Class": ("a",)})

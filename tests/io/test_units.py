"""Units of wavelength: a word of a text, the numbers that contradict it, widths in another unit."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import bands, units

NM = np.array([450.0, 900.0, 1350.0, 1800.0, 2400.0])
FINE = np.arange(450.0, 550.0, 8.0)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("Spectrum", ""),
        ("Column 1", ""),
        ("Number", ""),
        ("instrument=", ""),
        ("column m", ""),
        ("Environment", ""),
        ("wavelength_nm", "nanometres"),
        ("Nanometers", "nanometres"),
        ("WL (um)", "micrometres"),
        ("Wavelength [µm]", "micrometres"),
        ("μm", "micrometres"),
        ("Microns", "micrometres"),
        ("X Units: Wavelength (micrometers)", "micrometres"),
        ("Angstroms", "angstroms"),
        ("Å", "angstroms"),
        ("Millimeters", "millimetres"),
        ("cm", "centimetres"),
        ("Meters", "metres"),
        ("wavelength (m)", "metres"),
        ("Wavenumber (cm-1)", "wavenumbers"),
        ("1/cm", "wavenumbers"),
        ("cm^-1", "wavenumbers"),
        ("cm⁻¹", "wavenumbers"),
    ],
)
def test_a_unit_is_a_word_by_itself(text, unit):
    assert units.unit_in(text, "The file") == unit


def test_two_units_in_one_text_are_refused():
    with pytest.raises(InputError, match="names nanometres and micrometres"):
        units.unit_in("wavelength (nm or um)", "The file")
    centres, notes = bands.nanometres(NM, "nm or um")
    assert centres is None and "nanometres and micrometres" in notes[0]


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("Nanometers", NM),
        ("Micrometers", NM / 1e3),
        ("Angstroms", NM * 10),
        ("Millimeters", NM / 1e6),
        ("Centimeters", NM / 1e7),
        ("Meters", NM / 1e9),
        ("cm-1", 1e7 / NM),
        ("1/cm", 1e7 / NM),
    ],
)
def test_every_unit_becomes_nanometres(unit, values):
    widths = 1e7 * 10.0 / NM**2 if "cm" in unit.lower() and unit != "Centimeters" else 10.0 * values / NM
    centres, fwhm, _ = bands.spectral_axis(values, unit, widths=widths)
    np.testing.assert_allclose(centres, NM, rtol=1e-12)
    np.testing.assert_allclose(fwhm, 10.0, rtol=1e-12)


@pytest.mark.parametrize("unit", ["Angstroms", "Millimeters", "Meters"])
def test_a_unit_that_the_numbers_contradict_is_corrected_and_said(unit):
    centres, notes = bands.nanometres(NM / 1000, unit)  # micrometres
    np.testing.assert_allclose(centres, NM)
    assert f"says {unit.lower().replace('ers', 'res') if unit != 'Angstroms' else 'angstroms'}" in notes[0]
    assert "micrometres were assumed" in notes[0]


@pytest.mark.parametrize(
    ("unit", "values", "widths", "said"),
    [
        ("Micrometers", FINE / 1000, 10.0, "nanometres were assumed"),  # both fields have one unit by the format
        ("Nanometers", FINE, 0.01, "micrometres were assumed"),
        ("Wavenumber", 1e7 / FINE, 10.0 / 1000, "micrometres were assumed"),
    ],
)
def test_widths_in_another_unit_than_the_wavelengths(unit, values, widths, said):
    centres, fwhm, notes = bands.spectral_axis(values, unit, widths=np.full(FINE.size, widths))
    np.testing.assert_allclose(centres, FINE)
    np.testing.assert_allclose(fwhm, 10.0)
    assert said in notes[-1]


def test_widths_that_state_their_unit_and_narrow_lines_are_kept():
    _, fwhm, notes = bands.spectral_axis(FINE / 1000, "um", widths=np.full(FINE.size, 6.0), width_unit="nm")
    assert (fwhm == 6.0).all() and not notes
    _, fwhm, notes = bands.spectral_axis(NM, "nm", widths=np.full(5, 10.0))  # 45 times narrower than their distance
    assert (fwhm == 10.0).all() and not notes


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["Band 1 (402.44)", "Band 2 (410.0)"], ([402.44, 410.0], "")),
        (["Band 1 (450.0 Nanometers)", "Band 2 (460 Nanometers)"], ([450.0, 460.0], "nanometres")),
        (["band 19 (0.513 Micrometers)", "band 20 (0.523 Micrometers)"], ([0.513, 0.523], "micrometres")),
        (["450.0 nm", "460_nm"], ([450.0, 460.0], "nanometres")),
        (["0.45", "0.55"], ([0.45, 0.55], "")),
        (["450.0 nm", "0.46 um"], None),
        (["450 nm", "red"], None),
        (["Band 1", "Band 2"], None),
        (["Band (1)", "Band (2)"], None),
        (["1", "2"], None),
        (["300", "300"], None),
    ],
)
def test_wavelengths_in_the_names_of_bands(names, found):
    read = units.lengths_in_names(names)
    if found is None:
        assert read is None
    else:
        np.testing.assert_allclose(read[0], found[0])
        assert read[1] == found[1]

"""Names from a library: sure, maybe, none, and each of them only once."""

import numpy as np

from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.matching import match
from dequnmix_jax.libraries.naming import FAR, NEAR, named

WAVELENGTHS = np.linspace(400, 900, 4)
LIBRARY = Library(("chalk", "clay", "copy"), WAVELENGTHS, np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.0]]) + 0.0)


def at(*angles, row=0):
    """Return spectra at these angles from a spectrum of the library, in a direction that none of the library has."""
    spectra = np.zeros((len(angles), 4))
    spectra[:, row], spectra[:, 3] = np.cos(angles), np.sin(angles)
    return spectra


def labels(spectra, names=None, library=LIBRARY):
    names = [f"endmember {i + 1}" for i in range(len(spectra))] if names is None else names
    return named(names, match(spectra, library, count=2, overlap=0.5))


def test_near_far_and_none():
    found = labels(at(0.5 * NEAR, 0.9 * FAR, 1.1 * FAR))
    assert found.labels == ("chalk", "endmember 2 (maybe chalk)", "endmember 3") and found.sure == (True, False, False)
    assert labels(np.zeros((1, 4))).labels == ("endmember 1",)  # shade


def test_one_name_for_several_endmembers_keeps_their_numbers():
    found = labels(np.concatenate([at(0.0, 0.01), at(0.0, row=1)]))
    assert found.labels == ("chalk (endmember 1)", "chalk (endmember 2)", "clay") and all(found.sure)
    assert len(set(found.labels)) == 3


def test_two_library_spectra_at_the_same_angle_are_no_sure_name():
    twice = Library(("chalk", "lime"), WAVELENGTHS, np.array([[1, 0, 0, 0.0], [2, 0, 0, 0.0]]))
    assert labels(at(0.01), library=twice).labels == ("endmember 1 (maybe chalk)",)


def test_names_that_were_given_stay():
    assert labels(at(0.0, 0.0), ["wall", "endmember 2"]).labels == ("wall", "chalk (endmember 2)")
    assert labels(at(0.0, 0.01), ["chalk", "endmember 2"]).labels == ("chalk", "chalk (endmember 2)")

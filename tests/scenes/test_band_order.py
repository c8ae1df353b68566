"""Bands in another order than expected are matched by wavelength, and other bands are refused."""

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.scenes.band_order import scene_in_order, source_in_order
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Window, source_of

NM = np.arange(400.0, 500.0, 10.0)
CUBE = np.random.default_rng(0).uniform(size=(4, 3, 10)).astype(np.float32)


def scene(order, **more):
    return Scene(CUBE[:, :, order], wavelengths=NM[order], fwhm=NM[order] / 50, **more)


@pytest.mark.parametrize("order", [np.arange(10)[::-1], np.array([3, 0, 2, 1, 4, 5, 9, 6, 8, 7])])
def test_bands_in_any_order_are_matched(order):
    given = scene(order)
    for found in (scene_in_order(given, NM + 0.4), source_in_order(source_of(given), NM + 0.4).scene()):
        np.testing.assert_array_equal(found.cube, CUBE)
        np.testing.assert_array_equal(found.wavelengths, NM)
        np.testing.assert_array_equal(found.fwhm, NM / 50)
        assert "matched by wavelength" in found.notes[-1]
    values, _ = source_in_order(source_of(given), NM).read(Window(slice(1, 3), slice(0, 2)))
    np.testing.assert_array_equal(values, CUBE[1:3, :2])


def test_bad_bands_are_not_matched():
    order = np.arange(10)[::-1]
    good = np.ones(10, np.bool_)
    good[[0, 4]] = False
    wanted = np.sort(NM[order][good])
    found = scene_in_order(scene(order, good_bands=good), wanted)
    np.testing.assert_array_equal(found.wavelengths, wanted)
    assert found.good_bands.all() and "8 of 10 bands" in found.notes[-1]


def test_the_same_bands_stay_as_they_are():
    given = scene(np.arange(10))
    assert scene_in_order(given, NM + 3) is given
    assert scene_in_order(given, NM[:5]) is given  # another number of bands: an error of the model
    unknown = Scene(CUBE)
    assert scene_in_order(unknown, NM) is unknown


def test_other_bands_are_refused():
    with pytest.raises(dq.InputError, match=r"lie up to 50.0 nm .* in any order up to 50.0 nm; .* within 10.0 nm"):
        scene_in_order(scene(np.arange(10)), NM + 50)

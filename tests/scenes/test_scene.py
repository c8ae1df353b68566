"""Scenes have their documented types; faults and warnings are sentences."""

import dataclasses
import re

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.parser import parser
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.scenes.truth import Truth

H, W, B, R = 4, 5, 6, 3


def cube():
    return np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)


def scene(**fields):
    return Scene(**({"cube": cube(), "name": "plot"} | fields))


# --- Scene ---------------------------------------------------------------------------------------------------------


def test_scene_brings_arrays_to_their_types():
    found = scene(
        cube=np.asfortranarray(cube().astype(np.float64)), wavelengths=range(1, B + 1), good_bands=[1, 1, 0, 1, 1, 1]
    )
    assert found.cube.dtype == np.float32 and found.cube.flags.c_contiguous
    assert found.wavelengths.dtype == np.float64 and found.good_bands.dtype == bool
    good = found.with_good_bands()
    np.testing.assert_array_equal(good.cube, cube()[:, :, [0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(good.wavelengths, [1, 2, 4, 5, 6])
    assert "1 of 6 bands left out" in good.notes[0]
    assert good.with_good_bands() is good


def test_the_repr_is_one_short_line():
    assert repr(scene(name="")) == "<Scene: 4 x 5 pixels, 6 bands, no wavelengths, 0 % masked, no georeference>"
    mask = np.ones((H, W), bool)
    mask[0, :2] = False
    place = Georeference("EPSG:32632", (30, 0, 0, 0, -30, 0), np.zeros((500, 500, 2), np.int32))
    whole = scene(wavelengths=np.linspace(400, 900.5, B), good_bands=[1, 1, 0, 1, 1, 0], mask=mask, georeference=place)
    text = "<Scene plot: 4 x 5 pixels, 6 bands (2 bad), 400 to 900.5 nm, 10 % masked, georeferenced>"
    assert repr(whole) == text and len(repr(place)) < 120
    assert repr(scene(name="a\x1b[2Jb")).startswith(r"<Scene a\x1b[2Jb: ")


def test_the_crs_is_that_of_the_georeference_or_of_the_envi_fields():
    fields = {"map info": "{UTM}", "coordinate system string": '{PROJCS["UTM_Zone_32N"]}'}
    assert scene().crs is None and scene(envi_fields={"map info": "{UTM}"}).crs is None
    assert scene(envi_fields=fields).crs == 'PROJCS["UTM_Zone_32N"]'
    place = Georeference("EPSG:32632", (30, 0, 0, 0, -30, 0))
    assert scene(envi_fields=fields, georeference=place).crs == "EPSG:32632"
    assert scene(georeference=Georeference("", (30, 0, 0, 0, -30, 0))).crs is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cube": np.ones((3, 4), np.float32)}, r"shape \(3, 4\); expected \(rows, columns, bands\)"),
        ({"wavelengths": [1, 2]}, r"wavelengths has shape \(2,\) and the cube has 6 bands"),
        ({"good_bands": [True]}, r"good_bands has shape \(1,\)"),
        ({"mask": np.ones((2, 2), bool)}, r"mask has shape \(2, 2\)"),
    ],
)
def test_scene_refuses_what_does_not_fit(fields, message):
    with pytest.raises(InputError, match=message):
        scene(**fields)


def test_all_bands_bad():
    with pytest.raises(InputError, match="All 6 bands of plot are marked bad"):
        scene(good_bands=np.zeros(B, bool)).with_good_bands()


def test_bands_nearest():
    nanometres = np.array([450, 500, 550, 600, 650, 700.0])
    assert scene(wavelengths=nanometres).bands_nearest() == (4, 2, 0)
    assert scene(wavelengths=nanometres, good_bands=nanometres != 650).bands_nearest(660) == (5,)
    assert scene().bands_nearest() == (5, 3, 1)
    assert scene(wavelengths=nanometres + 1000).bands_nearest() == (5, 3, 1)


# --- checks --------------------------------------------------------------------------------------------------------


def test_clean_scene_has_no_warnings():
    assert check_scene(scene(), count=R) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_counted_and_placed(value):
    values = cube()
    values[2, 3, 1] = values[3, 0, 0] = value
    with pytest.raises(InputError, match=r"NaN or infinite values in 2 of 20 .* row 2, column 3.*--nodata nan"):
        check_scene(scene(cube=values))
    masked = mask_invalid(scene(cube=values))
    assert masked.valid.sum() == 18 and np.isfinite(masked.cube).all()
    assert "Masked 0 all-zero pixels and 2 with NaN" in masked.notes[0]
    assert check_scene(masked) == []


@pytest.mark.parametrize(("value", "words"), [
    (1e30, r"plot holds values up to 1e\+30; expected at most 1e\+15, .*nodata=1e\+30 \(--nodata=1e\+30\).*"
           r"another unit, read with scale=1e\+30 \(--scale 1e\+30\)"),
    (-3.4028235e38, r"up to 3.403e\+38; .*nodata=-3.4028235e\+38 "),
])  # fmt: skip
def test_values_whose_squares_float32_cannot_hold(value, words):
    values = cube()
    values[2, 3, 1] = value
    with pytest.raises(InputError, match=words):
        check_scene(scene(cube=values))
    hidden = np.ones((H, W), bool)
    hidden[2, 3] = False
    assert check_scene(scene(cube=values, mask=hidden)) == []
    assert check_scene(scene(cube=values, good_bands=np.arange(B) != 1)) == []


def test_the_command_line_takes_the_option_that_is_advised():
    """Python 3.11 takes -1e+30 after a space for an option."""
    values = cube()
    values[2, 3, 1] = -1e30
    with pytest.raises(InputError) as caught:
        check_scene(scene(cube=values))
    (option,) = re.findall(r"\((--nodata\S+)\)", str(caught.value))
    assert parser("").parse_args(["info", "scene.npz", option]).nodata == -1e30


def test_the_unit_of_a_scene_may_be_any_within_wide_bounds():
    for unit in (1e-14, 1e-6, 1e15 / 0.95):
        check_scene(scene(cube=cube() * np.float32(unit)))
    with pytest.raises(InputError, match=r"no value beyond 8.*e-20; expected at least 1e-15.*read with scale=1e-19 "):
        check_scene(scene(cube=cube() * np.float32(1e-19)))
    # In a scene that was divided, the advice is about the stored numbers, and no fill is guessed.
    with pytest.raises(InputError, match=r"squares of others. If these .*read with scale=1e\+21 "):
        check_scene(scene(cube=cube() * np.float32(1e17), notes=("Values were divided by 10000.",)))


def test_a_scene_of_zeros_is_none():
    with pytest.raises(InputError, match="All 20 valid pixels of plot are zero in every band; expected measurements"):
        check_scene(scene(cube=np.zeros((H, W, B), np.float32)))


def test_nan_in_bad_bands_only():
    values = cube()
    values[:, :, 2] = np.nan
    found = scene(cube=values, good_bands=np.arange(B) != 2)
    with pytest.raises(InputError, match=r"All of them lie in bands marked bad: use scene.with_good_bands\(\)"):
        check_scene(found)
    assert check_scene(found.with_good_bands()) == []


def test_nothing_valid():
    with pytest.raises(InputError, match="All 20 pixels of plot are masked"):
        check_scene(scene(mask=np.zeros((H, W), bool)))
    with pytest.raises(InputError, match="All 20 pixels of plot are masked, zero, NaN"):
        mask_invalid(scene(cube=np.zeros((H, W, B), np.float32)))


@pytest.mark.parametrize("wavelengths", [None, 400 + 100 * np.arange(B)], ids=["plain", "wavelengths"])
@pytest.mark.parametrize("somewhere", [False, True], ids=["nowhere", "in few pixels"])
def test_a_band_that_masks_every_pixel_is_named_and_the_advice_works(somewhere, wavelengths):
    values = cube()
    values[:, :, 2] = np.nan
    if somewhere:  # the only pixel that the band does not spoil holds nothing
        values[1, 1] = 0
    spoiled = scene(cube=values, wavelengths=wavelengths)
    with pytest.raises(InputError, match="finite in band 2") as raised:
        mask_invalid(spoiled)
    assert ("Less than half of the pixels" in str(raised.value)) == somewhere
    code = re.search(r"(dataclasses\.replace.*with_good_bands\(\))", str(raised.value))[1]
    left = eval(code, {"dataclasses": dataclasses, "numpy": np, "scene": spoiled})
    assert left.cube.shape[2] == B - 1 and mask_invalid(left).valid.sum() == H * W - somewhere


@pytest.mark.parametrize(("count", "message"), [(1, "1 endmember asked for"), (7, "7 endmembers asked for in 6 bands")])
def test_count_is_checked(count, message):
    with pytest.raises(InputError, match=message):
        check_scene(scene(), count=count)


def test_count_against_valid_pixels():
    mask = np.zeros((H, W), bool)
    mask[0, :2] = True
    with pytest.raises(InputError, match="3 endmembers asked for in 2 valid pixels"):
        check_scene(scene(mask=mask), count=3)


def test_constant_bands_are_named():
    values = cube()
    values[:, :, [1, 4]] = 0.25
    (sentence,) = check_scene(scene(cube=values, wavelengths=400 + 100 * np.arange(B)))
    assert "2 bands are constant" in sentence and "1 (500.0 nm), 4 (800.0 nm)" in sentence
    assert check_scene(scene(cube=values, good_bands=[1, 0, 1, 1, 0, 1])) == []


def test_zero_pixels_are_counted_and_masked():
    values = cube()
    values[0, :3] = 0
    (sentence,) = check_scene(scene(cube=values))
    assert "3 of 20 valid pixels are zero" in sentence
    masked = mask_invalid(scene(cube=values))
    assert not masked.valid[0, :3].any() and masked.valid.sum() == 17
    assert check_scene(masked) == []
    assert mask_invalid(masked) is masked


def test_negative_reflectance_is_counted():
    values = cube()
    values[1, 1, :2] = -0.02
    values[2, 2, 0] = -0.5
    mask = np.ones((H, W), bool)
    (sentence,) = check_scene(scene(cube=values))
    assert "negative in 2 pixels and 2 bands, down to -0.5" in sentence
    mask[1:3, 1:3] = False
    assert check_scene(scene(cube=values, mask=mask)) == []


def test_scaled_integers_are_recognised():
    (sentence,) = check_scene(scene(cube=cube() * 9000))
    assert "--scale 10000" in sentence


def test_truth_disagreeing_with_itself():
    with pytest.raises(InputError, match="3 in abundances, 4 in endmembers"):
        Truth(abundances=np.ones((2, 2, 3)), endmembers=np.ones((4, 5)))


def test_earlier_names():
    import dequnmix_jax.scene as earlier

    assert earlier.check_scene is check_scene and earlier.Scene is Scene and earlier.mask_invalid is mask_invalid
    place = Georeference("EPSG:32632", (30, 0, 6e5, 0, -30, 5.3e6))
    assert scene(georeference=place).ground is place

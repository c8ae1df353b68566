"""Numpy files, and files that are not scenes."""

import json
import zipfile

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi.writer import write_library
from dequnmix_jax.io.formats import open_source, read, read_truth
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene, check_scene
from dequnmix_jax.training.checkpoint import save

H, W, B, R = 4, 5, 6, 3


def cube():
    return np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)


# --- numpy files ---------------------------------------------------------------------------------------------------


def test_npz_round_trip(tmp_path):
    path = tmp_path / "s.npz"
    mask = np.ones((H, W), bool)
    mask[0, 0] = False
    np.savez(
        path,
        cube=(cube() * 1000).astype(np.uint16),
        reflectance_scale_factor=1000,
        wavelengths_nm=np.arange(B),
        bbl=[1, 1, 0, 1, 1, 1],
        mask=mask,
        crs=json.dumps({"map info": "{UTM}"}),
        abundances=np.full((H, W, R), 1 / R),
        endmembers=np.ones((R, B)),
        names=["a", "b", "c"],
        note="made up",
    )
    found = read(path)
    np.testing.assert_allclose(found.cube[1:], cube()[1:], atol=1e-3)
    assert found.good_bands.sum() == 5 and found.valid.sum() == 19 and (found.cube[0, 0] == 0).all()
    assert found.notes.count("1 of 20 pixels are masked in the file.") == 1
    assert found.envi_fields == {"map info": "{UTM}"} and found.name == "s" and found.source == path
    marked = read(path, nodata=float(np.uint16(cube()[3, 4, 0] * 1000)))
    assert not marked.valid[0, 0] and not marked.valid[3, 4]  # the file's mask and the nodata value both count
    truth = read_truth(path)
    assert truth.names == ("a", "b", "c") and truth.reference == "made up"
    assert truth.abundances.shape == (H, W, R) and truth.endmembers.dtype == np.float32


FIELDS = {"map info": "{UTM}"}
TRANSFORM = (30.0, 0.0, 600000.0, 0.0, -20.0, 5300000.0)


@pytest.mark.parametrize(
    ("names", "crs"),
    [
        ({"envi_fields": json.dumps(FIELDS), "crs": "EPSG:32632"}, "EPSG:32632"),
        ({"crs": json.dumps(FIELDS), "projection": "EPSG:32632"}, "EPSG:32632"),  # an earlier version of this program
        ({"crs": json.dumps(FIELDS)}, None),
    ],
)
def test_the_place_of_a_npz_of_this_and_of_earlier_versions(tmp_path, names, crs):
    np.savez(tmp_path / "s.npz", cube=cube(), transform=TRANSFORM, **names)
    found = read(tmp_path / "s.npz")
    assert found.crs == crs and found.envi_fields == FIELDS and found.georeference.transform == TRANSFORM


def test_a_written_npz_names_its_crs(tmp_path):
    write_scene(
        tmp_path / "s.npz", Scene(cube(), envi_fields=FIELDS, georeference=Georeference("EPSG:32632", TRANSFORM))
    )
    with np.load(tmp_path / "s.npz") as file:
        assert str(file["crs"]) == "EPSG:32632" and json.loads(str(file["envi_fields"])) == FIELDS
        assert "projection" not in file
    found = read(tmp_path / "s.npz")
    assert found.crs == "EPSG:32632" and found.envi_fields == FIELDS


def test_an_unknown_option_is_answered_by_the_list_of_options(tmp_path):
    np.save(tmp_path / "c.npy", cube())
    for opened in (read, open_source):
        words = r"nodatta: not an option .* nodata, .* drop_bands, mask, .* or mask_invert\."
        with pytest.raises(InputError, match=words):
            opened(tmp_path / "c.npy", nodatta=0)


def test_npy_cube_and_matrix(tmp_path):
    np.save(tmp_path / "c.npy", cube())
    np.testing.assert_array_equal(read(tmp_path / "c.npy").cube, cube())
    np.save(tmp_path / "m.npy", cube().reshape(-1, B))
    np.testing.assert_array_equal(read(tmp_path / "m.npy", shape=(H, W)).cube, cube())
    np.save(tmp_path / "t.npy", cube().reshape(-1, B).T)
    np.testing.assert_array_equal(read(tmp_path / "t.npy", shape=(H, W)).cube, cube())
    with pytest.raises(InputError, match=r"shape \(20, 6\), but the other variables say 21 pixels"):
        read(tmp_path / "m.npy", shape=(3, 7))


def test_nodata_nan(tmp_path):
    values = cube()
    values[1, 1, 1] = np.nan
    np.save(tmp_path / "c.npy", values)
    found = read(tmp_path / "c.npy", nodata=float("nan"))
    assert not found.valid[1, 1] and found.valid.sum() == 19
    assert check_scene(found) == []


def test_ignored_ranges_and_saturation(tmp_path):
    np.savez(tmp_path / "s.npz", cube=cube(), wavelengths_nm=400.0 + 100 * np.arange(B), bbl=[0, 1, 1, 1, 1, 1])
    full = float(cube()[2, 3, 2])
    found = read(tmp_path / "s.npz", ignore=[(600, 650), (900, 900)], saturation=full)
    assert found.good_bands.tolist() == [False, True, False, True, True, False]
    expected = (cube()[:, :, [1, 3, 4]] < np.float32(full)).all(axis=2)
    np.testing.assert_array_equal(found.valid, expected)
    with pytest.raises(InputError, match="saturation value is NaN"):
        read(tmp_path / "s.npz", saturation=float("nan"))


def test_bands_by_number(tmp_path):
    values = cube()
    values[:, :, 0] = -1  # a dead band must not mask every pixel
    values[0, 0, 2] = -1
    np.save(tmp_path / "c.npy", values)
    found = read(tmp_path / "c.npy", bands=(1, 3), nodata=-1)
    assert found.good_bands.tolist() == [False, True, True, True, False, False]
    assert (~found.valid).sum() == 1
    assert "Bands 1 to 3 (counted from 0) are used and no others." in found.notes
    for wrong in ((3, 1), (-1, 2), (0, 6)):
        with pytest.raises(InputError, match="expected numbers from 0 to 5"):
            read(tmp_path / "c.npy", bands=wrong)


class Trap:
    """Reports its unpickling."""

    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_pickles_are_refused_unread(tmp_path, capsys, suffix):
    path = tmp_path / f"s.{suffix}"
    if suffix == "npz":
        np.savez(path, cube=np.array([Trap()], object))
    else:
        np.save(path, np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled Python objects"):
        read(path)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.999])
def test_truncated_npz(tmp_path, keep):
    path = tmp_path / "s.npz"
    np.savez_compressed(path, cube=cube())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match=r"s\.npz cannot be read as a numpy file .*truncated"):
        read(path)


def test_the_words_of_another_library_are_not_cut_within_a_word(tmp_path):
    path = tmp_path / "s.npy"
    np.save(path, cube())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(
        InputError, match=r"Expected \(.*\) = \d+ elements, could only read \d+ elements\..* \.\.\.\); it is"
    ):
        read(path)


def test_npz_with_a_damaged_entry(tmp_path):
    path = tmp_path / "s.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cube.npy", b"\x93NUMPY\x01\x00 nonsense")
    with pytest.raises(InputError, match="cannot be read as a numpy file"):
        read(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((2, 2, 2)), "b": np.ones((2, 2, 2))}, r"holds a \(2, 2, 2\), b \(2, 2, 2\), and none"),
        ({"cube": np.ones((2, 2, 2), complex)}, "data type complex128"),
        ({"cube": np.ones(3)}, r"shape \(3,\); expected \(rows, columns, bands\)"),
        ({"cube": np.ones((2, 2, 2)), "mask": np.ones((3, 3))}, r"'mask' in .* shape \(3, 3\)"),
        ({"cube": np.ones((2, 2, 2)), "crs": "{"}, "'crs' in .* is not JSON"),
        ({"cube": np.ones((2, 2, 2)), "reflectance_scale_factor": [1, 2]}, "expected one number"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "s.npz")


# --- any file ------------------------------------------------------------------------------------------------------


def test_what_is_no_scene(tmp_path):
    with pytest.raises(InputError, match=r"gone\.npz does not exist"):
        read(tmp_path / "gone.npz")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match=r"begins with b'hello' and has no ENVI header"):
        read(tmp_path / "x.txt")
    (tmp_path / "x.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        read(tmp_path / "x.tif")
    with pytest.raises(InputError, match="shape is"):
        read(tmp_path / "x.txt", shape=(0, 3))


def test_numpy_beside_an_envi_header_is_numpy(tmp_path):
    np.savez(tmp_path / "x.npz", cube=cube())
    (tmp_path / "x.hdr").write_text("ENVI\n")
    np.testing.assert_array_equal(read(tmp_path / "x.npz").cube, cube())


# --- names in a .npz -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "factor", "said"),
    [
        (("wavelengths_nm", "fwhm_nm"), 1.0, ""),
        (("wavelengths", "bandwidths"), 1.0, "nanometres were assumed"),
        (("wavelength", "fwhm"), 1e-3, "micrometres were assumed"),
        (("wavelengths", "bandwidth"), 1e-3, "micrometres were assumed"),
    ],
)
def test_wavelengths_and_widths_by_other_names(tmp_path, names, factor, said):
    nm, widths = np.linspace(400, 2400, B), np.linspace(5, 10, B)
    np.savez(tmp_path / "s.npz", cube=cube(), **{names[0]: nm * factor, names[1]: widths * factor})
    found = read(tmp_path / "s.npz")
    np.testing.assert_allclose(found.wavelengths, nm)
    np.testing.assert_allclose(found.fwhm, widths)
    assert len(found.notes) == bool(said) and said in "".join(found.notes)


def test_numbers_of_bands_that_are_not_read_are_named(tmp_path):
    np.savez(tmp_path / "s.npz", cube=cube(), centre=np.arange(1, B + 1), fwhm=np.ones(B), names=np.array(["a"] * B))
    found = read(tmp_path / "s.npz")
    assert found.wavelengths is None and found.fwhm is None
    assert len(found.notes) == 2 and "'centre' holds one number for each band and was not used" in found.notes[1]
    assert "'fwhm' was not used: its unit is that of missing wavelengths" in found.notes[0]


def test_a_model_and_a_result_are_not_scenes(tmp_path):
    save(tmp_path / "m.npz", {"endmembers": np.ones((R, B))}, {})
    with pytest.raises(InputError, match=r"m\.npz is a trained model.* `dequnmix unmix SCENE m\.npz"):
        read(tmp_path / "m.npz")
    maps = np.ones((H, W, R))
    np.savez(tmp_path / "e.npz", abundances=maps, endmembers=np.ones((R, B)), brightness=maps[..., 0], state=maps)
    with pytest.raises(InputError, match=r"holds the maps of a result, not a scene.*name its folder"):
        read(tmp_path / "e.npz")
    assert read(tmp_path / "e.npz", variable="state").cube.shape == (H, W, R)  # whoever asks for it gets it


@pytest.mark.parametrize("beside", [True, False])
def test_a_table_is_not_a_scene_even_beside_a_header(tmp_path, beside):
    (tmp_path / "e.csv").write_text("wavelength_nm,a\n400,0.1\n500,0.2\n")
    if beside:
        write_library(tmp_path / "e.sli", np.ones((2, 3), np.float32), ("a", "b"), None)
    with pytest.raises(InputError, match="is a table, not a scene"):
        read(tmp_path / "e.csv")
    with pytest.raises(InputError, match="read_reference reads it"):
        read_truth(tmp_path / "e.csv")


def test_one_value_a_band_also_of_a_source_that_is_not_read(tmp_path):
    np.savez(tmp_path / "s.npz", cube=np.ones((6, 5, 3), np.float32), bbl=np.ones(9))
    with pytest.raises(InputError, match=r"good_bands of shape \(9,\) and 3 bands"):
        open_source(tmp_path / "s.npz")
    np.savez(
        tmp_path / "s.npz", cube=np.ones((6, 5, 3), np.float32), wavelengths_nm=np.array([400, 500, 600], np.float16)
    )
    assert read(tmp_path / "s.npz").wavelengths.tolist() == [400, 500, 600]


@pytest.mark.parametrize("centres", [np.nan, [[np.nan] * 5]])
def test_wavelengths_without_an_axis_are_left_out(tmp_path, centres):
    np.savez(tmp_path / "s.npz", cube=np.ones((4, 3, 5), np.float32), wavelengths_nm=np.array(centres))
    found = read(tmp_path / "s.npz")
    assert found.wavelengths is None and "nan nm in band 0" in found.notes[0]

"""MATLAB files: every layout gives the same scene, transposed or not; ambiguity raises a question to the user."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import read, read_truth

savemat = pytest.importorskip("scipy.io", reason="MATLAB files need scipy (extra io)").savemat

H, W, B, R = 6, 4, 7, 3


def truth(height=H, width=W):
    """A cube that is exactly A @ E, without any symmetry."""
    generator = np.random.default_rng(4)
    abundances = generator.dirichlet(np.ones(R), (height, width))
    endmembers = generator.uniform(0.1, 0.9, (R, B))
    return abundances @ endmembers, abundances, endmembers


def matrix(picture, order):
    """Return (H, W, K) as (K, N) in the given order of pixels, pixel by pixel."""
    height, width, _ = picture.shape
    places = [(i, j) for j in range(width) for i in range(height)]
    if order == "C":
        places = [(i, j) for i in range(height) for j in range(width)]
    return np.array([picture[place] for place in places]).T


def layout(name, cube, abundances, endmembers):
    height, width, _ = cube.shape
    down = {key: matrix(value, "F") for key, value in {"Y": cube, "A": abundances}.items()}
    along = {key: matrix(value, "C") for key, value in {"Y": cube, "A": abundances}.items()}
    cells = np.array(["soil", "tree", "water"], object)
    return {
        "authors": down | {"M": endmembers.T, "M1": endmembers.T + 1, "A1": matrix(abundances / 2, "F")},
        "zhu": {
            "V": down["Y"],
            "A": down["A"],
            "M": endmembers.T,
            "nRow": height,
            "nCol": width,
            "cood": cells[:, None],
        },
        "palsson": {"Y": down["Y"], "S_GT": abundances, "GT": endmembers, "lines": height, "cols": width},
        "palsson along": {"Y": along["Y"], "S_GT": abundances, "GT": endmembers, "lines": height, "cols": width},
        "hysupp": along
        | {"E": endmembers.T, "H": height, "W": width, "p": R, "L": B, "N": height * width, "M": 9}
        | {"D": np.ones((B, 9)), "labels": np.array(["soil ", "tree ", "water"])},
        "cube": {"hsi": cube, "abundances": abundances, "endmembers": endmembers, "note": "x"},
        "estimates of hysupp": {"cube": cube, "A": np.moveaxis(abundances, 2, 0), "E": endmembers.T},
    }[name]


LAYOUTS = ["authors", "zhu", "palsson", "palsson along", "hysupp", "cube", "estimates of hysupp"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_scene(tmp_path, name):
    sides = (5, 5) if name == "authors" else (H, W)
    cube, abundances, endmembers = truth(*sides)
    path = tmp_path / "scene.mat"
    savemat(path, layout(name, cube, abundances, endmembers))
    scene, reference = read(path), read_truth(path)
    np.testing.assert_allclose(scene.cube, cube, rtol=1e-6)
    np.testing.assert_allclose(reference.abundances, abundances, rtol=1e-5)
    np.testing.assert_allclose(reference.endmembers, endmembers, rtol=1e-6)
    if name == "authors":
        np.testing.assert_allclose(reference.initial_endmembers, endmembers + 1, rtol=1e-6)
        np.testing.assert_allclose(reference.initial_abundances, abundances / 2, rtol=1e-5)
        assert "5 x 5 pixels was assumed" in scene.notes[0]
    if name in ("zhu", "hysupp"):
        assert reference.names == ("soil", "tree", "water")


@pytest.mark.parametrize("order", ["F", "C"])
def test_maps_counted_unlike_the_cube_are_found_out(tmp_path, order):
    cube, abundances, endmembers = truth(5, 5)
    content = {"Y": matrix(cube, "F"), "A": matrix(abundances, order), "M": endmembers.T}
    savemat(tmp_path / "s.mat", content)
    np.testing.assert_allclose(read_truth(tmp_path / "s.mat").abundances, abundances, rtol=1e-5)


def test_the_user_says_the_order(tmp_path):
    cube, _, _ = truth(5, 5)
    savemat(tmp_path / "s.mat", {"Y": matrix(cube, "C")})
    np.testing.assert_allclose(read(tmp_path / "s.mat", order="C").cube, cube, rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "s.mat").cube, cube.transpose(1, 0, 2), rtol=1e-6)
    with pytest.raises(InputError, match="order is 'D'"):
        read(tmp_path / "s.mat", order="D")


def test_sheared_picture_is_counted_the_other_way(tmp_path):
    smooth = np.add.outer(np.linspace(0, 5, 20), np.sin(np.linspace(0, 6, 30)))[:, :, None] * np.ones(B)
    savemat(tmp_path / "s.mat", {"Y": matrix(smooth, "C"), "nRow": 20, "nCol": 30})
    scene = read(tmp_path / "s.mat")
    np.testing.assert_allclose(scene.cube, smooth, rtol=1e-6)
    assert "along the rows" in scene.notes[0] and "sheared" in scene.notes[0]


@pytest.mark.parametrize("known", ["sides", "maps", "spectra", "square", "shape"])
def test_pixels_first_is_transposed_and_said(tmp_path, known):
    cube, abundances, endmembers = truth(5, 5)
    content = {"Y": matrix(cube, "F").T}
    content |= {
        "sides": {"nRow": 5, "nCol": 5},
        "maps": {"A": matrix(abundances, "F")},
        "spectra": {"M": endmembers.T},
    }.get(known, {})
    savemat(tmp_path / "s.mat", content)
    scene = read(tmp_path / "s.mat", shape=(5, 5) if known == "shape" else None)
    np.testing.assert_allclose(scene.cube, cube, rtol=1e-6)
    assert "Y has shape (25, 7), pixels first, and was transposed" in scene.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Y": np.ones((25, 16))}, r"Y in .* has shape \(25, 16\), and nothing in the file tells bands from pixels"),
        ({"Y": np.ones((7, 24))}, r"Y in .* has shape \(7, 24\), and nothing .* pass shape=\(rows, columns\)"),
        ({"Y": np.ones((7, 24)), "M": np.ones((7, 3))}, "24 pixels, which is not a square number"),
        ({"Y": np.ones((7, 24)), "M": np.ones((8, 3))}, r"shape \(7, 24\), but the other variables say 8 bands"),
        ({"Y": np.ones((7, 24)), "nRow": 5, "nCol": 5}, r"shape \(7, 24\), but the other variables say 25 pixels"),
        ({"Y": np.ones((7, 24)), "A": np.ones((3, 25))}, r"shape \(7, 24\), but the other variables say 25 pixels"),
        ({"a": np.ones((4, 4, 9)), "b": np.ones((4, 4, 9))}, r"a \(4, 4, 9\), b \(4, 4, 9\), none of which is known"),
        ({"text": "hello"}, r"text \(1,\), none of which is known to be the cube"),
    ],
)
def test_what_cannot_be_told_is_asked_for(tmp_path, content, message):
    savemat(tmp_path / "s.mat", content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "s.mat")


def test_truth_that_does_not_fit(tmp_path):
    savemat(tmp_path / "s.mat", {"A": np.full((3, 24), 1 / 3)})
    with pytest.raises(InputError, match=r"A in .* holds 24 pixels, which is not a square number"):
        read_truth(tmp_path / "s.mat")
    assert read_truth(tmp_path / "s.mat", shape=(6, 4)).abundances.shape == (6, 4, 3)
    savemat(tmp_path / "s.mat", {"A": np.full((3, 25), 1 / 3), "M": np.ones((7, 4))})
    with pytest.raises(InputError, match=r"M in .* shape \(7, 4\), .* 3 endmembers"):
        read_truth(tmp_path / "s.mat")
    savemat(tmp_path / "s.mat", {"Y": np.ones((4, 4, 9))})
    with pytest.raises(InputError, match=r"holds Y \(4, 4, 9\); expected abundances"):
        read_truth(tmp_path / "s.mat")


def test_variable_wavelengths_scale_and_nodata(tmp_path):
    values = np.arange(1, 1 + 4 * 4 * 3, dtype=np.uint16).reshape(4, 4, 3)
    content = {"first": values, "second": values * 2, "wavelengths": [[0.4, 0.5, 0.6]], "maxValue": 5437}
    savemat(tmp_path / "s.mat", content)
    scene = read(tmp_path / "s.mat", variable="second", scale=10, nodata=2)
    np.testing.assert_allclose(scene.cube[1:], (values * 2 / 10)[1:], rtol=1e-6)
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600])
    assert not scene.valid[0, 0] and scene.valid.sum() == 15
    assert any("maxValue = 5437" in note for note in read(tmp_path / "s.mat", variable="first").notes)
    with pytest.raises(InputError, match=r"named 'third'; it holds first \(4, 4, 3\)"):
        read(tmp_path / "s.mat", variable="third")


def test_bands_first_cube_is_turned_by_its_wavelengths(tmp_path):
    cube, _, _ = truth()
    savemat(tmp_path / "s.mat", {"cube": np.moveaxis(cube, 2, 0), "wavelengths_nm": np.linspace(400, 900, B)})
    scene = read(tmp_path / "s.mat")
    np.testing.assert_allclose(scene.cube, cube, rtol=1e-6)
    assert "taken as (bands, rows, columns)" in scene.notes[0]


def test_files_that_are_no_matlab_files(tmp_path):
    path = tmp_path / "s.mat"
    savemat(path, {"Y": np.ones((7, 25))})
    whole = path.read_bytes()
    for content, message in [
        (whole[: len(whole) // 2], "damaged, truncated"),
        (whole[:100], "damaged, truncated"),
        (b"no MATLAB file at all" * 20, "damaged, truncated"),
        (b"MATLAB 7.3 MAT-file, Platform".ljust(512) + b"\x89HDF\r\n\x1a\n", "cannot be read as HDF5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "cannot be read as HDF5"),
        (b"", "is empty"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read(path)
    path.unlink()
    with pytest.raises(InputError, match=r"s\.mat does not exist"):
        read(path)


def save73(path, variables):
    """Write a MATLAB 7.3 file as MATLAB does: HDF5 behind a header of 512 bytes, axes reversed, cells by reference."""
    h5py = pytest.importorskip("h5py")

    def put(group, name, value):
        if isinstance(value, dict):
            held = group.create_group(name)
            held.attrs["MATLAB_class"] = np.bytes_("struct")
            for field, inside in value.items():
                put(held, field, inside)
        elif isinstance(value, str):
            held = group.create_dataset(name, data=np.frombuffer(value.encode("utf-16-le"), np.uint16)[:, None])
            held.attrs["MATLAB_class"] = np.bytes_("char")
        elif np.asarray(value).dtype.kind == "O":
            entries = [put(file.require_group("#refs#"), f"{name}{i}", entry).ref for i, entry in enumerate(value.flat)]
            held = group.create_dataset(name, data=np.array(entries, h5py.ref_dtype).reshape(value.shape[::-1]))
            held.attrs["MATLAB_class"] = np.bytes_("cell")
        elif np.asarray(value).dtype.kind == "U":
            rows = [np.frombuffer(text.ljust(9).encode("utf-16-le"), np.uint16) for text in value]
            held = group.create_dataset(name, data=np.stack(rows).T)
            held.attrs["MATLAB_class"] = np.bytes_("char")
        else:
            held = group.create_dataset(name, data=np.atleast_2d(np.asarray(value, float)).T)
            held.attrs["MATLAB_class"] = np.bytes_("double")
        return held

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            put(file, name, value)
        file.create_group("a_struct").attrs["MATLAB_class"] = np.bytes_("struct")
        empty = file.create_dataset("nothing", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_class"], empty.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


@pytest.mark.parametrize("name", LAYOUTS)
def test_version_73_gives_what_version_7_gives(tmp_path, name):
    variables = layout(name, *truth())
    savemat(tmp_path / "s7.mat", variables)
    save73(tmp_path / "s73.mat", variables)
    shape = {"authors": (H, W)}.get(name)
    old, new = (read(tmp_path / f"{stem}.mat", shape=shape) for stem in ("s7", "s73"))
    np.testing.assert_array_equal(new.cube, old.cube)
    old_truth, new_truth = (read_truth(tmp_path / f"{stem}.mat", shape=shape) for stem in ("s7", "s73"))
    np.testing.assert_array_equal(new_truth.abundances, old_truth.abundances)
    np.testing.assert_array_equal(new_truth.endmembers, old_truth.endmembers)
    assert new_truth.names == old_truth.names


def test_a_cell_that_holds_itself_ends(tmp_path):
    h5py = pytest.importorskip("h5py")
    save73(tmp_path / "s.mat", layout("cube", *truth()))
    with h5py.File(tmp_path / "s.mat", "r+") as file:
        held = file.create_dataset("loop", shape=(1, 1), dtype=h5py.ref_dtype)
        held[0, 0] = held.ref
        held.attrs["MATLAB_class"] = np.bytes_("cell")
    assert read(tmp_path / "s.mat").cube.shape == (H, W, B)


def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch):
    savemat(tmp_path / "s.mat", {"Y": np.ones((7, 25))}, format="4")
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[io\]'"):
        read(tmp_path / "s.mat")


def test_authors_samson_is_zhus_samson():
    folder = Path(os.environ.get("DEQUNMIX_DATA", "")) if os.environ.get("DEQUNMIX_DATA") else None
    if folder is None or not (folder / "samson_authors.mat").is_file() or not (folder / "samson_zhu.npz").is_file():
        pytest.skip("DEQUNMIX_DATA does not name a folder with samson_authors.mat and samson_zhu.npz")
    scene, reference = read(folder / "samson_authors.mat"), read_truth(folder / "samson_authors.mat")
    known, zhu = read(folder / "samson_zhu.npz"), read_truth(folder / "samson_zhu.npz")
    np.testing.assert_allclose(scene.cube / scene.cube.max(), known.cube / known.cube.max(), atol=1e-6)
    np.testing.assert_allclose(reference.abundances, zhu.abundances, atol=1e-6)
    np.testing.assert_allclose(reference.endmembers, zhu.endmembers, atol=1e-6)
    assert reference.initial_endmembers.shape == (3, 156)
    np.testing.assert_allclose(reference.initial_abundances.sum(axis=2), 1, atol=1e-4)


def test_truth_in_the_order_the_user_says(tmp_path):
    _, abundances, _ = truth(5, 5)
    savemat(tmp_path / "s.mat", {"A": matrix(abundances, "C")})
    np.testing.assert_allclose(read_truth(tmp_path / "s.mat", order="C").abundances, abundances, rtol=1e-6)
    with pytest.raises(InputError, match="order is 'c'"):
        read_truth(tmp_path / "s.mat", order="c")


def muufl():
    """Return the struct of MUUFL Gulfport: a cube with a picture, wavelengths and valid pixels beside it."""
    cube = truth()[0]
    valid = np.ones(cube.shape[:2])
    valid[0, 1] = 0
    info = {"wavelength": np.linspace(400, 900, B)[:, None], "sensor": "CASI"}
    return cube, {"Data": cube, "info": info, "RGB": np.zeros((*cube.shape[:2], 3)), "valid_mask": valid}


@pytest.mark.parametrize("write", [savemat, save73])
def test_a_cube_in_a_struct(tmp_path, write):
    """No file of MUUFL Gulfport was at hand; its fields are those that its own programs name."""
    cube, fields = muufl()
    write(tmp_path / "s.mat", {"hsi": fields})
    scene = read(tmp_path / "s.mat")
    valid = fields["valid_mask"] > 0
    np.testing.assert_array_equal(scene.mask, valid)
    np.testing.assert_allclose(scene.cube[valid], cube[valid], rtol=1e-6)
    np.testing.assert_allclose(scene.wavelengths, np.linspace(400, 900, B))
    other = read(tmp_path / "s.mat", variable="hsi.RGB")
    assert other.cube.shape[2] == 3 and other.wavelengths is None
    write(tmp_path / "s.mat", {"a": {"Data": cube}, "b": {"Data": cube}})
    with pytest.raises(InputError, match=r"a\.Data \(.*b\.Data .*Pass variable=NAME"):
        read(tmp_path / "s.mat")
    assert read(tmp_path / "s.mat", variable="b.Data").cube.shape == cube.shape


def test_what_is_not_read_is_named(tmp_path):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    many = np.zeros(3, [("Data", object)])
    savemat(tmp_path / "s.mat", {"scenes": many, "L": scipy_sparse.eye(3), "deep": {"empty": {}}})
    with pytest.raises(InputError, match=r"L \(sparse .*not read\).*") as error:
        read(tmp_path / "s.mat")
    assert "scenes (struct (1, 3), not read)" in str(error.value)


def test_damaged_structs_raise_errors_of_the_input(tmp_path):
    _, fields = muufl()
    path = tmp_path / "s.mat"
    savemat(path, {"hsi": fields})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(128, min(len(whole), 900), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(200, len(whole))] if rng.random() < 0.3 else damaged)
        with contextlib.suppress(InputError):
            read(path)


def test_a_group_that_holds_itself_ends(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "s.mat", "w", userblock_size=512) as file:
        group = file.create_group("loop")
        for name in range(12):
            group[str(name)] = group
    with (tmp_path / "s.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    with pytest.raises(InputError, match="more than 10000 entries"):
        read(tmp_path / "s.mat")


@pytest.mark.parametrize(("axes", "said"), [((2, 0, 1), "bands, rows, columns"), ((2, 1, 0), "bands, columns, rows")])
def test_spectra_and_maps_of_the_file_tell_the_axes_of_its_cube(tmp_path, axes, said):
    cube, abundances, endmembers = truth()
    path = tmp_path / "first.mat"
    savemat(path, {"Y": cube.transpose(axes), "A": np.moveaxis(abundances, 2, 0), "M": endmembers.T})
    scene = read(path)
    np.testing.assert_allclose(scene.cube, cube, rtol=1e-6)
    assert f"taken as ({said})" in scene.notes[0]


def test_a_cube_that_disagrees_with_the_spectra_and_maps_of_its_file_is_noted(tmp_path):
    cube, abundances, endmembers = truth()
    path = tmp_path / "other.mat"
    savemat(path, {"Y": cube[1:, :, :-2], "A": abundances, "M": endmembers.T})
    notes = " ".join(read(path).notes)
    assert f"Y has {H - 1} x {W} pixels, A {H} x {W}." in notes and f"Y has {B - 2} bands and M {B}." in notes

"""MATLAB's files: versions 4 and 5, and 7.3."""

import io
import zlib
from pathlib import Path

import numpy as np

from experiments.robustness.hostile_files.hdf5 import dataset, huge
from experiments.robustness.hostile_files.samples import CENTRES, CUBE, MAPS, SPECTRA, B, H, R, W, often, perhaps
from experiments.robustness.mutations import Random, Tree, pick, spoil_bytes


def _layouts(draw: Random) -> Tree:
    square = np.asarray(CUBE[:5].reshape(25, B).T, np.float64)
    flat = np.asarray(CUBE.reshape(-1, B).T, np.float64)
    maps = MAPS.reshape(-1, R).T
    return pick(
        draw,
        (
            {"Y": square, "A": maps[:, :25], "M": SPECTRA.T, "M1": SPECTRA.T, "A1": maps[:, :25]},
            {"V": flat, "nRow": H, "nCol": W, "A": maps, "M": SPECTRA.T, "cood": np.array(["a", "b", "c"], object)},
            {"Y": flat, "S_GT": MAPS, "GT": SPECTRA, "lines": H, "cols": W, "maxValue": 1.0},
            {"Y": flat, "A": maps, "E": SPECTRA.T, "H": H, "W": W, "labels": np.array(["a", "b", "c"], object)},
            {"cube": CUBE, "wavelengths": CENTRES, "abundances": MAPS, "endmembers": SPECTRA},
        ),
    )


def make_mat5(draw: Random, folder: Path) -> Path:
    """Make a MATLAB file of version 4 or 5."""
    from scipy.io import savemat

    tree = {
        name[:31].encode("ascii", "replace").decode().replace("?", "u"): v
        for name, v in often(draw, _layouts(draw)).items()
    }
    if draw.random() < 0.1:
        from scipy.sparse import csc_matrix

        tree[pick(draw, ("Y", "A", "M", "H"))] = pick(
            draw,
            (
                {"a": CUBE},
                csc_matrix(np.eye(4)),
                np.array(CUBE, np.complex64),
                "text",
                np.array([[{"a": 1}]], object),
            ),
        )
    path = folder / "s.mat"
    file = io.BytesIO()
    try:
        savemat(
            file,
            tree,
            do_compression=draw.random() < 0.4,
            format=pick(draw, ("5", "5", "5", "4")),
            long_field_names=True,
        )
    except (
        TypeError,
        ValueError,
        AttributeError,
        NotImplementedError,
    ):  # what savemat cannot write is not a case for a reader
        file = io.BytesIO()
        savemat(file, _layouts(draw))
    data = file.getvalue()
    if draw.random() < 0.01:
        bomb = zlib.compress(b"\x0e\0\0\0" + (2**31 - 1).to_bytes(4, "little") + bytes(200_000_000), 9)
        data += b"\x0f\0\0\0" + len(bomb).to_bytes(4, "little") + bomb
    path.write_bytes(spoil_bytes(draw, data) if draw.random() < 0.6 else data)
    return path


def make_mat73(draw: Random, folder: Path) -> Path:
    """Make a MATLAB file of version 7.3."""
    import h5py

    path = folder / "s.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in often(draw, _layouts(draw)).items():
            array = np.asarray(values)
            if array.dtype.kind == "O":
                words = [np.frombuffer(str(word).encode("utf-16-le"), np.uint16)[:, None] for word in array.flat]
                held = [
                    file.require_group("#refs#").create_dataset(f"{name}{i}", data=word) for i, word in enumerate(words)
                ]
                for entry in held:
                    entry.attrs["MATLAB_class"] = np.bytes_("char")
                made = file.create_dataset(name, data=np.array([[entry.ref for entry in held]], h5py.ref_dtype))
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                dataset(file, name, np.atleast_2d(array).T if array.ndim < 3 else array.T)
                if name in file:
                    file[name].attrs["MATLAB_class"] = np.bytes_(
                        pick(draw, (b"double",) * 8 + (b"char", b"cell", b"struct", b"\xff"))
                    )
        huge(draw, file, ("Y", "A", "cube"))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def make_struct(draw: Random, folder: Path) -> Path:
    """Make a MATLAB file of version 5 or 7.3 whose cube lies in a struct."""
    import h5py
    from scipy.io import savemat

    inside: Tree = {"Data": CUBE, "RGB": CUBE[:, :, :3], "valid_mask": np.ones((H, W), "u1")}
    inside |= {"wavelength": CENTRES, "name": "a scene"}
    fields = {
        str(name)[:31].encode("ascii", "replace").decode().replace("?", "u"): value
        for name, value in often(draw, inside).items()
    }
    path = folder / "s.mat"
    if draw.random() < 0.7:
        whole = {"hsi": fields | {"info": {"wavelength": CENTRES, "inner": {"deep": {"deeper": {"x": 1.0}}}}}}
        try:
            savemat(path, whole, do_compression=draw.random() < 0.3, long_field_names=True)
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            savemat(path, {"hsi": {"Data": CUBE}})
        data = path.read_bytes()
        path.write_bytes(spoil_bytes(draw, data) if draw.random() < 0.75 else data)
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in fields.items():
            array = np.asarray(values)
            dataset(file, f"hsi/{name}", array.T if array.ndim > 1 else array)
        if draw.random() < 0.1:
            file["hsi/again"] = file["hsi"]
        huge(draw, file, ("hsi/Data", "hsi/wavelength"))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path

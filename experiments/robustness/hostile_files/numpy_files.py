"""numpy's files: .npz and .npy."""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.robustness.hostile_files.samples import CENTRES, CUBE, MAPS, SPECTRA, B, H, W, often, perhaps
from experiments.robustness.mutations import Random, Tree, pick

_NPZ: Tree = {
    "cube": CUBE,
    "abundances": MAPS,
    "endmembers": SPECTRA,
    "names": np.array(["soil", "tree", "water"]),
    "wavelengths_nm": CENTRES,
    "bbl": np.ones(B),
    "mask": np.ones((H, W), bool),
    "note": np.array("whose it is"),
    "reflectance_scale_factor": np.array(1.0),
    "fwhm_nm": np.full(B, 10.0),
    "projection": np.array("EPSG:32632"),
    "transform": np.array([30.0, 0, 5e5, 0, -30, 5e6]),
    "lookup": np.full((4, 3, 2), 1),
    "crs": np.array(json.dumps({"map info": "{UTM, 1, 1, 0, 0, 30, 30, 32, North}"})),
}
_HEADERS = (
    "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }",
    "{'descr': '%s', 'fortran_order': %s, 'shape': %s",
    "{'descr': '%s', 'fortran_order': %s, 'shape': %s, 'x': 1}",
    "{'descr': [('a', '%s')], 'fortran_order': %s, 'shape': %s, }",
    "__import__('os').mkdir('unpickled') or '%s %s %s'",
)
_SHAPES = ("(6, 5, 9)", "(10**9,)", "(1000000, 1000000, 285)", "(-1, 5, 9)", "(6, 5, 9.0)", "(True, 5, 9)", "()",
           "(270,)", "(4294967296, 4294967296)", "(0, 0, 0)", "6", "None", "(" * 300, "(60000, 500, 9)",
           "(6L, 5L, 9L)")  # fmt: skip
_TYPES = (
    "<f4",
    ">f4",
    "<f8",
    "|O",
    "<U9",
    "|V4",
    "<c8",
    "<M8[s]",
    "|b1",
    "<f16",
    "<i3",
    "f4,f4",
    "",
    "<f4\\x00",
    "|S0",
    "<U0",
)


def _lying_array(draw: Random, values: Any) -> bytes:
    """Return a .npy whose header does not describe its content."""
    header = pick(draw, _HEADERS) % (pick(draw, _TYPES), pick(draw, ("False", "True", "2", "x")), pick(draw, _SHAPES))
    version = pick(draw, (1, 1, 1, 2, 3, 4, 255))
    text = (header + " " * int(draw.integers(64)) + "\n").encode()
    if draw.random() < 0.03:
        text = text.replace(b" ", b" " * 20_000)
    length = (
        len(text).to_bytes(2 if version == 1 else 4, "little") if len(text) < 65536 or version != 1 else b"\xff\xff"
    )
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + np.asarray(values).tobytes()


def _array(draw: Random, values: Any) -> bytes:
    if draw.random() < 0.25:
        return _lying_array(draw, CUBE)
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def _archive(draw: Random, tree: Tree) -> bytes:
    """Return a .npz with false headers, missing, doubled or foreign members, or bombs."""
    file = io.BytesIO()
    method = pick(
        draw, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    lying = draw.random() < 0.25
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, values in tree.items():
            if lying or np.asarray(values).dtype.kind == "O":
                content = _array(draw, values)
            else:
                plain = io.BytesIO()
                np.save(plain, values)
                content = plain.getvalue()
            archive.writestr(name + pick(draw, (".npy",) * 9 + ("", ".txt")), content)
            if draw.random() < 0.02:
                archive.writestr("inner.npz", b"PK\x03\x04" + content)
        if draw.random() < 0.01:
            head = np.lib.format.magic(1, 0)
            shape = (100, 10000, pick(draw, (3, 200)))
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
            archive.writestr("cube.npy", head + len(text).to_bytes(2, "little") + text + bytes(200_000_000))
    return file.getvalue()


def archive(draw: Random, tree: Tree) -> bytes:
    """Return a damaged .npz, ignoring zipfile's warning on doubled names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return _archive(draw, tree)


def make_npz(draw: Random, folder: Path) -> Path:
    """Make a .npz archive."""
    tree = _NPZ if draw.random() < 0.7 else {"cube": CUBE.reshape(-1, B), "wavelengths_nm": CENTRES}
    path = folder / "s.npz"
    path.write_bytes(perhaps(draw, archive(draw, often(draw, tree))))
    return path


def make_npy(draw: Random, folder: Path) -> Path:
    """Make a .npy file."""
    path = folder / "s.npy"
    values = next(iter(often(draw, {"cube": CUBE}).values()), np.zeros(3))
    path.write_bytes(perhaps(draw, _array(draw, values)))
    return path

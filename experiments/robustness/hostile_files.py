"""Files of every kind that the package reads: small ones as they should be, and the same spoiled.

`KINDS` holds for each kind how a case is made, by a numpy Generator in an empty folder, and how it is read: by the very
functions that the command line uses.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.config_file import read_configuration
from dequnmix_jax.io import formats
from dequnmix_jax.libraries import reading
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.checkpoint import check_params, model_from
from dequnmix_jax.training.words import words_of
from experiments.robustness.mutations import Random, Tree, pick, spoil_bytes, spoil_json_text, spoil_text, spoil_tree

H, W, B, R = 6, 5, 9, 3
CENTRES = np.linspace(450.0, 2400.0, B)
_CUBE = np.random.default_rng(0).uniform(0.05, 0.6, (H, W, B)).astype(np.float32)
_MAPS = np.random.default_rng(1).dirichlet(np.ones(R), (H, W)).astype(np.float32)
_SPECTRA = np.random.default_rng(2).uniform(0.1, 0.9, (R, B)).astype(np.float32)


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes a spoiled file into an empty folder and returns what is to be read.
        read: reads it, and raises InputError where it cannot.
    """

    make: Callable[[Random, Path], Path]
    read: Callable[[Path], Any]


# --- reading ---------------------------------------------------------------------------------------------------------


def read_scene(path: Path) -> None:
    """Read a scene as `dequnmix info` does, and a window of it as tiles do."""
    source = formats.open_source(path)
    height, width, _ = source.shape
    source.read(Window(slice(height // 2, height), slice(0, max(1, width // 2))), source.good_bands)
    scene = formats.read(path).with_good_bands()
    scene.bands_nearest()
    check_scene(mask_invalid(scene))


def _read_reference(path: Path) -> None:
    try:
        formats.read_truth(path)
    finally:
        read_scene(path)


def _read_checkpoint(path: Path) -> None:
    params, metadata = checkpoint.load(path)
    checkpoint.check_matches(params)
    check_params(params, model_from(metadata, path), path)


# --- numpy -----------------------------------------------------------------------------------------------------------

_NPZ: Tree = {
    "cube": _CUBE,
    "abundances": _MAPS,
    "endmembers": _SPECTRA,
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
    """Return a .npy whose header says something else than what follows."""
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
        return _lying_array(draw, _CUBE)
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def _archive(draw: Random, tree: Tree) -> bytes:
    """Return a .npz of arrays of which some lie, with members that are none, doubled, empty or bombs."""
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


def _doubled(archive: Callable[[Random, Tree], bytes]) -> Callable[[Random, Tree], bytes]:
    def quiet(draw: Random, tree: Tree) -> bytes:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # zipfile on doubled names
            return archive(draw, tree)

    return quiet


def _often(draw: Random, tree: Tree) -> Tree:
    return spoil_tree(draw, tree) if draw.random() < 0.65 else tree


def _perhaps(draw: Random, data: bytes) -> bytes:
    return spoil_bytes(draw, data) if draw.random() < 0.35 else data


def _npz(draw: Random, folder: Path) -> Path:
    tree = _NPZ if draw.random() < 0.7 else {"cube": _CUBE.reshape(-1, B), "wavelengths_nm": CENTRES}
    path = folder / "s.npz"
    path.write_bytes(_perhaps(draw, _doubled(_archive)(draw, _often(draw, tree))))
    return path


def _npy(draw: Random, folder: Path) -> Path:
    path = folder / "s.npy"
    values = next(iter(_often(draw, {"cube": _CUBE}).values()), np.zeros(3))
    path.write_bytes(_perhaps(draw, _array(draw, values)))
    return path


# --- MATLAB ----------------------------------------------------------------------------------------------------------


def _layouts(draw: Random) -> Tree:
    square = np.asarray(_CUBE[:5].reshape(25, B).T, np.float64)
    flat = np.asarray(_CUBE.reshape(-1, B).T, np.float64)
    maps = _MAPS.reshape(-1, R).T
    return pick(
        draw,
        (
            {"Y": square, "A": maps[:, :25], "M": _SPECTRA.T, "M1": _SPECTRA.T, "A1": maps[:, :25]},
            {"V": flat, "nRow": H, "nCol": W, "A": maps, "M": _SPECTRA.T, "cood": np.array(["a", "b", "c"], object)},
            {"Y": flat, "S_GT": _MAPS, "GT": _SPECTRA, "lines": H, "cols": W, "maxValue": 1.0},
            {"Y": flat, "A": maps, "E": _SPECTRA.T, "H": H, "W": W, "labels": np.array(["a", "b", "c"], object)},
            {"cube": _CUBE, "wavelengths": CENTRES, "abundances": _MAPS, "endmembers": _SPECTRA},
        ),
    )


def _mat5(draw: Random, folder: Path) -> Path:
    from scipy.io import savemat

    tree = {
        name[:31].encode("ascii", "replace").decode().replace("?", "u"): v
        for name, v in _often(draw, _layouts(draw)).items()
    }
    if draw.random() < 0.1:
        from scipy.sparse import csc_matrix

        tree[pick(draw, ("Y", "A", "M", "H"))] = pick(
            draw,
            (
                {"a": _CUBE},
                csc_matrix(np.eye(4)),
                np.array(_CUBE, np.complex64),
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
    ):  # what savemat cannot write is no case for a reader
        file = io.BytesIO()
        savemat(file, _layouts(draw))
    data = file.getvalue()
    if draw.random() < 0.01:
        bomb = zlib.compress(b"\x0e\0\0\0" + (2**31 - 1).to_bytes(4, "little") + bytes(200_000_000), 9)
        data += b"\x0f\0\0\0" + len(bomb).to_bytes(4, "little") + bomb
    path.write_bytes(spoil_bytes(draw, data) if draw.random() < 0.6 else data)
    return path


def _mat73(draw: Random, folder: Path) -> Path:
    import h5py

    path = folder / "s.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in _often(draw, _layouts(draw)).items():
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
                _dataset(file, name, np.atleast_2d(array).T if array.ndim < 3 else array.T)
                if name in file:
                    file[name].attrs["MATLAB_class"] = np.bytes_(
                        pick(draw, (b"double",) * 8 + (b"char", b"cell", b"struct", b"\xff"))
                    )
        _huge(draw, file, ("Y", "A", "cube"))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    path.write_bytes(_perhaps(draw, path.read_bytes()))
    return path


# --- HDF5 of missions ------------------------------------------------------------------------------------------------


def _dataset(file: Any, name: str, values: Any) -> None:
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.zeros(3)
    elif array.dtype.kind == "U":
        array = np.bytes_(str(array).encode())
    try:
        file[name] = array
    except (TypeError, ValueError, OSError):  # dates and names that HDF5 does not know
        file.require_group("aside")


def _huge(draw: Random, file: Any, names: tuple[str, ...]) -> None:
    """Declare, now and then, far more values than are stored."""
    if draw.random() < 0.06:
        name = pick(draw, names)
        if name in file:
            del file[name]
        shape = pick(draw, ((10**6, 10**6, 285), (2000, 2000, B), (10**5, 3, 10**5), (10**9,), (2**40, 2)))
        file.create_dataset(name, shape=shape, dtype=pick(draw, ("f4", "u2", "f8")), chunks=True, compression="gzip")


def _attributes(draw: Random, held: Any, tree: Tree) -> None:
    for name, values in _often(draw, tree).items():
        array = np.asarray(values)
        try:
            held.attrs[name] = array if array.dtype.kind not in "OMU" else np.bytes_(str(array).encode())
        except (TypeError, ValueError, OSError):
            continue


_EMIT: Tree = {
    "reflectance": _CUBE,
    "sensor_band_parameters/wavelengths": CENTRES.astype("f4"),
    "sensor_band_parameters/fwhm": np.full(B, 8.5, "f4"),
    "sensor_band_parameters/good_wavelengths": np.ones(B, "f4"),
    "location/glt_x": np.tile(np.arange(7, dtype="i4") % (W + 1), (8, 1)),
    "location/glt_y": np.tile(np.arange(8, dtype="i4")[:, None] % (H + 1), (1, 7)),
}


def _emit(draw: Random, folder: Path) -> Path:
    import h5py

    path = folder / "e.nc"
    with h5py.File(path, "w") as file:
        for name, values in _often(draw, _EMIT).items():
            _dataset(file, name, values)
        if "reflectance" in file:
            _attributes(draw, file["reflectance"], {"_FillValue": np.array([-9999.0], "f4")})
        _attributes(draw, file, {"geotransform": np.array([10.0, 5e-4, 0, 31, 0, -5e-4]), "spatial_ref": "EPSG:4326"})
        _huge(draw, file, ("reflectance", "location/glt_x", "sensor_band_parameters/fwhm"))
    path.write_bytes(_perhaps(draw, path.read_bytes()))
    return path


def _prisma(draw: Random, folder: Path) -> Path:
    import h5py

    fields = f"HDFEOS/SWATHS/PRS_L{pick(draw, ('2D', '2D', '2C', '2B'))}_HCO/Data Fields"
    numbers = np.random.default_rng(3).integers(1, 65535, (H, 4, W)).astype("u2")
    errors = np.zeros((H, 4, W), "u1")
    tree = {
        "VNIR_Cube": numbers,
        "SWIR_Cube": numbers,
        "VNIR_PIXEL_L2_ERR_MATRIX": errors,
        "SWIR_PIXEL_L2_ERR_MATRIX": errors,
    }
    attributes: Tree = {"Epsg_Code": 32632}
    for word, low in (("Vnir", 400.0), ("Swir", 950.0)):
        attributes |= {f"L2Scale{word}Min": 0.0, f"L2Scale{word}Max": 1.0, f"List_Fwhm_{word}": np.full(4, 10.0)}
        attributes[f"List_Cw_{word}"] = low + 200.0 * np.arange(4)[::-1]
    for corner, east, north in (("UL", 0, 150), ("UR", 120, 150), ("LL", 0, 0), ("LR", 120, 0)):
        attributes |= {f"Product_{corner}corner_easting": 5e5 + east, f"Product_{corner}corner_northing": 5e6 + north}
    path = folder / "p.he5"
    with h5py.File(path, "w") as file:
        for name, values in _often(draw, tree).items():
            _dataset(file, f"{fields}/{name}", values)
        _attributes(draw, file, attributes)
        _huge(draw, file, (f"{fields}/VNIR_Cube", f"{fields}/SWIR_Cube", f"{fields}/SWIR_PIXEL_L2_ERR_MATRIX"))
    path.write_bytes(_perhaps(draw, path.read_bytes()))
    return path


# --- text headers ----------------------------------------------------------------------------------------------------


def _listed(values: Any) -> str:
    return "{" + ",\n ".join(f"{value:.6g}" for value in values) + "}"


def _envi(draw: Random, folder: Path) -> Path:
    interleave = pick(draw, ("bsq", "bil", "bip"))
    axes = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    kind, code = pick(draw, (("f4", 4), ("i2", 2), ("u1", 1), ("f8", 5), ("u8", 15)))
    data = (_CUBE * (1 if kind[0] == "f" else 200)).astype(kind).transpose(axes).tobytes()
    text = (
        f"ENVI\ndescription = {{\n made for a test}}\nsamples = {W}\nlines = {H}\nbands = {B}\nheader offset = 0\n"
        f"file type = ENVI Standard\ndata type = {code}\ninterleave = {interleave}\nbyte order = 0\n"
        f"map info = {{UTM, 1, 1, 500000, 5000000, 30, 30, 32, North, WGS-84, units=Meters}}\n"
        f"data ignore value = -9999\nreflectance scale factor = 1\nsaturation value = 65535\n"
        f"wavelength units = Nanometers\nwavelength = {_listed(CENTRES)}\nfwhm = {_listed(np.full(B, 10.0))}\n"
        f"bbl = {_listed(np.ones(B))}\n"
    )
    if draw.random() < 0.15:
        import gzip

        data = gzip.compress(data if draw.random() < 0.8 else bytes(50_000_000))
        text += "file compression = 1\n"
    header = spoil_text(draw, text) if draw.random() < 0.8 else _perhaps(draw, text.encode())
    (folder / "s.hdr").write_bytes(header)
    (folder / "s.img").write_bytes(spoil_bytes(draw, data) if draw.random() < 0.25 else data)
    return folder / pick(draw, ("s.hdr", "s.img"))


def _library(draw: Random, folder: Path) -> Path:
    spectra = np.random.default_rng(4).uniform(0.1, 0.9, (2, B)).astype("f4")
    text = (
        f"ENVI\nsamples = {B}\nlines = 2\nbands = 1\nheader offset = 0\nfile type = ENVI Spectral Library\n"
        f"data type = 4\ninterleave = bsq\nbyte order = 0\nwavelength units = Micrometers\n"
        f"spectra names = {{grass, metal}}\nreflectance scale factor = 1\ndata ignore value = -1\n"
        f"wavelength = {_listed(CENTRES / 1000)}\nfwhm = {_listed(np.full(B, 0.01))}\n"
    )
    (folder / "l.hdr").write_bytes(spoil_text(draw, text))
    (folder / "l.sli").write_bytes(_perhaps(draw, spectra.tobytes()))
    return folder / pick(draw, ("l.sli", "l.hdr"))


def _table(draw: Random, folder: Path) -> Path:
    mark = pick(draw, (",", ";", "\t", " "))
    rows = [mark.join(f"{value:.4f}" for value in (centre / 1000, *_SPECTRA[:, i])) for i, centre in enumerate(CENTRES)]
    head = mark.join(("wavelength_um", "grass", "metal", pick(draw, ("fwhm", "water"))))
    (folder / "l.csv").write_bytes(_perhaps(draw, spoil_text(draw, "\n".join((head, *rows)))))
    return folder / "l.csv"


def _usgs(draw: Random, folder: Path) -> Path:
    values = "".join(f" {value:.7e}\n" for value in _SPECTRA[0])
    text = f" splib07a Record=5932: Kaolinite ASDNGb AREF\n{values}"
    if draw.random() < 0.3:
        rows = "".join(f"  {c / 1000:.6f}  {v:.6g}  0.000000\n" for c, v in zip(CENTRES, _SPECTRA[0], strict=True))
        text = (
            "USGS Digital Spectral Library splib06a\nClark and others 2007\n" + "\n" * 12 + f"Alunite\nhistory\n{rows}"
        )
    (folder / "splib07a_Kaolinite_ASDNGb_AREF.txt").write_bytes(_perhaps(draw, spoil_text(draw, text)))
    for name, numbers in (("Wavelengths_ASD_0.35-2.5", CENTRES / 1000), ("Bandpass_(FWHM)_ASDNG", np.full(B, 0.01))):
        content = f" splib07a Record=1: {name}\n" + "".join(f" {value:.7e}\n" for value in numbers)
        data = spoil_text(draw, content) if draw.random() < 0.3 else content.encode()
        (folder / f"splib07a_{name}_x.txt").write_bytes(data)
    return folder / "splib07a_Kaolinite_ASDNGb_AREF.txt" if draw.random() < 0.8 else folder


_TOML = """# choices
[model]
gradient = "energy"
constraint = "cone"
width = 16
kernel = 3
prox = "none"
step = 1.0
[model.forward]
method = "anderson"
tolerance = 1e-5
max_steps = 100
[model.backward]
tolerance = "none"
[training]
epochs = 200
holdout = 0.5
subspace = "signal"
warm_start = true
[rates]
spread = 1.0
network = 1e-3
"""


def _config(draw: Random, folder: Path) -> Path:
    (folder / "c.toml").write_bytes(
        _perhaps(draw, spoil_text(draw, _TOML)) if draw.random() < 0.97 else b"a=" + b"[" * 50_000
    )
    return folder / "c.toml"


# --- GeoTIFF, Zarr, checkpoints --------------------------------------------------------------------------------------

_TIFFS: list[bytes] = []


def _tiff_seeds() -> list[bytes]:
    import rasterio

    for compress in (None, "deflate", "lzw"):
        for tiled in (False, True):
            profile = {
                "driver": "GTiff",
                "width": 40,
                "height": 36,
                "count": B,
                "dtype": "int16",
                "nodata": -1,
                "crs": "EPSG:32632",
            }
            profile |= {
                "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6),
                "tiled": tiled,
                "blockxsize": 16,
                "blockysize": 16,
            }
            with rasterio.MemoryFile() as memory:
                with memory.open(**profile, **({"compress": compress} if compress else {})) as file:
                    for band in range(1, B + 1):
                        file.write(np.arange(36 * 40, dtype=np.int16).reshape(36, 40), band)
                        file.set_band_description(band, f"{CENTRES[band - 1]:.1f} nm")
                        file.update_tags(
                            band, wavelength=f"{CENTRES[band - 1]:.1f}", wavelength_units="Nanometers", bbl="1"
                        )
                    file.update_tags(reflectance_scale_factor="10000", saturation_value="32767")
                _TIFFS.append(bytes(memory.getbuffer()))
    return _TIFFS


def _tiff(draw: Random, folder: Path) -> Path:
    data = pick(draw, _TIFFS or _tiff_seeds())
    if draw.random() < 0.3:  # GDAL keeps its metadata as XML in a tag
        for word in (b"10000", b"Nanometers", b"32767", b"450.0 nm", b"wavelength"):
            if draw.random() < 0.4:
                lie = pick(draw, (b"nan", b"-1", b"1e999", b"\xff\xfe", b"<![", b"&x;", b"inf", b"0"))[: len(word)]
                data = data.replace(word, lie.ljust(len(word)), int(draw.integers(1, 4)))
    if draw.random() < 0.85:
        data = spoil_bytes(draw, data)
    (folder / "s.tif").write_bytes(data)
    return folder / "s.tif"


_ZARRS: list[dict[str, bytes]] = []


def _zarr_seeds(folder: Path) -> list[dict[str, bytes]]:
    import zarr

    for version in (2, 3):
        path = folder / f"seed{version}.zarr"
        group = zarr.open_group(str(path), mode="w", zarr_format=version)
        for name, values, dims in (
            ("reflectance", _CUBE, ["y", "x", "wavelength"]),
            ("wavelength", CENTRES, ["wavelength"]),
            ("y", np.arange(H) * -30.0, ["y"]),
            ("x", np.arange(W) * 30.0, ["x"]),
        ):
            named: dict[str, Any] = {"dimension_names": dims} if version == 3 else {}
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=tuple(max(1, n // 2) for n in values.shape),
                **named,
            )
            array[...] = values
            array.attrs.update({"_ARRAY_DIMENSIONS": dims, "units": "nm", "scale_factor": 1.0, "_FillValue": -9999.0})
        _ZARRS.append(
            {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
        )
    return _ZARRS


def _zarr(draw: Random, folder: Path) -> Path:
    content = dict(pick(draw, _ZARRS or _zarr_seeds(folder)))
    described = [name for name in content if name.rsplit("/", 1)[-1] in ("zarr.json", ".zarray", ".zattrs", ".zgroup")]
    for _ in range(int(pick(draw, (1, 1, 2, 3)))):
        name = pick(draw, described if draw.random() < 0.7 else list(content))
        if name not in content:
            continue
        way = draw.random()
        if way < 0.08:
            del content[name]
        elif name in described and way < 0.8:
            content[name] = spoil_json_text(draw, content[name])
        else:
            content[name] = spoil_bytes(draw, content[name])
    path = folder / "s.zarr"
    path.mkdir()
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


_CHECKPOINT: list[tuple[Tree, dict[str, Any]]] = []


def _checkpoint_seed() -> tuple[Tree, dict[str, Any]]:

    import jax

    import dequnmix_jax as dq

    config = dq.Model(gradient=dq.equilibrium.Energy(width=2))
    params = dq.init(jax.random.key(0), jax.numpy.asarray(_CUBE), config, endmembers=jax.numpy.asarray(_SPECTRA))
    file = io.BytesIO()
    leaves = {
        "params/" + "/".join(str(key.key) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    header = {"format": 1, "written_by": "dequnmix_jax", "version": "1", "empty": []}
    header["metadata"] = {"model": words_of(config), "seed": 0, "ignore": [], "bands": None}
    del file
    return leaves, header


def _checkpoint(draw: Random, folder: Path) -> Path:
    if not _CHECKPOINT:
        _CHECKPOINT.append(_checkpoint_seed())
    leaves, header = _CHECKPOINT[0]
    text = json.dumps(header).encode()
    if draw.random() < 0.6:
        text = spoil_json_text(draw, text)
    tree = _often(draw, leaves | {"checkpoint.json": np.array(text.decode("utf-8", "replace"))})
    path = folder / "m.npz"
    path.write_bytes(_perhaps(draw, _doubled(_archive)(draw, tree)))
    return path


KINDS: dict[str, Kind] = {
    ".npz": Kind(_npz, _read_reference),
    ".npy": Kind(_npy, read_scene),
    ".mat, version 4 and 5": Kind(_mat5, _read_reference),
    ".mat, version 7.3": Kind(_mat73, _read_reference),
    "ENVI image": Kind(_envi, read_scene),
    "ENVI library": Kind(_library, reading.read_library),
    "library, table": Kind(_table, reading.read_library),
    "library, USGS text": Kind(_usgs, reading.read_library),
    "GeoTIFF": Kind(_tiff, read_scene),
    "Zarr": Kind(_zarr, read_scene),
    "EMIT": Kind(_emit, read_scene),
    "PRISMA": Kind(_prisma, read_scene),
    "checkpoint": Kind(_checkpoint, _read_checkpoint),
    "configuration": Kind(_config, read_configuration),
}
"""Kinds of file by name."""


def outcome(kind: Kind, path: Path) -> str:
    """Return "read" or "refused"; whatever else is raised is a fault."""
    try:
        kind.read(path)
    except InputError as error:
        return "refused" if str(error).strip() else "refused without a word"
    return "read"

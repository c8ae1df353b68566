"""Files on another machine, which here is a server on the loopback address: every kind of scene, read in parts."""

import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.io import formats
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.io.remote import Remote, as_local, as_place
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Window

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

H, W, B = 64, 48, 6
WAVELENGTHS = np.linspace(450, 2400, B).round()


class Server:
    """The server of a folder."""

    def __init__(self, folder, port):
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"

    @property
    def sent(self):
        """Return how many bytes were sent so far."""
        with urllib.request.urlopen(f"{self.url}/sent") as answer:
            return int(answer.read())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, str(Path(__file__).with_name("serving.py")), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield Server(folder, int(process.stdout.readline()))
        process.terminate()


def scene():
    cube = np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)
    return Scene(cube, wavelengths=WAVELENGTHS, georeference=Georeference("EPSG:32632", (30, 0, 6e5, 0, -30, 5.3e6)))


KINDS = ("tif", "img", "nc", "npz", "npy", "mat", "h5", "zarr")


def served(server, kind):
    """Write the scene in a format and return its name."""
    path = server.folder / f"scene.{kind}"
    if path.exists():
        return path.name
    if kind in ("tif", "nc", "zarr", "img"):
        pytest.importorskip({"tif": "rasterio", "nc": "h5netcdf", "zarr": "xarray", "img": "rasterio"}[kind])
        write_scene(path, scene())
    elif kind == "npz":
        np.savez(path, cube=scene().cube, wavelengths_nm=WAVELENGTHS)
    elif kind == "npy":
        np.save(path, scene().cube)
    elif kind == "mat":
        pytest.importorskip("scipy.io").savemat(path, {"cube": scene().cube, "wavelengths": WAVELENGTHS})
    else:  # AVIRIS-3 and others hold reflectance and wavelength in groups
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file.attrs["Conventions"] = "CF-1.6"
            file["reflectance"] = scene().cube
            for axis, name in enumerate(("y", "x", "wavelength")):
                file[name] = WAVELENGTHS if name == "wavelength" else np.arange(scene().cube.shape[axis])
                file[name].make_scale(name)
                file["reflectance"].dims[axis].attach_scale(file[name])
            file["wavelength"].attrs["units"] = "nm"
    return path.name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scene_is_read_from_elsewhere(server, kind):
    name = served(server, kind)
    here, there = dq.read(server.folder / name), dq.read(f"{server.url}/{name}")
    np.testing.assert_array_equal(there.cube, scene().cube)
    assert (there.wavelengths is None) == (here.wavelengths is None)
    if kind != "npy":
        np.testing.assert_array_equal(there.wavelengths, WAVELENGTHS)
    assert there.name == here.name and there.notes == here.notes and str(there.source) == f"{server.url}/{name}"
    if here.georeference is not None:
        assert there.georeference.transform == here.georeference.transform
    source = formats.open_source(f"{server.url}/{name}")
    window = Window(slice(10, 12), slice(5, 9))
    np.testing.assert_array_equal(source.read(window)[0], scene().cube[10:12, 5:9])
    again = dq.read(Path(f"{server.url}/{name}"))  # which has lost a slash
    np.testing.assert_array_equal(again.cube, scene().cube)


@pytest.mark.parametrize("kind", ["img", "tif", "nc", "npy"])
def test_a_few_rows_cost_a_few_rows(server, kind, tmp_path):
    """A file of 12 MB: two rows of it cost less than a tenth."""
    rows, bands = 2000, 30
    path = server.folder / f"large.{kind}"
    cube = np.random.default_rng(1).uniform(0.1, 0.9, (rows, 50, bands)).astype(np.float32)
    if kind == "img":
        write_image(path, cube)
    elif kind == "npy":
        np.save(path, cube)
    elif kind == "tif":
        rasterio = pytest.importorskip("rasterio")
        profile = {"driver": "GTiff", "height": rows, "width": 50, "count": bands, "dtype": "float32"}
        profile["transform"] = rasterio.Affine(30, 0, 0, 0, -30, 0)
        with rasterio.open(path, "w", interleave="pixel", **profile) as file:
            file.write(cube.transpose(2, 0, 1))
    else:
        h5py = pytest.importorskip("h5py")
        pytest.importorskip("h5netcdf")
        with h5py.File(path, "w") as file:
            file.attrs["Conventions"] = "CF-1.6"
            file.create_dataset("reflectance", data=cube, chunks=(10, 50, bands))
            for axis, name in enumerate(("y", "x", "band")):
                file[name] = np.arange(cube.shape[axis])
                file[name].make_scale(name)
                file["reflectance"].dims[axis].attach_scale(file[name])
    source = formats.open_source(f"{server.url}/{path.name}")
    before = server.sent
    values, _ = source.read(Window(slice(1000, 1002), slice(0, 50)))
    np.testing.assert_array_equal(values, cube[1000:1002])
    assert server.sent - before < path.stat().st_size / 10
    path.unlink()


def test_names_of_gdal_and_zip_files(server, tmp_path, monkeypatch):
    name = served(server, "tif")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(server.folder / name, "in/scene.tif")
        archive.write(server.folder / served(server, "npz"), "in/scene.npz")
    (server.folder / "all.zip").write_bytes((tmp_path / "all.zip").read_bytes())
    for key, value in {"AWS_S3_ENDPOINT": server.url.removeprefix("http://"), "AWS_HTTPS": "NO"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    for typed in (
        f"/vsicurl/{server.url}/{name}",
        f"/vsizip/{tmp_path}/all.zip/in/scene.tif",
        f"/vsizip/{tmp_path}/all.zip/in/scene.npz",
        f"zip://in/scene.tif::{tmp_path}/all.zip",
        f"/vsizip/{{/vsicurl/{server.url}/all.zip}}/in/scene.tif",
        f"zip://in/scene.npz::{server.url}/all.zip",
        (server.folder / name).as_uri(),
    ):
        np.testing.assert_array_equal(dq.read(typed).cube, scene().cube)


@pytest.mark.parametrize("kind", ["tif", "npz", "zarr"])
def test_a_bucket(server, monkeypatch, kind):
    s3fs = pytest.importorskip("s3fs")
    name = served(server, kind)
    for key, value in {
        "AWS_S3_ENDPOINT": server.url.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES", "AWS_ENDPOINT_URL": server.url, "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setitem(__import__("fsspec").config.conf, "s3", {"anon": True, "endpoint_url": server.url})
    typed = (f"s3://s3/{name}", f"/vsis3/s3/{name}")
    for place in typed:
        np.testing.assert_array_equal(dq.read(place).cube, scene().cube)
    s3fs.S3FileSystem.clear_instance_cache()


def test_names():
    place = as_place("https://user:secret@host/a/scene.img?signature=abc")
    assert str(place) == "https://host/a/scene.img" and "secret" not in f"{place}" and "abc" not in str(place)
    assert place.for_gdal == "/vsicurl/https://user:secret@host/a/scene.img?signature=abc"
    assert place.with_suffix(".hdr").url == "https://user:secret@host/a/scene.hdr?signature=abc"
    assert (place.name, place.stem, place.suffix) == ("scene.img", "scene", ".img")
    assert as_place("/vsis3/bucket/a b.tif") == Remote("s3://bucket/a b.tif")
    assert as_place("S3://bucket/x.tif").for_gdal == "/vsis3/bucket/x.tif"
    assert as_place("https://host/a%20b.tif").name == "a b.tif"
    assert as_place("C:/x.tif") == Path("C:/x.tif") and as_place("file:///a/b%20c") == Path("/a/b c")
    assert (as_place("https://host/x") / "y.zarr").url == "https://host/x/y.zarr"
    with pytest.raises(InputError, match="virtual file of GDAL of another kind; expected /vsicurl/"):
        as_place("/vsistdin/")


def test_what_goes_wrong_is_a_sentence(server, tmp_path, capsys, monkeypatch):
    served(server, "npz")
    free = "http://127.0.0.1:9"  # the port of `discard`, where nobody listens
    for typed, words in (
        (f"{server.url}/none.tif", "none.tif does not exist there"),
        (f"{server.url}/none.zarr", "holds no Zarr store, or cannot be reached"),
        (f"{server.url}/locked/scene.tif", "403"),
        (f"{free}/scene.nc", "cannot be read from there"),
        (f"{free}/scene.tif?key=secret", "cannot be read from there"),
        ("gs://bucket/scene.tif", "gcsfs"),
        ("nonsense://host/scene.tif", "nonsense"),
        (f"/vsizip/{tmp_path}/none.zip/scene.tif", "does not exist there"),
    ):
        with pytest.raises(InputError, match=re.escape(words)) as caught:
            dq.read(typed)
        assert "secret" not in str(caught.value) and "http:/1" not in str(caught.value)
        assert main.main(["info", typed]) == 1
        out, err = capsys.readouterr()
        assert out == "" and words in err and "fault of the program" not in err and len(err.splitlines()) == 1, err
    (server.folder / "other.vrt").write_text("<VRTDataset></VRTDataset>")
    with pytest.raises(InputError, match="any file of this machine could be read"):
        dq.read(f"{server.url}/other.vrt")
    with pytest.raises(InputError, match="lies elsewhere; expected a file on this machine"):
        as_local(f"{server.url}/out")
    with pytest.raises(InputError, match="lies elsewhere"):
        write_scene(f"{server.url}/out.tif", scene())
    with pytest.raises(SystemExit):
        main.main(["unmix", f"{server.url}/scene.npz", "model.npz", "-o", f"{server.url}/out"])
    assert "expected a file on this machine" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"needs fsspec: pip install 'dequnmix-jax\[remote\]'"):
        dq.read(f"{server.url}/scene.npz")


def test_a_server_without_parts_of_files(server):
    with pytest.raises(InputError, match="expected a server that answers, and that sends parts of files"):
        dq.read(f"{server.url}/whole/{served(server, 'h5')}")


@pytest.mark.parametrize("more", [(), pytest.param(("--tile", "32"), marks=pytest.mark.slow)])
def test_one_command_on_a_url(server, tmp_path, capsys, more):
    """Unmixing by a library that lies elsewhere too; the record names the URL."""
    name = served(server, "img")
    rows = np.random.default_rng(2).uniform(0.1, 0.9, (3, B))
    lines = [["wavelength", "a", "b", "c"], *zip(WAVELENGTHS, *rows, strict=True)]
    (server.folder / "library.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    words = ["unmix", f"{server.url}/{name}", "--endmembers", f"{server.url}/library.csv", "--no-plots", *more]
    assert main.main([*words, "-o", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    result = dq.read_result(tmp_path / "out")
    assert result.summary["source"]["url"] == f"{server.url}/{name}" and "sha256" not in result.summary["source"]


@pytest.mark.parametrize("ask", [lambda place: place.name, lambda place: place.suffix, lambda place: place.stem])
def test_what_is_no_url_is_a_sentence(ask):
    with pytest.raises(InputError, match="is no URL"):
        ask(as_place("https://[]/scene.tif"))

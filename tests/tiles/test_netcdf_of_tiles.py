"""maps.nc of a scene that was unmixed in tiles is the data set that `write` makes of the whole scene."""

import gc

import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import main
from dequnmix_jax.io import formats, georaster, netcdf_strips, xarrays
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.tiles import output

try:
    import resource
except ImportError:  # Windows
    resource = None

H, W, B, R = 23, 9, 6, 3
HOLE = -9.0
WAVELENGTHS = [450.0, 540.0, 630.0, 720.0, 810.0, 900.0]
CONFIG = dq.Model(gradient=dq.equilibrium.Analytic())


@pytest.fixture(scope="module")
def spectra():
    return np.random.default_rng(0).uniform(0.1, 0.9, (R, B)).astype(np.float32)


@pytest.fixture
def scene(tmp_path, spectra):
    fractions = np.random.default_rng(1).dirichlet(np.ones(R), (H, W))
    cube = (fractions @ spectra).astype(np.float32)
    cube[3, 2:5] = HOLE
    fields = {"map info": "{UTM, 1, 1, 600000, 5300000, 30, 30, 32, North, WGS-84}"}
    fields |= {"wavelength": "{" + ", ".join(map(str, WAVELENGTHS)) + "}", "wavelength units": "nanometers"}
    return write_image(tmp_path / "s.img", cube, nodata=HOLE, envi_fields=fields)[0]


@pytest.fixture(autouse=True)
def narrow_strips(monkeypatch):
    """Several strips and chunks in a small scene."""
    for module, name in ((output, "_ROWS"), (netcdf_strips, "ROWS")):
        monkeypatch.setattr(module, name, 8)
    monkeypatch.setattr(output, "_STRIP", 1)


def stored(path):
    """Return the attributes of a file, and type, axes, attributes, filters and values of its variables."""
    with hdf5.opened(path, "xarray") as file:
        found = {}
        for name, item in file.items():
            own = {key: np.asarray(item.attrs[key]).tolist() for key in item.attrs if not key.isupper()}
            own = {key: value for key, value in own.items() if not key.startswith("_Netcdf4")}
            axes = [axis.label or [scale.name for scale in axis.values()] for axis in item.dims]
            found[name] = (item.dtype, axes, own, item.compression, item.shuffle, item[...])
        return {key: file.attrs[key] for key in file.attrs if not key.startswith("_")}, found


def compared(whole, tiled):
    one, other = stored(whole), stored(tiled)
    for texts in (one[0], other[0]):
        texts.pop("summary")
    assert one[0] == other[0]
    assert set(other[1]) - set(one[1]) == {"convergence"}
    assert set(one[1]) - set(other[1]) == {"state"}
    one[1].pop("state")
    for name, (*words, values) in one[1].items():
        *same, found = other[1][name]
        assert str(words) == str(same), name  # as text, in which NaN equals itself
        assert values.shape == found.shape
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found, values, atol=1e-5)
        elif name == "composite":
            np.testing.assert_allclose(found.astype(int), values.astype(int), atol=1)
        else:
            np.testing.assert_array_equal(found, values)


def test_the_data_set_is_that_of_write(tmp_path, scene, spectra):
    params = {"endmembers": spectra, "network": {}}
    found = dq.unmix_tiled(params, scene, CONFIG, tmp_path / "tiled", tile=5, format="netcdf")
    assert tmp_path / "tiled" / "maps.nc" in found.files
    assert not [path.name for path in (tmp_path / "tiled").iterdir() if path.suffix in (".img", ".tif")]
    read = dq.read(scene)
    estimate, trace = dq.unmix(params, jnp.asarray(read.cube), CONFIG, mask=jnp.asarray(read.mask))
    dq.write(tmp_path / "whole", estimate, read, trace=trace, format="netcdf")
    compared(tmp_path / "whole" / "maps.nc", tmp_path / "tiled" / "maps.nc")
    with hdf5.opened(tmp_path / "tiled" / "maps.nc", "xarray") as file:
        assert file["abundances"].chunks == (8, W, R)
    one, other = dq.read_result(tmp_path / "tiled" / "maps.nc"), dq.read_result(tmp_path / "tiled")
    np.testing.assert_array_equal(one.abundances, other.abundances)
    np.testing.assert_array_equal(one.valid, other.valid)
    assert one.summary == other.summary and one.georeference.transform == other.georeference.transform


def test_a_swath_is_rectified(tmp_path, spectra):
    from tests.io.test_missions import emit

    cube = np.random.default_rng(2).uniform(0.1, 0.9, (5, 4, B)).astype(np.float32)
    source = formats.open_source(emit(tmp_path / "e.nc", reflectance=cube, **{
        "sensor_band_parameters/good_wavelengths": np.ones(B, np.float32)}))  # fmt: skip
    params = {"endmembers": spectra, "network": {}}
    dq.unmix_tiled(params, source, CONFIG, tmp_path / "tiled", tile=2, format="netcdf")
    read = source.scene()
    estimate, trace = dq.unmix(params, jnp.asarray(read.cube), CONFIG)
    dq.write(tmp_path / "whole", estimate, read, trace=trace, format="netcdf")
    compared(tmp_path / "whole" / "maps.nc", tmp_path / "tiled" / "maps.nc")
    assert georaster.georeference_for(read).lookup is not None


def test_classes_and_models_of_a_library(tmp_path, scene, spectra, capsys):
    """Maps that follow from the fractions are in the file too, and --tile on the command line makes it."""
    library = tmp_path / "library.csv"
    rows = [["Class", *WAVELENGTHS], *(["soil", "soil", "tree"][i : i + 1] + spectra[i].tolist() for i in range(R))]
    library.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n", encoding="utf-8")
    words = ["unmix", str(scene), "--endmembers", str(library), "--method", "mesma", "--class", "Class"]
    for more in (["-o", str(tmp_path / "whole")], ["-o", str(tmp_path / "tiled"), "--tile", "5"]):
        assert main.main([*words, *more, "--format", "netcdf", "--no-plots"]) == 0, capsys.readouterr().err
    one, other = (stored(tmp_path / folder / "maps.nc")[1] for folder in ("whole", "tiled"))
    assert {"classes", "models"} <= set(one) and set(one) - set(other) == {"state"}
    for name in ("classes", "models", "abundances"):
        np.testing.assert_allclose(other[name][-1], one[name][-1], atol=1e-5)


@pytest.mark.skipif(resource is None, reason="no limits on the size of files here")
def test_a_full_disk_is_an_error(tmp_path):
    """HDF5 would end the process."""

    def strips():
        for first in range(0, H, 8):
            rows = np.random.default_rng(first).uniform(size=(min(8, H - first), W, R)).astype(np.float32)
            yield first, {"abundances": rows}

    one = np.ones((1, 1, R), np.float32)
    sample = xarrays.dataset({"abundances": (("y", "x", "endmember"), one, {})}, {}, None, {})
    netcdf_strips.write(tmp_path / "x.nc", sample, (H, W), {}, strips)
    size = (tmp_path / "x.nc").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, size // 2, size - 300):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(OSError, match="File too large"):
                netcdf_strips.write(tmp_path / "y.nc", sample, (H, W), {}, strips)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        gc.collect()

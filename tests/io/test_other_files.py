"""No reader opens a file that the user did not name: a link to one is refused in a sentence."""

import h5py
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi.header import format_header
from dequnmix_jax.io.formats import read, read_truth
from tests.io.test_envi import image
from tests.io.test_missions import emit, prisma

SHAPE = (5, 4, 6)


@pytest.fixture
def aside(tmp_path):
    """Return a file that the user does not name: plain floats, or HDF5 after them."""
    (tmp_path / "aside").mkdir()
    path = tmp_path / "aside" / "secret.bin"
    path.write_bytes(np.arange(120, dtype="<f4").tobytes())
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["values"], file["six"] = np.arange(120, dtype=np.float32).reshape(SHAPE), np.arange(1, 7) * 100.0
    return path


def stored_outside(group, name, aside, shape=SHAPE):
    group.create_dataset(name, shape=shape, dtype="<f4", external=[(str(aside), 0, h5py.h5f.UNLIMITED)])


def virtual(group, name, aside):
    layout = h5py.VirtualLayout(shape=SHAPE, dtype="<f4")
    layout[:] = h5py.VirtualSource(str(aside.with_suffix(".h5")), "values", shape=SHAPE)
    group.create_virtual_dataset(name, layout)


def linked(group, name, aside):
    group[name] = h5py.ExternalLink(str(aside.with_suffix(".h5")), "values")


def linked_by_a_link(group, name, aside):
    group.create_group("in_between")["link"] = h5py.ExternalLink(str(aside.with_suffix(".h5")), "values")
    group[name] = h5py.SoftLink(f"{group.name.rstrip('/')}/in_between/link")


WAYS = [stored_outside, virtual, linked, linked_by_a_link]
MESSAGE = "any file of the disk could be read through it; expected all values inside the file"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_emit_does_not_read_other_files(tmp_path, aside, way):
    path = emit(tmp_path / "e.nc", without=("reflectance",))
    with h5py.File(path, "r+") as file:
        way(file, "reflectance", aside)
    with pytest.raises(InputError, match=MESSAGE):
        read(path)


def test_neither_do_the_wavelengths_and_the_table(tmp_path, aside):
    for name, shape in (("sensor_band_parameters/wavelengths", (6,)), ("location/glt_x", (7, 6))):
        path = emit(tmp_path / "e.nc", without=(name,))
        with h5py.File(path, "r+") as file:
            stored_outside(file, name, aside, shape)
        with pytest.raises(InputError, match=MESSAGE):
            read(path)
    path = emit(tmp_path / "e.nc", without=("sensor_band_parameters/fwhm",))
    with h5py.File(path, "r+") as file:
        file["sensor_band_parameters/fwhm"] = h5py.ExternalLink(str(aside.with_suffix(".h5")), "six")
    with pytest.raises(InputError, match=MESSAGE):
        read(path)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_prisma_does_not_read_other_files(tmp_path, aside, way):
    path = prisma(tmp_path / "p.he5")
    with h5py.File(path, "r+") as file:
        fields = file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"]
        del fields["VNIR_Cube"]
        way(fields, "VNIR_Cube", aside)
    with pytest.raises(InputError, match=MESSAGE):
        read(path)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_matlab_files_do_not_read_other_files(tmp_path, aside, way):
    for reader, name in ((read, "cube"), (read_truth, "abundances")):
        path = tmp_path / f"{name}.mat"
        with h5py.File(path, "w") as file:
            way(file, name, aside)
        with pytest.raises(InputError, match=MESSAGE):
            reader(path)


def test_a_link_inside_the_file_is_followed(tmp_path):
    path = emit(tmp_path / "e.nc")
    with h5py.File(path, "r+") as file:
        file.move("reflectance", "elsewhere")
        file["reflectance"] = h5py.SoftLink("/elsewhere")
    assert read(path).cube.shape == SHAPE


def test_a_virtual_raster_that_is_called_tiff_is_not_opened(tmp_path, aside):
    """GDAL reads any file on the disk that a VRT names."""
    source = f"<SourceFilename relativeToVRT='0'>{aside}</SourceFilename>"
    band = (
        f"<VRTRasterBand dataType='Float32' band='1' subClass='VRTRawRasterBand'>{source}<ImageOffset>0</ImageOffset>"
        "<PixelOffset>4</PixelOffset><LineOffset>12</LineOffset></VRTRasterBand>"
    )
    image(tmp_path)
    fields = {"samples": 3, "lines": 4, "bands": 1, "data type": 4, "file type": "TIFF", "interleave": "bsq"}
    (tmp_path / "x.hdr").write_text(format_header(fields))
    for name in ("x.img", "x.tif"):
        (tmp_path / name).write_text(f"<VRTDataset rasterXSize='3' rasterYSize='4'>{band}</VRTDataset>")
        with pytest.raises(InputError, match="cannot be read as TIFF"):
            read(tmp_path / name)

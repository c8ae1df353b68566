"""Files of missions: EMIT, PRISMA, those of the table, and products of a TIFF with XML."""

from pathlib import Path

import numpy as np

from experiments.robustness.hostile_files.hdf5 import attributes, dataset, huge
from experiments.robustness.hostile_files.samples import CENTRES, CUBE, B, H, W, often, perhaps
from experiments.robustness.mutations import Random, Tree, pick, spoil_text

_EMIT: Tree = {
    "reflectance": CUBE,
    "sensor_band_parameters/wavelengths": CENTRES.astype("f4"),
    "sensor_band_parameters/fwhm": np.full(B, 8.5, "f4"),
    "sensor_band_parameters/good_wavelengths": np.ones(B, "f4"),
    "location/glt_x": np.tile(np.arange(7, dtype="i4") % (W + 1), (8, 1)),
    "location/glt_y": np.tile(np.arange(8, dtype="i4")[:, None] % (H + 1), (1, 7)),
}


def make_emit(draw: Random, folder: Path) -> Path:
    """Make an EMIT granule."""
    import h5py

    path = folder / "e.nc"
    with h5py.File(path, "w") as file:
        for name, values in often(draw, _EMIT).items():
            dataset(file, name, values)
        if "reflectance" in file:
            attributes(draw, file["reflectance"], {"_FillValue": np.array([-9999.0], "f4")})
        attributes(draw, file, {"geotransform": np.array([10.0, 5e-4, 0, 31, 0, -5e-4]), "spatial_ref": "EPSG:4326"})
        huge(draw, file, ("reflectance", "location/glt_x", "sensor_band_parameters/fwhm"))
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def make_prisma(draw: Random, folder: Path) -> Path:
    """Make a PRISMA product."""
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
    labels: Tree = {"Epsg_Code": 32632}
    for word, low in (("Vnir", 400.0), ("Swir", 950.0)):
        labels |= {f"L2Scale{word}Min": 0.0, f"L2Scale{word}Max": 1.0, f"List_Fwhm_{word}": np.full(4, 10.0)}
        labels[f"List_Cw_{word}"] = low + 200.0 * np.arange(4)[::-1]
    for corner, east, north in (("UL", 0, 150), ("UR", 120, 150), ("LL", 0, 0), ("LR", 120, 0)):
        labels |= {f"Product_{corner}corner_easting": 5e5 + east, f"Product_{corner}corner_northing": 5e6 + north}
    path = folder / "p.he5"
    with h5py.File(path, "w") as file:
        for name, values in often(draw, tree).items():
            dataset(file, f"{fields}/{name}", values)
        attributes(draw, file, labels)
        huge(draw, file, (f"{fields}/VNIR_Cube", f"{fields}/SWIR_Cube", f"{fields}/SWIR_PIXEL_L2_ERR_MATRIX"))
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def _stored_first(draw: Random) -> tuple[Tree, str, Tree, Tree]:
    """Return datasets, the path of the cube, its attributes, and attributes of the file, of a mission of the table."""
    bands_first = CUBE.transpose(2, 0, 1)
    counts = np.round(CUBE * 1e4).astype("i2")
    aviris: Tree = {
        "reflectance/reflectance": bands_first,
        "reflectance/wavelength": CENTRES,
        "reflectance/fwhm": np.full(B, 7.4),
        "northing": 5e6 - 4.0 * np.arange(H),
        "easting": 5e5 + 4.0 * np.arange(W),
        "transverse_mercator": 0,
    }
    fields = "HDFEOS/GRIDS/HYP/Data Fields"
    tanager: Tree = {
        f"{fields}/surface_reflectance": bands_first,
        f"{fields}/nodata_pixels": np.zeros((H, W), "u1"),
        "HDFEOS INFORMATION/StructMetadata.0": "UpperLeftPointMtrs=(5e5,5e6) LowerRightMtrs=(500150.0,4999820.0)",
    }
    site = "SJER/Reflectance"
    neon: Tree = {
        f"{site}/Reflectance_Data": counts,
        f"{site}/Metadata/Spectral_Data/Wavelength": CENTRES,
        f"{site}/Metadata/Spectral_Data/FWHM": np.full(B, 6.0),
        f"{site}/Metadata/Coordinate_System/Map_Info": "UTM,1,1,500000,5000000,1,1,11,North,WGS-84",
        f"{site}/Metadata/Coordinate_System/EPSG Code": "32611",
    }
    pace: Tree = {"geophysical_data/Rrs": counts, "sensor_band_parameters/wavelength_3d": CENTRES}
    numbers: Tree = {"_FillValue": -9999.0, "scale_factor": 2.0, "add_offset": 0.1}
    spectral: Tree = {"wavelengths": CENTRES, "fwhm": np.full(B, 6.0), "good_wavelengths": np.ones(B)}
    return pick(
        draw,
        (
            (aviris, "reflectance/reflectance", numbers | {"grid_mapping": "transverse_mercator"}, {}),
            (tanager, f"{fields}/surface_reflectance", numbers | spectral, {"epsg_code": 32611}),
            (neon, f"{site}/Reflectance_Data", {"Scale_Factor": 1e4, "Data_Ignore_Value": -9999.0},
             {"Band_Window_1_Nanometers": np.array([1340, 1445]), "Band_Window_2_Nanometers": np.array([1790, 1955])}),
            (pace, "geophysical_data/Rrs", numbers, {}),
        ),
    )  # fmt: skip


def make_table_mission(draw: Random, folder: Path) -> Path:
    """Make a file of AVIRIS, Tanager, NEON or PACE."""
    import h5py

    tree, cube, of_cube, of_group = _stored_first(draw)
    path = folder / pick(draw, ("m.nc", "m.h5"))
    with h5py.File(path, "w") as file:
        for name, values in often(draw, tree).items():
            dataset(file, name, values)
        if cube in file:
            attributes(draw, file[cube], of_cube)
            group = cube.split("/Data Fields")[0] if "/Data Fields" in cube else cube.rpartition("/")[0]
            attributes(draw, file[group], of_group)
        huge(draw, file, (cube, *tree))
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def make_product(draw: Random, folder: Path) -> Path:
    """Make a product of EnMAP or DESIS."""
    import rasterio

    kind = pick(draw, ("bandID", "band"))
    width = "FWHMOfBand" if kind == "bandID" else "wavelengthWidthOfBand"
    gain, offset = ("GainOfBand", "OffsetOfBand") if kind == "bandID" else ("gainOfBand", "offsetOfBand")
    lines = ["<level_X>", "<specific>", "<bandCharacterisation>"]
    for band, centre in enumerate(CENTRES, 1):
        lines += [f"<{kind} number='{band}'>", f"<wavelengthCenterOfBand> {centre:.2f} </wavelengthCenterOfBand>"]
        lines += [f"<{width}> 8.0 </{width}>", f"<{gain}> 0.0001 </{gain}>", f"<{offset}> 0 </{offset}>", f"</{kind}>"]
    text = "\n".join([*lines, "</bandCharacterisation>", "</specific>", "</level_X>"])
    with rasterio.open(
        folder / "A_L2A-SPECTRAL_IMAGE.TIF", "w", driver="GTiff", height=H, width=W, count=B, dtype="int16",
        crs="EPSG:32632", transform=rasterio.Affine(30, 0, 5e5, 0, -30, 5e6),
    ) as file:  # fmt: skip
        file.write(np.round(CUBE * 1e4).astype("i2").transpose(2, 0, 1))
    described = folder / "A_L2A-METADATA.XML"
    described.write_bytes(perhaps(draw, spoil_text(draw, text) if draw.random() < 0.8 else text.encode()))
    image = folder / "A_L2A-SPECTRAL_IMAGE.TIF"
    image.write_bytes(perhaps(draw, image.read_bytes()))
    return pick(draw, (folder, described, image))

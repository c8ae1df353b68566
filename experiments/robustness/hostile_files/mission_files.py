"""Files of missions: EMIT and PRISMA."""

from pathlib import Path

import numpy as np

from experiments.robustness.hostile_files.hdf5 import attributes, dataset, huge
from experiments.robustness.hostile_files.samples import CENTRES, CUBE, B, H, W, often, perhaps
from experiments.robustness.mutations import Random, Tree, pick

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

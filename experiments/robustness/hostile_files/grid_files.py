"""Rasters of other libraries: GeoTIFF, virtual and ESRI rasters, and Zarr."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.robustness.hostile_files.samples import CENTRES, CUBE, B, H, W
from experiments.robustness.mutations import Random, pick, spoil_bytes, spoil_json_text, spoil_text

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


def make_tiff(draw: Random, folder: Path) -> Path:
    """Make a GeoTIFF."""
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
            ("reflectance", CUBE, ["y", "x", "wavelength"]),
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


def make_zarr(draw: Random, folder: Path) -> Path:
    """Make a Zarr store."""
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


def make_raster(draw: Random, folder: Path) -> Path:
    """Make a virtual raster over a GeoTIFF, or ESRI's header with its data."""
    if draw.random() < 0.5:
        (folder / "s.tif").write_bytes((_TIFFS or _tiff_seeds())[0])
        bands = "\n".join(
            f"<VRTRasterBand dataType='Int16' band='{band}'>\n<Description>{CENTRES[band - 1]:.1f} nm</Description>\n"
            f"<NoDataValue>-1</NoDataValue>\n<Scale>0.0001</Scale>\n<SimpleSource>\n"
            f"<SourceFilename relativeToVRT='1'>s.tif</SourceFilename>\n<SourceBand>{band}</SourceBand>\n"
            "</SimpleSource>\n</VRTRasterBand>"
            for band in range(1, B + 1)
        )
        text = f"<VRTDataset rasterXSize='40' rasterYSize='36'>\n{bands}\n</VRTDataset>"
        (folder / "s.vrt").write_bytes(
            spoil_text(draw, text) if draw.random() < 0.8 else spoil_bytes(draw, text.encode())
        )
        return folder / "s.vrt"
    text = f"BYTEORDER I\nLAYOUT BIL\nNROWS {H}\nNCOLS {W}\nNBANDS {B}\nNBITS 32\nPIXELTYPE FLOAT\nNODATA -9999\n"
    text += "ULXMAP 500015\nULYMAP 4999985\nXDIM 30\nYDIM 30"
    data = CUBE.transpose(0, 2, 1).tobytes()
    (folder / "s.bil").write_bytes(spoil_bytes(draw, data) if draw.random() < 0.3 else data)
    (folder / "s.hdr").write_bytes(spoil_text(draw, text) if draw.random() < 0.8 else text.encode())
    return folder / pick(draw, ("s.bil", "s.hdr"))

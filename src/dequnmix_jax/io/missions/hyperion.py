"""Read EO-1 Hyperion Level 1T and 1Gst: a folder with one TIFF for each of 242 bands, and a text of metadata.

| file | content |
| --- | --- |
| EO1H..._B001_L1T.TIF to EO1H..._B242_L1T.TIF | int16; 0 around the swath |
| EO1H..._MTL_L1T.TXT | SCALING_FACTOR_VNIR, SCALING_FACTOR_SWIR: radiance = DN / factor, W / (m^2 sr um) |

Bands 1 to 70 are the detector of the visible and near infrared, 71 to 242 that of the short-wave infrared. Calibrated
are 8 to 57 and 77 to 224; the others are marked bad.

Reference:
    USGS, EO-1 User Guide version 2.3, 2003, and its table of spectral coverage (band centres). Layout after the public
    readers ACOLITE, pygaarst and PyGMI; no product was at hand.
"""

import os
import re
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster, geotiff
from dequnmix_jax.io.bands import bands_to_use
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window

_BAND = re.compile(r"^EO1H.*_B(\d{3})(?:_L1\w+)?\.TIFF?$", re.IGNORECASE)
_METADATA = re.compile(r"^EO1H.*MTL.*\.(?:TXT|L1\w+)$", re.IGNORECASE)
_FACTOR = re.compile(r"^\s*SCALING_FACTOR_(VNIR|SWIR)\s*=\s*([-+.\deE]+)\s*$", re.MULTILINE)
_VNIR = 70
_FACTORS = {"VNIR": 40.0, "SWIR": 80.0}
_CALIBRATED = ((8, 57), (77, 224))

_CENTRES = """
    355.59 365.76 375.94 386.11 396.29 406.46 416.64 426.82 436.99 447.17 457.34 467.52 477.69 487.87 498.04 508.22
    518.39 528.57 538.74 548.92 559.09 569.27 579.45 589.62 599.80 609.97 620.15 630.32 640.50 650.67 660.85 671.02
    681.20 691.37 701.55 711.72 721.90 732.07 742.25 752.43 762.60 772.78 782.95 793.13 803.30 813.48 823.65 833.83
    844.00 854.18 864.35 874.53 884.70 894.88 905.05 915.23 925.41 935.58 945.76 955.93 966.11 976.28 986.46 996.63
    1006.81 1016.98 1027.16 1037.33 1047.51 1057.68 851.92 862.01 872.10 882.19 892.28 902.36 912.45 922.54 932.64
    942.73 952.82 962.91 972.99 983.08 993.17 1003.30 1013.30 1023.40 1033.49 1043.59 1053.69 1063.79 1073.89
    1083.99 1094.09 1104.19 1114.19 1124.28 1134.38 1144.48 1154.58 1164.68 1174.77 1184.87 1194.97 1205.07 1215.17
    1225.17 1235.27 1245.36 1255.46 1265.56 1275.66 1285.76 1295.86 1305.96 1316.05 1326.05 1336.15 1346.25 1356.35
    1366.45 1376.55 1386.65 1396.74 1406.84 1416.94 1426.94 1437.04 1447.14 1457.23 1467.33 1477.43 1487.53 1497.63
    1507.73 1517.83 1527.92 1537.92 1548.02 1558.12 1568.22 1578.32 1588.42 1598.51 1608.61 1618.71 1628.81 1638.81
    1648.90 1659.00 1669.10 1679.20 1689.30 1699.40 1709.50 1719.60 1729.70 1739.70 1749.79 1759.89 1769.99 1780.09
    1790.19 1800.29 1810.38 1820.48 1830.58 1840.58 1850.68 1860.78 1870.87 1880.98 1891.07 1901.17 1911.27 1921.37
    1931.47 1941.57 1951.57 1961.66 1971.76 1981.86 1991.96 2002.06 2012.15 2022.25 2032.35 2042.45 2052.45 2062.55
    2072.65 2082.75 2092.84 2102.94 2113.04 2123.14 2133.24 2143.34 2153.34 2163.43 2173.53 2183.63 2193.73 2203.83
    2213.93 2224.03 2234.12 2244.22 2254.22 2264.32 2274.42 2284.52 2294.61 2304.71 2314.81 2324.91 2335.01 2345.11
    2355.21 2365.20 2375.30 2385.40 2395.50 2405.60 2415.70 2425.80 2435.89 2445.99 2456.09 2466.09 2476.19 2486.29
    2496.39 2506.48 2516.59 2526.68 2536.78 2546.88 2556.98 2566.98 2577.08
"""
CENTRES_NM = np.array(_CENTRES.split(), np.float64)
"""Centres of the 242 bands, nanometres."""


def band_files(folder: Path) -> dict[int, Path]:
    """Return the files of a folder by the number of their band, in order; empty if it is no Hyperion scene.

    Raises:
        InputError: two files of one band.
    """
    found: dict[int, Path] = {}
    for entry in sorted(folder.iterdir()):
        match = _BAND.match(entry.name)
        if match and 1 <= int(match[1]) <= CENTRES_NM.size and entry.is_file():
            band = int(match[1])
            if band in found:
                raise InputError(
                    f"{folder} holds {found[band].name} and {entry.name}, both of band {band}; expected one scene. "
                    "Move the other into a folder of its own."
                )
            found[band] = entry
    return dict(sorted(found.items()))


def _factors(folder: Path, notes: list[str]) -> dict[str, float]:
    """Return the divisor of the numbers of each detector."""
    factors = dict(_FACTORS)
    files = [entry for entry in sorted(folder.iterdir()) if _METADATA.match(entry.name) and entry.is_file()]
    if files and files[0].stat().st_size < 2**20:
        text = files[0].read_bytes().decode("latin-1")
        read = {word: float(number) for word, number in _FACTOR.findall(text) if _is_positive(number)}
        if set(read) == set(factors):
            return read
    notes.append("No file of metadata gives scaling factors; 40 (bands 1 to 70) and 80 were assumed.")
    return factors


def _is_positive(number: str) -> bool:
    try:
        return 0 < float(number) < np.inf
    except ValueError:
        return False


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open the scene of a folder.

    Args:
        path: the folder; needs the extra `geo`.
        options: nodata, scale and saturation apply to the stored numbers; a scale replaces both factors.

    Returns:
        A Source of radiance; pixels that are 0 in every band are masked.

    Raises:
        InputError: a file is damaged, or the files have other sizes.
    """
    folder = Path(path)
    files = band_files(folder)
    if not files:
        raise InputError(f"{folder} holds no file EO1H..._B001_....TIF; expected one for each band of Hyperion.")
    numbers = np.array(list(files))
    paths = list(files.values())
    (height, width, _), georeference = geotiff.outline(paths[0])
    for other in paths[1:]:
        shape, _ = geotiff.outline(other)
        if shape != (height, width, 1):
            raise InputError(
                f"{other} has {shape} rows, columns and bands, and {paths[0].name} ({height}, {width}, 1); expected "
                "one band of the same size in each. Copy the files again."
            )
    notes = ["The file holds radiance, not reflectance."]
    factors = _factors(folder, notes)
    if len(files) < CENTRES_NM.size:
        notes.append(f"{CENTRES_NM.size - len(files)} of the {CENTRES_NM.size} bands have no file.")
    centres = CENTRES_NM[numbers - 1]
    calibrated = np.any([(numbers >= first) & (numbers <= last) for first, last in _CALIBRATED], axis=0)
    good, ignore_notes = bands_to_use(calibrated, centres, numbers.size, options, str(folder))

    def read(window: Window | None) -> Stored:
        values: Array = np.concatenate([geotiff.values(file, window) for file in paths], axis=2)
        return Stored(values, np.any(values, axis=2))

    gains = np.where(numbers <= _VNIR, 1.0 / factors["VNIR"], 1.0 / factors["SWIR"])
    scaled = options.scale is None
    if scaled:
        notes.append(
            f"Values were divided by {factors['VNIR']:g} (bands 1 to 70) and {factors['SWIR']:g} (from 71 on)."
        )
    placement = georaster.placement(georeference, notes)
    return Source(
        (height, width, numbers.size),
        read,
        nodata=options.nodata,
        scale=options.scale,
        saturation=options.saturation,
        gains=gains if scaled else None,
        offsets=np.zeros(numbers.size) if scaled else None,
        wavelengths=centres,
        good_bands=good,
        name=folder.name,
        source=folder,
        notes=(*notes, *ignore_notes),
        **placement,
    )

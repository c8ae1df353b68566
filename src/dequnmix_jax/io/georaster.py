"""Adapter for rasterio: open and write GeoTIFF, and convert between ENVI header fields and a `Georeference`."""

import errno
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.envi import header as envi
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.scenes.georeference import Georeference, pixel_area
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.scenes.source import Source

# Pixels. Tile sizes must be multiples of 16; smaller pictures are written in strips.
_TILE = 256

# Pixels of a tile of a Cloud Optimized GeoTIFF, GDAL's default.
_CLOUD_TILE = 512

# Of GDAL for files elsewhere: no listing of their folders, which most servers do not have, and seconds and tries.
_NETWORK = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_HTTP_CONNECTTIMEOUT": 20, "GDAL_HTTP_MAX_RETRY": 2}

# Megabytes of GDAL's cache.
_CACHE = 64


def require(what: str) -> Any:
    """Return rasterio, or raise InputError that names the extra.

    Args:
        what: the subject of the message.
    """
    try:
        import rasterio
    except ImportError as error:
        raise InputError(
            f"{what} needs rasterio: {pip_hint('geo')}, or use plain ENVI files (bsq, bil or bip)."
        ) from error
    return rasterio


@contextmanager
def opened(path: Path, mode: str = "r", **profile: Any) -> Iterator[Any]:
    """Yield an open rasterio dataset; errors become InputError, and a missing georeference raises no warning.

    Args:
        path: the file.
        mode: "r" or "w".
        profile: arguments of `rasterio.open`.

    Raises:
        InputError: the file cannot be read, or rasterio is not installed.
    """
    rasterio = require(str(path) if mode == "r" else "A GeoTIFF")
    driver = profile.get("driver", "GTiff")
    with ExitStack() as stack:
        stack.enter_context(_translated(path, mode, "TIFF" if driver == "GTiff" else driver))
        if isinstance(path, Remote):
            stack.enter_context(rasterio.Env(**_NETWORK))
        where = path.for_gdal if isinstance(path, Remote) else path
        yield stack.enter_context(rasterio.open(where, mode, **profile))


@contextmanager
def _translated(path: Path, mode: str, kind: str = "TIFF") -> Iterator[None]:
    rasterio = require(str(path))
    try:
        # A nodata value beyond the type of its band overflows in rasterio.
        with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            yield
    except Exception as error:
        # GDAL's errors have classes that rasterio does not publish; damaged metadata may not decode.
        if not type(error).__module__.startswith("rasterio") and not isinstance(error, UnicodeDecodeError):
            raise
        if mode != "r":
            raise OSError(5, f"GeoTIFF could not be written ({reason_of(error)})", str(path)) from error
        raise InputError(
            f"{path} cannot be read as {kind} ({reason_of(error)}); expected a whole {kind} file. Copy it again."
        ) from error


def georeference_of(file: Any) -> Georeference | None:
    """Return the georeference of an open rasterio dataset, or None."""
    transform = tuple(file.transform)[:6]
    if file.transform.is_identity or not np.isfinite(transform).all():
        return None
    return Georeference(file.crs.to_wkt() if file.crs else "", transform)


def affine_of(georeference: Georeference) -> Any:
    """Return the transform of a georeference for rasterio."""
    return require("A coordinate transform").transform.Affine(*georeference.transform)


def crs_of(georeference: Georeference) -> Any:
    """Return the coordinate reference system for rasterio, or None; raise InputError if it is unknown."""
    if not georeference.crs:
        return None
    rasterio = require("A coordinate system")
    try:
        return rasterio.crs.CRS.from_user_input(georeference.crs)
    except rasterio.errors.CRSError as error:
        raise InputError(
            f"The coordinate system {georeference.crs[:60]!r} is unknown; expected WKT or a code such as EPSG:32632."
        ) from error


def envi_fields_of(georeference: Georeference) -> dict[str, str]:
    """Return the ENVI header fields (map info, coordinate system string) of a georeference, as GDAL writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "place.img"
        profile = {"driver": "ENVI", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        with opened(path, "w", **profile, crs=crs_of(georeference), transform=affine_of(georeference)):
            pass
        return envi.georeferencing_fields(envi.read_header(path.with_suffix(".hdr")))


def header_fields(georeference: Georeference | None, notes: list[str]) -> dict[str, str]:
    """Return `envi_fields_of` a georeference, or no fields and a note if that fails, which is not an error."""
    if georeference is None:
        return {}
    try:
        return envi_fields_of(georeference)
    except InputError as error:
        notes.append(f"ENVI outputs are not placed on the ground: {error}")
        return {}


def fields_for(scene: Scene | Source) -> Mapping[str, str]:
    """Return the ENVI header fields of a scene, or else those of its georeference, as of a scene made in memory."""
    return scene.envi_fields or header_fields(scene.georeference, [])


def placement(georeference: Georeference | None, notes: list[str]) -> dict[str, Any]:
    """Return the metadata of a scene that say where it is; `notes` as for `header_fields`."""
    return {"georeference": georeference, "envi_fields": header_fields(georeference, notes)}


def georeference_from_envi(fields: Mapping[str, str]) -> Georeference | None:
    """Return the georeference that GDAL reads from ENVI header fields, or None."""
    if "map info" not in fields:
        return None
    size = {"samples": 4, "lines": 4, "bands": 1, "header offset": 0, "data type": 1, "interleave": "bsq"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "place.img"
        path.write_bytes(bytes(16))  # GDAL ignores a file of one byte
        path.with_suffix(".hdr").write_text(envi.format_header(size | dict(fields)), encoding="utf-8")
        try:
            with opened(path, driver="ENVI") as file:
                return georeference_of(file)
        except InputError:
            return None  # an unreadable place is not an error


def georeference_for(scene: Scene | Source) -> Georeference | None:
    """Return the georeference of a scene, or else the one that its ENVI header fields describe, or None."""
    return scene.georeference or georeference_from_envi(scene.envi_fields)


def reprojected(points: Array, old: str, new: str) -> Array:
    """Return (N, 2) coordinates in another coordinate reference system, x (or longitude) first.

    Args:
        points: (N, 2) x and y.
        old, new: WKT or codes.

    Raises:
        InputError: rasterio is not installed, a system is unknown, or a point has no place in the new one.
    """
    require("A change of the coordinate system")
    from rasterio.warp import transform

    systems = [crs_of(Georeference(crs, (1, 0, 0, 0, 1, 0))) for crs in (old, new)]
    if systems[0] == systems[1]:
        return points
    with _translated(Path("the coordinates"), "r", "coordinates"):
        moved = np.array(transform(*systems, points[:, 0].tolist(), points[:, 1].tolist()), np.float64)[:2].T
    if not np.isfinite(moved).all():
        raise InputError(
            f"The coordinates {points[:, 0].min():g} to {points[:, 0].max():g}, {points[:, 1].min():g} to "
            f"{points[:, 1].max():g} have no place in the system of the scene; expected those of {old[:40]}. Check the "
            "coordinate system of the file."
        )
    return moved


# Semi-major axis and squared eccentricity of the ellipsoid WGS 84.
_AXIS, _ECCENTRICITY = 6378137.0, 0.0066943799901413165

# Places along each side at which the area is computed, and the share by which a projection may change it: the scale
# factor of UTM changes areas by up to 0.2 per cent.
_SAMPLED = 9
_SAME_AREA = 0.005


def ground_area(georeference: Georeference, shape: tuple[int, int]) -> tuple[float, float, float] | None:
    """Return the smallest, mean and largest area of a pixel on the ellipsoid, square metres.

    A pixel with the sides u and v in longitude and latitude covers |u x v| M N cos(latitude), M and N the radii of
    curvature in the meridian and the prime vertical.

    Args:
        georeference: without a lookup table.
        shape: (H, W).

    Returns:
        The areas at evenly spaced places; None without a coordinate system, outside its domain, or if rasterio is
        not installed.
    """
    sides = [(np.arange(_SAMPLED) + 0.5) * size / _SAMPLED for size in shape]
    rows, columns = (side.ravel() for side in np.meshgrid(*sides, indexing="ij"))
    steps = ((0.0, 0.5), (0.0, -0.5), (0.5, 0.0), (-0.5, 0.0))  # in rows and columns
    r, c = (np.concatenate([side + step[k] for step in steps]) for k, side in enumerate((rows, columns)))
    degrees = _degrees(georeference, c, r)
    if degrees is None:
        return None
    east, north = (np.radians(np.reshape(values, (4, -1))) for values in degrees)
    u, v = ((east[i] - east[i + 1] + np.pi) % (2 * np.pi) - np.pi for i in (0, 2))
    u_north, v_north = north[0] - north[1], north[2] - north[3]
    latitude = north.mean(axis=0)
    curvature = 1 - _ECCENTRICITY * np.sin(latitude) ** 2
    areas = np.abs(u * v_north - u_north * v) * _AXIS**2 * (1 - _ECCENTRICITY) / curvature**2 * np.cos(latitude)
    if not (np.isfinite(areas) & (areas > 0)).all():
        return None
    return float(areas.min()), float(areas.mean()), float(areas.max())


def _degrees(georeference: Georeference, columns: Array, rows: Array) -> tuple[Any, Any] | None:
    """Return longitudes and latitudes of places in pixels, (n,) each.

    None without a coordinate system, outside its domain, or if rasterio is not installed.
    """
    try:
        crs, rasterio = crs_of(georeference), require("The place of a scene")
        from rasterio.warp import transform
    except (InputError, ImportError):
        return None
    if crs is None:
        return None
    a, b, x0, d, e, y0 = georeference.transform
    x, y = a * columns + b * rows + x0, d * columns + e * rows + y0
    try:
        with _translated(Path("the georeference"), "r"):
            longitudes, latitudes = transform(crs, "EPSG:4326", x.tolist(), y.tolist())
    except (InputError, rasterio.errors.RasterioError):
        return None
    return longitudes, latitudes


def ground_steps(scene: Scene | Source, shape: tuple[int, int]) -> dict[str, float] | None:
    """Return how far the columns of a scene lie apart on the ground, and where north is, at its middle.

    Args:
        scene: of which the georeference or ENVI's fields are used.
        shape: (H, W).

    Returns:
        "metres_per_column", and "north", degrees clockwise from the top of the picture in (-180, 180]; None without a
        place, for a swath, or if rasterio is not installed.
    """
    place = georeference_for(scene)
    if place is None or place.lookup is not None:
        return None
    c, r = shape[1] / 2 + np.array([0.0, 0.5, -0.5, 0.0, 0.0]), shape[0] / 2 + np.array([0.0, 0.0, 0.0, -0.5, 0.5])
    degrees = _degrees(place, c, r)
    if degrees is None:
        return None
    east, north = (np.radians(values) for values in degrees)
    curvature = 1 - _ECCENTRICITY * np.sin(north[0]) ** 2
    across = _AXIS / np.sqrt(curvature) * np.cos(north[0])  # metres per radian of longitude, and of latitude
    along = _AXIS * (1 - _ECCENTRICITY) / curvature**1.5
    turn = (east - east[0] + np.pi) % (2 * np.pi) - np.pi
    x, y = turn * across, (north - north[0]) * along
    right, up = (x[1] - x[2], y[1] - y[2]), (x[3] - x[4], y[3] - y[4])
    step, height = float(np.hypot(*right)), float(np.hypot(*up))
    if not (np.isfinite(step) and np.isfinite(height) and step > 0 and height > 0):
        return None
    # North in the picture: the shares of a step to the right and of one upwards that add up to (0, 1).
    shares = np.linalg.solve(np.array([right, up]).T, [0.0, 1.0])
    angle = float(np.degrees(np.arctan2(shares[0] * step, shares[1] * height)))
    return {"metres_per_column": step, "north": angle + 0.0}


def pixel_area_and_note(scene: Scene | Source, shape: tuple[int, int]) -> tuple[float | None, list[str]]:
    """Return the area of a pixel in square metres, or None, and a note if it is that on the ellipsoid.

    Projections that do not keep areas (Mercator: a factor of 4 at 60 degrees) and degrees are measured on the
    ellipsoid; the mean of a few pixels is taken.

    Args:
        scene: of which the georeference or ENVI's fields are used.
        shape: (H, W).
    """
    planar = pixel_area(scene.georeference, scene.envi_fields)
    place = georeference_for(scene)
    if place is None or place.lookup is not None:
        return planar, []
    ground = ground_area(place, shape)
    if ground is None or (planar is not None and abs(ground[1] - planar) <= _SAME_AREA * planar):
        return planar, []
    least, mean, most = ground
    return mean, [
        f"The coordinates do not keep areas: pixels cover {least:.6g} to {most:.6g} square metres of the ellipsoid, "
        f"and the mean {mean:.6g} was taken."
    ]


def write_maps(
    path: Path,
    values: Array,
    band_names: Sequence[str],
    georeference: Georeference | None,
    nodata: float | None,
    description: str,
    *,
    band_tags: Sequence[Mapping[str, str]] = (),
    cloud: bool = False,
) -> None:
    """Write maps as a GeoTIFF: float32, deflated, one band a map. An existing file is replaced.

    Args:
        path: the file.
        values: (H, W, K).
        band_names: K names, which become the descriptions of the bands.
        georeference: coordinate reference system and transform of these pixels, or None.
        nodata: the value that masked pixels hold, or None.
        description: free text.
        band_tags: metadata of each band, or empty.
        cloud: as a Cloud Optimized GeoTIFF: tiles, and overviews of pictures larger than one.

    Raises:
        InputError: rasterio is not installed, or does not know the coordinate reference system.
    """
    profile = _profile(values.shape, georeference, nodata)
    with require("A GeoTIFF").io.MemoryFile() as memory:
        with _translated(path, "w"), memory.open(**profile) as file:
            for band in range(1, values.shape[2] + 1):
                file.write(np.ascontiguousarray(values[:, :, band - 1], np.float32), band)
            for band, tags in enumerate(band_tags, start=1):
                file.update_tags(band, **tags)
            _describe(file, band_names, description)
        if cloud:
            with require("A GeoTIFF").io.MemoryFile() as optimized:
                _optimize(memory.name, optimized.name)
                path.write_bytes(optimized.getbuffer())
            return
        # On a full disk GDAL silently closes a truncated file; Python's own writing raises an error.
        path.write_bytes(memory.getbuffer())


def _optimize(source: str, target: str) -> None:
    """Copy a GeoTIFF as a Cloud Optimized GeoTIFF; overviews hold means, in which nodata does not count."""
    require("A GeoTIFF")
    from rasterio.shutil import copy

    options = {"compress": "DEFLATE", "predictor": "YES", "blocksize": _CLOUD_TILE, "bigtiff": "IF_SAFER"}
    with _translated(Path(target), "w"):
        copy(source, target, driver="COG", overview_resampling="AVERAGE", overview_compress="DEFLATE", **options)


def _profile(shape: tuple[int, ...], georeference: Georeference | None, nodata: float | None) -> dict[str, Any]:
    height, width, count = shape
    profile: dict[str, Any] = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "float32"}
    profile |= {"compress": "deflate", "predictor": 3, "BIGTIFF": "IF_SAFER", "interleave": "band", "nodata": nodata}
    if min(height, width) >= _TILE:
        profile |= {"tiled": True, "blockxsize": _TILE, "blockysize": _TILE}
    if georeference is not None:
        profile |= {"crs": crs_of(georeference), "transform": affine_of(georeference)}
    return profile


def _describe(file: Any, band_names: Sequence[str], description: str) -> None:
    for band, name in enumerate(band_names, start=1):
        file.set_band_description(band, name)
    file.update_tags(TIFFTAG_IMAGEDESCRIPTION=description, TIFFTAG_SOFTWARE="dequnmix_jax")


def write_strips(
    path: Path,
    strips: Callable[[], Iterable[tuple[int, Array]]],
    shape: tuple[int, int, int],
    band_names: Sequence[str],
    georeference: Georeference | None,
    nodata: float | None,
    description: str,
    *,
    cloud: bool = False,
) -> None:
    """Write the same file as `write_maps`, for maps that do not fit in memory.

    Args:
        path: the file.
        strips: a function that yields the first row and the values (rows, W, K) of each strip, in order; called twice.
        shape: (H, W, K).
        band_names, georeference, nodata, description, cloud: as for `write_maps`.

    Raises:
        InputError: as from `write_maps`.
        OSError: the file does not hold what was written, as on a full disk.
    """
    rasterio = require("A GeoTIFF")
    # GDAL's default cache is a twentieth of the machine's memory.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), opened(path, "w", **_profile(shape, georeference, nodata)) as file:
        for first, values in strips():
            window = ((first, first + values.shape[0]), (0, shape[1]))
            file.write(np.ascontiguousarray(values.transpose(2, 0, 1), np.float32), window=window)
        _describe(file, band_names, description)
    if cloud:
        plain = path.with_name(f"{path.name}.plain")
        path.rename(plain)
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE):
                _optimize(str(plain), str(path))
        finally:
            plain.unlink()
    # On a full disk GDAL silently closes a truncated file, so the file is read again.
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE), opened(path) as file:
            for first, values in strips():
                written = file.read(window=((first, first + values.shape[0]), (0, shape[1])))
                if not np.array_equal(written.transpose(1, 2, 0), values):
                    raise InputError("it holds other values")
    except InputError as error:
        raise OSError(errno.ENOSPC, "GeoTIFF is not whole after writing, as on a full disk", str(path)) from error

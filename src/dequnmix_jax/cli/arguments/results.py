"""The commands about results: score, match and zones."""

from pathlib import Path
from typing import Any

from dequnmix_jax.cli.arguments.common import add_command, add_json, add_output
from dequnmix_jax.cli.arguments.reading import add_matrix
from dequnmix_jax.cli.arguments.words import local_file, place, positive
from dequnmix_jax.conventions import AS_IS, MEANINGS


def add_score(commands: Any) -> None:
    """Add the command score."""
    text = "measure an estimate against a reference"
    score = add_command(commands, "score", text, "out reference.mat", "out truth.npz --json")
    score.add_argument("estimate", type=place, metavar="OUT", help="folder that `dequnmix unmix` made, or a library")
    text = "the reference: .npz, .mat, a spectral library (ENVI, CSV, USGS text) or a folder of `unmix`"
    score.add_argument("truth", type=place, metavar="TRUTH", help=text)
    text = (
        "convention of the fractions of TRUTH, into which those of OUT are converted: reflectance (of spectra at their "
        "level), scaled (of spectra divided by their maximum), or as-is, no conversion (default: the one that explains "
        "the scene)"
    )
    score.add_argument("--convention", choices=(*MEANINGS, AS_IS), metavar="WORD", help=text)
    text = "the scene of TRUTH, to find its convention (default: the cube in the file TRUTH, if it holds one)"
    score.add_argument("--scene", type=place, metavar="FILE", help=text)
    add_matrix(score)
    add_json(score)


def add_match(commands: Any) -> None:
    """Add the command match."""
    text = "name the spectra of a result by the nearest ones of a spectral library"
    match = add_command(commands, "match", text, "out library.sli", "endmembers.csv library.csv --units um --count 5")
    match.add_argument("spectra", type=place, metavar="OUT", help="folder that `dequnmix unmix` made, or a library")
    match.add_argument("library", type=place, metavar="LIBRARY", help="ENVI, CSV, USGS text or a folder of it")
    text = "library spectra named for each spectrum (default: 3)"
    match.add_argument("--count", type=positive, default=3, metavar="N", help=text)
    text = "width of the scene's bands at half maximum (default: from the file)"
    match.add_argument("--fwhm", type=float, metavar="NM", help=text)
    text = "wavelengths of USGS spectra (default: the file beside them)"
    match.add_argument("--wavelengths", type=local_file, metavar="FILE", help=text)
    text = "bandwidths of USGS spectra (default: the file beside them)"
    match.add_argument("--bandpass", type=local_file, metavar="FILE", help=text)
    text = "unit of the wavelengths of a table (default: from the file, or from the range of its values)"
    match.add_argument("--units", choices=("nm", "um", "angstrom", "cm-1"), help=text)
    text = "value of missing entries of the library (default: from the file)"
    match.add_argument("--nodata", type=float, metavar="VALUE", help=text)
    match.add_argument(
        "--scale", type=float, metavar="NUMBER", help="divide the library by this (default: from the file)"
    )
    text = "sort the bands of overlapping spectrometers (default: overlapping bands are refused)"
    match.add_argument("--sort", action="store_true", help=text)
    add_json(match)


def add_zones(commands: Any) -> None:
    """Add the command zones."""
    zones = add_command(
        commands,
        "zones",
        "write the mean fractions and areas of a result inside polygons as a table",
        "out fields.geojson -o zones.csv",
        "out areas.gpkg:fields --field owner -o zones.csv",
    )
    zones.add_argument(
        "result",
        type=Path,
        metavar="OUT",
        help="folder that `dequnmix unmix` made, or its .nc file, placed on the ground",
    )
    text = "GeoJSON, GeoPackage or shapefile; a layer of a GeoPackage is written after it, FILE.gpkg:LAYER"
    zones.add_argument("polygons", type=Path, metavar="POLYGONS", help=text)
    text = "attribute that names the polygons (default: name, label, id, class or fid, or else their numbers)"
    zones.add_argument("--field", metavar="NAME", help=text)
    add_output(zones, "FILE", "file to make, .csv")
    add_json(zones)

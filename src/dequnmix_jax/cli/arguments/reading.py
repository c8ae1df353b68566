"""The scene of a command, and how it is read."""

import argparse
from pathlib import Path

from dequnmix_jax.cli.arguments.common import Group
from dequnmix_jax.cli.arguments.words import band_numbers, place, values, wavelengths


def add_scene(command: argparse.ArgumentParser, of_a_model: bool = False) -> None:
    """Add the scene and the options that say how it is read."""
    group = command.add_argument_group("reading the scene")
    group.add_argument("file", type=place, metavar="FILE", help="the scene, in any format that `dequnmix --help` names")
    add_reading(group, of_a_model)


def add_reading(group: Group, of_a_model: bool = False) -> None:
    """Add the options that say how a scene is read; with a model, the bands of its training are the default."""
    for_a_model = "; with a model those of its training" if of_a_model else ""
    text = "the cube's name, in a file of several arrays (default: the only cube)"
    group.add_argument("--variable", metavar="NAME", help=text)
    add_matrix(group)
    text = "value of missing pixels, which are masked, like NaN: nan, 0, -9999, ... (default: from the file)"
    group.add_argument("--nodata", type=float, metavar="VALUE", help=text)
    text = "divide by this, for example 10000 for scaled integers (default: from the file)"
    group.add_argument("--scale", type=float, metavar="NUMBER", help=text)
    text = "mask pixels that reach this stored value (default: none)"
    group.add_argument("--saturation", type=float, metavar="VALUE", help=text)
    text = (
        "omit the bands between two wavelengths in nm, for example 1310:1490 for water vapour; repeatable (default: "
        f"omit none{for_a_model})"
    )
    group.add_argument("--ignore", type=wavelengths, action="append", metavar="FROM:TO", help=text)
    text = (
        "use only the bands with these numbers, counted from 0, both ends included, for example 0:9,20:29; repeatable "
        f"(default: all bands{for_a_model})"
    )
    group.add_argument("--bands", type=band_numbers, action="extend", metavar="FROM:TO", help=text)
    text = f"omit the bands with these numbers, for example 0:3,77; repeatable (default: omit none{for_a_model})"
    group.add_argument("--drop-bands", type=band_numbers, action="extend", metavar="FROM:TO", help=text)
    text = (
        "use only the pixels that this file marks: a raster of the same grid (not 0: used), polygons (GeoJSON, "
        "GeoPackage, shapefile; inside: used), or EMIT's mask file (no cloud, cirrus or spacecraft flag: used) "
        "(default: all)"
    )
    group.add_argument("--mask", type=Path, metavar="FILE", help=text)
    text = "values of the raster of --mask that mean use, for example 4,5 (default: all but 0)"
    group.add_argument("--mask-values", type=values, action="extend", metavar="VALUE,VALUE", help=text)
    text = "use the pixels that --mask leaves out (default: those that it names)"
    group.add_argument("--mask-invert", action="store_true", help=text)


def add_matrix(group: Group) -> None:
    """Add the options for a file that holds a matrix of pixels."""
    text = "rows and columns of the image, if a file holds a matrix of pixels (default: from the file)"
    group.add_argument("--shape", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help=text)
    text = (
        "order of the pixels of a matrix, F (down the columns) or C (along the rows) (default: detected, and printed)"
    )
    group.add_argument("--order", choices=("F", "C"), help=text)

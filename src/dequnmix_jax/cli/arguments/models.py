"""The commands that unmix: fit, unmix, report and compare."""

import argparse
from typing import Any

from dequnmix_jax.cli.arguments.common import COUNT, add_command, add_format, add_json, add_most, add_output, add_seed
from dequnmix_jax.cli.arguments.reading import add_reading, add_scene
from dequnmix_jax.cli.arguments.spectra import add_fixed, add_known, add_library
from dequnmix_jax.cli.arguments.training import add_training
from dequnmix_jax.cli.arguments.words import (
    local_file,
    not_negative,
    number_auto_or_library,
    number_or_auto,
    number_or_library,
    place,
    positive,
)
from dequnmix_jax.conventions import AS_IS, MEANINGS

COMPARED = ("fcls", "sunsal", "minimum-volume", "deq")
"""Methods of `compare` by default: those that take seconds."""


def add_fit(commands: Any) -> None:
    """Add the command fit."""
    fit = add_command(
        commands,
        "fit",
        "train a model on a scene, without any reference",
        "scene.img --endmembers 5 --nodata -9999 --scale 10000 -o model.npz",
        "scene.tif --endmembers 4 --ignore 1310:1490 --ignore 1770:2000 -o model.npz",
        "scene.mat --endmembers 3 --start vca --constraint simplex -o model.npz",
        "large.hdr --endmembers 6 --patches 25 --patch-size 64 -o model.npz",
    )
    add_scene(fit)
    fit.add_argument("--endmembers", type=number_or_auto, required=True, metavar="N", help=f"{COUNT} (required)")
    add_most(fit)
    add_fixed(fit)
    add_output(fit, "MODEL", "file to make, .npz")
    add_training(fit)
    fit.set_defaults(train=True)
    text = "train on N patches drawn at random, for a scene larger than memory (default: the whole scene)"
    fit.add_argument("--patches", type=positive, metavar="N", help=text)
    text = "rows and columns of a patch (default: 64)"
    fit.add_argument("--patch-size", type=positive, metavar="S", help=text)
    text = (
        "seconds between two writes of the state of the training beside MODEL, from which the same command resumes "
        "(default: 60)"
    )
    fit.add_argument("--checkpoint", type=float, default=60.0, metavar="SECONDS", help=text)
    add_json(fit)


def add_unmix(commands: Any) -> None:
    """Add the command unmix."""
    unmix = add_command(
        commands,
        "unmix",
        "unmix a scene by a trained model or by known spectra, and write maps, spectra and pictures",
        "scene.img model.npz -o out",
        "scene.img --endmembers library.csv --class Class -o out",
        "scene.img --endmembers library.sli --spectra soil,grass --method scaled -o out",
        "scene.tif model.npz --format geotiff -o out --report report.html",
        "scene.tif model.npz -o result.nc                 all maps in one file, also .tif and .mat",
        "large.img model.npz --tile 256 -o out",
        "large.img model.npz --jobs 8 -o out              the tiles of one scene, by 8 processes",
        "a.nc b.nc '2024/*.nc' -m model.npz -o out        many scenes; a failure is a row of out/batch.csv",
        "scenes.txt -m model.npz --scheduler tcp://host:8786 -o out",
    )
    add_scene(unmix, of_a_model=True)
    text = "file that `dequnmix fit` made; left out with --endmembers LIBRARY and with -m"
    unmix.add_argument("model", type=place, nargs="?", metavar="MODEL", help=text)
    add_batch(unmix, tiles=True)
    text = "the model, where many scenes are named (default: the word after the scene)"
    unmix.add_argument("-m", "--model", dest="by_model", type=local_file, metavar="MODEL", help=text)
    add_output(unmix, "FOLDER|FILE", "folder to make, or one file of all maps, .tif, .nc or .mat")
    add_format(unmix)
    text = (
        "unmix by the spectra of this library (ENVI, CSV, USGS text), resampled to the bands of the scene; or, with a "
        "MODEL, refuse one with another number of endmembers than N (default: any number)"
    )
    unmix.add_argument("--endmembers", type=number_or_library, metavar="LIBRARY|N", help=text)
    add_known(unmix)
    unmix.add_argument("--no-plots", action="store_true", help="write no pictures (default: pictures)")
    tiles = unmix.add_argument_group("scenes larger than memory", "A killed run resumes with its finished tiles.")
    text = (
        "unmix in tiles of N x N pixels, from disk to disk (default: tiles only for a scene larger than memory, as "
        "large as fit)"
    )
    tiles.add_argument("--tile", type=positive, metavar="N", help=text)
    text = (
        "unit and pools of scene or model; model takes those of the scene of the training, so that maps of "
        "neighbouring scenes are comparable and each scene is read once, in tiles"
    )
    tiles.add_argument("--unit", choices=("scene", "model"), metavar="WORD", help=f"{text} (default: scene)")
    text = "pixels around a tile that are read and not kept (default: measured)"
    tiles.add_argument("--halo", type=not_negative, metavar="N", help=text)
    text = "also make a page about the result, .html (default: no page)"
    unmix.add_argument("--report", type=local_file, metavar="FILE", help=text)
    add_library(unmix)
    add_json(unmix)


def add_report(commands: Any) -> None:
    """Add the command report."""
    report = add_command(
        commands,
        "report",
        "make a page about a result, or go from a scene to a page in one command",
        "out -o report.html",
        "out --library library.sli -o report.html",
        "scene.hdr --endmembers 5 -o report.html",
        "scene.hdr --endmembers library.csv --class Class -o report.html",
        "scene.tif --endmembers auto --result out --format geotiff -o report.html",
        "scene.hdr --endmembers 6 --fixed library.csv --fixed-names shade,tarmac -o report.html",
        "scene.tif --model model.npz -o report.html",
        "a.hdr b.hdr c.hdr --endmembers 5 -o pages        many scenes; a failure is a row of pages/batch.csv",
    )
    report.add_argument(
        "file", type=place, metavar="RESULT|SCENE", help="folder or .nc that `dequnmix unmix` made, or a scene"
    )
    text = "the scene of a RESULT that an old version made (default: none)"
    report.add_argument("scene_of_result", type=place, nargs="?", metavar="SCENE", help=text)
    add_batch(report)
    report.set_defaults(by_model=None)
    add_output(report, "FILE|FOLDER", "page to make, .html; of many scenes the folder of the pages")
    add_library(report)
    text = f"{COUNT}; or a library, to unmix by its spectra (default: none; required for a SCENE without --model)"
    report.add_argument("--endmembers", type=number_auto_or_library, metavar="N|LIBRARY", help=text)
    add_most(report)
    add_fixed(report)
    add_known(report, seeded=False)
    text = "unmix by this model (default: train one)"
    report.add_argument("-m", "--model", type=local_file, metavar="FILE", help=text)
    text = "keep maps, spectra and model in this folder (default: they are not kept)"
    report.add_argument("--result", type=local_file, metavar="FOLDER", help=text)
    add_format(report)
    add_reading(report.add_argument_group("reading the scene"), of_a_model=True)
    add_training(report)
    text = (
        "train on the scene too, from what the learned operator chooses; --epochs, --gradient, --start vca and a file "
        "with tables training or rates imply it"
    )
    report.add_argument("--train", action="store_true", help=f"{text} (default: it is not trained)")
    add_json(report)


def add_compare(commands: Any) -> None:
    """Add the command compare."""
    compare = add_command(
        commands,
        "compare",
        "unmix a scene by several methods and seeds, and write a table (CSV, Markdown, LaTeX) and a picture of maps",
        "scene.mat --endmembers 3 -o out",
        "scene.mat --endmembers 3 --methods fcls,sunsal,deeptrans,deq --seeds 5 --reference truth.mat -o out",
    )
    add_scene(compare)
    compare.add_argument("--endmembers", type=number_or_auto, required=True, metavar="N", help=f"{COUNT} (required)")
    add_most(compare)
    text = (
        "methods, separated by commas; repeatable; deq is the learned operator, deq-trained the equilibrium trained on "
        f"the scene; a wrong word lists them all (default: {','.join(COMPARED)})"
    )
    compare.add_argument("--methods", action="append", metavar="WORD,WORD", help=text)
    text = "runs of each method, with seeds from --seed on (default: 5)"
    compare.add_argument("--seeds", type=positive, default=5, metavar="N", help=text)
    add_seed(compare)
    text = "maps, spectra or both that are true: .npz, .mat, a library, a folder of `unmix` (default: none, no errors)"
    compare.add_argument("--reference", type=place, metavar="FILE", help=text)
    text = "convention of its fractions: reflectance, scaled or as-is (default: the one that explains the scene)"
    compare.add_argument("--convention", choices=(*MEANINGS, AS_IS), metavar="WORD", help=text)
    add_output(compare, "FOLDER", "folder to make")
    add_json(compare)


def add_batch(command: argparse.ArgumentParser, tiles: bool = False) -> None:
    """Add further scenes, and the processes that work on them."""
    of_tiles = (
        "processes on this machine, for many scenes or for the tiles of one " if tiles else "processes on this machine "
    )
    group = command.add_argument_group(
        "many scenes, many processes",
        "Paths, URLs, quoted patterns, text files (.txt) with one of these a line, or STAC items (.json); each scene "
        "has an output of its own in the folder of -o. What is finished is skipped. Needs the extra dask, except with "
        "--jobs 1.",
    )
    group.add_argument("more", type=place, nargs="*", metavar="SCENE", help="further scenes (default: none)")
    text = of_tiles + "(default: for many scenes one for each core)"
    group.add_argument("--jobs", type=positive, metavar="N", help=text)
    text = "work on the cluster of this Dask scheduler, tcp://HOST:PORT (default: on this machine)"
    group.add_argument("--scheduler", metavar="ADDRESS", help=text)
    text = "try again so many times what a process left unfinished that died (default: 2)"
    group.add_argument("--retries", type=not_negative, default=2, metavar="N", help=text)

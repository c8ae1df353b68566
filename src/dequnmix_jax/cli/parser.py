"""Parser of the command line: the options of every command, with their defaults and examples."""

import argparse
import difflib
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from dequnmix_jax.abundances.methods import COMBINED, MESMA, NONLINEAR, SHADES, Known, Mesma
from dequnmix_jax.abundances.methods import METHODS as KNOWN
from dequnmix_jax.checks import InputError
from dequnmix_jax.compilation_cache import NO_CACHE
from dequnmix_jax.conventions import AS_IS, MEANINGS
from dequnmix_jax.endmembers.counting import MOST
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io.remote import as_local, as_place
from dequnmix_jax.results.files import FORMATS
from dequnmix_jax.training.config import RECOMMENDED
from dequnmix_jax.training.words import CHOICES, MIXING, numbers_of, words_of


def wavelengths(text: str) -> tuple[float, float]:
    """Return the two ends of a range of wavelengths, such as 1310:1490."""
    return _range(text, float, "wavelengths, such as 1310:1490", "write the shorter wavelength first")


def band_numbers(text: str) -> tuple[tuple[int, int], ...]:
    """Return ranges of band numbers, such as 0:119 or 0:9,12,20:29."""
    ranges = []
    for part in text.split(","):
        both = part if ":" in part else f"{part}:{part}"
        low, high = _range(both, int, "band numbers, such as 0:119 or 0:9,20:29", "write the lower number first")
        if low < 0:
            raise argparse.ArgumentTypeError(f"{part!r} begins below 0; bands are counted from 0")
        ranges.append((low, high))
    return tuple(ranges)


def values(text: str) -> tuple[float, ...]:
    """Return numbers separated by commas, such as 4,5."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 4,5") from None


def fractions(text: str) -> tuple[float, float]:
    """Return the two ends of a range of fractions, such as -0.05:1.05."""
    return _range(text, float, "fractions, such as -0.05:1.05", "write the smaller fraction first")


def _range(text: str, number: Any, what: str, order: str) -> tuple[Any, Any]:
    try:
        low, high = (number(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of {what}") from None
    if not low <= high:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins; {order}")
    return low, high


def number_or_auto(text: str) -> int | str:
    """Return a whole number, or the word auto."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor auto") from None


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


def place(text: str) -> Path:
    """Return the path, or the `Remote` of a URL."""
    return _converted(as_place, text)


def local_file(text: str) -> Path:
    """Return the path of a file on this machine."""
    return _converted(as_local, text)


def _converted(convert: Callable[[str], Path], text: str) -> Path:
    try:
        return convert(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def number_or_library(text: str) -> int | Path:
    """Return a whole number, or the path of a spectral library."""
    try:
        return int(text)
    except ValueError:
        return place(text)


def number_auto_or_library(text: str) -> int | str | Path:
    """Return a whole number, the word auto, or the path of a spectral library."""
    return text if text == "auto" else number_or_library(text)


def number_or_noise(text: str) -> float | str:
    """Return a number, or a word for a noise."""
    try:
        return float(text)
    except ValueError:
        return text


positive, not_negative = partial(_at_least, 1), partial(_at_least, 0)

_EXAMPLES = f"""examples:
  dequnmix demo                                           a scene whose truth is known, and the errors
  dequnmix info scene.img                                 the metadata of a scene, and warnings
  dequnmix fit scene.mat --endmembers 3 -o model.npz      train on a scene
  dequnmix unmix scene.mat model.npz -o out               maps, spectra and pictures into the folder out
  dequnmix unmix scene.tif model.npz --format geotiff -o out
  dequnmix unmix scene.hdr --endmembers library.csv --class Class -o out
  dequnmix report out -o report.html                      a page about the result, for any browser
  dequnmix report scene.hdr --endmembers 5 -o r.html      all of this in one command
  dequnmix compare scene.mat --endmembers 3 -o out        several methods side by side, a table for a paper
  dequnmix endmembers scene.hdr --count 5 -o spectra.sli  spectra without a network
  dequnmix convert scene.hdr -o copy.tif                  the scene in another format
  dequnmix score out reference.mat                        errors against a reference
  dequnmix match out library.sli                          the nearest spectra of a library
  dequnmix zones out fields.gpkg -o zones.csv             fractions and areas inside polygons
  dequnmix env                                            versions, devices and caches, to report a fault

Scenes: .npz, .npy, .mat, ENVI, GeoTIFF and other rasters, files of missions (EMIT, PRISMA, EnMAP, ...), NetCDF (CF),
Zarr; also by URL (https://, s3://) or as GDAL names them (/vsicurl/, /vsizip/).
Compiled programs are kept in the user's cache folder (~/.cache, ~/Library/Caches or %LOCALAPPDATA%; XDG_CACHE_HOME or
JAX_COMPILATION_CACHE_DIR name another); {NO_CACHE}=1 keeps none."""

DEMO_SCENES = {"minerals": 4, "hysu": 7}
"""Scenes of `demo`, the first by default, and how many endmembers are looked for."""

COMPARED = ("fcls", "sunsal", "minimum-volume", "deq")
"""Methods of `compare` by default: those that take seconds."""

SHELLS = ("bash", "zsh", "tcsh")
"""Shells of `completion`."""

METHODS = ("start", "vca", "nfindr", "sivm", "atgp", "minimum-volume")
"""Methods of `endmembers`; the first is the default."""

_COUNT = "number of endmembers, or auto: as many as a rule learned on generated scenes finds"

_Group = argparse._ActionsContainer


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence and not a page."""

    def error(self, message: str) -> NoReturn:
        """Print the error and end the process with status 2."""
        sentence = message if message.endswith("?") else f"{message.rstrip('.')}."
        self.exit(2, f"{self.prog}: {sentence} See `{self.prog} --help`.\n")


class _CommandParser(_Parser):
    """The parser of one command, which refuses words it does not know itself, so that the error names its help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of the command; end the process with an error if one is unknown."""
        self._check_given_once([] if args is None else list(args))
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest(unknown)}")
        return known, unknown

    def _check_given_once(self, words: Sequence[str]) -> None:
        """End the process with an error if an option with one value is given twice."""
        values: dict[str, list[str]] = {}
        for i, word in enumerate(words):
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            if action is None or action.nargs == 0 or isinstance(action, argparse._AppendAction):
                continue
            given = [value] if equals else words[i + 1 : i + 1 + (action.nargs if isinstance(action.nargs, int) else 1)]
            values.setdefault(action.dest, []).append(" ".join(given))
            if len(values[action.dest]) > 1:
                first, second = values[action.dest]
                self.error(f"{name} is given twice, as {first} and as {second}; give it once")

    def _nearest(self, words: Sequence[str]) -> str:
        options = [option for option in self._option_string_actions if option.startswith("--")]
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        nearest = [match for word in given for match in difflib.get_close_matches(word, options, n=1)]
        return f"; did you mean {' and '.join(nearest)}?" if nearest else ""


def parser(version: str) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Args:
        version: printed by `--version`.
    """
    description = "Unmix hyperspectral scenes by deep equilibrium models."
    whole = _Parser(
        "dequnmix", description=description, epilog=_EXAMPLES, formatter_class=_AsWritten, allow_abbrev=False
    )
    whole.add_argument("--version", action="version", version=f"dequnmix {version}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for add in (
        _demo, _info, _fit, _unmix, _report, _compare, _endmembers, _convert, _score, _match, _zones, _env, _completion,
    ):  # fmt: skip
        add(commands)
    return whole


_AsWritten = argparse.RawDescriptionHelpFormatter


def _command(commands: Any, name: str, text: str, *examples: str) -> argparse.ArgumentParser:
    lines = "\n".join(f"  dequnmix {name} {example}" for example in examples)
    epilog = f"example{'s' if len(examples) > 1 else ''}:\n{lines}"
    description = text[0].upper() + text[1:] + "."
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=description, epilog=epilog, formatter_class=_AsWritten, allow_abbrev=False
    )
    text = "append what is printed on stderr to this file, with times and the traceback of a failure (default: no log)"
    added.add_argument("--log-file", type=Path, metavar="FILE", help=text)
    text = "print the traceback of a failure (default: one sentence)"
    added.add_argument("-v", "--verbose", action="store_true", help=text)
    return added


_GLUE = "\0"


def _words_of_a_file() -> str:
    """Return the tables that --config reads with their defaults, and the further numbers of the other choices."""
    usual = words_of(Model())
    tables: dict[str, Mapping[str, Any]] = {
        "model": {name: value for name, value in usual.items() if not isinstance(value, dict)},
        "model.forward": usual["forward"],
        "model.backward": usual["backward"] | {"max_steps": Model().backward.limit},
        "training": asdict(RECOMMENDED[0]),
        "rates": RECOMMENDED[1]._asdict(),
    }
    lines = [f"[{table}] {_listed(words)}" for table, words in tables.items()]
    for table, parts in CHOICES.items():
        for part, kinds in parts.items():
            for word in kinds:
                numbers = numbers_of(table, part, word)
                if numbers and word != tables[table][part]:
                    lines.append(f"[{table}] {_listed({part: word} | numbers)}")
    wrapped = [textwrap.fill(line, 98, initial_indent="  ", subsequent_indent="      ") for line in lines]
    return "\n".join(["tables of --config, and their defaults:", *wrapped]).replace(_GLUE, " ")


def _listed(words: Mapping[str, Any]) -> str:
    """Return words and values as in a TOML file; an entry is not divided between two lines."""
    entries = [f"{name} = {json.dumps('none' if value is None else value)}" for name, value in words.items()]
    return ", ".join(entry.replace(" ", _GLUE) for entry in entries)


def _demo(commands: Any) -> None:
    text = "unmix a scene that is shipped with the program, and compare the result with the truth"
    demo = _command(commands, "demo", text, "", "--scene hysu -o hysu", "--seed 1 -o my_demo")
    text = (
        "minerals (generated; all fractions are known) or hysu (measured; 25 targets of known area on a meadow) "
        f"(default: {next(iter(DEMO_SCENES))})"
    )
    demo.add_argument("--scene", choices=tuple(DEMO_SCENES), default=next(iter(DEMO_SCENES)), metavar="NAME", help=text)
    _output(demo, "FOLDER", "folder to make", "dequnmix_demo")
    counts = ", ".join(f"{count} for {name}" for name, count in DEMO_SCENES.items())
    demo.add_argument("--endmembers", type=int, metavar="N", help=f"number of endmembers (default: {counts})")
    _seed(demo)
    _json(demo)


def _info(commands: Any) -> None:
    text = "print the metadata of a scene and warnings about it"
    info = _command(commands, "info", text, "scene.hdr", "scene.tif --nodata -9999 --json")
    _reading(info)
    _json(info)


def _fit(commands: Any) -> None:
    fit = _command(
        commands,
        "fit",
        "train a model on a scene, without any reference",
        "scene.img --endmembers 5 --nodata -9999 --scale 10000 -o model.npz",
        "scene.tif --endmembers 4 --ignore 1310:1490 --ignore 1770:2000 -o model.npz",
        "scene.mat --endmembers 3 --start vca --constraint simplex -o model.npz",
        "large.hdr --endmembers 6 --patches 25 --patch-size 64 -o model.npz",
    )
    _reading(fit)
    fit.add_argument("--endmembers", type=number_or_auto, required=True, metavar="N", help=f"{_COUNT} (required)")
    _most(fit)
    _fixed(fit)
    _output(fit, "MODEL", "file to make, .npz")
    _training(fit)
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
    _json(fit)


def _unmix(commands: Any) -> None:
    unmix = _command(
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
    _reading(unmix, of_a_model=True)
    text = "file that `dequnmix fit` made; left out with --endmembers LIBRARY and with -m"
    unmix.add_argument("model", type=place, nargs="?", metavar="MODEL", help=text)
    _batch(unmix, tiles=True)
    text = "the model, where many scenes are named (default: the word after the scene)"
    unmix.add_argument("-m", "--model", dest="by_model", type=local_file, metavar="MODEL", help=text)
    _output(unmix, "FOLDER|FILE", "folder to make, or one file of all maps, .tif, .nc or .mat")
    _format(unmix)
    text = (
        "unmix by the spectra of this library (ENVI, CSV, USGS text), resampled to the bands of the scene; or, with a "
        "MODEL, refuse one with another number of endmembers than N (default: any number)"
    )
    unmix.add_argument("--endmembers", type=number_or_library, metavar="LIBRARY|N", help=text)
    _known(unmix)
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
    _library(unmix)
    _json(unmix)


def _report(commands: Any) -> None:
    report = _command(
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
    _batch(report)
    report.set_defaults(by_model=None)
    _output(report, "FILE|FOLDER", "page to make, .html; of many scenes the folder of the pages")
    _library(report)
    text = f"{_COUNT}; or a library, to unmix by its spectra (default: none; required for a SCENE without --model)"
    report.add_argument("--endmembers", type=number_auto_or_library, metavar="N|LIBRARY", help=text)
    _most(report)
    _fixed(report)
    _known(report, seeded=False)
    text = "unmix by this model (default: train one)"
    report.add_argument("-m", "--model", type=local_file, metavar="FILE", help=text)
    text = "keep maps, spectra and model in this folder (default: they are not kept)"
    report.add_argument("--result", type=local_file, metavar="FOLDER", help=text)
    _format(report)
    _reading_options(report.add_argument_group("reading the scene"), of_a_model=True)
    _training(report)
    text = (
        "train on the scene too, from what the learned operator chooses; --epochs, --gradient, --start vca and a file "
        "with tables training or rates imply it"
    )
    report.add_argument("--train", action="store_true", help=f"{text} (default: it is not trained)")
    _json(report)


def _compare(commands: Any) -> None:
    compare = _command(
        commands,
        "compare",
        "unmix a scene by several methods and seeds, and write a table (CSV, Markdown, LaTeX) and a picture of maps",
        "scene.mat --endmembers 3 -o out",
        "scene.mat --endmembers 3 --methods fcls,sunsal,deeptrans,deq --seeds 5 --reference truth.mat -o out",
    )
    _reading(compare)
    compare.add_argument("--endmembers", type=number_or_auto, required=True, metavar="N", help=f"{_COUNT} (required)")
    _most(compare)
    text = (
        "methods, separated by commas; repeatable; deq is the learned operator, deq-trained the equilibrium trained on "
        f"the scene; a wrong word lists them all (default: {','.join(COMPARED)})"
    )
    compare.add_argument("--methods", action="append", metavar="WORD,WORD", help=text)
    text = "runs of each method, with seeds from --seed on (default: 5)"
    compare.add_argument("--seeds", type=positive, default=5, metavar="N", help=text)
    _seed(compare)
    text = "maps, spectra or both that are true: .npz, .mat, a library, a folder of `unmix` (default: none, no errors)"
    compare.add_argument("--reference", type=place, metavar="FILE", help=text)
    text = "convention of its fractions: reflectance, scaled or as-is (default: the one that explains the scene)"
    compare.add_argument("--convention", choices=(*MEANINGS, AS_IS), metavar="WORD", help=text)
    _output(compare, "FOLDER", "folder to make")
    _json(compare)


def _endmembers(commands: Any) -> None:
    endmembers = _command(
        commands,
        "endmembers",
        "find the spectra of a scene without a network, and write them as a library",
        "scene.hdr --count 5 -o spectra.sli",
        "scene.tif --count auto --method nfindr --scaled -o spectra.csv",
    )
    _reading(endmembers)
    endmembers.add_argument("--count", type=number_or_auto, required=True, metavar="N", help=f"{_COUNT} (required)")
    _most(endmembers)
    _fixed(endmembers)
    text = f"{', '.join(METHODS)}; start compares 16 candidates, chooses one and says why (default: {METHODS[0]})"
    endmembers.add_argument("--method", choices=METHODS, default=METHODS[0], metavar="WORD", help=text)
    text = "divide each pixel by its brightness first; for sivm, nfindr and minimum-volume (default: no division)"
    endmembers.add_argument("--scaled", action="store_true", help=text)
    _seed(endmembers)
    _output(endmembers, "FILE", "file to make, .sli (ENVI spectral library) or .csv")
    _json(endmembers)


def _convert(commands: Any) -> None:
    convert = _command(
        commands,
        "convert",
        "write a scene in another format, with wavelengths, mask and georeference",
        "scene.hdr -o copy.tif",
        "scene.nc -o scene.zarr",
        "scene.mat --variable Y --scale 10000 -o scene.npz",
    )
    _reading(convert)
    _output(convert, "FILE", "to make: .npz, .tif, .nc, .zarr, or .img (ENVI)")
    _json(convert)


def _score(commands: Any) -> None:
    text = "measure an estimate against a reference"
    score = _command(commands, "score", text, "out reference.mat", "out truth.npz --json")
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
    _matrix(score)
    _json(score)


def _match(commands: Any) -> None:
    text = "name the spectra of a result by the nearest ones of a spectral library"
    match = _command(commands, "match", text, "out library.sli", "endmembers.csv library.csv --units um --count 5")
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
    _json(match)


def _zones(commands: Any) -> None:
    zones = _command(
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
    _output(zones, "FILE", "file to make, .csv")
    _json(zones)


def _env(commands: Any) -> None:
    text = "print versions, devices, caches and variables, for the report of a fault"
    _json(_command(commands, "env", text, "", "--json"))


def _completion(commands: Any) -> None:
    text = "print a script that completes commands and options in a shell"
    completion = _command(commands, "completion", text, "bash", "zsh")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def _reading(command: argparse.ArgumentParser, of_a_model: bool = False) -> None:
    """Add the scene and the options that say how it is read."""
    group = command.add_argument_group("reading the scene")
    group.add_argument("file", type=place, metavar="FILE", help="the scene, in any format that `dequnmix --help` names")
    _reading_options(group, of_a_model)


def _reading_options(group: _Group, of_a_model: bool = False) -> None:
    """Add the options that say how a scene is read; with a model, the bands of its training are the default."""
    for_a_model = "; with a model those of its training" if of_a_model else ""
    text = "the cube's name, in a file of several arrays (default: the only cube)"
    group.add_argument("--variable", metavar="NAME", help=text)
    _matrix(group)
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


def _matrix(group: _Group) -> None:
    text = "rows and columns of the image, if a file holds a matrix of pixels (default: from the file)"
    group.add_argument("--shape", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help=text)
    text = (
        "order of the pixels of a matrix, F (down the columns) or C (along the rows) (default: detected, and printed)"
    )
    group.add_argument("--order", choices=("F", "C"), help=text)


def _output(command: argparse.ArgumentParser, metavar: str, text: str, default: str | None = None) -> None:
    if default is None:
        command.add_argument(
            "-o", "--output", type=local_file, metavar=metavar, help=f"{text} (required)", required=True
        )
    else:
        text = f"{text} (default: {default})"
        command.add_argument("-o", "--output", type=local_file, metavar=metavar, help=text, default=Path(default))
    command.add_argument("--force", action="store_true", help="replace an earlier output (default: refuse)")


def _format(command: argparse.ArgumentParser) -> None:
    text = f"of the maps; cog is a GeoTIFF with overviews (default: {FORMATS[0]}, or that of the file's suffix)"
    command.add_argument("--format", choices=FORMATS, help=text)


def _training(command: argparse.ArgumentParser) -> None:
    """Add the options that say how a model is trained."""
    group = command.add_argument_group("training")
    text = f"training steps on the whole image (default: {RECOMMENDED[0].epochs})"
    group.add_argument("--epochs", type=int, metavar="N", help=text)
    _seed(group)
    defaults = words_of(Model())
    text = (
        "initial endmembers: auto lets the learned operator choose, without a reference, and the constraint too; vca "
        "takes the largest of several draws of VCA (default: auto; vca with --patches, or with fewer than two bands "
        "per endmember)"
    )
    group.add_argument("--start", choices=("auto", "vca"), metavar="WORD", help=text)
    text = f"analytic, residual (the paper's network) or energy (default: {defaults['gradient']})"
    group.add_argument("--gradient", metavar="WORD", help=text)
    text = (
        "mixing model, which implies the constraint: linear (fractions sum to one), scaled (a free brightness for each "
        "pixel, fractions of spectra at one level) or soft (a brightness near one) (default: as --start auto chooses)"
    )
    group.add_argument("--mixing", choices=tuple(MIXING), metavar="WORD", help=text)
    text = (
        "constraint on the abundances: simplex or softmax (linear mixing), cone (scaled) or soft (soft) "
        f"(default: as --start auto chooses; with --start vca {defaults['constraint']})"
    )
    group.add_argument("--constraint", metavar="WORD", help=text)
    group.add_argument("--prox", metavar="WORD", help=f"proximal step, none or conv (default: {defaults['prox']})")
    text = (
        "what the data term adds to linear mixing, none, khype, ppnm or mlm, for reflectance and --constraint simplex "
        f"(default: {defaults['nonlinear']})"
    )
    group.add_argument("--nonlinear", metavar="WORD", help=text)
    text = f"prior on the maps, none, neighbours or learned (default: learned; with --start vca {defaults['prior']})"
    group.add_argument("--prior", metavar="WORD", help=text)
    text = "TOML file with tables model, training and rates; options override it (default: the tables below)"
    group.add_argument("--config", type=local_file, metavar="FILE", help=text)
    command.epilog = f"{command.epilog}\n\n{_words_of_a_file()}"


def _batch(command: argparse.ArgumentParser, tiles: bool = False) -> None:
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


def _library(command: _Group) -> None:
    text = (
        "name the endmembers by the nearest spectra of this library (ENVI, CSV, USGS text), in maps, tables and page "
        "(default: by numbers)"
    )
    command.add_argument("--library", type=place, metavar="FILE", help=text)
    text = "divide the library by this, that of --endmembers too (default: from the file)"
    command.add_argument("--library-scale", type=float, metavar="NUMBER", help=text)


def _known(command: _Group, seeded: bool = True) -> None:
    """Add the options of an unmixing by known spectra."""
    group = command.add_argument_group("with --endmembers LIBRARY")
    text = (
        "fcls (fractions sum to one), nnls (a free brightness), scaled (nnls, fractions of spectra at one level), soft "
        "(a brightness near one), sunsal (few spectra a pixel), sunsal-tv (and smooth maps), mesma (in each pixel one "
        f"spectrum of each of few classes), {', '.join(NONLINEAR)} (mixing that is not linear), or deq (trains an "
        f"equilibrium model, spectra held) (default: {KNOWN[0]})"
    )
    group.add_argument("--method", choices=(*KNOWN, *NONLINEAR, MESMA, "deq"), metavar="WORD", help=text)
    text = "also map the sums over each class, which this column of the library holds; name: spectra of one name"
    group.add_argument("--class", dest="classes", metavar="COLUMN", help=f"{text} (default: no classes)")
    text = "use the spectra with these names, separated by commas; repeatable (default: all)"
    group.add_argument("--spectra", action="append", metavar="NAME,NAME", help=text)
    text = f"weight of few spectra, of sunsal and sunsal-tv (default: {Known().sparsity:g})"
    group.add_argument("--sparsity", type=float, metavar="NUMBER", help=text)
    text = f"weight of smooth maps, of sunsal-tv (default: {Known().variation:g})"
    group.add_argument("--variation", type=float, metavar="NUMBER", help=text)
    text = (
        "divide each pixel and spectrum by its brightness first, of fcls and mesma; fractions are converted back "
        "(default: brightness as it is)"
    )
    group.add_argument("--normalise", action="store_true", help=text)
    text = (
        "also map the standard deviations of the fractions by this noise: bands (estimated in each band), residual "
        "(what the spectra of a pixel do not explain), scene (what they do not explain in the scene, with its "
        "correlation between bands), a standard deviation in the units of the scene, or a file of these, such as "
        "EMIT's uncertainty; `report --endmembers N` takes starts, the spread over other ways to find the endmembers "
        "and --draws seeds"
    )
    help_text = f"{text} (default: no deviations)"
    group.add_argument("--uncertainty", type=number_or_noise, metavar="NOISE", help=help_text)
    text = (
        "off, closed-form, or draws (the spread over unmixings with spectra of each class drawn by --seed, and noise "
        "added)"
    )
    help_text = f"{text} (default: closed-form with --uncertainty)"
    group.add_argument("--uncertainty-by", choices=("off", "closed-form", "draws"), metavar="WORD", help=help_text)
    group.add_argument("--draws", type=positive, metavar="N", help="number of draws (default: 20)")
    text = "also map the bounds of 5 and 95 %% of the fractions (default: no bounds)"
    group.add_argument("--bounds", action="store_true", help=text)
    _mesma(group)
    if seeded:
        text = f"training steps of deq (default: {RECOMMENDED[0].epochs})"
        group.add_argument("--epochs", type=positive, metavar="N", help=text)
        group.add_argument(
            "--seed", type=int, metavar="N", help="seed of the random numbers of deq, --models and draws (default: 0)"
        )


def _mesma(group: _Group) -> None:
    """Add the options of mesma, and of the choice of its library."""
    usual = Mesma()
    text = "keep N spectra of each class, the best by the measure ear, masa or cob"
    group.add_argument("--prune", metavar="MEASURE:N", help=f"{text} (default: all)")
    text = f"classes of a model of mesma at most (default: {usual.max_classes})"
    group.add_argument("--max-classes", type=positive, metavar="N", help=text)
    text = "models of mesma combine classes, one spectrum of each, or any spectra"
    group.add_argument("--combine", choices=COMBINED, metavar="WORD", help=f"{text} (default: {COMBINED[0]})")
    text = f"mesma takes a larger model where it lowers the RMSE by more (default: {usual.threshold:g})"
    group.add_argument("--threshold", type=float, metavar="NUMBER", help=text)
    text = (
        "shade of mesma: none, normalised (fractions are divided by what is not shade, which is the brightness), or "
        f"kept (as a map) (default: {usual.shade})"
    )
    group.add_argument("--shade", choices=SHADES, metavar="WORD", help=text)
    text = "mesma discards models with a larger RMSE; a pixel without any has no fractions (default: no limit)"
    group.add_argument("--max-rmse", type=float, metavar="NUMBER", help=text)
    text = "mesma discards models with fractions outside, such as -0.05:1.05 (default: fractions held in 0:1)"
    group.add_argument("--fractions", type=fractions, metavar="LOW:HIGH", help=text)
    text = "models of each number of classes that mesma tries, drawn by --seed (default: all)"
    group.add_argument("--models", type=positive, metavar="N", help=text)


def _most(command: _Group) -> None:
    text = f"largest number of endmembers that auto looks for (default: {MOST})"
    command.add_argument("--max-endmembers", type=positive, metavar="N", help=text)


def _fixed(command: _Group) -> None:
    """Add the options of spectra that are known, while the others are found in the scene."""
    group = command.add_argument_group("with spectra that are known beside others that are found")
    text = "library whose spectra are among the N endmembers and stay as they are (default: all are found)"
    group.add_argument("--fixed", dest="fixed_library", type=Path, metavar="FILE", help=text)
    text = "the spectra of --fixed to use, by names separated by commas; repeatable (default: all)"
    group.add_argument("--fixed-names", action="append", metavar="NAME,NAME", help=text)
    text = "divide the library of --fixed by this (default: from the file)"
    group.add_argument("--fixed-scale", type=float, metavar="NUMBER", help=text)


def _seed(group: _Group) -> None:
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random numbers (default: 0)")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON for other programs (default: text)")

"""The command line: `dequnmix demo | info | fit | unmix | score | match`.

A failure is one sentence on stderr and the exit status 1; nothing that exists is overwritten without --force.
"""

import argparse
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dequnmix_jax import __version__
from dequnmix_jax.checks import InputError
from dequnmix_jax.outputs import FORMATS

_NO_CACHE = "DEQUNMIX_NO_CACHE"
_TRACEBACK = "DEQUNMIX_TRACEBACK"

_EXAMPLES = f"""examples:
  dequnmix demo                                           a real scene, shipped with the program
  dequnmix info scene.img                                 what a file holds
  dequnmix fit scene.mat --endmembers 3 -o model.npz      train on a scene
  dequnmix unmix scene.mat model.npz -o out               maps, spectra and pictures into the folder out
  dequnmix unmix scene.tif model.npz --format geotiff -o out
  dequnmix score out reference.mat                        errors against a reference
  dequnmix match out library.sli                          the nearest spectra of a library

Scenes: .npz, .npy, .mat, ENVI, GeoTIFF, EMIT L2A NetCDF, PRISMA L2 HDF5, Zarr. Compiled programs are
kept in the user's cache folder (~/.cache, ~/Library/Caches or %LOCALAPPDATA%; XDG_CACHE_HOME or
JAX_COMPILATION_CACHE_DIR name another); {_NO_CACHE}=1 keeps none."""


def _reading(parser: argparse.ArgumentParser) -> None:
    """Add the options on how a scene is read."""
    group = parser.add_argument_group("reading the scene")
    group.add_argument("file", type=Path, metavar="FILE", help="the scene, in any format that `dequnmix --help` names")
    group.add_argument("--variable", metavar="NAME", help="the cube's name, in a file of several arrays")
    _matrix(group)
    group.add_argument("--nodata", type=float, help="value of missing pixels (nan, 0, -9999, ...), which are masked")
    group.add_argument("--scale", type=float, help="divide by this, for example 10000 for scaled integers")
    group.add_argument("--saturation", type=float, metavar="VALUE", help="mask pixels that reach this stored value")
    group.add_argument(
        "--ignore",
        type=_range,
        action="append",
        metavar="FROM:TO",
        help="leave out the bands between two wavelengths in nm, for example 1310:1490 for water vapour; repeatable",
    )


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of wavelengths, such as 1310:1490") from None
    if not low <= high:  # NaN is refused too
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins; write the shorter wavelength first")
    return low, high


def _matrix(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--shape", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="where a file holds a matrix of pixels"
    )
    group.add_argument("--order", choices=("F", "C"), help="pixels counted down the columns (F) or along the rows (C)")


def _output(parser: argparse.ArgumentParser, metavar: str, text: str, default: str | None = None) -> None:
    given: dict[str, Any] = {"required": True} if default is None else {"default": Path(default)}
    parser.add_argument("-o", "--output", type=Path, metavar=metavar, help=text, **given)
    parser.add_argument("--force", action="store_true", help="replace an earlier output")


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    description = "Unmix hyperspectral scenes by deep equilibrium models."
    parser = argparse.ArgumentParser("dequnmix", description=description, epilog=_EXAMPLES, formatter_class=kind)
    parser.add_argument("--version", action="version", version=f"dequnmix {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    text = "unmix a real scene shipped with the program, and compare the areas found with the true ones"
    demo = commands.add_parser("demo", help=text, description=text.capitalize() + ".")
    _output(demo, "FOLDER", "folder to make (dequnmix_demo)", "dequnmix_demo")
    demo.add_argument("--endmembers", type=int, default=7, metavar="N", help="how many to look for (7)")
    demo.add_argument("--epochs", type=int, metavar="N", help="training steps on the whole image")
    demo.add_argument("--seed", type=int, default=0, help="of the random start (0)")

    text = "say what a file holds and what is odd about it"
    info = commands.add_parser("info", help=text, description=text.capitalize() + ".")
    _reading(info)
    info.add_argument("--json", action="store_true", help="for other programs")

    text = "train a model on a scene, without any reference"
    fit = commands.add_parser(
        "fit",
        help=text,
        description=text.capitalize() + ".",
        epilog="example:\n  dequnmix fit scene.img --endmembers 5 --nodata -9999 --scale 10000 -o model.npz",
        formatter_class=kind,
    )
    _reading(fit)
    fit.add_argument("--endmembers", type=int, required=True, metavar="N", help="how many materials to look for")
    _output(fit, "MODEL", "file to make, .npz")
    fit.add_argument("--epochs", type=int, metavar="N", help="training steps on the whole image")
    fit.add_argument("--seed", type=int, default=0, help="of the random start (0)")
    fit.add_argument("--gradient", metavar="WORD", help="analytic, residual (the paper's network) or energy")
    fit.add_argument("--constraint", metavar="WORD", help="simplex, cone (free brightness) or softmax")
    fit.add_argument("--prox", metavar="WORD", help="none or conv")

    text = "unmix a scene by a trained model, and write maps, spectra and pictures"
    unmix = commands.add_parser("unmix", help=text, description=text.capitalize() + ".")
    _reading(unmix)
    unmix.add_argument("model", type=Path, metavar="MODEL", help="file that `dequnmix fit` made")
    _output(unmix, "FOLDER", "folder to make")
    unmix.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the maps (envi)")
    unmix.add_argument("--endmembers", type=int, metavar="N", help="refuse a model of another number")
    unmix.add_argument("--no-plots", action="store_true", help="no pictures")

    text = "measure an estimate against a reference"
    score = commands.add_parser("score", help=text, description=text.capitalize() + ".")
    score.add_argument("estimate", type=Path, metavar="OUT", help="folder that `dequnmix unmix` made")
    score.add_argument("truth", type=Path, metavar="TRUTH", help=".npz, .mat, spectral library or folder of `unmix`")
    _matrix(score)
    score.add_argument("--json", action="store_true", help="for other programs")

    text = "name found spectra by the nearest ones of a spectral library"
    match = commands.add_parser("match", help=text, description=text.capitalize() + ".")
    match.add_argument("found", type=Path, metavar="OUT", help="folder that `dequnmix unmix` made, or a library")
    match.add_argument("library", type=Path, metavar="LIBRARY", help="ENVI, CSV, USGS text or a folder of it")
    match.add_argument("--count", type=_positive, default=3, metavar="N", help="names for each spectrum (3)")
    match.add_argument("--fwhm", type=float, metavar="NM", help="width of the scene's bands at half maximum")
    match.add_argument("--wavelengths", type=Path, metavar="FILE", help="wavelengths of USGS spectra")
    match.add_argument("--bandpass", type=Path, metavar="FILE", help="widths of the bands of USGS spectra")
    match.add_argument("--units", choices=("nm", "um"), help="of the wavelengths of a table")
    match.add_argument("--nodata", type=float, help="value of missing entries of the library")
    match.add_argument("--scale", type=float, help="divide the library by this")
    match.add_argument("--sort", action="store_true", help="sort bands of overlapping spectrometers")
    match.add_argument("--json", action="store_true", help="for other programs")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _cache_folder() -> Path:
    """Return the user's cache folder, where the platform has it."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _keep_compiled_programs() -> None:
    """Let jax keep what it compiled in the user's cache folder, if there is one to write to."""
    if os.environ.get(_NO_CACHE):
        return
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return  # the user has chosen a place, by JAX_COMPILATION_CACHE_DIR
    try:
        folder = _cache_folder() / "dequnmix_jax" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell a full or read-only disk
            pass
    except (OSError, RuntimeError):
        return  # a read-only or missing home costs time, not the answer
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _run(args: argparse.Namespace) -> None:
    _keep_compiled_programs()
    if args.command == "demo":
        from dequnmix_jax.demo import demo

        demo(args)
    elif args.command == "score":
        from dequnmix_jax.scoring import score

        score(args)
    elif args.command == "match":
        from dequnmix_jax.naming import print_matches

        print_matches(args)
    else:
        from dequnmix_jax import commands

        {"info": commands.info, "fit": commands.fit, "unmix": commands.unmix}[args.command](args)


def _sentence(error: BaseException) -> str:
    """Return what a failure means to the user, in a sentence or two on one line."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        text = "The machine has too little memory for this scene; unmix a part of it, or fewer bands."
    elif isinstance(error, OSError):
        place = error.filename or "an output"
        text = f"{error.strerror or type(error).__name__}: {place}. Check the space and the permissions there."
    else:
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        text = (
            f"{type(error).__name__}: {reason}. This is a fault of the program and not of the input; please report it "
            f"with what {_TRACEBACK}=1 prints."
        )
    return " ".join(text.split())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; those of the process when None.

    Returns:
        The exit status: 0, 1 after a failure, 130 after an interruption. Misspelt options end the process with 2.
    """
    args = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
            _run(args)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ndequnmix: interrupted; nothing was written.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe left: nobody is there to be told. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            traceback.print_exc()
        print(f"dequnmix: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0

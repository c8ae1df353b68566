"""Spectra that are known: libraries, the methods that unmix by them, and spectra that stay fixed."""

from pathlib import Path

from dequnmix_jax.abundances.methods import COMBINED, MESMA, NONLINEAR, SHADES, Known, Mesma
from dequnmix_jax.abundances.methods import METHODS as KNOWN
from dequnmix_jax.cli.arguments.common import Group
from dequnmix_jax.cli.arguments.words import fractions, number_or_noise, place, positive
from dequnmix_jax.training.config import RECOMMENDED


def add_library(command: Group) -> None:
    """Add the library that names endmembers."""
    text = (
        "name the endmembers by the nearest spectra of this library (ENVI, CSV, USGS text), in maps, tables and page "
        "(default: by numbers)"
    )
    command.add_argument("--library", type=place, metavar="FILE", help=text)
    text = "divide the library by this, that of --endmembers too (default: from the file)"
    command.add_argument("--library-scale", type=float, metavar="NUMBER", help=text)


def add_known(command: Group, seeded: bool = True) -> None:
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
    add_mesma(group)
    if seeded:
        text = f"training steps of deq (default: {RECOMMENDED[0].epochs})"
        group.add_argument("--epochs", type=positive, metavar="N", help=text)
        group.add_argument(
            "--seed", type=int, metavar="N", help="seed of the random numbers of deq, --models and draws (default: 0)"
        )


def add_mesma(group: Group) -> None:
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


def add_fixed(command: Group) -> None:
    """Add the options of spectra that are known, while the others are found in the scene."""
    group = command.add_argument_group("with spectra that are known beside others that are found")
    text = "library whose spectra are among the N endmembers and stay as they are (default: all are found)"
    group.add_argument("--fixed", dest="fixed_library", type=Path, metavar="FILE", help=text)
    text = "the spectra of --fixed to use, by names separated by commas; repeatable (default: all)"
    group.add_argument("--fixed-names", action="append", metavar="NAME,NAME", help=text)
    text = "divide the library of --fixed by this (default: from the file)"
    group.add_argument("--fixed-scale", type=float, metavar="NUMBER", help=text)

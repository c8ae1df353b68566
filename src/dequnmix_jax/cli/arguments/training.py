"""How a model is trained, and the tables of --config."""

import argparse
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dequnmix_jax.cli.arguments.common import add_seed
from dequnmix_jax.cli.arguments.words import local_file
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.training.config import RECOMMENDED
from dequnmix_jax.training.words import CHOICES, MIXING, numbers_of, words_of

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


def add_training(command: argparse.ArgumentParser) -> None:
    """Add the options that say how a model is trained."""
    group = command.add_argument_group("training")
    text = f"training steps on the whole image (default: {RECOMMENDED[0].epochs})"
    group.add_argument("--epochs", type=int, metavar="N", help=text)
    add_seed(group)
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

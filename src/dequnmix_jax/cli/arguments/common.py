"""A command, its output, and the options that most commands share."""

import argparse
from pathlib import Path
from typing import Any

from dequnmix_jax.cli.arguments.words import local_file, positive
from dequnmix_jax.endmembers.counting import MOST
from dequnmix_jax.results.files import FORMATS

COUNT = "number of endmembers, or auto: as many as a rule learned on generated scenes finds"
"""Help of a number of endmembers."""

Group = argparse._ActionsContainer
AsWritten = argparse.RawDescriptionHelpFormatter


def add_command(commands: Any, name: str, text: str, *examples: str) -> argparse.ArgumentParser:
    """Return a new command: its help, examples, and the options that all have."""
    lines = "\n".join(f"  dequnmix {name} {example}" for example in examples)
    epilog = f"example{'s' if len(examples) > 1 else ''}:\n{lines}"
    description = text[0].upper() + text[1:] + "."
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=description, epilog=epilog, formatter_class=AsWritten, allow_abbrev=False
    )
    text = "append what is printed on stderr to this file, with times and the traceback of a failure (default: no log)"
    added.add_argument("--log-file", type=Path, metavar="FILE", help=text)
    text = "print the traceback of a failure (default: one sentence)"
    added.add_argument("-v", "--verbose", action="store_true", help=text)
    return added


def add_output(command: argparse.ArgumentParser, metavar: str, text: str, default: str | None = None) -> None:
    """Add -o and --force."""
    if default is None:
        command.add_argument(
            "-o", "--output", type=local_file, metavar=metavar, help=f"{text} (required)", required=True
        )
    else:
        text = f"{text} (default: {default})"
        command.add_argument("-o", "--output", type=local_file, metavar=metavar, help=text, default=Path(default))
    command.add_argument("--force", action="store_true", help="replace an earlier output (default: refuse)")


def add_format(command: argparse.ArgumentParser) -> None:
    """Add the format of maps."""
    text = f"of the maps; cog is a GeoTIFF with overviews (default: {FORMATS[0]}, or that of the file's suffix)"
    command.add_argument("--format", choices=FORMATS, help=text)


def add_most(command: Group) -> None:
    """Add the largest number that auto looks for."""
    text = f"largest number of endmembers that auto looks for (default: {MOST})"
    command.add_argument("--max-endmembers", type=positive, metavar="N", help=text)


def add_seed(group: Group) -> None:
    """Add the seed."""
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random numbers (default: 0)")


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json."""
    command.add_argument("--json", action="store_true", help="print JSON for other programs (default: text)")

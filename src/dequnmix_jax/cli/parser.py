"""Parser of the command line: the options of every command, with their defaults and examples."""

import argparse
import difflib
from collections.abc import Sequence
from copy import copy
from typing import Any, NoReturn

from dequnmix_jax.cli.arguments.common import AsWritten
from dequnmix_jax.cli.arguments.models import COMPARED, add_compare, add_fit, add_report, add_unmix
from dequnmix_jax.cli.arguments.program import DEMO_SCENES, SHELLS, add_completion, add_demo, add_env
from dequnmix_jax.cli.arguments.results import add_match, add_score, add_zones
from dequnmix_jax.cli.arguments.scenes import METHODS, add_convert, add_endmembers, add_info
from dequnmix_jax.compilation_cache import NO_CACHE

__all__ = ["COMPARED", "DEMO_SCENES", "METHODS", "SHELLS", "parser"]

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


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence and not a page."""

    def error(self, message: str) -> NoReturn:
        """Print the error and end the process with status 2."""
        sentence = message if message.endswith("?") else f"{message.rstrip('.')}."
        self.exit(2, f"{self.prog}: {sentence} See `{self.prog} --help`.\n")


class _CommandParser(_Parser):
    """The parser of one command, which refuses words it does not know itself, so that the error names its help."""

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of the command; end the process with an error if one is unknown."""
        if self._intermixed:  # one of the two passes below
            return super().parse_known_args(args, namespace)
        self._check_given_once([] if args is None else list(args))
        before = copy(namespace)
        known, unknown = super().parse_known_args(args, namespace)
        if unknown and not any(word.startswith("-") for word in unknown):
            # Words after an option, as MODEL in `unmix SCENE --tile 8 MODEL`: optional words are filled from the first
            # group of words alone, unless all options are read first.
            self._intermixed = True
            try:
                known, unknown = self.parse_known_intermixed_args(args, before)
            finally:
                self._intermixed = False
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
        "dequnmix", description=description, epilog=_EXAMPLES, formatter_class=AsWritten, allow_abbrev=False
    )
    whole.add_argument("--version", action="version", version=f"dequnmix {version}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for add in (
        add_demo, add_info, add_fit, add_unmix, add_report, add_compare, add_endmembers, add_convert, add_score,
        add_match, add_zones, add_env, add_completion,
    ):  # fmt: skip
        add(commands)
    return whole

"""Read the configuration of a training from a TOML file.

    [model]
    gradient = "residual"
    width = 16
    [model.forward]
    tolerance = 1e-5
    [training]
    epochs = 200
    [rates]
    spread = 1.0

The tables hold the words of `training.words` for `Model`, `Solver` (model.forward) and `Adjoint` (model.backward), and
the fields of `Training` and `Rates`. Missing entries have the recommended values; "none" means None. In the table
"model", mixing = "linear", "scaled" or "soft" is another word for the constraint.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.words import MIXING, belonging, constraint_for, known_words, model_of

_LARGEST = 2**20
_NONE = {"model": ("step",), "model.backward": ("tolerance",)}  # entries that may be None
_SOLVERS = ("forward", "backward")


class Configuration(NamedTuple):
    """What a training is made of.

    Attributes:
        model, training, rates: the values.
        stated: names of the entries that the file or an option states, "model.constraint" and so on; the others are
            defaults, which `pipeline.choose` may replace.
    """

    model: Model
    training: Training
    rates: Rates
    stated: frozenset[str]


def read_configuration(path: Path | None, options: Mapping[str, str] | None = None) -> Configuration:
    """Return the model, training and rates of a file; without a file, the recommended ones.

    Args:
        path: a TOML file, or None.
        options: words of the table "model" from the command line, also "mixing", another word for the constraint. They
            override the file; entries of the file that belong to a choice they replace are ignored.

    Raises:
        InputError: the file cannot be read, or it holds an unknown key, an unknown value, or an entry that belongs to
            another choice than the one made.
    """
    training, rates = RECOMMENDED
    options = dict(options or {})
    mixing = options.pop("mixing", None)
    asked = options.get("constraint")
    if mixing is not None:
        options["constraint"] = constraint_for(mixing, asked, "--mixing", "--constraint")
    stated = {f"model.{word}" for word in options}
    if path is None:
        return Configuration(_model({}, options, None), training, rates, frozenset(stated))
    tables = _tables(path)
    stated |= {f"{name}.{key}" for name, table in tables.items() if isinstance(table, Mapping) for key in table}
    _check_keys(tables, ("model", "training", "rates"), path, "")
    model_table = _content(tables.get("model", {}), path, "model")
    _settle_mixing(model_table, path)
    kept = model_table.get("constraint")
    if mixing is not None and asked is None and isinstance(kept, str) and kept in MIXING[mixing]:
        options["constraint"] = kept  # the file's constraint is this mixing model: softmax is linear too
    if "constraint" in model_table:
        stated.add("model.constraint")
    solvers = {name: model_table.pop(name) for name in _SOLVERS if name in model_table}
    words = _checked(model_table, known_words("model"), path, "model", also=_SOLVERS)
    for name, content in solvers.items():
        words[name] = _checked(content, known_words(f"model.{name}"), path, f"model.{name}")
    try:
        model = _model(words, options, path)
        training = _replaced(training, tables.get("training", {}), path, "training")
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except TypeError as error:  # text where a number is compared
        raise InputError(f"{path} holds a value of the wrong kind ({error}); expected a number there.") from error
    numbers = _content(tables.get("rates", {}), path, "rates")
    _check_keys(numbers, Rates._fields, path, "rates.")
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise InputError(f"{path} says rates.{key} = {value!r}; expected a number that is not negative.")
    return Configuration(model, training, rates._replace(**numbers), frozenset(stated))


def _settle_mixing(table: dict[str, Any], path: Path) -> None:
    """Replace the word `mixing` of the table "model" by the constraint that it stands for."""
    if "mixing" in table:
        constraint = table.get("constraint")
        table["constraint"] = constraint_for(
            table.pop("mixing"),
            constraint if isinstance(constraint, str) else None,
            f"{path} says that model.mixing",
            "model.constraint",
        )


def _tables(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} has {path.stat().st_size} bytes; expected a TOML file of a few lines.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a TOML file.") from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of a number of 5000 digits
        raise InputError(
            f"{path} is not TOML ({error}); expected tables such as [training] with lines such as epochs = 100."
        ) from error


def _content(value: Any, path: Path, table: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{path} says {table} = {value!r}; expected a table, [{table}].")
    return dict(value)


def _check_keys(entries: Mapping[str, Any], known: Sequence[str], path: Path, table: str) -> None:
    for key in entries:
        if key not in known:
            raise InputError(f"{path} has the key {table}{key}, which is unknown; expected one of {', '.join(known)}.")


def _model(words: Mapping[str, Any], options: Mapping[str, str], path: Path | None) -> Model:
    """Return the model that the words of a file and of the command line describe."""

    def name(table: str, word: str) -> str:
        return f"--{word}" if table == "model" and word in options else f"{path} says {table}.{word}"

    alone = {word: value for word, value in words.items() if word not in _SOLVERS}
    merged = {**alone, **options}
    for word in alone:
        if word in belonging("model", alone) and word not in belonging("model", merged):
            del merged[word]  # it belongs to a choice that an option replaces
    return model_of(merged | {part: words[part] for part in _SOLVERS if part in words}, name)


def _replaced(default: Any, value: Any, path: Path, table: str) -> Any:
    kinds = {entry.name: type(getattr(default, entry.name)) for entry in fields(default)}
    return replace(default, **_checked(value, kinds, path, table))


def _checked(value: Any, kinds: Mapping[str, type], path: Path, table: str, also: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of a table after a check of its keys and of the types of its values."""
    content, kinds = _content(value, path, table), dict(kinds)
    _check_keys(content, (*kinds, *also), path, f"{table}.")
    for key, entry in content.items():
        if key in _NONE.get(table, ()):
            if entry == "none":
                content[key] = None
                continue
            kinds[key] = float
        wanted = int | float if kinds[key] is float else kinds[key]
        if not isinstance(entry, wanted) or (isinstance(entry, bool) and kinds[key] is not bool):
            what = {bool: "true or false", int: "a whole number", float: "a number"}.get(kinds[key], "a word in quotes")
            raise InputError(f"{path} says {table}.{key} = {entry!r}; expected {what}.")
    return content

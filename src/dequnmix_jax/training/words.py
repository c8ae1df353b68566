"""The words of files and of the command line for the choices of a model, in both directions.

    gradient = "energy", width = 32          Model(gradient=Energy(width=32))
    constraint = "soft", slack = 0.3         Model(constraint=Soft(slack=0.3))
    forward = {method = "picard"}            Model(forward=Solver(Picard()))

A word for a number of one choice is an error beside another choice.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args

import numpy as np

from dequnmix_jax.checks import Choice, InputError
from dequnmix_jax.equilibrium.config import (
    MLM,
    PPNM,
    Analytic,
    Cone,
    Conv,
    Energy,
    KHype,
    Model,
    Residual,
    Simplex,
    Soft,
    Softmax,
)
from dequnmix_jax.solvers.config import Adjoint, AdjointMethod, Anderson, BiCGSTAB, Method, Solver

Words = Mapping[str, Any]

CHOICES: dict[str, dict[str, dict[str, type[Choice] | None]]] = {
    "model": {
        "gradient": {kind.word: kind for kind in (Analytic, Residual, Energy)},
        "prox": {"none": None, "conv": Conv},
        "constraint": {kind.word: kind for kind in (Simplex, Cone, Soft, Softmax)},
        "nonlinear": {"none": None} | {kind.word: kind for kind in (KHype, PPNM, MLM)},
    },
    "model.forward": {"method": {kind.word: kind for kind in get_args(Method)}},
    "model.backward": {"method": {kind.word: kind for kind in get_args(AdjointMethod)}},
}
"""The choices of each table of a file: the word of each value, and its class."""

MIXING = {"linear": (Simplex.word, Softmax.word), "scaled": (Cone.word,), "soft": (Soft.word,)}
"""The words of `mixing`, and the constraints that are this mixing model; the first is the one that a word asks for."""


def constraint_for(mixing: Any, constraint: str | None, name: str, beside: str) -> str:
    """Return the constraint of a mixing model.

    Args:
        mixing: a word of `MIXING`.
        constraint: the constraint that is given at the same place, or None.
        name, beside: how a message calls the two.

    Raises:
        InputError: the word is unknown, or the constraint is another mixing model.
    """
    if not isinstance(mixing, str) or mixing not in MIXING:
        raise InputError(f"{name} is {mixing!r}; expected one of {', '.join(repr(word) for word in MIXING)}.")
    mixed = next((word for word, kinds in MIXING.items() if constraint in kinds), mixing)
    if mixed != mixing:
        raise InputError(
            f"{name} is {mixing!r} and {beside} is {constraint!r}, which is {mixed} mixing; expected one mixing model. "
            "Leave one of them out."
        )
    return constraint or MIXING[mixing][0]


_DEFAULTS: dict[str, dict[str, str]] = {
    "model": {"gradient": Energy.word, "prox": "none", "constraint": Cone.word, "nonlinear": "none"},
    "model.forward": {"method": Anderson.word},
    "model.backward": {"method": BiCGSTAB.word},
}

# Words with another name in `Conv`.
_OF_PROX = {"prox_width": "width", "prox_kernel": "kernel"}

_PLAIN = {
    "model": {name: name for name in ("init", "metric", "proximity", "step", "prior")},
    "model.forward": {name: name for name in ("tolerance", "max_steps")},
    "model.backward": {"tolerance": "tolerance"},
}
_OWNERS: dict[str, type[Solver] | type[Adjoint] | type[Model]] = {
    "model": Model, "model.forward": Solver, "model.backward": Adjoint,
}  # fmt: skip


def known_words(table: str) -> dict[str, type]:
    """Return all words of a table of a file with the types of their values: "model", "model.forward" and so on."""
    words: dict[str, type] = dict.fromkeys(CHOICES[table], str)
    default = _OWNERS[table]()
    words |= {word: type(getattr(default, name)) for word, name in _PLAIN[table].items()}
    for part, kinds in CHOICES[table].items():
        for word in kinds:
            words |= {name: type(value) for name, value in numbers_of(table, part, word).items()}
    return words | ({"max_steps": int} if table == "model.backward" else {})


def numbers_of(table: str, part: str, word: str) -> dict[str, Any]:
    """Return the words of the numbers of a choice with their defaults."""
    kind = CHOICES[table][part][word]
    made = None if kind is None else kind()
    return {name: getattr(made, field) for name, field in _numbers(table, part, word).items()}


def _numbers(table: str, part: str, word: str) -> dict[str, str]:
    """Return the words of the numbers of a choice, and their fields."""
    kind = CHOICES[table][part].get(word)
    if kind is None:
        return {}
    result = {item.name: item.name for item in fields(kind)}  # type: ignore[arg-type]
    if part == "prox":
        result = dict(_OF_PROX)
    return {{"terms": "max_steps"}.get(word, word): name for word, name in result.items()}


def _chosen(table: str, words: Words) -> dict[str, str]:
    return {part: words.get(part, word) for part, word in _DEFAULTS[table].items()}


def belonging(table: str, words: Words) -> set[str]:
    """Return the words that a table may hold beside its choices."""
    chosen = _chosen(table, words)
    result = {*chosen, *_PLAIN[table]}
    for part, word in chosen.items():
        result |= set(_numbers(table, part, word))
    if table == "model.backward" and chosen["method"] in (BiCGSTAB.word, Anderson.word):
        result.add("max_steps")
    if chosen.get("prox") == Conv.word:  # they are also the default of the prox
        result |= {"width", "kernel"}
    return result


def _check(table: str, words: Words, name: Callable[[str, str], str]) -> None:
    """Raise InputError if a choice is unknown, or a word belongs to another choice."""
    chosen = _chosen(table, words)
    for part, word in chosen.items():
        if word not in CHOICES[table][part]:
            allowed = ", ".join(f'"{other}"' for other in CHOICES[table][part])
            raise InputError(f"{name(table, part)} is {word!r}; expected one of {allowed}.")
    for word in words:
        if word not in belonging(table, words):
            beside = [
                f'{part} = "{value}"'
                for part, kinds in CHOICES[table].items()
                for value in kinds
                if word in belonging(table, {**chosen, part: value})
            ]
            made = " and ".join(f'{part} = "{value}"' for part, value in chosen.items() if _owns(table, part, word))
            raise InputError(
                f"{name(table, word)} = {words[word]!r} belongs to {' or '.join(beside)}, and the choice is {made}; "
                "expected a number of the choice that is made. Leave it out, or make the other choice."
            )


def _owns(table: str, part: str, word: str) -> bool:
    """Return whether a word is a number of some value of a part."""
    extra = {("model.backward", "method"): {"max_steps"}, ("model", "prox"): {"width", "kernel"}}
    return word in extra.get((table, part), ()) or any(
        word in _numbers(table, part, value) for value in CHOICES[table][part]
    )


def model_of(words: Words, name: Callable[[str, str], str] = "{}.{}".format) -> Model:
    """Return the model that flat words describe; missing words are as in `Model()`.

    Args:
        words: as in the table "model" of a file, with "forward" and "backward" as mappings.
        name: names a word of a table in a message.

    Raises:
        InputError: an unknown choice, a word that does not belong to it, or a value out of range.
    """
    flat = {word: value for word, value in words.items() if word not in ("forward", "backward")}
    made = _made("model", flat, name)
    for part in ("forward", "backward"):
        if part in words:
            made[part] = _OWNERS[f"model.{part}"](**_made(f"model.{part}", words[part], name))
    return Model(**made)


def _made(table: str, words: Words, name: Callable[[str, str], str]) -> dict[str, Any]:
    """Return the fields of the dataclass of a table."""
    _check(table, words, name)
    chosen = _chosen(table, words)
    made = {field: words[word] for word, field in _PLAIN[table].items() if word in words}
    for part, word in chosen.items():
        kind = CHOICES[table][part][word]
        numbers = _numbers(table, part, word)
        if kind is Conv:
            numbers = {"width": "width", "kernel": "kernel"} | numbers
        made[part] = None if kind is None else kind(**{numbers[name]: words[name] for name in numbers if name in words})
    if "max_steps" in words and "max_steps" in belonging(table, words) and not hasattr(made["method"], "terms"):
        made["max_steps"] = words["max_steps"]
    return made


def words_of(config: Model | Solver | Adjoint) -> dict[str, Any]:
    """Return the flat words of choices, with all their numbers and no others: the inverse of `model_of`."""
    table = next(name for name, kind in _OWNERS.items() if isinstance(config, kind))
    result: dict[str, Any] = {}
    for part, kinds in CHOICES[table].items():
        value = getattr(config, part)
        result[part] = next(word for word, kind in kinds.items() if type(value) is (kind or type(None)))
    chosen = dict(result)
    for part, word in chosen.items():
        numbers = _numbers(table, part, word)
        result |= {name: getattr(getattr(config, part), field) for name, field in numbers.items()}
    result |= {word: getattr(config, name) for word, name in _PLAIN[table].items()}
    if isinstance(config, Adjoint) and config.max_steps is not None:
        result["max_steps"] = config.max_steps
    if isinstance(config, Model):
        result |= {part: words_of(getattr(config, part)) for part in ("forward", "backward")}
    return result


def from_older(words: Words) -> dict[str, Any]:
    """Return the words of an older model file: `start` is now `init`, and the numbers of choices that were not made,
    which older files hold too, are dropped.
    """
    words = {"init" if word == "start" else word: value for word, value in words.items()}
    if not {"slack", "gamma"} <= set(words):
        return dict(words)
    result = {
        word: value for word, value in words.items() if word in belonging("model", words) | {"forward", "backward"}
    }
    for part in ("forward", "backward"):
        table, inner = f"model.{part}", dict(words[part])
        if inner.get("method") == Anderson.word and part == "backward":
            del inner["damping"]  # it was that of the phantom gradient
        result[part] = {word: value for word, value in inner.items() if word in belonging(table, inner)}
    return result


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: a number in the digits of its precision, None if it is not finite.

    Args:
        value: numbers, text, arrays, paths, dataclasses, choices (which become their words), and mappings and lists of
            these.

    Raises:
        InputError: something else.
    """
    if isinstance(value, Model | Solver | Adjoint):
        return plain(words_of(value))
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biufU":
        raise InputError(f"The record holds {type(value).__name__}; expected numbers, text, lists and dataclasses.")
    if array.dtype.kind != "f":
        return plain(array.tolist())
    if array.ndim:
        return [plain(entry) for entry in array]
    return shortest(array) if np.isfinite(array) else None


def shortest(number: Any) -> float:
    """Return a real number as its shortest decimal in its own precision: 0.007 for float32(0.007)."""
    return float(str(np.asarray(number)[()]))

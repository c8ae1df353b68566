"""Weights of the learned operator, shipped with the package, and how they were made."""

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import npz_arrays
from dequnmix_jax.learned.choice import ChoiceWeights
from dequnmix_jax.learned.joint import JointWeights

FORMAT = 1


class OperatorWeights(NamedTuple):
    """Everything that was learned: the choice before and after the equilibrium, and the equilibrium itself."""

    first: ChoiceWeights
    joint: JointWeights
    last: ChoiceWeights


class Provenance(NamedTuple):
    """How weights were made: command, seed, fingerprint of the generator, versions, date, CPU seconds."""

    command: str
    seed: int
    generator: str
    versions: str
    date: str
    seconds: int


def save(path: Path, weights: OperatorWeights, provenance: Provenance) -> None:
    """Write weights as `.npz`."""
    arrays: dict[str, np.ndarray] = {f"provenance/{k}": np.asarray(v) for k, v in provenance._asdict().items()}
    arrays["format"] = np.asarray(FORMAT)
    for name, part in weights._asdict().items():
        arrays |= {f"{name}/mean": np.asarray(part.mean), f"{name}/scale": np.asarray(part.scale)}
        for i, (w, b) in enumerate(part.layers):
            arrays |= {f"{name}/weight{i}": np.asarray(w), f"{name}/bias{i}": np.asarray(b)}
    np.savez(path, **{k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()})  # type: ignore[arg-type]


def read(path: Path) -> tuple[OperatorWeights, Provenance]:
    """Read weights and how they were made.

    Raises:
        InputError: the file is not one of weights.
    """
    arrays = npz_arrays.load(path)
    if "format" not in arrays or int(arrays["format"]) != FORMAT:
        raise InputError(f"{path} holds no weights of the learned operator of format {FORMAT}.")
    parts: dict[str, Any] = {}
    for name, kind in (("first", ChoiceWeights), ("joint", JointWeights), ("last", ChoiceWeights)):
        number = sum(key.startswith(f"{name}/weight") for key in arrays)
        layers = tuple(
            (jnp.asarray(arrays[f"{name}/weight{i}"]), jnp.asarray(arrays[f"{name}/bias{i}"])) for i in range(number)
        )
        parts[name] = kind(jnp.asarray(arrays[f"{name}/mean"]), jnp.asarray(arrays[f"{name}/scale"]), layers)
    given = {name: arrays[f"provenance/{name}"].item() for name in Provenance._fields}
    return OperatorWeights(**parts), Provenance(**given)


@cache
def shipped() -> tuple[OperatorWeights, Provenance]:
    """Return the weights of this version of the package."""
    with as_file(files("dequnmix_jax") / "data" / "operator.npz") as path:
        return read(path)

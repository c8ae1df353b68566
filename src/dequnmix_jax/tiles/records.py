"""Records of the tiles of a scene: checks of them, and what they say together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.checks import how_many
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.tiles import halo
from dequnmix_jax.tiles.grid import Plan
from dequnmix_jax.tiles.survey import Survey
from dequnmix_jax.types import Trace


def sound_state(state: Mapping[str, Any], shape: tuple[int, int, int], width: int) -> bool:
    """Return whether the numbers that an earlier run has kept are plausible.

    Args:
        state: of the run: results of the survey, the pools of attention and the halo, as far as the run got.
        shape: (H, W, B) of the scene.
        width: channels of the network.
    """
    return (
        ("survey" not in state or _sound_survey(state["survey"], *shape))
        and ("pools" not in state or _sound_pools(state["pools"], width))
        and ("reach" not in state or _sound_halo(state["reach"]))
    )


def _sound_survey(known: Any, height: int, width: int, bands: int) -> bool:
    if not isinstance(known, dict) or set(known) != set(Survey._fields):
        return False
    limits, colours, texts = (known[name] for name in ("colour_limits", "colour_bands", "warnings"))
    return (
        _real(known["scale"]) and known["scale"] > 0
        and _whole(known["valid"], 1, height * width)
        and isinstance(colours, list) and len(colours) == 3 and all(_whole(band, 0, bands - 1) for band in colours)
        and isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        and _table(limits, 2, 3)
    )  # fmt: skip


def _sound_pools(known: Any, width: int) -> bool:
    return known == [] or _table(known, 2, width)


def _sound_halo(known: Any) -> bool:
    if not isinstance(known, list) or len(known) != len(halo.HaloWidth._fields):
        return False
    return _whole(known[0], 0) and all(value is None or type(value) is float for value in known[1:])


def _whole(value: Any, least: int, most: float = np.inf) -> bool:
    return type(value) is int and least <= value <= most


def _real(value: Any) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(value))


def _table(values: Any, rows: int, columns: int) -> bool:
    """Return whether a value is a list of `rows` lists of `columns` finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == rows
        and all(isinstance(row, list) and len(row) == columns and all(map(_real, row)) for row in values)
    )


def sound_record(entry: Mapping[str, Any]) -> bool:
    """Return whether a tile's record has all entries. A residual may be NaN, which is reported at the end."""
    rows, columns = (entry[name][1] - entry[name][0] for name in ("rows", "columns"))
    if not _whole(entry.get("valid"), 0, rows * columns):
        return False
    return entry["valid"] == 0 or (
        _whole(entry.get("steps"), 0)
        and type(entry.get("residual")) is float
        and type(entry.get("converged")) is bool
        and type(entry.get("size")) is float
    )


def combined_trace(entries: Sequence[Mapping[str, Any]], valid: int) -> tuple[Trace, float]:
    """Return the trace of all tiles together, and the RMS of the whole state.

    Args:
        entries: records of the tiles.
        valid: number of valid pixels.
    """
    solved = [entry for entry in entries if entry["valid"]]
    trace = Trace(
        np.int32(max(entry["steps"] for entry in solved)),  # type: ignore[arg-type]
        np.float32(max(entry["residual"] for entry in solved)),  # type: ignore[arg-type]
        np.bool_(all(entry["converged"] for entry in solved)),  # type: ignore[arg-type]
    )
    size = (sum(entry["size"] for entry in solved) / valid) ** 0.5
    return trace, size if size > 0 else 1.0


def not_converged(entries: Sequence[Mapping[str, Any]], config: Model, known: Known | None = None) -> list[str]:
    """Return a sentence if some tile did not converge, as a list.

    Args:
        entries: records of the tiles.
        config: the parts of the map.
        known: the method, where pixels were unmixed by known spectra.
    """
    solved = [entry for entry in entries if entry["valid"]]
    failed = [entry for entry in solved if not entry["converged"]]
    if not failed:
        return []
    if known is not None:
        return [known.not_optimal(max(entry["residual"] for entry in failed))]
    return [
        f"The equilibrium was not reached within {how_many(config.forward.max_steps, 'step')} in {len(failed)} of "
        f"{len(solved)} tiles: the relative residual is up to {max(entry['residual'] for entry in failed):.2e} and "
        f"{config.forward.tolerance:g} was asked for; do not trust the maps there."
    ]


def tiles_summary(entries: Sequence[Mapping[str, Any]], tiles: Plan, width: halo.HaloWidth) -> dict[str, Any]:
    """Return the entry "tiles" of summary.json.

    Args:
        entries: records of the tiles.
        tiles: how the scene was cut.
        width: of the halo.
    """
    rows, columns = tiles.tiles[0].core.shape
    solved = [entry for entry in entries if entry["valid"]]
    kept = ("rows", "columns", "steps", "residual", "converged")
    return {
        "count": len(entries),
        "rows": rows,
        "columns": columns,
        "halo": tiles.halo,
        "halo_error": width.error,
        "decay_per_pixel": width.decay,
        "mean_steps": sum(entry["steps"] for entry in solved) / len(solved),
        "not_converged": sum(not entry["converged"] for entry in solved),
        "each": [{name: entry[name] for name in kept} for entry in solved],
    }

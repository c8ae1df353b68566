"""Errors of blind selection: every way to find endmembers, and the choice without the truth, on all scenes.

    python -m experiments.defaults.initialisation [--quick] [-o results]

Each method finds the endmembers; abundances follow by FCLS or by NNLS on spectra of maximum one divided by its sum,
with the spectra as found or with the mean of the purest 3 % of pixels. Five seeds; deterministic methods give the
same for each. VCA is the largest of eight draws, as in `select_endmembers`; "one draw" is the published method.
`select_endmembers` chooses among all others without the reference. On HySU the areas of the targets are compared with
the true ones: the mean over targets of |found - true| / true, for sizes of at least a pixel, and how many of the five
materials were found within 0.15 rad. The second table has estimates of the number of endmembers.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import hysu, registry
from dequnmix_jax.endmembers import candidates, selection
from experiments.shared import results_table
from experiments.shared.scenes import scene


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment. `scenes`: (data set, SNR in dB of the white noise that is added, or None)."""

    scenes: tuple[tuple[str, float | None], ...] = (
        ("samson_zhu", None),
        ("samson_rasti", None),
        ("hapke_relab", None),
        ("dc1", 30.0),
        ("dc1", 20.0),
        ("misicnet_sim1", 30.0),
        ("misicnet_sim1", 20.0),
        ("hapke_sim1", None),
        ("hysu", None),
    )
    seeds: int = 5
    crop: int | None = None


QUICK = Settings(scenes=(("hapke_relab", None),), seeds=2, crop=20)


class Row(NamedTuple):
    """Figures of one run; NaN if they do not apply."""

    armse: float
    msad: float
    area_error: float = float("nan")
    found: float = float("nan")
    unsure: float = float("nan")


@jax.jit
def unmixed(cube: jax.Array, E: jax.Array) -> jax.Array:
    """Return the abundances (C, H, W, R) of all candidates."""
    half = len(candidates.CANDIDATES) // 2
    linear = jax.lax.map(lambda e: dq.abundances.fcls(cube, e), E[:half])
    return jnp.concatenate([linear, jax.lax.map(lambda e: dq.abundances.scaled_nnls(cube, e)[0], E[half:])])


def everything(key: jax.Array, cube: jax.Array, count: int) -> tuple[jax.Array, jax.Array, dq.endmembers.Selection]:
    """Return spectra (C, R, B) and abundances (C, H, W, R) of all candidates, and the selection from them."""
    E, scores, whole = candidates.candidates(key, cube, jnp.ones(cube.shape[:2], bool), count)
    A = unmixed(cube, E)
    selected = selection.decide(scores, whole, dq.endmembers.Weights())
    best = E[selected.chosen]
    a = dq.abundances.soft_nnls(cube, best)[0] if selected.constraint == "soft" else A[selected.chosen]
    return E, A, selected._replace(endmembers=best, abundances=a)


def figures(E: jax.Array, A: jax.Array, truth: registry.Truth, name: str, unsure: float) -> Row:
    """Return the errors of one estimate."""
    if name == "hysu":
        naming = hysu.name_endmembers(E, truth.endmembers, truth.names)
        areas = hysu.areas_found(A, naming.names)
        true = hysu.hysu_targets().area_m2
        large = true >= 0.49  # a pixel
        error = np.abs(areas - true[None])[:, large] / true[None, large]
        named = np.isfinite(error).all(axis=1)
        # A material that was not found has no area and an error of one.
        area = float(np.where(np.isfinite(error), error, 1.0).mean())
        return Row(float("nan"), float("nan"), area, float(named.sum()), unsure)
    reference = jnp.asarray(truth.endmembers)
    order = dq.metrics.align(E, reference)
    maps = jnp.asarray(truth.abundances)[: A.shape[0], : A.shape[1]]
    return Row(float(dq.metrics.armse(A[..., order], maps)), float(dq.metrics.msad(E[order], reference)), unsure=unsure)


ONE_DRAW = tuple(
    f"VCA, one draw{', purified' if purified else ''} + {mixing}"
    for mixing in ("FCLS", "scaled NNLS")
    for purified in (False, True)
)


@partial(jax.jit, static_argnums=2)
def one_draw(key: jax.Array, cube: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Return spectra (4, R, B) and abundances (4, H, W, R) of `ONE_DRAW`."""
    E = jnp.maximum(dq.endmembers.vca(key, cube, count), 0)
    results = []
    for unmix in (dq.abundances.fcls, lambda cube, E: dq.abundances.scaled_nnls(cube, E)[0]):
        A = unmix(cube, E)
        purer = jnp.maximum(dq.endmembers.purify(cube, E, A), 0)
        results += [(E, A), (purer, unmix(cube, purer))]
    return jnp.stack([E for E, _ in results]), jnp.stack([A for _, A in results])


class Part(NamedTuple):
    """The results of one scene: rows of the table, sentences on the choice and the counts, and areas."""

    rows: list[dict[str, object]]
    picked: str
    counts: str
    areas: list[dict[str, object]]


def one_scene(name: str, snr: float | None, settings: Settings) -> Part:
    """Run all methods on one scene."""
    cube, truth = scene(name, snr, settings.crop)
    label = name if snr is None else f"{name}, {snr:g} dB"
    count = len(truth.endmembers)
    names = [str(candidate) for candidate in candidates.CANDIDATES] + ["select_endmembers", *ONE_DRAW]
    runs: dict[str, list[Row]] = {method: [] for method in names}
    landed, areas = [], []
    for seed in range(settings.seeds):
        E, A, chosen = everything(jax.random.key(seed), cube, count)
        simple = one_draw(jax.random.key(seed), cube, count)
        single = zip([*names[: len(E)], *ONE_DRAW], [*E, *simple[0]], [*A, *simple[1]], strict=True)
        for method, e, a in single:
            runs[method].append(figures(e, a, truth, name, float("nan")))
        runs["select_endmembers"].append(
            figures(chosen.endmembers, chosen.abundances, truth, name, float(chosen.unsure))
        )
        said = [word for word, true in (("soft", chosen.constraint == "soft"), ("unsure", chosen.unsure)) if bool(true)]
        landed.append(str(candidates.CANDIDATES[int(chosen.chosen)]) + (f" ({', '.join(said)})" if said else ""))
        if seed == 0:
            print(label, dq.endmembers.reason(chosen), flush=True)
        if name == "hysu" and seed == 0:
            each = [*E, chosen.endmembers, *simple[0]], [*A, chosen.abundances, *simple[1]]
            for method, e, a in zip(names, *each, strict=True):
                naming = hysu.name_endmembers(e, truth.endmembers, truth.names)
                for material, area in zip(hysu.MATERIALS, hysu.areas_found(a, naming.names), strict=True):
                    areas += [
                        {"method": method, "material": material, "true m2": float(t), "found m2": float(f)}
                        for t, f in zip(hysu.hysu_targets().area_m2, area, strict=True)
                    ]
    rows = [results_table.summary({"scene": label, "method": method}, runs[method]) for method in names]
    field = "area_error" if name == "hysu" else "armse"
    best = min(rows[: len(candidates.CANDIDATES)], key=lambda row: row[field])
    for row in rows:
        row["over best"] = row[field] / best[field]
    tally = "; ".join(f"{landed.count(entry)} x {entry}" for entry in dict.fromkeys(landed))
    picked = f"* {label}: {tally}. Best of all, picked with the truth: {best['method']}."
    counts = f"* {label}: {count} in the reference; {how_many(cube)}."
    print(results_table.line(rows[-1]), "best:", results_table.line(best), flush=True)
    return Part(rows, picked, counts, areas)


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `initialisation.csv` and `.md`, and `initialisation_areas.csv` if HySU is among the scenes.

    Finished scenes are kept in `initialisation_unfinished.json` until all are done: a run of the same code and settings
    continues an interrupted one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "initialisation_unfinished.json"
    state = {"of": f"{settings} {results_table.origin()}", "parts": {}}
    if kept.exists():
        earlier = json.loads(kept.read_text(encoding="utf-8"))
        state = earlier if earlier["of"] == state["of"] else state
    for name, snr in settings.scenes:
        if f"{name} {snr}" not in state["parts"]:
            state["parts"][f"{name} {snr}"] = one_scene(name, snr, settings)._asdict()
            kept.write_text(json.dumps(state), encoding="utf-8")
            jax.clear_caches()  # scenes differ in shape, and a process can hold a limited number of compiled programs
    parts = [Part(**state["parts"][f"{name} {snr}"]) for name, snr in settings.scenes]
    picked, counts = "\n".join(part.picked for part in parts), "\n".join(part.counts for part in parts)
    note = (
        f"`select_endmembers` chose, by seed:\n\n{picked}\n\nHow many endmembers:\n\n{counts}\n\nThe best is the best "
        f"mean of 16 candidates, picked with the truth. {dq.endmembers.Weights()}. {settings}"
    )
    areas = [row for part in parts for row in part.areas]
    if areas:
        results_table.write_csv(folder / "initialisation_areas.csv", areas)
    rows = [row for part in parts for row in part.rows]
    target = results_table.write(folder, "initialisation", rows, "python -m experiments.defaults.initialisation", note)
    kept.unlink()
    return target


@jax.jit
def dimensions(cube: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the counts of HySime, HFC and NWHFC."""
    return (
        dq.endmembers.hysime(cube).number,
        dq.endmembers.virtual_dimension(cube, whitened=False).number,
        dq.endmembers.virtual_dimension(cube).number,
    )


def how_many(cube: jax.Array) -> str:
    """Return the estimated numbers of endmembers as text."""
    values = [int(value) for value in dimensions(cube)]
    return ", ".join(f"{name} {value}" for name, value in zip(("HySime", "HFC", "NWHFC"), values, strict=True))


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)

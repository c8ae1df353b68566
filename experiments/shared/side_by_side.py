"""Shared by the tables of competitors: one blind start for all, references only in the columns of errors.

Every method (`experiments.shared.methods`) gets the endmembers that VCA found with the seed, clipped at zero, the
brightest first; its constants are the same on all scenes. Generated scenes are drawn once per seed, and all seeds
run together, vmapped; a measured scene is one cube with a start for each seed.

    armse, pooled     against the abundances of the reference as given, regardless of the unit of the method
    armse_unit        for a method under the cone (spectra at maximum one) and an exact reference: against that
                      reference in that unit; otherwise the same as armse
    msad, sad_1 ..    angle to the spectra of the reference, in radians: the mean, and each in the reference's order
    psnr, sad         of the reconstruction (dB, radians); if a method has a brightness for each pixel (cone and
                      soft), at the best one
    seconds, memory   CPU seconds and MB for one seed, of all seeds together by their number: without compilation;
                      arguments, results and temporaries of the compiled program (blank if a method is not one program)
    commit, date      of the run of the row: `--only` runs some methods again and keeps the others
    moved             RMS distance from VCA + FCLS, if the method keeps VCA's spectra: the effect of its prior
"""

import csv
import functools
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import InputError, metrics, mixing
from dequnmix_jax.baselines import Method, MethodResult, closed_forms
from dequnmix_jax.datasets import registry
from dequnmix_jax.endmembers.selection import CONE, SIMPLEX, constraint_index
from dequnmix_jax.scenes.truth import Truth
from experiments.shared import methods, results_table, scenes

NOTE = (
    "`armse` and `pooled` take the reference as given; `armse_unit` takes it in the unit of the spectra of a method "
    "under the cone (maximum one) if the reference is exact. `sad_1` and so on: the endmembers, in the order given. "
    "Reconstructions under the cone and soft: at the best brightness of each pixel. `seconds` and `memory` (MB): "
    "all seeds vmapped, by their number. The oracle picks the best of the four closed forms for each seed with the "
    "truth, which is unavailable in practice. The unrolled twins are those of DEQ-Unmix, cone."
)

ORACLE = "best of four closed forms, picked with the truth (oracle)"

Figures = dict[str, float]
Measure = Callable[[MethodResult, str, jax.Array, Truth, bool], Figures]
"""(result, constraint, cube, reference, whether it is exact) -> figures of one run."""


class Drawn:
    """The seeds of one scene: cubes, starts and references; `shared`: one cube for all."""

    def __init__(self, name: str, settings: methods.Settings) -> None:
        """Load the scene for each seed, and find the start."""
        self.shared = not scenes.drawn(name)
        seeds = range(1 if self.shared else settings.seeds)
        loaded = [scenes.load(name, seed, settings.crop) for seed in seeds]
        if any(each.mask is not None for each in loaded):
            raise InputError(f"{name} has masked pixels, which the methods do not support; expected none.")
        self.cubes = loaded[0].cube if self.shared else jnp.stack([each.cube for each in loaded])
        self.references = [each.references for each in loaded] * (settings.seeds if self.shared else 1)
        self.keys = jnp.stack([jax.random.key(seed) for seed in range(settings.seeds)])
        count = loaded[0].references[0][0].endmembers.shape[0]
        self.starts = _start(self.keys, self.cubes, count, self.shared)

    def cube(self, seed: int) -> jax.Array:
        """Return the cube of a seed."""
        return self.cubes if self.shared else self.cubes[seed]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _start(keys: jax.Array, cubes: jax.Array, count: int, shared: bool) -> jax.Array:
    """Return VCA's spectra (seeds, R, B), sorted by brightness, because VCA's order is random."""

    def one(key: jax.Array, cube: jax.Array) -> jax.Array:
        E = jnp.maximum(dq.endmembers.vca(key, cube, count), 1e-5)
        return E[jnp.argsort(-jnp.sum(E, axis=1))]

    return jax.vmap(one, in_axes=(0, None if shared else 0))(keys, cubes)


def run(method: Method, drawn: Drawn, seeds: int) -> tuple[list[MethodResult], float, float]:
    """Return what a method finds for each seed, and seconds and MB for one."""
    keys, starts = drawn.keys[:seeds], drawn.starts[:seeds]
    cubes = drawn.cubes if drawn.shared else drawn.cubes[:seeds]
    if method.pure:
        axes = (0, None if drawn.shared else 0, 0)
        program = jax.jit(jax.vmap(method.estimate, in_axes=axes)).lower(keys, cubes, starts).compile()
        began = time.process_time()
        results = jax.block_until_ready(program(keys, cubes, starts))
        seconds = (time.process_time() - began) / seeds
        size = program.memory_analysis()
        held = size.argument_size_in_bytes + size.output_size_in_bytes + size.temp_size_in_bytes if size else math.nan
        return [_at(results, i) for i in range(seeds)], seconds, held / seeds / 1e6
    # A deterministic method needs one run for all starts that agree to rounding.
    first = [
        next(
            j
            for j in range(i + 1)
            if i == j or (drawn.shared and not method.draws and np.allclose(starts[j], starts[i], rtol=1e-4))
        )
        for i in range(seeds)
    ]
    if method.draws:  # not under one jit: the first run compiles
        jax.block_until_ready(method.estimate(keys[0], drawn.cube(0), starts[0]))
    began = time.process_time()
    alone = {i: jax.block_until_ready(method.estimate(keys[i], drawn.cube(i), starts[i])) for i in set(first)}
    return [alone[i] for i in first], (time.process_time() - began) / len(alone), math.nan


def _at(results: MethodResult, seed: int) -> MethodResult:
    return jax.tree.map(lambda x: x[seed], results)


def _index(constraint: str) -> jax.Array:
    return jnp.asarray(constraint_index(constraint), jnp.int32)


@jax.jit
def reconstruction(result: MethodResult, constraint: jax.Array, cube: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return PSNR and mean spectral angle of y = s a E: s = 1 under the simplex, else the best for each pixel.

    `constraint` is an index into `selection.CONSTRAINTS`; E is at maximum one under the cone.
    """
    E = jnp.where(constraint == CONE, mixing.scale_to_unit_maximum(result.endmembers), result.endmembers)
    Y = mixing.linear_mix(result.abundances, E)
    power = jnp.sum(Y * Y, axis=-1)
    s = jnp.maximum(jnp.sum(cube * Y, axis=-1), 0) / jnp.where(power > 0, power, 1)
    Y = jnp.where(constraint == SIMPLEX, 1, s[..., None]) * Y
    return dq.metrics.psnr(Y, cube), metrics.mean_spectral_angle(cube, Y)


@functools.partial(jax.jit, static_argnames="exact")
def _errors(
    result: MethodResult, constraint: jax.Array, A: jax.Array, E: jax.Array, *, exact: bool
) -> tuple[jax.Array, ...]:
    order = dq.metrics.align(result.endmembers, E)
    maps = result.abundances[..., order]
    given = dq.metrics.armse(maps, A)
    unit, _ = mixing.normalise_abundances(A * jnp.max(E, axis=1)[None, None])
    converted = jnp.where(constraint == CONE, dq.metrics.armse(maps, unit), given) if exact else given
    return given, converted, dq.metrics.pooled_rmse(maps, A), metrics.spectral_angle(result.endmembers[order], E)


def errors(result: MethodResult, constraint: str, cube: jax.Array, truth: Truth, exact: bool) -> Figures:
    """Return the errors against a reference that has abundances; the oracle decides by the first."""
    A, E = jnp.asarray(truth.abundances), jnp.asarray(truth.endmembers)
    given, converted, pooled, angles = _errors(result, _index(constraint), A, E, exact=exact)
    whole = {"armse": given, "armse_unit": converted, "pooled": pooled, "msad": jnp.mean(angles)}
    return {name: float(value) for name, value in whole.items()} | {
        f"sad_{r + 1}": float(angle) for r, angle in enumerate(angles)
    }


def one_scene(name: str, drawn: Drawn, settings: methods.Settings, measure: Measure) -> list[dict[str, Any]]:
    """Return the rows of one scene."""
    plain, _, _ = run(closed_forms.VCA_FCLS, drawn, settings.seeds)
    figures: dict[tuple[str, str], list[Figures]] = {}
    for method in methods.methods(settings, name):
        each, seconds, memory = run(method, drawn, settings.seeds)
        for s, result in enumerate(each):
            constraint = method.constraint_of(result)
            kept = constraint != "cone" and bool(jnp.all(result.endmembers == drawn.starts[s]))
            moved = float(jnp.sqrt(jnp.mean(jnp.square(result.abundances - plain[s].abundances)))) if kept else math.nan
            psnr, sad = map(float, reconstruction(result, _index(constraint), drawn.cube(s)))
            rest = {"psnr": psnr, "sad": sad, "seconds": seconds, "memory": memory, "moved": moved}
            for truth, exact in drawn.references[s]:
                one = measure(result, constraint, drawn.cube(s), truth, exact) | rest
                figures.setdefault((truth.reference, method.name), []).append(one)
        print(name, method.name, f"{seconds:.3g} s", flush=True)
    rows = []
    for truth, _ in drawn.references[0]:
        mine = {method: runs for (reference, method), runs in figures.items() if reference == truth.reference}
        four = [mine[method.name] for method in closed_forms.FOUR if method.name in mine]
        if len(four) == len(closed_forms.FOUR):
            mine = {ORACLE: [_best(runs) for runs in zip(*four, strict=True)]} | mine
        for method, runs in mine.items():
            label = {"scene": name, "reference": truth.reference, "method": method}
            rows.append(results_table.summary(label, runs))
            print(results_table.line(rows[-1]), flush=True)
    return rows


def _best(runs: Sequence[Figures]) -> Figures:
    """Return the run with the lowest first figure, without the figures of cost."""
    best = min(runs, key=lambda run: next(iter(run.values())))
    return best | dict.fromkeys(("seconds", "memory", "moved"), math.nan)


def write(settings: methods.Settings, folder: Path, name: str, about: str = "", measure: Measure = errors) -> Path:
    """Run all scenes and write the table after each, so that a killed run keeps its rows.

    Scenes without their files or extras and methods without their packages are skipped; the note says so.

    Raises:
        InputError: if a name is unknown, no scene is available, or there is no table to update.
    """
    for scene in settings.scenes:
        scenes.drawn(scene)  # reject a wrong name now, not in an hour
    rows: list[dict[str, Any]] = []
    earlier, said = earlier_rows(folder, name) if settings.update else ([], {})
    only = " ".join(f'"{method}"' for method in settings.only)
    again = f"Run again last, by --only {only}; each row has the commit and the date of its run." if earlier else ""
    run_of = run_now()
    missing, target = methods.absent(settings), None
    for scene in settings.scenes:
        if not methods.methods(settings, scene):
            continue
        try:
            drawn = Drawn(scene, settings)
        except InputError as error:
            # A local path means nothing to others.
            said_why = str(error).replace(f"the folder {os.environ.get(registry.FOLDER)}", "the folder")
            missing.append(f"{scene} is missing: {said_why}")
            print(missing[-1], flush=True)
        else:
            if rows:
                jax.clear_caches()  # scenes differ in shape, and a process can hold few compiled programs
            rows += [row | run_of for row in one_scene(scene, drawn, settings, measure)]
            said[scene] = ", ".join(drawn.references[0][0][0].names or ("without names",))
        if rows:
            endmembers = f"Endmembers: {'; '.join(f'{scene}: {names}' for scene, names in said.items())}."
            note = " ".join(filter(None, [about, again, NOTE, endmembers, *missing, str(settings)]))
            whole = _same_fields(updated(earlier, rows), settings.angles)
            module = {"table_known": "published_synthetic"}.get(name, name.removeprefix("table_"))
            target = results_table.write(folder, name, whole, f"python -m experiments.comparison.{module}", note)
    if target is None:
        raise InputError(f"No scene of {name} could be had; expected at least one. {' '.join(missing)}")
    return target


def run_now() -> dict[str, str]:
    """Return commit and date, which each row has of its run."""
    return {key: value for key, value in results_table.origin().items() if key in ("commit", "date")}


def earlier_rows(folder: Path, name: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the rows of an existing table, and the names of the endmembers of each scene.

    Commit and date come from its head if the rows have none.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        raise InputError(f"{path} is not there; expected a table to update. Run the experiment without --only first.")
    head = path.with_suffix(".md").read_text(encoding="utf-8").split("\n\n|")[0]
    of_head = {key: re.findall(rf"{key} ([^\s,]+[0-9a-z])", head)[0] for key in ("commit", "date")}
    with path.open(encoding="utf-8") as file:
        rows = [{key: value if key in WORDS else _number(value) for key, value in row.items()}
                for row in csv.DictReader(file)]  # fmt: skip
    named = re.search(r"Endmembers: (.+?)\. ", head + " ")
    said = dict(each.split(": ", 1) for each in named[1].split("; ")) if named else {}
    return [row | {key: value for key, value in of_head.items() if key not in row} for row in rows], said


WORDS = ("scene", "reference", "method", "commit", "date")
"""Columns of a table that hold no numbers."""


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def updated(earlier: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return earlier rows, replaced by new ones of the same name; others follow those of their scene and reference."""
    updated = list(earlier)
    for row in rows:
        same = [[other[key] == row[key] for key in ("scene", "reference", "method")] for other in updated]
        if [True] * 3 in same:
            updated[same.index([True] * 3)] = row
        else:
            beside = [i for i, (scene, reference, _) in enumerate(same) if scene and reference]
            updated.insert(beside[-1] + 1 if beside else len(updated), row)
    return updated


def _same_fields(rows: Sequence[dict[str, Any]], angles: int) -> list[dict[str, Any]]:
    """Return rows with the union of their fields, those of at least `angles` endmembers last, blank if missing."""
    fields = list(dict.fromkeys(field for row in rows for field in row))
    fields = list(dict.fromkeys([*fields, *(f"sad_{r + 1}{end}" for r in range(angles) for end in ("", "_sd"))]))
    fields.sort(key=lambda field: int(field.split("_")[1]) if field.startswith("sad_") and field != "sad_sd" else 0)
    return [{field: row.get(field, math.nan) for field in fields} for row in rows]

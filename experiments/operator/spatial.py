"""Train the learned spatial prior (`dequnmix_jax.abundances.learned_smoothing`), and judge it on families it never saw.

    python -m experiments.operator.spatial [--quick] [-o results]

Maps of generated scenes of all families (`experiments.shared.map_corpus`), spectra of training minerals and random
ones. The loss of a scene is r + max(r, 0) / 2, r = log(aRMSE smoothed / aRMSE of the maps): harm counts more. A network
is trained on all families, and written to the package; six more leave four families each out, and are judged on the
scenes of those, with test minerals. Nothing is chosen on the scenes of the tables.

Ways of smoothing: "smooth" is that of today, by the nugget of the maps; "smooth, judged" is what
`Model.prior="neighbours"` does (`prior_stage.judge_prior`), "smooth, judged by noise alone" with the guard of the
learned prior; "linear by halves" is the same linear smoother with directions and strengths from the
difference of maps by even and odd bands, without learning; "learned, full strength" has the strengths that the network
predicts, "learned" that part of them which the scene's own estimated risk chooses, "learned, judged" also with that
guard, "learned, crossed" with the guard |b_even - b_odd|^2 - |S b_even - b_odd|^2;
"learned, without halves" takes the nugget of the maps for errors, with no estimate of the risk. "chosen, judged" is
what `Model.prior="learned"` does: the learned or the linear prior (`prior_choice`), whose gain counts the errors of
varying spectra too.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dequnmix_jax as dq
from dequnmix_jax import datasets
from dequnmix_jax.abundances import learned_smoothing, map_statistics, prior_choice
from dequnmix_jax.abundances.learned_smoothing import LearnedSmoother, SpatialWeights
from dequnmix_jax.abundances.smoothing import Smoother, smooth_linearly
from dequnmix_jax.abundances.smoothing_gain import smoothing_gain
from dequnmix_jax.datasets import SceneShape
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.solvers.config import Adjoint, Solver
from dequnmix_jax.training import pixel_blocks, prior_stage
from dequnmix_jax.types import NEEDED
from experiments.shared import results_table
from experiments.shared.map_corpus import WAYS, MapSet, map_sets

SIDE = 32
"""Rows and columns of the windows of training; the statistics are those of the whole scene."""

GIVEN = 0.85
"""Share of the scenes in training whose maps by even and odd bands are given."""

SOURCES = ("training", "random")
"""Of the spectra of the scenes of training."""

TRAINED = Solver(tolerance=3e-3, max_steps=40), Adjoint(tolerance=3e-2, max_steps=40)
"""The solvers in training: less accurate than the operator's, which is enough for a gradient."""


class Prepared(NamedTuple):
    """Scenes of one size, ready for training; what does not depend on the weights is computed once.

    Attributes:
        maps, truth: (N, H, W, R).
        seen: (2, N, D, S), statistics without and with halves.
        directions, back: (2, N, R, D), (2, N, D, R).
        varies: (2, N).
        family: (N,), NumPy.
    """

    maps: jax.Array
    truth: jax.Array
    seen: jax.Array
    directions: jax.Array
    back: jax.Array
    varies: jax.Array
    family: np.ndarray


@jax.jit
def _seen(A: jax.Array, even: jax.Array, odd: jax.Array) -> tuple[jax.Array, ...]:
    valid = jnp.ones(A.shape[1:3], bool)

    def one(scene: tuple[jax.Array, ...]) -> Any:
        A, even, odd = scene
        both = [learned_smoothing.look(A, d, valid) for d in (None, (even - odd) / 2)]
        return jax.tree.map(lambda *x: jnp.stack(x), *both)

    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), jax.lax.map(one, (A, even, odd)))


def prepare(maps: MapSet) -> Prepared:
    """Compute what training needs of some maps."""
    return Prepared(jnp.asarray(maps.whole), jnp.asarray(maps.truth), *_seen(*maps[:3]), maps.family)


def ratios(weights: SpatialWeights, scenes: tuple[jax.Array, ...], solvers: tuple[Solver, Adjoint]) -> jax.Array:
    """Return the logarithm of the aRMSE of smoothed maps over that of the maps, (N,)."""

    def one(A: jax.Array, truth: jax.Array, *parts: jax.Array) -> jax.Array:
        prior = learned_smoothing.assemble(weights, *parts)
        valid = jnp.ones(A.shape[:2], bool)
        smoothed = project_simplex(A + learned_smoothing.correction(A, valid, prior, *solvers))
        return jnp.log(dq.metrics.armse(smoothed, truth) / dq.metrics.armse(A, truth))

    return jax.vmap(one)(*scenes)


def loss(weights: SpatialWeights, scenes: tuple[jax.Array, ...], harm: float) -> jax.Array:
    """Return the mean of the ratios, where harm counts more."""
    r = ratios(weights, scenes, TRAINED)
    return jnp.mean(r + harm * jnp.maximum(r, 0))


@cache  # one compiled program for all trainings
def _optimiser(rate: float, steps: int) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps), b2=0.99))


@partial(jax.jit, static_argnums=0)
def _step(
    optimiser: optax.GradientTransformation,
    weights: SpatialWeights,
    state: Any,
    scenes: tuple[jax.Array, ...],
    harm: float,
) -> tuple[SpatialWeights, Any, jax.Array]:
    value, gradient = jax.value_and_grad(loss)(weights, scenes, harm)
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in gradient]))
    gradient = jax.tree.map(lambda g: jnp.where(fine, g, 0), gradient)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        change, state = optimiser.update(gradient, state, weights)
    return optax.apply_updates(weights, change), state, value


def train(
    seed: int, sets: Sequence[Prepared], families: Sequence[int], steps: int, batch: int, rate: float, harm: float
) -> tuple[SpatialWeights, np.ndarray]:
    """Train on some families, and return the weights and the loss of each step.

    Args:
        seed: of the first weights and the order of scenes.
        sets: the scenes, a set for each size.
        families: indices of those to train on.
        steps, batch: of Adam, and scenes of each.
        rate: its first step, which falls to 0 as a cosine.
        harm: weight of a ratio above one.
    """
    draw = np.random.default_rng(seed)
    allowed = [np.flatnonzero(np.isin(part.family, families)) for part in sets]
    optimiser = _optimiser(rate, steps)
    weights = learned_smoothing.init_weights(jax.random.key(seed))
    state = optimiser.init(weights)
    values = []
    for step in range(steps):
        part, rows = sets[step % len(sets)], allowed[step % len(sets)]
        chosen = draw.choice(rows, batch, replace=False)
        given = draw.random(batch) < GIVEN
        top = tuple(int(draw.integers(0, n - SIDE + 1)) for n in part.maps.shape[1:3])
        window = (slice(top[0], top[0] + SIDE), slice(top[1], top[1] + SIDE))
        scenes = (part.maps[(chosen, *window)], part.truth[(chosen, *window)])
        scenes += tuple(x[given.astype(int), chosen] for x in part[2:6])
        weights, state, value = _step(optimiser, weights, state, scenes, harm)
        values.append(value)
    return weights, np.asarray(values)


class Judged(NamedTuple):
    """What is found on a scene: aRMSE of the maps, and of each way of smoothing over it (`main`); the estimated gain in
    standard errors of the learned prior, by `smoothing_gain` and by the difference of the halves, of `smooth`, and of
    what the scene chooses; the ratio of the last."""

    raw: jax.Array
    smooth: jax.Array
    today: jax.Array
    linear: jax.Array
    full: jax.Array
    learned: jax.Array
    alone: jax.Array
    stein: jax.Array
    crossed: jax.Array
    stein_smooth: jax.Array
    stein_chosen: jax.Array
    chosen: jax.Array


def _linear(A: jax.Array, difference: jax.Array, valid: jax.Array) -> jax.Array:
    """Smooth linearly, with directions and strengths from the difference of the halves."""
    seen, directions, back, _ = learned_smoothing.look(A, difference, valid)
    share = jnp.clip(seen[:, map_statistics.SHARE], 0, learned_smoothing.MOST)
    u = jnp.matmul(A, directions, precision="highest")
    moved = smooth_linearly(u, valid, Smoother(jnp.eye(u.shape[2], dtype=u.dtype), share / (4 * (1 - share))))
    return project_simplex(A + jnp.matmul(moved - u, back, precision="highest"))


def _at_best_part(prior: LearnedSmoother, A: jax.Array, D: jax.Array, valid: jax.Array) -> LearnedSmoother:
    """Return the prior with that part of its strengths whose estimated gain, of noise alone, is largest."""
    parts = jnp.asarray((0.0, *prior_choice.PARTS), A.dtype)

    def gained(part: jax.Array) -> jax.Array:
        tried = prior._replace(strength=part * prior.strength)
        return jnp.sum(smoothing_gain(A, D, lambda x: x + learned_smoothing.correction(x, valid, tried)))

    return prior._replace(strength=parts[jnp.argmax(jax.lax.map(gained, parts))] * prior.strength)


_SIMPLEX = dq.Model(constraint=dq.equilibrium.Simplex(), prior="neighbours")


@jax.jit
def judge(weights: SpatialWeights, *maps: jax.Array) -> Judged:
    """Smooth and judge the maps of a scene, the first six fields of a `MapSet`."""
    A, even, odd, _, _, truth = maps
    valid = jnp.ones(A.shape[:2], bool)
    given = prior_stage.Maps(*maps[:5])
    today = prior_stage.judge_prior(given, "neighbours", valid)[1]
    raw, D = dq.metrics.armse(A, truth), (even - odd) / 2
    full = learned_smoothing.assemble(weights, *learned_smoothing.look(A, D, valid))
    alone = learned_smoothing.assemble(weights, *learned_smoothing.look(A, None, valid))
    prior = _at_best_part(full, A, D, valid)
    shared = prior_stage.shared_errors(given, valid)
    chosen = prior_choice.learned_smoother(A, even, odd, weights=weights, shared=shared)
    old = dq.abundances.smoother(A)

    def learned(x: jax.Array) -> jax.Array:
        return x + learned_smoothing.correction(x, valid, prior)

    gains = [
        smoothing_gain(A, D, learned),
        sum(jnp.sum(jnp.square(x - y) - jnp.square(learned(x) - y), axis=-1) for x, y in ((even, odd), (odd, even))),
        smoothing_gain(A, D, lambda x: smooth_linearly(x, valid, old)),
    ]
    ratios = [
        dq.metrics.armse(x, truth) / raw
        for x in (
            dq.abundances.smooth(A, old),
            dq.abundances.smooth(A, today),
            _linear(A, D, valid),
            learned_smoothing.smooth_learned(A, full),
            learned_smoothing.smooth_learned(A, prior),
            learned_smoothing.smooth_learned(A, alone),
        )
    ]
    gains.append(smoothing_gain(A, D, lambda x: x + learned_smoothing.correction(x, valid, chosen), shared))
    after = dq.metrics.armse(learned_smoothing.smooth_learned(A, chosen), truth)
    return Judged(raw, *ratios, *(pixel_blocks.standard_errors(gain, valid) for gain in gains), after / raw)


@dataclass(frozen=True)
class Settings:
    """Sizes of the scenes, families, scenes of each family, size, source and seed; seed of the training, seeds of the
    scenes of training and of test; folds, and the numbers of `train`; a folder in which the weights of each training
    are kept and found again ("": none); where those of all families go ("": beside the table)."""

    sizes: tuple[SceneShape, ...] = (SceneShape(32, 32, 60, 3), SceneShape(40, 40, 80, 4), SceneShape(36, 48, 100, 6))
    families: tuple[str, ...] = datasets.FAMILIES
    scenes: int = 3
    seed: int = 0
    drawn: tuple[int, ...] = (0, 1)
    tested: tuple[int, ...] = (1000, 1001)
    folds: int = 6
    steps: int = 1000
    batch: int = 8
    rate: float = 0.005
    harm: float = 0.5
    kept: str = ""
    weights: str = "src/dequnmix_jax/data/operator_spatial.npz"


QUICK = Settings(
    sizes=(SceneShape(32, 32, 30, 3),), families=("smooth", "fine"), drawn=(0,), tested=(1000,), folds=2, steps=3,
    batch=2, weights="",
)  # fmt: skip


def _said(settings: Settings) -> str:
    """Return the settings without the folder of this run."""
    return str(replace(settings, kept=""))


def save(path: Path, weights: SpatialWeights, settings: Settings) -> None:
    """Write weights with how they were made."""
    made = results_table.origin()
    provenance = {
        "command": "python -m experiments.operator.spatial",
        "seed": settings.seed,
        "settings": _said(settings),
        "generator": datasets.generator.fingerprint(),
        "generator_version": datasets.generator.VERSION,
        "version": made["dequnmix_jax"],
        "jax": made["jax"],
        "date": made["date"],
    }
    arrays: dict[str, Any] = {name: np.asarray(x, np.float32) for name, x in weights._asdict().items()}
    np.savez_compressed(path, provenance=np.asarray(json.dumps(provenance)), **arrays)


def read(path: Path, settings: Settings) -> SpatialWeights:
    """Return the weights of `save`; raise InputError if they are of other settings or another generator."""
    with np.load(path) as stored:
        made = json.loads(str(stored["provenance"]))
        if (made["settings"], made["generator"]) != (_said(settings), datasets.generator.fingerprint()):
            raise dq.InputError(
                f"{path} holds weights of other settings; expected those of {_said(settings)}. Remove it."
            )
        return SpatialWeights(*(jnp.asarray(stored[name]) for name in SpatialWeights._fields))


def judged_on(weights: SpatialWeights, sets: Sequence[MapSet], families: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each scene of some families: its aRMSE and the ratio of each way of smoothing."""
    rows = []
    for part in sets:
        found = []
        keep = np.flatnonzero(np.isin(part.family, families))
        for scene in keep:
            found.append(judge(weights, *(jnp.asarray(x[scene]) for x in part[:6])))
        one = Judged(*np.asarray(found, float).T)
        ways = {
            "smooth": one.smooth,
            "smooth, judged": one.today,
            "smooth, judged by noise alone": np.where(one.stein_smooth > NEEDED, one.smooth, 1),
            "linear by halves": one.linear,
            "learned, full strength": one.full,
            "learned": one.learned,
            "learned, judged": np.where(one.stein > NEEDED, one.learned, 1),
            "learned, crossed": np.where(one.crossed > NEEDED, one.learned, 1),
            "learned, without halves": one.alone,
            "chosen, judged": np.where(one.stein_chosen > NEEDED, one.chosen, 1),
        }
        for i, (family, way) in enumerate(zip(part.family[keep], part.way[keep], strict=True)):
            row = {"family": datasets.FAMILIES[family], "endmembers": part.truth.shape[-1], "spectra": WAYS[way]}
            rows.append(row | {"aRMSE": float(one.raw[i])} | {name: float(x[i]) for name, x in ways.items()})
    return rows


def summarised(label: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each way of smoothing."""
    found = []
    for way in list(rows[0])[4:]:
        r = np.array([row[way] for row in rows])
        figures = {"geometric mean": results_table.geometric_mean(list(r)), "worst": float(r.max())}
        figures |= {"harmed %": float(100 * np.mean(r > 1.05)), "changed %": float(100 * np.mean(np.abs(r - 1) > 1e-4))}
        found.append({"scenes of": label, "number": len(r), "way": way} | figures)
    return found


def _joined(settings: Settings, seeds: Sequence[int], sources: tuple[str, ...]) -> list[MapSet]:
    """Return the maps of each size, of all seeds."""
    drawn = [map_sets(seed, settings.families, settings.sizes, sources, settings.scenes) for seed in seeds]
    return [MapSet(*(np.concatenate(x) for x in zip(*parts, strict=True))) for parts in zip(*drawn, strict=True)]


def main(settings: Settings, folder: Path) -> Path:
    """Train, write the weights, and write `spatial_operator.csv`, `.md` and `spatial_operator_scenes.csv`."""
    start = time.process_time()
    named = [datasets.FAMILIES.index(family) for family in settings.families]
    corpus = [prepare(x) for x in _joined(settings, settings.drawn, SOURCES)]
    tested = _joined(settings, settings.tested, ("test",))
    print(f"maps: {time.process_time() - start:.0f} CPU s", flush=True)
    costs = []

    def trained(name: str, families: Sequence[int]) -> SpatialWeights:
        path = Path(settings.kept) / f"{name}.npz"
        if settings.kept and path.is_file():
            return read(path, settings)
        begin = time.process_time()
        numbers = settings.steps, settings.batch, settings.rate, settings.harm
        weights, values = train(settings.seed, corpus, families, *numbers)
        costs.append(time.process_time() - begin)
        if settings.kept:
            Path(settings.kept).mkdir(parents=True, exist_ok=True)
            save(path, weights, settings)
        print(f"{name}: loss {np.mean(values[-100:]):.4f}, {costs[-1]:.0f} CPU s", flush=True)
        return weights

    weights = trained("all", named)
    folder.mkdir(parents=True, exist_ok=True)
    save(Path(settings.weights) if settings.weights else folder / "operator_spatial.npz", weights, settings)
    rows, unseen = [], []
    for number, fold in enumerate(np.array_split(np.asarray(named), settings.folds)):
        left = [int(f) for f in fold]
        scenes = judged_on(trained(f"fold {number}", [f for f in named if f not in left]), tested, left)
        unseen += scenes
        rows += summarised(", ".join(datasets.FAMILIES[f] for f in left), scenes)
        for row in rows[-10:]:
            print(results_table.line(row), flush=True)
    first = [MapSet(*(x[: len(x) // len(settings.tested)] for x in part)) for part in tested]
    shipped = summarised("all families, in training", judged_on(weights, first, named))
    rows = summarised("all families, each left out", unseen) + shipped + rows
    results_table.write_csv(folder / "spatial_operator_scenes.csv", unseen)
    cost = f" CPU s of a training: {np.mean(costs):.0f}." if costs else ""
    note = (
        "Ratio of the aRMSE of smoothed maps to that of the maps; test minerals. Each group of families was left out "
        'of the training that it is judged by, but for "in training" (the shipped weights, scenes of the first '
        "seed). What the ways are: `experiments/operator/spatial.py`. "
        f"Generator {datasets.generator.VERSION}, fingerprint {datasets.generator.fingerprint()}.{cost} Every scene: "
        f"`spatial_operator_scenes.csv`. {_said(settings)}"
    )
    command = "python -m experiments.operator.spatial"
    return results_table.write(folder, "spatial_operator", rows, command, note, "Over scenes.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)

"""Scenes of every family of the generator, measured once: what the learned operator is trained and judged on."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.endmembers import candidates
from dequnmix_jax.endmembers.noise import simplex_noise
from dequnmix_jax.endmembers.selection import Weights, decide
from dequnmix_jax.endmembers.subspace import frame, pixels
from dequnmix_jax.learned.features import HALF, Light, Shape, shape_scores
from dequnmix_jax.ops import lapack

SIZES = (
    generator.SceneShape(40, 40, 80, 3),
    generator.SceneShape(36, 44, 120, 4),
    generator.SceneShape(48, 32, 60, 6),
)
"""Sizes of the scenes: three only, because each is compiled."""

SOURCES = ("training", "training", "random", "test")
"""Where the spectra of a family's scenes come from, in turn. Nothing is trained on the last."""

TEST = SOURCES.index("test")


@dataclass(frozen=True)
class Settings:
    """Scenes of each family and size, the seed, the families and sizes.

    `further` seeds, those after `seed`, add scenes of the same families to train on: three quarters as many each, none
    of test minerals.
    """

    scenes: int = 24
    seed: int = 10
    further: int = 0
    families: tuple[str, ...] = generator.FAMILIES
    sizes: tuple[generator.SceneShape, ...] = SIZES


TRAINING = Settings(further=2)
"""The scenes that the operator is trained and judged on; those of further seeds train the choices alone."""

QUICK = Settings(4, further=1, families=generator.FAMILIES[:8], sizes=SIZES[:1])


class Frames(NamedTuple):
    """Both geometries of a scene's pixels, plane and cone: points (2, N, R), lift (2, R, B), height, noise, and more.

    vertices (16, R, R) are the candidates in their frames; shape their geometric scores, (16,) each.
    """

    points: jax.Array
    lift: jax.Array
    height: jax.Array
    noise: jax.Array
    vertices: jax.Array
    shape: Shape


class Measured(NamedTuple):
    """Scenes of one size, with a first axis of scenes: scores without the truth, and errors with it.

    Attributes:
        scores, scene, frames: without the truth.
        rule: (S,), the way of the rule.
        spectra: (S, 16, R, B).
        armse, msad: (S, 24), of all ways.
        reference: (S, H, W, R), and
        endmembers: (S, R, B), the truth.
        family, source, index, seed: (S,), index of the family and of the source, number of the scene in them, and
            the seed it was drawn with.
    """

    scores: candidates.Scores
    scene: candidates.SceneScores
    frames: Frames
    rule: np.ndarray
    spectra: np.ndarray
    armse: np.ndarray
    msad: np.ndarray
    reference: np.ndarray
    endmembers: np.ndarray
    family: np.ndarray
    source: np.ndarray
    index: np.ndarray
    seed: np.ndarray


def scene_key(seed: int, count: int, index: int) -> jax.Array:
    """Return the key of a scene; its family is folded in when it is drawn."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), count), index)


def _draw(seed: int, family: str, size: generator.SceneShape, index: int, source: int) -> generator.DrawnScene:
    return generator.draw(scene_key(seed, size.count, index), family, size, SOURCES[source])


def draw(settings: Settings, family: str, size: generator.SceneShape, index: int) -> generator.DrawnScene:
    """Draw one scene with the first seed."""
    return _draw(settings.seed, family, size, index, index % len(SOURCES))


def drawn(group: Measured, i: int) -> generator.DrawnScene:
    """Draw a measured scene again."""
    size = next(size for size in SIZES if size.count == group.endmembers.shape[1])
    seed, index, source = (int(x[i]) for x in (group.seed, group.index, group.source))
    return _draw(seed, generator.FAMILIES[int(group.family[i])], size, index, source)


@partial(jax.jit, static_argnames="count")
def _frames(cube: jax.Array, E: jax.Array, count: int) -> Frames:
    valid = jnp.ones(cube.shape[:2], bool)
    Y, inside = pixels(cube, valid)
    noise = simplex_noise(cube, count, mask=valid)
    views = [frame(Y, inside, count, scaled) for scaled in (False, True)]
    backs = [lapack.pinv(view.lift) for view in views]
    covariances = [jnp.matmul(back.T * noise[None], back, precision="highest") for back in backs]
    parts = [E[:HALF], E[HALF:]]
    vertices = [jnp.matmul(part, back, precision="highest") for part, back in zip(parts, backs, strict=True)]
    shapes = []
    for i in (0, 1):
        facets = jax.vmap(lambda V: jnp.nan_to_num(lapack.inverse(V), posinf=0.0, neginf=0.0).T)(vertices[i])
        shapes.append(
            jax.vmap(lambda Q, level, i=i: shape_scores(views[i].points, covariances[i], Q, level, valid, bool(i)))(
                facets, jnp.max(parts[i], axis=2)
            )
        )
    return Frames(
        jnp.stack([view.points for view in views]),
        jnp.stack([view.lift for view in views]),
        jnp.stack([view.height for view in views]),
        jnp.stack(covariances),
        jnp.concatenate(vertices),
        jax.tree.map(lambda *x: jnp.concatenate(x), *shapes),
    )


def error_of(E: jax.Array, A: jax.Array, reference: jax.Array, spectra: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return aRMSE and mSAD of one answer."""
    order = dq.metrics.align(E, spectra)
    return dq.metrics.armse(A[..., order], reference), dq.metrics.msad(E[order], spectra)


@jax.jit
def _truths(E: jax.Array, cube: jax.Array, reference: jax.Array, spectra: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return aRMSE and mSAD (24,) of all ways with candidate spectra (16, R, B)."""
    solvers = (
        lambda e: dq.abundances.fcls(cube, e),
        lambda e: dq.abundances.scaled_nnls(cube, e)[0],
        lambda e: dq.abundances.soft_nnls(cube, e)[0],
    )
    parts = (E[:HALF], E[HALF:], E[HALF:])
    each = [
        jax.lax.map(lambda e, solve=solve: error_of(e, solve(e), reference, spectra), part)
        for solve, part in zip(solvers, parts, strict=True)
    ]
    armse, msad = (jnp.concatenate(x) for x in zip(*each, strict=True))
    return armse, msad


@jax.jit
def _rule(scores: candidates.Scores, scene: candidates.SceneScores) -> jax.Array:
    chosen = decide(scores, scene, Weights())
    return chosen.chosen + jnp.where(chosen.constraint_index == 2, HALF, 0)


def _measure(seed: int, number: int, sources: int, family: str, size: generator.SceneShape) -> Measured:
    rows = []
    for i in range(number):
        scene = _draw(seed, family, size, i, i % sources)
        valid = jnp.ones(scene.cube.shape[:2], bool)
        key = jax.random.fold_in(scene_key(seed, size.count, i), 1)
        E, scores, whole = candidates.candidates(key, scene.cube, valid, size.count)
        reference = generator.reference_abundances(scene)
        armse, msad = _truths(E, scene.cube, reference, scene.endmembers)
        row = Measured(
            scores, whole, _frames(scene.cube, E, size.count), _rule(scores, whole), E, armse, msad, reference,
            scene.endmembers, generator.FAMILIES.index(family), i % sources, i, seed,
        )  # fmt: skip
        rows.append(jax.tree.map(np.asarray, row))
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def measured(settings: Settings, folder: Path, say: bool = True) -> dict[int, Measured]:
    """Return the measured scenes of every number of endmembers; each family and size is measured once and kept."""
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[int, list[Measured]] = {}
    structure = jax.tree.structure(_EMPTY)
    seeds = [(settings.seed, settings.scenes, len(SOURCES))]
    seeds += [(settings.seed + k, settings.scenes * 3 // 4, TEST) for k in range(1, settings.further + 1)]
    for size in settings.sizes:
        for seed, number, sources in seeds:
            for family in settings.families:
                name = f"{family.replace(' ', '_')}_{size.count}_{seed}_{number}_{sources}_{generator.fingerprint()}"
                path = folder / f"{name}.npz"
                if path.exists():
                    with np.load(path, allow_pickle=False) as file:
                        leaves = [file[f"arr_{i}"] for i in range(structure.num_leaves)]
                else:
                    leaves = jax.tree.leaves(_measure(seed, number, sources, family, size))
                    np.savez(path, *leaves)
                    if say:
                        print(family, size.count, seed, flush=True)
                groups.setdefault(size.count, []).append(jax.tree.unflatten(structure, leaves))
    return {count: jax.tree.map(lambda *x: np.concatenate(x), *parts) for count, parts in groups.items()}


def without(groups: dict[int, Measured], left: tuple[int, ...]) -> dict[int, Measured]:
    """Return the scenes without those of families left out that further seeds drew: nothing is done with them."""
    first = min(int(group.seed.min()) for group in groups.values())
    kept = {count: ~np.isin(g.family, left) | (g.seed == first) for count, g in groups.items()}
    return {count: jax.tree.map(lambda x, k=kept[count]: x[k], group) for count, group in groups.items()}


def of_first_seed(groups: dict[int, Measured]) -> dict[int, Measured]:
    """Return the scenes of the smallest seed."""
    first = min(int(group.seed.min()) for group in groups.values())
    return {count: jax.tree.map(lambda x, k=group.seed == first: x[k], group) for count, group in groups.items()}


_EMPTY = Measured(
    candidates.Scores(*(0,) * len(candidates.Scores._fields)),
    candidates.SceneScores(*(0,) * len(candidates.SceneScores._fields)),
    Frames(0, 0, 0, 0, 0, Shape(*(0,) * 14, Light(*(0,) * len(Light._fields)))),  # type: ignore[arg-type]
    *(0,) * 10,  # type: ignore[arg-type]
)

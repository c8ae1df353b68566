"""Train the learned operator: the choice before, the joint equilibrium, and the choice after."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dequnmix_jax import metrics
from dequnmix_jax.abundances import least_squares
from dequnmix_jax.datasets import generator
from dequnmix_jax.endmembers import candidates
from dequnmix_jax.learned import choice, joint
from dequnmix_jax.learned import weights as files
from dequnmix_jax.learned.features import HALF, context, features, shape_scores
from dequnmix_jax.learned.weights import OperatorWeights
from dequnmix_jax.ops import lapack
from experiments.shared.operator_scenes import TEST, Measured, drawn, error_of, of_first_seed

Groups = dict[int, Measured]

_FLOOR = 1e-3
"""aRMSE below which ways do not differ: nobody needs fractions to a tenth of a percent."""

_LARGEST = 2.5
"""Log error above the best way's from which ways are equally bad."""


@dataclass(frozen=True)
class Learning:
    """Numbers of the training.

    Attributes:
        networks, width, steps, rate, decay, noise: of the choice; noise is added to the standardised features.
        epochs, batch, joint_rate, pixels: of the joint equilibrium; pixels drawn from each scene.
        steps_before: steps of the plain iteration before the last two, through which the loss is differentiated: the
            first two terms of the Neumann sum of the implicit gradient. All terms, by the adjoint solve, made training
            diverge, because early in it the map has no equilibrium.
        harm: extra weight of a loss that exceeds that of the start.
        rest: weight of the squared largest change of a vertex in the last step.
    """

    networks: int = 3
    width: int = 40
    steps: int = 3000
    rate: float = 4e-3
    decay: float = 3e-3
    noise: float = 0.05
    epochs: int = 12
    batch: int = 16
    joint_rate: float = 4e-3
    pixels: int = 600
    steps_before: int = 8
    harm: float = 0.5
    rest: float = 3.0


class Table(NamedTuple):
    """All scenes in a row: features (S, W, F), log errors (S, W), and what belongs to each scene."""

    features: np.ndarray
    error: np.ndarray
    msad: np.ndarray
    rule: np.ndarray
    held_out: np.ndarray
    above: np.ndarray
    family: np.ndarray
    source: np.ndarray


# The choice.


def _objective(layers: Any, x: jax.Array, error: jax.Array, msad: jax.Array) -> jax.Array:
    """Return the negative log likelihood of the errors (n, W), the miss of both, and the regret of a soft choice."""
    predicted = jax.vmap(partial(choice.apply, layers))(x)
    least = jnp.min(error, axis=1)[:, None]
    bounded = jnp.minimum(error - least, _LARGEST)
    relative, angle = bounded, jnp.minimum(msad - jnp.min(msad, axis=1)[:, None], _LARGEST)
    relative, angle = (y - jnp.mean(y, axis=1)[:, None] for y in (relative, angle))
    miss = bounded + least - predicted.level[:, None] - predicted.relative
    likelihood = 0.5 * jnp.square(miss / predicted.spread) + jnp.log(predicted.spread)
    both = error + choice.ANGLE * msad
    regret = jnp.minimum(both - jnp.min(both, axis=1)[:, None], _LARGEST)
    chance = jax.nn.softmax(-4 * jax.vmap(choice.cost)(predicted), axis=1)
    return jnp.mean(
        0.5 * jnp.mean(likelihood, axis=1)
        + jnp.mean(jnp.square(relative - predicted.relative), axis=1)
        + choice.ANGLE * jnp.mean(jnp.square(angle - predicted.angle), axis=1)
        + 2 * jnp.sum(chance * regret, axis=1)
    )


@partial(jax.jit, static_argnames="learning")
def _trained(
    key: jax.Array, x: jax.Array, error: jax.Array, msad: jax.Array, rows: jax.Array, learning: Learning
) -> tuple[tuple[jax.Array, jax.Array], ...]:
    optimiser = optax.adamw(optax.cosine_decay_schedule(learning.rate, learning.steps), weight_decay=learning.decay)

    def one(key: jax.Array) -> Any:
        first, rest = jax.random.split(key)
        layers = choice.init(first, x.shape[-1], learning.width)

        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            layers, state = carry
            draw, noisy = jax.random.split(key)
            some = rows[jax.random.randint(draw, (64,), 0, rows.shape[0])]
            batch = x[some] + learning.noise * jax.random.normal(noisy, (64, *x.shape[1:]))
            slope = jax.grad(_objective)(layers, batch, error[some], msad[some])
            update, state = optimiser.update(slope, state, layers)
            return (optax.apply_updates(layers, update), state), None

        keys = jax.random.split(rest, learning.steps)
        return jax.lax.scan(step, (layers, optimiser.init(layers)), keys)[0][0]

    return jax.lax.map(one, jax.random.split(key, learning.networks))


def train_choice(key: jax.Array, table: Table, used: np.ndarray, learning: Learning) -> choice.ChoiceWeights:
    """Train an ensemble on the used scenes (S,) bool."""
    mean = table.features[used].mean(axis=(0, 1))
    scale = table.features[used].std(axis=(0, 1)) + 1e-2
    x = jnp.asarray(np.clip((table.features - mean) / scale, -3, 3), jnp.float32)
    # The same number of rows for every fold: one program.
    rows = np.resize(np.random.default_rng(0).permutation(np.nonzero(used)[0]), len(used))
    with jax.numpy_dtype_promotion("standard"):
        errors = (jnp.asarray(y, jnp.float32) for y in (table.error, table.msad))
        layers = _trained(key, x, *errors, jnp.asarray(rows), learning)
    return choice.ChoiceWeights(jnp.asarray(mean), jnp.asarray(scale), layers)


@jax.jit
def choose(weights: choice.ChoiceWeights, table: Table) -> tuple[jax.Array, choice.Prediction]:
    """Return the chosen way and the prediction for every scene."""

    def one(x: jax.Array, rule: jax.Array, error: jax.Array, above: jax.Array) -> tuple[jax.Array, choice.Prediction]:
        prediction = choice.predict(weights, x)
        return choice.decide(prediction, rule, error, above), prediction

    return jax.vmap(one)(table.features, table.rule, table.held_out, table.above)


def first_table(groups: Groups) -> Table:
    """Return the table of the 24 ways."""
    parts = []
    for group in groups.values():
        x = _features(group.scores, group.scene, group.frames.shape, group.rule, False)
        parts.append(_table(group, np.asarray(x), group.scores, group.armse, group.msad, _WAYS_FIRST))
    return Table(*(np.concatenate(x) for x in zip(*parts, strict=True)))


@partial(jax.jit, static_argnames="refined")
def _features(scores: Any, scene: Any, shape: Any, rule: Any, refined: bool) -> jax.Array:
    return jax.vmap(lambda *a: features(*a, refined))(scores, scene, shape, rule)


_WAYS_FIRST = np.concatenate([np.arange(2 * HALF), np.arange(HALF, 2 * HALF)])
_WAYS_LAST = np.concatenate([_WAYS_FIRST, [2 * HALF, 2 * HALF + 1, 2 * HALF + 1]])


def _table(group: Measured, x: np.ndarray, scores: Any, armse: np.ndarray, msad: np.ndarray, ways: np.ndarray) -> Table:
    plane = (ways < HALF) | (ways == 2 * HALF)
    error = np.log(np.maximum(scores.error, 1e-9))[:, ways]
    floors = 0.5 * np.log(np.maximum(group.scene.floor, 1e-14))
    above = error - np.where(plane[None], floors[:, :1], floors[:, 1:])
    logs = [np.log(np.nan_to_num(y, nan=1.0).clip(_FLOOR)) for y in (armse, msad)]
    return Table(
        x, logs[0], logs[1], group.rule.astype(np.int32), error.astype(np.float32), above.astype(np.float32),
        group.family, group.source,
    )  # fmt: skip


# The joint equilibrium.


class Sample(NamedTuple):
    """A scene in one geometry, as the joint equilibrium is trained on it."""

    points: jax.Array
    lift: jax.Array
    root: jax.Array
    height: jax.Array
    noise: jax.Array
    context: jax.Array
    scaled: jax.Array
    start: jax.Array
    level: jax.Array
    reference: jax.Array
    endmembers: jax.Array
    mode: jax.Array
    weight: jax.Array


def _answer(vertices: jax.Array, s: Sample) -> tuple[jax.Array, jax.Array]:
    """Return log aRMSE and log mSAD of vertices in the mixing of the sample."""
    E = jnp.matmul(vertices, s.lift, precision="highest")
    scale = jnp.where(s.scaled, s.level / jnp.maximum(jnp.sum(E, axis=1), 1e-9), 1)
    E, V = jnp.maximum(E * scale[:, None], 0), vertices * scale[:, None]
    order = metrics.align(jax.lax.stop_gradient(E), s.endmembers)
    E, V = E[order], V[order]
    cube = jnp.matmul(s.points, s.root, precision="highest")[None]
    spectra = jnp.matmul(V, s.root, precision="highest")

    def scaled() -> jax.Array:
        x = least_squares.nnls(cube, spectra / jnp.maximum(jnp.max(E, axis=1), 1e-9)[:, None])
        return x / jnp.maximum(jnp.sum(x, axis=-1), 1e-9)[..., None]

    solvers = (
        lambda: least_squares.fcls(cube, spectra),
        scaled,
        lambda: least_squares.soft_nnls(cube, spectra)[0],
    )
    A = jax.lax.switch(s.mode, solvers)[0]
    error = jnp.mean(jnp.sqrt(jnp.mean(jnp.square(A - s.reference), axis=0) + 1e-10))
    return jnp.log(error + 3e-3), jnp.log(metrics.msad(E, s.endmembers) + 5e-3)


def _geometry(s: Sample) -> joint.Geometry:
    return joint.Geometry(s.points, s.height, s.noise, jnp.ones(s.points.shape[0], bool), s.scaled, s.context)


def _loss(layers: Any, weights: joint.JointWeights, s: Sample, learning: Learning) -> tuple[jax.Array, Any]:
    weights = weights._replace(layers=layers)
    scene, held = _geometry(s), (jax.lax.stop_gradient(weights), _geometry(s))
    facets = joint.facets_of(s.start, s.height)
    facets = jax.lax.fori_loop(0, learning.steps_before, lambda _, q: joint.cheap_map(held, q), facets)
    before = joint.cheap_map((weights, scene), jax.lax.stop_gradient(facets))
    facets = joint.cheap_map((weights, scene), before)
    vertices = joint.vertices_of(facets)
    first = joint.vertices_of(joint.facets_of(s.start, s.height))
    armse, msad = (a - jax.lax.stop_gradient(b) for a, b in zip(_answer(vertices, s), _answer(first, s), strict=True))
    # A map that keeps moving has no equilibrium: the last step counts.
    moved = facets - before
    # In fractions: what the step changes of the coordinates of the vertices.
    change = jnp.matmul(moved, jax.lax.stop_gradient(vertices).T, precision="highest")
    restless = jnp.square(jnp.max(jnp.abs(change)))
    gain = armse + 0.3 * msad
    value = s.weight * (gain + learning.harm * jax.nn.relu(gain)) + learning.rest * restless
    return value, (armse, msad, restless)


@partial(jax.jit, static_argnames="learning")
def _slope(weights: joint.JointWeights, batch: Sample, learning: Learning) -> tuple[jax.Array, Any]:
    def one(s: Sample) -> tuple[jax.Array, jax.Array, Any]:
        value, slope = jax.value_and_grad(lambda layers: _loss(layers, weights, s, learning)[0])(weights.layers)
        leaves = jax.tree.leaves(slope)
        ok = jnp.isfinite(value) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
        size = jnp.sqrt(sum(jnp.sum(jnp.where(ok, x, 0) ** 2) for x in leaves))
        part = jnp.where(ok, 1 / jnp.maximum(1.0, size / 3), 0)
        return jnp.where(ok, value, 0), ok, jax.tree.map(lambda x: jnp.where(ok, x, 0) * part, slope)

    value, ok, slope = jax.vmap(one)(batch)
    number = jnp.maximum(jnp.sum(ok), 1).astype(value.dtype)
    return jnp.sum(value) / number, jax.tree.map(lambda x: jnp.sum(x, axis=0) / number, slope)


class Pool(NamedTuple):
    """Samples of one number of endmembers, both geometries, with the errors of all candidates."""

    fields: dict[str, np.ndarray]
    vertices: np.ndarray
    levels: np.ndarray
    errors: np.ndarray
    regret: np.ndarray
    family: np.ndarray
    source: np.ndarray


@jax.jit
def _contexts(scores: Any, scene: Any) -> jax.Array:
    return jnp.stack([jax.vmap(lambda a, b, k=k: context(a, b, k))(scores, scene) for k in (False, True)], axis=1)


def _pool(group: Measured, learning: Learning) -> Pool:
    frames, scenes = group.frames, len(group.rule)
    pixels = frames.points.shape[2]
    some = np.random.default_rng(0).permutation(pixels)[: learning.pixels]
    reference = group.reference.reshape(scenes, pixels, -1)[:, some]
    contexts = np.asarray(_contexts(group.scores, group.scene))
    rows: list[dict[str, Any]] = []
    for g in (0, 1):
        lift = frames.lift[:, g]
        M = lift @ lift.transpose(0, 2, 1)
        M = M + 1e-9 * np.trace(M, axis1=1, axis2=2)[:, None, None] * np.eye(M.shape[1], dtype=M.dtype)
        part = slice(g * HALF, (g + 1) * HALF)
        none = np.full((scenes, HALF), np.inf, np.float32)
        errors = [group.armse[:, :HALF], none, none] if g == 0 else [none, group.armse[:, 8:16], group.armse[:, 16:]]
        stacked = np.nan_to_num(np.stack(errors, axis=1), nan=1.0, posinf=np.inf).clip(_FLOOR)
        rows.append(
            {
                "points": frames.points[:, g][:, some], "lift": lift, "root": np.linalg.cholesky(M).astype(np.float32),
                "height": frames.height[:, g], "noise": frames.noise[:, g], "context": contexts[:, g],
                "scaled": np.full(scenes, g == 1), "reference": reference, "endmembers": group.endmembers,
                "vertices": frames.vertices[:, part], "levels": group.spectra[:, part].sum(axis=3), "errors": stacked,
                "regret": np.log(stacked.min(axis=(1, 2)) / group.armse.min(axis=1).clip(_FLOOR)),
                "family": group.family, "source": group.source,
            }
        )  # fmt: skip
    whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    rest = {name: whole.pop(name) for name in ("vertices", "levels", "errors", "regret", "family", "source")}
    return Pool(whole, **rest)


def _batch(pool: Pool, rows: np.ndarray, random: np.random.Generator) -> Sample:
    """Draw a start for every row, the better the likelier."""
    best = np.log(pool.errors[rows].min(axis=1))
    chance = np.exp(-3 * (best - best.min(axis=1, keepdims=True)))
    chance /= chance.sum(axis=1, keepdims=True)
    start = np.asarray([random.choice(HALF, p=p) for p in chance])
    mode = pool.errors[rows][np.arange(len(rows)), :, start].argmin(axis=1).astype(np.int32)
    weight = np.exp(-np.maximum(pool.regret[rows] - 0.2, 0)).astype(np.float32)
    given = {name: x[rows] for name, x in pool.fields.items()}
    return Sample(**given, start=pool.vertices[rows, start], level=pool.levels[rows, start], mode=mode, weight=weight)


@jax.jit
def _pair_features(s: Sample) -> jax.Array:
    def one(s: Sample) -> jax.Array:
        return joint.pair_features(joint.facets_of(s.start, s.height), _geometry(s))[0]

    return jax.vmap(one)(s)


def train_joint(
    key: jax.Array, groups: Groups, left: tuple[int, ...], learning: Learning, say: str = ""
) -> joint.JointWeights:
    """Train the joint equilibrium on scenes of all families but those left out, without test minerals."""
    random = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1)))
    pools = {count: _pool(group, learning) for count, group in groups.items()}
    rows = {
        count: np.nonzero(~np.isin(p.family, left) & (p.source != TEST) & (p.regret < 1.2))[0]
        for count, p in pools.items()
    }
    seen = []
    for count, p in pools.items():
        x = np.asarray(_pair_features(_batch(p, random.choice(rows[count], 64), random)))
        x = x[:, ~np.eye(count, dtype=bool)].reshape(-1, x.shape[-1])
        seen.append(x[np.isfinite(x).all(axis=1)])
    weights = joint.init(key, jnp.asarray(np.concatenate(seen)))
    size = learning.batch
    total = learning.epochs * sum(len(r) // size for r in rows.values())
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            optax.warmup_cosine_decay_schedule(0.0, learning.joint_rate, min(20, total // 4), max(total, 1)),
            weight_decay=1e-3,
        ),
    )
    update = jax.jit(lambda slope, state, layers: optimiser.update(slope, state, layers))
    state, values = optimiser.init(weights.layers), []
    for epoch in range(learning.epochs):
        plan = []
        for count, r in rows.items():
            shuffled = random.permutation(r)
            plan += [(count, shuffled[i : i + size]) for i in range(0, len(r) - size + 1, size)]
        random.shuffle(plan)  # type: ignore[arg-type]
        for count, some in plan:
            value, slope = _slope(weights, _batch(pools[count], some, random), learning)
            with jax.numpy_dtype_promotion("standard"):
                change, state = update(slope, state, weights.layers)
            weights = weights._replace(layers=optax.apply_updates(weights.layers, change))
            values.append(float(value))
        if say and (epoch + 1) % 4 == 0:
            print(f"{say} joint, epoch {epoch + 1}: loss {np.mean(values[-len(plan) :]):.4f}", flush=True)
    return weights


class Moved(NamedTuple):
    """Refined spectra (S, 2, R, B) of scenes, their errors (S, 3), scores and shapes, and how the solve went."""

    spectra: np.ndarray
    armse: np.ndarray
    msad: np.ndarray
    scores: candidates.Scores
    shape: Any
    converged: np.ndarray
    steps: np.ndarray
    radius: np.ndarray


@jax.jit
def move_scene(weights: OperatorWeights, cube: jax.Array, s: Measured, first: jax.Array) -> tuple[Moved, jax.Array]:
    """Refine one scene: `first` (24,) are the predictions of the choice before."""
    valid = jnp.ones(cube.shape[:2], bool)
    frames = s.frames
    best = jnp.stack(
        [jnp.argmin(first[:HALF]), HALF + jnp.argmin(jnp.minimum(first[HALF : 2 * HALF], first[2 * HALF :]))]
    )
    starts = s.spectra[best]

    def one(g: jax.Array, start: jax.Array, extra: jax.Array) -> tuple[Any, ...]:
        scene = joint.Geometry(frames.points[g], frames.height[g], frames.noise[g], valid.reshape(-1), g == 1, extra)
        vertices, trace = joint.equilibrium(weights.joint, scene, frames.vertices[best[g]])
        radius = joint.spectral_radius(weights.joint, scene, vertices)
        E = jnp.maximum(jnp.matmul(vertices, frames.lift[g], precision="highest"), 0)
        level = jnp.sum(start, axis=1) / jnp.maximum(jnp.sum(E, axis=1), 1e-12)
        E = jnp.where(g == 1, E * level[:, None], E)
        ok = trace.converged & jnp.all(jnp.isfinite(E)) & jnp.all(jnp.max(E, axis=1) > 0)
        return jnp.where(ok, E, start), trace, radius

    contexts = jnp.stack([context(s.scores, s.scene, k) for k in (False, True)])
    E, trace, radius = jax.lax.map(lambda entry: one(*entry), (jnp.arange(2), starts, contexts))
    scores = candidates.measure(jnp.stack([E, starts, starts]), cube, valid)
    scores = scores._replace(instability=s.scores.instability[best])
    shapes = []
    for g in (0, 1):
        vertices = jnp.matmul(E[g], lapack.pinv(frames.lift[g]), precision="highest")
        facets = jnp.nan_to_num(lapack.inverse(vertices), posinf=0.0, neginf=0.0).T
        shapes.append(shape_scores(frames.points[g], frames.noise[g], facets, jnp.max(E[g], axis=1), valid, bool(g)))
    shape = jax.tree.map(lambda *x: jnp.stack(x), *shapes)
    answers = (
        (E[0], least_squares.fcls(cube, E[0])),
        (E[1], least_squares.scaled_nnls(cube, E[1])[0]),
        (E[1], least_squares.soft_nnls(cube, E[1])[0]),
    )
    errors = [error_of(e, a, s.reference, s.endmembers) for e, a in answers]
    armse, msad = (jnp.stack(x) for x in zip(*errors, strict=True))
    return Moved(E, armse, msad, scores, shape, trace.converged, trace.steps, radius), best


def move(
    weights: Mapping[int, OperatorWeights],
    of_test: OperatorWeights,
    groups: Groups,
    first: np.ndarray,
) -> dict[int, Moved]:
    """Refine all scenes, each family (index) by its own weights, and those of test minerals by `of_test`.

    `first` (S, 24) are the predictions of the choice before (`choice.cost`), in the order of the groups.
    """
    out, offset = {}, 0
    for count, group in groups.items():
        rows = []
        for i in range(len(group.rule)):
            family = int(group.family[i])
            cube = drawn(group, i).cube
            scene = jax.tree.map(lambda x, i=i: x[i], group)
            operator = of_test if group.source[i] == TEST else weights[family]
            rows.append(jax.tree.map(np.asarray, move_scene(operator, cube, scene, first[offset + i])[0]))
        offset += len(group.rule)
        out[count] = jax.tree.map(lambda *x: np.stack(x), *rows)
    return out


def last_table(groups: Groups, moved: dict[int, Moved]) -> Table:
    """Return the table of the 27 ways."""
    parts = []
    for count, group in groups.items():
        m = moved[count]
        both = lambda a, b: np.concatenate([a, b], axis=1)  # noqa: E731
        scores = jax.tree.map(both, group.scores, m.scores)
        shape = jax.tree.map(both, group.frames.shape, m.shape)
        x = np.asarray(_features(scores, group.scene, shape, group.rule, True))
        parts.append(_table(group, x, scores, both(group.armse, m.armse), both(group.msad, m.msad), _WAYS_LAST))
    return Table(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def learn(
    seed: int,
    groups: Groups,
    learning: Learning,
    left: tuple[int, ...],
    say: str = "",
    part: str | None = None,
) -> tuple[OperatorWeights, Table, dict[int, Moved], int]:
    """Train the whole operator without the families left out.

    The joint equilibrium is trained on the scenes of the first seed, both choices on all.

    The last choice learns how good spectra are that the equilibrium moved. On the scenes that the equilibrium itself
    was trained on they are too good, so that two more equilibria are trained, each without half of the families, which
    move that half (cross-fitting). The families left out and scenes of test minerals are moved by the equilibrium that
    is kept.

    `part` is the start of the names of three files that keep the equilibria; those that are there are not trained
    again.

    Returns:
        The operator, the table of all ways, what moved, and the CPU seconds of all of it, kept parts included.
    """
    begun, spent = time.process_time(), list[int]()
    keys = jax.random.split(jax.random.key(seed), 3)
    table = first_table(groups)
    used = ~np.isin(table.family, left) & (table.source != TEST)
    first = train_choice(keys[0], table, used, learning)
    _report(say + " first choice", first, table, left)

    def trained(name: str, key: jax.Array, without: tuple[int, ...]) -> OperatorWeights:
        path = None if part is None else Path(f"{part}_{name}.npz")
        if path is not None and path.exists():
            kept, made = files.read(path)
            spent.append(made.seconds)
            return OperatorWeights(first, kept.joint, first)
        begun = time.process_time()
        operator = OperatorWeights(
            first, train_joint(key, of_first_seed(groups), without, learning, f"{say} {name}"), first
        )
        if path is not None:
            files.save(path, operator, files.Provenance("", seed, "", "", "", round(time.process_time() - begun)))
        return operator

    whole = trained("whole", keys[1], left)
    rest = [f for f in range(len(generator.FAMILIES)) if f not in left]
    movers = dict.fromkeys(left, whole)
    for number in (0, 1):
        half = tuple(rest[number::2])
        movers |= dict.fromkeys(half, trained(f"half_{number}", jax.random.fold_in(keys[1], number + 1), left + half))
    predicted = np.asarray(jax.vmap(choice.cost)(choose(first, table)[1]))
    moved = move(movers, whole, groups, predicted)
    table = last_table(groups, moved)
    last = train_choice(keys[2], table, used, learning)
    _report(say + " last choice", last, table, left)
    return OperatorWeights(first, whole.joint, last), table, moved, round(time.process_time() - begun + sum(spent))


def _report(text: str, weights: choice.ChoiceWeights, table: Table, left: tuple[int, ...]) -> None:
    way = np.asarray(choose(weights, table)[0])
    scenes = np.arange(len(way))
    ratio = table.error[scenes, way] - table.error[scenes, table.rule]
    out = np.isin(table.family, left)
    for name, some in (("left out", out), ("test minerals", ~out & (table.source == TEST))):
        if some.any():
            r = ratio[some]
            oracle = np.exp((table.error[some].min(axis=1) - table.error[scenes, table.rule][some]).mean())
            print(
                f"{text}, {name}: {np.exp(r.mean()):.3f} of the rule (oracle {oracle:.3f}), "
                f"worst {np.exp(r.max()):.2f}, harmed {np.mean(r > np.log(1.05)):.3f}", flush=True,
            )  # fmt: skip

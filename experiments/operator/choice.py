"""Learn which candidate to choose, and judge it on families and minerals that it never saw.

    python -m experiments.operator.choice_data -o FOLDER
    python -m experiments.operator.choice FOLDER [--quick] [-o results]

A small network over the 24 ways to unmix of `choice_data` (a set network: the same layers for every way, mean and
maximum over all of them as context) predicts log aRMSE of each way, up to a constant of the scene, and its standard
deviation, from scores that need no truth. Features are ratios and logarithms, clipped: none is a size. Trained on
Gaussian likelihood and on the expected log error of a soft choice; the way with the lowest prediction is chosen.

Rows: the choice of `select_endmembers`; the learned choice; the best single way, chosen on the same training scenes;
and the oracle. "family left out": each family judged by networks trained on all others. "other minerals": scenes of
test minerals of all families, by networks trained on training minerals and random spectra. The aRMSE is compared with
that of `select_endmembers`, as geometric mean, worst, and share of scenes harmed by more than 5 %.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dequnmix_jax.datasets import generator
from dequnmix_jax.endmembers import candidates, selection
from experiments.defaults.selection_weights import NAMES, pick
from experiments.operator.choice_data import SOURCES
from experiments.shared import results_table

Array = np.ndarray

_FLOOR = 1e-3
"""aRMSE below which ways do not differ: nobody needs fractions to a tenth of a percent."""

_LARGEST = 2.5
"""Log error above the best way's from which ways are equally bad."""


@dataclass(frozen=True)
class Settings:
    """Where the measured scenes lie; networks of an ensemble, their width, and steps of training."""

    folder: Path | None = None
    networks: int = 3
    width: int = 24
    steps: int = 400
    rate: float = 3e-3
    decay: float = 1e-3


class Data(NamedTuple):
    """Scenes: features (S, W, F), log aRMSE (S, W), entry chosen by `select_endmembers`, family and source (S,)."""

    features: Array
    error: Array
    chosen: Array
    family: Array
    source: Array


def features_of(scores: dict[str, Array], scene: dict[str, Array]) -> Array:
    """Return the features (S, W, F) of the ways from scores (S, C) and those of scenes; none depends on a size."""
    half = len(candidates.CANDIDATES) // 2

    def ways(x: Array) -> Array:  # the ways with a soft sum have the spectra, and the scores, of those under the cone
        return np.concatenate([x, x[:, half:]], axis=1)

    def log(x: Array, least: float = 1e-9) -> Array:
        return np.log(np.maximum(np.nan_to_num(x, nan=1.0, posinf=1.0), least))

    error, angle = ways(log(scores["error"])), ways(log(scores["angle"]))
    floor = 0.5 * log(scene["floor"], 1e-14)
    floors = np.concatenate([np.repeat(floor[:, :1], half, 1), np.repeat(floor[:, 1:], 2 * half, 1)], axis=1)
    volume = ways(np.nan_to_num(scores["volume"]))
    of_way = [
        np.clip(error - error.min(axis=1, keepdims=True), 0, 3),
        np.clip(error - floors, -1, 5),
        np.clip(angle - angle.min(axis=1, keepdims=True), 0, 3),
        np.clip(volume - np.median(volume, axis=1, keepdims=True), -3, 3),
        np.clip(ways(log(scores["instability"], 1e-4)), -8, 0) / 3,
        np.clip(np.nan_to_num(ways(scores["purity"])), 0, 1),
        np.clip(ways(log(scores["shared"])) - error, -2, 2),
    ]
    lowest = error[:, :half].min(axis=1), error[:, half:].min(axis=1)
    of_scene = [
        np.clip(lowest[0] - lowest[1], -1, 3),
        np.clip(log(scores["shared"])[:, :half].min(axis=1) - lowest[1], -1, 3),
        np.clip(lowest[0] - floor[:, 0], -1, 5),
        np.clip(floor[:, 0], -9, 0) / 3,
        np.clip(log(scene["variability"], 1e-4), -9, 1) / 3,
        (scene["beyond"] >= 1).astype(float),
        (scene["lacking"][:, 0] >= 1).astype(float),
    ]
    kinds = np.zeros((3 * half, 8))
    for i in range(3 * half):
        candidate = candidates.CANDIDATES[i if i < 2 * half else i - half]
        kinds[i, candidates.METHODS.index(candidate.method)] = 1
        kinds[i, 4] = candidate.purified
        kinds[i, 5 + i // half] = 1
    scenes, number = error.shape
    repeated = [np.repeat(x[:, None], number, axis=1) for x in of_scene]
    tiled = np.broadcast_to(kinds[None], (scenes, number, kinds.shape[1]))
    return np.concatenate([np.stack(of_way + repeated, axis=-1), tiled], axis=-1).astype(np.float32)


def with_rule(features: Array, chosen: Array) -> Array:
    """Add what `select_endmembers` chooses as a feature: to depart from it must pay."""
    rule = np.zeros((*features.shape[:2], 1), features.dtype)
    rule[np.arange(len(chosen)), chosen] = 1
    return np.concatenate([features, rule], axis=-1)


def load(folder: Path) -> Data:
    """Read the scenes of all families."""
    parts = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            if str(file["generator"]) != generator.fingerprint():
                raise SystemExit(f"{path} was made by another generator; remove it and repeat `choice_data`.")
            content = {name: file[name] for name in file}
        scores = {name.removeprefix("score/"): x for name, x in content.items() if name.startswith("score/")}
        scene = {name.removeprefix("scene/"): x for name, x in content.items() if name.startswith("scene/")}
        decided = pick(
            candidates.Scores(**{k: jnp.asarray(v) for k, v in scores.items()}),
            candidates.SceneScores(**{k: jnp.asarray(v) for k, v in scene.items()}),
            selection.Weights(),
        )
        error = np.log(np.nan_to_num(content["armse"], nan=1.0).clip(_FLOOR))
        name = path.stem.rsplit("_", 2)[0]
        parts.append(
            Data(
                with_rule(features_of(scores, scene), np.asarray(decided.entry)), error, np.asarray(decided.entry),
                np.full(len(error), name), np.asarray(SOURCES)[content["source"]],
            )
        )  # fmt: skip
    return Data(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def init(key: jax.Array, inputs: int, width: int) -> list[tuple[jax.Array, jax.Array]]:
    """Draw the weights of the layers."""
    sizes = [(inputs, width), (width, width), (3 * width, width), (width, 2)]
    keys = jax.random.split(key, len(sizes))
    return [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]


def apply(weights: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return predicted log error, mean zero over the ways, and log standard deviation, (S, W) each."""
    (a, p), (b, q), (c, r), (d, s) = weights
    h = jax.nn.gelu(jax.nn.gelu(x @ a + p[None, None]) @ b + q[None, None])
    pooled = jnp.concatenate([h.mean(axis=1), h.max(axis=1)], axis=-1)
    pooled = jnp.broadcast_to(pooled[:, None], (*h.shape[:2], pooled.shape[-1]))
    out = jax.nn.gelu(jnp.concatenate([h, pooled], axis=-1) @ c + r[None, None]) @ d + s[None, None]
    return out[..., 0] - out[..., 0].mean(axis=1, keepdims=True), jnp.clip(out[..., 1], -4.0, 2.0)


def objective(weights: Any, x: jax.Array, error: jax.Array, used: jax.Array) -> jax.Array:
    """Return the mean over the used scenes of the negative log likelihood and the expected log error of the choice."""
    predicted, spread = apply(weights, x)
    error = jnp.minimum(error - error.min(axis=1, keepdims=True), _LARGEST)
    target = error - error.mean(axis=1, keepdims=True)
    likelihood = (0.5 * jnp.square((target - predicted) / jnp.exp(spread)) + spread).mean(axis=1)
    chance = jax.nn.softmax(-4 * predicted, axis=1)
    expected = jnp.sum(chance * error, axis=1)
    return jnp.sum(used * (likelihood + 2 * expected)) / jnp.sum(used)


def train(key: jax.Array, x: jax.Array, error: jax.Array, used: jax.Array, settings: Settings) -> Any:
    """Train one network on the used scenes (S,)."""
    optimiser = optax.adamw(optax.cosine_decay_schedule(settings.rate, settings.steps), weight_decay=settings.decay)
    weights = init(key, x.shape[-1], settings.width)

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        weights, state = carry
        value, slope = jax.value_and_grad(objective)(weights, x, error, used)
        update, state = optimiser.update(slope, state, weights)
        return (optax.apply_updates(weights, update), state), value

    (weights, _), _ = jax.lax.scan(step, (weights, optimiser.init(weights)), None, length=settings.steps)
    return weights


def choose(data: Data, used: Array, seed: int, settings: Settings) -> tuple[Array, Array]:
    """Return the entry that an ensemble trained on the used scenes chooses on every scene, and the predictions."""
    mean, deviation = data.features[used].mean(axis=(0, 1)), data.features[used].std(axis=(0, 1)) + 1e-3
    x, error = jnp.asarray((data.features - mean) / deviation), jnp.asarray(data.error, jnp.float32)
    keys = jax.random.split(jax.random.key(seed), settings.networks)
    predicted = np.asarray(_predicted(keys, x, error, jnp.asarray(used, jnp.float32), replace(settings, folder=None)))
    return predicted.argmin(axis=1), predicted


@partial(jax.jit, static_argnames="settings")  # one program for all folds
def _predicted(keys: jax.Array, x: jax.Array, error: jax.Array, used: jax.Array, settings: Settings) -> jax.Array:
    """Return the mean prediction (S, W) of networks trained on the used scenes."""
    fitted = jax.vmap(lambda key: apply(train(key, x, error, used, settings), x)[0])(keys)
    return jnp.mean(fitted, axis=0)


def main(settings: Settings, folder: Path) -> Path:
    """Judge the learned choice and write the table."""
    assert settings.folder is not None
    data = load(settings.folder)
    scenes = np.arange(len(data.family))
    start = data.error[scenes, data.chosen]
    rows: list[dict[str, Any]] = []

    def add(judged: str, rule: str, entry: Array, some: Array) -> None:
        ratio = (data.error[scenes, entry] - start)[some]
        rows.append({
            "judged on": judged, "rule": rule, "scenes": int(some.sum()),
            "aRMSE / select_endmembers, geometric mean": float(np.exp(ratio.mean())),
            "worst": float(np.exp(ratio.max())),
            "harmed by more than 5 %": float((ratio > np.log(1.05)).mean()),
        })  # fmt: skip
        print(results_table.line(rows[-1]), flush=True)

    oracle = data.error.argmin(axis=1)
    left_out, single = np.zeros(len(scenes), int), np.zeros(len(scenes), int)
    for seed, family in enumerate(dict.fromkeys(data.family.tolist())):
        used = data.family != family
        left_out[~used] = choose(data, used, seed, settings)[0][~used]
        single[~used] = data.error[used].mean(axis=0).argmin()
    other = data.source == "test"
    minerals = choose(data, ~other, 100, settings)[0]
    fixed = np.full(len(scenes), data.error[~other].mean(axis=0).argmin())
    everything = np.ones(len(scenes), bool)
    for judged, some, learned, best in (
        ("family left out", everything, left_out, single),
        ("other minerals", other, minerals, fixed),
    ):
        add(judged, "learned choice", learned, some)
        add(judged, "best single way: " + NAMES[int(best[some][0])], best, some)
        add(judged, "oracle", oracle, some)
    for family in dict.fromkeys(data.family.tolist()):
        add(f"left out: {family}", "learned choice", left_out, data.family == family)
        add(f"left out: {family}", "oracle", oracle, data.family == family)
    note = f"{len(scenes)} scenes, generator {generator.fingerprint()}. {settings.networks} networks, {settings.steps} "
    note += f"steps, width {settings.width}."
    return results_table.write(
        folder, "choice", rows, "python -m experiments.operator.choice FOLDER", note, "One run, one seed for each fold."
    )


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of `choice_data`")
    parser.add_argument("-o", dest="output", type=Path, default=Path("results"))
    parser.add_argument("--quick", action="store_true", help="one network, few steps")
    given = parser.parse_args()
    whole = Settings(given.folder)
    main(replace(whole, networks=1, steps=20) if given.quick else whole, given.output)

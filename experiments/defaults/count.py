"""How many endmembers: train the rule of `learned.count` on generated scenes, and judge it on families left out.

    python -m experiments.defaults.count [--quick] [--ship] [-o results]

Two of three families of the generator are for the design: the weights are fitted on them, R = 2 to 12, with training
minerals and random spectra; their ridge is the best in leaving out one of these families after the other. Every third
family is only reported, with test minerals, R = 2 to 10. Rows and columns of each scene are cut at random (34 to 56 by
34 to 52 pixels), and 50 to 120 bands or every second of them remain. Then the scenes of known number, once.

`exact` and `within one`: shares of the scenes; `bias`: mean of found less true; numbers of single criteria are bounded
to 2 to 15, as those of the rule. `in range`: share of the scenes whose number lies in the interval of 90 %. `--ship`
writes the weights into the package.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.endmembers.counting import MOST, Criteria, Evidence, measure
from dequnmix_jax.learned import count as rule
from experiments.shared import results_table
from experiments.shared import scenes as known_scenes

REPORTED = generator.FAMILIES[1::3]
DESIGN = tuple(family for family in generator.FAMILIES if family not in REPORTED)
DRAWN = generator.SceneShape(56, 52, 120, 0)

KNOWN: dict[str, tuple[str, float | None, int]] = {
    "dc1": ("dc1", None, 5),
    "dc1, 30 dB": ("dc1", 30.0, 5),
    "misicnet_sim1": ("misicnet_sim1", None, 6),
    "misicnet_sim1, 30 dB": ("misicnet_sim1", 30.0, 6),
    "samson": ("samson_zhu", None, 3),
    "hysu": ("hysu", None, 6),
}
"""Scenes, their noise in dB and their numbers: of HySU five materials of targets and the grass; its background varies.
"""


@dataclass(frozen=True)
class Settings:
    """Sizes of the corpora.

    Attributes:
        draws, counts: of the design, for each family.
        reported, reported_counts: the same for the families left out.
        design, families: names.
        known: names of scenes of known number.
        ridges: that are compared.
        seed: of the scenes.
    """

    draws: int = 8
    counts: tuple[int, ...] = tuple(range(2, 13))
    reported: int = 6
    reported_counts: tuple[int, ...] = tuple(range(2, 11))
    design: tuple[str, ...] = DESIGN
    families: tuple[str, ...] = REPORTED
    known: tuple[str, ...] = tuple(KNOWN)
    ridges: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    seed: int = 1


SETTINGS = Settings()
QUICK = Settings(2, (2, 3, 4), 1, (3,), ("smooth", "blocks"), ("matern",), (), (1e-3,))


class Row(NamedTuple):
    """A measured scene."""

    family: str
    true: int
    evidence: Evidence
    criteria: Criteria


def corpus(families: tuple[str, ...], counts: tuple[int, ...], draws: int, sources: tuple[str, ...], seed: int) -> list:
    """Draw and measure scenes."""
    rows = []
    for true in counts:
        size = DRAWN._replace(count=true)
        for family in families:
            for draw in range(draws):
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), true), draw)
                scene = generator.draw(key, family, size, sources[draw % len(sources)])
                rng = np.random.default_rng([seed, true, generator.FAMILIES.index(family), draw])
                cube = _cut(rng, np.asarray(scene.cube), np.asarray(scene.abundances))
                rows.append(Row(family, true, *measure(cube, None)))
        print(f"{true} endmembers: {len(rows)} scenes", flush=True)
    return rows


def _cut(rng: np.random.Generator, cube: np.ndarray, abundances: np.ndarray) -> np.ndarray:
    """Return a part of a scene that holds all materials, and some of its bands."""
    rows, columns = int(rng.integers(34, 57)), int(rng.integers(34, 53))
    top, left = int(rng.integers(0, 57 - rows)), int(rng.integers(0, 53 - columns))
    if abundances[top : top + rows, left : left + columns].max(axis=(0, 1)).min() < 0.1:
        rows, columns, top, left = 56, 52, 0, 0
    bands, step = int(rng.integers(50, 121)), int(rng.choice([1, 1, 2]))
    first = int(rng.integers(0, 121 - bands))
    return cube[top : top + rows, left : left + columns, first : first + bands : step]


def table(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return features (S, MOST - 2, F) and true numbers (S,); the last features repeat where bands are few."""
    features = [rule.features(row.evidence)[: MOST - 2] for row in rows]
    filled = [np.pad(x, ((0, MOST - 2 - len(x)), (0, 0)), mode="edge") for x in features]
    return np.stack(filled), np.asarray([row.true for row in rows])


def fit(features: np.ndarray, true: np.ndarray, ridge: float) -> rule.CountWeights:
    """Fit the logistic regression of "there is one more than k" over all k up to the true number, by Newton's method.

    mean over scenes of the log-likelihood of the true number, less ridge |w|^2.
    """
    k = np.arange(rule.FEWEST, rule.FEWEST + features.shape[1])
    used = (true[:, None] >= k[None]).reshape(-1)
    more = (true[:, None] > k[None]).reshape(-1)[used].astype(np.float64)
    flat = features.reshape(-1, features.shape[-1])[used]
    mean, scale = np.median(flat, axis=0), flat.std(axis=0) + 1e-3
    x = np.clip((flat - mean) / scale, -4, 4)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = 2 * ridge * np.eye(x.shape[1])
    penalty[-1, -1] = 1e-9
    w = np.zeros(x.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (p - more) / len(true) + penalty @ w
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x / len(true) + penalty, gradient)
        w = w - step
        if np.abs(step).max() < 1e-6:
            break
    return rule.CountWeights(mean, scale, w[:-1], float(w[-1]))


def found(weights: rule.CountWeights, rows: list[Row]) -> np.ndarray:
    """Return number, low and high (S, 3) of the rule."""
    return np.asarray([rule.decide(rule.probabilities(weights, row.evidence, MOST)) for row in rows])


def figures(labels: dict[str, Any], numbers: np.ndarray, rows: list[Row], inside: Any = np.nan) -> dict[str, Any]:
    """Return a row of the table."""
    wrong = numbers - np.asarray([row.true for row in rows])
    return labels | {
        "scenes": len(rows),
        "exact": float(np.mean(wrong == 0)),
        "within one": float(np.mean(np.abs(wrong) <= 1)),
        "bias": float(np.mean(wrong)),
        "in range": float(np.mean(inside)),
    }


def of_rule(labels: dict[str, Any], numbers: np.ndarray, rows: list[Row]) -> dict[str, Any]:
    """Return a row of the table for the rule, from number, low and high (S, 3)."""
    true = np.asarray([row.true for row in rows])
    return figures(labels, numbers[:, 0], rows, (numbers[:, 1] <= true) & (true <= numbers[:, 2]))


def left_out(rows: list[Row], ridge: float) -> np.ndarray:
    """Return number, low and high of the rule on every family, fitted on all others."""
    features, true = table(rows)
    families = np.asarray([row.family for row in rows])
    answers = np.zeros((len(rows), 3), int)
    for family in dict.fromkeys(families):
        out = families == family
        weights = fit(features[~out], true[~out], ridge)
        answers[out] = found(weights, [row for row, mine in zip(rows, out, strict=True) if mine])
    return answers


def main(settings: Settings, folder: Path, ship: bool = False) -> Path:
    """Train and judge the rule, and write `count.csv` and `count.md`."""
    print("design")
    design = corpus(settings.design, settings.counts, settings.draws, ("training", "random"), settings.seed)
    crossed = {ridge: left_out(design, ridge) for ridge in settings.ridges}
    true = np.asarray([row.true for row in design])
    ridge = max(crossed, key=lambda value: float(np.mean(np.abs(crossed[value][:, 0] - true) <= 1)))
    weights = fit(*table(design), ridge)
    if ship:
        target = Path(dq.__file__).parent / "data" / "count.npz"
        arrays = {name: np.asarray(value, np.float32) for name, value in weights._asdict().items()}
        origin = results_table.origin() | {"generator": generator.fingerprint(), "seed": str(settings.seed)}
        made = "python -m experiments.defaults.count --ship; " + ", ".join(f"{k} {v}" for k, v in origin.items())
        np.savez(target, **arrays, provenance=np.asarray(made))
    print("reported")
    reported = corpus(settings.families, settings.reported_counts, settings.reported, ("test",), settings.seed + 1)
    answers = found(weights, reported)
    rows = [of_rule({"scenes of": f"design, each family left out, ridge {ridge:g}", "rule": "learned"},
                    crossed[ridge], design)]  # fmt: skip
    rows.append(of_rule({"scenes of": "families left out, test minerals", "rule": "learned"}, answers, reported))
    for name in Criteria._fields:
        numbers = np.clip([getattr(row.criteria, name) for row in reported], rule.FEWEST, MOST)
        rows.append(figures({"scenes of": "families left out, test minerals", "rule": name}, numbers, reported))
    for label, values in (("family", settings.families), ("true", settings.reported_counts)):
        for value in values:
            mine = [getattr(row, label) == value for row in reported]
            part = [row for row, kept in zip(reported, mine, strict=True) if kept]
            name = value if label == "family" else f"R = {value}"
            rows.append(of_rule({"scenes of": f"left out: {name}", "rule": "learned"}, answers[mine], part))
    said = []
    for name in settings.known:
        scene, snr, number = KNOWN[name]
        cube = np.asarray(known_scenes.scene(scene, snr, None)[0])
        count = rule.count_endmembers(cube, weights=weights)
        one = [Row(name, number, None, count.criteria)]  # type: ignore[arg-type]
        rows.append(of_rule({"scenes of": name, "rule": "learned"}, np.asarray([count[:3]]), one))
        said.append(f"{name} (true: {number}): {rule.reason(count)}")
    note = "\n\n".join([(__doc__ or "").split("\n\n", 2)[2].strip(), *said])
    command = "python -m experiments.defaults.count"
    return results_table.write(folder, "count", rows, command, note, kind="Shares of scenes.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("--ship", action="store_true", help="write the weights into the package")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    given = parser.parse_args()
    print(main(QUICK if given.quick else SETTINGS, given.output, given.ship))

"""How many endmembers: train the rule of `learned.count` on generated scenes, and judge it on families left out.

    python -m experiments.defaults.count [--quick] [--ship] [-o results]

Two of three families of the generator are for the design: the weights are fitted on them, R = 2 to 12, with training
minerals and random spectra; their ridge is the best in leaving out one of these families after the other. Every third
family is only reported, with test minerals, R = 2 to 10. Rows and columns of each scene are cut at random (34 to 56 by
34 to 52 pixels), and 50 to 120 bands or every second of them remain. Two of three scenes of the design, and every
second reported one, are `roughened`: each pixel's spectrum varies in shape by 0.3 to 5 % in 6 to 20 random directions,
and noise with a correlation of 0.5 to 0.97 between bands is added. Then the scenes of known number.

How it came about: a first rule, from scenes that were not roughened and without features relative to the tail of the
curves, was within one on 86 % of the families left out and found 14 endmembers on Samson and 11 on HySU. The roughened
scenes and these features were added because of that, so that Samson and HySU are no longer unseen.

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

    draws: int = 6
    counts: tuple[int, ...] = tuple(range(2, 13))
    reported: int = 4
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
    rough: bool


def corpus(
    families: tuple[str, ...], counts: tuple[int, ...], draws: int, sources: tuple[str, ...], seed: int, plain: int
) -> list[Row]:
    """Draw and measure scenes; every `plain`-th draw is not roughened."""
    rows = []
    for true in counts:
        size = DRAWN._replace(count=true)
        for family in families:
            for draw in range(draws):
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), true), draw)
                scene = generator.draw(key, family, size, sources[draw % len(sources)])
                rng = np.random.default_rng([seed, true, generator.FAMILIES.index(family), draw])
                cube = _cut(rng, np.asarray(scene.cube), np.asarray(scene.abundances))
                rough = draw % plain != 0
                cube = roughened(rng, cube) if rough else cube
                rows.append(Row(family, true, *measure(cube, None), rough))
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


def roughened(rng: np.random.Generator, cube: np.ndarray) -> np.ndarray:
    """Return a scene whose spectra vary in shape from pixel to pixel, with noise that is correlated between bands.

    y (1 + s sum_k k^-p f_k c_k) + noise: f_k fields of random smoothness over the pixels, c_k over the bands.
    """
    rows, columns, bands = cube.shape
    number, decay = int(rng.integers(6, 21)), rng.uniform(0.3, 1.5)
    change = np.zeros(cube.shape)
    for k in range(1, number + 1):
        field = smooth(rng, (rows, columns), np.exp(rng.uniform(np.log(0.2), np.log(8))))
        change += k**-decay * field[:, :, None] * smooth(rng, (1, bands), bands / rng.uniform(3, 20))[0]
    change *= np.exp(rng.uniform(np.log(0.003), np.log(0.05))) / change.std()
    noise = rng.standard_normal(cube.shape)
    together = rng.uniform(0.5, 0.97)
    for band in range(1, bands):
        noise[..., band] = together * noise[..., band - 1] + (1 - together**2) ** 0.5 * noise[..., band]
    level = 10 ** (-rng.uniform(25, 60) / 20) * np.sqrt(np.mean(np.square(cube, dtype=np.float64)))
    return (cube * (1 + change) + level * noise).astype(np.float32)


def smooth(rng: np.random.Generator, shape: tuple[int, int], length: float) -> np.ndarray:
    """Return a Gaussian field of variance one, white noise smoothed over a length on a torus."""
    f2 = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1])[None] ** 2
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * np.exp(-2 * (np.pi * length) ** 2 * f2)).real
    return field / max(float(field.std()), 1e-12)


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
    design = corpus(settings.design, settings.counts, settings.draws, ("training", "random"), settings.seed, 3)
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
    reported = corpus(settings.families, settings.reported_counts, settings.reported, ("test",), settings.seed + 1, 2)
    answers = found(weights, reported)
    rows = [of_rule({"scenes of": f"design, each family left out, ridge {ridge:g}", "rule": "learned"},
                    crossed[ridge], design)]  # fmt: skip
    rows.append(of_rule({"scenes of": "families left out, test minerals", "rule": "learned"}, answers, reported))
    for name in Criteria._fields:
        numbers = np.clip([getattr(row.criteria, name) for row in reported], rule.FEWEST, MOST)
        rows.append(figures({"scenes of": "families left out, test minerals", "rule": name}, numbers, reported))
    for kind in (False, True):
        mine = [row.rough == kind for row in reported]
        part = [row for row, kept in zip(reported, mine, strict=True) if kept]
        name = f"left out: {'roughened' if kind else 'as they are'}"
        if part:
            rows.append(of_rule({"scenes of": name, "rule": "learned"}, answers[mine], part))
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
        one = [Row(name, number, None, count.criteria, False)]  # type: ignore[arg-type]
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

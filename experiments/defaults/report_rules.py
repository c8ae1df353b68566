"""Rules of the report, chosen on generated scenes: which areas count, when residuals have structure, which names hold.

* areas: targets of known area (squares of 0.7 to 4.3 pixels) are put into generated scenes, of whose five materials 5
  to 2 have an endmember beside the target's; and the materials of generated scenes with small targets.
* residual: scenes unmixed by their endmembers, and by all but one of them.
* names: endmembers by VCA, compared with all minerals of the generator.

Reference answers are used here alone, to choose constants of `results.areas`, `results.verdicts`, `libraries.naming`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.conventions import REFLECTANCE
from dequnmix_jax.datasets.generator.materials import minerals
from dequnmix_jax.results.areas import FACTOR, above_error
from dequnmix_jax.results.unexplained import structure
from experiments.shared import results_table

SIZE = dq.datasets.SceneShape(64, 64, 60, 5)
_fcls = jax.jit(dq.abundances.fcls)
_vca = jax.jit(dq.endmembers.vca, static_argnums=2)


@dataclass(frozen=True)
class Settings:
    """Which scenes.

    Attributes:
        scenes: of each family.
        target_families, area_families, residual_families, name_families: of the generator.
        factors: before the residual in the rule of areas.
        shares: thresholds of structure.
        angles: radians, thresholds of names.
    """

    scenes: int = 8
    target_families: tuple[str, ...] = ("farmland", "bundles", "blocks", "smooth", "compound")
    area_families: tuple[str, ...] = ("targets", "curves")
    residual_families: tuple[str, ...] = (
        "smooth", "farmland", "blocks", "squares", "impure", "bundles", "shapes", "coloured", "bilinear",
    )  # fmt: skip
    name_families: tuple[str, ...] = (
        "smooth", "farmland", "targets", "bundles", "coloured", "impure", "squares", "shapes",
    )  # fmt: skip
    factors: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0)
    shares: tuple[float, ...] = (0.2, 0.3, 0.5, 0.6)
    angles: tuple[float, ...] = (0.01, 0.03, 0.05, 0.08, 0.15)


QUICK = Settings(1, ("farmland",), ("targets",), ("smooth",), ("smooth",), (0.0, 1.0), (0.5,), (0.05,))


def implanted(settings: Settings) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield a label, cube, endmembers (the target's first) and the true fractions of targets put into scenes."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE.rows, : SIZE.columns]
    for family in settings.target_families:
        for number in range(settings.scenes):
            key = jax.random.fold_in(jax.random.key(191), number)
            scene = dq.datasets.draw(key, family, SIZE, "training")
            other = dq.datasets.draw(jax.random.fold_in(key, 1), family, SIZE, "training")
            target, truth = np.asarray(other.endmembers)[0], np.zeros((SIZE.rows, SIZE.columns))
            for _ in range(6):
                side, top, left = rng.uniform(0.7, 4.3), *rng.uniform(2, SIZE.rows - 7, 2)
                inside = [
                    np.clip(np.minimum(grid + 1, first + side) - np.maximum(grid, first), 0, 1)
                    for grid, first in ((rows, top), (columns, left))
                ]
                truth = np.maximum(truth, inside[0] * inside[1])
            level = 1 + 0.05 * rng.standard_normal((SIZE.rows, SIZE.columns, 1))
            cube = (1 - truth[..., None]) * np.asarray(scene.cube) + truth[..., None] * target * level
            for known in (5, 4, 3, 2):
                spectra = np.concatenate([target[None], np.asarray(scene.endmembers)[:known]])
                yield f"targets, {known} of 5 others known", cube.astype(np.float32), spectra, truth[..., None]


def drawn(settings: Settings) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield a label, cube, endmembers and true fractions of scenes of the generator."""
    for family in settings.area_families:
        for number in range(settings.scenes):
            scene = dq.datasets.draw(jax.random.fold_in(jax.random.key(19), number), family, SIZE, "training")
            yield "materials of scenes", *(np.asarray(x) for x in (scene.cube, scene.endmembers, scene.abundances))


def areas(settings: Settings) -> list[dict[str, Any]]:
    """Return the errors of areas by the factor before the residual."""
    found: dict[tuple[str, float], list[float]] = {}
    for source in (implanted(settings), drawn(settings)):
        for label, cube, spectra, truth in source:
            maps = np.asarray(_fcls(jnp.asarray(cube), jnp.asarray(spectra, jnp.float32)))
            residual = np.sqrt(np.mean((cube - maps @ spectra) ** 2, axis=2))
            mask, light = np.ones(residual.shape, bool), np.ones(residual.shape)
            for factor in settings.factors:
                sums = above_error(maps, light, factor / FACTOR * residual, mask, spectra, REFLECTANCE)
                for r in range(truth.shape[2]):
                    true = truth[..., r].sum()
                    if true > 0.4:  # square pixels, the smallest target
                        found.setdefault((label, factor), []).append(abs(float(sums[r]) - true) / true)
    rows = []
    for (label, factor), errors in found.items():
        rows.append(
            {"question": "areas", "case": label, "rule": f"factor {factor:g}", "number": len(errors)}
            | {"median relative error": float(np.median(errors)), "share right": float(np.mean(np.less(errors, 0.5)))}
        )
    return rows


def residuals(settings: Settings) -> list[dict[str, Any]]:
    """Return how often a share of the residual in one direction distinguishes complete from incomplete endmembers."""
    whole, less = [], []
    for family in settings.residual_families:
        for number in range(settings.scenes):
            scene = dq.datasets.draw(jax.random.fold_in(jax.random.key(7), number), family, SIZE, "training")
            cube, spectra = np.asarray(scene.cube), np.asarray(scene.endmembers)
            rare = int(np.argsort(np.asarray(scene.abundances).mean(axis=(0, 1)))[1 + number % 2])
            for known, shares in ((spectra, whole), (np.delete(spectra, rare, axis=0), less)):
                maps = np.asarray(_fcls(scene.cube, jnp.asarray(known)))
                ones = np.ones(cube.shape[:2])
                measured = structure(cube, maps, known, ones, ones > 0)
                assert measured is not None
                shares.append(measured["share"])
    return [
        {"question": "residual", "case": "all endmembers, and one left out", "rule": f"share {share:g}"}
        | {"number": len(whole) + len(less), "median relative error": float("nan")}
        | {"share right": float(np.mean(np.less(whole, share)) + np.mean(np.greater_equal(less, share))) / 2}
        for share in settings.shares
    ]


def names(settings: Settings) -> list[dict[str, Any]]:
    """Return how often the nearest library spectrum within an angle is of the right mineral."""
    library, _, kinds, wavelengths = minerals()
    angles, right = [], []
    for family in settings.name_families:
        for number in range(settings.scenes):
            scene = dq.datasets.draw(jax.random.fold_in(jax.random.key(77), number), family, SIZE, "training")
            found = np.asarray(_vca(jax.random.key(77), scene.cube, SIZE.count))
            here = np.stack([np.interp(np.asarray(scene.wavelengths), wavelengths, spectrum) for spectrum in library])
            to_library, to_truth = (_angles(found, other) for other in (here, np.asarray(scene.endmembers)))
            true = np.asarray(scene.rows)[to_truth.argmin(axis=1)]
            angles += to_library.min(axis=1).tolist()
            right += [kinds[a] == kinds[b] for a, b in zip(to_library.argmin(axis=1), true, strict=True)]
    rows = []
    for low, high in zip((0.0, *settings.angles[:-1]), settings.angles, strict=True):
        for label, first in ((f"up to {high:g}", 0.0), (f"{low:g} to {high:g}", low)):
            chosen = (np.array(angles) > first) & (np.array(angles) <= high)
            if chosen.any():
                rows.append(
                    {"question": "names", "case": f"{len(angles)} endmembers by VCA", "rule": f"angle {label}"}
                    | {"number": int(chosen.sum()), "median relative error": float("nan")}
                    | {"share right": float(np.mean(np.array(right)[chosen]))}
                )
    return rows


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    units = [spectra / np.linalg.norm(spectra, axis=1, keepdims=True) for spectra in (first, second)]
    return np.arccos(np.clip(units[0] @ units[1].T, -1, 1))


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `report_rules.csv` and `report_rules.md`."""
    rows = [*areas(settings), *residuals(settings), *names(settings)]
    for row in rows:
        print(results_table.line(row), flush=True)
    note = (
        "Areas: fractions count where s a_r d_r exceeds the factor times the residual; right is an error below a half. "
        "Residual: a further endmember is suggested from this share on. Names: right is the mineral of the nearest "
        f"true endmember. {settings}"
    )
    return results_table.write(
        folder, "report_rules", rows, "python -m experiments.defaults.report_rules", note, "One run."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)

"""Areas that a map supports: the fractions of a material where it explains more than the model leaves unexplained."""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np

from dequnmix_jax.conventions import SCALED
from dequnmix_jax.escaping import shown
from dequnmix_jax.results.maps import referred
from dequnmix_jax.scenes.scene import Array

AREAS = "areas.csv"
"""File of the mean fractions and areas in the folder of a result."""

FACTOR = 2.0
"""Before the residual. On generated scenes with implanted targets of known area, of whose five other materials 5 to 2
have an endmember, the area is right within a half in 27 % of 160 cases if all fractions count, in 65, 78 and 76 % with
the factors 1, 2 and 5; of all materials of scenes with small targets in 95 % if all count, and in 78, 73 and 66 %, most
of the others because they are thin everywhere (`experiments/defaults/report_rules.py`)."""

# Bytes of a block of rows.
_BLOCK = 32 * 2**20

MEANING = (
    "Fractions count where the part of the pixel that no other endmember explains, s a_r d_r, is larger than twice "
    "what the model leaves unexplained, |y - s a E|; d_r is the distance of spectrum r from the mixtures of the others "
    "(with mesma: of the others in the pixel)."
)
"""What is counted, for summary.json and the report."""


def distinctness(endmembers: Array, convention: str) -> Array:
    """Return the distance d_r of each spectrum from what the others explain, (R,) float64, units of the spectra.

    The others explain their mixtures: with fractions that sum to one, the affine hull of their spectra; where
    brightness is free ("scaled"), its linear span.

    Args:
        endmembers: (R, B), in the units of the scene.
        convention: of the fractions; under "scaled" the spectra are divided by their maxima first.
    """
    spectra = np.asarray(referred(endmembers, convention), np.float64)
    distances = np.zeros(len(spectra))
    for r, spectrum in enumerate(spectra):
        others = np.delete(spectra, r, axis=0)
        origin = others[0] if convention != SCALED and len(others) else np.zeros_like(spectrum)
        directions = (others - origin).T
        offset = spectrum - origin
        if directions.size:
            offset = offset - directions @ np.linalg.lstsq(directions, offset, rcond=None)[0]
        distances[r] = np.linalg.norm(offset)
    return distances


def distinctness_in_models(fractions: Array, endmembers: Array, convention: str) -> Array:
    """Return `distinctness` of each spectrum among those of its own pixel, (n, R) float64, 0 for those that are absent.

    "mesma" takes few spectra of a library for a pixel. The whole library holds variants of one material, and often more
    spectra than bands, so that mixtures of all the others reach every spectrum.

    Args:
        fractions: (n, R), 0 for spectra that the model of the pixel does not hold.
        endmembers, convention: as for `distinctness`.
    """
    models, which = np.unique(fractions != 0, axis=0, return_inverse=True)
    distances = np.zeros(models.shape)
    for row, there in zip(distances, models, strict=True):
        row[there] = distinctness(endmembers[there], convention) if there.any() else 0
    return distances[which.reshape(-1)]


def above_error(
    abundances: Array,
    brightness: Array,
    residual: Array,
    mask: Array,
    endmembers: Array,
    convention: str,
    by_model: bool = False,
) -> Array:
    """Return the sums over the valid pixels of the fractions above their error, (R,) float64; parts of a scene add up.

    A fraction counts where s a_r d_r > 2 |y - s a E|_2: a misfit of twice the size of the residual, all of it in the
    direction of the material, could not make the fraction by itself. Below, the fraction may be a bias, such as that of
    a material that the endmembers do not hold. No background of the scene (a mode of the map) is subtracted: on
    generated scenes that made no rule better, and removed materials that are thin everywhere.

    Args:
        abundances: (H, W, R).
        brightness: (H, W), s.
        residual: (H, W), root mean square of y - s a E over the bands.
        mask: (H, W) bool, True where the pixel is valid.
        endmembers: (R, B), in the units of the scene.
        convention: of the fractions.
        by_model: the fractions are of "mesma" (`distinctness_in_models`).
    """
    height, width, count = abundances.shape
    limit = FACTOR * np.sqrt(endmembers.shape[1])
    everywhere = None if by_model else distinctness(endmembers, convention)
    total = np.zeros(count)
    rows = max(1, _BLOCK // max(width * count * 8, 1))
    for first in range(0, height, rows):
        block = slice(first, first + rows)
        inside = mask[block]
        fractions = np.asarray(abundances[block][inside], np.float64)
        light = np.asarray(brightness[block][inside], np.float64)
        unexplained = limit * np.asarray(residual[block][inside], np.float64)
        distances = distinctness_in_models(fractions, endmembers, convention) if everywhere is None else everywhere
        counts = light[:, None] * fractions * distances > unexplained[:, None]
        total += np.where(counts, fractions, 0).sum(axis=0)
    return total


def areas_record(means: Sequence[float], area: float | None) -> dict[str, Any]:
    """Return the entry "above_error" of summary.json.

    Args:
        means: R, sums of `above_error` divided by the number of valid pixels.
        area: of all valid pixels in square metres, or None.
    """
    return {
        "above_error": {
            "meaning": MEANING,
            "mean_abundances": [float(mean) for mean in means],
            "areas_m2": None if area is None else [float(mean) * area for mean in means],
        }
    }


def deviation_of_mean(deviations: Array, mask: Array) -> Array:
    """Return the standard deviation of the mean fractions, sqrt(sum sd^2) / N, (R,): of noise independent by pixel.

    Args:
        deviations: (H, W, R), standard deviations.
        mask: (H, W) bool.
    """
    inside = np.asarray(deviations[mask], np.float64)
    return np.asarray(np.sqrt(np.square(inside).sum(axis=0)) / max(len(inside), 1))


def areas_table(summary: Mapping[str, Any], deviations: Array | None = None) -> str:
    """Return a table of mean fractions and areas as CSV text, one row an endmember.

    Args:
        summary: of the result.
        deviations: (R,), of the mean fractions (`deviation_of_mean`), or None.
    """
    area, valid = summary.get("pixel_area_m2"), int(summary["valid_pixels"])
    means, above = summary["mean_abundances"], summary.get("above_error")
    columns = {"endmember": list(summary["endmembers"]), "mean_fraction": means}
    if deviations is not None:
        columns["mean_fraction_sd"] = [float(value) for value in deviations]
    if above is not None:
        columns["mean_fraction_above_error"] = above["mean_abundances"]
    if isinstance(area, int | float):
        whole = area * valid
        columns |= {
            name.replace("mean_fraction", "area_m2"): [whole * value for value in column]
            for name, column in columns.items()
            if name != "endmember"
        }
    return csv_text(columns)


def csv_text(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return columns as CSV: numbers in six digits, empty cells for None, names without control characters."""

    def cell(value: Any) -> str:
        if value is None:
            return ""
        return f"{value:.6g}" if isinstance(value, float) else shown(str(value))

    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return file.getvalue()

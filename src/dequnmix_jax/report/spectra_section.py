"""Section of a report about spectra: the endmembers beside the nearest spectra of a library."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.matching import Matches
from dequnmix_jax.report import charts, html
from dequnmix_jax.report.html import Coloured, Number, Row
from dequnmix_jax.results.library_names import nearest_in
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Array


class Matched(NamedTuple):
    """Library spectra nearest to the endmembers.

    Attributes:
        matches: names and angles, the nearest first.
        spectra: (R, B), the nearest library spectrum of each, scaled to its endmember; NaN where unknown.
        library: its name.
        notes: assumptions about it.
    """

    matches: Matches
    spectra: Array
    library: str
    notes: tuple[str, ...]


def matched(result: Result, library: Library) -> Matched:
    """Find the nearest spectra of a library, resampled to the bands of the scene.

    Raises:
        InputError: the scene has no wavelengths, or nothing in the library can be compared.
    """
    matches, here = nearest_in(result.endmembers, result.wavelengths_nm, result.fwhm_nm, library)
    named = matches.rows[:, :1] >= 0
    spectra = np.where(named, here.spectra[matches.rows[:, 0]].astype(np.float64), np.nan)
    known = np.isfinite(spectra)
    # The spectral angle ignores brightness, so each library spectrum is drawn at the height that fits best.
    products = [np.where(known, a * spectra, 0).sum(axis=1) for a in (result.endmembers, spectra)]
    spectra = spectra * (products[0] / np.where(products[1] > 0, products[1], 1))[:, None]
    name = "the library" if library.source is None else library.source.name
    return Matched(matches, spectra, name, here.notes)


NO_NAME = "no library spectrum, because it is zero in every band"
"""What is said of an endmember without a match."""


def degrees(nearest: Matched, row: int, rank: int = 0) -> str:
    """Return the angle between an endmember and a match of it, in degrees."""
    return f"{np.degrees(nearest.matches.angles[row, rank]):.1f}°"


def spectra_part(result: Result, nearest: Matched | None) -> str:
    """Return the section with the curves and the table of matches."""
    unit = str(result.summary.get("unit") or "units of the scene")
    drawn = charts.spectra_chart(
        result.endmembers, result.names, result.wavelengths_nm, unit, None if nearest is None else nearest.spectra
    )
    words = "Spectra of " + ", ".join(result.names) + f", {unit}."
    if nearest is None:
        detail = "one line for each endmember"
        table = html.paragraph(
            "No library was given; with --library FILE (ENVI, CSV or USGS text) this section names the nearest spectra."
        )
    else:
        detail = f"dashed: the nearest spectrum of {nearest.library}, scaled to the height of its match"
        phrases = [
            f"{name}: " + (f"{names[0]} at {angles[0]:.3f} radians" if names[0] else NO_NAME)
            for name, names, angles in zip(result.names, nearest.matches.names, nearest.matches.angles, strict=True)
        ]
        words += " Nearest in the library: " + "; ".join(phrases) + "."
        table = _match_table(result.names, nearest)
    return html.section(
        "spectra", "Spectra of the endmembers", html.themed_figure("Spectra", detail, drawn, words), table
    )


def _match_table(names: Sequence[str], nearest: Matched) -> str:
    matches = nearest.matches
    rows: list[Row] = [
        [Coloured(name, i) if rank == 0 else "", matches.names[i][rank], Number(f"{matches.angles[i, rank]:.4f}"),
         Number(degrees(nearest, i, rank)), Number(f"{matches.bands[i, rank]}")]
        for i, name in enumerate(names)
        for rank in range(len(matches.names[i]))
        if matches.names[i][rank]
    ]  # fmt: skip
    rows += [[Coloured(name, i), NO_NAME, "", "", ""] for i, name in enumerate(names) if not matches.names[i][0]]
    heads: Row = ["endmember", "library spectrum", Number("angle (rad)"), Number("degrees"), Number("bands compared")]
    return html.table(f"The nearest spectra of {nearest.library}, by spectral angle", heads, rows)

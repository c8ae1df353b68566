"""Results on disk and in memory.

* `Result`: abundances, endmembers and the record of an unmixing; `read_result` reads a folder back. Endmembers are in
  the units of the scene; `Result.convention` says whether fractions are of these or of spectra divided by their maxima
  (module `conventions`), and `Result.in_convention` converts.
* `judge`: what the measurements of a result say about it, one sentence each.
* `zones`, `write_zones`: mean fractions and areas inside polygons.
* `write`: write maps, spectra and `summary.json` of an estimate; `write_result` those of a `Result`. The module
  `score` compares them with a reference (`score.read_reference`: maps, or spectra of any library).
* `to_xarray`: a scene, a result or an estimate as an xarray Dataset.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.results import score
    from dequnmix_jax.results.in_polygons import write_zones, zones
    from dequnmix_jax.results.labelled import to_xarray
    from dequnmix_jax.results.result import Result, read_result
    from dequnmix_jax.results.verdicts import Verdict, judge
    from dequnmix_jax.results.writer import write, write_result

__all__ = [
    "Result",
    "Verdict",
    "judge",
    "read_result",
    "score",
    "to_xarray",
    "write",
    "write_result",
    "write_zones",
    "zones",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "results.in_polygons": ["write_zones", "zones"],
        "results.labelled": ["to_xarray"],
        "results.result": ["Result", "read_result"],
        "results.verdicts": ["Verdict", "judge"],
        "results.writer": ["write", "write_result"],
    },
    ["score"],
)

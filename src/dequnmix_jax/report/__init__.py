"""A result as a page and as pictures (extra "plots").

* `write_report(path, result)`: one HTML file with maps, spectra, convergence, warnings and configuration.
* `explore(result)`: in a notebook, the spectrum, fit and fractions of the pixel under the mouse (extra "explore").
* `plots`: single pictures as matplotlib figures.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.report.explorer import explore
    from dequnmix_jax.report.page import write_report

__all__ = ["explore", "write_report"]

__getattr__, __dir__ = attach(__name__, {"report.page": ["write_report"], "report.explorer": ["explore"]})

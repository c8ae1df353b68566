"""A result as a page and as pictures.

* `write_report`: one HTML file with maps, spectra, figures of convergence and what was chosen.
* `plots`: single pictures; needs matplotlib (extra "plots").
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.report.page import write_report

__all__ = ["write_report"]

__getattr__, __dir__ = attach(__name__, {"report.page": ["write_report"]})

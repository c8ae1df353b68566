"""RELAB's powders, weighed and measured in the laboratory: the competitors and DEQ-Unmix side by side.

    python -m experiments.comparison.relab [--quick] [-o results]

Intimate mixtures of three powders: light meets many grains, so that mixing is not linear; the truth is weighed, not
computed from the cube. Mass is not area: no method that mixes spectra linearly, with or without a brightness, can be
exact here. Columns:
`experiments.shared.side_by_side`.
"""

from pathlib import Path

from experiments.shared import methods, results_table, side_by_side

SETTINGS = methods.Settings(scenes=("hapke_relab",))
QUICK = methods.quick("hapke_relab", crop=40, only=("VCA", "purified"))


def main(settings: methods.Settings, folder: Path) -> Path:
    """Run all and write `table_relab.csv` and `table_relab.md`."""
    about = "One cube; the seed draws the start and the random numbers of the method."
    return side_by_side.write(settings, folder, "table_relab", about)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)

"""Samson: the competitors and DEQ-Unmix side by side, unmixed once and compared with both of its references.

    python -m experiments.comparison.samson [--quick] [-o results]

The references are 0.23 apart: that of Zhu measures abundances of spectra at maximum one (best published aRMSE 0.0274;
DEQ-Unmix mSAD 0.0279), that of Rasti is FCLS on three pixels of the scene. Neither was measured on the ground, and no
method can be near both. The quick run uses a scene that needs no data. Columns:
`experiments.shared.side_by_side`.
"""

from pathlib import Path

from experiments.shared import methods, results_table, side_by_side

SETTINGS = methods.Settings(scenes=("samson",), packages=("samson",))
QUICK = methods.quick("hapke_relab", crop=40, only=("VCA", "purified"))


def main(settings: methods.Settings, folder: Path) -> Path:
    """Run all and write `table_samson.csv` and `table_samson.md`."""
    about = "One cube; the seed draws the start and the random numbers of the method."
    return side_by_side.write(settings, folder, "table_samson", about)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)

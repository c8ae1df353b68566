"""HySU: areas of ground targets measured with a tape, the only truth here that does not come from unmixing.

    python -m experiments.comparison.hysu [--quick] [-o results]

Squares of five materials on grass, with sides of 3, 2, 1, 0.5 and 0.25 m, and pixels of 0.7 m. `3 m` and so on: the
mean over the materials of |found - true| / true for the squares of that side; a material without a spectrum within
0.15 rad has no area and an error of 1. `area_error`: the mean over the three sides of at least one pixel, by which the
oracle decides. `found`: materials found. msad and the angles: to the image library of the data set, grass last. The
other columns: `experiments.shared.side_by_side`. CNNAEU and the 3-D MLM autoencoder take an hour or more: `--only` runs
others.
"""

from pathlib import Path

from experiments.shared import methods, results_table, side_by_side
from experiments.shared.hysu_areas import areas

SETTINGS = methods.Settings(scenes=("hysu",), layers=(), angles=6)
QUICK = methods.quick("hysu", crop=None, only=("VCA",))


def main(settings: methods.Settings, folder: Path) -> Path:
    """Run all and write `table_hysu.csv` and `table_hysu.md`."""
    about = "The abundances of pixels are unknown here, but the areas of the targets are known."
    return side_by_side.write(settings, folder, "table_hysu", about, areas)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)

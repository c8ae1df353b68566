"""Two synthetic scenes by other authors, shipped with the package: the competitors and DEQ-Unmix.

    python -m experiments.comparison.published_synthetic [--quick] [-o results]

DC1: five minerals, some pixels pure. The scene of MiSiCNet: six, no pixel pure, two of them nearly equal; DEQ-Unmix
takes up to a hundred steps per solve. The cubes are noise-free; the seed draws the noise. CNNAEU and the 3-D MLM
autoencoder take an hour or more: `--only` runs others. Columns: `experiments.shared.side_by_side`.
"""

from pathlib import Path

from experiments.shared import methods, results_table, side_by_side

SCENES = ("dc1, 30 dB", "misicnet_sim1, 30 dB")
SETTINGS = methods.Settings(scenes=SCENES, layers=(), angles=6)
QUICK = methods.quick("dc1, 30 dB", short=SCENES, only=("VCA",))


def main(settings: methods.Settings, folder: Path) -> Path:
    """Run all and write `table_known.csv` and `table_known.md`."""
    about = "The seed draws the noise, the start and the random numbers of the method."
    return side_by_side.write(settings, folder, "table_known", about)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)

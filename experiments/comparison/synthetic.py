"""The paper's synthetic scenes, and others that the seed draws: the competitors and DEQ-Unmix side by side.

    python -m experiments.comparison.synthetic [--quick] [-o results]

The recipe of the paper (`experiments.shared.variability`; DEQ-Unmix is published with an aRMSE of 0.0470 at 15 dB and
0.0441 at 30 dB) with noise of 15 and 30 dB. With the short list of methods: the recipe at 20 dB, without noise and
without variability, several levels of purity, a Matern field, and two nonlinear mixtures. The quick run takes a scene
that needs no data. Columns: `experiments.shared.side_by_side`.
"""

from pathlib import Path

from experiments.shared import methods, results_table, side_by_side

SHORT = (
    "recipe, 20 dB",
    "recipe, no noise",
    "recipe without variability, 30 dB",
    *(f"purity {purity:g}, 30 dB" for purity in (0.7, 0.8, 0.9, 1.0)),
    "Matern, 20 dB",
    "PPNM, 30 dB",
    "bilinear, 30 dB",
)

SETTINGS = methods.Settings(
    scenes=(
        "recipe, 15 dB",
        "recipe, 30 dB",
        *SHORT,
    ),
    short=SHORT,
    packages=("recipe, 15 dB", "recipe, 30 dB"),
    angles=4,
)
QUICK = methods.quick("varied, 15 dB", only=("VCA", "purified", "PnP-NLM, paper", "DEQ-Unmix, cone"))


def main(settings: methods.Settings, folder: Path) -> Path:
    """Run all and write `table_synthetic.csv` and `table_synthetic.md`."""
    return side_by_side.write(settings, folder, "table_synthetic", "The seed draws the scene and the start.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)

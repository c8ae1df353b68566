"""DC1, a synthetic scene of other authors that is shipped with the package: the competitors and DEQ-Unmix.

    python -m experiments.table_known [--quick] [-o results]

Five minerals, some pixels pure. The cube is noise-free; the seed draws the noise. The scene of MiSiCNet stands in
`experiments.blind_table`: two of its endmembers are all but equal, and DEQ-Unmix takes a hundred steps a solve there.
What the columns are: `experiments.side_by_side`.
"""

from pathlib import Path

from experiments import contenders, side_by_side, tables

SCENES = ("dc1, 30 dB",)
SETTINGS = contenders.Settings(
    scenes=SCENES,
    short=SCENES,
    angles=5,
    only=("VCA", "purified", "dq.start", "PnP-TV", "DeepTrans", "DEQ-Unmix, sum", "DEQ-Unmix, from"),
)
QUICK = contenders.quick("dc1, 30 dB", short=SCENES, only=("VCA",))


def main(settings: contenders.Settings, folder: Path) -> Path:
    """Run all and write `table_known.csv` and `table_known.md`."""
    about = "The seed draws the noise, the start and what the method draws."
    return side_by_side.write(settings, folder, "table_known", about)


if __name__ == "__main__":
    tables.command_line(__doc__, main, SETTINGS, QUICK)

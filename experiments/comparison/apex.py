"""Apex, and a semi-synthetic stand-in for it: the competitors and DEQ-Unmix side by side.

    python -m experiments.comparison.apex [--quick] [-o results]

The stand-in mixes the reference abundances and spectra of Apex again, with spectra that vary from pixel to pixel and
noise of 25 dB: it is not a measurement, and the head of the table says so. The measured scene follows if its file
(`dequnmix_jax.datasets`: apex) is in the folder DEQUNMIX_DATA; otherwise the note says so. Published on the
measured one: DEQ-Unmix aRMSE 0.1077, DeepTrans 0.1218. The quick run uses a scene that needs no data. Columns:
`experiments.shared.side_by_side`.
"""

from pathlib import Path

from experiments.shared import methods, results_table, side_by_side

SETTINGS = methods.Settings(scenes=("apex stand-in, 25 dB", "apex"), layers=(10,), angles=4)
QUICK = methods.quick("varied, 25 dB", only=("VCA", "purified"))


def main(settings: methods.Settings, folder: Path) -> Path:
    """Run all and write `table_apex.csv` and `table_apex.md`."""
    about = "The stand-in is semi-synthetic, not the measured Apex: its figures do not apply to Apex."
    return side_by_side.write(settings, folder, "table_apex", about)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)

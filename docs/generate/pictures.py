"""Make the two pictures of the README: the demo, and a report as a browser shows it.

    python docs/generate/pictures.py

The second needs a Chromium on the path.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import dequnmix_jax as dq
from dequnmix_jax.cli.main import main

IMAGES = Path(__file__).parents[1] / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1200, 1440


def demo(folder: Path) -> None:
    """Run the demo and keep its comparison."""
    assert main(["demo", "-o", str(folder / "demo")]) == 0
    shutil.copy(folder / "demo" / "comparison.png", IMAGES / "demo.png")


def report(folder: Path) -> None:
    """Unmix HySU by its library, and take a picture of the page, as docs/start/engineer.md does."""
    scene, reference = dq.datasets.registry.load("hysu")
    dq.io.write_scene(folder / "hysu.hdr", scene)
    library, page = folder / "targets.csv", folder / "hysu.html"
    with library.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["wavelength", *(name.replace("_", " ") for name in reference.names)])
        rows = zip(scene.wavelengths, reference.endmembers.T, strict=True)
        table.writerows([wavelength, *values] for wavelength, values in rows)
    words = ["unmix", folder / "hysu.hdr", "--endmembers", library, "--report", page, "-o", folder / "maps"]
    assert main([str(word) for word in words]) == 0
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"No browser is on the path; expected one of {', '.join(BROWSERS)}.")
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--blink-settings=preferredColorScheme=1"]
    picture = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={IMAGES / 'report.png'}", page.as_uri()]
    subprocess.run([browser, *flags, *picture], check=True, capture_output=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for make in (demo, report):
            make(Path(name))

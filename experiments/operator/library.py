"""Make the mineral spectra that come with the package, for generated scenes, from the USGS library of 1995.

    python -m experiments.operator.library [-o FILE]

Needs `usgs_1995_library.npz` in the folder that `DEQUNMIX_DATA` names. Three rules, none of which looks at a scene:

* Mixtures of minerals (a name with "+", "%" or "/", and desert varnish) are left out.
* Of spectra within 0.03 radians of each other the first in alphabetical order is kept.
* Each spectrum gets the name of its mineral: the first word of the specimen's name, without a prefix for an element or
  for ammonium, and with `RELATIVES` (varieties, synonyms, members of one solid solution, polymorphs of one clay) under
  one name. Training and test minerals are split by this name, so that two specimens or two varieties of a mineral are
  never on both sides.

Values are stored as whole numbers of 1/65535 of 1.05, that is to 8e-6 of reflectance.
"""

import argparse
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from dequnmix_jax.datasets import registry
from dequnmix_jax.io.atomic import replacing_file

SCALE = 1.05 / 65535
NEAREST = 0.03
SHIPPED = Path(str(files("dequnmix_jax"))) / "data" / "usgs_minerals.npz"

RELATIVES = {
    "alkali feldspar": ("adularia", "orthoclase", "microcline", "sanidine", "perthite", "celsian"),
    "plagioclase": ("albite", "oligoclase", "andesine", "labradorite", "bytownite", "anorthite"),
    "kaolinite": ("dickite", "nacrite", "halloysite", "endellite"),
    "serpentine": ("antigorite", "chrysotile", "lizardite"),
    "chlorite": ("clinochlore", "prochlorite", "thuringite", "cronstedtite", "cookeite"),
    "scapolite": ("dipyre", "marialite", "meionite", "mizzonite"),
    "orthopyroxene": ("bronzite", "enstatite", "hypersthene"),
    "clinopyroxene": ("acmite", "augite", "diopside", "fassaite", "hedenbergite", "jadeite", "pigeonite", "pyroxene"),
    "calcic amphibole": ("actinolite", "amphibole", "hornblende", "nephrite", "smaragdite", "tremolite", "uralite"),
    "sodic amphibole": ("glaucophane", "richterite", "riebeckite"),
    "other amphibole": ("anthophyllite", "cummingtonite", "holmquistite"),
    "garnet": ("almandine", "andradite", "grossular", "hydrogrossular", "pyrope", "spessartine", "uvarovite"),
    "olivine": ("monticellite", "tephroite"),
    "smectite": ("hectorite", "montmorillonite", "nontronite", "saponite", "sauconite"),
    "light mica": ("illite", "muscovite", "paragonite", "margarite", "lepidolite", "roscoelite"),
    "dark mica": ("annite", "biotite", "phlogopite", "siderophyllite", "clintonite"),
    "zeolite": ("analcime", "chabazite", "clinoptilolite", "heulandite", "laumontite", "mordenite", "natrolite",
                "scolecite", "stilbite"),
    "epidote": ("clinozoisite", "zoisite", "allanite"),
    "apatite": ("chlorapatite", "fluorapatite", "hydroxyl"),
    "goethite": ("limonite", "pitch", "ferrihydrite", "lepidocrosite"),
    "hematite": ("maghemite",),
    "alunite": ("ammonioalunite",),
    "tourmaline": ("elbaite",),
    "quartz": ("chalcedony", "chert", "opal"),
    "gypsum": ("bassanite", "anhydrite"),
    "titanium oxide": ("rutile", "brookite"),
    "rare earth oxide": ("europium", "neodymium", "praseodymium", "samarium"),
    "green leaf": ("aspen", "lawn", "maple", "walnut", "russian"),
    "needle": ("blue", "fir", "pinon", "juniper"),
    "dry plant": ("cheatgrass", "dry", "tumbleweed"),
    "shrub": ("blackbrush", "rabbitbrush", "sage", "saltbrush"),
}  # fmt: skip
_MINERAL = {name: group for group, names in RELATIVES.items() for name in names}


def mineral(specimen: str) -> str:
    """Return the mineral of a specimen's name, in lower case."""
    word = specimen.split()[0].lower().removeprefix("ammonio-")
    word = re.split(r"[_-]", word)[0]
    return _MINERAL.get(word, word)


def is_mixture(specimen: str) -> bool:
    """Return whether a specimen is a mixture of minerals by its name."""
    # After the first word a percentage is a range of one element ("10-20%").
    first = specimen.split()[0]
    return bool(re.search(r"[+%/]", first)) or first == "Desert_Varnish" or "%K" in specimen


def kept(spectra: np.ndarray, nearest: float) -> list[int]:
    """Return the rows that are more than `nearest` radians from every earlier row that is kept."""
    unit = spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
    rows: list[int] = []
    for row in range(len(unit)):
        if not rows or np.arccos(np.clip(unit[rows] @ unit[row], -1, 1)).min() > nearest:
            rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED)
    options = parser.parse_args(argv)
    spectra, names, wavelengths = registry.library(download=False)
    pure = [i for i in np.argsort(names, kind="stable") if not is_mixture(names[i])]
    rows = [pure[i] for i in kept(spectra[pure].astype(np.float64), NEAREST)]
    arrays = {
        "spectra": np.round(spectra[rows].astype(np.float64) / SCALE).astype(np.uint16),
        "scale": np.float64(SCALE),
        "names": np.asarray([names[i] for i in rows]),
        "minerals": np.asarray([mineral(names[i]) for i in rows]),
        "wavelengths_nm": wavelengths.astype(np.float32),
    }
    with replacing_file(options.output, overwrite=True) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    number = len(set(arrays["minerals"].tolist()))
    print(f"{len(rows)} spectra of {number} minerals, {options.output.stat().st_size:,} bytes: {options.output}")


if __name__ == "__main__":
    main()

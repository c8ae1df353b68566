"""`dequnmix match`: name the spectra of a result by the nearest ones of a library."""

import json
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.options import MatchOptions
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import npz
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.matching import match
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.libraries.resampling import resample
from dequnmix_jax.results import dataset
from dequnmix_jax.results.maps import endmember_names
from dequnmix_jax.training.words import plain


def read_spectra(path: Path) -> Library:
    """Return the endmembers of a folder or .nc that `dequnmix unmix` made, of a .npz, or of any spectral library.

    Raises:
        InputError: the file does not exist, or holds no spectra or no wavelengths.
    """
    inside = path / "estimate.npz"
    in_one = dataset.is_result(path)
    if path.suffix.lower() != ".npz" and not inside.is_file() and not in_one:
        if path.is_dir():
            raise InputError(f"{path} is a folder without estimate.npz; expected one that `dequnmix unmix` made.")
        return read_library(path)
    file = inside if inside.is_file() else path
    arrays = dataset.arrays_in(file)[0] if in_one else npz.load(file)
    for name in ("endmembers", "wavelengths_nm"):
        if name not in arrays:
            raise InputError(
                f"{file} holds no {name}; expected endmembers (R, B) with their wavelengths in nanometres. Without "
                "wavelengths in the scene nothing can be matched with a library."
            )
    spectra = arrays["endmembers"]
    names = arrays.get("names")
    if names is None or names.dtype.kind != "U" or names.shape != spectra.shape[:1]:
        labels = endmember_names(None, len(spectra))
    else:
        labels = tuple(names.tolist())
    return Library(labels, arrays["wavelengths_nm"], spectra, arrays.get("fwhm_nm"), source=file)


def print_matches(options: MatchOptions) -> None:
    """Print the nearest library spectra of each spectrum of a result."""
    estimate = read_spectra(options.spectra)
    library = read_library(
        options.library,
        wavelengths=options.wavelengths,
        fwhm=options.bandpass,
        units=options.units or "",
        nodata=options.nodata,
        scale=options.scale,
        sort=options.sort,
    )
    library = resample(library, estimate.wavelengths_nm, estimate.fwhm_nm if options.fwhm is None else options.fwhm)
    matches = match(estimate.spectra, library, count=min(options.count, len(library.names)))
    rows: list[dict[str, Any]] = [
        {"found": name, "rank": rank + 1, "library": named, "angle": float(angle), "bands": int(bands)}
        for name, *columns in zip(estimate.names, matches.names, matches.angles, matches.bands, strict=True)
        for rank, (named, angle, bands) in enumerate(zip(*columns, strict=True))
        if named
    ]
    ties = {name: int(ties) for name, ties in zip(estimate.names, matches.ties, strict=True) if ties > 1}
    if options.json:
        print(json.dumps(plain({"matches": rows, "ties": ties, "notes": list(library.notes)}), indent=2))
        return
    for note in library.notes:
        print(f"note: {shown(note)}")
    print(f"{'found':<24}{'library':<44}{'angle (rad)':>12}{'bands':>8}")
    for row in rows:
        label = shown(row["found"])[:22] if row["rank"] == 1 else ""
        print(f"{label:<24}{shown(row['library'])[:42]:<44}{row['angle']:>12.4f}{row['bands']:>8}")
    for name, names in zip(estimate.names, matches.names, strict=True):
        if not names[0]:
            print(f"note: {shown(name)} is zero in every band, as shade is, and gets no name.")
    for name, number in ties.items():
        print(f"note: {number} library spectra are equally near to {shown(name)}; the first of them is shown first.")

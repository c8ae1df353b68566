"""Files with a text header, and texts: ENVI images and libraries, tables, the USGS library, configurations."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.robustness.hostile_files.samples import CENTRES, CUBE, SPECTRA, B, H, W, perhaps
from experiments.robustness.mutations import Random, pick, spoil_bytes, spoil_text


def _listed(values: Any) -> str:
    return "{" + ",\n ".join(f"{value:.6g}" for value in values) + "}"


def make_envi(draw: Random, folder: Path) -> Path:
    """Make an ENVI image."""
    interleave = pick(draw, ("bsq", "bil", "bip"))
    axes = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    kind, code = pick(draw, (("f4", 4), ("i2", 2), ("u1", 1), ("f8", 5), ("u8", 15)))
    data = (CUBE * (1 if kind[0] == "f" else 200)).astype(kind).transpose(axes).tobytes()
    text = (
        f"ENVI\ndescription = {{\n made for a test}}\nsamples = {W}\nlines = {H}\nbands = {B}\nheader offset = 0\n"
        f"file type = ENVI Standard\ndata type = {code}\ninterleave = {interleave}\nbyte order = 0\n"
        f"map info = {{UTM, 1, 1, 500000, 5000000, 30, 30, 32, North, WGS-84, units=Meters}}\n"
        f"data ignore value = -9999\nreflectance scale factor = 1\nsaturation value = 65535\n"
        f"wavelength units = Nanometers\nwavelength = {_listed(CENTRES)}\nfwhm = {_listed(np.full(B, 10.0))}\n"
        f"bbl = {_listed(np.ones(B))}\n"
    )
    if draw.random() < 0.15:
        import gzip

        data = gzip.compress(data if draw.random() < 0.8 else bytes(50_000_000))
        text += "file compression = 1\n"
    header = spoil_text(draw, text) if draw.random() < 0.8 else perhaps(draw, text.encode())
    (folder / "s.hdr").write_bytes(header)
    (folder / "s.img").write_bytes(spoil_bytes(draw, data) if draw.random() < 0.25 else data)
    return folder / pick(draw, ("s.hdr", "s.img"))


def make_library(draw: Random, folder: Path) -> Path:
    """Make an ENVI spectral library."""
    spectra = np.random.default_rng(4).uniform(0.1, 0.9, (2, B)).astype("f4")
    text = (
        f"ENVI\nsamples = {B}\nlines = 2\nbands = 1\nheader offset = 0\nfile type = ENVI Spectral Library\n"
        f"data type = 4\ninterleave = bsq\nbyte order = 0\nwavelength units = Micrometers\n"
        f"spectra names = {{grass, metal}}\nreflectance scale factor = 1\ndata ignore value = -1\n"
        f"wavelength = {_listed(CENTRES / 1000)}\nfwhm = {_listed(np.full(B, 0.01))}\n"
    )
    (folder / "l.hdr").write_bytes(spoil_text(draw, text))
    (folder / "l.sli").write_bytes(perhaps(draw, spectra.tobytes()))
    return folder / pick(draw, ("l.sli", "l.hdr"))


def make_table(draw: Random, folder: Path) -> Path:
    """Make a library as a table."""
    mark = pick(draw, (",", ";", "\t", " "))
    rows = [mark.join(f"{value:.4f}" for value in (centre / 1000, *SPECTRA[:, i])) for i, centre in enumerate(CENTRES)]
    head = mark.join(("wavelength_um", "grass", "metal", pick(draw, ("fwhm", "water"))))
    (folder / "l.csv").write_bytes(perhaps(draw, spoil_text(draw, "\n".join((head, *rows)))))
    return folder / "l.csv"


def make_usgs(draw: Random, folder: Path) -> Path:
    """Make a library of the USGS as text."""
    values = "".join(f" {value:.7e}\n" for value in SPECTRA[0])
    text = f" splib07a Record=5932: Kaolinite ASDNGb AREF\n{values}"
    if draw.random() < 0.3:
        rows = "".join(f"  {c / 1000:.6f}  {v:.6g}  0.000000\n" for c, v in zip(CENTRES, SPECTRA[0], strict=True))
        text = (
            "USGS Digital Spectral Library splib06a\nClark and others 2007\n" + "\n" * 12 + f"Alunite\nhistory\n{rows}"
        )
    (folder / "splib07a_Kaolinite_ASDNGb_AREF.txt").write_bytes(perhaps(draw, spoil_text(draw, text)))
    for name, numbers in (("Wavelengths_ASD_0.35-2.5", CENTRES / 1000), ("Bandpass_(FWHM)_ASDNG", np.full(B, 0.01))):
        content = f" splib07a Record=1: {name}\n" + "".join(f" {value:.7e}\n" for value in numbers)
        data = spoil_text(draw, content) if draw.random() < 0.3 else content.encode()
        (folder / f"splib07a_{name}_x.txt").write_bytes(data)
    return folder / "splib07a_Kaolinite_ASDNGb_AREF.txt" if draw.random() < 0.8 else folder


def make_framed(draw: Random, folder: Path) -> Path:
    """Make an ENVI image with gains, frame offsets and wavelengths in its band names."""
    major, minor = (int(draw.integers(4)), 2), (3, int(draw.integers(4)))
    data = b"".join(
        bytes(major[0]) + b"".join(bytes(minor[0]) + run.tobytes() + bytes(minor[1]) for run in outer) + bytes(major[1])
        for outer in CUBE.transpose(0, 2, 1)
    )
    names = ", ".join(f"Band {i} ({centre:.2f} Nanometers)" for i, centre in enumerate(CENTRES, 1))
    text = (
        f"ENVI\nsamples = {W}\nlines = {H}\nbands = {B}\nheader offset = 0\ndata type = 4\ninterleave = bil\n"
        f"byte order = 0\nmajor frame offsets = {{{major[0]}, {major[1]}}}\n"
        f"minor frame offsets = {{{minor[0]}, {minor[1]}}}\nband names = {{{names}}}\n"
        f"data gain values = {_listed(np.full(B, 0.5))}\ndata offset values = {_listed(np.full(B, 0.1))}\n"
    )
    (folder / "s.hdr").write_bytes(spoil_text(draw, text) if draw.random() < 0.85 else text.encode())
    (folder / "s.img").write_bytes(spoil_bytes(draw, data) if draw.random() < 0.3 else data)
    return folder / "s.img"


def make_rows(draw: Random, folder: Path) -> Path:
    """Make a library as a table with a spectrum in each row, or with a column that counts the rows."""
    if draw.random() < 0.6:
        head = ",".join((*pick(draw, (("name", "class"), ("id",), ("Class", "Name", "id"))), *map(str, CENTRES)))
        texts = head.count(",") + 1 - B
        rows = [",".join((*[f"m{i}"] * texts, *(f"{value:.4f}" for value in row))) for i, row in enumerate(SPECTRA)]
    else:
        head = ",wavelength,grass"
        rows = [f"{i},{centre:.2f},{SPECTRA[0, i]:.4f}," for i, centre in enumerate(CENTRES)]
    (folder / "l.csv").write_bytes(perhaps(draw, spoil_text(draw, "\n".join((head, *rows)))))
    return folder / "l.csv"


def make_records(draw: Random, folder: Path) -> Path:
    """Make spectra of ECOSTRESS or of a Spectra Vista."""
    for name, row in (("a", SPECTRA[0]), ("b", SPECTRA[1])):
        if draw.random() < 0.7:
            head = f"Name: {name}\nType: rock\nFirst Column: X\nX Units: Wavelength (micrometers)\n"
            head += "Y Units: Reflectance (percentage)\n\n"
            rows = "\n".join(f"{c / 1000:.4f}\t{100 * v:.3f}" for c, v in zip(CENTRES, row, strict=True))
        else:
            head = f"/*** Spectra Vista SIG Data ***/\nname= {name}\ndata=\n"
            rows = "\n".join(f"{c:.1f} 9.1 4.5 {100 * v:.2f}" for c, v in zip(CENTRES, row, strict=True))
        text = head + rows
        (folder / f"{name}.txt").write_bytes(spoil_text(draw, text) if draw.random() < 0.7 else text.encode())
    return pick(draw, (folder, folder / "a.txt"))


_TOML = """# choices
[model]
gradient = "energy"
constraint = "cone"
width = 16
kernel = 3
prox = "none"
step = 1.0
[model.forward]
method = "anderson"
tolerance = 1e-5
max_steps = 100
[model.backward]
tolerance = "none"
[training]
epochs = 200
holdout = 0.5
subspace = "signal"
warm_start = true
[rates]
spread = 1.0
network = 1e-3
"""


def make_config(draw: Random, folder: Path) -> Path:
    """Make a configuration."""
    (folder / "c.toml").write_bytes(
        perhaps(draw, spoil_text(draw, _TOML)) if draw.random() < 0.97 else b"a=" + b"[" * 50_000
    )
    return folder / "c.toml"

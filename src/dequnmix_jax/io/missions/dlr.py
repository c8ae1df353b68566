"""Read EnMAP and DESIS products: a TIFF whose bands an XML file describes.

| | EnMAP (L1C, L2A) | DESIS (L1C, L2A) |
| --- | --- | --- |
| files | ...-METADATA.XML, ...-SPECTRAL_IMAGE.TIF (or _COG.TIF) | the same names, or .xml and .tif |
| bands | specific/bandCharacterisation/bandID | specific/bandCharacterisation/band |
| wavelength, nm | wavelengthCenterOfBand | wavelengthCenterOfBand |
| width, nm | FWHMOfBand | wavelengthWidthOfBand |
| value = DN gain + offset | GainOfBand, OffsetOfBand | gainOfBand, offsetOfBand |

Bands of EnMAP without data (water vapour) are marked bad when the values are read. Quality layers (QL_QUALITY_...) are
not applied; a note says so.

Reference:
    The public readers of EnMAP-Box (importenmapl1c), EnPT (metadata) and Orfeo / arcsi for DESIS; no product was at
    hand.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io import geotiff
from dequnmix_jax.io.bands import bands_to_use, spectral_axis
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source

_METADATA = re.compile(r"METADATA\.XML$", re.IGNORECASE)
_IMAGE = re.compile(r"SPECTRAL_IMAGE(?:_COG)?\.TIFF?$", re.IGNORECASE)
_LARGEST = 64 * 2**20
_CENTRE, _WIDTHS = "wavelengthCenterOfBand", ("FWHMOfBand", "wavelengthWidthOfBand")
_GAINS, _OFFSETS = ("GainOfBand", "gainOfBand"), ("OffsetOfBand", "offsetOfBand")

# Values without a measurement where the TIFF declares none (the products' LEVEL).
_MISSING = {"L2A": -32768.0, "L1C": 0.0}


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """Return the XML file and the TIFF of a product, given either of them or their folder; None for anything else.

    Raises:
        InputError: a folder with several products, or an XML file without its TIFF.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not _METADATA.search(path.name) and not _IMAGE.search(path.name):
        return None
    entries = sorted(entry for entry in folder.iterdir() if entry.is_file())
    described = [entry for entry in entries if _METADATA.search(entry.name)]
    images = [entry for entry in entries if _IMAGE.search(entry.name)]
    if path.is_dir():
        if len(described) == len(images) == 1:
            return described[0], images[0]
        if len(described) > 1 and images:
            names = ", ".join(entry.name for entry in described[:3])
            raise InputError(f"{path} holds {len(described)} products ({names}); expected one. Pass its METADATA.XML.")
        return None
    if _METADATA.search(path.name):
        stem = _METADATA.sub("", path.name)
        own = [entry for entry in images if _IMAGE.sub("", entry.name) == stem]
        if len(own) != 1:
            raise InputError(
                f"{path} has {len(own)} files {stem}SPECTRAL_IMAGE.TIF beside it; expected one. Copy the files of the "
                "product together."
            )
        return path, own[0]
    stem = _IMAGE.sub("", path.name)
    own = [entry for entry in described if _METADATA.sub("", entry.name) == stem]
    return (own[0], path) if len(own) == 1 else None


def _bands(path: Path) -> list[ElementTree.Element]:
    """Return the elements that describe the bands, in the order of the file."""
    size = path.stat().st_size
    if size > _LARGEST:
        raise InputError(
            f"{path} has {size} bytes, too many for the metadata of a product; expected at most {_LARGEST}."
        )
    raw = path.read_bytes()
    if b"<!ENTITY" in raw or b"<!DOCTYPE" in raw:
        raise InputError(f"{path} defines entities; expected the metadata of a product, which has none. Copy it again.")
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(
            f"{path} is not whole XML ({error}); expected the metadata of a product. Copy it again."
        ) from error
    found = [element for element in root.iter() if element.find(_CENTRE) is not None]
    if not found:
        raise InputError(f"{path} describes no bands ({_CENTRE}); expected the metadata of an EnMAP or DESIS product.")
    return found


def _numbers(bands: list[ElementTree.Element], names: tuple[str, ...], path: Path) -> Array | None:
    """Return a number of every band, or None if no band has one of these names."""
    texts = [next((text for name in names if (text := band.findtext(name))), None) for band in bands]
    if all(text is None for text in texts):
        return None
    try:
        return np.array([float(text or "") for text in texts])
    except ValueError:
        raise InputError(f"{path} holds {names[0]} that are not numbers; expected one number a band.") from None


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open the spectral image of a product.

    Args:
        path: the folder, the METADATA.XML or the SPECTRAL_IMAGE.TIF; needs the extra `geo`.
        options: nodata, scale and saturation apply to the stored numbers; a scale replaces the gains of the XML file.

    Returns:
        A Source with the wavelengths, widths, gains and offsets of the XML file, and the place of the TIFF.

    Raises:
        InputError: a file is missing or damaged, or the two describe other numbers of bands.
    """
    pair = pair_of(Path(path))
    if pair is None:
        raise InputError(
            f"{path} is no EnMAP or DESIS product; expected METADATA.XML and SPECTRAL_IMAGE.TIF. Copy both."
        )
    described, image = pair
    source = geotiff.open_image(image, replace(options, ignore=(), bands=None))
    elements = _bands(described)
    count = source.shape[2]
    notes = []
    if len(elements) < count:
        raise InputError(
            f"{described} describes {how_many(len(elements), 'band')} and {image.name} has {count}; expected the two "
            "to agree. Copy the files of one product together."
        )
    if len(elements) > count:
        notes.append(
            f"{described.name} describes {how_many(len(elements), 'band')}, of which the first {count} were taken."
        )
    elements = elements[:count]
    centres, gains, offsets = (_numbers(elements, names, described) for names in ((_CENTRE,), _GAINS, _OFFSETS))
    assert centres is not None  # `_bands` returns elements that have it
    widths = _numbers(elements, _WIDTHS, described)
    wavelengths, fwhm, length_notes = spectral_axis(centres, "nm", described.name, widths)
    notes += length_notes
    good, ignore_notes = bands_to_use(source.good_bands, wavelengths, count, options, str(image))
    level = next((word for word in _MISSING if word in image.name.upper()), "")
    if level == "L1C":
        notes.append("The file holds radiance, not reflectance.")
    quality = sorted(entry.name for entry in image.parent.iterdir() if "QL_QUALITY" in entry.name.upper())
    if quality:
        notes.append(f"The quality layers beside the image ({quality[0]}, ...) were not applied.")
    scale = source.scale
    if options.scale is None and gains is not None:
        offsets = np.zeros(count) if offsets is None else offsets
        if not (np.isfinite(gains) & np.isfinite(offsets) & (gains != 0)).all():
            raise InputError(
                f"{described} holds gains that are 0 or not finite; expected a number for each band. Pass scale to "
                "divide by (--scale NUMBER), which overrides them."
            )
        notes.append(
            f"Values were multiplied by {gains.min():g} to {gains.max():g} and {offsets.min():g} to {offsets.max():g} "
            "added, band by band, by GainOfBand and OffsetOfBand."
        )
        scale = None
    elif options.scale is not None:
        gains = offsets = None
    return replace(
        source,
        wavelengths=wavelengths,
        fwhm=fwhm,
        good_bands=good,
        nodata=_MISSING.get(level) if source.nodata is None else source.nodata,
        notes=(*source.notes, *notes, *ignore_notes),
        scale=scale,
        gains=source.gains if gains is None and options.scale is None else gains,
        offsets=source.offsets if gains is None and options.scale is None else offsets,
    )

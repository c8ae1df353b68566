"""Resample library spectra to the bands of a scene."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.libraries.library import Library, band_positions
from dequnmix_jax.scenes.scene import Array

_SIGMAS = 2.0 * math.sqrt(2.0 * math.log(2.0))  # full width at half maximum of a Gaussian, in standard deviations
_KNOWN = 0.88
"""Smallest share of a band's response that must lie on known samples: that of a Gaussian cut off at half its maximum on
one side. With less, the mean belongs to another wavelength."""

_ROUNDING = 1e-3
"""Tolerance at the ends of the library's range, as a share of the spacing of samples."""

_erf = np.frompyfunc(math.erf, 1, 1)


def resample(library: Library, wavelengths_nm: Any, fwhm_nm: Any = None) -> Library:
    r"""Return the library as measured by a sensor with other bands.

    r_b = sum_i w_bi x_i / sum_i w_bi,  w_bi = \int h_i(l) N(l; m_b, s_b) dl, over the known samples i. h_i are the hat
    functions of linear interpolation between the library's wavelengths, and N is a Gaussian about the band centre m_b,
    so r_b is the exact mean of the interpolated spectrum under the band's response. The library's own width is
    subtracted in quadrature: s_b = sqrt(F_b^2 - f(m_b)^2) / 2.3548, with F_b the FWHM of the band and f that of the
    library, 0 if unknown. If F_b is unknown or not above f, s_b = 0 and r_b is linear interpolation.

    Args:
        library: its wavelengths must increase.
        wavelengths_nm: (C,) centres of the new bands, nanometres, in any order.
        fwhm_nm: (C,) or one number, their full widths at half maximum, nanometres; None when unknown.

    Returns:
        The library on the new bands. NaN where less than 0.88 of a band's response lies on known samples: outside the
        library's range, and where its values are missing. Notes state the rule and the number of bands outside.

    Raises:
        InputError: widths or wavelengths that are not positive and finite, or no band within the library's range.
    """
    count = np.size(wavelengths_nm)
    centres = band_positions(np.atleast_1d(wavelengths_nm), count, "new wavelengths")
    requested, samples = centres, library.wavelengths_nm
    if not (np.diff(samples) > 0).all():
        raise InputError("The library's wavelengths do not increase; expected each band once, from short to long.")
    for end, spacing in ((samples[0], np.diff(samples[:2])), (samples[-1], np.diff(samples[-2:]))):
        # Wavelengths rounded to float32 must not fall outside the range.
        centres = np.where(np.abs(centres - end) <= _ROUNDING * spacing.sum(), end, centres)
    widths = None
    if fwhm_nm is not None:
        widths = band_positions(np.broadcast_to(fwhm_nm, (count,)) if np.ndim(fwhm_nm) == 0 else fwhm_nm, count, "fwhm")
    beyond = np.zeros(count)
    notes = ["The library was interpolated linearly, because the widths of the new bands are missing."]
    if widths is not None:
        own = np.zeros(count) if library.fwhm_nm is None else np.interp(centres, samples, library.fwhm_nm)
        beyond = np.sqrt(np.maximum(widths**2 - own**2, 0.0))
        theirs = "unknown and taken as 0" if library.fwhm_nm is None else "taken off in quadrature"
        notes = [f"The new bands' Gaussian responses were applied; the library's own widths are {theirs}."]
        if (finer := int((widths <= own).sum())) and library.fwhm_nm is not None:
            notes.append(f"{finer} of {count} new bands are not wider than the library's and were interpolated.")
    weights = _weights(samples, centres, beyond / _SIGMAS)
    known = library.valid
    total = known.astype(np.float64) @ weights.T
    values = np.where(known, library.spectra, 0.0).astype(np.float64) @ weights.T
    inside = total >= _KNOWN
    outside = weights.sum(axis=1) < _KNOWN
    span = f"{samples[0]:g} to {samples[-1]:g} nm"
    if outside.all():
        raise InputError(
            f"The library covers {span} and the new bands {centres.min():g} to {centres.max():g} nm; expected them to "
            "overlap. Check the units of both."
        )
    if outside.any():
        notes.append(f"{int(outside.sum())} of {count} new bands lie outside the library's {span} and are NaN.")
    spectra = np.where(inside, values / np.where(inside, total, 1.0), np.nan)
    return replace(library, wavelengths_nm=requested, spectra=spectra, fwhm_nm=widths, notes=(*library.notes, *notes))


def _weights(samples: Array, centres: Array, sigmas: Array) -> Array:
    """Return the integrals of the hat functions under the responses, (C, B); a single sample is a point.

    With K the second integral of the Gaussian, the integral of a hat is the second divided difference of K.
    """
    offsets = samples[None, :] - centres[:, None]
    narrow = (sigmas == 0.0)[:, None]
    z = offsets / np.where(narrow, 1.0, sigmas[:, None])
    below = np.where(narrow, offsets > 0.0, 0.5 * (1.0 + np.asarray(_erf(z / math.sqrt(2.0)), np.float64)))
    bell = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    second = np.where(narrow, np.maximum(offsets, 0.0), offsets * below + sigmas[:, None] * bell)
    slope = np.diff(second, axis=1) / np.diff(samples)[None, :]  # of K between neighbours
    first, last = below[:, :1], below[:, -1:]
    # A band of zero width exactly on the first or last sample is inside the range.
    first = np.where(narrow & (offsets[:, :1] == 0.0), 0.0, first)
    last = np.where(narrow & (offsets[:, -1:] == 0.0), 1.0, last)
    return np.diff(np.concatenate([first, slope, last], axis=1), axis=1)

"""Bring the bands of a scene into the order of other bands, matched by wavelength."""

from dataclasses import replace

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import Array, Metadata, Scene
from dequnmix_jax.scenes.source import Source, Stored, Window

# Nanometres, and distances of neighbouring bands, within which a band is the same.
_NEAR = 1.0
_SPACINGS = 1.0


def places_of(wanted: Array, scene: Metadata) -> Array | None:
    """Return the band of a scene that each of some wavelengths means.

    Args:
        wanted: (B,) nm, in the order wanted.
        scene: with wavelengths; bands marked bad are not considered.

    Returns:
        (B,) band numbers, or None where nothing is to be done: the good bands are these, in this order, or the scene
        has no wavelengths or another number of good bands.

    Raises:
        InputError: a wavelength without a band within one distance of neighbouring bands.
    """
    if scene.wavelengths is None:
        return None
    # Bands left out by an option are left out on purpose, so a subset is not looked for.
    bands = np.arange(scene.wavelengths.size)
    if scene.good_bands is not None and scene.good_bands.any():
        bands = bands[scene.good_bands]
    own = scene.wavelengths[bands]
    if own.size != wanted.size:
        return None
    spacing = float(np.median(np.diff(np.sort(wanted)))) if wanted.size > 1 else 0.0
    near = max(_NEAR, _SPACINGS * spacing)
    if np.abs(own - wanted).max() <= near:
        return None
    nearest = np.abs(own[None, :] - wanted[:, None]).argmin(axis=1)
    off = float(np.abs(own[nearest] - wanted).max())
    if off <= near and np.unique(nearest).size == wanted.size:
        return np.asarray(bands[nearest])
    raise InputError(
        f"The bands of the scene ({own[0]:g} to {own[-1]:g} nm) lie up to {np.abs(own - wanted).max():.1f} nm from the "
        f"expected ones ({wanted[0]:g} to {wanted[-1]:g} nm), matched in any order up to {off:.1f} nm; expected the "
        f"same bands, within {near:.1f} nm. Train on this scene, or resample it to these bands."
    )


def source_in_order(source: Source, wanted: Array) -> Source:
    """Return a scene with the bands of some wavelengths, in their order; `source` itself where they are the same.

    Args:
        source: the scene.
        wanted: (B,) nm.

    Raises:
        InputError: as from `places_of`.
    """
    places = places_of(wanted, source)
    if places is None:
        return source

    def stored(window: Window | None) -> Stored:
        values, seen, notes = source.stored(window)
        return Stored(values[:, :, places], seen, notes)

    def of(values: Array | None) -> Array | None:
        return None if values is None else values[places]

    return replace(
        source,
        shape=(*source.shape[:2], places.size),
        stored=stored,
        gains=of(source.gains),
        offsets=of(source.offsets),
        wavelengths=of(source.wavelengths),
        fwhm=of(source.fwhm),
        good_bands=of(source.good_bands),
        notes=(*source.notes, _said(places, source)),
    )


def scene_in_order(scene: Scene, wanted: Array) -> Scene:
    """Return a scene in memory as `source_in_order` does."""
    places = places_of(wanted, scene)
    if places is None:
        return scene
    return replace(
        scene,
        cube=scene.cube[:, :, places],
        wavelengths=None if scene.wavelengths is None else scene.wavelengths[places],
        fwhm=None if scene.fwhm is None else scene.fwhm[places],
        good_bands=None if scene.good_bands is None else scene.good_bands[places],
        notes=(*scene.notes, _said(places, scene)),
    )


def _said(places: Array, scene: Metadata) -> str:
    total = 0 if scene.wavelengths is None else scene.wavelengths.size
    count = f"{places.size} of {total} bands" if places.size != total else f"The {total} bands"
    return f"{count} were put in the order of the bands expected, matched by wavelength."

"""The families of generated scenes: from which ranges each draws the numbers of a scene.

A family is one way in which scenes differ. Families of space (the first eleven) are linear mixtures with white noise;
all others lie in space as "smooth" does, so that what characterises a family is in no other one and to leave a family
out leaves it unseen. Two exceptions: "smooth" is part of most others, and "compound" has small amounts of many.

Ranges come from physics and from the literature named in `dequnmix_jax.datasets.generator`, and not from the error of
any method on any scene. A change of them, or of what they mean, is a new `VERSION`.
"""

from dataclasses import astuple, dataclass, fields, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

VERSION = 1
"""Version of the scenes: the same key gives the same scene, to rounding, as long as it stays."""

LAYOUTS = ("fields", "regions", "squares", "targets", "gradient", "curves", "unordered")
"""How abundances lie in space (`layouts`)."""

ORDERS = (0.5, 1.5, np.inf)
"""Smoothness nu of the fields: Matern, Matern, squared exponential."""

MIXINGS = ("linear", "bilinear", "bent", "intimate")
"""Mixing models (`optics`)."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Ranges (low, high) of the numbers of a scene, uniform or, where marked, log-uniform; weights of the choices.

    Attributes:
        layout, order, mixing: relative frequencies of `LAYOUTS`, `ORDERS` and `MIXINGS`.
        length: pixels, correlation length of the fields (log).
        longest: the same in shorter sides of the scene: the smaller of both counts.
        contrast: standard deviation of the fields before their projection on the simplex (log).
        unevenness: standard deviation of the mean of a field, different from material to material.
        purity: largest abundance; above 1: no cap.
        regions: number of Voronoi regions (log).
        pure: share of pure regions, squares and targets.
        inside: standard deviation of a fine field inside regions.
        blur: pixels, standard deviation of the blur by the optics.
        squares: squares along a side of the scene.
        targets: number of targets for each material (log).
        target: pixels, side of the largest target; also the width of curves.
        rare: share of the materials that occur in targets and curves alone.
        dirichlet: parameter of the Dirichlet distribution; halves from 0.5 to 2.
        nearest: radians, smallest angle between two materials (log).
        shared: share of the mean spectrum in every spectrum, which makes them alike.
        dark: level of the darkest material; above 1: as drawn (log).
        bright: standard deviation of the smooth logarithm of the brightness.
        shade: the same, independent from pixel to pixel.
        relief: standard deviation of the slope of a terrain, tangent.
        lambert: share of the terrain's brightness, exponent.
        angles: share of the local angles in the Hapke reflectance of materials; 0: nadir.
        zenith: degrees, of the sun.
        level: standard deviation of the logarithm of each material's brightness.
        shape: standard deviation of the logarithm of each material's spectrum over the bands.
        rough: share of such variation, in variance, that is independent from pixel to pixel.
        variants: share of such variation that is a choice among eight spectra of each material; 0 or 1 count.
        interaction: largest coefficient of the bilinear products.
        curvature: largest coefficient of the post-nonlinear square.
        snr: dB; the signal's mean square over that of all noise.
        colour: standard deviation of the logarithm of the noise's level from band to band.
        bad: share of bands with ten times the noise.
        correlation: bands, over which noise is correlated.
        shot: share of noise that grows with the root of the signal.
        stripes: share of noise, in variance, that is constant along a column.
    """

    layout: tuple[float, ...] = (1, 0, 0, 0, 0, 0, 0)
    order: tuple[float, ...] = (0, 1, 2)
    mixing: tuple[float, ...] = (1, 0, 0, 0)
    length: Range = (3, 24)
    longest: Range = (0.25, 0.25)
    contrast: Range = (0.5, 2)
    unevenness: Range = (0, 0.3)
    purity: Range = (0.8, 1.5)
    regions: Range = (15, 90)
    pure: Range = (0.2, 0.8)
    inside: Range = (0, 0)
    blur: Range = (0, 0)
    squares: Range = (3, 7)
    targets: Range = (2, 8)
    target: Range = (1, 4)
    rare: Range = (0.2, 0.7)
    dirichlet: Range = (0.5, 2)
    nearest: Range = (0.08, 0.15)
    shared: Range = (0, 0)
    dark: Range = (2, 2)
    bright: Range = (0, 0)
    shade: Range = (0, 0)
    relief: Range = (0.1, 0.4)
    lambert: Range = (0, 0)
    angles: Range = (0, 0)
    zenith: Range = (20, 60)
    level: Range = (0, 0)
    shape: Range = (0, 0)
    rough: Range = (0, 1)
    variants: Range = (0, 0)
    interaction: Range = (0, 0)
    curvature: Range = (0, 0)
    snr: Range = (15, 90)
    colour: Range = (0, 0)
    bad: Range = (0, 0)
    correlation: Range = (0, 0)
    shot: Range = (0, 0)
    stripes: Range = (0, 0)


LOGARITHMIC = ("length", "contrast", "regions", "targets", "nearest", "dark")
"""Numbers whose logarithm is uniform."""

_MARKED = {name: tuple(float(name == other) for other in LAYOUTS) for name in LAYOUTS}
_MIXED = {name: tuple(float(name == other) for other in MIXINGS) for name in MIXINGS}
_BASE = Ranges()
_SOFT = replace(_BASE, snr=(15, 60))  # effects that hide in noise only where noise is moderate

_TABLE: dict[str, tuple[str, Ranges]] = {
    "smooth": ("smooth fields with a correlation length of 3 to 24 pixels, at most a quarter of the side", _BASE),
    "matern": (
        "rough Matern fields (nu 1/2) with a range of 3 to 24 pixels, at most a quarter of the side",
        replace(_BASE, order=(1, 0, 0)),
    ),
    "fine": (
        "Matern fields (nu 1/2 and 3/2) with a range of 0.5 to 2.5 pixels: texture down to the pixel",
        replace(_BASE, order=(1, 1, 0), length=(0.5, 2.5)),
    ),
    "unordered": (
        "Dirichlet abundances, independent from pixel to pixel",
        replace(_BASE, layout=_MARKED["unordered"]),
    ),
    "blocks": (
        "piecewise constant Voronoi regions, 20 to 80 % of them pure",
        replace(_BASE, layout=_MARKED["regions"], purity=(1.5, 1.5)),
    ),
    "farmland": (
        "Voronoi parcels, each with a mixture that varies inside, blurred by the optics of a sensor",
        replace(_BASE, layout=_MARKED["regions"], regions=(12, 60), pure=(0, 0.5), inside=(0.02, 0.1), blur=(0.5, 1.2)),
    ),
    "squares": (
        "a lattice of squares, pure or mixed in equal or unequal parts, on a uniform mixed background",
        replace(_BASE, layout=_MARKED["squares"]),
    ),
    "targets": (
        "small pure squares of 1 to 4 pixels on a mixed background that lacks 20 to 70 % of the materials",
        replace(_BASE, layout=_MARKED["targets"], purity=(1.5, 1.5), blur=(0, 0.5)),
    ),
    "gradient": (
        "planes and fields as long as the scene: hardly any texture, few pure pixels",
        replace(_BASE, layout=_MARKED["gradient"], order=(0, 0, 1), length=(10, 90), longest=(0.4, 0.8),
                contrast=(0.25, 0.8), unevenness=(0, 0.1)),
    ),
    "curves": (
        "thin winding curves of 1 to 4 pixels (rivers, roads) of rare materials through smooth fields",
        replace(_BASE, layout=_MARKED["curves"], rare=(0.2, 0.5), purity=(1.5, 1.5)),
    ),
    "impure": ("smooth fields whose largest abundance is 0.6 to 0.8", replace(_BASE, purity=(0.6, 0.8))),
    "alike": (
        "materials that share 40 to 75 % of their mean spectrum (dust, one soil): small angles",
        replace(_BASE, shared=(0.4, 0.75), snr=(25, 90)),
    ),
    "dark": ("one material is nearly black (water, shadow): 2 to 15 % of its level", replace(_BASE, dark=(0.02, 0.15))),
    "topography": (
        "smooth brightness: log-normal fields, and a Lambertian terrain under the sun",
        replace(_BASE, bright=(0, 0.35), lambert=(0, 1)),
    ),
    "shade": ("brightness that is independent from pixel to pixel", replace(_BASE, shade=(0.05, 0.4))),
    "shapes": (
        "each material's spectrum varies in shape by 2 to 10 % and in level by up to 10 %, smoothly and per pixel",
        replace(_SOFT, shape=(0.02, 0.1), level=(0, 0.1)),
    ),
    "bundles": (
        "each pixel or parcel has one of eight variants of each material, of other level (10 to 30 %) and shape",
        replace(_SOFT, variants=(1, 1), level=(0.1, 0.3), shape=(0.02, 0.1)),
    ),
    "angles": (
        "Hapke reflectance of every material at the local angles of a terrain",
        replace(_SOFT, angles=(1, 1), relief=(0.15, 0.5), zenith=(30, 70)),
    ),
    "bilinear": (
        "generalised bilinear mixing, coefficients up to 0.3 to 1",
        replace(_BASE, mixing=_MIXED["bilinear"], interaction=(0.3, 1)),
    ),
    "bent": (
        "polynomial post-nonlinear mixing, coefficients within 0.1 to 0.4",
        replace(_BASE, mixing=_MIXED["bent"], curvature=(0.1, 0.4)),
    ),
    "intimate": (
        "linear in the single-scattering albedo (Hapke), observed as reflectance at the local angles",
        replace(_BASE, mixing=_MIXED["intimate"], angles=(0, 1), relief=(0, 0.3), zenith=(0, 60)),
    ),
    "coloured": (
        "noise that differs from band to band, with bad bands, correlated over bands, growing with the signal",
        replace(_BASE, colour=(0.2, 1), bad=(0, 0.06), correlation=(0, 4), shot=(0, 1), snr=(15, 60)),
    ),
    "striped": (
        "noise with an offset for each column and band, as of pushbroom sensors",
        replace(_BASE, stripes=(0.1, 0.7), snr=(15, 60)),
    ),
    "compound": (
        "small amounts of many at once: brightness, levels, shapes, products, a dark material, coloured striped noise",
        replace(_BASE, mixing=(3, 1, 1, 0), bright=(0, 0.2), shade=(0, 0.1), lambert=(0, 0.5), level=(0, 0.1),
                shape=(0, 0.05), interaction=(0, 0.5), curvature=(0.05, 0.15), dark=(0.05, 4), shared=(0, 0.4),
                blur=(0, 0.7), colour=(0, 0.6), bad=(0, 0.02), correlation=(0, 2), shot=(0, 0.5), stripes=(0, 0.3),
                snr=(20, 60)),
    ),
}  # fmt: skip

FAMILIES: tuple[str, ...] = tuple(_TABLE)
"""The names of the families, in the order of their index."""

DESCRIPTIONS: dict[str, str] = {name: line for name, (line, _) in _TABLE.items()}
"""A line on each family."""

FREE_BRIGHTNESS = ("topography", "shade", "compound")
"""Families in which the brightness of pixels is free, so that the level of each material cannot be known."""


class Numbers(NamedTuple):
    """The numbers of a scene, drawn from `Ranges`, which says what they are; layout, order, mixing are indices."""

    layout: jax.Array
    order: jax.Array
    mixing: jax.Array
    length: jax.Array
    longest: jax.Array
    contrast: jax.Array
    unevenness: jax.Array
    purity: jax.Array
    regions: jax.Array
    pure: jax.Array
    inside: jax.Array
    blur: jax.Array
    squares: jax.Array
    targets: jax.Array
    target: jax.Array
    rare: jax.Array
    dirichlet: jax.Array
    nearest: jax.Array
    shared: jax.Array
    dark: jax.Array
    bright: jax.Array
    shade: jax.Array
    relief: jax.Array
    lambert: jax.Array
    angles: jax.Array
    zenith: jax.Array
    level: jax.Array
    shape: jax.Array
    rough: jax.Array
    variants: jax.Array
    interaction: jax.Array
    curvature: jax.Array
    snr: jax.Array
    colour: jax.Array
    bad: jax.Array
    correlation: jax.Array
    shot: jax.Array
    stripes: jax.Array


_CHOICES = ("layout", "order", "mixing")
_RANGED = tuple(field.name for field in fields(Ranges) if field.name not in _CHOICES)


def _tables() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return lows and highs (F, P) of the ranges, in logarithms where so drawn, and cumulated weights (F, K)."""
    rows = [ranges for _, ranges in _TABLE.values()]
    bounds = np.asarray([[getattr(row, name) for name in _RANGED] for row in rows], np.float64)
    log = np.isin(_RANGED, LOGARITHMIC)
    bounds[:, log] = np.log(bounds[:, log])
    weights = {name: np.cumsum([getattr(row, name) for row in rows], axis=1) for name in _CHOICES}
    cumulated = {name: (value / value[:, -1:]).astype(np.float32) for name, value in weights.items()}
    return bounds[..., 0].astype(np.float32), bounds[..., 1].astype(np.float32), cumulated


_LOW, _HIGH, _CUMULATED = _tables()


def numbers_of(key: jax.Array, family: jax.Array) -> Numbers:
    """Draw the numbers of a scene.

    Args:
        key: random key.
        family: (), int32, index in `FAMILIES`, may be traced.

    Returns:
        Numbers, each ().
    """
    u = jax.random.uniform(key, (len(_RANGED) + len(_CHOICES),), jnp.float32)
    low, high = jnp.asarray(_LOW)[family], jnp.asarray(_HIGH)[family]
    values = low + (high - low) * u[: len(_RANGED)]
    drawn = {
        name: jnp.exp(values[i]) if name in LOGARITHMIC else values[i] for i, name in enumerate(_RANGED)
    }  # fmt: skip
    for i, name in enumerate(_CHOICES):
        below = jnp.asarray(_CUMULATED[name])[family] <= u[len(_RANGED) + i]
        drawn[name] = jnp.sum(below, dtype=jnp.int32)
    return Numbers(**drawn)


def text_of_ranges() -> str:
    """Return the version, the families and all their ranges as text, for a fingerprint."""
    return repr((VERSION, LOGARITHMIC, FREE_BRIGHTNESS, [(name, astuple(row)) for name, (_, row) in _TABLE.items()]))

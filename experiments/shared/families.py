"""Generated scenes of many families with known truth, on which choices are made and judged.

`load("blocks", draw)` draws a scene; the same family and draw give the same scene. Families differ in the spatial
distribution of abundances, pure pixels, variation of pixels and materials, the mixing model, and the noise. A choice
that is made on some families is judged on those left out.

    smooth        squared exponential random fields, some pixels pure
    matern        Matern fields of smoothness 1/2 and a range of 3 to 6 pixels: fine texture
    rough         Matern fields of a range of one pixel
    unordered     Dirichlet abundances, independent from pixel to pixel
    blocks        piecewise constant regions (Voronoi), many of them pure
    farmland      such regions, each with a mixture that varies a little, blurred by the optics of a sensor
    targets       small pure squares on a mixed background
    gradient      long smooth gradients with little texture
    impure        smooth fields whose largest abundance is capped at 0.6 to 0.8
    topography    smooth brightness of each pixel
    shade         brightness that is independent from pixel to pixel
    bundles       each material varies in brightness independently, in every pixel
    shapes        each material varies in the shape of its spectrum, in every pixel
    bilinear      generalised bilinear mixing (Halimi et al. 2011)
    bent          polynomial post-nonlinear mixing (Altmann et al. 2012)
    intimate      linear in the single-scattering albedo (Hapke 1981), observed as reflectance
    bad bands     noise that differs by band, a few bands almost pure noise
    striped       noise with an offset for each column and band, as of pushbroom sensors

Other experiments were made on these scenes, so they stay as they are. `dequnmix_jax.datasets.generator` is the wider
generator: 24 families, training and test minerals, sizes and sensors of many kinds, in JAX.

Spectra are, in turn, those of the USGS library (folder `DEQUNMIX_DATA`; each draw its own) and smooth random ones;
without the library all are random, and the scene says so.

References:
    Lang and Potthoff, Monte Carlo Methods and Applications 17, 2011 (fields by filtering noise); Matern, Spatial
    variation, 1960; Hapke, Bidirectional reflectance spectroscopy 1, JGR 86, 1981; those of `nonlinear`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from dequnmix_jax import InputError
from dequnmix_jax.abundances import nonlinear
from dequnmix_jax.datasets import registry
from dequnmix_jax.io import npz

Random = np.random.Generator

NOISE = (30.0, 20.0, 40.0, 30.0, 25.0, 50.0)
"""Signal-to-noise ratios in dB of the draws of a family, in turn."""

COUNTS = (3, 5)
"""Numbers of endmembers of the draws, in turn: only two, to limit the number of compiled programs."""


@dataclass(frozen=True, eq=False)
class Made:
    """A generated scene and its truth.

    Attributes:
        family, draw: its name, and the number of the scene in it.
        cube: (H, W, B) float32, reflectance with noise.
        abundances: (H, W, R), in the unit of the reference: with endmembers scaled to maximum one if the brightness
            of pixels is free, else the fractions that mixed the cube.
        endmembers: (R, B); the mean of each material if it varies.
        snr: dB.
        spectra: "library" or "random".
        free_brightness: whether the brightness of pixels is free.
    """

    family: str
    draw: int
    cube: np.ndarray
    abundances: np.ndarray
    endmembers: np.ndarray
    snr: float
    spectra: str
    free_brightness: bool


def field(draw: Random, shape: tuple[int, int], count: int, length: float, smoothness: float | None) -> np.ndarray:
    """Draw `count` stationary Gaussian fields (H, W, count) of variance 1, by filtering white noise.

    Covariance exp(-d^2 / 2 length^2), or Matern with a smoothness nu: spectral density
    (1 + (2 pi length f)^2)^-(nu + 1). The filter works on a torus twice as large, a quarter of which is kept.
    """
    rows, columns = 2 * shape[0], 2 * shape[1]
    f2 = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None] ** 2
    wave = (2 * np.pi * length) ** 2 * f2
    density = np.exp(-wave / 2) if smoothness is None else (1 + wave) ** -(smoothness + 1)
    white = draw.standard_normal((count, rows, columns))
    fields = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(density)[None], s=(rows, columns))
    fields = fields / fields.std(axis=(1, 2), keepdims=True)
    return np.moveaxis(fields[:, : shape[0], : shape[1]], 0, -1)


def simplex(values: np.ndarray) -> np.ndarray:
    """Project on the unit simplex along the last axis, in double precision."""
    u = -np.sort(-values, axis=-1)
    k = np.arange(1, values.shape[-1] + 1)
    tau = np.max((np.cumsum(u, axis=-1) - 1) / k, axis=-1, keepdims=True)
    return np.maximum(values - tau, 0)


def cap(abundances: np.ndarray, purity: float) -> np.ndarray:
    """Move pixels towards 1/R until their largest abundance is at most `purity`."""
    level = 1 / abundances.shape[-1]
    above = abundances.max(axis=-1, keepdims=True) - level
    return np.where(above > purity - level, level + (abundances - level) * (purity - level) / above, abundances)


def regions(draw: Random, shape: tuple[int, int], number: int) -> np.ndarray:
    """Divide the scene into Voronoi cells, and return the number of each pixel's cell (H, W)."""
    seeds = draw.uniform(size=(number, 2)) * np.asarray(shape)
    at = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij"), axis=-1)
    return np.argmin(np.sum((at[:, :, None] - seeds) ** 2, axis=-1), axis=-1)


def blur(maps: np.ndarray, width: float) -> np.ndarray:
    """Smooth maps (H, W, R) by a Gaussian of standard deviation `width` pixels; the edge is repeated."""
    reach = int(np.ceil(3 * width))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if axis == other else (0, 0) for other in range(3)]
        padded = np.pad(maps, padding, mode="edge")
        maps = sum(w * np.take(padded, np.arange(maps.shape[axis]) + i, axis=axis) for i, w in enumerate(kernel))
    return maps


def _smooth(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    return simplex(draw.uniform(0.8, 1.6) * field(draw, shape, R, draw.uniform(4, 9), None))


def _matern(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    return simplex(draw.uniform(0.6, 1.2) * field(draw, shape, R, draw.uniform(3, 6), 0.5))


def _rough(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    return simplex(draw.uniform(0.6, 1.2) * field(draw, shape, R, 1.0, 0.5))


def _unordered(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    return draw.dirichlet(np.full(R, draw.uniform(0.4, 1.0)), shape)


def _blocks(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    number = int(draw.integers(30, 80))
    kinds = np.where(draw.uniform(size=(number, 1)) < 0.5, np.eye(R)[draw.integers(R, size=number)],
                     draw.dirichlet(np.full(R, 0.6), number))  # fmt: skip
    kinds[:R] = np.eye(R)
    return kinds[regions(draw, shape, number)]


def _farmland(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    number = int(draw.integers(25, 60))
    kinds = draw.dirichlet(np.full(R, 0.25), number)
    kinds[:R] = 0.95 * np.eye(R) + 0.05 / R
    inside = kinds[regions(draw, shape, number)] + draw.uniform(0.02, 0.08) * field(draw, shape, R, 2.0, 0.5)
    return simplex(blur(simplex(inside), draw.uniform(0.5, 0.8)))


def _targets(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    A = cap(simplex(0.5 + 0.4 * field(draw, shape, R, draw.uniform(3, 8), None)), 0.75)
    for number in range(6 * R):
        side = int(draw.integers(1, 5))
        top, left = (int(draw.integers(0, n - side)) for n in shape)
        A[top : top + side, left : left + side] = np.eye(R)[number % R]
    return A


def _gradient(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    g = field(draw, shape, R, draw.uniform(14, 22), None)
    g = (g - g.mean(axis=(0, 1))) / g.std(axis=(0, 1))  # otherwise a small window may lack a material
    return simplex(1 / R + draw.uniform(0.3, 0.6) * g)


def _impure(draw: Random, shape: tuple[int, int], R: int) -> np.ndarray:
    return cap(_smooth(draw, shape, R), draw.uniform(0.6, 0.8))


_SPACE: dict[str, Callable[[Random, tuple[int, int], int], np.ndarray]] = {
    "smooth": _smooth,
    "matern": _matern,
    "rough": _rough,
    "unordered": _unordered,
    "blocks": _blocks,
    "farmland": _farmland,
    "targets": _targets,
    "gradient": _gradient,
    "impure": _impure,
}

FAMILIES = (*_SPACE, "topography", "shade", "bundles", "shapes", "bilinear", "bent", "intimate", "bad bands", "striped")
"""The names, in the order of the module's list."""


def library() -> np.ndarray | None:
    """Return the spectra of the USGS library pruned of near duplicates (240, 224), or None without it."""
    try:
        file = registry.find("usgs_1995_library.npz", download=False)
    except InputError:
        return None
    return np.asarray(npz.load(file)["pruned240_spectra"], np.float64)


def spectra(draw: Random, count: int, bands: int, known: np.ndarray | None, nearest: float = 0.08) -> np.ndarray:
    """Draw `count` spectra (R, B), each more than `nearest` radians from the others.

    Of a library, resampled; or without one smooth random ones, 0.05 + 0.9 / (1 + exp(-1.5 g)), g a Gaussian field.
    """
    kept: list[np.ndarray] = []
    while len(kept) < count:
        if known is None:
            length = draw.uniform(0.05, 0.2) * bands
            one = 0.05 + 0.9 / (1 + np.exp(-1.5 * field(draw, (1, bands), 1, length, None)[0, :, 0]))
        else:
            whole = known[draw.integers(len(known))]
            one = np.interp(np.linspace(0, 1, bands), np.linspace(0, 1, whole.size), whole)
        unit = one / np.linalg.norm(one)
        if all(np.arccos(np.clip(unit @ other / np.linalg.norm(other), -1, 1)) > nearest for other in kept):
            kept.append(one)
    return np.stack(kept)


def albedo(reflectance: np.ndarray) -> np.ndarray:
    """Return the single-scattering albedo of a surface viewed and lit from the normal: w = 1 - g^2 (Hapke 1981).

    r = (1 - g^2) / (1 + 2 g)^2, so that (1 + 4 r) g^2 + 4 r g - (1 - r) = 0.
    """
    r = np.clip(reflectance, 1e-6, 1 - 1e-6)
    g = (np.sqrt(4 * r**2 + (1 + 4 * r) * (1 - r)) - 2 * r) / (1 + 4 * r)
    return 1 - g**2


def reflectance(albedo: np.ndarray) -> np.ndarray:
    """Return the reflectance of an albedo, r = (1 - g^2) / (1 + 2 g)^2, g = (1 - w)^(1/2)."""
    g = np.sqrt(1 - albedo)
    return albedo / (1 + 2 * g) ** 2


def load(family: str, draw: int, side: int = 48, bands: int = 96, count: int | None = None) -> Made:
    """Draw a scene of a family.

    Args:
        family: one of `FAMILIES`.
        draw: which scene of it; noise, number of endmembers and source of the spectra follow from it in turn.
        side, bands: of the cube.
        count: R; None: `COUNTS` in turn.

    Raises:
        InputError: if there is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"There is no family {family!r}; expected one of {', '.join(FAMILIES)}. Choose one of them.")
    rng = np.random.default_rng([2611, FAMILIES.index(family), draw])
    R = COUNTS[draw % len(COUNTS)] if count is None else count
    snr = NOISE[draw % len(NOISE)]
    known = library() if (draw // 2 + FAMILIES.index(family)) % 2 == 0 else None
    E = spectra(rng, R, bands, known)
    shape = (side, side)
    space = family if family in _SPACE else ("smooth", "matern", "blocks", "farmland")[draw % 4]
    A = _SPACE[space](rng, shape, R)
    free_brightness = family in ("topography", "shade")
    if free_brightness:
        log = field(rng, shape, 1, 6.0, None) if family == "topography" else rng.standard_normal((*shape, 1))
        clean = np.exp(rng.uniform(0.15, 0.35) * log) * (A @ E)
    elif family == "bundles":
        clean = (A * np.exp(rng.uniform(0.08, 0.2) * rng.standard_normal(A.shape))) @ E
    elif family == "shapes":
        size = rng.uniform(0.03, 0.1)
        # One random curve over the bands for each pixel and material.
        curves = field(rng, (side * side * R, bands), 1, bands / 8, None)[:, :, 0].reshape(side, side, R, bands)
        clean = np.einsum("hwr,hwrb->hwb", A, E * np.exp(size * curves))
    elif family == "bilinear":
        gamma = rng.uniform(size=(*shape, nonlinear.pairs(R)))
        clean = np.asarray(nonlinear.bilinear(*(jnp.asarray(x, jnp.float32) for x in (A, E, gamma))), np.float64)
    elif family == "bent":
        b = rng.uniform(-0.3, 0.3, shape)
        clean = np.asarray(nonlinear.post_nonlinear(*(jnp.asarray(x, jnp.float32) for x in (A, E, b))), np.float64)
    elif family == "intimate":
        clean = reflectance(A @ albedo(E))
    else:
        clean = A @ E
    sigma = np.sqrt(np.mean(clean**2)) * 10 ** (-snr / 20)
    noise = rng.standard_normal(clean.shape)
    if family == "bad bands":
        weight = np.exp(0.7 * rng.standard_normal(bands))
        weight[rng.choice(bands, 4, replace=False)] *= 15
        noise = noise * weight / np.median(weight)
    elif family == "striped":
        noise = 0.8 * noise + 0.6 * rng.standard_normal((1, side, bands))
    reference = A
    if free_brightness:
        reference = A * E.max(axis=1)
        reference = reference / reference.sum(axis=-1, keepdims=True)
    return Made(
        family,
        draw,
        (clean + sigma * noise).astype(np.float32),
        reference.astype(np.float32),
        E.astype(np.float32),
        snr,
        "random" if known is None else "library",
        free_brightness,
    )

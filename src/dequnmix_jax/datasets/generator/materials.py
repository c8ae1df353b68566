"""Spectra of generated scenes: minerals or random materials, seen by the bands of a sensor.

The minerals are 412 specimens of the USGS library of 1995 (`data/usgs_minerals.npz`, public domain), each with the name
of its mineral. **Training and test minerals** are split by that name: a mineral is a test mineral if the first eight
hexadecimal digits of the SHA-256 of its name are a number whose remainder by ten is 0, 1 or 2. So no mineral, and no
variety of it, is on both sides, and the split needs no list and no seed.
"""

import hashlib
from functools import cache
from importlib.resources import as_file, files
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import npz_arrays
from dequnmix_jax.scenes.scene import Array

SOURCES = ("training", "test", "random")
"""Where the spectra of a scene come from: training minerals, test minerals, or random curves."""

WINDOWS = ((400.0, 1000.0), (400.0, 2500.0), (1000.0, 2500.0))
"""Nanometres: visible and near infrared, all of the reflected sunlight, short-wave infrared alone."""

WATER = ((1340.0, 1440.0), (1790.0, 1970.0))
"""Nanometres: the bands of water vapour, which are usually removed."""

_WIDEST = 6  # candidates for each material of a scene
_ABSORPTIONS = 6


@cache
def minerals() -> tuple[Array, tuple[str, ...], tuple[str, ...], Array]:
    """Return spectra (K, 224) float32, names of the K specimens and of their minerals, wavelengths (224,) in nm."""
    with as_file(files("dequnmix_jax") / "data" / "usgs_minerals.npz") as path:
        arrays = npz_arrays.load(path)
    spectra = (arrays["spectra"] * arrays["scale"]).astype(np.float32)
    names, groups = (tuple(arrays[name].tolist()) for name in ("names", "minerals"))
    return spectra, names, groups, arrays["wavelengths_nm"]


def is_test_mineral(mineral: str) -> bool:
    """Return whether a mineral is a test mineral: about three in ten are."""
    return int(hashlib.sha256(mineral.encode()).hexdigest()[:8], 16) % 10 < 3


class Pool(NamedTuple):
    """The spectra that a scene may draw from.

    Attributes:
        spectra: (K, 224), reflectance.
        wavelengths: (224,), nm.
        group: (K,) int32, number of the mineral.
        chance: (K,), cumulated probabilities of the specimens.
        random: (), bool, whether random curves take the place of the minerals.
    """

    spectra: jax.Array
    wavelengths: jax.Array
    group: jax.Array
    chance: jax.Array
    random: jax.Array


@cache
def _host_pool(source: str) -> tuple[Any, ...]:
    if source not in SOURCES:
        raise InputError(f"minerals is {source!r}; expected one of {', '.join(SOURCES)}. Choose one of them.")
    spectra, _, groups, wavelengths = minerals()
    kinds = sorted(set(groups))
    number = np.asarray([kinds.index(group) for group in groups], np.int32)
    weight = 1.0 / np.bincount(number)[number]  # each mineral has the same chance
    if source != "random":
        weight *= np.asarray([is_test_mineral(group) == (source == "test") for group in groups])
    chance = np.cumsum(weight) / np.sum(weight)
    chance[chance >= chance[-1]] = np.inf  # rounding must not lead past the last specimen that has a chance
    return spectra, wavelengths, number, chance.astype(np.float32), np.bool_(source == "random")


def pool_of(source: str) -> Pool:
    """Return the pool of a source.

    Args:
        source: one of `SOURCES`.

    Raises:
        InputError: if there is no such source.
    """
    return Pool(*(jnp.asarray(x) for x in _host_pool(source)))


def random_spectra(key: jax.Array, count: int, samples: int) -> jax.Array:
    """Draw random reflectance spectra.

    (0.02 + 0.96 sigmoid(m + g + h)) prod_k (1 - d_k exp(-(t - c_k)^2 / (2 w_k^2))) over t in [0, 1]: a level m of
    standard deviation 1; Gaussian processes g with a correlation length of 20 to 60 % of the range and a standard
    deviation of 1, and h with 2 to 20 % and 0 to 0.5 (lengths log-uniform); 0 to 6 absorption bands of depth up to 0.6
    and width 0.5 to 5 % (log-uniform).

    Args:
        key: random key.
        count, samples: shape of the result, static.

    Returns:
        (count, samples), in (0, 1).
    """
    for_noise, for_numbers = jax.random.split(key)
    u = jax.random.uniform(for_numbers, (count, 5 + 3 * _ABSORPTIONS), jnp.float32)
    # On a circle twice as long, half of which is kept.
    waves = jnp.fft.rfft(jax.random.normal(for_noise, (count, 2 * samples), jnp.float32))
    frequency = samples * jnp.asarray(np.fft.rfftfreq(2 * samples), jnp.float32)[None]
    power = jnp.zeros_like(frequency)
    for low, high, column, variance in ((0.2, 0.6, 0, 1.0), (0.02, 0.2, 1, jnp.square(0.5 * u[:, 2:3]))):
        density = jnp.exp(-2.0 * jnp.square(jnp.pi * low * (high / low) ** u[:, column, None] * frequency))
        power = power + variance * density / (2.0 * jnp.sum(density, axis=1, keepdims=True) - 1.0)
    g = jnp.fft.irfft(waves * jnp.sqrt(2 * samples * power).astype(waves.dtype), n=2 * samples)[:, :samples]
    m = jax.scipy.special.ndtri(0.001 + 0.998 * u[:, 3:4])
    level = 0.02 + 0.96 * jax.nn.sigmoid(m + g)
    t = jnp.linspace(0.0, 1.0, samples, dtype=jnp.float32)[None]
    place, depth, width = jnp.split(u[:, 5:, None], 3, axis=1)
    present = jnp.arange(_ABSORPTIONS, dtype=jnp.float32)[None, :, None] < jnp.floor(u[:, 4, None, None] * 7.0)
    size = 0.005 * 10.0**width
    lines = jnp.where(present, 0.6 * depth, 0.0) * jnp.exp(-0.5 * jnp.square((t[:, None] - place) / size))
    return level * jnp.prod(1.0 - lines, axis=1)


def sensor(key: jax.Array, wavelengths: jax.Array, bands: int) -> tuple[jax.Array, jax.Array]:
    """Draw the bands of a sensor.

    Args:
        key: random key.
        wavelengths: (S,) nm, of the spectra.
        bands: B, static.

    Returns:
        centres: (B,) nm, ascending, equally spaced apart from removed water bands.
        response: (S, B), Gaussian, each column summing to one.
    """
    u = jax.random.uniform(key, (5,), jnp.float32)
    windows = jnp.asarray(WINDOWS, jnp.float32)
    low, high = windows[(u[0] * len(WINDOWS)).astype(jnp.int32)]
    margin = 0.05 * (high - low)
    low, high = low + margin * u[1], high - margin * u[2]
    # Positions are equally spaced in kept wavelength: removed bands take no room.
    fine = jnp.linspace(0.0, 1.0, 512, dtype=jnp.float32)
    at = low + (high - low) * fine
    inside = (at[:, None] > jnp.asarray([w[0] for w in WATER], jnp.float32)[None]) & (
        at[:, None] < jnp.asarray([w[1] for w in WATER], jnp.float32)[None]
    )
    kept = jnp.where(jnp.any(inside, axis=1) & (u[3] < 0.5), jnp.float32(1e-4), 1.0)
    passed = jnp.cumsum(kept)
    share = (jnp.arange(bands, dtype=jnp.float32) + 0.5) / bands
    centres = jnp.interp(share * passed[-1], passed, at)
    spacing = (high - low) / bands * (passed[-1] / 512.0)
    sampled = (wavelengths[-1] - wavelengths[0]) / (wavelengths.shape[0] - 1)
    deviation = jnp.maximum(spacing * (1.0 + u[4]) / 2.355, 0.5 * sampled)
    response = jnp.exp(-0.5 * jnp.square((wavelengths[:, None] - centres[None]) / deviation))
    return centres, response / jnp.sum(response, axis=0, keepdims=True)


def angles_between(spectra: jax.Array) -> jax.Array:
    """Return the angles (C, C) in radians between the rows of spectra (C, B)."""
    unit = spectra / jnp.linalg.norm(spectra, axis=1, keepdims=True)
    return jnp.arccos(jnp.clip(jnp.matmul(unit, unit.T, precision="highest"), -1.0, 1.0))


def draw_materials(
    key: jax.Array, pool: Pool, count: int, bands: int, nearest: jax.Array, shared: jax.Array, dark: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw R materials as a sensor sees them.

    Candidates are taken in turn where they are more than `nearest` from those taken before and of another mineral;
    where none is, the one that is farthest. Then e_r := (1 - shared) e_r + shared mean(e), and one material gets the
    level `dark` (its largest value) if it is brighter and `dark` is below 1.

    Args:
        key: random key.
        pool: where from.
        count, bands: R and B, static.
        nearest: (), radians.
        shared: (), in [0, 1).
        dark: (), reflectance.

    Returns:
        endmembers: (R, B), reflectance.
        rows: (R,) int32, row of the library; -1 for random curves.
        centres: (B,), nm.
    """
    for_rows, for_curves, for_sensor, for_dark = jax.random.split(key, 4)
    number = _WIDEST * count
    rows = jnp.searchsorted(pool.chance, jax.random.uniform(for_rows, (number,), jnp.float32), side="right")
    curves = random_spectra(for_curves, number, pool.spectra.shape[1])
    centres, response = sensor(for_sensor, pool.wavelengths, bands)
    whole = jnp.where(pool.random, curves, pool.spectra[rows])
    seen = jnp.matmul(whole, response, precision="highest")
    group = jnp.where(pool.random, jnp.arange(number, dtype=jnp.int32), pool.group[rows])
    apart = jnp.where(group[:, None] == group[None, :], -1.0, angles_between(seen))

    def take(closest: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        # All that are far enough are equal, so that the first of them is taken.
        index = jnp.argmax(jnp.minimum(closest, nearest))
        return jnp.minimum(closest, apart[index]), index

    _, taken = jax.lax.scan(take, jnp.full((number,), jnp.inf, jnp.float32), None, length=count)
    E = seen[taken]
    E = (1.0 - shared) * E + shared * jnp.mean(E, axis=0, keepdims=True)
    black = jax.random.randint(for_dark, (), 0, count, jnp.int32) == jnp.arange(count, dtype=jnp.int32)
    level = jnp.where(black & (dark < 1.0), jnp.minimum(dark / jnp.max(E, axis=1), 1.0), 1.0)
    chosen = jnp.where(pool.random, -1, rows[taken]).astype(jnp.int32)
    return E * level[:, None], chosen, centres

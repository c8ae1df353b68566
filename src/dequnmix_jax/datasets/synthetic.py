"""Simulate scenes with known abundances and endmembers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from dequnmix_jax.checks import Array, InputError, check_cube, check_endmembers, check_key, how_many
from dequnmix_jax.mixing import project_simplex, scaled_mix
from dequnmix_jax.ops.xla import largest


class Sample(NamedTuple):
    """A simulated scene and its reference.

    Attributes:
        cube: (H, W, B), in the units of the endmembers.
        abundances: (H, W, R), >= 0, summing to one.
        endmembers: (R, B).
        brightness: (H, W), the factor s of y = s * a E, 1 by default.
    """

    cube: jax.Array
    abundances: jax.Array
    endmembers: jax.Array
    brightness: jax.Array


def abundance_field(
    key: Array,
    shape: tuple[int, int],
    count: int,
    *,
    length: float | Array = 8.0,
    contrast: float | Array = 1.0,
    purity: float | Array = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    r"""Draw smooth abundance maps.

    a = P(contrast * g), where g are `count` independent stationary Gaussian random fields of variance 1 and covariance
    exp(-d^2 / (2 length^2)) at distance d, and P is the projection on the simplex: pure pixels, edges and faces all
    occur, and pure pixels become more frequent with the contrast. A pixel whose largest abundance exceeds `purity` is
    then moved towards 1/R until it does not.

    Args:
        key: random key.
        shape: (H, W), static.
        count: R >= 2, static.
        length: correlation length in pixels, > 0.
        contrast: standard deviation of the fields before the projection.
        purity: largest abundance allowed, in (1/R, 1].
        dtype: floating point type of the result.

    Returns:
        (H, W, R), >= 0 and summing to one.

    Raises:
        InputError: if the shape, the count or (where it is not traced) the purity is out of range.

    Reference:
        Lang and Potthoff, Fast simulation of Gaussian random fields, Monte Carlo Methods and Applications 17, 2011.
    """
    check_key(key)
    _check_shape(shape, count)
    if isinstance(purity, float | int) and not 1.0 / count < purity <= 1.0:
        raise InputError(f"purity is {purity}; expected more than 1/{count} (all abundances equal) and at most 1.")
    fields = jax.vmap(lambda k: _gaussian_field(k, shape, length, dtype), out_axes=-1)(jax.random.split(key, count))
    a = project_simplex(jnp.asarray(contrast, dtype) * fields)
    above = largest(a, -1)[..., None] - 1.0 / count
    allowed = jnp.asarray(purity, dtype) - 1.0 / count
    return jnp.where(above > allowed, 1.0 / count + (a - 1.0 / count) * (allowed / above), a)


def spectra(key: Array, count: int, bands: int, *, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Draw smooth positive spectra.

    e = 0.05 + 0.9 sigmoid(1.5 g), g a Gaussian random field over the bands with a correlation length of an eighth of
    the bands. The range and the number of broad features are those of reflectance spectra.

    Args:
        key: random key.
        count: R >= 1, static.
        bands: B >= 2, static.
        dtype: floating point type of the result.

    Returns:
        (R, B), reflectance in (0.05, 0.95).

    Raises:
        InputError: if a number is out of range.
    """
    check_key(key)
    if count < 1 or bands < 2:
        raise InputError(
            f"{how_many(count, 'spectrum')} of {how_many(bands, 'band')} asked for; expected at least 1 spectrum of 2 "
            "bands."
        )
    draw = jax.vmap(lambda k: _gaussian_field(k, (1, bands), bands / 8.0, dtype)[0])
    return 0.05 + 0.9 * jax.nn.sigmoid(1.5 * draw(jax.random.split(key, count)))


def add_noise(key: Array, cube: Array, snr_db: float | Array) -> jax.Array:
    """Add white Gaussian noise.

    y + sigma n, n ~ N(0, 1), with SNR = 10 log10(mean(y^2) / sigma^2) over the whole cube.

    Args:
        key: random key.
        cube: (H, W, B).
        snr_db: signal-to-noise ratio in dB, may be traced.

    Returns:
        (H, W, B), in the units and the type of the cube.

    Raises:
        InputError: unless `cube` is a (H, W, B) array of floating point numbers.
    """
    check_key(key)
    check_cube(cube)
    Y = jnp.asarray(cube)
    sigma = jnp.sqrt(jnp.mean(Y * Y)) * 10.0 ** (-jnp.asarray(snr_db, Y.dtype) / 20.0)
    return Y + sigma * jax.random.normal(key, Y.shape, Y.dtype)


def linear_scene(
    key: Array,
    shape: tuple[int, int],
    endmembers: Array,
    snr_db: float | Array | None = None,
    *,
    length: float | Array = 8.0,
    contrast: float | Array = 1.0,
    purity: float | Array = 1.0,
    brightness: float | Array = 0.0,
) -> Sample:
    """Draw a linearly mixed scene.

    y = s * a E + noise: a from `abundance_field`, log s a Gaussian random field of standard deviation `brightness` and
    the same correlation length, noise from `add_noise`.

    Args:
        key: random key.
        shape: (H, W), static.
        endmembers: (R, B), R >= 2.
        snr_db: signal-to-noise ratio in dB; None (static) for no noise.
        length: correlation length in pixels, > 0.
        contrast: see `abundance_field`.
        purity: largest abundance allowed, in (1/R, 1].
        brightness: standard deviation of the logarithm of the brightness, 0 for s = 1 everywhere; 0.2 is a hilly scene.

    Returns:
        The scene, in the type of the endmembers.

    Raises:
        InputError: if the shapes do not fit or a number is out of range.
    """
    check_key(key)
    check_endmembers(endmembers)
    E = jnp.asarray(endmembers)
    for_abundances, for_brightness, for_noise = jax.random.split(key, 3)
    abundances = abundance_field(
        for_abundances, shape, E.shape[0], length=length, contrast=contrast, purity=purity, dtype=E.dtype
    )
    s = jnp.exp(jnp.asarray(brightness, E.dtype) * _gaussian_field(for_brightness, shape, length, E.dtype))
    cube = scaled_mix(abundances, E, s)
    if snr_db is not None:
        cube = add_noise(for_noise, cube, snr_db)
    return Sample(cube, abundances, E, s)


def _check_shape(shape: tuple[int, int], count: int) -> None:
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"shape is {shape}; expected (rows, columns), each at least 1.")
    if count < 2:
        raise InputError(f"{count} endmembers asked for; expected at least 2: with one, every abundance is 1.")


def _gaussian_field(key: Array, shape: tuple[int, int], length: float | Array, dtype: DTypeLike) -> jax.Array:
    """Draw a field (H, W) of variance 1 and covariance exp(-d^2 / (2 length^2)), by filtering white noise."""
    # The filter is periodic: a field twice as large is cut to a quarter, so opposite edges are independent.
    size = tuple(1 if n == 1 else 2 * n for n in shape)
    noise = jax.random.normal(key, size, dtype)
    down = jnp.fft.fftfreq(size[0]).astype(dtype)[:, None]
    right = jnp.fft.rfftfreq(size[1]).astype(dtype)[None, :]
    squared = jnp.square(jnp.asarray(length, dtype)) * (jnp.square(down) + jnp.square(right))
    # The square root of the spectrum of the Gaussian covariance, exp(-2 pi^2 length^2 f^2).
    response = jnp.exp(-(jnp.pi**2) * squared)
    # rfft keeps half of the columns: each counts twice except the first and, for even width, the last.
    twice = jnp.where((right == 0.0) | (right == 0.5), 1.0, 2.0)
    variance = jnp.sum(twice * jnp.square(response)) / (size[0] * size[1])
    waves = jnp.fft.rfft2(noise)
    field = jnp.fft.irfft2(waves * response.astype(waves.dtype), s=size) / jnp.sqrt(variance)
    return field[: shape[0], : shape[1]].astype(dtype)

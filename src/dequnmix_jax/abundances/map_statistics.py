"""Statistics of abundance maps that have no size: what the learned smoother (`learned_smoothing`) sees of a scene.

Along a direction whose differences of neighbours have unit semivariance, they are ratios and logarithms of moments of
differences, so that they depend on no number of pixels, bands or endmembers and on no unit; each is clipped to the
range in which it is known.
"""

import jax
import jax.numpy as jnp
from jax import lax

COUNT = 20
"""Number of statistics of a direction (`statistics`)."""

SHARE = COUNT - 1
"""Which of them is the share of the errors in the semivariance: by the halves, if they are known."""

_TINY = 1e-12

_LAGS = ((0, 2), (2, 0)), ((0, 3), (3, 0)), ((0, 5), (5, 0)), ((1, 1), (1, -1))


def statistics(u: jax.Array, valid: jax.Array, lengths: jax.Array, halves: jax.Array | None) -> jax.Array:
    """Return the statistics of each direction.

    Args:
        u: (D, H, W), coordinates of the maps along the directions, each with a semivariance of 1 at the distance 1.
        valid: (H, W) bool.
        lengths: (D,), squared length of a unit of u in abundances.
        halves: (D, H, W), half the difference of the maps by even and odd bands; None: unknown.

    Returns:
        (D, COUNT), each about 0 and of order 1: share of errors; logarithms of the semivariance at distances 2, 3, 5
        and diagonally, of the variance, of the kurtosis and of the mean absolute value of differences of neighbours
        and of the Laplacian, of the Laplacian's mean square (white errors: 0), of the ratio of rows and columns; the
        share of the errors in the length of all directions; what is flat; and, if the halves are known, 1, the
        logarithms of their semivariance and variance, and of their ratio, otherwise 0.
    """
    near, squares, magnitudes = _moments(u, valid, ((0, 1), (1, 0)))
    near = jnp.maximum(near, _TINY)
    away = [_moments(u, valid, lags)[0] / near for lags in _LAGS]
    nugget = jnp.clip(3 - 3 * away[0] + away[1], -1, 1)
    found = [nugget, *(_log(x, -1, 3) for x in away)]
    number = jnp.maximum(jnp.sum(valid).astype(u.dtype), 1)
    mean = jnp.sum(jnp.where(valid[None], u, 0), axis=(1, 2)) / number
    variance = jnp.sum(jnp.where(valid[None], jnp.square(u - mean[:, None, None]), 0), axis=(1, 2)) / number
    found.append(_log(variance / near, -1, 5) / 2)
    found += [_log(squares, -1, 3), _log(magnitudes, -2, 0.5)]
    laplacian, inside = _laplacian(u, valid)
    power, kurtosis, size = _summed(laplacian, inside)
    found += [_log(power / (20 * near), -5, 1) / 2, _log(kurtosis, -1, 3), _log(size, -2, 0.5)]
    across, down = (_moments(u, valid, (lag,))[0] for lag in ((0, 1), (1, 0)))
    found.append(jnp.clip(jnp.abs(jnp.log(jnp.maximum(across, _TINY) / jnp.maximum(down, _TINY))), 0, 3))
    found.append(_log(lengths / jnp.maximum(jnp.mean(lengths), _TINY), -5, 2) / 2)
    flat = jnp.abs(laplacian) < 1e-2
    pixels = jnp.maximum(jnp.sum(inside).astype(u.dtype), 1)
    found.append(jnp.sum(flat & inside[None], axis=(1, 2)).astype(u.dtype) / pixels)
    rest = COUNT - len(found)
    if halves is None:
        found += [jnp.zeros_like(near)] * (rest - 1) + [nugget]
    else:
        noise, kurt, _ = _moments(halves, valid, ((0, 1), (1, 0)))
        spread = jnp.sum(jnp.where(valid[None], jnp.square(halves), 0), axis=(1, 2)) / number
        share = jnp.clip(noise / near, 0, 1)
        found += [jnp.ones_like(near), _log(noise / near, -7, 1) / 2 + 1, _log(spread / near, -7, 3) / 2 + 1]
        found += [_log(kurt, -1, 3), nugget - share, share]
    return jnp.stack(found, axis=-1)


def _log(x: jax.Array, low: float, high: float) -> jax.Array:
    return jnp.clip(jnp.log(jnp.maximum(x, _TINY)), low, high)


def _summed(x: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the mean square of x (D, H, W), its kurtosis and its mean size, 1 for a normal distribution."""
    number = jnp.maximum(jnp.sum(inside).astype(x.dtype), 1)
    x = jnp.where(inside[None], x, 0)
    square = jnp.sum(jnp.square(x), axis=(1, 2)) / number
    fourth = jnp.sum(jnp.square(jnp.square(x)), axis=(1, 2)) / number
    size = jnp.sum(jnp.abs(x), axis=(1, 2)) / number
    safe = jnp.maximum(square, _TINY)
    return square, fourth / (3 * jnp.square(safe)), size / (0.79788456 * jnp.sqrt(safe))


def _moments(
    u: jax.Array, valid: jax.Array, lags: tuple[tuple[int, int], ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return semivariance, kurtosis and mean size of differences of valid pixels at some lags (down, across)."""
    rows, columns = valid.shape
    sums = [jnp.zeros(u.shape[0], u.dtype) for _ in range(3)]
    pairs = jnp.zeros((), u.dtype)
    for down, across in lags:
        if rows <= down or columns <= abs(across):
            continue
        low = slice(max(-across, 0), columns - max(across, 0))
        high = slice(max(across, 0), columns + min(across, 0))
        both = valid[: rows - down, low] & valid[down:, high]
        d = jnp.where(both[None], u[:, down:, high] - u[:, : rows - down, low], 0)
        square = jnp.square(d)
        for i, value in enumerate((square, jnp.square(square), jnp.abs(d))):
            sums[i] = sums[i] + jnp.sum(value, axis=(1, 2))
        pairs = pairs + jnp.sum(both).astype(u.dtype)
    square, fourth, size = (x / jnp.maximum(pairs, 1) for x in sums)
    safe = jnp.maximum(square, _TINY)
    return square / 2, fourth / (3 * jnp.square(safe)), size / (0.79788456 * jnp.sqrt(safe))


def _laplacian(u: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return 4 u minus the four neighbours, and where all five pixels are valid."""
    padded = jnp.pad(valid, 1)
    inside = valid & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    p = jnp.pad(u, ((0, 0), (1, 1), (1, 1)))
    value = 4 * u - p[:, :-2, 1:-1] - p[:, 2:, 1:-1] - p[:, 1:-1, :-2] - p[:, 1:-1, 2:]
    return lax.stop_gradient(jnp.where(inside[None], value, 0)), inside

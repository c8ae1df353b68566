"""How the abundances of generated scenes lie in space."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.datasets.generator.families import LAYOUTS, ORDERS, Numbers
from dequnmix_jax.mixing import project_simplex

MOST_REGIONS = 96
MOST_TARGETS = 96
_SIDE = 7  # most squares along a side
_REACH = 4  # pixels, of the blur
_LEVELS = ((0, 0.0), (1, 0.0), (0, 0.8), (1, -0.8), (0, -0.8))  # fields and levels of the curves
_FOLDS = 3  # multiples of the pixels' frequency up to which a spectrum is folded back
_PRESENT = 0.4  # abundance that every material reaches somewhere


class Ground(NamedTuple):
    """What all layouts of a scene are made of.

    Attributes:
        mixed: (H, W, R), abundances of fields on the simplex, without the rare materials (the first ones) where the
            layout is "targets" or "curves"; planes and long fields where it is "gradient".
        texture: (R, H, W), Matern fields (nu 1/2) with a range of two pixels.
        winding: (2, H, W), smooth Gaussian fields, mean 0 and variance 1 over the scene.
        region: (H, W) int32, number of the Voronoi region.
    """

    mixed: jax.Array
    texture: jax.Array
    winding: jax.Array
    region: jax.Array


def gaussian_fields(
    key: jax.Array, shape: tuple[int, int], number: tuple[int, ...], length: jax.Array, order: jax.Array
) -> jax.Array:
    """Draw groups of stationary Gaussian fields of variance 1 by filtering white noise.

    Spectral density (1 + (2 pi l f)^2 / (2 nu))^-(nu + 1), Matern with smoothness nu, or exp(-2 (pi l f)^2) for
    nu = inf, sampled at the pixels (frequencies above that of the pixels are folded back): covariance exp(-d / l) for
    nu = 1/2, exp(-d^2 / (2 l^2)) for nu = inf. The filter works on a torus twice as large, a quarter of which is kept.

    Args:
        key: random key.
        shape: (H, W), static.
        number: of fields in each of G groups, static; F in all.
        length: (G,) pixels.
        order: (G,), nu.

    Returns:
        (F, H, W).
    """
    rows, columns = 2 * shape[0], 2 * shape[1]
    is_smooth = jnp.isinf(order)[:, None, None]
    nu = jnp.where(jnp.isinf(order), 1.0, order)[:, None, None]
    scale = jnp.square(2.0 * jnp.pi * length)[:, None, None]

    def folded(density: jax.Array, fold: jax.Array) -> tuple[jax.Array, None]:
        down, right = fold[0] + np.fft.fftfreq(rows).astype(np.float32), fold[1] + np.fft.rfftfreq(columns).astype("f")
        wave = scale * (jnp.square(down)[:, None] + jnp.square(right)[None])[None]
        matern = jnp.exp(-(nu + 1.0) * jnp.log1p(wave / (2.0 * nu)))
        return density + jnp.where(is_smooth, jnp.exp(-wave / 2.0), matern), None

    start = jnp.zeros((len(number), rows, columns // 2 + 1), jnp.float32)
    folds = np.stack(np.meshgrid(*2 * [np.arange(-_FOLDS, _FOLDS + 1)]), axis=-1).reshape(-1, 2).astype(np.float32)
    density, _ = jax.lax.scan(folded, start, jnp.asarray(folds))
    # rfft keeps half of the columns: each counts twice except the first and the last.
    twice = np.full(columns // 2 + 1, 2.0, np.float32)
    twice[[0, -1]] = 1.0
    power = jnp.sum(density * jnp.asarray(twice)[None, None], axis=(1, 2), keepdims=True)
    response = jnp.concatenate(
        [
            jnp.repeat(one[None], n, axis=0)
            for one, n in zip(jnp.sqrt(density * (rows * columns) / power), number, strict=True)
        ]
    )
    waves = jnp.fft.rfft2(jax.random.normal(key, (sum(number), rows, columns), jnp.float32))
    fields = jnp.fft.irfft2(waves * response.astype(waves.dtype), s=(rows, columns))
    return fields[:, : shape[0], : shape[1]]


def standardised(fields: jax.Array) -> jax.Array:
    """Return fields (F, H, W) with mean 0 and variance 1 over the scene."""
    centred = fields - jnp.mean(fields, axis=(1, 2), keepdims=True)
    return centred / jnp.sqrt(jnp.mean(jnp.square(centred), axis=(1, 2), keepdims=True) + 1e-12)


def _pixels(shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Return the rows and columns of the pixels' centres, each (H, W)."""
    at = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
    return jnp.asarray(at[0], jnp.float32), jnp.asarray(at[1], jnp.float32)


def regions(key: jax.Array, shape: tuple[int, int], number: jax.Array) -> jax.Array:
    """Divide the scene into Voronoi regions.

    Args:
        key: random key.
        shape: (H, W), static.
        number: (), at most `MOST_REGIONS`.

    Returns:
        (H, W) int32, number of the region.
    """
    seeds = jax.random.uniform(key, (MOST_REGIONS, 2), jnp.float32)
    present = jnp.arange(MOST_REGIONS, dtype=jnp.float32) < number
    down, right = _pixels(shape)
    distance = jnp.square(down[..., None] - shape[0] * seeds[None, None, :, 0]) + jnp.square(
        right[..., None] - shape[1] * seeds[None, None, :, 1]
    )
    return jnp.argmin(jnp.where(present[None, None], distance, jnp.inf), axis=-1).astype(jnp.int32)


def on_simplex(fields: jax.Array, offset: jax.Array) -> jax.Array:
    """Project fields on the simplex, with offsets raised until each material reaches 0.4 in some pixel.

    Args:
        fields: (R, H, W).
        offset: (R,), first offsets; a material with -inf stays absent.

    Returns:
        (H, W, R).
    """
    wanted = jnp.isfinite(offset)
    maps = jnp.moveaxis(jnp.where(wanted[:, None, None], fields + offset[:, None, None], -1e3), 0, -1)

    def raised(_: int, maps: jax.Array) -> jax.Array:
        peak = jnp.max(project_simplex(maps), axis=(0, 1))
        return maps + jnp.where(wanted, jnp.maximum(_PRESENT + 0.02 - peak, 0.0), 0.0)[None, None]

    # A raised material lowers other peaks, by less: a few repetitions meet all.
    return project_simplex(jax.lax.fori_loop(0, 16, raised, maps))


def draw_ground(key: jax.Array, shape: tuple[int, int], count: int, numbers: Numbers) -> Ground:
    """Draw what the layouts of a scene are made of."""
    for_fields, for_regions, for_offsets, for_planes = jax.random.split(key, 4)
    length = jnp.minimum(numbers.length, numbers.longest * min(shape))
    order = jnp.asarray(ORDERS, jnp.float32)[numbers.order]
    winding = jnp.float32(max(min(shape) / 5.0, 4.0))
    lengths, orders = (
        jnp.stack([length, jnp.float32(2.0), winding]),
        jnp.stack([order, *map(jnp.float32, (0.5, np.inf))]),
    )
    drawn = gaussian_fields(for_fields, shape, (count, count, 2), lengths, orders)
    fields = standardised(drawn[:count])
    u = jax.random.uniform(for_planes, (2, count), jnp.float32)
    angle, tilt = 2.0 * jnp.pi * u[0, :, None, None], u[1, :, None, None]
    down, right = (at / n - 0.5 for at, n in zip(_pixels(shape), shape, strict=True))
    plane = standardised(jnp.cos(angle) * down[None] + jnp.sin(angle) * right[None])
    slow = standardised(tilt * plane + (1.0 - tilt) * fields)
    fields = jnp.where(numbers.layout == LAYOUTS.index("gradient"), slow, fields)
    has_rare = (numbers.layout == LAYOUTS.index("targets")) | (numbers.layout == LAYOUTS.index("curves"))
    offset = numbers.unevenness * jax.random.normal(for_offsets, (count,), jnp.float32)
    offset = jnp.where(has_rare & _is_rare(count, numbers), -jnp.inf, offset)
    mixed = on_simplex(numbers.contrast * fields, offset)
    region = regions(for_regions, shape, jnp.floor(numbers.regions))
    return Ground(mixed, drawn[count : 2 * count], standardised(drawn[2 * count :]), region)


def cap(abundances: jax.Array, purity: jax.Array) -> jax.Array:
    """Move pixels towards 1/R until their largest abundance is at most `purity`, more than 1/R."""
    level = 1.0 / abundances.shape[-1]
    above = jnp.max(abundances, axis=-1, keepdims=True) - level
    shrink = jnp.minimum(1.0, (purity - level) / jnp.maximum(above, 1e-6))
    return level + (abundances - level) * shrink


def blur(maps: jax.Array, width: jax.Array) -> jax.Array:
    """Smooth maps (H, W, R) by a Gaussian of `width` pixels standard deviation, up to 1.3; the edge is repeated."""
    offsets = np.arange(-_REACH, _REACH + 1)
    kernel = jnp.exp(-jnp.asarray(offsets**2, jnp.float32) / (2.0 * jnp.square(jnp.maximum(width, 0.05))))
    kernel = kernel / jnp.sum(kernel)
    for axis, size in enumerate(maps.shape[:2]):
        sources = np.clip(np.arange(size)[:, None] + offsets[None], 0, size - 1)
        mixing = jnp.zeros((size, size), jnp.float32).at[np.arange(size)[:, None], sources].add(kernel[None])
        maps = jnp.moveaxis(jnp.tensordot(mixing, maps, axes=(1, axis), precision="highest"), 0, axis)
    return maps


def _mixtures(key: jax.Array, number: int, count: int) -> jax.Array:
    """Draw `number` mixtures (number, R): normalised squares of exponential variables, mostly of two or three."""
    parts = jnp.square(jax.random.exponential(key, (number, count), jnp.float32))
    return parts / jnp.sum(parts, axis=1, keepdims=True)


def _is_rare(count: int, numbers: Numbers) -> jax.Array:
    """Return which materials (R,) are rare: the first ones, at least one, not all, and at most five."""
    number = jnp.clip(jnp.round(numbers.rare * count), 1, count - 1)
    return jnp.arange(count, dtype=jnp.float32) < jnp.minimum(number, float(len(_LEVELS)))


def _fields(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    return ground.mixed


def _regions(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    count = ground.mixed.shape[2]
    for_mixtures, for_pure, for_kind = jax.random.split(key, 3)
    kinds = _mixtures(for_mixtures, MOST_REGIONS, count)
    number = np.arange(MOST_REGIONS)
    pure = jax.nn.one_hot(jax.random.randint(for_kind, (MOST_REGIONS,), 0, count, jnp.int32), count, dtype=jnp.float32)
    is_pure = jax.random.uniform(for_pure, (MOST_REGIONS,), jnp.float32) < numbers.pure
    kinds = jnp.where(is_pure[:, None], pure, kinds)
    # Each material has a region, nearly pure where regions vary.
    first = jnp.asarray(number < count)[:, None]
    own = jax.nn.one_hot(number % count, count, dtype=jnp.float32)
    kinds = jnp.where(first, own, kinds)
    return project_simplex(kinds[ground.region] + numbers.inside * jnp.moveaxis(ground.texture, 0, -1))


def _squares(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    *shape, count = ground.mixed.shape
    for_order, for_number, for_parts, for_place, for_numbers = jax.random.split(key, 5)
    cells = _SIDE * _SIDE
    u = jax.random.uniform(for_numbers, (4,), jnp.float32)
    # Enough squares for one pure square of each material.
    side = jnp.floor(jnp.maximum(numbers.squares, float(np.ceil(np.sqrt(count)))))
    parts = jnp.where(u[0] < 0.5, 1.0, jax.random.exponential(for_parts, (cells, count), jnp.float32))
    score = jax.random.uniform(for_order, (cells, count), jnp.float32)
    rank = jnp.sum(score[:, :, None] > score[:, None, :], axis=2, dtype=jnp.float32)
    wanted = 1.0 + jnp.floor(jax.random.uniform(for_number, (cells, 1), jnp.float32) * count)
    kinds = jnp.where(rank < wanted, parts + 0.05, 0.0)
    kinds = kinds / jnp.sum(kinds, axis=1, keepdims=True)
    number = np.arange(cells)
    pure = jnp.asarray(np.eye(count, dtype=np.float32)[number % count])
    kinds = jnp.where(jnp.asarray(number < count)[:, None], pure, kinds)
    # The first squares are the pure ones: squares are numbered in random order among those that are in the scene.
    down, right = (jnp.floor(at / n * side) for at, n in zip(_pixels((shape[0], shape[1])), shape, strict=True))
    cell = (down * side + right).astype(jnp.int32)
    place = jax.random.uniform(for_place, (cells,), jnp.float32) + jnp.where(
        jnp.asarray(number, jnp.float32) < jnp.square(side), 0.0, 2.0
    )
    numbered = jnp.sum(place[:, None] > place[None, :], axis=1)
    inside = [at / n * side - k for at, n, k in zip(_pixels((shape[0], shape[1])), shape, (down, right), strict=True)]
    margin = 0.15 + 0.15 * u[1]
    within = (jnp.abs(inside[0] - 0.5) < 0.5 - margin) & (jnp.abs(inside[1] - 0.5) < 0.5 - margin)
    back = jnp.full((count,), 0.3, jnp.float32) + jax.random.exponential(for_parts, (count,), jnp.float32)
    background = cap((back / jnp.sum(back))[None, None], jnp.float32(0.75))
    return jnp.where(within[..., None], kinds[numbered[cell]], background)


def _targets(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    *shape, count = ground.mixed.shape
    background = cap(ground.mixed, jnp.float32(0.8))
    u = jax.random.uniform(key, (MOST_TARGETS, 3), jnp.float32)
    size = jnp.floor(1.0 + u[:, 0] * numbers.target)
    present = jnp.arange(MOST_TARGETS, dtype=jnp.float32) < count * jnp.floor(numbers.targets)
    down, right = _pixels((shape[0], shape[1]))
    top, left = (jnp.floor(u[:, i + 1] * (n - size + 1.0)) for i, n in enumerate(shape))
    covered = (
        present[:, None, None]
        & (down[None] > top[:, None, None])
        & (down[None] < (top + size)[:, None, None])
        & (right[None] > left[:, None, None])
        & (right[None] < (left + size)[:, None, None])
    )
    # Where targets overlap, the first is on top: the first R of them are of R materials.
    material = jax.nn.one_hot(jnp.argmax(covered, axis=0) % count, count, dtype=jnp.float32)
    return jnp.where(jnp.any(covered, axis=0)[..., None], material, background)


def _curves(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    count = ground.mixed.shape[2]
    rare = jnp.sum(_is_rare(count, numbers), dtype=jnp.int32)

    # Each rare material has one level set; |h - level| / |grad h| is the distance to it, in pixels.
    h = ground.winding
    down, right = (jnp.asarray(jnp.gradient(h, axis=axis)) for axis in (1, 2))
    steep = jnp.sqrt(jnp.square(down) + jnp.square(right))
    maps = ground.mixed
    for line, (field, level) in enumerate(_LEVELS[: count - 1]):
        distance = jnp.abs(h[field] - level) / jnp.maximum(steep[field], 1e-3)
        cover = jnp.where(line < rare, jnp.clip(0.5 * numbers.target + 0.5 - distance, 0.0, 1.0), 0.0)[..., None]
        maps = maps + cover * (jax.nn.one_hot(line, count, dtype=jnp.float32)[None, None] - maps)
    return maps


def _unordered(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    # A Gamma variable of parameter k/2 is half a sum of k squares of normal ones.
    *shape, count = ground.mixed.shape
    squares = jnp.square(jax.random.normal(key, (4, *shape, count), jnp.float32))
    used = jnp.arange(4, dtype=jnp.float32) < jnp.round(2.0 * numbers.dirichlet)
    parts = jnp.sum(jnp.where(used[:, None, None, None], squares, 0.0), axis=0) + 1e-9
    return parts / jnp.sum(parts, axis=-1, keepdims=True)


_DRAWN = (_fields, _regions, _squares, _targets, _fields, _curves, _unordered)  # in the order of LAYOUTS


def draw_abundances(key: jax.Array, ground: Ground, numbers: Numbers) -> jax.Array:
    """Draw abundances in the layout of the numbers.

    Args:
        key: random key.
        ground: of `draw_ground`.
        numbers: of `families.numbers_of`.

    Returns:
        (H, W, R), >= 0, summing to one, materials in random order.
    """
    for_layout, for_order = jax.random.split(key)
    branches = [lambda k, g, n, made=made: made(k, g, n) for made in _DRAWN]
    maps = jax.lax.switch(numbers.layout, branches, for_layout, ground, numbers)
    order = jnp.argsort(jax.random.uniform(for_order, (maps.shape[-1],), jnp.float32))
    maps = cap(blur(maps[..., order], numbers.blur), numbers.purity)
    maps = jnp.maximum(maps, 0.0)
    return maps / jnp.sum(maps, axis=-1, keepdims=True)

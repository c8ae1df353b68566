"""Draw generated scenes of a family, one or many."""

import hashlib
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.checks import Array, InputError, check_key
from dequnmix_jax.datasets.generator import layouts, materials, optics
from dequnmix_jax.datasets.generator.families import FAMILIES, FREE_BRIGHTNESS, Numbers, numbers_of, text_of_ranges

CONVENTIONS = ("level", "scaled")
"""Which fractions a method can know: of spectra at their own level, or of spectra scaled to maximum one."""


MOST_MATERIALS = 12
"""As many as the smallest number of regions: each material has one."""


class SceneShape(NamedTuple):
    """The size of a scene: rows H, columns W, bands B and materials R (`count`)."""

    rows: int
    columns: int
    bands: int
    count: int  # type: ignore[assignment]  # tuples have a method of this name


class DrawnScene(NamedTuple):
    """A generated scene and its truth; of `draw_batch` with a first axis of scenes.

    Attributes:
        cube: (H, W, B) float32, reflectance with noise.
        abundances: (H, W, R), >= 0, summing to one: the fractions that mixed the cube, of spectra at their own level
            (for intimate mixing: of cross-sections).
        endmembers: (R, B), reflectance of each material without brightness; where materials vary, also by local angles,
            the mean over the scene, weighted by abundance.
        brightness: (H, W), the factor s.
        snr: (), dB, mean square of the clean cube over that of the noise.
        wavelengths: (B,), nm, ascending.
        convention: () int32, index in `CONVENTIONS`: "scaled" where the brightness of pixels is free, because then the
            level of a material cannot be distinguished from brightness; see `reference_abundances`.
        rows: (R,) int32, row of each material in `materials.minerals()`, -1 if random.
        family: () int32, index in `FAMILIES`.
        numbers: what the scene was drawn with, each ().
    """

    cube: jax.Array
    abundances: jax.Array
    endmembers: jax.Array
    brightness: jax.Array
    snr: jax.Array
    wavelengths: jax.Array
    convention: jax.Array
    rows: jax.Array
    family: jax.Array
    numbers: Numbers


def draw(key: Array, family: str, size: SceneShape, minerals: str = "training") -> DrawnScene:
    """Draw a scene of a family.

    One compiled program of a size serves all families and sources of spectra.

    Args:
        key: random key; the same key gives the same scene.
        family: one of `FAMILIES`.
        size: H, W, B, R.
        minerals: where spectra come from: "training" or "test" minerals, or "random".

    Returns:
        The scene and its truth.

    Raises:
        InputError: if the family or the source does not exist, or the size is out of range.
    """
    check_key(key)
    return _one(key, _index(family), materials.pool_of(minerals), _checked(size))


def draw_batch(key: Array, family: str, number: int, size: SceneShape, minerals: str = "training") -> DrawnScene:
    """Draw several scenes of a family at once: scene i is that of `draw(jax.random.fold_in(key, i), ...)`.

    Args:
        key: random key.
        family: one of `FAMILIES`.
        number: of scenes, static; all branches of all choices are computed for all scenes, which costs 1.3 times the
            time of single draws on a CPU.
        size: H, W, B, R.
        minerals: "training", "test" or "random".

    Returns:
        The scenes, each array with a first axis of scenes.

    Raises:
        InputError: as `draw`, or if the number is not positive.
    """
    check_key(key)
    if number < 1:
        raise InputError(f"number is {number}; expected at least one scene.")
    return _many(key, _index(family), materials.pool_of(minerals), _checked(size), number)


def reference_abundances(scene: DrawnScene) -> jax.Array:
    """Return the abundances in the convention of the scene.

    "level": as they are. "scaled": a_r m_r / sum_j a_j m_j with m_r the maximum of endmember r, the fractions that
    non-negative least squares on endmembers of maximum one, divided by its sum, tends to.

    Args:
        scene: of `draw` or of `draw_batch`.

    Returns:
        (..., H, W, R), >= 0, summing to one.
    """
    scaled = scene.abundances * jnp.max(scene.endmembers, axis=-1)[..., None, None, :]
    scaled = scaled / jnp.maximum(jnp.sum(scaled, axis=-1, keepdims=True), 1e-12)
    return jnp.where(scene.convention[..., None, None, None] == 1, scaled, scene.abundances)


@cache
def fingerprint() -> str:
    """Return 16 hexadecimal digits that change with the version of the generator, its families and ranges, or minerals.

    What was made by one generator (a corpus, trained weights) says so by this.
    """
    spectra, names, groups, wavelengths = materials.minerals()
    digest = hashlib.sha256(text_of_ranges().encode())
    digest.update(repr((names, groups)).encode() + spectra.tobytes() + wavelengths.tobytes())
    return digest.hexdigest()[:16]


def _index(family: str) -> jax.Array:
    if family not in FAMILIES:
        raise InputError(f"There is no family {family!r}; expected one of {', '.join(FAMILIES)}. Choose one of them.")
    return jnp.asarray(FAMILIES.index(family), jnp.int32)


def _checked(size: SceneShape) -> SceneShape:
    if len(size) != 4 or min(size[:2]) < 8 or size[2] < 2 or not 2 <= size[3] <= MOST_MATERIALS:
        raise InputError(
            f"size is {tuple(size)}; expected rows and columns of at least 8, at least 2 bands and 2 to "
            f"{MOST_MATERIALS} materials, SceneShape(rows, columns, bands, count)."
        )
    return SceneShape(*(int(n) for n in size))


def _scene(key: jax.Array, family: jax.Array, pool: materials.Pool, size: SceneShape) -> DrawnScene:
    for_numbers, for_materials, for_ground, for_maps, for_light, for_mixing, for_noise = jax.random.split(
        jax.random.fold_in(key, family), 7
    )
    shape = (size.rows, size.columns)
    numbers = numbers_of(for_numbers, family)
    E, rows, wavelengths = materials.draw_materials(
        for_materials, pool, size.count, size.bands, numbers.nearest, numbers.shared, numbers.dark
    )
    ground = layouts.draw_ground(for_ground, shape, size.count, numbers)
    abundances = layouts.draw_abundances(for_maps, ground, numbers)
    light = optics.draw_light(for_light, shape, numbers)
    clean, mean = optics.mix(for_mixing, abundances, E, light, ground.region, numbers)
    cube = optics.add_noise(for_noise, clean, numbers)
    free = jnp.asarray([name in FREE_BRIGHTNESS for name in FAMILIES])[family]
    return DrawnScene(
        cube,
        abundances,
        mean,
        light.brightness,
        numbers.snr,
        wavelengths,
        free.astype(jnp.int32),
        rows,
        family,
        numbers,
    )


_one = jax.jit(_scene, static_argnames="size")


@partial(jax.jit, static_argnames=("size", "number"))
def _many(key: jax.Array, family: jax.Array, pool: materials.Pool, size: SceneShape, number: int) -> DrawnScene:
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
    return jax.vmap(lambda k: _scene(k, family, pool, size))(keys)

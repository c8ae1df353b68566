"""Train on patches of a scene larger than memory, drawn at random and placed in one cube.

Masked pixels separate the patches. They enter no convolution, so that with gutters of half a kernel the patches are
independent; each has a border like that of a scene. The scene is read once for its unit (the RMS, as in `unmix`) and
for a sample of pixels, in which VCA finds the initial endmembers.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import InputError, check_key, check_kind, how_many
from dequnmix_jax.endmembers.pure_pixel import vca
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.io.raw import Guard
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.scenes.source import Source, Window, source_of
from dequnmix_jax.tiles import survey
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.fitting import STARTS
from dequnmix_jax.training.resume import Keep, OnProgress, resumable_fit
from dequnmix_jax.types import History, Params

_SAMPLE = 20_000
"""Pixels in which VCA looks for endmembers; a material in one pixel of a thousand has twenty of them."""

_LEAST_VALID = 0.5
"""A patch needs this share of valid pixels to be used."""

_ATTENTION = 7
"""Kernel of CBAM's attention over pixels."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of a scene.

    Attributes:
        scene: the patches in one cube, masked between them.
        places: the window of each patch in the scene.
        corners: (N, 2), first row and column of each patch in the cube.
        whole: statistics of the whole scene.
        sample: (M, B), valid pixels from the whole scene.
        shape: (H, W, B) of the scene, its good bands.
        valid: number of valid pixels of the scene.
        warnings: about the scene.
    """

    scene: Scene
    places: tuple[Window, ...]
    corners: Array
    whole: Scenewide
    sample: Array
    shape: tuple[int, int, int]
    valid: int
    warnings: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint says about the scene of the training, fit for JSON."""
        size = max(max(place.shape) for place in self.places)
        drawn = {"patches": len(self.places), "patch_size": size, "patch_pixels": int(self.scene.valid.sum())}
        return {"name": self.scene.name, "shape": list(self.shape), "valid_pixels": self.valid, **drawn}


class _Sampling:
    """A view for `survey.scan` that keeps a sample of the pixels it reads."""

    def __init__(self, seen: survey.View, rows: Array, columns: Array) -> None:
        order = np.lexsort((columns, rows))
        self.seen, self.source, self.stored = seen, seen.source, seen.stored
        self.rows, self.columns = rows[order], columns[order]
        self.kept: list[Array] = []

    def read(self, window: Window) -> tuple[Array, Array]:
        cube, mask = self.seen.read(window)
        first, last = np.searchsorted(self.rows, [window.rows.start, window.rows.stop])
        rows, columns = self.rows[first:last] - window.rows.start, self.columns[first:last]
        self.kept.append(cube[rows, columns][mask[rows, columns]])
        return cube, mask


def draw(
    key: jax.Array, scene: Source | Scene, count: int, size: int, config: Model, *, drop_invalid: bool = False
) -> Patches:
    """Draw patches of a scene at random, without overlap, and place them in one cube.

    The scene is cut into squares from a random corner on; in a random order, the first `count` squares with at least
    half of their pixels valid are taken.

    Args:
        key: of jax.random.
        scene: a source, of which windows are read, or a scene.
        count: N patches; all of them if the scene has fewer.
        size: S, rows and columns of a patch.
        config: its kernels determine the distance between patches.
        drop_invalid: mask pixels that are zero in every band, NaN or infinite, as `mask_invalid` does.

    Raises:
        InputError: a count or a size below one, NaN in a valid pixel, no patch with half of its pixels valid, or a
            scene that changed while it was read.
    """
    check_key(key)
    check_kind(config, Model, "config")
    if count < 1 or size < 1:
        raise InputError(f"{count} patches of {size} x {size} pixels were asked for; expected at least one of each.")
    source = source_of(scene) if isinstance(scene, Scene) else scene
    guard, seen = Guard(source), survey.view(source, drop_invalid)
    height, width, bands = seen.source.shape
    keys = jax.random.split(key, 4)
    # All pixels of a small scene, each once: without an extreme pixel VCA misses its material.
    rows, columns = (
        np.divmod(np.arange(height * width), width)
        if height * width <= _SAMPLE
        else (
            np.asarray(jax.random.randint(k, (_SAMPLE,), 0, side))
            for k, side in zip(keys[:2], (height, width), strict=True)
        )
    )
    sample = _Sampling(seen, rows, columns)
    statistics = survey.scan(sample)  # type: ignore[arg-type]
    sides = min(size, height), min(size, width)
    number = height // sides[0], width // sides[1]
    spare = [height - number[0] * sides[0], width - number[1] * sides[1]]
    corner = [int(jax.random.randint(k, (), 0, n + 1)) for k, n in zip(jax.random.split(keys[2]), spare, strict=True)]
    taken: list[tuple[Window, Array, Array]] = []
    for cell in np.asarray(jax.random.permutation(keys[3], number[0] * number[1])):
        row, column = divmod(int(cell), number[1])
        top, left = corner[0] + row * sides[0], corner[1] + column * sides[1]
        place = Window(slice(top, top + sides[0]), slice(left, left + sides[1]))
        cube, mask = seen.read(place)
        if mask.mean() >= _LEAST_VALID:
            taken.append((place, cube, mask))
        if len(taken) == count:
            break
    guard.check()
    if not taken:
        raise InputError(
            f"None of the {number[0] * number[1]} patches of {sides[0]} x {sides[1]} pixels of "
            f"{source.name or 'the scene'} is valid in half of its pixels; expected one. Ask for smaller ones."
        )
    notes = list(seen.source.notes)
    if len(taken) < count:
        notes.append(f"The scene has {how_many(len(taken), 'half valid patch')}, of {count} asked for.")
    cube, mask, corners = _placed(taken, sides, max(config.largest_kernel, _ATTENTION) // 2)
    origin = seen.source
    mosaic = Scene(
        cube,
        wavelengths=origin.wavelengths,
        fwhm=origin.fwhm,
        mask=mask,
        name=origin.name,
        source=origin.source,
        notes=tuple(notes),
    )
    return Patches(
        scene=mosaic,
        places=tuple(place for place, _, _ in taken),
        corners=corners,
        whole=Scenewide(jnp.asarray(statistics.scale, jnp.float32)),
        sample=np.concatenate(sample.kept),
        shape=(height, width, bands),
        valid=statistics.valid,
        warnings=tuple(statistics.warnings),
    )


def _placed(
    taken: list[tuple[Window, Array, Array]], sides: tuple[int, int], gutter: int
) -> tuple[Array, Array, Array]:
    """Return cube and mask of patches placed in a near-square, and the first row and column of each."""
    across = math.ceil(math.sqrt(len(taken)))
    down = math.ceil(len(taken) / across)
    steps = np.array(sides) + gutter
    corners = np.array([divmod(i, across) for i in range(len(taken))]) * steps
    shape = (down * steps[0] - gutter, across * steps[1] - gutter)
    cube, mask = np.zeros((*shape, taken[0][1].shape[2]), np.float32), np.zeros(shape, np.bool_)
    for (top, left), (_, values, valid) in zip(corners, taken, strict=True):
        cube[top : top + sides[0], left : left + sides[1]] = np.where(valid[:, :, None], values, 0)
        mask[top : top + sides[0], left : left + sides[1]] = valid
    return cube, mask, corners


def start(key: jax.Array, drawn: Patches, count: int) -> jax.Array:
    """Return initial endmembers (R, B): VCA in the sample of pixels, as `fit` uses it in all pixels."""
    search = jax.jit(vca, static_argnums=2, static_argnames="runs")
    return jnp.maximum(search(key, jnp.asarray(drawn.sample[None]), count, runs=STARTS), 0)


def fit_patches(
    key: jax.Array,
    scene: Source | Scene,
    config: Model,
    training: Training | None = None,
    rates: Rates | None = None,
    *,
    patches: int,
    size: int,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    drop_invalid: bool = False,
    keep: Keep | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Params, History]:
    """Train an equilibrium model on patches of a scene, as `fit` does on all of it.

    The parameters are those of a model of the whole scene: the unit is that of the whole scene, and attention pools
    over the patches in place of the scene. Memory is that of `fit` on a scene of the size of the patches; the scene is
    read once and the patches again.

    Args:
        key: of jax.random; it determines patches, initial endmembers, weights and held-out bands.
        scene: a source (`open_source`), of which windows are read, or a scene.
        config, training, rates: as for `fit`.
        patches: N, how many.
        size: S, rows and columns of each.
        endmembers: (R, B), initial endmembers; or
        count: R, number of endmembers that VCA finds in a sample of pixels of the whole scene.
        drop_invalid: mask pixels that are zero in every band, NaN or infinite.
        keep, on_progress: as for `resumable_fit`.

    Returns:
        (params, History), as `fit` does.

    Raises:
        InputError: as from `fit` and `draw`.
    """
    if (endmembers is None) == (count is None):
        raise InputError(
            "endmembers and count are both given or both missing; expected one of them: the initial spectra, (R, B), "
            "or how many to look for by VCA."
        )
    check_key(key)
    check_kind(RECOMMENDED[0] if training is None else training, Training, "training")
    check_kind(RECOMMENDED[1] if rates is None else rates, Rates, "rates")
    cells, first, rest = jax.random.split(key, 3)
    drawn = draw(cells, scene, patches, size, config, drop_invalid=drop_invalid)
    E = start(first, drawn, int(count or 0)) if endmembers is None else endmembers
    mask = None if drawn.scene.mask is None else jnp.asarray(drawn.scene.mask)
    return resumable_fit(
        rest,
        jnp.asarray(drawn.scene.cube),
        config,
        training,
        rates,
        endmembers=E,
        mask=mask,
        whole=drawn.whole,
        keep=keep,
        on_progress=on_progress,
    )

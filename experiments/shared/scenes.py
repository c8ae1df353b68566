"""The scenes of the tables, by name: `load("recipe, 15 dB", seed)`.

Drawn by the seed (spectra, abundances and noise, unless the scene fixes them), named "kind, S dB" or "kind, no noise",
with exact truth:

    recipe                      the paper's synthetic scenes (`variability`; extra leaves, folder raw/variability)
    recipe without variability  the same, each pixel mixing the means of the bundles
    varied                      three materials whose spectra vary from pixel to pixel (no data needed)
    purity 0.7, 0.8, 0.9, 1     linear mixtures of three minerals, the largest abundance allowed
    Matern                      linear mixtures of four minerals, abundances of a Matern field (folder raw/fields)
    PPNM, bilinear              nonlinear mixtures of three minerals (`nonlinear`)
    apex stand-in               semi-synthetic: the reference of Apex, mixed again with spectra that vary
    misicnet_sim1, dc1          shipped without noise; the seed draws the noise

Measured, the same for each seed: samson (two references), hapke_relab, hysu (true areas only), apex.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import InputError, metrics
from dequnmix_jax.abundances import nonlinear
from dequnmix_jax.datasets import registry, synthetic
from dequnmix_jax.io import npz
from dequnmix_jax.mixing import linear_mix
from dequnmix_jax.scenes.truth import Truth
from experiments.shared import variability


def scene(name: str, snr: float | None, crop: int | None) -> tuple[jax.Array, registry.Truth]:
    """Load a scene; noise is drawn from a fixed key, the same for all methods and seeds."""
    loaded, truth = registry.load(name)
    cube = jnp.asarray(loaded.cube)
    if snr is not None:
        cube = synthetic.add_noise(jax.random.key(2604), cube, snr)
    return (cube if crop is None else cube[:crop, :crop]), truth


SIDE, LENGTH, CONTRAST = 50, 6.0, 1.5
"""Of the drawn scenes: rows and columns (those of the paper), and the arguments of `synthetic.abundance_field`."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A scene: cube (H, W, B), mask (H, W) or None, and references, each with whether it is exact.

    Exact: the abundances are those that mixed the cube, in its units.
    """

    cube: jax.Array
    references: tuple[tuple[Truth, bool], ...]
    mask: jax.Array | None = None


Drawn = tuple[jax.Array, Truth]
"""A cube without noise and its truth."""


def minerals(key: jax.Array, count: int, nearest: float = 0.11) -> jax.Array:
    """Draw spectra (count, 224) of the USGS library: of the eleven shipped with dc1 and misicnet_sim1.

    One nearer than `nearest` radians to an earlier one is left out, which leaves six.
    """
    kept: list[np.ndarray] = []
    for spectrum in np.concatenate([registry.load(name)[1].endmembers for name in ("dc1", "misicnet_sim1")]):
        if not kept or float(jnp.min(metrics.spectral_angle(spectrum[None], np.stack(kept)))) > nearest:
            kept.append(spectrum)
    return jnp.asarray(np.stack(kept))[jax.random.permutation(key, len(kept))[:count]]


@jax.jit
def vary(key: jax.Array, abundances: jax.Array, endmembers: jax.Array) -> tuple[jax.Array, ...]:
    """Mix spectra that vary from pixel to pixel; return the cube and the mean spectra.

    e_rn = e_r exp(0.1 g + 0.1 h): g over the bands a Gaussian random field, h a number, both drawn for each pixel and
    material.
    """
    shape, light = jax.random.split(key)
    rows, columns, count = abundances.shape
    bands = endmembers.shape[1]
    # The logit of `spectra` is such a field: 1.5 times a standard one, about an eighth of the bands long.
    s = synthetic.spectra(shape, rows * columns * count, bands)
    g = jax.scipy.special.logit((s - 0.05) / 0.9) / 1.5
    h = jax.random.normal(light, (rows * columns * count, 1))
    each = endmembers[None] * jnp.exp(0.1 * g + 0.1 * h).reshape(-1, count, bands)
    flat = jnp.einsum("nr,nrb->nb", abundances.reshape(-1, count), each, precision="highest")
    return flat.reshape(rows, columns, bands), jnp.mean(each, axis=0)


def _fields(key: jax.Array, count: int) -> jax.Array:
    return synthetic.abundance_field(key, (SIDE, SIDE), count, length=LENGTH, contrast=CONTRAST)


def _varied(seed: int, bands: int = 198) -> Drawn:
    draw, maps, each = jax.random.split(_key(seed), 3)
    A = _fields(maps, 3)
    cube, E = vary(each, A, synthetic.spectra(draw, 3, bands))
    return cube, Truth(np.asarray(A), np.asarray(E), reference="exact abundances, mean spectra")


def _recipe(seed: int, *, varied: bool) -> Drawn:
    draw = np.random.default_rng(seed)
    bundles, A, _ = variability.bundles(draw)
    E = np.stack([bundle.mean(axis=0) for bundle in bundles])
    cube = jnp.asarray(variability.mix(draw, bundles if varied else [e[None] for e in E], A), jnp.float32)
    words = "exact abundances, mean of each bundle" if varied else "exact"
    return cube, Truth(A, E, ("vegetation", "soil", "water"), words)


def _purity(seed: int, *, purity: float) -> Drawn:
    draw, each = jax.random.split(_key(seed))
    sample = synthetic.linear_scene(
        each, (SIDE, SIDE), minerals(draw, 3), length=LENGTH, contrast=CONTRAST, purity=purity
    )
    return sample.cube, Truth(np.asarray(sample.abundances), np.asarray(sample.endmembers), reference="exact")


def _matern(seed: int) -> Drawn:
    from scipy.io import loadmat

    A = loadmat(registry.find("raw/fields/AbundancesMatternGaussian64.mat", download=False))["A"]
    E = minerals(_key(seed), A.shape[2])
    return linear_mix(A.astype(np.float32), E), Truth(A, np.asarray(E), reference="exact")


def _post_nonlinear(seed: int) -> Drawn:
    draw, maps, bend = jax.random.split(_key(seed), 3)
    E, A = minerals(draw, 3), _fields(maps, 3)
    b = jax.random.uniform(bend, A.shape[:2], minval=-0.3, maxval=0.3)
    words = "exact abundances; mixing is not linear"
    return nonlinear.post_nonlinear(A, E, b), Truth(np.asarray(A), np.asarray(E), reference=words)


def _bilinear(seed: int) -> Drawn:
    draw, maps, bend = jax.random.split(_key(seed), 3)
    E, A = minerals(draw, 3), _fields(maps, 3)
    gamma = jax.random.uniform(bend, (*A.shape[:2], nonlinear.pairs(3)))
    words = "exact abundances; mixing is not linear"
    return nonlinear.bilinear(A, E, gamma), Truth(np.asarray(A), np.asarray(E), reference=words)


def _apex_stand_in(seed: int) -> Drawn:
    arrays = npz.load(registry.find("apex_reference_only.npz", download=False))
    A = jnp.asarray(arrays["abundances"])
    cube, E = vary(_key(seed), A, jnp.asarray(arrays["endmembers"]))
    words = "semi-synthetic: reference abundances and spectra of Apex mixed with variability; exact for that cube"
    return cube, Truth(np.asarray(A), np.asarray(E), tuple(arrays["names"].tolist()), words)


def _shipped(seed: int, *, name: str) -> Drawn:
    scene, truth = registry.load(name)
    return jnp.asarray(scene.cube), truth


_DRAWN: dict[str, Callable[[int], Drawn]] = {
    "recipe": partial(_recipe, varied=True),
    "recipe without variability": partial(_recipe, varied=False),
    "varied": _varied,
    **{f"purity {purity:g}": partial(_purity, purity=purity) for purity in (0.7, 0.8, 0.9, 1.0)},
    "Matern": _matern,
    "PPNM": _post_nonlinear,
    "bilinear": _bilinear,
    "apex stand-in": _apex_stand_in,
    "misicnet_sim1": partial(_shipped, name="misicnet_sim1"),
    "dc1": partial(_shipped, name="dc1"),
    "hapke_sim1": partial(_shipped, name="hapke_sim1"),
}
_MEASURED = ("samson", "hapke_relab", "hysu", "apex")


def _key(seed: int) -> jax.Array:
    """Return the key of a scene, independent of the key of the methods, which have the same seed."""
    return jax.random.fold_in(jax.random.key(2604), seed)


def drawn(name: str) -> bool:
    """Return whether the seed draws the scene; a measured one is the same for all seeds.

    Raises:
        InputError: if there is no such scene.
    """
    kind, _, rest = name.partition(", ")
    if name in _MEASURED or (kind in _DRAWN and re.fullmatch(r"no noise|-?\d+(\.\d+)? dB", rest)):
        return name not in _MEASURED
    raise InputError(
        f"There is no scene {name!r}; expected one of {', '.join(_MEASURED)}, or one of {', '.join(_DRAWN)} followed "
        "by the noise, as in 'varied, 20 dB' or 'varied, no noise'."
    )


def load(name: str, seed: int, crop: int | None = None) -> Loaded:
    """Return a scene of the module's list.

    Args:
        name: with the noise if the scene is drawn: "PPNM, 30 dB".
        seed: draws the scene, the noise last.
        crop: number of rows and columns kept.

    Raises:
        InputError: if there is no such scene, or its files or extra are missing.
    """
    mask = None
    if drawn(name):
        kind, _, noise = name.partition(", ")
        cube, truth = _DRAWN[kind](seed)
        if noise != "no noise":
            cube = synthetic.add_noise(jax.random.fold_in(_key(seed), 1), cube, float(noise.split()[0]))
        references = ((truth, True),)
    elif name == "samson":
        cube = jnp.asarray(registry.load("samson_zhu")[0].cube)
        references = tuple((registry.load(f"samson_{author}")[1], False) for author in ("zhu", "rasti"))
    else:
        scene, truth = registry.load(name, download=False)
        cube, references = jnp.asarray(scene.cube), ((truth, False),)
        mask = None if scene.mask is None else jnp.asarray(scene.mask)
    if crop is not None:
        cube = cube[:crop, :crop]
        mask = None if mask is None else mask[:crop, :crop]
        references = tuple((_cropped(truth, crop), exact) for truth, exact in references)
    return Loaded(cube, references, mask)


def at_hand(names: Sequence[str]) -> tuple[list[str], str]:
    """Return the available scenes, and a sentence on each of the others (or "").

    Raises:
        InputError: if none is available.
    """
    available, missing = [], ""
    for name in names:
        try:
            load(name, 0)
        except InputError as error:
            missing += f" {name!r} left out: {error}"
        else:
            available.append(name)
    if not available:
        raise InputError(f"None of the scenes is there; expected at least one.{missing}")
    return available, missing


def _cropped(truth: Truth, crop: int) -> Truth:
    A = truth.abundances
    return truth if A is None else replace(truth, abundances=A[:crop, :crop])

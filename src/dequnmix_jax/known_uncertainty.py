"""How sure the fractions of known spectra are: which uncertainty is asked for, its noise, and its maps."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.abundances.methods import Known, Mesma
from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io.formats import read
from dequnmix_jax.libraries.chosen import Chosen
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Array, Scene

if TYPE_CHECKING:
    from dequnmix_jax.abundances.known import Unmixed

NOISE = {
    "bands": "The noise was estimated in each band and is independent between bands; spectra that vary are not in it.",
    "residual": "The noise is what the spectra of a pixel do not explain, taken as independent between bands.",
    "scene": "The error of a pixel is what the spectra do not explain in the whole scene, with its correlation between "
    "bands: noise, spectra that vary and mixing that is not linear.",
}
"""Words for the noise of uncertainties, and what they assume."""

OFF, CLOSED, DRAWS = "off", "closed form", "draws"
WAYS = (OFF, CLOSED, DRAWS)
"""How uncertainties are computed."""

_TABLES = (".csv", ".txt", ".npy")


class Asked(NamedTuple):
    """Which uncertainty is asked for.

    Attributes:
        noise: a word of `NOISE`, standard deviations (), (B,) or (H, W, B), a path of a file of them, or None.
        by: a word of `WAYS`.
        draws: number of draws.
        bounds: whether bounds are computed as well.
        key: of jax.random, for draws; or None.
    """

    noise: Any = None
    by: str = OFF
    draws: int = 20
    bounds: bool = False
    key: Any = None


def asked_for(
    noise: Any, by: str | None, *, draws: int = 20, bounds: bool = False, key: Any = None, known: Known | None
) -> Asked:
    """Return what is asked for.

    Args:
        noise, by, draws, bounds, key: as for `known_spectra.unmix_with`.
        known: the method; None: "deq".

    Raises:
        InputError: the method has no uncertainty of this kind, or a word or number is wrong.
    """
    way = by if by is not None else OFF if noise is None and not bounds else CLOSED
    if way not in WAYS:
        raise InputError(f"uncertainty_by is {by!r}; expected {', '.join(map(repr, WAYS))}.")
    if way == OFF:
        if noise is not None or bounds:
            raise InputError("uncertainty_by is 'off'; expected no uncertainty and no bounds with it. Leave them out.")
        return Asked()
    if way == CLOSED and noise is None:
        raise InputError(
            f"Uncertainty in closed form needs a noise, and none is given; expected {', '.join(NOISE)}, a number or a "
            "file. Pass uncertainty (--uncertainty NOISE)."
        )
    if type(draws) is not int or draws < 2:
        raise InputError(f"draws is {draws!r}; expected a whole number of at least 2.")
    if known is not None and known.normalised:
        raise InputError(
            f"The uncertainty of {known.method} with a brightness that is divided out is not computed; expected no "
            "normalised (--normalise) with it. Leave out one of them."
        )
    if known is None or ((known.nonlinear or not known.by_pixel) and way == CLOSED):
        raise InputError(
            f"The uncertainty of {'deq' if known is None else known.method} has no closed form; expected fcls, nnls, "
            "scaled, soft, sunsal or mesma. Choose one of these, or leave uncertainty out."
        )
    if way == DRAWS and isinstance(noise, str) and noise in ("residual", "scene"):
        raise InputError(
            f"uncertainty is {noise!r}, which holds the spectra that vary, and draws of spectra count them twice; "
            "expected bands, a number or a file with draws, or no noise. Choose one of these."
        )
    check_noise(noise)
    return Asked(noise, way, draws, bounds, key)


def check_noise(noise: Any) -> None:
    """Raise InputError unless a noise is a word, a file, or standard deviations above 0."""
    if noise is None or (isinstance(noise, str) and noise in NOISE):
        return
    if isinstance(noise, str | os.PathLike):
        if not Path(noise).exists():
            raise InputError(
                f"uncertainty is {os.fspath(noise)!r}; expected {', '.join(NOISE)} or a number above 0, or a file of "
                "standard deviations."
            )
        return
    values = np.asarray(noise)
    if values.dtype.kind not in "fiu" or values.ndim not in (0, 1, 3):
        problem = True
    elif values.ndim < 3:
        problem = not (np.isfinite(values) & (values > 0)).all()
    else:
        problem = False  # masked pixels hold anything
    if problem:
        raise InputError(
            f"uncertainty is {noise!r}; expected {', '.join(NOISE)}, or standard deviations above 0 in the units "
            "of the scene: one, one a band, or one for each pixel and band."
        )


def read_deviations(path: str | os.PathLike[str], scene: Scene) -> Array:
    """Return standard deviations from a file: (B,), one a band, or (H, W, B), one for each pixel and band.

    Args:
        path: a table (.csv, .txt, .npy) with a number for each band of the scene, the last of each row where there are
            several; or an image of the scene's rows and columns in any format that scenes have, such as EMIT's L2A
            uncertainty. Its values are in the units of the scene as it is read.
        scene: with the bands that are in use.

    Raises:
        InputError: the shapes do not fit, or values are not above 0.
    """
    file = Path(path)
    bands = scene.cube.shape[2]
    if file.suffix.lower() in _TABLES:
        values = _table(file)
        if values.ndim == 1:
            if values.size != bands:
                raise InputError(
                    f"{file} holds {values.size} standard deviations; expected one for each of the {bands} bands of "
                    "the scene that are not marked bad."
                )
            check_noise(values)
            return values
    found = read(file)
    if found.cube.shape[:2] != scene.cube.shape[:2]:
        raise InputError(
            f"{file} has {found.cube.shape[0]} x {found.cube.shape[1]} pixels and the scene {scene.cube.shape[0]} x "
            f"{scene.cube.shape[1]}; expected the uncertainty of the same scene."
        )
    cube = found.cube
    if cube.shape[2] != bands:
        cube = found.with_good_bands().cube
    if cube.shape[2] != bands and found.wavelengths is not None and scene.wavelengths is not None:
        nearest = np.argmin(np.abs(found.wavelengths[None, :] - scene.wavelengths[:, None]), axis=1)
        step = np.median(np.diff(np.sort(found.wavelengths))) if found.wavelengths.size > 1 else np.inf
        if np.abs(found.wavelengths[nearest] - scene.wavelengths).max() <= step / 2:
            cube = found.cube[:, :, nearest]
    if cube.shape[2] != bands:
        raise InputError(
            f"{file} has {how_many(cube.shape[2], 'band')} and the scene {bands} that are in use; expected the same, "
            "or wavelengths in both files by which they are matched."
        )
    seen = cube[scene.valid]
    if not (np.isfinite(seen) & (seen >= 0)).all() or not seen.any():
        raise InputError(
            f"{file} has values that are negative or not finite, or only zeros, in valid pixels; expected standard "
            "deviations above 0 in the units of the scene."
        )
    return np.asarray(cube, np.float32)


def _table(file: Path) -> Array:
    """Return the numbers of a table, the last column of several."""
    if file.suffix.lower() == ".npy":
        return np.asarray(np.load(file, allow_pickle=False))
    rows = []
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        words = line.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            rows.append(float(words[-1]))
        except ValueError:
            if rows:  # the first line may be a heading
                raise InputError(f"{file} holds {words[-1]!r}; expected a number for each band.") from None
    return np.array(rows, np.float32)


def noise_on_bands(noise: Any, scene: Scene, covered: Array) -> Any:
    """Return a noise on the bands that are used: a word, None, or standard deviations (), (C,) or (H, W, C).

    Args:
        noise: of `Asked`.
        scene: before it is cut to the covered bands.
        covered: (B,) bool, the bands that every spectrum covers.
    """
    if noise is None or (isinstance(noise, str) and noise in NOISE):
        return noise
    values = read_deviations(noise, scene) if isinstance(noise, str | os.PathLike) else np.asarray(noise, np.float32)
    if values.ndim == 0:
        return values
    if values.shape[-1] != covered.size or (values.ndim == 3 and values.shape[:2] != scene.cube.shape[:2]):
        raise InputError(
            f"uncertainty has {how_many(values.size, 'value')}; expected one for each of the {covered.size} bands of "
            "the scene that are not marked bad, or for each pixel and band, or one number."
        )
    return values[..., covered]


def with_uncertainty(
    result: Result, found: "Unmixed", scene: Scene, chosen: Chosen, known: Known, norm: Any, asked: Asked
) -> Result:
    """Return a result with the standard deviations of its fractions, and bounds where they are asked for.

    Args:
        result: of `found`.
        found, scene, chosen, known, norm: what was unmixed, and how.
        asked: not off; numbers on the bands of `chosen`.
    """
    import jax.numpy as jnp

    from dequnmix_jax.abundances.uncertainty import class_members

    members = jnp.asarray(class_members(chosen.classes, result.class_names, len(chosen.names)))
    cube = jnp.asarray(np.where(scene.valid[:, :, None], scene.cube, np.float32(0)))
    variances, record = _variances(cube, scene, chosen, known, asked)
    by = _by_draws if asked.by == DRAWS else _in_closed_form
    maps, words = by(found, cube, scene, chosen, known, norm, asked, variances, members)
    maps = {name: np.asarray(values) for name, values in maps.items()}
    if not chosen.classes:
        maps = {name: values for name, values in maps.items() if not name.startswith("classes")}
    seen = scene.valid
    record |= {"by": asked.by, **words}
    for name in ("abundances_sd", "classes_sd"):
        values = maps.get(name)
        record[f"mean_{name}"] = None if values is None else np.mean(values[seen], axis=0, dtype=np.float64).tolist()
    return replace(result, **maps, summary={**result.summary, "uncertainty": record})


def _variances(cube: Any, scene: Scene, chosen: Chosen, known: Known, asked: Asked) -> tuple[Any, dict[str, Any]]:
    """Return the variances of the noise, (B,), (H, W, B) or (B, B), or None; and what the summary says about it."""
    import jax.numpy as jnp

    from dequnmix_jax.abundances.covariance import scene_errors
    from dequnmix_jax.endmembers.noise import band_noise

    bands, valid = scene.cube.shape[2], int(scene.valid.sum())
    noise = asked.noise
    if noise is None:
        return None, {"noise": None, "meaning": "", "mean_noise": None}
    word = noise if isinstance(noise, str) else "given"
    record: dict[str, Any] = {"noise": word}
    record["meaning"] = NOISE.get(word, "The noise is the given one, independent between bands.")
    if word == "residual":
        return jnp.ones(bands, jnp.float32), {**record, "mean_noise": None}
    if word in ("bands", "scene") and valid <= bands:
        raise InputError(
            f"The noise of {how_many(bands, 'band')} cannot be estimated from {how_many(valid, 'valid pixel')}; "
            "expected more pixels than bands. Use uncertainty 'residual', or give the noise as a number."
        )
    if word == "scene":
        errors = scene_errors(np.asarray(cube)[scene.valid], chosen.spectra, known.sums_to_one)
        record |= {
            "mean_noise": float(np.mean(np.sqrt(np.maximum(np.diag(errors.covariance), 0)))),
            "kinds": errors.strengths,
        }
        return jnp.asarray(errors.covariance, jnp.float32), record
    if word == "bands":
        deviation = np.asarray(band_noise(cube, mask=jnp.asarray(scene.valid)))
    else:
        deviation = np.asarray(noise, np.float32)
        deviation = np.broadcast_to(deviation, bands) if deviation.ndim == 0 else deviation
    mean = deviation[scene.valid] if deviation.ndim == 3 else deviation
    record["mean_noise"] = float(np.mean(mean, dtype=np.float64))
    if deviation.ndim == 3:
        deviation = np.where(scene.valid[:, :, None], deviation, np.float32(0))
    return jnp.square(jnp.asarray(deviation, jnp.float32)), record


Computed = tuple[dict[str, Any], dict[str, Any]]
"""Maps by the names of a Result, and entries of the summary."""


def _in_closed_form(
    found: "Unmixed",
    cube: Any,
    scene: Scene,
    chosen: Chosen,
    known: Known,
    norm: Any,
    asked: Asked,
    variances: Any,
    members: Any,
) -> Computed:
    import jax.numpy as jnp

    from dequnmix_jax.abundances.uncertainty import NINETY, deviations, free_bounds

    spectra, mask = jnp.asarray(chosen.spectra), jnp.asarray(scene.valid)
    by_residual = isinstance(asked.noise, str) and asked.noise == "residual"
    sd = deviations(jnp.asarray(found.coefficients), cube, spectra, mask, norm, variances, members, known, by_residual)
    maps = {"abundances_sd": sd.abundances, "classes_sd": sd.classes}
    if not asked.bounds:
        return maps, {}
    abundances = jnp.asarray(found.abundances)
    if not by_residual and not isinstance(known, Mesma) and _independent(chosen.spectra, known):
        low, high, classes_low, classes_high = free_bounds(
            abundances, cube, spectra, mask, norm, variances, members, known
        )
        text = "5 % and 95 %, of the solution without the constraint of sign, cut to 0 and 1."
    else:  # a library: its spectra depend on each other, and only those in the pixel are sure to be determined
        sums = jnp.matmul(abundances, members, precision="highest")
        reach, classes_reach = NINETY * sd.abundances, NINETY * sd.classes
        low, high = jnp.clip(abundances - reach, 0, 1), jnp.clip(abundances + reach, 0, 1)
        classes_low, classes_high = jnp.clip(sums - classes_reach, 0, 1), jnp.clip(sums + classes_reach, 0, 1)
        text = "5 % and 95 %, of the spectra in the pixel, cut to 0 and 1; a fraction of zero has none."
    maps |= {"abundances_p05": low, "abundances_p95": high}
    maps |= {"classes_p05": classes_low, "classes_p95": classes_high}
    return maps, {"bounds": text}


def _independent(spectra: Array, known: Known) -> bool:
    """Return whether all fractions are determined without the constraint of sign, to float32."""
    E = np.asarray(spectra, np.float64)
    if known.sums_to_one:
        E = (E - E.mean(axis=0))[1:] if len(E) > 1 else E[:0]
    sizes = np.linalg.svd(E, compute_uv=False)
    return len(E) <= E.shape[1] and (sizes.size == 0 or bool(sizes.min() > 1e-4 * sizes.max()))


def _by_draws(
    found: "Unmixed",
    cube: Any,
    scene: Scene,
    chosen: Chosen,
    known: Known,
    norm: Any,
    asked: Asked,
    variances: Any,
    members: Any,
) -> Computed:
    import jax.numpy as jnp

    from dequnmix_jax.abundances.draws import bootstrap

    classes = chosen.classes or chosen.names
    largest = max(classes.count(word) for word in classes)
    if variances is None and largest < 2:
        raise InputError(
            "No class has two spectra to draw from, and no noise is given, so that all draws are the same; expected a "
            "library with several spectra of a class, or a noise. Pass uncertainty (--uncertainty NOISE)."
        )
    numbers = {word: number for number, word in enumerate(dict.fromkeys(classes))}
    of = tuple(numbers[word] for word in classes)
    maps = bootstrap(
        asked.key,
        cube,
        jnp.asarray(chosen.spectra),
        jnp.asarray(scene.valid),
        norm,
        None if variances is None else jnp.sqrt(variances),
        members,
        known,
        of,
        asked.draws,
    )
    names = {"abundances_sd": maps.abundances_sd, "classes_sd": maps.classes_sd}
    if asked.bounds:
        names |= {"abundances_p05": maps.abundances_low, "abundances_p95": maps.abundances_high}
        names |= {"classes_p05": maps.classes_low, "classes_p95": maps.classes_high}
    text = "The spread over unmixings with spectra of each class drawn with replacement"
    text += "." if variances is None else " and noise added."
    single = [word for word in numbers if classes.count(word) < 2]
    words: dict[str, Any] = {"draws": asked.draws, "meaning": text}
    if single:
        words["meaning"] += f" Classes of one spectrum, which does not vary: {', '.join(single[:12])}."
    if asked.bounds:
        words["bounds"] = "5 % and 95 % of the draws."
    return names, words

"""Unmix a scene by spectra that are known, as `dequnmix unmix SCENE --endmembers LIBRARY` does; nothing is trained."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.abundances.methods import METHODS, Known
from dequnmix_jax.checks import InputError, check_key, check_kind
from dequnmix_jax.equilibrium.config import Analytic, Cone, Model, Simplex, Soft
from dequnmix_jax.libraries.chosen import Chosen, choose_spectra
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.libraries.units import check_units, rms_and_highest
from dequnmix_jax.pipeline import UNIT, not_reached, scene_of, unmix_scene
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene, check_scene
from dequnmix_jax.training.config import RECOMMENDED, Training
from dequnmix_jax.types import Estimate

if TYPE_CHECKING:
    from dequnmix_jax.types import Trace

DEQ = "deq"
"""The method that trains an equilibrium model whose spectra are held."""

NOISE = {
    "bands": "The noise was estimated in each band and is independent between bands; spectra that vary are not in it.",
    "residual": "The noise is what the spectra of a pixel do not explain, taken as independent between bands.",
}
"""Words for the noise of uncertainties, and what they assume."""


def unmix_with(
    scene: Any,
    library: Library | str | os.PathLike[str] | Any,
    *,
    method: str = METHODS[0],
    classes: str | None = None,
    spectra: Sequence[str] | None = None,
    library_scale: float | None = None,
    slack: float | None = None,
    sparsity: float | None = None,
    variation: float | None = None,
    uncertainty: str | float | Any = None,
    key: Any = None,
    config: Model | None = None,
    training: Training | None = None,
    **reading: Any,
) -> Result:
    r"""Unmix a scene by spectra that are known: those of a library, on the bands of the scene.

    y = s sum_r a_r e_r in each pixel, E the spectra as the sensor measures them (`resampling.resample`):

        "fcls"       min |y - a E|^2, a >= 0, sum a = 1; s = 1
        "nnls"       min |y - x E|^2, x >= 0; s = sum x, a = x / s
        "scaled"     as nnls, with each spectrum divided by its maximum; fractions of the convention "scaled"
        "soft"       nnls with (slack n)^2 (sum x - 1)^2 added, n the RMS norm of the pixels
        "sunsal"     min |y - x E|^2 / 2 + sparsity n m sum x, m the mean norm of the spectra
        "sunsal-tv"  as sunsal, with variation n m TV(x) added
        "deq"        the equilibrium of an operator that is trained on the scene, E held

    All but the last solve each problem to its optimum and train nothing. The map `convergence` is the change by one
    further step of projected gradients, 0 at the optimum.

    Args:
        scene: a path, a `Scene`, an array (H, W, B), or an xarray DataArray.
        library: a `Library`, the path of one, or an array (R, B) of spectra on the bands of the scene.
        method: a word above.
        classes: the column of the library that holds the class of each spectrum ("name": the names); then
            `Result.classes` holds the sums of the fractions of each class.
        spectra: names of the spectra to use; a name that several spectra share stands for all of them. None: all.
        library_scale: divisor of the library's values, for a path.
        slack, sparsity, variation: numbers of the methods above; None: those of `abundances.Known`.
        uncertainty: noise that the standard deviations `Result.abundances_sd` are computed from
            (`abundances.uncertainty`): "bands", estimated in each band (`noise.band_noise`, with more valid pixels than
            bands); "residual", in each pixel what the spectra do not explain, spectra that vary included; or a standard
            deviation in the units of the scene, one or (B,). None: no deviations.
        key: of jax.random, for "deq".
        config, training: of "deq"; None: `Model(constraint=Soft())` and `RECOMMENDED`.
        **reading: options of `read`, such as `nodata`, `scale`, `bands`.

    Returns:
        A Result, its endmembers the resampled spectra. Bands that some spectrum does not cover are left out, which
        `summary["notes"]` says.

    Raises:
        InputError: library, scene or options do not fit: no wavelengths, no common bands, an unknown name or column,
            fewer than two spectra, more of them than bands, or values in another unit.

    Reference:
        Heinz and Chang, IEEE TGRS 39(3), 2001 (fcls); Drumetz et al., IEEE TIP 25(8), 2016 (scaled); Bioucas-Dias and
        Figueiredo, WHISPERS 2010 (sunsal); Iordache, Bioucas-Dias and Plaza, IEEE TGRS 50(11), 2012 (sunsal-tv).
    """
    known = method_of(method, slack=slack, sparsity=sparsity, variation=variation)
    if (method == DEQ) != (key is not None):
        told = "a random key, for its network. Pass key=jax.random.key(0)" if method == DEQ else "no key. Leave it out"
        raise InputError(f"method is {method!r}, which takes {told}.")
    if method != DEQ and (config is not None or training is not None):
        raise InputError(f"method is {method!r}, which trains nothing; expected no config and no training with it.")
    check_uncertainty(uncertainty, known)
    read_scene = scene_of(scene, reading)
    if not isinstance(library, Library | str | os.PathLike):
        chosen = _given(library, read_scene, classes, spectra)
    else:
        if isinstance(library, Library):
            if library_scale is not None:
                raise InputError("library_scale is for the path of a library; expected a Library that is scaled.")
            read = library
        else:
            read = read_library(library, scale=library_scale, sort=True)
        chosen = choose_spectra(read, read_scene.wavelengths, read_scene.fwhm, spectra=spectra, classes=classes)
    restricted = on_common_bands(read_scene, chosen)
    record = {"reading": ReadOptions.of(reading).given(), "warnings": check_scene(restricted)}
    if known is None:
        return train_with(key, restricted, chosen, record, config=config, training=training)[0]
    if uncertainty is not None and np.ndim(uncertainty) == 1:
        uncertainty = _on_bands(uncertainty, chosen)
    return solve_with(restricted, chosen, known, record, uncertainty)[0]


def method_of(
    method: str, *, slack: float | None = None, sparsity: float | None = None, variation: float | None = None
) -> Known | None:
    """Return the method of a word with its numbers; None for "deq".

    Raises:
        InputError: the word is unknown, or a number is out of range or belongs to another method.
    """
    numbers = {"slack": slack, "sparsity": sparsity, "variation": variation}
    given = {name: float(value) for name, value in numbers.items() if value is not None}
    if method not in (*METHODS, DEQ):
        raise InputError(f"method is {method!r}; expected {', '.join((*METHODS, DEQ))}.")
    uses = {"soft": ("slack",), "sunsal": ("sparsity",), "sunsal-tv": ("sparsity", "variation")}.get(method, ())
    foreign = [name for name in given if name not in uses]
    if foreign:
        raise InputError(
            f"{' and '.join(foreign)} {'has' if len(foreign) == 1 else 'have'} no effect on the method {method!r}; "
            f"expected {' and '.join(uses) or 'no number'} with it. Leave out what does not apply."
        )
    return None if method == DEQ else Known(method, **given)


def model_of_known(known: Known) -> Model:
    """Return an analytic model with the constraint, and so the convention, of a method."""
    constraints: dict[str, Simplex | Cone] = {"fcls": Simplex(), "scaled": Cone()}
    constraint = constraints.get(known.method, Soft())
    return Model(gradient=Analytic(), constraint=constraint)


def on_common_bands(scene: Scene, chosen: Chosen) -> Scene:
    """Return a scene on the bands that all chosen spectra cover, with the notes about them."""
    noted = replace(scene, notes=(*scene.notes, *chosen.notes))
    if chosen.covered.all():
        return noted
    cut = replace(noted, good_bands=chosen.covered).with_good_bands()
    return replace(cut, notes=noted.notes)  # the chosen spectra say which bands are left out


def check_uncertainty(uncertainty: Any, known: Known | None) -> None:
    """Raise InputError unless standard deviations are defined for a method and their noise is a word or numbers."""
    if uncertainty is None:
        return
    if known is None or not known.by_pixel:
        raise InputError(
            f"The uncertainty of {DEQ if known is None else known.method} has no closed form; expected fcls, nnls, "
            "scaled, soft or sunsal. Choose one of these, or leave uncertainty out."
        )
    if isinstance(uncertainty, str):
        if uncertainty in NOISE:
            return
        raise InputError(f"uncertainty is {uncertainty!r}; expected {', '.join(NOISE)} or a number above 0.")
    values = np.asarray(uncertainty)
    if values.dtype.kind not in "fiu" or values.ndim > 1 or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(
            f"uncertainty is {uncertainty!r}; expected {', '.join(NOISE)}, or standard deviations above 0 in the units "
            "of the scene: one, or one a band."
        )


def _on_bands(values: Any, chosen: Chosen) -> Any:
    """Return one number a band for the bands that are used."""
    array = np.asarray(values, np.float32)
    if array.size != chosen.covered.size:
        raise InputError(
            f"uncertainty has {array.size} values; expected one for each of the {chosen.covered.size} bands of the "
            "scene that are not marked bad, or one number."
        )
    return array[chosen.covered]


def _with_deviations(
    result: Result, coefficients: Any, scene: Scene, chosen: Chosen, known: Known, norm: Any, uncertainty: Any
) -> Result:
    """Return a result with the standard deviations of its fractions."""
    import jax.numpy as jnp

    from dequnmix_jax.abundances.uncertainty import class_members, deviations
    from dequnmix_jax.endmembers.noise import band_noise

    bands, valid = scene.cube.shape[2], int(scene.valid.sum())
    cube = jnp.asarray(np.where(scene.valid[:, :, None], scene.cube, np.float32(0)))
    mask = jnp.asarray(scene.valid)
    by_residual = isinstance(uncertainty, str) and uncertainty == "residual"
    if by_residual:
        deviation = np.ones(bands, np.float32)
    elif isinstance(uncertainty, str):
        if valid <= bands:
            raise InputError(
                f"The noise of {bands} bands cannot be estimated from {valid} valid pixels; expected more pixels than "
                "bands. Use uncertainty 'residual', or give the noise as a number."
            )
        deviation = np.asarray(band_noise(cube, mask=mask))
    else:
        deviation = np.broadcast_to(np.asarray(uncertainty, np.float32), bands)
    members = class_members(chosen.classes, result.class_names, len(chosen.names))
    found = deviations(
        jnp.asarray(coefficients),
        cube,
        jnp.asarray(chosen.spectra),
        mask,
        norm,
        jnp.square(jnp.asarray(deviation, jnp.float32)),
        jnp.asarray(members),
        known,
        by_residual,
    )
    abundances_sd = np.asarray(found.abundances)
    classes_sd = np.asarray(found.classes) if chosen.classes else None
    word = uncertainty if isinstance(uncertainty, str) else "given"
    seen = scene.valid
    record: dict[str, Any] = {
        "noise": word,
        "meaning": NOISE.get(word, "The noise is the given one, independent between bands."),
        "mean_noise": None if by_residual else float(np.mean(deviation, dtype=np.float64)),
        "mean_abundances_sd": np.mean(abundances_sd[seen], axis=0, dtype=np.float64).tolist(),
        "mean_classes_sd": None if classes_sd is None else np.mean(classes_sd[seen], axis=0, dtype=np.float64).tolist(),
    }
    summary = {**result.summary, "uncertainty": record}
    return replace(result, abundances_sd=abundances_sd, classes_sd=classes_sd, summary=summary)


def solve_with(
    scene: Scene, chosen: Chosen, known: Known, record: dict[str, Any], uncertainty: Any = None
) -> "tuple[Result, Trace]":
    """Unmix a scene by known spectra, without training, and return result and trace.

    Args:
        scene: checked, on the bands of `chosen` (`on_common_bands`).
        chosen: from `choose_spectra`.
        known: the method.
        record: entries of the summary: how the scene was read, and warnings.
        uncertainty: as for `unmix_with`; numbers on the bands of `chosen`.
    """
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.abundances.known import unmix_known

    known.check_count(*chosen.spectra.shape)
    rms, highest = rms_and_highest(scene.cube, scene.valid)
    if known.method != "scaled":
        check_units(chosen.spectra, rms, highest, scene.name)
    norm = jnp.asarray(rms * scene.cube.shape[2] ** 0.5, jnp.float32)
    cube = np.where(scene.valid[:, :, None], scene.cube, np.float32(0)) if scene.mask is not None else scene.cube
    found = unmix_known(jnp.asarray(cube), jnp.asarray(chosen.spectra), jnp.asarray(scene.valid), norm, known)
    found = jax.tree.map(np.asarray, found)
    size = float(np.sqrt(np.sum(found.size, dtype=np.float64) / max(int(scene.valid.sum()), 1)))
    record = {**record, **record_of(known), "unit": UNIT}
    if not found.trace.converged:
        record["warnings"] = [*record["warnings"], known.not_optimal(float(found.trace.residual))]
    estimate = Estimate(found.abundances, chosen.spectra, found.brightness, found.coefficients)  # type: ignore[arg-type]
    result = result_of(
        estimate,
        scene,
        names=chosen.names,
        trace=found.trace,
        convergence=found.change / np.float32(size if size > 0 else 1),
        record=record,
        convention=known.convention,
        class_of=chosen.classes,
        levels_known=True,
        configuration={"method": known},
    )
    if uncertainty is not None:
        result = _with_deviations(result, found.coefficients, scene, chosen, known, norm, uncertainty)
    return result, found.trace


def record_of(known: Known | None) -> dict[str, Any]:
    """Return what summary.json says about a method, beside the configuration."""
    word = DEQ if known is None else known.method
    return {"start": f"The spectra are those of the library, unchanged; method {word}."}


def train_with(
    key: Any,
    scene: Scene,
    chosen: Chosen,
    record: dict[str, Any],
    *,
    config: Model | None = None,
    training: Training | None = None,
    on_progress: Any = None,
) -> "tuple[Result, Trace]":
    """Train an equilibrium model on a scene with its spectra held, unmix the scene, and return result and trace.

    Args:
        key: of jax.random.
        scene, chosen, record: as for `solve_with`.
        config, training: None: `Model(constraint=Soft())` and `RECOMMENDED`.
        on_progress: as for `resumable_fit`, or None.
    """
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.training.checkpoint import model_metadata
    from dequnmix_jax.training.resume import resumable_fit

    check_key(key)
    model = Model(constraint=Soft()) if config is None else config
    training = RECOMMENDED[0] if training is None else training
    check_kind(model, Model, "config")
    check_kind(training, Training, "training")
    Known("soft").check_count(*chosen.spectra.shape)
    check_units(chosen.spectra, *rms_and_highest(scene.cube, scene.valid), scene.name)
    rates = RECOMMENDED[1]._replace(endmembers=0.0)
    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    params, history = resumable_fit(
        key,
        jnp.asarray(scene.cube),
        model,
        training,
        rates,
        endmembers=jnp.asarray(chosen.spectra),
        mask=mask,
        on_progress=on_progress,
    )
    estimate, trace, change = unmix_scene(jax.tree.map(np.asarray, params), scene, model)
    metadata = model_metadata(scene, model, training, rates, None, history)
    record = {**record, **record_of(None), "unit": UNIT, "history": metadata.get("history")}
    if not trace.converged:
        record["warnings"] = [*record["warnings"], not_reached(trace, model)]
    result = result_of(
        estimate._replace(endmembers=chosen.spectra),  # type: ignore[arg-type]  # at their level, which Cone() removes
        scene,
        names=chosen.names,
        trace=trace,
        convergence=change,
        record=record,
        convention=model.convention,
        class_of=chosen.classes,
        levels_known=True,
        configuration={name: metadata.get(name) for name in ("model", "training", "rates")},
    )
    return result, trace


def _given(values: Any, scene: Scene, classes: str | None, spectra: Sequence[str] | None) -> Chosen:
    """Return spectra in memory, on the bands of the scene, as a Chosen."""
    if classes is not None or spectra is not None:
        raise InputError(
            "The spectra are an array, without names and classes; expected a Library with `classes` and `spectra`. "
            "Make one: dq.libraries.Library(names, wavelengths_nm, spectra, columns={...})."
        )
    array = np.asarray(values, np.float32)
    bands = scene.cube.shape[2]
    if array.ndim != 2 or array.shape[1] != bands or len(array) < 2 or not np.isfinite(array).all():
        raise InputError(
            f"The spectra have shape {array.shape}; expected at least two of finite numbers on the bands of the scene, "
            f"(spectra, {bands}). Pass a Library to have them brought to its bands."
        )
    names = tuple(f"endmember {i + 1}" for i in range(len(array)))
    return Chosen(names, (), array, np.ones(bands, np.bool_), ())

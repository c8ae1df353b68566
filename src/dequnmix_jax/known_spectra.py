"""Unmix a scene by spectra that are known, as `dequnmix unmix SCENE --endmembers LIBRARY` does; nothing is trained."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dequnmix_jax.abundances.methods import KEPT, MESMA, METHODS, NONLINEAR, Known, Mesma
from dequnmix_jax.checks import InputError, check_key, check_kind
from dequnmix_jax.equilibrium.config import Analytic, Cone, Model, Simplex, Soft
from dequnmix_jax.known_uncertainty import DRAWS, OFF, Asked, asked_for, noise_on_bands, with_uncertainty
from dequnmix_jax.libraries.chosen import Chosen, choose_spectra
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.pruning import prune as pruned
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.libraries.units import REFLECTANCE, check_units, rms_and_highest
from dequnmix_jax.pipeline import UNIT, doubts, scene_of, unmix_scene
from dequnmix_jax.results.labelled import is_labelled, to_xarray
from dequnmix_jax.results.maps import model_map, model_record
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene, check_scene
from dequnmix_jax.training.config import RECOMMENDED, Training
from dequnmix_jax.types import Estimate

if TYPE_CHECKING:
    from dequnmix_jax.types import Trace

DEQ = "deq"
"""The method that trains an equilibrium model whose spectra are held."""


def unmix_with(
    scene: Any,
    library: Library | str | os.PathLike[str] | Any,
    *,
    method: str | Known = METHODS[0],
    classes: str | None = None,
    spectra: Sequence[str] | None = None,
    prune: str | None = None,
    library_scale: float | None = None,
    slack: float | None = None,
    sparsity: float | None = None,
    variation: float | None = None,
    normalised: bool = False,
    uncertainty: str | float | Any = None,
    uncertainty_by: str | None = None,
    draws: int = 20,
    bounds: bool = False,
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
        "nascimento", "fan", "gbm", "ppnm", "mlm", "khype", "skhype"
                     mixing that is not linear, of reflectance (`abundances.nonlinear`, `abundances.khype`); s = 1, and
                     the residual is that of the model
        "mesma"      as fcls, by the best model of few classes with one spectrum of each (`abundances.mesma`)
        "deq"        the equilibrium of an operator that is trained on the scene, E held

    All but "deq" solve each problem to its optimum and train nothing. The map `convergence` is the change by one
    further step of projected gradients, 0 at the optimum.

    Args:
        scene: a path, a `Scene`, an array (H, W, B), or an xarray DataArray or Dataset.
        library: a `Library`, the path of one, or an array (R, B) of spectra on the bands of the scene.
        method: a word above, or an `abundances.Known` or `abundances.Mesma` with its numbers.
        classes: the column of the library that holds the class of each spectrum ("name": the names); then
            `Result.classes` holds the sums of the fractions of each class.
        spectra: names of the spectra to use; a name that several spectra share stands for all of them. None: all.
        prune: "ear:5", "masa:5" or "cob:5": keep so many spectra of each class, the best by that measure
            (`libraries.prune`). None: all.
        library_scale: divisor of the library's values, for a path.
        slack, sparsity, variation: numbers of the methods above; None: those of `abundances.Known`.
        normalised: of fcls and mesma: divide each pixel and spectrum by its mean over the bands first, as a brightness;
            fractions are converted back.
        uncertainty: noise that the standard deviations `Result.abundances_sd` are computed from: "bands", estimated in
            each band (`noise.band_noise`, with more valid pixels than bands); "residual", in each pixel what the
            spectra do not explain; "scene", what they do not explain in the whole scene, with its correlation between
            bands and the part of it that the residual cannot show (`abundances.scene_errors`); a standard deviation in
            the units of the scene, one, (B,) or (H, W, B); or the path of a file of them, the product's own
            (`known_uncertainty.read_deviations`). None: no deviations, or with "draws" no noise.
        uncertainty_by: "closed form" (`abundances.uncertainty`); "draws", the spread over `draws` unmixings, each with
            spectra of every class drawn with replacement and noise added; or "off". None: "closed form" where
            uncertainty or bounds are asked for.
        draws: number of draws.
        bounds: also the bounds of 5 % and 95 % of each fraction, `Result.abundances_p05` and so on.
        key: of jax.random, for "deq" and for draws.
        config, training: of "deq"; None: `Model(constraint=Soft())` and `RECOMMENDED`.
        **reading: options of `read`, such as `nodata`, `scale`, `bands`.

    Returns:
        A Result, its endmembers the resampled spectra. Bands that some spectrum does not cover are left out, which
        `summary["notes"]` says; `results.write_result` writes it. For a DataArray or Dataset: the same as a Dataset,
        that of `to_xarray`.

    Raises:
        InputError: library, scene or options do not fit: no wavelengths, no common bands, an unknown name or column,
            fewer than two spectra, more of them than bands, or values in another unit.

    Reference:
        Heinz and Chang, IEEE TGRS 39(3), 2001 (fcls); Drumetz et al., IEEE TIP 25(8), 2016 (scaled); Bioucas-Dias and
        Figueiredo, WHISPERS 2010 (sunsal); Iordache, Bioucas-Dias and Plaza, IEEE TGRS 50(11), 2012 (sunsal-tv).
    """
    if isinstance(method, Known):
        if (slack, sparsity, variation) != (None, None, None):
            raise InputError("The method is a value with its own numbers; expected no slack, sparsity or variation.")
        if normalised:
            raise InputError("The method is a value with its own numbers; expected no normalised beside it.")
        known: Known | None = method
    else:
        known = with_normalised(method_of(method, slack=slack, sparsity=sparsity, variation=variation), normalised)
    asked = asked_for(uncertainty, uncertainty_by, draws=draws, bounds=bounds, key=key, known=known)
    random = known is None or asked.by == DRAWS
    if random != (key is not None):
        told = "a random key. Pass key=jax.random.key(0)" if random else "no key. Leave it out"
        what = f"method is {method!r}" if asked.by != DRAWS else f"uncertainty_by is {DRAWS!r}"
        raise InputError(f"{what}, which takes {told}.")
    if known is not None and (config is not None or training is not None):
        raise InputError(f"method is {method!r}, which trains nothing; expected no config and no training with it.")
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
    chosen, known = settled(chosen, known, prune)
    restricted = on_common_bands(read_scene, chosen)
    record = {"reading": ReadOptions.of(reading).given(), "warnings": check_scene(restricted)}
    if known is None:
        result = train_with(key, restricted, chosen, record, config=config, training=training)[0]
    else:
        asked = asked._replace(noise=noise_on_bands(asked.noise, read_scene, chosen.covered))
        result = solve_with(restricted, chosen, known, record, asked)[0]
    return cast("Result", to_xarray(result)) if is_labelled(scene) else result


def method_of(
    method: str, *, slack: float | None = None, sparsity: float | None = None, variation: float | None = None
) -> Known | None:
    """Return the method of a word with its numbers; None for "deq".

    Raises:
        InputError: the word is unknown, or a number is out of range or belongs to another method.
    """
    numbers = {"slack": slack, "sparsity": sparsity, "variation": variation}
    given = {name: float(value) for name, value in numbers.items() if value is not None}
    if method not in (*METHODS, *NONLINEAR, MESMA, DEQ):
        raise InputError(f"method is {method!r}; expected {', '.join((*METHODS, *NONLINEAR, MESMA, DEQ))}.")
    uses = {"soft": ("slack",), "sunsal": ("sparsity",), "sunsal-tv": ("sparsity", "variation")}.get(method, ())
    foreign = [name for name in given if name not in uses]
    if foreign:
        raise InputError(
            f"{' and '.join(foreign)} {'has' if len(foreign) == 1 else 'have'} no effect on the method {method!r}; "
            f"expected {' and '.join(uses) or 'no number'} with it. Leave out what does not apply."
        )
    if method == MESMA:
        return Mesma()
    words: dict[str, Any] = dict(given)
    return None if method == DEQ else Known(method, **words)


def with_normalised(known: Known | None, normalised: bool) -> Known | None:
    """Return a method that divides the brightness out first, if it is to.

    Raises:
        InputError: it does not apply to the method.
    """
    if not normalised:
        return known
    if known is None:
        raise InputError(
            "A brightness that is divided out (normalised, --normalise) does not apply to deq; expected fcls or mesma. "
            "Leave it out."
        )
    return replace(known, normalised=True)


def settled(chosen: Chosen, known: Known | None, prune_by: str | None) -> tuple[Chosen, Known | None]:
    """Return the spectra that are left by pruning, and the method with what it needs to know of them.

    Args:
        chosen: from `choose_spectra`.
        known: the method; None: "deq".
        prune_by: as for `unmix_with`.

    Raises:
        InputError: classes are needed and there are none, or there are too many models.
    """
    if prune_by is not None:
        chosen = pruned(chosen, prune_by)
        if len(chosen.names) < 2:
            raise InputError(
                f"prune {prune_by} keeps {len(chosen.names)} spectrum; expected at least two. Keep more of each class."
            )
    if known is not None:
        known.check_values(float(np.max(chosen.spectra)))
    if not isinstance(known, Mesma):
        return chosen, known
    if not chosen.classes:
        raise InputError(
            "mesma takes one spectrum of each class, and no classes are named; expected the column of the library that "
            "holds them. Add classes=COLUMN (--class COLUMN)."
        )
    rules = known.of(chosen.classes)
    rules.check_count(*chosen.spectra.shape)
    if rules.shade == KEPT:
        name = next(word for word in ("shade", "shade of mesma") if word not in (*chosen.names, *chosen.classes))
        chosen = chosen._replace(
            names=(*chosen.names, name),
            classes=(*chosen.classes, name),
            spectra=np.concatenate([chosen.spectra, np.zeros_like(chosen.spectra[:1])]),
        )
    return chosen, rules


def threshold_warning(known: Known | None, highest: float) -> list[str]:
    """Return a sentence, as a list, where the threshold of "mesma" is of reflectance and the scene is not.

    Args:
        known: the method.
        highest: largest value of the valid pixels.
    """
    if not isinstance(known, Mesma) or known.normalised or known.threshold != Mesma().threshold:
        return []
    if highest <= REFLECTANCE:
        return []
    return [
        f"The threshold {known.threshold:g} of mesma is for reflectance, and the scene reaches {highest:.4g}: nearly "
        "every pixel gets the largest model. Divide the scene (scale), or pass a threshold in its units."
    ]


def model_of_known(known: Known) -> Model:
    """Return an analytic model with the constraint, and so the convention, of a method."""
    constraints: dict[str, Simplex | Cone] = {"fcls": Simplex(), "scaled": Cone()}
    constraint = Simplex() if known.nonlinear else constraints.get(known.method, Soft())
    return Model(gradient=Analytic(), constraint=constraint)


def on_common_bands(scene: Scene, chosen: Chosen) -> Scene:
    """Return a scene on the bands that all chosen spectra cover, with the notes about them."""
    noted = replace(scene, notes=(*scene.notes, *chosen.notes))
    if chosen.covered.all():
        return noted
    cut = replace(noted, good_bands=chosen.covered).with_good_bands()
    return replace(cut, notes=noted.notes)  # the chosen spectra say which bands are left out


def solve_with(
    scene: Scene, chosen: Chosen, known: Known, record: dict[str, Any], asked: Asked | None = None
) -> "tuple[Result, Trace]":
    """Unmix a scene by known spectra, without training, and return result and trace.

    Args:
        scene: checked, on the bands of `chosen` (`on_common_bands`).
        chosen: from `choose_spectra`.
        known: the method.
        record: entries of the summary: how the scene was read, and warnings.
        asked: which uncertainty; numbers on the bands of `chosen`. None: none.
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
    record["warnings"] = [*record["warnings"], *threshold_warning(known, highest)]
    if isinstance(known, Mesma):
        codes = model_map(found.abundances[scene.valid], chosen.classes)[:, 0]
        record |= model_record(codes, chosen.classes)
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
        residual=found.error,
        configuration={"method": known.record()},
    )
    if asked is not None and asked.by != OFF:
        result = with_uncertainty(result, found, scene, chosen, known, norm, asked)
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
    record["warnings"] = [*record["warnings"], *doubts(trace, model, estimate, scene)]
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

"""A scene in, a result out: what `dequnmix report` does, as one call, and the steps that the command line shares."""

import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, check_key, check_kind
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.report.page import write_report
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.training.checkpoint import model_metadata
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    from dequnmix_jax.types import Estimate, History, Params, Trace

Progress = Callable[[int, int, float], None]
"""Called with the steps done, the steps in all and the loss."""


@dataclass(frozen=True, eq=False, repr=False)
class Unmixing(Result):
    """What `run` returns: a `Result`, with the scene, the trained model and how both went.

    Attributes:
        scene: as it was unmixed: good bands, invalid pixels masked.
        params, config: of the trained model, for `unmix` on further scenes of the same bands.
        history: of the training.
        trace: of the last solve: steps, relative residual, converged.
        warnings: sentences; empty where nothing is odd.
        reason: why these endmembers and this mixing were chosen, or None where they were given.
    """

    scene: Scene = None  # type: ignore[assignment]  # always given; the fields before it have defaults
    params: Any = None
    config: Model = None  # type: ignore[assignment]
    history: "History" = None  # type: ignore[assignment]
    trace: "Trace" = None  # type: ignore[assignment]
    warnings: tuple[str, ...] = ()
    reason: str | None = None

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False, format: str = "envi") -> list[Path]:
        """Write maps, spectra and summary.json into a folder, as `results.write` does."""
        return write_result(path, self, self.scene, overwrite=overwrite, format=format)

    def report(self, path: str | os.PathLike[str], library: Library | None = None, *, overwrite: bool = False) -> Path:
        """Write the result as one HTML page, as `report.write_report` does (extra "plots")."""
        return write_report(path, self, library, overwrite=overwrite)

    def __repr__(self) -> str:
        height, width, count = self.abundances.shape
        went = "converged" if bool(self.trace.converged) else "NOT converged"
        return (
            f"<Unmixing: {count} endmembers in {height} x {width} pixels, {self.endmembers.shape[1]} bands; "
            f"{self.config.constraint.word}, {self.history.loss.size} training steps, {went} in "
            f"{int(self.trace.steps)} steps; {len(self.warnings)} warnings>"
        )


def run(
    scene: Any,
    count: int,
    key: Any,
    *,
    config: Model | None = None,
    training: Training | None = None,
    rates: Rates | None = None,
    on_progress: Progress | None = None,
    **reading: Any,
) -> Unmixing:
    """Unmix a scene in one call: read it, choose endmembers and mixing, train without a reference, and unmix.

    What the page of `dequnmix report SCENE --endmembers COUNT` shows is what this returns, for the same seed:
    `--seed 0` is the key of 0.

    Args:
        scene: a path, a `Scene`, an array (H, W, B), or an array of xarray.
        count: R, how many endmembers, at least 2.
        key: of jax.random.
        config: the parts of the equilibrium map; None: chosen by what the scene says (`training.model_for`).
        training, rates: None: those of `RECOMMENDED`.
        on_progress: called with (steps done, steps in all, loss) a few times in a training, or None.
        **reading: options of `read`, such as `nodata`, `scale`, `bands`.

    Returns:
        An `Unmixing`: `.abundances` (H, W, R), `.endmembers` (R, B), `.brightness` (H, W), `.trace`, `.history`,
        `.write(folder)`, `.report(page)`.

    Raises:
        InputError: where the scene, the count or a choice does not fit, in a sentence.
    """
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.training.resume import resumable_fit

    check_key(key)
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 2:
        raise InputError(f"count is {count!r}; expected how many endmembers to look for, an integer from 2.")
    for value, kind, name in ((config, Model, "config"), (training, Training, "training"), (rates, Rates, "rates")):
        if value is not None:
            check_kind(value, kind, name)
    read_scene = _scene_of(scene, reading)
    warnings = check_scene(read_scene, count=int(count))
    model = Model() if config is None else config
    training = RECOMMENDED[0] if training is None else training
    why: str | None = None
    more: dict[str, Any] = {}
    if read_scene.cube.shape[2] >= 2 * count:
        first, key = jax.random.split(key)
        asked = set() if config is None else {"model.constraint", "model.prior"}
        asked |= set() if rates is None else {"rates.endmembers"}
        chosen = choose(first, read_scene, int(count), model, RECOMMENDED[1] if rates is None else rates, asked)
        more["endmembers"], model, rates, why = chosen
    else:
        more["count"] = int(count)
        rates = RECOMMENDED[1] if rates is None else rates

    def said(history: "History") -> None:
        if on_progress is not None and history.loss.size:
            on_progress(int(history.loss.size), training.epochs, float(history.loss[-1]))

    mask = None if read_scene.mask is None else jnp.asarray(read_scene.mask)
    cube = jnp.asarray(read_scene.cube)
    params, history = resumable_fit(None, key, cube, model, training, rates, mask=mask, told=said, **more)
    params = jax.tree.map(np.asarray, params)
    estimate, trace, change = unmix_scene(params, read_scene, model)
    if not trace.converged:
        warnings = [*warnings, not_reached(trace, model)]
    metadata = model_metadata(read_scene, model, training, rates, None, history)
    configuration = {name: metadata.get(name) for name in ("model", "training", "rates")}
    record = {"warnings": warnings, "reading": plain(dict(reading)), "start": why, "unit": unit_of(model)}
    record |= {name: metadata.get(name) for name in ("history", "stages")}
    found = result_of(estimate, read_scene, configuration=configuration, trace=trace, convergence=change, record=record)
    held = {item.name: getattr(found, item.name) for item in fields(Result)}
    return Unmixing(
        **held, scene=read_scene, params=params, config=model, history=jax.tree.map(np.asarray, history), trace=trace,
        warnings=tuple(warnings), reason=why,
    )  # fmt: skip


def _scene_of(scene: Any, reading: Mapping[str, Any]) -> Scene:
    """Return a scene from whatever holds one, its good bands, with invalid pixels masked where a value says which."""
    from dequnmix_jax.io.formats import read

    if isinstance(scene, Scene) or type(scene).__module__.split(".")[0] in ("numpy", "jax", "jaxlib"):
        if reading:
            names = ", ".join(sorted(reading))
            raise InputError(f"{names}: options of reading a file, and the scene is in memory already; leave them out.")
        found = scene if isinstance(scene, Scene) else Scene(np.asarray(scene))
    else:
        found = read(scene, **reading)
    found = found.with_good_bands()
    return mask_invalid(found) if reading.get("nodata") is not None else found


class Choice(NamedTuple):
    """Where training starts, with what it trains, and why."""

    endmembers: Any
    config: Model
    rates: Rates
    reason: str


def choose(key: Any, scene: Scene, count: int, config: Model, rates: Rates, asked: Set[str]) -> Choice:
    """Choose endmembers, and of mixing, prior and rates what is not asked for.

    Args:
        key: of jax.random.
        scene: good bands alone.
        count: R.
        config, rates: what is kept of where nothing is chosen.
        asked: of "model.constraint", "model.prior", "rates.endmembers" those that stay as they are.
    """
    import jax

    from dequnmix_jax.endmembers.selection import reason, select_endmembers
    from dequnmix_jax.training.recipe import model_for, rates_for

    selection = select_endmembers(key, scene.cube, count, mask=scene.mask)
    why = reason(selection)
    if "model.constraint" in asked:  # then the rates are those of that mixing
        selection = selection.with_constraint(config.constraint.word)
    kept = {name: getattr(config, name) for name in ("constraint", "prior") if f"model.{name}" in asked}
    config = replace(model_for(selection, config), **kept)
    if "rates.endmembers" not in asked:
        rates = jax.tree.map(float, rates_for(selection, rates))
    return Choice(selection.endmembers, config, rates, why)


def unmix_scene(params: "Params", scene: Scene, config: Model) -> tuple["Estimate", "Trace", Any]:
    """Unmix a scene, compiled, and return an estimate, how it went, and the convergence map, as numpy arrays."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.equilibrium.convergence import unmix_with_change

    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    estimate, trace, change = jax.tree.map(np.asarray, unmix_with_change(params, jnp.asarray(scene.cube), config, mask))
    return estimate, trace, change


def not_reached(trace: "Trace", config: Model) -> str:
    """Return the sentence that says that an equilibrium was not reached."""
    return (
        f"The equilibrium was not reached within {config.forward.max_steps} steps: the relative residual "
        f"is {float(trace.residual):.2e} and {config.forward.tolerance:g} was asked for; do not trust the maps."
    )


def unit_of(config: Model) -> str:
    """Return what the spectra of a model are measured in, for the axis of a picture."""
    return "reflectance, scaled to maximum 1" if config.scales_endmembers else "reflectance"

"""`dequnmix demo`: unmix the shipped HySU scene blindly and compare the areas found with the true ones.

25 squares of five materials lie on a meadow near Munich, 9 to 0.0625 square metres each, in pixels of 0.49 square
metres (Cerra et al. 2021). Training uses the cube only. After it, the endmembers are named by the spectra of the
scene's image library; nothing else of the reference is used.
"""

import csv
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.cli.options import DemoOptions
from dequnmix_jax.cli.parser import DEMO_EPOCHS
from dequnmix_jax.cli.progress import describe_fit, fit_scene
from dequnmix_jax.datasets import hysu, registry
from dequnmix_jax.datasets.hysu import LARGEST_ANGLE, Naming, areas_found, name_endmembers
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io.atomic import replacing_folder
from dequnmix_jax.pipeline import UNIT, unmix_scene
from dequnmix_jax.report import plots
from dequnmix_jax.report.plots import save_pictures
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.results.writer import check_ours, put_result
from dequnmix_jax.scenes.scene import Array, Scene, check_scene
from dequnmix_jax.solvers.config import Solver
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.checkpoint import model_metadata
from dequnmix_jax.training.config import RECOMMENDED
from dequnmix_jax.training.words import plain

TOLERANCE = 1e-3
"""Of the solves: at the default of 1e-4 the training takes 240 s from these initial endmembers."""


def _table(naming: dict[str, Naming], areas: dict[str, Array], true: Array) -> list[str]:
    """Return the table of areas as text, one row per material and method."""
    lines = [f"{'':<14}{'':<11}{'angle':>7}" + "".join(f"{area:>9.4g}" for area in true) + "   m2, true"]
    for i, material in enumerate(hysu.MATERIALS):
        for method, estimates in areas.items():
            label = material if method == next(iter(areas)) else ""
            names = naming[method].names
            if material not in names:
                lines.append(f"{label:<14}{method:<11}  not found")
                continue
            angle = naming[method].angles[names.index(material)]
            lines.append(f"{label:<14}{method:<11}{angle:>7.3f}" + "".join(f"{area:>9.3f}" for area in estimates[i]))
    return lines


def _initial(key: Any, scene: Scene, count: int) -> tuple[Array, Array]:
    """Return what both methods begin with: endmembers by VCA, abundances by FCLS."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.abundances.least_squares import fcls
    from dequnmix_jax.endmembers.pure_pixel import vca
    from dequnmix_jax.training.fitting import STARTS

    cube = jnp.asarray(scene.cube)
    E = jnp.maximum(jax.jit(vca, static_argnums=2, static_argnames="runs")(key, cube, count, runs=STARTS), 0)
    return np.asarray(E), np.asarray(jax.jit(fcls)(cube, E))


def demo(options: DemoOptions) -> None:
    """Unmix the HySU scene, print the areas found beside the true ones, and write everything into a folder."""
    import jax

    began = time.perf_counter()
    show = _discard if options.json else print
    plots.require()
    check_ours(options.output, options.force)
    config = Model(forward=Solver(tolerance=TOLERANCE))
    training = replace(RECOMMENDED[0], epochs=DEMO_EPOCHS if options.epochs is None else options.epochs)
    with replacing_folder(options.output, overwrite=options.force) as folder:
        scene, truth = registry.load("hysu")
        assert truth.endmembers is not None and truth.names is not None  # the shipped file holds both
        check_scene(scene, count=options.endmembers)
        height, width, bands = scene.cube.shape
        show(f"HySU: {height} x {width} pixels of 0.7 m, {bands} bands; looking for {options.endmembers} endmembers")
        draw, rest = jax.random.split(jax.random.key(options.seed))
        E, A = _initial(draw, scene, options.endmembers)
        fitted = fit_scene(rest, scene, config, training, RECOMMENDED[1], endmembers=E)
        metadata = model_metadata(scene, config, training, RECOMMENDED[1], options.seed, fitted.history)
        for line in describe_fit(fitted.history) + (metadata["stages"] or []):
            show(line)
        estimate, trace, change = unmix_scene(fitted.params, scene, config)
        show(f"unmixed in {int(trace.steps)} steps, relative residual {float(trace.residual):.1e}")
        # The library is used here only, after everything is computed, and only for the names.
        naming = {
            "DEQ-Unmix": name_endmembers(estimate.endmembers, truth.endmembers, truth.names),
            "VCA+FCLS": name_endmembers(E, truth.endmembers, truth.names),
        }
        areas = {
            "DEQ-Unmix": areas_found(estimate.abundances, naming["DEQ-Unmix"].names),
            "VCA+FCLS": areas_found(A, naming["VCA+FCLS"].names),
        }
        targets = hysu.hysu_targets()
        result = result_of(
            estimate,
            scene,
            names=naming["DEQ-Unmix"].names,
            configuration={
                "model": config,
                "training": training,
                "rates": RECOMMENDED[1]._asdict(),
                "seed": options.seed,
            },
            trace=trace,
            convergence=change,
            convention=config.convention,
            record={"unit": UNIT, "history": metadata["history"], "stages": metadata["stages"]},
        )
        written = put_result(folder, result, scene)
        written.append(checkpoint.save(folder / "model.npz", jax.tree.map(np.asarray, fitted.params), metadata))
        written += _pictures(folder, result, naming["DEQ-Unmix"], truth.endmembers)
        if fitted.history.loss.size:
            figure = plots.convergence(fitted.history, tolerance=config.forward.tolerance)
            written.append(plots.save(figure, folder / "convergence.png"))
        written += _sidecar(folder, naming, areas, targets.area_m2)
    if options.json:
        print((options.output / "targets.json").read_text(encoding="utf-8"), end="")
    show("\nTarget areas in square metres; angle: to the library spectrum of that name, rad. Names were matched after")
    show(f"training, by spectra alone; beyond {LARGEST_ANGLE} rad a spectrum stays unnamed.")
    for line in _table(naming, areas, targets.area_m2):
        show(line)
    show()
    for path in written:
        show(options.output / path.name)
    show(f"{time.perf_counter() - began:.0f} s in all, {fitted.seconds:.0f} s of them training with compilation")


def _discard(*words: object) -> None:
    """Print nothing: with --json another program reads stdout."""


def _pictures(folder: Path, result: Result, naming: Naming, library: Array) -> list[Path]:
    """Draw the maps and the spectra, these beside the library spectra that named them."""
    matched = np.where(naming.rows[:, None] >= 0, library[naming.rows], np.nan)
    # The spectral angle ignores brightness, so each library spectrum is drawn at the height of its match.
    peak = np.max(result.endmembers, axis=1, keepdims=True) / np.max(matched, axis=1, keepdims=True)
    return save_pictures(
        folder, result, reference=matched * peak, reference_name="spectra of the image library, scaled"
    )


def _sidecar(folder: Path, naming: dict[str, Naming], areas: dict[str, Array], true: Array) -> list[Path]:
    """Write the table of areas as targets.csv and targets.json."""
    with (folder / "targets.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["method", "material", "true_m2", "found_m2"])
        for method, estimates in areas.items():
            for material, row in zip(hysu.MATERIALS, estimates, strict=True):
                # An empty field for a material that was not found: zero would be a measurement.
                cells = ["" if np.isnan(area) else f"{area:.6g}" for area in row]
                table.writerows([method, material, f"{t:g}", cell] for t, cell in zip(true, cells, strict=True))
    content = {
        "materials": hysu.MATERIALS,
        "true_m2": true,
        "found_m2": areas,
        "largest_angle_rad": LARGEST_ANGLE,
        "naming": {method: asdict(entry) for method, entry in naming.items()},
    }
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    (folder / "targets.json").write_text(text, encoding="utf-8")
    return [folder / "targets.csv", folder / "targets.json"]

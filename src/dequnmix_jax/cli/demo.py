"""`dequnmix demo`: unmix a shipped scene as `dq.run` does, and compare the result with the truth.

`minerals` is a generated scene whose fractions are all known; `experiments/comparison/demo_scenes.py` says how it was
picked. `hysu` is measured: 25 squares of five materials lie on a meadow near Munich, 9 to 0.0625 square metres each, in
pixels of 0.49 square metres (Cerra et al. 2021). The truth is used only after everything is computed.
"""

import csv
import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import how_many
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.options import DemoOptions
from dequnmix_jax.cli.parser import DEMO_SCENES
from dequnmix_jax.conventions import REFLECTANCE, factors_to, rescale
from dequnmix_jax.datasets import hysu, registry
from dequnmix_jax.datasets.hysu import LARGEST_ANGLE, Naming, areas_found, name_endmembers
from dequnmix_jax.io.atomic import replacing_folder
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.known_spectra import unmix_with
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.pipeline import Unmixing, run
from dequnmix_jax.report import plots
from dequnmix_jax.report.plots import save_pictures
from dequnmix_jax.results.score import compare
from dequnmix_jax.results.writer import check_ours, put_result
from dequnmix_jax.scenes.scene import Array, Scene, check_scene
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.training.words import plain

CLASSICAL, OURS, KNOWN = "VCA + FCLS", "dequnmix", "target spectra given"
"""Rows of the tables: the classical way, `dq.run`, and least squares with the spectra of the image library."""

_Say = Callable[[str], None]


def demo(options: DemoOptions) -> None:
    """Unmix a shipped scene, print the errors, and write everything into a folder."""
    import jax

    began = time.perf_counter()
    say: _Say = (lambda text: None) if options.json else print
    plots.require()
    check_ours(options.output, options.force)
    scene, truth = registry.load(options.scene)
    count = DEMO_SCENES[options.scene] if options.endmembers is None else options.endmembers
    check_scene(scene, count=count)
    rows, columns, bands = scene.cube.shape
    say(
        f"{scene.name}: {rows} x {columns} pixels, {how_many(bands, 'band')}; looking for "
        f"{how_many(count, 'endmember')}"
    )
    key = jax.random.key(options.seed)
    with stage("classical way, VCA and FCLS"):
        E, A = _classical(key, scene, count)
    with stage("dequnmix, as dq.run"):
        result = run(scene, count, key)
    if result.reason is not None:
        say(result.reason)
    with replacing_folder(options.output, overwrite=options.force) as folder:
        if options.scene == "hysu":
            content, files = _areas(folder, result, scene, truth, E, A, say)
        else:
            content, files = _errors(folder, result, scene, truth, E, A, say)
        name = "demo.json"
        (folder / name).write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if options.json:
        print((options.output / name).read_text(encoding="utf-8"), end="")
    say("")
    for path in (*files, options.output / name):
        say(str(options.output / path.name))
    say(f"{time.perf_counter() - began:.0f} s in all")
    say("\nNow try:")
    for command, purpose in _next(options):
        say(f"  {command:<60}  {purpose}")


def _classical(key: Any, scene: Scene, count: int) -> tuple[Array, Array]:
    """Return the endmembers of VCA, the largest of several draws, and the abundances of FCLS."""
    import jax.numpy as jnp

    from dequnmix_jax.abundances.least_squares import fcls
    from dequnmix_jax.endmembers.pure_pixel import vca
    from dequnmix_jax.ops.quick_compile import effort_once, quick_jit
    from dequnmix_jax.training.fitting import STARTS

    def both(key: Any, cube: Any, count: int) -> tuple[Any, Any]:
        E = jnp.maximum(vca(key, cube, count, runs=STARTS), 0)
        return E, fcls(cube, E)

    effort = lambda key, cube, count: effort_once(cube, count)  # noqa: E731
    E, A = quick_jit(effort, static_argnums=2)(both)(key, jnp.asarray(scene.cube), count)
    return np.asarray(E), np.asarray(A)


def _next(options: DemoOptions) -> list[tuple[str, str]]:
    """Return three commands to go on with, and what they are for."""
    folder = shlex.quote(str(options.output))
    own = "dequnmix report YOUR_SCENE.hdr --endmembers 5 -o yours.html"
    page = (f"dequnmix report {folder} -o demo.html", "this result as a page for your browser")
    if options.scene == "hysu":
        return [
            page,
            (f"dequnmix info {folder}/scene.npz", "what is known about the scene"),
            (own, "a scene of your own"),
        ]
    score = (f"dequnmix score {folder} {folder}/scene.npz", "the errors, material by material")
    return [page, score, (own, "a scene of your own")]


def _errors(
    folder: Path, result: Unmixing, scene: Scene, truth: Truth, E: Array, A: Array, say: _Say
) -> tuple[dict[str, Any], list[Path]]:
    """Compare maps and spectra with those that made the scene; draw initial maps, ours and the truth."""
    from dequnmix_jax import metrics

    assert truth.abundances is not None and truth.endmembers is not None  # the shipped file holds them
    assert truth.names is not None and truth.convention is not None
    same_count = len(E) == len(truth.endmembers)
    content: dict[str, Any] = {"scene": scene.name, "reason": result.reason, "convention": truth.convention}
    if same_count:
        order = [np.asarray(metrics.align(spectra, truth.endmembers)) for spectra in (E, result.endmembers)]
        result = _named(result, [truth.names[i] for i in np.argsort(order[1])])
        estimates = {
            CLASSICAL: Truth(A, E, convention=REFLECTANCE),
            OURS: Truth(result.abundances, result.endmembers, convention=result.convention),
        }
        scores = {name: compare(estimate, truth, convention=truth.convention) for name, estimate in estimates.items()}
        content["errors"] = {name: {k: score[k] for k in ("armse", "msad")} for name, score in scores.items()}
    files = _put(folder, result, scene, truth)
    if same_count:
        initial = A
        if truth.convention != REFLECTANCE:
            initial = rescale(A, factors_to(truth.convention, E.max(axis=1)))[0]
        mine = result.in_convention(truth.convention).abundances
        maps = {CLASSICAL: initial[:, :, order[0]], OURS: mine[:, :, order[1]], "truth": truth.abundances}
        files.insert(0, plots.save(plots.compared_maps(maps, truth.names), folder / "comparison.png"))
        say(f"\n{'errors against the truth':<28}{'aRMSE':>8}{'mSAD (rad)':>13}")
        for name, score in scores.items():
            say(f"{name:<28}{score['armse']:>8.4f}{score['msad']:>13.4f}")
        say("aRMSE: of the fractions, from 0 to 1. mSAD: mean angle between the spectra found and the true ones.")
        say("One seed of random draws; --seed 1, 2, 3 show how far the errors depend on it.")
    return content, files


def _areas(
    folder: Path, result: Unmixing, scene: Scene, truth: Truth, E: Array, A: Array, say: _Say
) -> tuple[dict[str, Any], list[Path]]:
    """Compare the areas found with those of the targets; draw one against the other."""
    assert truth.endmembers is not None and truth.names is not None and scene.wavelengths is not None
    library = Library(truth.names, scene.wavelengths, truth.endmembers)
    known = unmix_with(scene, library, method="fcls")
    # The library names what was found blindly, and is used for nothing else there.
    naming = {
        OURS: name_endmembers(result.endmembers, truth.endmembers, truth.names),
        CLASSICAL: name_endmembers(E, truth.endmembers, truth.names),
        KNOWN: name_endmembers(known.endmembers, truth.endmembers, truth.names),
    }
    fractions = {OURS: result.in_convention(REFLECTANCE).abundances, CLASSICAL: A, KNOWN: known.abundances}
    areas = {name: areas_found(maps, naming[name].names) for name, maps in fractions.items()}
    targets = hysu.hysu_targets()
    files = _put(folder, _named(result, naming[OURS].names), scene, truth)
    figure = plots.found_areas(targets.area_m2, areas, [name.replace("_", " ") for name in hysu.MATERIALS])
    files.insert(0, plots.save(figure, folder / "areas.png"))
    files.append(_csv(folder, areas, targets.area_m2))
    say("\nTarget areas in square metres; angle: to the library spectrum of that name, rad. Names were matched")
    say(f"afterwards, by spectra alone; beyond {LARGEST_ANGLE} rad a spectrum stays unnamed.")
    for line in _table(naming, areas, targets.area_m2):
        say(line)
    found = {name: sum(not np.isnan(row).any() for row in values) for name, values in areas.items()}
    say(
        f"\nOf {len(hysu.MATERIALS)} materials: "
        + ", ".join(f"{name} {number}" for name, number in found.items())
        + "."
    )
    say("Blind unmixing is weak here: targets of a few pixels count little in errors over all pixels, by which")
    say("endmembers and mixing are chosen. Give it the spectra you have: `dequnmix unmix SCENE --endmembers LIBRARY`.")
    content = {
        "scene": scene.name,
        "reason": result.reason,
        "materials": hysu.MATERIALS,
        "true_m2": targets.area_m2,
        "found_m2": areas,
        "largest_angle_rad": LARGEST_ANGLE,
        "naming": {method: asdict(entry) for method, entry in naming.items()},
    }
    return content, files


def _named(result: Unmixing, names: Any) -> Unmixing:
    return replace(result, names=tuple(names), summary={**result.summary, "endmembers": list(names)})


def _put(folder: Path, result: Unmixing, scene: Scene, truth: Truth) -> list[Path]:
    """Write the result, its pictures, and the scene with its reference."""
    files = put_result(folder, result, result.scene)
    files += save_pictures(folder, result)
    path = folder / "scene.npz"
    write_scene(path, scene)
    with np.load(path) as file:
        arrays = dict(file)
    reference: dict[str, Any] = {"abundances": truth.abundances, "endmembers": truth.endmembers, "names": truth.names}
    reference |= {"note": truth.reference, "convention": truth.convention}
    given = {name: np.asarray(value) for name, value in reference.items() if value is not None}
    np.savez_compressed(path, **(arrays | given))
    return [*files, path]


def _table(naming: Mapping[str, Naming], areas: Mapping[str, Array], true: Array) -> list[str]:
    """Return the table of areas as text, one row per material and method."""
    wide = max(len(name) for name in areas) + 2
    lines = [f"{'':<14}{'':<{wide}}{'angle':>7}" + "".join(f"{area:>9.4g}" for area in true) + "   m2, true"]
    for i, material in enumerate(hysu.MATERIALS):
        for method, estimates in areas.items():
            label = material if method == next(iter(areas)) else ""
            names = naming[method].names
            if material not in names:
                lines.append(f"{label:<14}{method:<{wide}}  not found")
                continue
            angle = naming[method].angles[names.index(material)]
            lines.append(
                f"{label:<14}{method:<{wide}}{angle:>7.3f}" + "".join(f"{area:>9.3f}" for area in estimates[i])
            )
    return lines


def _csv(folder: Path, areas: Mapping[str, Array], true: Array) -> Path:
    """Write the table of areas."""
    with (folder / "targets.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["method", "material", "true_m2", "found_m2"])
        for method, estimates in areas.items():
            for material, row in zip(hysu.MATERIALS, estimates, strict=True):
                # An empty field for a material that was not found: zero would be a measurement.
                cells = ["" if np.isnan(area) else f"{area:.6g}" for area in row]
                table.writerows([method, material, f"{t:g}", cell] for t, cell in zip(true, cells, strict=True))
    return folder / "targets.csv"

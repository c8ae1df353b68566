"""`dequnmix score`: compare maps and spectra with a reference."""

import json
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.options import ScoreOptions
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats, npz
from dequnmix_jax.results import dataset
from dequnmix_jax.results.score import UNITS, compare, read_reference
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.training.words import plain


def score(options: ScoreOptions) -> None:
    """Print the errors of an estimate against a reference."""
    estimate = read_reference(options.estimate)
    truth = read_reference(options.truth, shape=options.shape, order=options.order)
    mask = _mask(options.estimate)
    errors = compare(estimate, truth, mask, cube=_scene(options, truth), convention=options.convention)
    if options.json:
        print(json.dumps(plain(errors), indent=2, allow_nan=False))
        return
    print(f"reference: {shown(errors['reference'])}")
    for note in errors["notes"]:
        print(f"note: {shown(note)}")
    print(f"matched by {errors['matched_by']}")
    print(f"{'estimate':<24}{'reference':<24}{'RMSE':>10}{'SAD (rad)':>11}")
    for row in errors["endmembers"]:
        numbers = [f"{'-' if row[name] is None else format(row[name], '.4f'):>10}" for name in ("rmse", "sad")]
        labels = [shown(row[side])[:22] for side in ("estimate", "reference")]
        print(f"{labels[0]:<24}{labels[1]:<24}{numbers[0]}{numbers[1]:>11}")
    measures = {"armse": "aRMSE", "pooled_rmse": "pooled RMSE", "msad": "mSAD (rad)"}
    print(", ".join(f"{text} {errors[name]:.4f}" for name, text in measures.items() if errors[name] is not None))
    if errors["convention"] is not None:
        print(errors["convention"]["sentence"])
    for key, words in UNITS.items():
        if errors[key] is not None:
            print(f"{words}: " + ", ".join(f"{measures[name]} {value:.4f}" for name, value in errors[key].items()))


def _scene(options: ScoreOptions, truth: Truth) -> Array | None:
    """Return the cube that shows the convention of a reference: of --scene, or else of the reference's own file."""
    if truth.abundances is None or truth.endmembers is None or options.convention is not None:
        return None
    expected = (*truth.abundances.shape[:2], truth.endmembers.shape[1])
    if options.scene is not None:
        cube = formats.read(options.scene).with_good_bands().cube
        if cube.shape != expected:
            raise InputError(
                f"The scene {options.scene} has shape {cube.shape} and its reference {expected} (rows, columns, bands);"
                " expected the scene of the reference. Leave it out, or name another."
            )
        return cube
    if options.truth.suffix.lower() not in (".npz", ".mat"):
        return None
    reading = {"shape": options.shape, "order": options.order} if options.truth.suffix.lower() == ".mat" else {}
    try:
        cube = formats.read(options.truth, **reading).with_good_bands().cube
    except InputError:  # The file holds a reference and no scene.
        return None
    return cube if cube.shape == expected else None


def _mask(path: Path) -> Array | None:
    """Return the mask of the scene that an estimate belongs to; a reference does not hold it."""
    if dataset.is_result(path):
        return dataset.arrays_in(path)[0].get("mask")
    inside = path / "estimate.npz" if path.is_dir() else path
    mask = npz.load(inside).get("mask") if inside.suffix == ".npz" else None
    return None if mask is None else mask.astype(np.bool_)

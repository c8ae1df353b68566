"""`dequnmix score`: compare maps and spectra with a reference."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np

from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats, npz
from dequnmix_jax.results.score import UNITS, compare
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.training.words import plain


def score(args: Namespace) -> None:
    """Print the errors of an estimate against a reference."""
    shape = None if args.shape is None else tuple(args.shape)
    estimate = formats.read_truth(args.estimate)
    truth = formats.read_truth(args.truth, shape=shape, order=args.order)
    found = compare(estimate, truth, _mask(args.estimate))
    if args.json:
        print(json.dumps(plain(found), indent=2, allow_nan=False))
        return
    print(f"reference: {shown(found['reference'])}")
    for note in found["notes"]:
        print(f"note: {shown(note)}")
    print(f"matched by {found['matched_by']}")
    print(f"{'estimate':<24}{'reference':<24}{'RMSE':>10}{'SAD (rad)':>11}")
    for row in found["endmembers"]:
        numbers = [f"{'-' if row[name] is None else format(row[name], '.4f'):>10}" for name in ("rmse", "sad")]
        labels = [shown(row[side])[:22] for side in ("estimate", "reference")]
        print(f"{labels[0]:<24}{labels[1]:<24}{numbers[0]}{numbers[1]:>11}")
    measures = {"armse": "aRMSE", "pooled_rmse": "pooled RMSE", "msad": "mSAD (rad)"}
    print(", ".join(f"{text} {found[name]:.4f}" for name, text in measures.items() if found[name] is not None))
    for key, words in UNITS.items():
        if found[key] is not None:
            print(f"{words}: " + ", ".join(f"{measures[name]} {value:.4f}" for name, value in found[key].items()))


def _mask(path: Path) -> Array | None:
    """Return the mask that an estimate was made under, which its reference does not know."""
    path = Path(path)
    inside = path / "estimate.npz" if path.is_dir() else path
    mask = npz.load(inside).get("mask") if inside.suffix == ".npz" else None
    return None if mask is None else mask.astype(np.bool_)

"""`dequnmix fit`: train a model on a scene and write its checkpoint."""

import json
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dequnmix_jax.cli.progress import describe_fit
from dequnmix_jax.cli.scene_options import count_endmembers, read_for_unmixing
from dequnmix_jax.cli.workflow import (
    choices,
    draw_patches,
    not_its_own_input,
    train,
)
from dequnmix_jax.io.atomic import check_file, reserved
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.resume import kept_beside
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dequnmix_jax.types import History


def fit(args: Namespace) -> None:
    """Train a model on a scene and keep it in a file."""
    not_its_own_input(args.output, args.file)
    choices(args)  # a misspelt word is said before the scene is read
    # The place is taken before the work begins: a missing folder is said now and not in half an hour.
    check_file(args.output)
    with reserved(args.output, overwrite=args.force) as outputs:
        drawn = None
        if args.patches is None:
            scene, record = read_for_unmixing(args, args.endmembers)
            count = count_endmembers(args.endmembers, scene, "--endmembers")
        else:
            drawn, record = draw_patches(args)
            scene = drawn.scene
            sample = replace(scene, cube=drawn.sample[None], mask=None)
            count = count_endmembers(args.endmembers, sample, "--endmembers")
        keep = kept_beside(args.output)
        trained = train(args, scene, count, keep, drawn)
        checkpoint.put(outputs.part(args.output), trained.params, trained.metadata)
        outputs.place(spent=[keep])
    if args.json:
        found = {"model": str(args.output), "endmembers": count, "seconds": trained.seconds}
        found |= {"training": history_record(trained.history), "notes": list(scene.notes), **record}
        found["stages"] = trained.metadata.get("stages")
        print(json.dumps(plain(found), indent=2, allow_nan=False))
        return
    for line in describe_fit(trained.history) + (trained.metadata.get("stages") or []):
        print(line)
    print(f"model: {args.output} ({trained.seconds:.1f} s)")


def history_record(history: "History") -> dict[str, Any]:
    """Return how training went in a few numbers, for JSON."""
    if not history.loss.size:
        return {"steps": 0}
    return {
        "steps": history.loss.size,
        "first_loss": history.loss[0],
        "last_loss": history.loss[-1],
        "mean_spectral_angle": history.angle[-1],
        "converged_steps": history.converged.sum(),
        "largest_residual": history.residual.max(),
    }

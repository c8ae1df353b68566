"""`dequnmix fit`: train a model on a scene and write its checkpoint."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.clock import since_start
from dequnmix_jax.cli.options import FitOptions
from dequnmix_jax.cli.progress import describe_fit
from dequnmix_jax.cli.scene_options import count_endmembers, read_for_unmixing
from dequnmix_jax.cli.workflow import configure, draw_patches, fixed_of, train
from dequnmix_jax.io.atomic import check_file, reserved
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.resume import Keep, kept_beside
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    from dequnmix_jax.types import History

_PATCH_SIZE = 64
"""Rows and columns of a patch by default."""


def fit(options: FitOptions) -> None:
    """Train a model on a scene and keep it in a file."""
    reading, training = options.scene, options.training
    if options.patches is None and options.patch_size is not None:
        raise InputError("--patch-size is the size of patches; expected --patches N with it. Add it, or leave it out.")
    configuration = configure(training, patches=options.patches)  # errors in it are reported before the scene is read
    check_file(options.output)
    # The output is reserved before the work begins: a missing folder is reported now and not in half an hour.
    with reserved(options.output, overwrite=options.force) as outputs:
        patches = None
        if options.patches is None:
            scene, record = read_for_unmixing(reading, options.endmembers)
            fixed = fixed_of(options.fixed, scene)
            count, counted = count_endmembers(
                options.endmembers, scene, "--endmembers", options.max_endmembers, len(fixed.names) + 1
            )
        else:
            patches, record = draw_patches(
                reading, training.seed, options.patches, options.patch_size or _PATCH_SIZE, configuration.model
            )
            scene = patches.scene
            sample = replace(scene, cube=patches.sample[None], mask=None)
            fixed = fixed_of(options.fixed, scene)
            count, counted = count_endmembers(options.endmembers, sample, "--endmembers", options.max_endmembers)
        keep = Keep(kept_beside(options.output), options.checkpoint, replace=options.force)
        model, fitted = train(training, configuration, reading, scene, count, keep, patches, fixed, counted)
        checkpoint.put(outputs.part(options.output), model.params, model.metadata)
        outputs.place(spent=[kept_beside(options.output)])
    stages = model.metadata.get("stages")
    if options.json:
        summary = {"model": str(options.output), "endmembers": count, "seconds": fitted.seconds}
        summary |= {
            "training": history_record(fitted.history),
            "notes": list(scene.notes),
            **record,
            "stages": stages,
            **counted,
        }
        print(json.dumps(plain(summary), indent=2, allow_nan=False))
        return
    for line in describe_fit(fitted.history) + (stages or []):
        print(line)
    print(f"model: {options.output} ({since_start():.1f} s)")


def history_record(history: "History") -> dict[str, Any]:
    """Return a training in a few numbers, for JSON."""
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

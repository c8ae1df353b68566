"""Unmix one scene by several methods and several seeds, side by side, as `dequnmix compare` does."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, check_key
from dequnmix_jax.compared_methods import DEFAULT, Progress, found_by, methods_of, name_of
from dequnmix_jax.conventions import SCALED
from dequnmix_jax.io.atomic import replacing_folder
from dequnmix_jax.io.provenance import SUMMARY, package_version
from dequnmix_jax.pipeline import UNIT, scene_of
from dequnmix_jax.report import comparison_table, plots
from dequnmix_jax.results.kept_methods import Answer, KeptMethods, hash_of
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.results.score import align_maps, read_reference
from dequnmix_jax.results.score import compare as compare_with
from dequnmix_jax.results.writer import put_result
from dequnmix_jax.scenes.scene import Scene, check_scene
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.types import Estimate


class Run(NamedTuple):
    """What a method found with one seed, and the CPU seconds that it took without compilation (NaN: unknown)."""

    result: Result
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Several methods on one scene.

    Attributes:
        scene: as it was unmixed.
        runs: one list for each method that ran, by its word; one run for each seed, the endmembers of all in one order.
        failed: why a method did not run, a sentence for each word.
        rows: one for each method: its figures, mean and standard deviation over the seeds.
        truth: the reference, or None.
        record: how it was computed: seeds, notes, versions.
    """

    scene: Scene
    runs: Mapping[str, list[Run]]
    failed: Mapping[str, str]
    rows: list[dict[str, Any]]
    truth: Truth | None
    record: dict[str, Any]

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write the table, one picture of all maps, and a folder with the first seed's result of each method.

        Args:
            folder: to make; it holds comparison.csv, .md and .tex, maps.png (with the extra `plots`), summary.json and
                a folder for each method, as `write` makes it.
            overwrite: replace such a folder.

        Raises:
            InputError: the folder exists, or is not of this kind.
        """
        target = Path(folder)
        check_ours(target, overwrite)
        with replacing_folder(target, overwrite=overwrite) as part:
            self.put(part)
        return sorted(path for path in target.iterdir())

    def put(self, part: Path) -> None:
        """Write what `write` does into an empty folder."""
        comparison_table.write(part, self.rows, self.reference_name)
        for word, runs in self.runs.items():
            (part / word).mkdir()
            put_result(part / word, runs[0].result, self.scene)
        if self.runs:
            try:
                plots.require()
            except InputError:
                self.record["notes"].append("The picture was left out: matplotlib is not installed.")
            else:
                plots.save(self.picture(), part / "maps.png")
        text = json.dumps(self.record | {"failed": dict(self.failed)}, indent=2, default=str)
        (part / SUMMARY).write_text(text + "\n", encoding="utf-8")

    @property
    def reference_name(self) -> str:
        """Name of the reference; "" without one."""
        return "" if self.truth is None else self.truth.reference

    def picture(self) -> Any:
        """Return a figure of all maps: a row for each method (its first seed) and one for the reference."""
        names = None if self.truth is None or self.truth.names is None else self.truth.names
        maps: dict[str, Any] = {}
        if self.truth is not None and self.truth.abundances is not None:
            maps["reference"] = self.truth.abundances
        maps |= {word: runs[0].result.abundances for word, runs in self.runs.items()}
        return plots.compared_maps(maps, names, mask=self.scene.mask)


def check_ours(target: Path, overwrite: bool) -> None:
    """Raise InputError if `overwrite` would replace a folder that is no comparison."""
    if overwrite and target.is_dir() and any(target.iterdir()) and not (target / comparison_table.CSV).is_file():
        raise InputError(
            f"{target} holds files and no {comparison_table.CSV}, so it is not an earlier comparison; it is not "
            "replaced. Choose another folder."
        )


def compare(
    scene: Any,
    count: int,
    keys: Sequence[Any],
    methods: Sequence[str] = DEFAULT,
    *,
    reference: Truth | str | os.PathLike[str] | None = None,
    convention: str | None = None,
    on_progress: Progress | None = None,
    keep: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **reading: Any,
) -> Comparison:
    """Unmix one scene by several methods, with every key, and measure the answers side by side.

    Every method gets the same cube, and with each key the same initial spectra (VCA's) if it has none of its own, and
    its authors' constants. The reference is used for the errors alone.

    Args:
        scene: a path, a `Scene`, an array (H, W, B), or an xarray DataArray or Dataset. Masked pixels are given to the
            methods as the mean of the others, because most of them have no mask, and are not counted.
        count: R, number of endmembers, from 2.
        keys: of jax.random, one for each seed.
        methods: words of `baselines.METHODS`; "deq", `run` with nothing trained on the scene; "deq-trained", `run` with
            `RECOMMENDED`.
        reference: maps, spectra or both, or the path of them, as `dequnmix score` reads it; None: none.
        convention: of the fractions of the reference, as for `results.score.compare`.
        on_progress: called after each run, or None.
        keep: a folder that keeps each method as soon as it is finished, so that the same call after an interruption
            goes on with the others; remove it when the comparison is written. None: nothing is kept.
        overwrite: discard what a comparison of another scene or with other keys has left in `keep`.
        **reading: options of `read`.

    Returns:
        A `Comparison`: `.rows`, `.runs`, `.write(folder)`, `.picture()`. A row has, as mean and standard deviation over
        the seeds: aRMSE and mSAD and the errors of each endmember (with a reference); the RMS of the residual relative
        to that of the scene; spread, the RMS over pixels and endmembers of the fractions' standard deviation over the
        seeds; CPU seconds of a run, without compilation, and those of the first one with it.

    Raises:
        InputError: scene, count, a word or the reference does not fit, or `keep` holds methods of another comparison
            and `overwrite` is False. A method that fails does not end the others:
            `failed` says why.
    """
    keys = _listed(keys)
    if not keys:
        raise InputError("keys is empty; expected one key of jax.random for each seed.")
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 2:
        raise InputError(f"count is {count!r}; expected the number of endmembers, an integer from 2.")
    words = methods_of(methods)
    read_scene = scene_of(scene, reading)
    warnings = check_scene(read_scene, count=int(count))
    truth = reference if isinstance(reference, Truth) or reference is None else read_reference(reference)
    if truth is not None:
        _check_reference(truth, read_scene, int(count))
    kept = None if keep is None else _kept(Path(keep), read_scene, int(count), keys, overwrite)
    earlier = [] if kept is None else [word for word in words if word in kept.finished]
    found, failed = found_by(words, read_scene, int(count), keys, on_progress, kept)
    runs: dict[str, list[Run]] = {}
    rows: list[dict[str, Any]] = []
    leading = None if truth is None else truth.endmembers
    for word, (answers, seconds, first) in found.items():
        if leading is None and (truth is None or truth.abundances is None):
            leading = answers[0].endmembers
        names = None if truth is None else truth.names
        runs[word] = [
            Run(_result(word, _ordered(answer, truth, leading, read_scene.valid), read_scene, names), second)
            for answer, second in zip(answers, seconds, strict=True)
        ]
        figures = _figures(runs[word], read_scene, truth, convention)
        wrong = [name for name, value in figures.items() if isinstance(value, float) and not np.isfinite(value)]
        if wrong:
            failed[word] = f"{', '.join(wrong[:4])} cannot be computed: a value of the scene is beyond all others."
            runs.pop(word)
            continue
        rows.append({"method": word, "name": name_of(word)} | figures | {"cpu_seconds_first": first})
    notes = [] if read_scene.valid.all() else ["Masked pixels were given to the methods as the mean of the others."]
    record = {
        "scene": read_scene.name, "endmembers": int(count), "methods": words, "seeds": len(keys),
        "reference": None if truth is None else truth.reference, "warnings": warnings, "notes": notes,
        "versions": _versions(), "kept": earlier,
    }  # fmt: skip
    return Comparison(read_scene, runs, failed, rows, truth, record)


def _versions() -> dict[str, str]:
    return {package: package_version(package) for package in ("dequnmix-jax", "jax", "jaxlib", "numpy")}


def _kept(folder: Path, scene: Scene, count: int, keys: Sequence[Any], overwrite: bool) -> KeptMethods:
    """Return the methods of this comparison that a folder keeps."""
    import jax

    marks = {
        "state of the scene": hash_of(scene),
        "number of endmembers": count,
        "choice of seeds": [np.asarray(jax.random.key_data(key)).tolist() for key in keys],
        "set of versions": _versions(),
        "device": f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
    }
    return KeptMethods(folder, marks, scene.cube.shape, count).read(overwrite)


def _listed(keys: Any) -> list[Any]:
    """Return random keys as a list: of a list, or of an array of keys as `jax.random.split` returns it."""
    if getattr(keys, "ndim", None) == 0:
        raise InputError("keys is one key; expected one for each seed. Pass [key].")
    found = list(keys)
    for key in found:
        check_key(key)
    return found


def _check_reference(truth: Truth, scene: Scene, count: int) -> None:
    """Raise InputError unless a reference has the pixels, bands and number of endmembers of a comparison."""
    shape = scene.cube.shape
    for name, expected in (("abundances", (*shape[:2], count)), ("endmembers", (count, shape[2]))):
        values = getattr(truth, name)
        if values is not None and values.shape != expected:
            raise InputError(
                f"The {name} of the reference have shape {values.shape}; expected {expected} for this scene and "
                f"{count} endmembers. Pass its own number (--endmembers), the same bands, or another reference."
            )
    if truth.abundances is None and truth.endmembers is None:
        raise InputError("The reference has neither abundances nor endmembers; expected one of them.")


def _ordered(answer: Answer, truth: Truth | None, leading: Any, valid: Any) -> Answer:
    """Return an answer whose endmembers have the order of the reference, or else of the first answer."""
    from dequnmix_jax import metrics

    if leading is not None:
        order = np.asarray(metrics.align(answer.endmembers, leading))
    else:
        assert truth is not None and truth.abundances is not None
        order = align_maps(answer.abundances, truth.abundances, valid)
    return answer._replace(abundances=answer.abundances[..., order], endmembers=answer.endmembers[order])


def _result(word: str, answer: Answer, scene: Scene, names: Sequence[str] | None) -> Result:
    estimate = Estimate(answer.abundances, answer.endmembers, answer.brightness, answer.abundances)
    known = not (answer.convention == SCALED and np.allclose(answer.endmembers.max(axis=1), 1))
    return result_of(
        estimate, scene, names=names, convention=answer.convention, levels_known=known,
        record={"method": name_of(word), "unit": UNIT},
    )  # fmt: skip


def _figures(runs: Sequence[Run], scene: Scene, truth: Truth | None, convention: str | None) -> dict[str, Any]:
    """Return the figures of a method, mean and standard deviation over its runs."""
    each: dict[str, list[float]] = {}
    valid = scene.valid
    size = float(np.sqrt(np.mean(np.square(scene.cube[valid], dtype=np.float64)))) or 1.0
    for one in runs:
        figures: dict[str, float] = {}
        if truth is not None:
            estimate = Truth(one.result.abundances, one.result.endmembers, convention=one.result.convention)
            both = truth.abundances is not None and truth.endmembers is not None
            cube = scene.cube if both else None
            scores = compare_with(estimate, truth, valid, cube=cube, convention=convention)
            figures |= {name: scores[name] for name in ("armse", "msad") if scores[name] is not None}
            for number, one_of in enumerate(scores["endmembers"], 1):
                figures |= {f"{k}_{number}": one_of[k] for k in ("rmse", "sad") if one_of[k] is not None}
        residual = one.result.residual
        assert residual is not None
        figures["residual"] = float(np.sqrt(np.mean(np.square(residual[valid], dtype=np.float64)))) / size
        for name, value in figures.items():
            each.setdefault(name, []).append(value)
    maps = np.stack([one.result.abundances[valid] for one in runs])
    seconds = [one.seconds for one in runs if np.isfinite(one.seconds)]
    row: dict[str, Any] = {}
    for name, values in each.items():
        row |= {name: float(np.mean(values)), f"{name}_sd": float(np.std(values))}
    row["spread"] = float(np.sqrt(np.mean(maps.var(axis=0)))) if len(runs) > 1 else None
    return row | {"cpu_seconds": float(np.mean(seconds)), "seeds": len(runs)}

"""Unmix one scene by several methods and several seeds, side by side, as `dequnmix compare` does."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, check_key
from dequnmix_jax.conventions import REFLECTANCE, SCALED
from dequnmix_jax.io.atomic import replacing_folder
from dequnmix_jax.io.provenance import SUMMARY, package_version
from dequnmix_jax.pipeline import UNIT, run, scene_of
from dequnmix_jax.report import comparison_table, plots
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.results.score import align_maps, read_reference
from dequnmix_jax.results.score import compare as compare_with
from dequnmix_jax.results.writer import put_result
from dequnmix_jax.scenes.scene import Scene, check_scene
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.training.config import RECOMMENDED
from dequnmix_jax.types import Estimate

if TYPE_CHECKING:
    pass

DEQ, DEQ_TRAINED = "deq", "deq-trained"
OURS = {DEQ: "DEQ-Unmix, learned operator", DEQ_TRAINED: "DEQ-Unmix, trained on the scene"}
"""Words of `run`, without and with a training on the scene, beside those of `baselines.METHODS`."""

DEFAULT = ("fcls", "sunsal", "minimum-volume", DEQ)
"""Methods that are compared if none are named: those that take seconds."""

Progress = Callable[[str, int, float], None]
"""Called after each run with the name of the method, the number of the seed and the CPU seconds."""


class Answer(NamedTuple):
    """Maps (H, W, R), spectra (R, B) and brightness (H, W) of a method, and the convention of its fractions."""

    abundances: Any
    endmembers: Any
    brightness: Any
    convention: str


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
                a folder for each method, as `Result.write` makes it.
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


def methods_of(words: Sequence[str]) -> list[str]:
    """Return the words of methods, each once.

    Raises:
        InputError: a word is unknown, or there is none.
    """
    from dequnmix_jax.baselines import METHODS

    known = (*OURS, *METHODS)
    for word in words:
        if word not in known:
            raise InputError(f"method is {word!r}; expected {', '.join(known)}.")
    if not words:
        raise InputError(f"No method is named; expected at least one of {', '.join(known)}.")
    return list(dict.fromkeys(words))


def compare(
    scene: Any,
    count: int,
    keys: Sequence[Any],
    methods: Sequence[str] = DEFAULT,
    *,
    reference: Truth | str | os.PathLike[str] | None = None,
    convention: str | None = None,
    on_progress: Progress | None = None,
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
        **reading: options of `read`.

    Returns:
        A `Comparison`: `.rows`, `.runs`, `.write(folder)`, `.picture()`. A row has, as mean and standard deviation over
        the seeds: aRMSE and mSAD and the errors of each endmember (with a reference); the RMS of the residual relative
        to that of the scene; spread, the RMS over pixels and endmembers of the fractions' standard deviation over the
        seeds; CPU seconds of a run, without compilation, and those of the first one with it.

    Raises:
        InputError: scene, count, a word or the reference does not fit. A method that fails does not end the others:
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
    runs: dict[str, list[Run]] = {}
    failed: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    leading = None if truth is None else truth.endmembers
    for word in words:
        try:
            answers, seconds, first = _answers_of(word, read_scene, int(count), keys, on_progress)
        except InputError as error:
            failed[word] = str(error)
            continue
        except Exception as error:  # a network that cannot take this scene must not end the others
            failed[word] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
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
        rows.append({"method": word, "name": _name_of(word)} | figures | {"cpu_seconds_first": first})
    notes = [] if read_scene.valid.all() else ["Masked pixels were given to the methods as the mean of the others."]
    record = {
        "scene": read_scene.name, "endmembers": int(count), "methods": words, "seeds": len(keys),
        "reference": None if truth is None else truth.reference, "warnings": warnings, "notes": notes,
        "versions": {package: package_version(package) for package in ("dequnmix-jax", "jax", "jaxlib", "numpy")},
    }  # fmt: skip
    return Comparison(read_scene, runs, failed, rows, truth, record)


def _listed(keys: Any) -> list[Any]:
    """Return random keys as a list: of a list, or of an array of keys as `jax.random.split` returns it."""
    if getattr(keys, "ndim", None) == 0:
        raise InputError("keys is one key; expected one for each seed. Pass [key].")
    found = list(keys)
    for key in found:
        check_key(key)
    return found


def _name_of(word: str) -> str:
    from dequnmix_jax import baselines

    return OURS[word] if word in OURS else baselines.competitor(word).name


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


def _answers_of(
    word: str, scene: Scene, count: int, keys: Sequence[Any], on_progress: Progress | None
) -> tuple[list[Answer], list[float], float]:
    """Return what a method finds with each key, the CPU seconds of each, and those of the first with compilation."""
    estimate = _ours(word, count) if word in OURS else _competitor(word, count)
    began = time.process_time()
    answers = [estimate(keys[0], scene)]
    first = time.process_time() - began
    seconds = [np.nan]
    if on_progress is not None:
        on_progress(word, 0, first)
    if len(keys) == 1:  # once more, because the first run compiles
        began = time.process_time()
        estimate(keys[0], scene)
        seconds = [time.process_time() - began]
    for number, key in enumerate(keys[1:], 1):
        began = time.process_time()
        answers.append(estimate(key, scene))
        seconds.append(time.process_time() - began)
        if on_progress is not None:
            on_progress(word, number, seconds[-1])
    return answers, seconds, first


Estimator = Callable[[Any, Scene], Answer]


def _ours(word: str, count: int) -> Estimator:
    training = RECOMMENDED[0] if word == DEQ_TRAINED else None

    def estimate(key: Any, scene: Scene) -> Answer:
        if word == DEQ and scene.cube.shape[2] < 2 * count:  # `run` would train, as nothing can be compared
            raise InputError(
                f"{scene.cube.shape[2]} bands for {count} endmembers; expected at least two bands for each, because "
                "the learned operator compares candidates by held-out bands. Take deq-trained."
            )
        found = run(scene, count, key, training=training)
        return Answer(found.abundances, found.endmembers, found.brightness, found.convention)

    return estimate


def _competitor(word: str, count: int) -> Estimator:
    """Return a method of `baselines` as a function of key and scene, compiled once where it can be."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax import baselines
    from dequnmix_jax.endmembers.pure_pixel import vca

    method = baselines.competitor(word)
    begin = jax.jit(lambda key, cube, mask: jnp.maximum(vca(key, cube, count, mask=mask), 1e-5))
    compiled = jax.jit(method.estimate) if method.pure else method.estimate

    def estimate(key: Any, scene: Scene) -> Answer:
        valid = scene.valid
        cube = scene.cube
        if not valid.all():
            cube = np.where(valid[..., None], cube, cube[valid].mean(axis=0))
        found = compiled(key, jnp.asarray(cube), begin(key, jnp.asarray(cube), jnp.asarray(valid)))
        A, E = np.asarray(found.abundances), np.asarray(found.endmembers)
        if not (np.isfinite(A).all() and np.isfinite(E).all()):
            raise InputError(f"{method.name} found NaN or infinity: it diverged on this scene.")
        return _answer(A, E, method.constraint_of(found), cube, valid)

    return estimate


def _answer(A: Any, E: Any, constraint: str, cube: Any, valid: Any) -> Answer:
    """Return the answer of a competitor: brightness is 1, or the best in each pixel where its model leaves it free."""
    brightness = valid.astype(np.float32)
    if constraint == "cone":
        E = E / np.maximum(E.max(axis=1, keepdims=True), np.float32(1e-12))
    if constraint != "simplex":
        mixed = A @ E
        power = np.sum(mixed * mixed, axis=-1)
        brightness *= np.maximum(np.sum(cube * mixed, axis=-1), 0) / np.where(power > 0, power, 1)
    maps = np.where(valid[..., None], A, np.float32(0))
    return Answer(maps, E, brightness, SCALED if constraint == "cone" else REFLECTANCE)


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
        record={"method": _name_of(word), "unit": UNIT},
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

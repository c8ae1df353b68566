"""Run the methods of a comparison on one scene, each with every seed, and measure the time."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.conventions import REFLECTANCE, SCALED
from dequnmix_jax.pipeline import run
from dequnmix_jax.results.kept_methods import Answer, Finished, KeptMethods
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.training.config import RECOMMENDED

DEQ, DEQ_TRAINED = "deq", "deq-trained"
OURS = {DEQ: "DEQ-Unmix, learned operator", DEQ_TRAINED: "DEQ-Unmix, trained on the scene"}
"""Words of `run`, without and with a training on the scene, beside those of `baselines.METHODS`."""

DEFAULT = ("fcls", "sunsal", "minimum-volume", DEQ)
"""Methods that are compared if none are named: those that take seconds."""

Progress = Callable[[str, int, float], None]
"""Called after each run with the name of the method, the number of the seed and the CPU seconds."""


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


def name_of(word: str) -> str:
    """Return the name of a method."""
    from dequnmix_jax import baselines

    return OURS[word] if word in OURS else baselines.competitor(word).name


def found_by(
    words: Sequence[str],
    scene: Scene,
    count: int,
    keys: Sequence[Any],
    on_progress: Progress | None,
    kept: KeptMethods | None,
) -> tuple[dict[str, Finished], dict[str, str]]:
    """Return what each method finds, those that are kept without a run, and why the others failed."""
    finished = {} if kept is None else dict(kept.finished)
    failed: dict[str, str] = {}
    try:
        for word in words:
            if word in finished:
                continue
            try:
                found = _answers_of(word, scene, count, keys, on_progress)
            except InputError as error:
                failed[word] = str(error)
                continue
            except Exception as error:  # a network that cannot take this scene must not end the others
                failed[word] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                continue
            finished[word] = found
            if kept is not None:
                kept.put(word, found)
    except KeyboardInterrupt as error:
        if kept is None or not kept.finished:
            raise
        number = len(kept.finished)
        message = f"interrupted; {how_many(number, 'finished method')} {'is' if number == 1 else 'are'} kept in "
        message += f"{kept.folder}, and the same command goes on with the others."
        raise KeyboardInterrupt(message) from error
    finally:
        if kept is not None:
            kept.close()
    return {word: finished[word] for word in words if word in finished}, failed


def _answers_of(word: str, scene: Scene, count: int, keys: Sequence[Any], on_progress: Progress | None) -> Finished:
    """Return what a method finds with each key, and in how many CPU seconds."""
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
    return Finished(answers, seconds, first)


Estimator = Callable[[Any, Scene], Answer]


def _ours(word: str, count: int) -> Estimator:
    training = RECOMMENDED[0] if word == DEQ_TRAINED else None

    def estimate(key: Any, scene: Scene) -> Answer:
        if word == DEQ and scene.cube.shape[2] < 2 * count:  # `run` would train, as nothing can be compared
            raise InputError(
                f"{how_many(scene.cube.shape[2], 'band')} for {how_many(count, 'endmember')}; expected at least two "
                "bands for each, because the learned operator compares candidates by held-out bands. Take deq-trained."
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

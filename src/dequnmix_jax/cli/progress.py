"""Train on a scene from the command line: in pieces, so that it can say how far it is and be interrupted."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.escaping import shown
from dequnmix_jax.scenes.scene import Scene

if TYPE_CHECKING:
    from dequnmix_jax.equilibrium.config import Model
    from dequnmix_jax.equilibrium.scene_statistics import Scenewide
    from dequnmix_jax.training.config import Rates, Training
    from dequnmix_jax.training.resume import Keep
    from dequnmix_jax.types import History, Params


class Line:
    """One line on stderr that is written over and over; nothing when stderr is no terminal."""

    def __init__(self) -> None:
        """Look whether anybody watches."""
        # It moves the cursor on purpose, so it writes behind the guard of the terminal.
        self._stream = getattr(sys.stderr, "behind", sys.stderr)
        self.live = self._stream.isatty()
        self._length = 0

    def show(self, text: str) -> None:
        """Put text in the place of what stood there."""
        if self.live:
            self._stream.write("\r" + shown(text).ljust(self._length))
            self._stream.flush()
            self._length = len(text)

    def clear(self) -> None:
        """Leave an empty line for what is printed next."""
        if self.live and self._length:
            self._stream.write("\r" + " " * self._length + "\r")
            self._stream.flush()
            self._length = 0


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training brought.

    Attributes:
        params: for `unmix`.
        history: numpy arrays, one entry for each training step taken.
        seconds: wall time, compilation included.
    """

    params: "Params"
    history: "History"
    seconds: float


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _bar(done: int, total: int, rate: float, loss: float) -> str:
    filled = round(24 * done / total)
    left = _clock((total - done) / rate)
    return f"training [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}  {rate:.1f}/s  {left} left  loss {loss:.5f}"


def fit_scene(
    key: Any,
    scene: Scene,
    config: "Model",
    training: "Training",
    rates: "Rates",
    *,
    endmembers: Any = None,
    count: int | None = None,
    whole: "Scenewide | None" = None,
    keep: "Keep | None" = None,
) -> Fitted:
    """Train as `fitting.fit` does, with a progress line; the result is the same.

    Args:
        key: of jax.random.
        scene: a checked scene.
        config, training, rates: choices and numbers of the fit.
        endmembers: (R, B), where E starts; or
        count: R, found by VCA.
        whole: what a larger scene decides, of which this one holds patches, or None.
        keep: as for `resume.resumable_fit`.

    Returns:
        The parameters and how they came about.

    Raises:
        InputError: where shapes or values do not fit, in a sentence.
    """
    import jax.numpy as jnp

    from dequnmix_jax.training.resume import resumable_fit

    began = time.perf_counter()
    line = Line()
    line.show("compiling ...")
    seen: list[tuple[int, float]] = []

    def on_progress(history: "History") -> None:
        done, now = history.loss.size, time.perf_counter()
        if not seen and done:
            line.clear()
            where = "" if keep is None else f", kept in {keep.path}"
            print(f"note: Training continues from step {done} of {training.epochs}{where}.", file=sys.stderr)
        seen.append((done, now))
        if len(seen) > 2:  # the first piece waited for the compiler and tells nothing about the speed
            rate = (done - seen[1][0]) / max(now - seen[1][1], 1e-9)
            line.show(_bar(done, training.epochs, rate, float(history.loss[-1])))
        elif done:
            line.show(f"training {done}/{training.epochs}")

    try:
        params, history = resumable_fit(
            key,
            jnp.asarray(scene.cube),
            config,
            training,
            rates,
            endmembers=endmembers,
            count=count,
            mask=None if scene.mask is None else jnp.asarray(scene.mask),
            whole=whole,
            keep=keep,
            on_progress=on_progress,
        )
    finally:
        line.clear()
    return Fitted(params, history, time.perf_counter() - began)


def describe_fit(history: "History") -> list[str]:
    """Return how training went, in lines of text; the second one says where an equilibrium was not reached."""
    total = history.loss.size
    if total == 0:
        return ["no training step: the start is kept"]
    kept = f"{total} training steps, loss {history.loss[0]:.5f} -> {history.loss[-1]:.5f}"
    finite = history.residual[np.isfinite(history.residual)]
    worst = f"{finite.max():.2e}" if finite.size == total else "not finite"
    failed = int((~history.converged).sum())
    lines = [
        f"{kept}, mean spectral angle {history.angle[-1]:.4f} rad",
        f"equilibrium reached at {total - failed} of {total} steps, largest relative residual {worst}",
    ]
    if not np.isfinite(history.loss[-1]):
        lines.append("training ended early: the loss is not finite")
    elif not history.active[-1]:
        lines.append("training ended early: the loss fell no further")
    return lines

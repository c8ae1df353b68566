"""Train on a scene with a progress line on stderr, in pieces that can be interrupted and resumed."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import how_many
from dequnmix_jax.escaping import shown
from dequnmix_jax.scenes.scene import Scene

if TYPE_CHECKING:
    from dequnmix_jax.equilibrium.config import Model
    from dequnmix_jax.equilibrium.scene_statistics import Scenewide
    from dequnmix_jax.training.config import Rates, Training
    from dequnmix_jax.training.resume import Keep
    from dequnmix_jax.types import History, Params


class Line:
    """One line on stderr that is overwritten; nothing is written where stderr is not a terminal."""

    def __init__(self) -> None:
        """Find out whether stderr is a terminal."""
        # This line moves the cursor on purpose, so it bypasses the guard of the terminal.
        self._stream = getattr(sys.stderr, "behind", sys.stderr)
        self.live = self._stream.isatty()
        self._length = 0

    def show(self, text: str) -> None:
        """Replace the text of the line."""
        if self.live:
            self._stream.write("\r" + shown(text).ljust(self._length))
            self._stream.flush()
            self._length = len(text)

    def clear(self) -> None:
        """Erase the line before other output."""
        if self.live and self._length:
            self._stream.write("\r" + " " * self._length + "\r")
            self._stream.flush()
            self._length = 0


@dataclass(frozen=True, eq=False)
class Fitted:
    """Result of a training.

    Attributes:
        params: for `unmix`.
        history: numpy arrays, one entry per training step.
        seconds: wall time, including compilation.
    """

    params: "Params"
    history: "History"
    seconds: float


def clock_text(seconds: float) -> str:
    """Return a duration as minutes and seconds, 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _bar(done: int, total: int, rate: float, loss: float) -> str:
    filled = round(24 * done / total)
    left = clock_text((total - done) / rate)
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
    fixed: Any = None,
) -> Fitted:
    """Train as `training.fit` does, with a progress line; the result is the same.

    Args:
        key: of jax.random.
        scene: a checked scene.
        config, training, rates: choices and numbers of the fit.
        endmembers: (R, B), initial endmembers; or
        count: R, number of initial endmembers found by VCA.
        whole: statistics of the larger scene of which this one holds patches, or None.
        keep: where the training is kept, or None.
        fixed: (R,) bool, endmembers that are not trained, or None.

    Raises:
        InputError: if shapes or values do not fit.
    """
    import jax.numpy as jnp

    from dequnmix_jax.training.fitting import phases_of
    from dequnmix_jax.training.resume import resumable_fit

    total = sum(phases_of(training, rates))
    if total < training.epochs:
        print(
            f"note: Endmembers are not trained (rate 0); the {training.epochs - total} steps for them are left out.",
            file=sys.stderr,
        )
    began = time.perf_counter()
    line = Line()
    line.show("compiling ...")
    seen: list[tuple[int, float]] = []

    def on_progress(history: "History") -> None:
        done, now = history.loss.size, time.perf_counter()
        if not seen and done:
            line.clear()
            path = None if keep is None else keep.path
            print(f"note: Training resumes at step {done} of {total}, kept in {path}.", file=sys.stderr)
        seen.append((done, now))
        if len(seen) > 2:  # the first piece includes compilation and does not show the speed
            rate = (done - seen[1][0]) / max(now - seen[1][1], 1e-9)
            line.show(_bar(done, total, rate, float(history.loss[-1])))
        elif done:
            line.show(f"training {done}/{total}")

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
            fixed=fixed,
        )
    finally:
        line.clear()
    return Fitted(params, history, time.perf_counter() - began)


def describe_fit(history: "History") -> list[str]:
    """Return a training in lines of text: loss and angle, equilibria reached, and why it ended early."""
    total = history.loss.size
    if total == 0:
        return ["no training step: the initial parameters are kept"]
    kept = f"{how_many(total, 'training step')}, loss {history.loss[0]:.5f} -> {history.loss[-1]:.5f}"
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
        lines.append("training ended early: the loss stopped falling")
    return lines

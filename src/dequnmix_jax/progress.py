"""Train on a scene from the command line: in pieces, so that it can say how far it is and be interrupted."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.scene import Scene

if TYPE_CHECKING:
    from dequnmix_jax.config import Model, Rates, Training
    from dequnmix_jax.records import History, Params

_LARGEST_PIECE = 10
"""Training steps in one call: a compiled call cannot be interrupted, and one of ten takes seconds."""


class Line:
    """One line on stderr that is written over and over; nothing when stderr is no terminal."""

    def __init__(self) -> None:
        """Look whether anybody watches."""
        self.live = sys.stderr.isatty()
        self._length = 0

    def show(self, text: str) -> None:
        """Put text in the place of what stood there."""
        if self.live:
            sys.stderr.write("\r" + text.ljust(self._length))
            sys.stderr.flush()
            self._length = len(text)

    def clear(self) -> None:
        """Leave an empty line for what is printed next."""
        if self.live and self._length:
            sys.stderr.write("\r" + " " * self._length + "\r")
            sys.stderr.flush()
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


def piece_of(epochs: int) -> int:
    """Return the largest divisor of the epochs up to ten: with pieces of one size, one compilation does."""
    return max(size for size in range(1, _LARGEST_PIECE + 1) if epochs % size == 0)


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
) -> Fitted:
    """Train as `training.fit` does, with a progress line; the result is the same.

    Args:
        key: of jax.random.
        scene: a checked scene.
        config, training, rates: choices and numbers of the fit.
        endmembers: (R, B), where E starts; or
        count: R, found by VCA.

    Returns:
        The parameters and how they came about.

    Raises:
        InputError: where shapes or values do not fit, in a sentence.
    """
    import jax
    import jax.numpy as jnp

    from dequnmix_jax import training as fitting
    from dequnmix_jax.records import History

    began = time.perf_counter()
    line = Line()
    line.show("compiling ...")
    cube = jnp.asarray(scene.cube)
    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    begin = jax.jit(fitting.begin, static_argnums=2, static_argnames="count")
    state = begin(key, cube, config, endmembers=endmembers, count=count, mask=mask)
    advance = jax.jit(fitting.advance, static_argnums=(2, 3, 5))
    piece = piece_of(training.epochs)
    rows: list[History] = []
    mark = began
    while len(rows) * piece < training.epochs:
        state, row = advance(state, cube, config, training, rates, piece, mask=mask)
        rows.append(jax.tree.map(np.asarray, row))
        now = time.perf_counter()
        if len(rows) == 1:
            mark = now  # the first piece waited for the compiler and tells nothing about the speed
            line.show(f"training {piece}/{training.epochs}")
        else:
            done = len(rows) * piece
            rate = (done - piece) / max(now - mark, 1e-9)
            line.show(_bar(done, training.epochs, rate, float(rows[-1].loss[-1])))
        if not rows[-1].active[-1]:
            break
    jax.block_until_ready(state)
    line.clear()
    if rows:
        history = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
    else:
        types = (np.float32, np.float32, np.float32, np.int32, np.float32, np.bool_, np.bool_)
        history = History(*(jnp.empty(0, dtype) for dtype in types))
    return Fitted(state.params, history, time.perf_counter() - began)


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

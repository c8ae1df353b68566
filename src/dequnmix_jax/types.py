"""The results of the library: NamedTuples of arrays, which pass through jit, vmap and grad."""

from typing import Any, NamedTuple

import jax
import numpy as np

from dequnmix_jax.checks import concrete, how_many

NEEDED = 2.0
"""Standard errors by which a gain must exceed zero for a stage of training to be kept."""

ADEQUATE = 1.1
"""Misfit of held-out bands, in units of the noise, up to which the linear model is adequate. The noise is known to some
per cent, and abundances from half of the bands add about R / B."""


def _short(value: tuple[Any, ...], omitted: tuple[str, ...] = ()) -> str:
    """Return a NamedTuple as one line, arrays (or tracers) by type and shape: `Trace(steps=int32[], ...)`."""

    def leaf(entry: Any) -> str:
        if not hasattr(entry, "dtype"):
            return repr(entry)
        return f"{entry.dtype}[{','.join(map(str, np.shape(entry)))}]"

    fields = zip(value._fields, value, strict=True)  # type: ignore[attr-defined]
    shown = [f"{name}={leaf(entry)}" for name, entry in fields if name not in omitted]
    return f"{type(value).__name__}({', '.join(shown)})"


class Verdict(NamedTuple):
    """The verdict on a stage of training; arrays without unit.

    Attributes:
        bands: (2,), gain in predicting held-out bands, in standard errors: in pixels of the training, in held-out
            pixels.
        risk: (2,), the same of the unbiased risk; NaN where it does not apply.
        misfit: (), misfit of held-out bands after the stage, in units of the noise: 1 if noise alone is left; NaN if
            unknown.
        material: (), the lowest gain among the materials, in standard errors over the pixels in which the material is
            more than half before the stage; NaN if none is in two blocks of pixels.
        kept: () bool.
    """

    bands: jax.Array
    risk: jax.Array
    misfit: jax.Array
    material: jax.Array
    kept: jax.Array


class Stages(NamedTuple):
    """The verdicts on the stages of a training.

    Attributes:
        endmembers: of the trained endmembers against the initial ones.
        network: of the trained network against none.
        prior: of the prior over neighbours; its `bands` are the gain in standard errors, over all pixels, twice.
    """

    endmembers: Verdict
    network: Verdict
    prior: Verdict


Params = dict[str, Any]
"""`{"endmembers": (R, B), "network": nested dict of arrays}`, with "prior" if a prior over neighbours was estimated."""


class Trace(NamedTuple):
    """The trace of a fixed-point solve. A failure is a value here, since code under jit cannot raise.

    Attributes:
        steps: () int32, applications of the map.
        residual: (), RMS of f(z) - z at the returned z, divided by the RMS of f(z).
        converged: () bool, `residual <= tolerance`; False where the residual is NaN.
    """

    steps: jax.Array
    residual: jax.Array
    converged: jax.Array


class Estimate(NamedTuple):
    """The solution of an unmixing problem.

    Attributes:
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        endmembers: (R, B), one spectrum a row, those that the fractions refer to (`Model.convention`): in the units of
            the cube, or with Cone() each of maximum 1, and the brightness in the units of the cube. A `Result` holds
            them in the units of the cube always.
        brightness: (H, W), the factor s of y = s * a E; 1 with Simplex() and Softmax(), 0 in masked pixels.
        state: (H, W, R), the equilibrium itself, a first state (`initial`) for another solve.
        fluctuation: (H, W, B), what nonlinear mixing adds, y = s * a E + fluctuation, units of the cube, 0 in masked
            pixels (`Model.nonlinear`); None for linear mixing.
    """

    abundances: jax.Array
    endmembers: jax.Array
    brightness: jax.Array
    state: jax.Array
    fluctuation: jax.Array | None = None

    def __repr__(self) -> str:
        return _short(self, ("fluctuation",) if self.fluctuation is None else ())


class History(NamedTuple):
    """One entry for each training step, at the parameters before that step.

    Attributes:
        loss: (T,), the whole objective.
        angle: (T,), mean spectral angle of the reconstruction, radians.
        error: (T,), mean squared error of the reconstruction, units of the cube squared.
        steps: (T,) int32, forward applications of the map.
        residual: (T,), relative residual of the equilibrium.
        converged: (T,) bool, `residual` at most the tolerance of that step (`Training.loosest`).
        active: (T,) bool, False after an early stop (parameters frozen).
        stages: the verdicts on the stages of training, if they were judged (`Training.judged`); None otherwise.
    """

    loss: jax.Array
    angle: jax.Array
    error: jax.Array
    steps: jax.Array
    residual: jax.Array
    converged: jax.Array
    active: jax.Array
    stages: Stages | None = None

    def __repr__(self) -> str:
        arrays = self[:7]
        if not all(hasattr(entry, "dtype") and concrete(entry) and np.ndim(entry) == 1 for entry in arrays):
            return _short(self)
        try:
            loss, converged, active = (np.asarray(entry) for entry in (self.loss, self.converged, self.active))
        except RuntimeError:  # deleted, or spread over processes
            return _short(self)
        if not loss.size:
            return "<History: 0 steps>"
        ended = "" if active.all() else f", stopped early after {int(active.sum())}"
        return (
            f"<History: {how_many(loss.size, 'step')}, loss {loss[0]:.4g} to {loss[-1]:.4g}, {int(converged.sum())} "
            f"converged{ended}{'' if self.stages is None else ', stages judged'}>"
        )


class Descent(NamedTuple):
    """The trace of a descent on a known objective.

    Attributes:
        steps: () int32, steps taken.
        residual: (), the relative change of the unknowns in the last step, |z' - z| / |z'|.
        converged: () bool, `residual <= tolerance`; False where the residual is NaN.
        objective: (max_steps + 1,), initially and after each step, padded with its last value; no unit.
    """

    steps: jax.Array
    residual: jax.Array
    converged: jax.Array
    objective: jax.Array

"""The results of the library: NamedTuples of arrays, which pass through jit, vmap and grad."""

from typing import Any, NamedTuple

import jax

NEEDED = 2.0
"""Standard errors by which a gain must exceed zero for a stage of training to be kept."""

ADEQUATE = 1.1
"""Misfit of held-out bands, in units of the noise, up to which the linear model is adequate. The noise is known to some
per cent, and abundances from half of the bands add about R / B."""


class Verdict(NamedTuple):
    """The verdict on a stage of training; arrays without unit.

    Attributes:
        bands: (2,), gain in predicting held-out bands, in standard errors: in pixels of the training, in held-out
            pixels.
        risk: (2,), the same of the unbiased risk; NaN where it does not apply.
        misfit: (), misfit of held-out bands after the stage, in units of the noise: 1 if noise alone is left.
        kept: () bool.
    """

    bands: jax.Array
    risk: jax.Array
    misfit: jax.Array
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
        endmembers: (R, B), one spectrum a row, in the units of the cube (with Cone(): each of maximum 1, and the
            brightness in the units of the cube).
        brightness: (H, W), the factor s of y = s * a E; 1 with Simplex() and Softmax(), 0 in masked pixels.
        state: (H, W, R), the equilibrium itself, a first state (`initial`) for another solve.
    """

    abundances: jax.Array
    endmembers: jax.Array
    brightness: jax.Array
    state: jax.Array


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

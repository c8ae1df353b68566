"""Turn what `learned.select` or `select_endmembers` finds into the model and the rates of a training."""

from dataclasses import replace

import jax.numpy as jnp

from dequnmix_jax.checks import check_kind
from dequnmix_jax.endmembers.selection import CONE, Selection
from dequnmix_jax.equilibrium.config import Cone, Model, Simplex, Soft
from dequnmix_jax.learned.selection import OperatorSelection
from dequnmix_jax.training.config import RECOMMENDED, Rates


def model_for(selection: Selection | OperatorSelection, config: Model | None = None) -> Model:
    """Return a model with the constraint that a selection found (host side: the arrays must be concrete).

    The constraint is Simplex(), Cone() or Soft(), and always Simplex() with `Model.nonlinear`; the prior is the learned
    one, whose strength `fit` finds:

        selection = dq.learned.select(key, cube, count)
        config = dq.training.model_for(selection)
        training, rates = dq.RECOMMENDED[0], dq.training.rates_for(selection)
        params, history = dq.fit(key, cube, config, training, rates, endmembers=selection.endmembers)

    Args:
        selection: of `learned.select` or `select_endmembers`.
        config: all other choices; None: the defaults.
    """
    config = Model() if config is None else config
    selection = _selection(selection)
    check_kind(config, Model, "config")
    soft = config.constraint if isinstance(config.constraint, Soft) else Soft()
    constraint = Simplex() if selection.constraint == "simplex" else Cone() if selection.constraint == "cone" else soft
    if config.nonlinear is not None:
        constraint = Simplex()
    return replace(config, constraint=constraint, prior="learned")


def rates_for(selection: Selection | OperatorSelection, rates: Rates | None = None) -> Rates:
    """Return rates of training for spectra that a selection found.

    Where spectra vary from pixel to pixel and the brightness of a pixel is not free, reconstruction pays for a simplex
    that holds more pixels, and E has nothing true to gain: there it rests. Spectra vary where more than R directions
    hold more signal than noise (`Selection.beyond`). On generated scenes of that kind training E multiplies the aRMSE
    by more than one, on all others by less (`experiments.defaults.resting_endmembers`); `noise.variability` would
    divide those scenes in the same way, but does not see what varies below strong noise.

    Args:
        selection: of `learned.select` or `select_endmembers`.
        rates: all other numbers; None: those of `RECOMMENDED`.
    """
    rates = RECOMMENDED[1] if rates is None else rates
    selection = _selection(selection)
    check_kind(rates, Rates, "rates")
    trained = (selection.constraint_index == CONE) | (selection.beyond < 1)
    return rates._replace(endmembers=jnp.where(trained, rates.endmembers, 0.0))


def _selection(selection: Selection | OperatorSelection) -> Selection:
    if isinstance(selection, OperatorSelection):
        return selection.as_selection()
    check_kind(selection, Selection, "selection", "Pass what `learned.select` or `select_endmembers` returns.")
    return selection

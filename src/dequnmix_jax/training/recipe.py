"""Turn what `select` finds about a scene into the model and the rates of its training."""

from dataclasses import replace

import jax.numpy as jnp

from dequnmix_jax.checks import check_kind
from dequnmix_jax.endmembers.selection import Start
from dequnmix_jax.equilibrium.config import Cone, Model, Simplex, Soft
from dequnmix_jax.training.config import RECOMMENDED, Rates


def model_for(found: Start, config: Model | None = None) -> Model:
    """Return the choices of a model whose mixing is what `start` found (host side: the arrays must be concrete).

    Cone() where mixing is scaled, Soft() where it is soft, Simplex() where it is linear; and the prior over neighbours,
    whose strength `fit` finds:

        found = dq.start(key, cube, count)
        config = dq.model_for(found)
        training, rates = dq.RECOMMENDED[0], dq.rates_for(found)
        params, history = dq.fit(key, cube, config, training, rates, endmembers=found.endmembers)

    Args:
        found: of `start`.
        config: all other choices; None: the defaults.
    """
    config = Model() if config is None else config
    check_kind(found, Start, "found", "Pass what `start` returns.")
    check_kind(config, Model, "config")
    soft = config.constraint if isinstance(config.constraint, Soft) else Soft()
    constraint = Cone() if bool(found.scaled) else soft if bool(found.soft) else Simplex()
    return replace(config, constraint=constraint, prior="neighbours")


def rates_for(found: Start, rates: Rates | None = None) -> Rates:
    """Return rates of training for spectra that `start` found.

    Where spectra vary from pixel to pixel and the brightness of a pixel is not free, reconstruction pays for a simplex
    that holds more pixels, and E has nothing true to gain: there it rests. Spectra vary where more than R directions
    hold more signal than noise (`Start.beyond`). On generated scenes of that kind training E multiplies the aRMSE by
    more than one, on all others by less (`experiments.defaults.resting_endmembers`); `noise.variability` would divide
    those scenes in the same way, but does not see what varies below strong noise.

    Args:
        found: of `start`.
        rates: all other numbers; None: those of `RECOMMENDED`.
    """
    rates = RECOMMENDED[1] if rates is None else rates
    check_kind(found, Start, "found", "Pass what `start` returns.")
    check_kind(rates, Rates, "rates")
    return rates._replace(endmembers=jnp.where(found.scaled | (found.beyond < 1), rates.endmembers, 0.0))

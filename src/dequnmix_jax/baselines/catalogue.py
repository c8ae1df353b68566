"""The competitors by name, each with the constants of its authors."""

from collections.abc import Callable

from dequnmix_jax.baselines import (
    ae_red,
    bundles,
    closed_forms,
    deeptrans,
    denoisers,
    elmm,
    plmm,
    plug_and_play,
    polyhedral,
    snmf_net,
)
from dequnmix_jax.baselines.method import Method
from dequnmix_jax.checks import InputError

METHODS: dict[str, Callable[[], Method]] = {
    "vca-fcls": lambda: closed_forms.VCA_FCLS,
    "vca-scaled": lambda: closed_forms.VCA_SCALED,
    "purified-fcls": lambda: closed_forms.PURIFIED_FCLS,
    "purified-scaled": lambda: closed_forms.PURIFIED_SCALED,
    "pnp-tv": lambda: plug_and_play.plug_and_play(
        "PnP-TV, estimated level", denoisers.total_variation, plug_and_play.ESTIMATED
    ),
    "pnp-nlm": lambda: plug_and_play.plug_and_play(
        "PnP-NLM, estimated level", denoisers.non_local_means, plug_and_play.ESTIMATED
    ),
    "deeptrans": deeptrans.deeptrans,
    "ae-red": ae_red.ae_red,
    "snmf-net": snmf_net.snmf_net,
    "polyhedral": polyhedral.polyhedral,
    "elmm": elmm.elmm,
    "plmm": plmm.plmm,
    "bundles": bundles.bundles,
    "bundles-elitist": lambda: bundles.bundles(bundles.Settings(bundles.ELITIST, 0.5)),
}
"""A word for each competitor, and a function without arguments that returns it."""


def method(name: str) -> Method:
    """Return a competitor by its word in `METHODS`.

    Raises:
        InputError: if there is none of this name.
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; expected {', '.join(METHODS)}.")
    return METHODS[name]()

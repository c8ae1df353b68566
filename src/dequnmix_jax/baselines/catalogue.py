"""The competitors by name, each with the constants of its authors."""

from collections.abc import Callable

from dequnmix_jax.baselines import (
    ae_red,
    closed_forms,
    cnnaeu,
    cycunet,
    deeptrans,
    denoisers,
    dtu_net,
    endnet,
    mlm_autoencoder,
    plug_and_play,
    snmf_net,
    ust_net,
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
    "cnnaeu": cnnaeu.cnnaeu,
    "endnet": endnet.endnet,
    "cycu-net": cycunet.cycunet,
    "mlm-3d": mlm_autoencoder.mlm_autoencoder,
    "mlm-1d": lambda: mlm_autoencoder.mlm_autoencoder(mlm_autoencoder.Settings(patch=1)),
    "ust-net": ust_net.ust_net,
    "dtu-net": dtu_net.dtu_net,
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

"""The competitors by name, each with the constants of its authors."""

from collections.abc import Callable

from dequnmix_jax.baselines import ae_red, closed_forms, deeptrans, denoisers, plug_and_play, snmf_net
from dequnmix_jax.baselines.method import Method
from dequnmix_jax.checks import InputError

METHODS: dict[str, Callable[[], Method]] = {
    "fcls": lambda: closed_forms.VCA_FCLS,
    "scaled": lambda: closed_forms.VCA_SCALED,
    "soft": lambda: closed_forms.SOFT,
    "sunsal": lambda: closed_forms.SUNSAL,
    "sunsal-tv": lambda: closed_forms.SUNSAL_TV,
    "purified-fcls": lambda: closed_forms.PURIFIED_FCLS,
    "purified-scaled": lambda: closed_forms.PURIFIED_SCALED,
    "minimum-volume": lambda: closed_forms.MINIMUM_VOLUME,
    "mvc-nmf": lambda: closed_forms.MVC_NMF,
    "l-half-nmf": lambda: closed_forms.L_HALF_NMF,
    "sgs-nmf": lambda: closed_forms.SGS_NMF,
    "pnp-tv": lambda: plug_and_play.plug_and_play(
        "PnP-TV, estimated level", denoisers.total_variation, plug_and_play.ESTIMATED
    ),
    "pnp-nlm": lambda: plug_and_play.plug_and_play(
        "PnP-NLM, estimated level", denoisers.non_local_means, plug_and_play.ESTIMATED
    ),
    "deeptrans": deeptrans.deeptrans,
    "ae-red": ae_red.ae_red,
    "snmf-net": snmf_net.snmf_net,
}
"""A word for each competitor, and a function without arguments that returns it."""


def competitor(name: str) -> Method:
    """Return a competitor by its word in `METHODS`.

    Raises:
        InputError: if there is none of this name.
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; expected {', '.join(METHODS)}.")
    return METHODS[name]()

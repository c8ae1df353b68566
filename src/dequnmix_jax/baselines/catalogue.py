"""The competitors by name, each with the constants of its authors."""

from collections.abc import Callable

from dequnmix_jax.baselines import (
    admm_net,
    ae_red,
    bundles,
    closed_forms,
    cnnaeu,
    cycunet,
    deep_equilibria,
    deeptrans,
    denoisers,
    dtu_net,
    elmm,
    endnet,
    mlm_autoencoder,
    plmm,
    plug_and_play,
    polyhedral,
    snmf_net,
    unrolled_nmf,
    unrolled_pnp,
    ust_net,
)
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
    "qmv-nmf": lambda: closed_forms.QMV_NMF,
    "gl-nmf": lambda: closed_forms.GL_NMF,
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
    "admm-net": admm_net.admm_net,
    "unrolled-pnp": unrolled_pnp.unrolled_pnp,
    "unrolled-pnp-tied": lambda: unrolled_pnp.unrolled_pnp(unrolled_pnp.Settings(tied=True)),
    "unrolled-nmf": unrolled_nmf.unrolled_nmf,
    "de-grad": lambda: deep_equilibria.deep_equilibrium(deep_equilibria.Settings("grad")),
    "de-grad-inertial": lambda: deep_equilibria.deep_equilibrium(
        deep_equilibria.Settings("grad", solver=deep_equilibria.Inertia())
    ),
    "de-prox": lambda: deep_equilibria.deep_equilibrium(deep_equilibria.Settings("prox")),
    "de-admm": lambda: deep_equilibria.deep_equilibrium(deep_equilibria.Settings("admm")),
    "cnnaeu": cnnaeu.cnnaeu,
    "endnet": endnet.endnet,
    "cycu-net": cycunet.cycunet,
    "mlm-3d": mlm_autoencoder.mlm_autoencoder,
    "mlm-1d": lambda: mlm_autoencoder.mlm_autoencoder(mlm_autoencoder.Settings(patch=1)),
    "ust-net": ust_net.ust_net,
    "dtu-net": dtu_net.dtu_net,
    "elmm": elmm.elmm,
    "plmm": plmm.plmm,
    "bundles": bundles.bundles,
    "bundles-elitist": lambda: bundles.bundles(bundles.Settings(bundles.ELITIST, 0.5)),
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

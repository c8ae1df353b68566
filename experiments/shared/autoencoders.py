"""The autoencoders and transformers of the tables, beside DeepTrans and AE-RED, with their authors' constants."""

from dataclasses import dataclass, field

from dequnmix_jax.baselines import Method, cnnaeu, cycunet, dtu_net, endnet, mlm_autoencoder, ust_net


@dataclass(frozen=True)
class Constants:
    """Constants of each, named by what it does."""

    patches: cnnaeu.Settings = field(default_factory=cnnaeu.Settings)
    angles: endnet.Settings = field(default_factory=endnet.Settings)
    cycle: cycunet.Settings = field(default_factory=cycunet.Settings)
    bounces: mlm_autoencoder.Settings = field(default_factory=mlm_autoencoder.Settings)
    bounces_1d: mlm_autoencoder.Settings = field(default_factory=lambda: mlm_autoencoder.Settings(patch=1))
    windows: ust_net.Settings = field(default_factory=ust_net.Settings)
    dilated: dtu_net.Settings = field(default_factory=dtu_net.Settings)


QUICK = Constants(
    patches=cnnaeu.Settings(width=6, kernel=3, patches=4, side=8, batch=2, epochs=1),
    angles=endnet.Settings(pixels=40, batch=20, epochs=2),
    cycle=cycunet.Settings(widths=(8, 6), epochs=3),
    bounces=mlm_autoencoder.Settings(kernel=3, hidden=(6, 4), batch=75, epochs=1),
    bounces_1d=mlm_autoencoder.Settings(patch=1, kernel=3, hidden=(6, 4), batch=75, epochs=1),
    windows=ust_net.Settings(levels=1, steps=2),
    dilated=dtu_net.Settings(stem=(4, 4, 4), width=6, depths=(1, 1), heads=(3, 6), local=1, spectral=2, epochs=2),
)
"""Small ones, to check that everything works."""


def methods(constants: Constants) -> list[Method]:
    """Return them all."""
    return [
        cnnaeu.cnnaeu(constants.patches),
        endnet.endnet(constants.angles),
        cycunet.cycunet(constants.cycle),
        mlm_autoencoder.mlm_autoencoder(constants.bounces),
        mlm_autoencoder.mlm_autoencoder(constants.bounces_1d),
        ust_net.ust_net(constants.windows),
        dtu_net.dtu_net(constants.dilated),
    ]

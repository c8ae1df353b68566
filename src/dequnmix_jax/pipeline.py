"""A scene in, a result out: the steps that Python and the command line share."""

from typing import TYPE_CHECKING

from dequnmix_jax.equilibrium.config import Model

if TYPE_CHECKING:
    pass


def unit_of(config: Model) -> str:
    """Return what the spectra of a model are measured in, for the axis of a picture."""
    return "reflectance, scaled to maximum 1" if config.scales_endmembers else "reflectance"

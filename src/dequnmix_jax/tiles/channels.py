"""Order of the values of a pixel in the store of the tiles."""

from dataclasses import dataclass

import numpy as np

from dequnmix_jax.scenes.scene import Array

_MAPS = ("brightness", "residual", "convergence", "red", "green", "blue", "valid")


@dataclass(frozen=True)
class Channels:
    """Order of the values of a pixel in the maps of the tiles.

    Attributes:
        count: R, endmembers.
    """

    count: int

    @property
    def total(self) -> int:
        """Number of channels."""
        return self.count + len(_MAPS)

    def of(self, name: str) -> slice:
        """Return the channels of a map."""
        if name == "abundances":
            return slice(0, self.count)
        if name == "composite":
            return slice(self.of("red").start, self.of("blue").stop)
        place = self.count + _MAPS.index(name)
        return slice(place, place + 1)

    def gather(self, abundances: Array, colours: Array, **maps: Array) -> Array:
        """Return (h, w, channels) of the maps of a tile."""
        single = {"red": colours[..., 0], "green": colours[..., 1], "blue": colours[..., 2], **maps}
        return np.concatenate([abundances, *(single[name][..., None] for name in _MAPS)], axis=2, dtype=np.float32)

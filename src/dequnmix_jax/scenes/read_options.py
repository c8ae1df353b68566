"""The options of reading a scene, the same for every format."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError

IN_MEMORY = "an array in memory"
"""What a record says of a mask that is no file."""


def _ranges(value: Any, name: str) -> tuple[tuple[int, int], ...]:
    """Return one range (first, last), or several, as a tuple of ranges; raise InputError for anything else."""
    try:
        pairs = np.array([value] if np.shape(value) == (2,) else list(value) or np.empty((0, 2)), np.float64)
    except (TypeError, ValueError):
        pairs = np.empty(0)
    if pairs.ndim != 2 or pairs.shape[1:] != (2,) or not (np.isfinite(pairs) & (pairs == np.round(pairs))).all():
        raise InputError(
            f"{name} is {value!r}; expected the first and the last band, like (0, 99), or several such ranges, like "
            "[(0, 9), (20, 29)]."
        )
    return tuple((int(first), int(last)) for first, last in pairs)


@dataclass(frozen=True)
class ReadOptions:
    """How to read a scene; the keyword options of `read`, `io.open_source` and `run`.

    Values are compared with `nodata` and `saturation` as they are stored, before `scale` divides them. An option
    overrides what the file declares.

    Attributes:
        variable: name of the cube in a .npz, .mat, Zarr group or xarray Dataset that holds several arrays. By default:
            the usual names, or the only array with three axes.
        shape: rows and columns of a matrix of pixels. By default: what the file says, else a square.
        order: "F" (down the columns) or "C" (along the rows), the pixel order of such a matrix. By default: the order
            of the file's layout, checked against its maps; a note names it.
        nodata: value of missing pixels. By default: what the file declares. With a nodata value, NaN and infinity are
            missing as well; nodata=nan marks only these, beside the value that the file declares.
        scale: divisor of all values, such as 10000 for reflectance stored as integers. It replaces the gains, offsets
            and scale factors of the file.
        saturation: value from which a pixel is saturated and therefore masked. By default: what the file declares.
        ignore: ranges (shortest, longest) of wavelength in nm, both ends included, such as (1310, 1490) for water
            vapour. Their bands are marked bad.
        bands: first and last band to keep, counted from 0, or several such ranges, like [(0, 9), (20, 29)]. All other
            bands are marked bad. Stored as ranges.
        drop_bands: ranges of bands to leave out, of the same form. They are marked bad.
        mask: which pixels are used: an array (H, W), True or not 0 where a pixel is used; or the path of a raster on
            the same grid, of EMIT's mask file, or of polygons, inside which pixels are used (`io.masks`).
        mask_values: values of such a raster that mean "use", like (4, 5) in a map of classes. By default: all but 0.
        mask_invert: use the pixels that the mask leaves out, and no others.
    """

    variable: str | None = None
    shape: tuple[int, int] | None = None
    order: str | None = None
    nodata: float | None = None
    scale: float | None = None
    saturation: float | None = None
    ignore: Sequence[tuple[float, float]] = ()
    bands: Any = None
    drop_bands: Any = ()
    mask: Any = None
    mask_values: Sequence[float] = ()
    mask_invert: bool = False

    def __post_init__(self) -> None:
        """Convert the fields to their documented types; raise InputError if that is impossible."""
        set_field = object.__setattr__  # completes a frozen dataclass
        if self.order not in (None, "F", "C"):
            raise InputError(f"order is {self.order!r}; expected 'F' (down the columns) or 'C' (along the rows).")
        if self.shape is not None:
            if np.ndim(self.shape) != 1 or len(self.shape) != 2 or min(self.shape) < 1:
                raise InputError(f"shape is {self.shape}; expected two positive numbers, rows and columns.")
            set_field(self, "shape", tuple(self.shape))
        for name in ("nodata", "scale", "saturation"):
            value = getattr(self, name)
            try:
                set_field(self, name, None if value is None else float(value))
            except (TypeError, ValueError):
                raise InputError(f"{name} is {value!r}; expected a number, or None.") from None
        if self.bands is not None:
            set_field(self, "bands", _ranges(self.bands, "bands"))
        set_field(self, "drop_bands", _ranges(() if self.drop_bands is None else self.drop_bands, "drop_bands"))
        try:
            set_field(self, "mask_values", tuple(float(value) for value in self.mask_values or ()))
        except (TypeError, ValueError):
            raise InputError(f"mask_values is {self.mask_values!r}; expected numbers, like (4, 5).") from None
        if self.mask is None and (self.mask_values or self.mask_invert):
            raise InputError(
                f"{'mask_values' if self.mask_values else 'mask_invert'} says how a mask is read, and there is none; "
                "expected mask=FILE as well (--mask FILE). Add it, or leave the other out."
            )
        try:
            set_field(self, "ignore", tuple((float(low), float(high)) for low, high in self.ignore or ()))
        except (TypeError, ValueError):
            raise InputError(
                f"ignore is {self.ignore!r}; expected ranges (shortest, longest) in nm, like [(1310, 1490)]."
            ) from None

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, for a record in JSON: NaN becomes "nan"."""
        values = {field.name: getattr(self, field.name) for field in fields(ReadOptions)}
        if self.mask is not None:
            values["mask"] = os.fspath(self.mask) if isinstance(self.mask, str | os.PathLike) else IN_MEMORY
        options = {name: value for name, value in values.items() if value is not None and value is not False}
        options = {name: value for name, value in options.items() if value != ()}
        return {name: "nan" if value != value else value for name, value in options.items()}

    @classmethod
    def of(cls, options: dict[str, Any]) -> "ReadOptions":
        """Return the options for keywords; raise InputError for a keyword that is not an option."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InputError(
                f"{', '.join(unknown)}: not an option of reading a scene; expected {', '.join(known[:-1])} or "
                f"{known[-1]}."
            )
        return cls(**options)

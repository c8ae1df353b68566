"""Cut a scene into overlapping tiles: the pixels that a tile keeps, and the pixels that it reads for them."""

from typing import NamedTuple

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.source import Window

# Default size of a tile's float32 values in bytes. Several copies are in memory: the tile being unmixed, the next one,
# and arrays of the solve. With smaller tiles the halo is a larger part of the work.
_BYTES = 96 * 2**20


class Tile(NamedTuple):
    """A part of a scene.

    Attributes:
        core: the pixels whose results are kept; the cores of all tiles cover the scene once.
        window: the pixels that are read: the core and its halo, cut at the border of the scene.
    """

    core: Window
    window: Window

    @property
    def inside(self) -> Window:
        """The core, relative to the first pixel of the window."""
        shift = [(side.start - from_.start, side.stop - from_.start) for side, from_ in zip(*self, strict=True)]
        return Window(*(slice(*pair) for pair in shift))


class Plan(NamedTuple):
    """All tiles of a scene, in the order in which they are read.

    Attributes:
        tiles: row by row.
        shape: rows and columns of the largest window; smaller windows are padded, so that one program serves all.
        halo: pixels around a core.
    """

    tiles: tuple[Tile, ...]
    shape: tuple[int, int]
    halo: int


def _cuts(size: int, step: int, halo: int) -> list[tuple[slice, slice]]:
    starts = range(0, size, step)
    return [
        (slice(first, min(first + step, size)), slice(max(first - halo, 0), min(first + step + halo, size)))
        for first in starts
    ]


def plan(height: int, width: int, rows: int, columns: int, halo: int) -> Plan:
    """Return the tiles of a scene.

    Args:
        height, width: of the scene.
        rows, columns: largest size of a core.
        halo: pixels around a core.

    Raises:
        InputError: a tile without pixels, or a negative halo.
    """
    if rows < 1 or columns < 1 or halo < 0:
        raise InputError(
            f"A tile of {rows} x {columns} pixels with a halo of {halo} was asked for; expected at least one "
            "pixel and a halo that is not negative."
        )
    down, across = _cuts(height, rows, halo), _cuts(width, columns, halo)
    tiles = tuple(Tile(Window(r, c), Window(R, C)) for r, R in down for c, C in across)
    shape = (max(R.stop - R.start for _, R in down), max(C.stop - C.start for _, C in across))
    return Plan(tiles, shape, halo)


def choose_size(height: int, width: int, bands: int, halo: int, size: int | None = None) -> tuple[int, int]:
    """Return rows and columns of a core.

    Args:
        height, width, bands: of the scene.
        halo: pixels around a core.
        size: N, for tiles of N x N pixels, made equally wide within a row; None: as many pixels as `_BYTES` hold, in
            the shape with the smallest share of halo.
    """
    if size is not None:
        across = -(-width // size)
        return min(size, height), -(-width // across)
    pixels = _BYTES // (4 * bands)
    best, chosen = -1.0, (1, 1)
    for across in range(1, width + 1):
        columns = -(-width // across)
        seen = min(width, columns + 2 * halo)
        rows = min(max(pixels // seen - 2 * halo, 1), height)
        share = rows * columns / (min(height, rows + 2 * halo) * seen)
        if share > best:
            best, chosen = share, (rows, columns)
    down = -(-height // chosen[0])
    return -(-height // down), chosen[1]

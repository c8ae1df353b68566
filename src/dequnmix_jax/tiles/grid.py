"""Cut a scene into tiles that overlap: which pixels a tile answers for, and which it has to see for that."""

from typing import NamedTuple

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.source import Window

# Values of a tile, float32, when nothing else is asked. Some copies of it lie in memory: the tile being unmixed, the
# next one, what a solve makes of them; with less, the halo is a larger part of the work.
_BYTES = 96 * 2**20


class Tile(NamedTuple):
    """A part of a scene.

    Attributes:
        core: the pixels whose answer is kept; those of all tiles make up the scene.
        window: the pixels that are read: the core and its halo, as far as the scene goes.
    """

    core: Window
    window: Window

    @property
    def inside(self) -> Window:
        """The core, counted from the first pixel of the window."""
        shift = [(side.start - from_.start, side.stop - from_.start) for side, from_ in zip(*self, strict=True)]
        return Window(*(slice(*pair) for pair in shift))


class Plan(NamedTuple):
    """All tiles of a scene, in the order in which they are read.

    Attributes:
        tiles: along the rows of tiles.
        shape: rows and columns of the largest window; smaller ones are filled up, so that one program serves all.
        halo: pixels around a core.
    """

    tiles: tuple[Tile, ...]
    shape: tuple[int, int]
    halo: int


def _halves(size: int, step: int, halo: int) -> list[tuple[slice, slice]]:
    starts = range(0, size, step)
    return [
        (slice(first, min(first + step, size)), slice(max(first - halo, 0), min(first + step + halo, size)))
        for first in starts
    ]


def plan(height: int, width: int, rows: int, columns: int, halo: int) -> Plan:
    """Return the tiles of a scene.

    Args:
        height, width: of the scene.
        rows, columns: most of a core.
        halo: pixels around a core.

    Raises:
        InputError: a tile of no pixels, or a negative halo.
    """
    if rows < 1 or columns < 1 or halo < 0:
        raise InputError(
            f"A tile of {rows} x {columns} pixels with a halo of {halo} is none; expected at least one pixel and a "
            "halo that is not negative."
        )
    down, across = _halves(height, rows, halo), _halves(width, columns, halo)
    tiles = tuple(Tile(Window(r, c), Window(R, C)) for r, R in down for c, C in across)
    shape = (max(R.stop - R.start for _, R in down), max(C.stop - C.start for _, C in across))
    return Plan(tiles, shape, halo)


def choose_size(height: int, width: int, bands: int, halo: int, size: int | None = None) -> tuple[int, int]:
    """Return rows and columns of a core.

    Args:
        height, width, bands: of the scene.
        halo: pixels around a core.
        size: N, for tiles of N x N pixels, those of a row of tiles made equally wide; None: as many pixels as some
            memory holds, in the shape in which the halo is the smallest part.
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

"""Read MATLAB files of versions 5 to 7.2: real and complex arrays, text, and cells and structs of these.

scipy reads them too, but trusts the types and lengths in a file and crashes on a damaged one. A field of a struct has
the name `struct.field`. Arrays of structs, objects, sparse arrays and functions are left out, as they are for version
7.3.

Reference:
    The MathWorks, MAT-File Format, 2019: a header of 128 bytes, then elements of a tag (type and bytes, or both in four
    bytes for up to four bytes of data) and data, padded to eight bytes; type 15 is an element in zlib, 14 an array.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.values import check_unpacked, most_unpacked

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_CODECS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_LEFT_OUT = {2: "struct", 3: "object", 5: "sparse", 16: "function", 17: "object"}
_COMPLEX = 0x800
_LONGEST_NAME = 64
_DEEPEST = 2
_DEEPEST_STRUCT = 4


class Unread(NamedTuple):
    """A variable that is not read: what it is, such as "struct (1, 3)"."""

    what: str


Element = tuple[int, memoryview]
Order = Literal["<", ">"]


def variables(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name, shaped as scipy gives them, and an `Unread` for what is left out.

    Raises:
        ValueError: the file is damaged.
        InputError: it unpacks to far more than its size.
    """
    data = path.read_bytes()
    marks: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}
    if len(data) < 128 or data[126:128] not in marks:
        raise ValueError("no header of MATLAB")
    order, budget = marks[data[126:128]], most_unpacked(len(data))
    arrays: dict[str, Any] = {}
    for kind, element in _elements(memoryview(data)[128:], order):
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(element, budget + 1)
            budget -= len(unpacked)
            if budget < 0:
                check_unpacked(most_unpacked(len(data)) + 1, len(data), path)
            inside = list(_elements(memoryview(unpacked), order))
        else:
            inside = [(kind, element)]
        for kind_inside, content in inside:
            if kind_inside == _MATRIX and len(content):
                name, value = _matrix(content, order, 0)
                arrays |= flat(name, value)
    return arrays


def flat(name: str, value: Any) -> dict[str, Any]:
    """Return a variable by its name, or the fields of a struct by theirs: `struct.field`."""
    if not isinstance(value, dict):
        return {} if value is None else {name: value}
    entries: dict[str, Any] = {}
    for field, inside in value.items():
        entries |= flat(f"{name}.{field}", inside)
    return entries or {name: Unread("empty struct")}


def _elements(data: memoryview, order: Order) -> Iterator[Element]:
    """Yield type and data of consecutive elements."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("it ends within a tag")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        at += 8
        if kind >> 16:  # both in four bytes
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"{size} bytes where four fit")
            yield kind, data[at - 4 : at - 4 + size]
            continue
        if size > len(data) - at:
            raise ValueError("it ends within a variable")
        yield kind, data[at : at + size]
        at += size if kind == _COMPRESSED else -(-size // 8) * 8


def _matrix(data: memoryview, order: Order, depth: int) -> tuple[str, Any]:
    """Return name and value of an array: of a struct a dictionary, of a kind that is left out an `Unread`."""
    elements = _elements(data, order)
    flags, sides, name = (_next(elements) for _ in range(3))
    if flags[0] != 6 or len(flags[1]) != 8 or sides[0] != 5:
        raise ValueError("an array without flags or dimensions")
    flag = struct.unpack_from(f"{order}I", flags[1])[0]
    dims = tuple(int(side) for side in _numbers(sides, order))
    if len(dims) < 2 or min(dims) < 0:
        raise ValueError(f"an array of {dims}")
    label, count, form = bytes(name[1]).decode("latin-1"), math.prod(dims), flag & 0xFF
    if form in _CLASSES:
        values = _numbers(_next(elements) if count else (9, memoryview(b"")), order)
        whole = values.astype(np.dtype(_CLASSES[form]), copy=False)
        if flag & _COMPLEX:
            whole = whole + 1j * _numbers(_next(elements), order)
        return label, _shaped(whole, dims)
    if form == _CHAR:
        return label, _text(_next(elements) if count else (16, memoryview(b"")), dims, order)
    if form == _CELL and depth < _DEEPEST:
        entries = np.empty(min(count, len(data) // 8), object)
        for i in range(len(entries)):
            kind, content = _next(elements)
            entries[i] = _matrix(content, order, depth + 1)[1] if kind == _MATRIX and len(content) else None
        return label, _shaped(entries, dims)
    if form == _STRUCT and count == 1 and depth < _DEEPEST_STRUCT:
        return label, _fields(elements, order, depth)
    return label, Unread(f"{_LEFT_OUT.get(form, 'cell' if form == _CELL else 'unknown')} {dims}")


def _fields(elements: Iterator[Element], order: Order, depth: int) -> dict[str, Any]:
    """Return the fields of a struct by name."""
    length, names = _numbers(_next(elements), order), bytes(_next(elements)[1])
    if length.size != 1 or not 0 < length[0] <= _LONGEST_NAME or len(names) % int(length[0]):
        raise ValueError("a struct without the lengths of its names")
    size = int(length[0])
    fields: dict[str, Any] = {}
    for at in range(0, len(names), size):
        name = names[at : at + size].split(b"\0")[0].decode("latin-1")
        kind, content = _next(elements)
        fields[name] = _matrix(content, order, depth + 1)[1] if kind == _MATRIX and len(content) else None
    return fields


def _next(elements: Iterator[Element]) -> Element:
    element = next(elements, None)
    if element is None:
        raise ValueError("an array that ends before its values")
    return element


def _numbers(element: Element, order: Order) -> Array:
    kind, data = element
    if kind not in _STORED or len(data) % np.dtype(_STORED[kind]).itemsize:
        raise ValueError(f"{len(data)} bytes of type {kind}")
    return np.frombuffer(data, np.dtype(_STORED[kind]).newbyteorder(order))


def _shaped(values: Array, dims: tuple[int, ...]) -> Array:
    if values.size != math.prod(dims):
        raise ValueError(f"{values.size} values of {math.prod(dims)}")
    return values.reshape(dims, order="F")


def _text(element: Element, dims: tuple[int, ...], order: Order) -> Array:
    """Return a matrix of characters as an array of strings, one for each row."""
    kind, data = element
    if kind not in _CODECS:
        raise ValueError(f"text of type {kind}")
    codec = _CODECS[kind] + ("" if kind in (1, 2, 16) else "-le" if order == "<" else "-be")
    text = bytes(data).decode(codec, "replace")
    rows = dims[0]
    if rows <= 1:
        return np.array([text])
    return np.array([text[row::rows] for row in range(min(rows, len(text)))])

"""Ways to damage a file, by mistake, truncation or intent: bytes, text, JSON and named arrays.

Every function takes a numpy Generator first, so that a seed reproduces the files.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

Random = np.random.Generator
Tree = dict[str, Any]

_NUMBERS = (
    "0", "-1", "1", "2", "3", "nan", "-nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "1e400", "2147483647",
    "4294967296",
    "-2147483648", "9223372036854775807", "18446744073709551616", "1" + "0" * 40, "9" * 5000, "1.5", "0x10",
    "1_000", "١٢",
    "", " ", "1 2", "{1, 2, 3}", "{}", "{", "}", "true", "null", "'", '"', "½", "1,5", "--1", "+7", ".5", "5.",
    "1e", "e5",
)  # fmt: skip
_WORDS = ("ünïcödé", "日本語", "\u202e", "\x00", "\ufeff", "=", ";", "{{{{", "}}}}", "a" * 3000, "\x1b[2J", "%s%n",
          "../../x",
          "NaN", "\U0001f4a3", "\u2028", "\x85", "\r", "\t", "\\", "#")  # fmt: skip
_LIES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -1e308, 1e-320, "", "text", "NaN", "∞", "1e999",
    [], {}, [[]],
    [None], [-1], [0, 0, 0], [1e9, 1e9, 1e9], [10**6, 10**6, 285], ["a"], {"a": {"b": []}}, "x" * 5000, "\x00", 0.5,
)  # fmt: skip


def pick(draw: Random, choices: Any) -> Any:
    """Return one of some choices."""
    return choices[int(draw.integers(len(choices)))]


def spoil_bytes(draw: Random, data: bytes) -> bytes:
    """Flip, cut, repeat or overwrite some bytes, mostly at the beginning of a file."""
    changed = bytearray(data)
    for _ in range(int(pick(draw, (1, 1, 1, 2, 3, 8)))):
        size = len(changed)
        if not size:
            break
        end = size if draw.random() < 0.5 else min(size, 512)  # headers are at the front
        at = int(draw.integers(end))
        way = int(draw.integers(8))
        if way == 0:
            changed[at] ^= 1 << int(draw.integers(8))
        elif way == 1:
            changed[at] = int(pick(draw, (0, 1, 0x7F, 0x80, 0xFF, int(draw.integers(256)))))
        elif way == 2:
            del changed[at:]
        elif way == 3:
            del changed[at : at + int(draw.integers(1, 64))]
        elif way == 4:
            changed[at:at] = draw.bytes(int(draw.integers(1, 64)))
        elif way == 5:
            changed[at:at] = changed[at : at + int(draw.integers(1, 256))]
        elif way == 6:
            value = int(pick(draw, (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)))
            width = int(pick(draw, (2, 4, 8)))
            number = (value % 2 ** (8 * width)).to_bytes(width, pick(draw, ("little", "big")))
            changed[at : at + width] = number
        else:
            changed[at:] = draw.bytes(size - at) if draw.random() < 0.5 else bytes(size - at)
    return bytes(changed)


def _spoil_line(draw: Random, line: str) -> str:
    words = line.split(" ")
    numbers = [i for i, word in enumerate(words) if any(letter.isdigit() for letter in word)]
    if numbers and draw.random() < 0.7:
        words[pick(draw, numbers)] = pick(draw, _NUMBERS)
    else:
        words[int(draw.integers(len(words)))] = pick(draw, (*_NUMBERS, *_WORDS))
    return " ".join(words)


def spoil_text(draw: Random, text: str) -> bytes:
    """Spoil some lines of a text: numbers, words, doubled and missing lines, line ends, encodings."""
    lines = text.split("\n")
    for _ in range(int(pick(draw, (1, 1, 1, 1, 2, 4)))):
        at = int(draw.integers(len(lines)))
        way = int(draw.integers(8))
        if way <= 2:
            lines[at] = _spoil_line(draw, lines[at])
        elif way == 3:
            del lines[at]
        elif way == 4:
            lines.insert(int(draw.integers(len(lines) + 1)), lines[at])
        elif way == 5:
            name, mark, _ = lines[at].partition("=")
            lines[at] = f"{name}{mark} {pick(draw, (*_NUMBERS, *_WORDS))}"
        elif way == 6:
            lines.insert(at, pick(draw, _WORDS))
        else:
            cut = int(draw.integers(len(lines[at]) + 1))
            lines[at] = lines[at][:cut]
        lines = lines or [""]
    end = pick(draw, ("\n", "\n", "\n", "\r\n", "\r"))
    codec = pick(draw, (*("utf-8",) * 12, "utf-8-sig", "utf-16", "latin-1"))
    return end.join(lines).encode(codec, "replace")


def spoil_json(draw: Random, value: Any) -> Any:
    """Return a copy of a JSON value with one entry replaced, dropped or wrapped."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = pick(draw, list(value))
        if draw.random() < 0.12:
            return {name: entry for name, entry in value.items() if name != key}
        return value | {key: spoil_json(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = int(draw.integers(len(value)))
        return [*value[:at], spoil_json(draw, value[at]), *value[at + 1 :]]
    return pick(draw, (*_LIES, [value], {"a": value}, str(value)))


def spoil_json_text(draw: Random, data: bytes) -> bytes:
    """Spoil the entries of a JSON file; sometimes nest it deeply."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return spoil_bytes(draw, data)
    if draw.random() < 0.03:
        return b'{"a":' * 20_000 + data
    return json.dumps(spoil_json(draw, value)).encode()


class Trap:
    """An object that creates a folder when it is unpickled, which no reader may do."""

    folder = "unpickled"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        """Return what an unpickler would call."""
        import os

        return os.mkdir, (self.folder,)


def _objects(value: Any) -> Any:
    changed = np.empty(3, object)
    changed[:] = [Trap(), None, "text"]
    return changed


def _values(hostile: float) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        changed = np.array(value)
        if changed.dtype.kind in "iuf" and changed.size:
            with np.errstate(all="ignore"):
                flat = changed.reshape(-1)
                flat[:: max(1, flat.size // 3)] = (
                    hostile if changed.dtype.kind == "f" else np.array(np.nan_to_num(hostile)).astype(changed.dtype)
                )
        return changed

    return change


def _cast(kind: str) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if np.asarray(value).dtype == object:
            return value
        with np.errstate(all="ignore"):
            return np.nan_to_num(np.asarray(value)).astype(kind)

    return change


_CHANGES: tuple[Callable[[Any], Any], ...] = (
    lambda v: np.asarray(v).T,
    lambda v: np.asarray(v)[:-1] if np.ndim(v) else np.asarray(v),
    lambda v: np.asarray(v)[:0] if np.ndim(v) else np.zeros(0),
    lambda v: np.asarray(v)[None],
    lambda v: np.asarray(v).reshape(-1),
    lambda v: np.asarray(v).reshape(-1)[0] if np.size(v) else np.float64(0),
    lambda v: np.concatenate([np.atleast_1d(v)] * 2),
    lambda v: np.zeros((0, 3, 0)),
    lambda v: np.zeros(()),
    lambda v: np.ones((1, 1, 1)),
    lambda v: np.array("text ü\x01"),
    lambda v: np.array([b"bytes", b"\xff\xfe"]),
    lambda v: np.zeros(3, "M8[s]"),
    lambda v: np.zeros(2, [("a", "f4"), ("b", "i2")]),
    lambda v: np.ones((2, 2), bool),
    _objects,
    *(_values(number) for number in (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e308, -1e308, 1e-320, 2.0**63)),
    *(_cast(kind) for kind in ("f2", "f8", ">f4", "i1", ">i2", "u8", "i8", "c8", "longdouble")),
)


def spoil_tree(draw: Random, tree: Tree) -> Tree:
    """Return named arrays, some of them dropped, renamed, exchanged or changed in shape, type or value."""
    changed = dict(tree)
    for _ in range(int(pick(draw, (1, 1, 1, 2, 3)))):
        if not changed:
            break
        name = pick(draw, list(changed))
        way = int(draw.integers(10))
        if way == 0:
            del changed[name]
        elif way == 1:
            changed[pick(draw, ("x", "ü", "a" * 300, "checkpoint.json", name + "2"))] = changed.pop(name)
        elif way == 2:
            other = pick(draw, list(changed))
            changed[name], changed[other] = changed[other], changed[name]
        else:
            try:
                changed[name] = pick(draw, _CHANGES)(changed[name])
            except (ValueError, TypeError, OverflowError):
                changed[name] = np.zeros(1)
    return changed

"""Files on other machines and inside zip files: what is typed, its name for fsspec and its name for GDAL.

| for fsspec | for GDAL |
| --- | --- |
| https://host/scene.tif | /vsicurl/https://host/scene.tif |
| s3://bucket/scene.tif, gs://, az:// | /vsis3/bucket/scene.tif, /vsigs/, /vsiaz/ |
| zip://scene.tif::scenes.zip | /vsizip/scenes.zip/scene.tif, or {scenes.zip} |

Either may be typed. Rasters are read by GDAL, everything else by fsspec; both read the needed parts of a file, where
the server sends parts.
"""

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.escaping import reason_of

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?=[^/])")
_PREFIXES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
_ZIP = re.compile(r"/vsizip/(?:\{(?P<braced>[^{}]+)\}|(?P<plain>.+?\.(?:zip|kmz)))/(?P<inside>.+)", re.IGNORECASE)

# Bytes of a block, and blocks that are kept of a file: those of its metadata lie in many places.
_BLOCK, _KEPT = 2**18, 64


def as_place(path: str | os.PathLike[str] | Any) -> Path:
    """Return the path of a file on this machine, or the `Remote` of a URL or of a name of GDAL's virtual files.

    A Remote has what readers use of a path.

    >>> str(as_place("https://example.com/a/scene.tif"))
    'https://example.com/a/scene.tif'
    >>> as_place("folder/scene.tif").name, as_place("s3://bucket/scene.tif?versionId=1").suffix
    ('scene.tif', '.tif')
    """
    if isinstance(path, Remote):
        return cast(Path, path)
    text = os.fspath(path)
    if text.startswith("/vsi"):
        return cast(Path, _of_gdal(text))
    if text.startswith("file://"):
        return Path(unquote(text.removeprefix("file://")))
    found = _SCHEME.match(text)
    # A letter and a colon begin a path of Windows. A pathlib.Path has lost a slash of the URL it was made from.
    if found is None or len(found[1]) < 2 or Path(text).exists():
        return Path(text)
    scheme, rest = found[1].lower(), text[found.end() :]
    return cast(Path, Remote(f"{scheme}://{rest}"))


def as_local(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file on this machine; raise InputError for a URL."""
    place = as_place(path)
    if isinstance(place, Remote):
        raise InputError(
            f"{place} lies elsewhere; expected a file on this machine. Scenes and libraries are read from anywhere; "
            "copy other files here, and name an output in a folder of this machine."
        )
    return place


def _of_gdal(text: str) -> "Remote":
    zipped = _ZIP.fullmatch(text)
    if zipped is not None:
        outer = as_place(zipped["braced"] or zipped["plain"])
        return Remote(f"zip://{zipped['inside']}::{outer.url if isinstance(outer, Remote) else outer}", text)
    if text.startswith("/vsicurl/") and _SCHEME.match(text[len("/vsicurl/") :]):
        return Remote(re.sub(_SCHEME, lambda found: f"{found[1].lower()}://", text[len("/vsicurl/") :], count=1))
    for scheme, prefix in _PREFIXES.items():
        if text.startswith(prefix):
            return Remote(f"{scheme}://{text[len(prefix) :]}")
    raise InputError(
        f"{text} is a virtual file of GDAL of another kind; expected /vsicurl/, /vsis3/, /vsigs/, /vsiaz/ or "
        "/vsizip/. Copy the file here, and pass its path."
    )


@dataclass(frozen=True)
class Remote:
    """A file that GDAL and fsspec read, with the attributes of a `pathlib.Path` that readers use.

    Attributes:
        url: for fsspec.
        typed: name of GDAL that was typed, if it says more than the URL.
    """

    url: str
    typed: str = ""

    def __str__(self) -> str:
        """Return the URL without the parts that hold secrets: the user, the password and the query."""
        shown = re.sub(r"://[^/@]*@", "://", self.url)
        return shown.partition("?")[0]

    def __fspath__(self) -> str:
        """Return the URL: `isinstance(place, os.PathLike)` holds, as for a path."""
        return self.url

    @property
    def for_gdal(self) -> str:
        """Return the name for GDAL."""
        if self.typed:
            return self.typed
        if self.url.startswith("zip://"):
            inside, _, outer = self.url.removeprefix("zip://").partition("::")
            place = as_place(outer)
            return f"/vsizip/{{{place.for_gdal if isinstance(place, Remote) else place}}}/{inside}"
        scheme, _, rest = self.url.partition("://")
        return f"{_PREFIXES[scheme]}{rest}" if scheme in _PREFIXES else f"/vsicurl/{self.url}"

    @property
    def _path(self) -> PurePosixPath:
        first = self.url.partition("::")[0].partition("?")[0]
        try:
            path = first.removeprefix("zip://") if first.startswith("zip://") else urlsplit(first).path
        except ValueError as error:  # such as brackets that hold no address of IPv6
            raise InputError(
                f"{self} is no URL ({error}); expected https://HOST/PATH, s3://BUCKET/PATH or the like. Correct it."
            ) from error
        return PurePosixPath(unquote(path))

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self._path.name

    @property
    def stem(self) -> str:
        """Return the name without its suffix."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """Return the suffix of the name, such as ".tif"."""
        return self._path.suffix

    @property
    def parent(self) -> "Remote":
        """Return the folder."""
        first, chained, outer = self.url.partition("::")
        path, asked, query = first.partition("?")
        return Remote(f"{path.rpartition('/')[0]}{asked}{query}{chained}{outer}")

    def __truediv__(self, name: str) -> "Remote":
        """Return a file in this folder."""
        first, chained, outer = self.url.partition("::")
        path, asked, query = first.partition("?")
        path = path if path.endswith("://") else path.rstrip("/") + "/"
        return Remote(f"{path}{name}{asked}{query}{chained}{outer}")

    def with_name(self, name: str) -> "Remote":
        """Return the file of another name in the same folder."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> "Remote":
        """Return the file with another suffix."""
        return self.with_name(f"{self.stem}{suffix}")

    @cached_property
    def in_system(self) -> tuple[Any, str]:
        """Return the file system of fsspec, and the name of the file in it."""
        try:
            import fsspec
        except ImportError as error:
            raise InputError(f"{self} lies elsewhere, which needs fsspec: {pip_hint('remote')}.") from error
        try:
            return cast(tuple[Any, str], fsspec.core.url_to_fs(self.url))
        except ImportError as error:
            raise InputError(
                f"{self} cannot be opened ({reason_of(error)}); expected the packages for this place: "
                f"{pip_hint('remote')}, or what fsspec names."
            ) from error
        except ValueError as error:
            raise InputError(
                f"{self} cannot be opened ({reason_of(error)}); expected https://, s3:// or another protocol of fsspec."
            ) from error

    @cached_property
    def _size(self) -> int:
        with _translated(self):
            system, path = self.in_system
            size = system.info(path).get("size")
        if size is None:
            raise InputError(
                f"The server does not say how many bytes {self} has; expected a file that can be read in parts. Copy "
                "it here, and pass its path."
            )
        return int(size)

    def stat(self) -> Any:
        """Return the size in bytes as `st_size`; the time of a change is not known, `st_mtime_ns` 0."""
        return SimpleNamespace(st_size=self._size, st_mtime_ns=0)

    def is_file(self) -> bool:
        """Return whether there is such a file; False also if it cannot be reached."""
        try:
            return self._size >= 0
        except InputError:
            return False

    exists = is_file

    def is_dir(self) -> bool:
        """Return whether the name is that of a folder: it ends in a slash, or in .zarr."""
        return self.url.endswith("/") or self.suffix.lower() == ".zarr"

    def resolve(self) -> "Remote":
        """Return the same file."""
        return self

    def iterdir(self) -> Iterator["Remote"]:
        """Return nothing: most servers do not list their folders."""
        return iter(())

    @cached_property
    def _shared(self) -> "_Shared":
        return _Shared(self)

    def open(self, mode: str = "rb", buffering: int = -1) -> "_Ranges":
        """Open the file for reading; all that are open share the blocks that were read.

        Args:
            mode: "rb".
            buffering: 0: each read asks for just its bytes; otherwise blocks are asked for and kept.

        Raises:
            InputError: the file cannot be reached, now or while it is read.
        """
        if mode != "rb":
            raise InputError(f"{self} is only read; expected an output on this machine.")
        return _Ranges(self._shared, blocks=buffering != 0)

    def read_bytes(self) -> bytes:
        """Return the content."""
        with self.open() as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the content as text."""
        return self.read_bytes().decode(encoding, errors)


class _Shared:
    """Parts of a file, with or without blocks that are kept."""

    def __init__(self, place: Remote) -> None:
        self.place, self.size = place, place.stat().st_size
        self._files: dict[bool, Any] = {}
        self._lock = threading.Lock()

    def read(self, first: int, last: int, *, blocks: bool) -> bytes:
        """Return the bytes from `first` to before `last`."""
        with self._lock, _translated(self.place):
            if blocks not in self._files:
                self._files[blocks] = self._open(blocks)
            self._files[blocks].seek(first)
            data = bytes(self._files[blocks].read(last - first))
        if len(data) != last - first:
            raise InputError(
                f"{self.place} ends {last - first - len(data)} bytes too early; expected the size that the server says."
                " Try again, or copy the file here."
            )
        return data

    def _open(self, blocks: bool) -> Any:
        system, path = self.place.in_system
        options: dict[str, Any] = {"cache_type": "none"}
        if blocks:
            options = {"cache_type": "blockcache", "cache_options": {"maxblocks": _KEPT}}
        # The files inside an archive take no such options.
        options = {} if self.place.url.startswith("zip://") else {"block_size": _BLOCK, **options}
        return system.open(path, "rb", **options)


class _Ranges(io.RawIOBase):
    """An open file."""

    def __init__(self, shared: _Shared, *, blocks: bool) -> None:
        super().__init__()
        self._shared, self._blocks, self._place = shared, blocks, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._shared.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        last = min(self._place + len(view), self._shared.size)
        if last <= self._place:
            return 0
        view[: last - self._place] = self._shared.read(self._place, last, blocks=self._blocks)
        count, self._place = last - self._place, last
        return count

    def readall(self) -> bytes:
        first, self._place = self._place, max(self._place, self._shared.size)
        return self._shared.read(first, self._place, blocks=False) if self._place > first else b""


@contextmanager
def _translated(place: Remote) -> Iterator[None]:
    """Turn the many kinds of error of fsspec, aiohttp and botocore into InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec says so of servers that cannot be reached, too
        if not (cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in (404, 410)):
            raise InputError(_unreadable(place, cause)) from error
        raise InputError(f"{place} does not exist there; expected a file. Check the spelling.") from error
    except Exception as error:
        if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
            raise InputError(
                f"{place} is not open to you ({_words(error)}); expected access. Give the credentials that the server "
                "asks for, such as AWS_ACCESS_KEY_ID, or for a public bucket FSSPEC_S3_ANON=true and "
                "AWS_NO_SIGN_REQUEST=YES."
            ) from error
        raise InputError(_unreadable(place, error)) from error


def _unreadable(place: Remote, error: BaseException) -> str:
    return (
        f"{place} cannot be read from there ({_words(error)}); expected a server that answers, and that sends parts of "
        "files. Try again, or copy the file here."
    )


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    # Messages quote URLs, whose queries may hold signatures.
    return f"{type(error).__name__}: {re.sub(r'[?][^ ,]*', '', text)[:100]}".removesuffix(": ")

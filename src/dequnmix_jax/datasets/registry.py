"""Named scenes: six come with the package, others are found in a folder of yours or downloaded with a hash check.

Shipped: hysu, hapke_relab, dc1, misicnet_sim1, emit_mini, minerals (credits and licences in `data/CREDITS.md`). Not
shipped: samson_authors and apex (no licence; downloaded, or found), samson_zhu, samson_rasti and hapke_sim1 (found).
The environment variable DEQUNMIX_DATA names the folder.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.io.atomic import replacing_file
from dequnmix_jax.io.formats import read, read_truth
from dequnmix_jax.io.npz_arrays import load as load_arrays
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.scenes.truth import Truth

FOLDER = "DEQUNMIX_DATA"
_SHIPPED = ("hysu", "hapke_relab", "dc1", "misicnet_sim1", "emit_mini", "minerals")

_SAMSON_CURE = "load('samson_authors') gives the same cube with the reference of Zhu, and can be downloaded."


@dataclass(frozen=True)
class _Remote:
    """A file in a public repository at a fixed commit, identified by its git blob id."""

    repository: str
    commit: str
    path: str
    blob: str
    size: int | None = None  # bytes, if known
    also_named: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"

    @property
    def described(self) -> str:
        size = "" if self.size is None else f", {self.size:,} bytes"
        return f"{self.path} of github.com/{self.repository}{size}, git blob {self.blob[:12]}"


_REMOTE = {
    "samson_authors.mat": _Remote(
        "ChentongWang/DEQ4Unmixing",
        "32eef74434715841fd8e2f9d3e8271a0e0d341ca",
        "data/samson_dataset.mat",
        "75a8a329d180864d230d93805670d4d8834cfa87",
        3_906_556,
        ("samson_dataset.mat",),
    ),
    "apex_dataset.mat": _Remote(
        "preetam22n/DeepTrans-HSU",
        "a1cefda156e34f2b6cc0d90b727d2c60f8a9a6c8",
        "data/apex_dataset.mat",
        "405e7d09b029163116d738fffa3c6afc415c0130",
    ),
}

_FOUND = {
    "samson_authors": ("samson_authors.mat", ""),
    "samson_zhu": ("samson_zhu.npz", _SAMSON_CURE),
    "samson_rasti": ("samson_rasti.npz", _SAMSON_CURE),
    "hapke_sim1": ("hapke_sim1.npz", "Its source is the simulated scene of github.com/BehnoodRasti/HapkeCNN."),
    "apex": ("apex_dataset.mat", ""),
}


def names() -> tuple[str, ...]:
    """Return the names for `load`, the shipped scenes first."""
    return (*_SHIPPED, *_FOUND)


def load(name: str, *, download: bool = True) -> tuple[Scene, Truth]:
    """Return a named scene and its reference.

    Args:
        name: one of `names()`.
        download: download a missing file from its public repository, if known (extra `io`). Samson and Apex state no
            licence: you must judge whether you may use them.

    Returns:
        The scene and its reference, whose origin is in `Truth.reference`; for emit_mini the reference is empty.

    Raises:
        InputError: the name is unknown; the file is missing and cannot be downloaded; or its content is wrong.
    """
    if name in _SHIPPED:
        with as_file(files("dequnmix_jax") / "data" / f"{name}.npz") as path:
            return read(path), read_truth(path) if name != "emit_mini" else Truth(reference="none")
    if name not in _FOUND:
        raise InputError(f"There is no data set {name!r}; expected one of {', '.join(names())}.")
    file, cure = _FOUND[name]
    path = find(file, download=download, cure=cure)
    scene, truth = replace(read(path), name=name), read_truth(path)
    if path.suffix == ".npz":
        return scene, truth
    if name == "samson_authors":
        # The file has no wavelengths; the 156 bands of Samson run evenly from 401 to 889 nm (Zhu et al.).
        scene = replace(scene, wavelengths=np.linspace(401, 889, scene.cube.shape[2]))
        truth = replace(
            truth,
            names=("soil", "tree", "water"),
            reference="Zhu et al.: endmembers scaled to maximum 1, abundances NNLS divided by their sum",
        )
    else:
        truth = replace(truth, reference="reference of the Apex file of DeepTrans-HSU")
    return scene, truth


def library(*, pruned: bool = False, download: bool = True) -> tuple[Array, tuple[str, ...], Array]:
    """Return the mineral spectra of the USGS library of 1995 on 224 AVIRIS bands, from the folder DEQUNMIX_DATA.

    Args:
        pruned: only the 240 spectra that differ by at least 4.44 degrees, the dictionary of the scene DC1.
        download: accepted as in `load`; no public copy in this form is known.

    Returns:
        Spectra (K, 224), their K names, wavelengths (224,) nm.

    Raises:
        InputError: the file usgs_1995_library.npz is not in the folder.
    """
    cure = "It holds spectra (K, B), names and wavelengths_nm of the USGS digital spectral library of 1995."
    arrays = load_arrays(find("usgs_1995_library.npz", download=download, cure=cure))
    before = "pruned240_" if pruned else ""
    return arrays[f"{before}spectra"], tuple(arrays[f"{before}names"].tolist()), arrays["wavelengths_nm"]


def git_blob(path: str | os.PathLike[str]) -> str:
    """Return the git blob id of a file: the sha1 of `blob <size>`, a zero byte, and the content.

    Args:
        path: the file.

    Returns:
        40 hexadecimal digits.
    """
    path = Path(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def find(file: str, *, download: bool = True, cure: str = "") -> Path:
    """Return the path of a data file: in the folder DEQUNMIX_DATA, in the download folder, or freshly downloaded.

    Args:
        file: its name.
        download: download a missing file from its public repository, if known.
        cure: further advice, for the message.

    Returns:
        The path of the file; its content has been checked if its git blob id is known.

    Raises:
        InputError: the file is missing, the download failed, or the content is wrong.
    """
    folder = os.environ.get(FOLDER, "")
    remote = _REMOTE.get(file)
    if folder:
        for named in (file, *(remote.also_named if remote else ())):
            candidate = Path(folder) / named
            if candidate.is_file():
                _check_content(candidate, remote)
                return candidate
    where = f"the folder {folder}, which {FOLDER} names" if folder else f"a folder, and name it by {FOLDER}"
    if remote is None:
        raise InputError(f"{file} was not found and has no public place; put it into {where}. {cure}".rstrip())
    by_hand = f"put {remote.described}, into {where}, as {file}."
    if not download:
        raise InputError(f"{file} was not found and downloading is off: {by_hand}")
    return _fetched(file, remote, by_hand)


def _fetched(file: str, remote: _Remote, by_hand: str) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise InputError(
            f"{file} was not found, and downloading needs pooch: {pip_hint('io')}. Or {by_hand}"
        ) from error
    target = Path(pooch.os_cache("dequnmix_jax")) / file
    if target.is_file():
        _check_content(target, remote)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(target) as temporary:
        try:
            pooch.HTTPDownloader()(remote.url, str(temporary), None)
        except OSError as error:  # the base class of the errors of requests
            raise InputError(
                f"{file} could not be downloaded from {remote.url} ({type(error).__name__}). Or {by_hand}"
            ) from error
        _check_content(temporary, remote, shown=remote.url)
    return target


def _check_content(path: Path, remote: _Remote | None, shown: str = "") -> None:
    """Raise InputError unless the content of a file has its known git blob id."""
    if remote is None:
        return
    blob = git_blob(path)
    if blob != remote.blob:
        raise InputError(
            f"{shown or path} holds {path.stat().st_size:,} bytes with git blob {blob[:12]}; expected "
            f"{remote.described}. It is another file or was damaged on the way: remove it, or read it as your own by "
            "dequnmix_jax.read."
        )

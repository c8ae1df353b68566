"""Typed options: one frozen record for each command, made of argparse's namespace before the command runs."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.read_options import ReadOptions

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class SceneOptions(ReadOptions):
    """Which scene is read, and how."""

    file: Path


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained; None where an option is not given, so that the file of `config` or a default holds."""

    epochs: int | None
    seed: int
    start: str | None
    gradient: str | None
    mixing: str | None
    constraint: str | None
    prox: str | None
    nonlinear: str | None
    prior: str | None
    config: Path | None
    train: bool


@dataclass(frozen=True)
class FixedOptions:
    """Which spectra are known, while the others are found in the scene."""

    fixed_library: Path | None
    fixed_names: tuple[str, ...] | None
    fixed_scale: float | None


@dataclass(frozen=True)
class DemoOptions:
    """Of `dequnmix demo`."""

    scene: str
    output: Path
    force: bool
    endmembers: int | None
    seed: int
    json: bool


@dataclass(frozen=True)
class EnvOptions:
    """Of `dequnmix env`."""

    json: bool


@dataclass(frozen=True)
class CompletionOptions:
    """Of `dequnmix completion`."""

    shell: str


@dataclass(frozen=True)
class InfoOptions:
    """Of `dequnmix info`."""

    scene: SceneOptions
    json: bool


@dataclass(frozen=True)
class FitOptions:
    """Of `dequnmix fit`."""

    scene: SceneOptions
    training: TrainingOptions
    fixed: FixedOptions
    endmembers: int | str
    max_endmembers: int | None
    output: Path
    force: bool
    patches: int | None
    patch_size: int | None
    checkpoint: float
    json: bool


OF_MESMA = ("max_classes", "combine", "threshold", "shade", "max_rmse", "fractions", "models")
"""Options of the method mesma alone."""


@dataclass(frozen=True)
class KnownOptions:
    """How a scene is unmixed by known spectra; None where an option is not given."""

    method: str | None
    classes: str | None
    spectra: tuple[str, ...] | None
    sparsity: float | None
    variation: float | None
    normalise: bool
    uncertainty: float | str | None
    uncertainty_by: str | None
    draws: int | None
    bounds: bool
    max_classes: int | None
    combine: str | None
    threshold: float | None
    shade: str | None
    max_rmse: float | None
    fractions: tuple[float, float] | None
    models: int | None
    prune: str | None
    epochs: int | None
    seed: int | None

    def given(self) -> list[str]:
        """Return the options that are given and have no other meaning."""
        words: dict[str, object] = {"--method": self.method, "--class": self.classes, "--spectra": self.spectra}
        words |= {"--sparsity": self.sparsity, "--variation": self.variation, "--uncertainty": self.uncertainty}
        words |= {f"--{name.replace('_', '-')}": getattr(self, name) for name in (*OF_MESMA, "prune")}
        words |= {"--uncertainty-by": self.uncertainty_by, "--draws": self.draws, "--bounds": self.bounds or None}
        words |= {"--normalise": self.normalise or None}
        return [name for name, value in words.items() if value is not None]


@dataclass(frozen=True)
class BatchOptions:
    """Further scenes of a command, and which processes work on them."""

    more: tuple[Path, ...]
    by_model: Path | None
    jobs: int | None
    scheduler: str | None
    retries: int


@dataclass(frozen=True)
class UnmixOptions:
    """Of `dequnmix unmix`; `endmembers` is a number beside a model, and a library without one."""

    scene: SceneOptions
    known: KnownOptions
    batch: BatchOptions
    model: Path | None
    endmembers: int | Path | None
    output: Path
    force: bool
    format: str | None
    no_plots: bool
    tile: int | None
    halo: int | None
    unit: str | None
    report: Path | None
    library: Path | None
    library_scale: float | None
    json: bool


@dataclass(frozen=True)
class ReportOptions:
    """Of `dequnmix report`; `scene.file` may be the folder of a result, of which `scene_of_result` is the scene."""

    scene: SceneOptions
    training: TrainingOptions
    known: KnownOptions
    fixed: FixedOptions
    batch: BatchOptions
    scene_of_result: Path | None
    endmembers: int | str | Path | None
    max_endmembers: int | None
    model: Path | None
    output: Path
    force: bool
    result: Path | None
    format: str | None
    library: Path | None
    library_scale: float | None
    json: bool


@dataclass(frozen=True)
class EndmembersOptions:
    """Of `dequnmix endmembers`."""

    scene: SceneOptions
    fixed: FixedOptions
    count: int | str
    max_endmembers: int | None
    method: str
    scaled: bool
    seed: int
    output: Path
    force: bool
    json: bool


@dataclass(frozen=True)
class CompareOptions:
    """Of `dequnmix compare`."""

    scene: SceneOptions
    endmembers: int | str
    max_endmembers: int | None
    methods: tuple[str, ...] | None
    seeds: int
    seed: int
    reference: Path | None
    convention: str | None
    output: Path
    force: bool
    json: bool


@dataclass(frozen=True)
class ConvertOptions:
    """Of `dequnmix convert`."""

    scene: SceneOptions
    output: Path
    force: bool
    json: bool


@dataclass(frozen=True)
class ScoreOptions:
    """Of `dequnmix score`."""

    estimate: Path
    truth: Path
    scene: Path | None
    convention: str | None
    shape: tuple[int, int] | None
    order: str | None
    json: bool


@dataclass(frozen=True)
class MatchOptions:
    """Of `dequnmix match`."""

    spectra: Path
    library: Path
    count: int
    fwhm: float | None
    wavelengths: Path | None
    bandpass: Path | None
    units: str | None
    nodata: float | None
    scale: float | None
    sort: bool
    json: bool


@dataclass(frozen=True)
class ZonesOptions:
    """Of `dequnmix zones`."""

    result: Path
    polygons: Path
    field: str | None
    output: Path
    force: bool
    json: bool


def options_of(kind: type[Record], args: Namespace) -> Record:
    """Return a record of options from a namespace that has a name for each field; fields that are records share it."""
    return _record(kind, vars(args))


def _record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    def value(name: str, hint: Any) -> Any:
        if is_dataclass(hint):
            return _record(hint, values)  # type: ignore[arg-type]
        return tuple(values[name]) if isinstance(values[name], list) else values[name]

    return kind(**{name: value(name, hint) for name, hint in get_type_hints(kind).items()})


def check_outputs(options: Any) -> None:
    """Raise InputError where an output of a command would replace one of its inputs, or a folder that holds one.

    Args:
        options: of any command; every path in them that is not an output is an input.
    """
    names = ("output", "report", "result") if isinstance(options, ReportOptions) else ("output", "report")
    outputs = [path for name in names if isinstance(path := getattr(options, name, None), Path) and path.exists()]
    inputs = _paths({name: value for name, value in vars(options).items() if name not in names})
    for output in outputs:
        for path in inputs:
            if not path.exists():
                continue
            if output.samefile(path):
                raise InputError(f"{output} is also the input; expected another name for the output. Choose one.")
            if output.is_dir() and output.resolve() in path.resolve().parents:
                raise InputError(
                    f"{path} is an input and lies in {output}, which the output would replace; expected another "
                    "folder. Choose one."
                )


def _paths(fields: Mapping[str, Any]) -> list[Path]:
    """Return the paths in options and in the options that they hold; --uncertainty may be the name of a file."""
    found: list[Path] = []
    for name, value in fields.items():
        if is_dataclass(value):
            found += _paths(vars(value))
        elif isinstance(value, Path):
            found.append(value)
        elif name == "uncertainty" and isinstance(value, str):
            found.append(Path(value))
    return found

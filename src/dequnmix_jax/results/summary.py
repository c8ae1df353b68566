"""The sidecar of an output, summary.json: how the maps were computed, and what was assumed about the file."""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.io.georaster import ground_steps, pixel_area_and_note
from dequnmix_jax.io.provenance import file_record, package_version
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.results.areas import areas_record
from dequnmix_jax.results.maps import KINDS, class_names, class_sums
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    from dequnmix_jax.types import Trace


def _source(scene: Scene | Source) -> dict[str, Any] | None:
    if scene.source is None or not (isinstance(scene.source, Remote) or scene.source.exists()):
        return None
    record = file_record(scene.source)
    header = find_header(scene.source) if scene.source.is_file() else None
    if header is not None and header != scene.source:
        record["header"] = file_record(header)
    return record


def summary(
    means: Mapping[str, Any],
    names: Sequence[str],
    scene: Scene | Source,
    shape: tuple[int, ...],
    valid_pixels: int,
    *,
    configuration: Any = None,
    trace: "Trace | None" = None,
    record: Mapping[str, Any] | None = None,
    class_of: Sequence[str] = (),
    above: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return the content of summary.json.

    Args:
        means: mean of each map over the valid pixels, by the names of `maps.KINDS`.
        names: R names of the endmembers.
        scene: the scene; its cube is not used.
        shape: (H, W, B) of the unmixed scene.
        valid_pixels: number of valid pixels.
        configuration: a dataclass or a mapping of numbers, text and dataclasses, or None.
        trace: the trace of the solver, or None.
        record: further entries, such as the options of reading.
        class_of: R classes of the endmembers, or none.
        above: R mean fractions above their error (`areas.above_error`), or None.

    Raises:
        InputError: an entry that JSON cannot hold.
    """
    height, width, bands = shape
    means = {name: plain(mean) for name, mean in means.items()}
    area, area_notes = pixel_area_and_note(scene, (height, width))
    wavelengths = scene.wavelengths
    return {
        "written_by": "dequnmix_jax",
        "scene": scene.name,
        "source": _source(scene),
        "rows": height,
        "columns": width,
        "bands": bands,
        "wavelengths_nm": None if wavelengths is None else [float(wavelengths.min()), float(wavelengths.max())],
        "valid_pixels": valid_pixels,
        "pixel_area_m2": area,
        "place": ground_steps(scene, (height, width)),
        "endmembers": list(names),
        "mean_abundances": means["abundances"],
        "areas_m2": None if area is None else [mean * area * valid_pixels for mean in means["abundances"]],
        **({} if above is None else areas_record(above, None if area is None else area * valid_pixels)),
        **classes_record(means["abundances"], class_of, None if area is None else area * valid_pixels),
        "maps": {name: {**KINDS[name]._asdict(), "mean": mean} for name, mean in means.items()},
        "configuration": plain(configuration),
        "trace": None if trace is None else plain(trace._asdict()),
        **plain(record or {}),
        "notes": [*scene.notes, *area_notes],
        "versions": {
            "python": platform.python_version(),
            **{package: package_version(package) for package in ("dequnmix-jax", "jax", "jaxlib", "numpy")},
        },
        # The only entry that differs between two runs of the same command on the same files.
        "run": {"date": datetime.now(UTC).isoformat(timespec="seconds")},
    }


def classes_record(means: Sequence[float], class_of: Sequence[str], area: float | None) -> dict[str, Any]:
    """Return the entry "classes": the class of each endmember, the mean fraction and the area of each class.

    Args:
        means: R mean abundances.
        class_of: R classes; without any there is no entry.
        area: of all valid pixels in square metres, or None.
    """
    if not class_of:
        return {}
    sums = class_sums(np.asarray(means, np.float64), class_of).tolist()
    return {
        "classes": {
            "names": list(class_names(class_of)),
            "of_endmembers": list(class_of),
            "mean_abundances": sums,
            "areas_m2": None if area is None else [mean * area for mean in sums],
        }
    }


def as_text(content: Any) -> str:
    """Return the text of a JSON file: indented, with each list of numbers on one line."""
    text = json.dumps(content, indent=2, allow_nan=False)
    return re.sub(r"\[\n\s*([-+.\deE,\s]+?)\n\s*\]", lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"

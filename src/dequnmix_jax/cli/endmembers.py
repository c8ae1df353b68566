"""`dequnmix endmembers`: find spectra in a scene without a network, and write them as a library."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError, check_fixed, ending, how_many
from dequnmix_jax.cli.options import EndmembersOptions
from dequnmix_jax.cli.scene_options import count_endmembers, read_for_unmixing
from dequnmix_jax.cli.workflow import fixed_of
from dequnmix_jax.io.atomic import check_file, reserved
from dequnmix_jax.io.envi.writer import put_library
from dequnmix_jax.libraries.csv import write_table
from dequnmix_jax.results.maps import endmember_names, names_after
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    from dequnmix_jax.scenes.scene import Array, Scene


_RUNS = 24
"""Draws of VCA; the one of largest volume is kept."""


def find(scene: "Scene", count: int, method: str, seed: int, scaled: bool, fixed: Any = None) -> tuple["Array", str]:
    """Return the endmembers (R, B) of a scene, in its units, and the method in words; `fixed` (F, B) come first."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.endmembers.minimum_volume_simplex import minimum_volume
    from dequnmix_jax.endmembers.pure_pixel import atgp, nfindr, sivm, vca
    from dequnmix_jax.learned import selection

    cube = jnp.asarray(scene.cube)
    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    key = jax.random.key(seed)
    division = ", each pixel divided by its brightness" if scaled else ""
    spectra: Any
    if method == "vca":
        draws = jax.jit(vca, static_argnums=2, static_argnames="runs")
        spectra = draws(key, cube, count, mask=mask, runs=_RUNS, fixed=fixed)
        text = f"VCA, the largest of {_RUNS} draws"
    elif method == "atgp":
        spectra = jax.jit(atgp, static_argnums=1)(cube, count, mask=mask)
        text = "ATGP"
    elif method in ("sivm", "nfindr"):
        search = sivm if method == "sivm" else nfindr
        spectra = jax.jit(search, static_argnums=1, static_argnames="scaled")(cube, count, mask=mask, scaled=scaled)
        text = f"{'SiVM' if method == 'sivm' else 'N-FINDR'}{division}"
    elif method == "minimum-volume":
        smallest = jax.jit(minimum_volume, static_argnums=2, static_argnames="scaled")
        spectra, trace = smallest(key, cube, count, mask=mask, scaled=scaled)
        reached = "converged" if trace.converged else "not converged"
        text = f"minimum volume{division}; {how_many(int(trace.steps), 'step')}, {reached}"
    else:
        selected = selection.select(key, cube, count, mask=mask, fixed=fixed)
        spectra, text = selected.endmembers, selection.reason(selected)
    return np.asarray(spectra), text


def endmembers(options: EndmembersOptions) -> None:
    """Find the endmembers of a scene and write them as an ENVI spectral library or a table."""
    suffix = options.output.suffix.lower()
    if suffix not in (".sli", ".csv"):
        raise InputError(
            f"{options.output} {ending(options.output)}; expected .sli (ENVI spectral library) or .csv (a table)."
        )
    if options.scaled and options.method not in ("sivm", "nfindr", "minimum-volume"):
        raise InputError(
            f"--scaled does not apply to {options.method}; expected sivm, nfindr or minimum-volume with it."
        )
    if options.fixed.fixed_library is not None and options.method not in ("vca", "start"):
        raise InputError(f"--fixed does not apply to {options.method}; expected vca or start with it. Choose one.")
    check_file(options.output)
    targets = [options.output] if suffix == ".csv" else [options.output, options.output.with_suffix(".hdr")]
    with reserved(*targets, overwrite=options.force) as outputs:
        scene, record = read_for_unmixing(options.scene, options.count)
        fixed = fixed_of(options.fixed, scene)
        count, counted = count_endmembers(options.count, scene, "--count", options.max_endmembers, len(fixed.names) + 1)
        if fixed.spectra is not None:
            check_fixed(fixed.spectra, count, scene.cube.shape[2])
        spectra, text = find(scene, count, options.method, options.seed, options.scaled, fixed.spectra)
        names = names_after(fixed.names, count) or endmember_names(None, count)
        if suffix == ".csv":
            write_table(outputs.part(options.output), spectra, names, scene.wavelengths)
        else:
            data, header = (outputs.part(target) for target in targets)
            put_library(data, header, spectra, names, scene.wavelengths)
        outputs.place()
    if options.json:
        summary: dict[str, Any] = {
            "output": str(options.output),
            "method": options.method,
            "how": text,
            "names": names,
            "endmembers": spectra,
        }
        summary |= {
            "wavelengths_nm": scene.wavelengths,
            "notes": list(scene.notes),
            "seed": options.seed,
            **record,
            **counted,
        }
        print(json.dumps(plain(summary), indent=2, allow_nan=False))
        return
    print(text)
    print(f"{how_many(count, 'endmember')} in {how_many(spectra.shape[1], 'band')}: {options.output}")

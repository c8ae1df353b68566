"""Hyperspectral unmixing by deep equilibrium models, in JAX.

From a scene to a result in one call:

    import jax
    import dequnmix_jax as dq

    result = dq.run("scene.hdr", 4, jax.random.key(0))   # read, choose, train without a reference, unmix
    result.write("out")
    result.report("report.html")

Step by step: `read`, `endmembers.select_endmembers`, `fit`, `unmix`, `write`, `read_result`. With known spectra:
`unmix_with("scene.hdr", "library.csv")`, or `read_library`, `resample`, `fcls`. As data sets of xarray: `open_xarray`,
`to_xarray`. Each wing (`dq.abundances`,
`dq.endmembers`, `dq.equilibrium`, `dq.solvers`, `dq.training`, ...) says in its docstring which function to use when.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax import (
        abundances,
        baselines,
        datasets,
        endmembers,
        equilibrium,
        io,
        learned,
        libraries,
        many_scenes,
        metrics,
        mixing,
        parallel,
        report,
        results,
        scenes,
        solvers,
        tiles,
        training,
    )
    from dequnmix_jax.abundances.least_squares import fcls
    from dequnmix_jax.checks import InputError
    from dequnmix_jax.comparison import Comparison, compare
    from dequnmix_jax.compilation_cache import enable_compilation_cache
    from dequnmix_jax.equilibrium.config import Model
    from dequnmix_jax.equilibrium.model import equilibrium_map, init, reconstruct
    from dequnmix_jax.io.formats import open_xarray, read
    from dequnmix_jax.known_spectra import unmix_with
    from dequnmix_jax.libraries.reading import read_library
    from dequnmix_jax.libraries.resampling import resample
    from dequnmix_jax.many_scenes.run import unmix_many
    from dequnmix_jax.pipeline import run
    from dequnmix_jax.report.explorer import explore
    from dequnmix_jax.results.labelled import to_xarray
    from dequnmix_jax.results.result import Result, read_result
    from dequnmix_jax.results.writer import write
    from dequnmix_jax.scenes.scene import Scene
    from dequnmix_jax.solvers.config import Adjoint, Solver
    from dequnmix_jax.solvers.implicit import fixed_point
    from dequnmix_jax.tiles.unmix import unmix_tiled
    from dequnmix_jax.training.config import PAPER, RECOMMENDED, Rates, Training
    from dequnmix_jax.training.fitting import fit
    from dequnmix_jax.types import Estimate, History, Trace
    from dequnmix_jax.unmixing import unmix

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in the order a reader meets them
    "read", "write", "Scene", "run", "unmix_with", "compare", "Comparison", "Result", "read_result", "read_library",
    "resample", "fcls", "open_xarray", "to_xarray", "explore",
    "Model", "Solver", "Adjoint", "Training", "Rates",
    "RECOMMENDED", "PAPER",
    "init", "fit", "unmix", "unmix_tiled", "unmix_many", "equilibrium_map", "reconstruct", "fixed_point",
    "Estimate", "Trace", "History", "InputError", "enable_compilation_cache",
    "solvers", "abundances", "endmembers", "equilibrium", "learned", "training", "parallel", "scenes", "io",
    "libraries", "datasets", "results", "report", "tiles", "many_scenes", "baselines", "metrics", "mixing",
]  # fmt: skip

__getattr__, __dir__ = attach(
    __name__,
    {
        "io.formats": ["read", "open_xarray"],
        "results.labelled": ["to_xarray"],
        "report.explorer": ["explore"],
        "results.writer": ["write"],
        "scenes.scene": ["Scene"],
        "pipeline": ["run"],
        "known_spectra": ["unmix_with"],
        "comparison": ["compare", "Comparison"],
        "results.result": ["Result", "read_result"],
        "libraries.reading": ["read_library"],
        "libraries.resampling": ["resample"],
        "abundances.least_squares": ["fcls"],
        "equilibrium.config": ["Model"],
        "solvers.config": ["Solver", "Adjoint"],
        "training.config": ["Training", "Rates", "RECOMMENDED", "PAPER"],
        "equilibrium.model": ["init", "equilibrium_map", "reconstruct"],
        "unmixing": ["unmix"],
        "training.fitting": ["fit"],
        "tiles.unmix": ["unmix_tiled"],
        "many_scenes.run": ["unmix_many"],
        "solvers.implicit": ["fixed_point"],
        "types": ["Estimate", "Trace", "History"],
        "checks": ["InputError"],
        "compilation_cache": ["enable_compilation_cache"],
    },
    [
        "solvers",
        "abundances",
        "endmembers",
        "equilibrium",
        "learned",
        "training",
        "parallel",
        "scenes",
        "io",
        "libraries",
        "datasets",
        "results",
        "report",
        "tiles",
        "many_scenes",
        "baselines",
        "metrics",
        "mixing",
    ],
)

"""Import rules: wings import downward only, no circle inside a wing, one adapter for each foreign package."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

import dequnmix_jax as dq

ROOT = Path(dq.__file__).parent
# From the ground up; what stands in one line may not import each other.
ORDER = """
lazy escaping
checks
ops types conventions
mixing compilation_cache
scenes
solvers metrics scene
abundances io
endmembers libraries
equilibrium datasets learned
training
parallel results baselines
tiles report
start_uncertainty
pipeline
known_uncertainty trained
known_spectra many_scenes compared_methods
unmixing comparison
__init__
cli
__main__
"""
FLOOR = {wing: floor for floor, line in enumerate(ORDER.strip().splitlines()) for wing in line.split()}
HOST = ("scenes", "io", "libraries", "results", "report", "lazy", "escaping")
ADAPTERS = {
    "jaxopt": {"solvers/jaxopt_methods"},
    "flax": {"equilibrium/network"},
    "optax": {"training/fitting", "metrics"},
    "matplotlib": {"report/plots", "report/style", "report/charts"},
    "scipy": {"io/matlab/variables"},
    "pooch": {"datasets/registry"},
    "rasterio": {"io/georaster"},
    "h5py": {"io/missions/hdf5"},
    "zarr": {"io/zarr"},
    "xarray": {"io/xarrays"},
    "rioxarray": {"io/xarrays"},
    "pyproj": {"io/xarrays"},
    "h5netcdf": {"io/xarrays"},
    "fsspec": {"io/remote"},
    "shtab": {"cli/completion"},
    "ipympl": {"report/explorer"},
    "dask": {"parallel/cluster"},
    "distributed": {"parallel/cluster"},
}
EXTRAS = (
    "matplotlib",
    "scipy",
    "pooch",
    "rasterio",
    "h5py",
    "zarr",
    "xarray",
    "rioxarray",
    "pyproj",
    "h5netcdf",
    "fsspec",
    "shtab",
    "ipympl",
    "dask",
    "distributed",
)
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ROOT.rglob("*.py")}


def imports(path):
    """Return (module, whether at the top of the file) of every import outside TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    passed = {id(node) for block in blocks for node in ast.walk(block)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if id(node) not in passed:
            yield from ((name, node in tree.body) for name in names)


def wing(name):
    return name.split("/")[0]


INSIDE = {
    name: {m.removeprefix("dequnmix_jax.").replace(".", "/") for m, _ in imports(path) if m.startswith("dequnmix_jax.")}
    for name, path in MODULES.items()
}


def test_wings_import_downward_only():
    assert {wing(name) for name in MODULES} == set(FLOOR)
    wrong = [
        f"{name} imports {other}"
        for name, others in INSIDE.items()
        for other in others
        if wing(other) in FLOOR and wing(other) != wing(name) and FLOOR[wing(other)] >= FLOOR[wing(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_wing_has_a_circle():
    def module(other):  # `from a.b import c` names a module c or a name c of b
        return other if other in MODULES else other.rpartition("/")[0]

    left = {name: {module(o) for o in others} & set(MODULES) - {name} for name, others in INSIDE.items()}
    while True:
        free = {name for name, others in left.items() if not others}
        if not free:
            break
        left = {name: others - free for name, others in left.items() if name not in free}
    assert not left, left


def test_each_foreign_package_has_one_adapter():
    for name, path in MODULES.items():
        for module, top in imports(path):
            package = module.split(".")[0]
            trains_itself = package == "optax" and wing(name) == "baselines"
            assert trains_itself or name in ADAPTERS.get(package, {name}), f"{name} imports {package}"
            assert not (package in EXTRAS and top), f"{name} imports {package} at its top: it is an extra"


def test_host_wings_do_not_import_jax():
    for name, path in MODULES.items():
        if wing(name) in HOST and name != "results/score":  # which compares by `metrics`
            assert not any(module.split(".")[0] == "jax" for module, _ in imports(path)), name


def test_no_seed_below_the_experiments_and_the_command_line():
    for name, path in MODULES.items():
        if wing(name) != "cli":
            calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
            assert not {ast.unparse(func).rpartition(".")[2] for func in calls} & {"key", "PRNGKey", "default_rng"}, (
                name
            )


@pytest.mark.parametrize("package", ["", *sorted(name for name in FLOOR if (ROOT / name).is_dir())])
def test_what_a_wing_shows_is_there_and_documented(package):
    shown = getattr(dq, package) if package and hasattr(dq, package) else dq if not package else None
    if shown is None:  # ops and cli are not part of the public interface
        assert package in ("ops", "cli")
        return
    assert len(shown.__doc__) > 100
    names = getattr(shown, "__all__", [])
    assert set(names) == set(dir(shown)) or not names
    for name in names:
        assert getattr(shown, name).__doc__, name
        value = getattr(shown, name)  # a function and a module of one name would hide each other
        assert isinstance(value, ModuleType) or not package or not (ROOT / package / f"{name}.py").exists(), name

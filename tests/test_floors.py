"""The house: imports go down only, each foreign package has one door, and rooms can be read in one sitting."""

import ast
from pathlib import Path

import dequnmix_jax

ROOT = Path(dequnmix_jax.__file__).parent

FLOORS = {
    "checks": 0, "shown": 0, "lapack": 0, "peak": 0, "varying": 0, "config": 0.5, "verdict": 0, "records": 0.3,
    "solvers": 1, "mixing": 0.8, "metrics": 1, "projection": 1, "active_set": 1, "noise": 1, "convolution": 1,
    "rows": 0.5, "small": 0.8, "choices": 0.2, "choice_words": 0.7,
    "enumeration": 1.5, "pivoting": 1.5, "exact": 1.8, "closed_form": 2.5, "sparse": 2.5, "sparse_steps": 2,
    "admm": 2.3,
    "implicit": 2, "network": 2, "endmembers": 2, "classical": 2,
    "superpixels": 1, "factor_steps": 1, "factoring": 2.5, "factorisation": 2.8,
    "subspace": 1, "extreme": 2, "simplex_volume": 2.5, "minimum_volume": 2.5, "dimension": 2,
    "measuring": 3, "starting": 3.5,
    "curvature": 2.5, "scenewide": 2.5, "neighbours": 2.5, "answer": 2.8, "model": 3, "synthetic": 3,
    "stacking": 1, "devices": 4, "objective": 3.5, "quality": 3.5, "stages": 3.8, "training": 4, "certificate": 4,
    "team": 1, "streaming": 3.5, "reach": 3.5, "tiled_records": 4, "tiled_run": 5, "tiles": 5.5,
    # host side: numpy only
    "source": 2.2, "rawpixels": 2.4, "tiling": 2.4, "survey": 2.4, "journal": 2.5, "tiled_outputs": 4.5,
    "room": 0.5, "leftovers": 0.5, "signals": 0.5,
    "ground": 0.5, "atomic": 1, "scene": 1, "bandaxis": 2, "pixelvalues": 2, "truth": 2, "pixelorder": 3,
    "envi_header": 2.5, "georaster": 2.7, "geotiff": 2.8, "hdf5": 2.5, "emit": 3, "prisma": 3, "missions": 4,
    "placing": 3, "named": 3.5, "arrays": 4, "zarrfiles": 4,
    "envi": 3, "envi_writing": 3, "matvariables": 3, "npzarrays": 3, "mat5": 2.5, "npzfiles": 3.5, "matfiles": 4,
    "maps": 2, "sidecar": 3, "results": 3.8, "outputs": 4, "scene_writing": 5,
    "checkpoint": 4, "files": 5, "datasets": 5, "hysu": 5,
    "library": 2, "library_csv": 3, "library_usgs": 3, "library_files": 4, "resampling": 3, "identify": 3, "naming": 7,
    "page": 1, "charts": 3, "report_spectra": 4, "report_maps": 4.5, "reporting": 5,
    "canvas": 2, "matching": 2, "plots": 5, "progress": 6, "trained": 5.2, "scoring": 7, "commands": 7, "demo": 8,
    "patches": 5.8, "lock": 0.8, "option_values": 6.5, "resuming": 5.5,
    "configuration": 1, "reading": 6, "unmixing": 6.5, "command_tiles": 6.8, "options": 7,
    "command_report": 8, "command_endmembers": 8, "command_convert": 8, "cli": 9,
    "__main__": 10, "__init__": 8,
}  # fmt: skip
HOST = {"checks", "choices", "choice_words", "config", "room", "leftovers", "signals",
        "lock", "ground", "bandaxis", "georaster", "geotiff", "hdf5", "emit", "prisma", "missions", "named", "arrays",
        "shown", "placing", "zarrfiles", "atomic", "scene", "pixelvalues", "truth", "pixelorder", "envi_header",
        "envi", "envi_writing", "matvariables", "mat5", "npzarrays", "npzfiles",
        "matfiles", "maps", "sidecar", "results", "outputs", "scene_writing",
        "checkpoint", "files", "page", "charts", "reporting", "report_spectra",
        "report_maps", "datasets", "hysu", "plots", "canvas",
        "library", "library_csv", "library_usgs", "library_files", "resampling", "identify",
        "source", "rawpixels", "tiling", "survey", "journal", "tiled_outputs"}  # fmt: skip


def imports(path):
    """Yield (module, whether at the top of the file) of every import, relative ones resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level or base == "dequnmix_jax":
                rooms = [base] if node.level and base else [alias.name for alias in node.names]
                for room in rooms:
                    yield f"dequnmix_jax.{room}", id(node) in top
            else:
                yield base, id(node) in top


def rooms():
    return {path.stem: path for path in ROOT.glob("*.py")}


def test_every_room_has_a_floor():
    assert set(rooms()) <= set(FLOORS), set(rooms()) - set(FLOORS)


def test_imports_go_down_only():
    wrong = []
    for room, path in rooms().items():
        for module, _ in imports(path):
            if module.startswith("dequnmix_jax."):
                other = module.split(".")[1]
                if other in FLOORS and FLOORS[other] >= FLOORS[room]:
                    wrong.append(f"{room} imports {other}")
    assert not wrong


def test_each_foreign_package_has_one_door():
    allowed = {
        "jaxopt": {"solvers"},
        "flax": {"network"},
        "optax": {"training", "metrics", "matching"},
        "matplotlib": {"plots", "canvas", "charts"},
        "scipy": {"matvariables"},
        "pooch": {"datasets"},
        "rasterio": {"georaster"},
        "h5py": {"hdf5"},
        "zarr": {"zarrfiles"},
        "xarray": set(),
    }
    for room, path in rooms().items():
        for module, top in imports(path):
            package = module.split(".")[0]
            if package in allowed:
                assert room in allowed[package], f"{room} imports {package}"
                if package in ("matplotlib", "scipy", "pooch", "rasterio", "h5py", "zarr"):
                    assert not top, f"{room} imports {package} at its top: it is an extra"


def test_the_host_side_does_not_touch_jax():
    for room in HOST:
        assert not any(module.split(".")[0] == "jax" for module, _ in imports(rooms()[room])), room


def test_rooms_can_be_read_in_one_sitting():
    long = {
        room: n for room, path in rooms().items() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_no_seed_below_the_experiments_and_the_command_line():
    for room, path in rooms().items():
        if room in ("cli", "unmixing", "command_endmembers", "demo", "checks"):  # checks: a message names one
            continue
        text = path.read_text(encoding="utf-8")
        assert "random.key(" not in text and "PRNGKey(" not in text and "default_rng(" not in text, room


def test_the_public_names_are_there_and_documented():
    for name in dequnmix_jax.__all__:
        thing = getattr(dequnmix_jax, name)
        assert thing.__doc__, name

"""The notebooks run from top to bottom without Jupyter and end with a picture."""

import ast
import io
import json
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest

import dequnmix_jax as dq

pytest.importorskip("matplotlib", reason="pip install 'dequnmix-jax[plots]'")
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = (
    "first_unmixing", "inside_the_equilibrium", "your_own_scene", "in_a_larger_pipeline", "many_scenes",
    "spectra_and_uncertainty", "unseen_scene", "dask_cluster",
)  # fmt: skip

SHORTER = {"epochs": 6, "steps": 40}
"""Settings that the tests replace, in the second code cell of each notebook; everything else runs unchanged."""

MODULES = {"dequnmix_jax.datasets": {"registry", "synthetic"}, "dequnmix_jax.report": {"plots"}}
"""Modules that a notebook may import besides `dq`."""


def cells(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def code(name):
    """Return the text of the code cells; Jupyter's line that makes it show pictures is not Python."""
    texts = ["".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "code"]
    assert texts[0].startswith("%matplotlib inline\n")
    return [texts[0].removeprefix("%matplotlib inline\n"), *texts[1:]]


def execute(text, space):
    """Execute a cell and return what its last line shows."""
    tree = ast.parse(text)
    shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, text, "exec"), space)
    return None if shown is None else eval(compile(ast.Expression(shown.value), text, "eval"), space)


def check_first_unmixing(space):
    assert space["trace"].converged and space["abundances"].shape == (40, 48, 3)
    np.testing.assert_allclose(space["again"].abundances, space["result"].abundances, atol=1e-4)
    assert dq.metrics.armse(space["abundances"], space["true_abundances"]) < 0.05


def check_inside_the_equilibrium(space):
    assert space["proof"].exists and space["trace"].converged
    assert abs(space["factors"][-1] - space["proof"].observed_rate) < 0.02
    assert space["neumann_residuals"][-1] < 1e-2
    np.testing.assert_allclose(space["a"], space["b"], atol=0.02 * abs(space["b"]).max())
    assert len(set(space["implicit_memory"])) == 1
    assert space["unrolled_memory"][-1] > 3 * space["unrolled_memory"][0]


def check_your_own_scene(space):
    maps, mask = space["maps"], space["scene"].mask
    assert (
        maps.envi_fields["map info"] == space["scene"].envi_fields["map info"]
        and (maps.valid == mask).all()
        and not mask.all()
    )
    assert space["done"].tiles > 1
    np.testing.assert_allclose(maps.cube[mask], space["whole"].abundances[mask], atol=1e-2)  # what the halo leaves


def check_in_a_larger_pipeline(space):
    assert space["losses"][-1] < 0.2 * space["losses"][0]
    assert space["module_losses"][-1] < 0.5 * space["module_losses"][0]
    assert np.isfinite(space["sensitivity"]).all() and np.any(space["sensitivity"])
    for gradient in space["gradients"]:
        np.testing.assert_allclose(gradient, space["gradients"][0], atol=1e-4)
    compiled = jax.jit(space["gradient"])  # the last that was loaded
    slope = np.asarray(compiled(space["small"]))
    np.testing.assert_allclose(space["loaded"].call(space["small"]), slope, atol=1e-4 * np.abs(slope).max())


def check_many_scenes(space):
    others = np.asarray([0, 2, 3])
    np.testing.assert_array_equal(space["spoilt_history"].loss[others], space["history"].loss[others])
    assert not np.isfinite(space["spoilt_history"].loss[1]).any()
    assert len(space["devices"]) > 1 and space["traces"].converged.all()
    assert (space["first"] == space["first"][0]).all()
    assert space["difference"] < 1e-3


def check_spectra_and_uncertainty(space):
    result = space["result"]
    assert (result.abundances_sd > 0).mean() > 0.3 and np.isfinite(result.abundances_sd).all()
    assert 7.5 < space["area"] < 10  # of a target of 9 square metres


def check_unseen_scene(space):
    for family, (vca, operator) in space["errors"].items():
        assert operator < 1.1 * vca, family
    assert (space["results"]["shade"].abundances_sd > 0).all()


def check_dask_cluster(space):
    assert [row.state for row in space["rows"]] == ["done"] * 6 + ["failed"]
    assert [row.state for row in space["again"]] == ["kept"] * 6 + ["done"]
    assert max(space["errors"]) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_ends_with_a_picture(name, tmp_path, monkeypatch):
    if name == "in_a_larger_pipeline":
        pytest.importorskip("flatbuffers", reason="pip install 'dequnmix-jax[export]'")
    if name == "dask_cluster":
        pytest.importorskip("distributed", reason="pip install 'dequnmix-jax[dask]'")
    if find_spec("rasterio") is None:  # the official files are TIFF: without it the shipped scene is read
        monkeypatch.delenv("DEQUNMIX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    setup, settings, *rest = code(name)
    shorter = settings
    for setting, value in SHORTER.items():
        shorter = re.sub(rf"^{setting} = \d+", f"{setting} = {value}", shorter, flags=re.MULTILINE)
    assert shorter != settings or not re.search(r"^(epochs|steps) = ", settings, re.MULTILINE)
    space = {"__name__": "__main__"}
    # A reader has the defaults of JAX, not the strict ones of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for text in (setup, shorter, *rest):
            shown = execute(text, space)
        globals()[f"check_{name}"](space)
    assert isinstance(shown, Figure)
    assert any(axes.images or axes.lines for axes in shown.axes) and any(axes.get_xlabel() for axes in shown.axes)
    shown.savefig(io.BytesIO())
    assert not list(tmp_path.iterdir())  # a notebook leaves no file behind


def test_there_are_no_other_notebooks():
    assert {path.name for path in FOLDER.iterdir() if path.suffix} == {f"{name}.ipynb" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stripped_and_says_what_it_is_for(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", item) for item in ids)
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("code", "markdown") and cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown" and notebook["cells"][-1]["cell_type"] == "code"
    assert "you will be able to" in "".join(first["source"]) and "pip install" in "".join(first["source"])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_public_names_alone(name):
    modules = {}
    for text in code(name):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                ours = [(alias.name, alias.asname) for alias in node.names if alias.name.startswith("dequnmix_jax")]
                assert ours in ([], [("dequnmix_jax", "dq")])
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dequnmix_jax"):
                assert {alias.name for alias in node.names} <= MODULES.get(node.module, set())
                modules |= {alias.name: import_module(f"{node.module}.{alias.name}") for alias in node.names}
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "dq":
                    assert node.attr in dq.__all__, node.attr
                if node.value.id in modules:
                    assert not node.attr.startswith("_") and getattr(modules[node.value.id], node.attr).__doc__

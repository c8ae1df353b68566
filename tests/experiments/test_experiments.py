"""Each experiment runs from end to end in its quick form and writes its table."""

import ast
import csv
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.ops import convolution
from experiments.comparison import (
    apex,
    closed_forms,
    coverage,
    hysu,
    nmf,
    nonlinear_methods,
    parity,
    patches,
    plug_and_play_noise,
    published_synthetic,
    relab,
    samson,
    start_coverage,
    sunsal_tv,
)
from experiments.comparison import synthetic as comparison_synthetic
from experiments.defaults import (
    admm_penalty,
    count,
    initialisation,
    minimum_volume,
    recipe_limits,
    report_rules,
    resting_endmembers,
    selection_weights,
    soft_sum,
    stages,
    training,
)
from experiments.equilibrium import (
    certificate,
    gradient_error,
    memory,
    mixing_models,
    precision,
    remedies,
    residual_curves,
    schedule,
    solver_choices,
)
from experiments.operator import prior_texture, shipped, spatial
from experiments.robustness import large_scene, mutants, resume_fit, resume_tiles
from experiments.shared import results_table, trained_maps

ROOT = Path(__file__).parents[2]

COLUMNS = {
    admm_penalty: "geometric mean",
    closed_forms: "msad",
    resting_endmembers: "armse",
    certificate: "certified steps",
    selection_weights: "worst",
    training: "worst of msad",
    plug_and_play_noise: "armse",
    nmf: "msad",
    nonlinear_methods: "armse_blind",
    mixing_models: "armse",
    gradient_error: "error",
    large_scene: "resident GB",
    memory: "temporary MB",
    minimum_volume: "scenes",
    mutants: "seconds",
    patches: "msad",
    precision: "error of the state",
    recipe_limits: "soft_smoothed",
    remedies: "armse",
    report_rules: "number",
    residual_curves: "relative_residual",
    resume_fit: "kills",
    resume_tiles: "kill",
    schedule: "steps",
    soft_sum: "aRMSE of FCLS",
    solver_choices: "smallest",
    stages: "all",
    initialisation: "msad",
    apex: "armse_unit",
    hysu: "area_error",
    published_synthetic: "sad_5",
    relab: "psnr",
    samson: "sad_3",
    comparison_synthetic: "pooled",
    prior_texture: "ratio",
    shipped: "aRMSE",
    spatial: "geometric mean",
    start_coverage: "width",
    count: "scenes",
    coverage: "scene: width",
}
"""Experiments, and a column of each that must be positive."""
SLOW = {
    count, coverage, large_scene, mixing_models, nonlinear_methods, prior_texture, report_rules, resume_fit, shipped,
    spatial, stages, start_coverage,
}  # fmt: skip
"""Six processes that compile take a minute, and two compiled trainings with every stage another; so does the training
of the spatial operator, with the generator of its scenes, which takes most of the time of the rules of the report. The
nonlinear methods have tests of their own."""
NO_QUICK_FORM = {"experiments.comparison.fixed_hysu", "experiments.shared.kinds"}
"""A table of HySU's targets, which need its file (`cli.test_cli` has their score), and a part of other experiments."""
FIGURES = (gradient_error, memory, residual_curves)


def name(module):
    return module.__name__.rsplit(".", 1)[-1]


@pytest.mark.parametrize(
    "experiment", [pytest.param(e, marks=pytest.mark.slow) if e in SLOW else e for e in COLUMNS], ids=name
)
def test_quick_form_writes_a_table_with_its_origin(experiment, tmp_path, request):
    if experiment in (gradient_error, memory, precision, residual_curves):
        request.getfixturevalue("data_dir")
    target = experiment.main(experiment.QUICK, tmp_path)
    text = target.read_text(encoding="utf-8")
    assert f"python -m {experiment.__name__}" in text
    assert "jax" in text and "commit" in text and "cores" in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(float(row[COLUMNS[experiment]]) > 0 for row in rows)
    assert target.with_suffix(".png").exists() == (experiment in FIGURES)
    if experiment is closed_forms:  # the reference is named, and the promise of every training step is kept
        assert all(row["reference"] for row in rows)
        ours = next(row for row in rows if row["method"] == "DEQ-Unmix, as found")
        assert float(ours["failed"]) == 0 and float(ours["residual"]) <= 1e-3


def test_every_experiment_has_a_test_of_its_quick_form():
    """Each module with `QUICK` is imported by a test, so that none stops working unnoticed."""
    imported = set()
    for file in ROOT.glob("tests/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("experiments", "benchmarks"):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    files = sorted([*ROOT.glob("experiments/**/*.py"), *ROOT.glob("benchmarks/*.py")])
    quick = [file for file in files if "\nQUICK = " in file.read_text(encoding="utf-8")]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in quick}
    assert names - imported == NO_QUICK_FORM


def test_the_loss_of_the_figures_is_that_of_training():
    sample = synthetic.linear_scene(jax.random.key(0), (5, 6), synthetic.spectra(jax.random.key(1), 3, 12), 30.0)
    config = dq.Model(gradient=dq.equilibrium.Energy(width=2))
    params = dq.init(jax.random.key(2), sample.cube, config, endmembers=0.9 * sample.endmembers)

    def solve(theta, start):
        return dq.fixed_point(fixed_point_map.state_map(config), config.forward, config.backward, theta, start)[0]

    ours = trained_maps.objective(params, sample.cube, config, solve)
    np.testing.assert_allclose(ours, dq.training.loss(params, sample.cube, config, dq.Rates())[0], rtol=1e-5)


def test_operands_are_rounded_to_nearest():
    x = jnp.asarray([1.0, 1 + 2**-11, 1 + 2**-10, 1 + 2**-11 + 2**-20, -3.3, jnp.inf, jnp.nan], jnp.float32)
    expected = [1.0, 1.0, 1 + 2**-10, 1 + 2**-10, -3.30078125, np.inf, np.nan]
    np.testing.assert_array_equal(precision.rounded(x, 10), np.asarray(expected, np.float32))


@pytest.mark.parametrize(("channels", "parts"), [(1, 2), (3, 3)])
def test_convolutions_and_their_derivatives_round_their_operands(channels, parts):
    """Both forms, of few channels (but for the gradient in w) and of many, and only inside the context."""
    x, g = (jax.random.normal(jax.random.key(k), (5, 6, c)) for k, c in ((0, channels), (1, 2)))
    w = jax.random.normal(jax.random.key(2), (3, 3, channels, 2))
    rounding = functools.partial(precision.rounded, bits=7)

    def run(x, w, g):
        y, back = jax.vjp(convolution.convolve, x, w)
        return (y, *back(g))[:parts]

    exact = jax.jit(run)(x, w, g)
    with convolution.rounded_operands(rounding):
        coarse = jax.jit(run)(x, w, g)
    for a, b, c, d in zip(coarse, run(*map(rounding, (x, w, g))), exact, jax.jit(run)(x, w, g), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_array_equal(c, d)
        assert np.abs(a - c).max() > 1e-4


def test_sparse_unmixing_of_dc1(data_dir, tmp_path):
    with sunsal_tv.main(sunsal_tv.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["SRE dB"]) > float(rows[0]["SRE dB"]) > 0
    assert all(row["converged"] == "True" for row in rows)


def test_parity_reads_the_table_of_samson(data_dir, tmp_path):
    with pytest.raises(dq.InputError, match=r"Run experiments.comparison.samson first"):
        parity.main(parity.Settings(seeds=0), tmp_path)
    fields = ("scene", "reference", "method", "armse", "armse_sd", "pooled", "pooled_sd", "msad", "msad_sd")
    rows = [
        ("samson", who, "DeepTrans", 0.08 + x, 0.01, 0.09, 0.01, 0.05, 0.01) for who, x in (("Zhu", 1), ("Rasti", 0))
    ]
    results_table.write_csv(tmp_path / "table_samson.csv", [dict(zip(fields, row, strict=True)) for row in rows])
    with parity.main(parity.Settings(seeds=0), tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = {(row["method"], row["figure"]): row for row in csv.DictReader(file)}
    found = {figure: row for (method, figure), row in rows.items() if method == "DeepTrans"}
    # The published map of DeepTrans has an aRMSE of 0.0775 (measured from it once, by hand).
    np.testing.assert_allclose(float(found["armse"]["published"]), 0.0775, atol=1e-4)
    np.testing.assert_allclose(float(found["armse"]["sds"]), 0.25, atol=0.01)
    program = rows["DeepTrans, program, Rasti", "armse"]
    assert float(program["published"]) == 0.0822 and float(program["ours"]) == 0.08

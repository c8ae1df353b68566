"""Each experiment runs from end to end in its quick form and writes its table."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import model, synthetic
from experiments import (
    admm_penalty,
    blind_table,
    certificate_table,
    choose_rest,
    choose_start,
    choose_training,
    denoising,
    equilibria,
    factorisation,
    gradient_error,
    large_scene,
    memory,
    minimum_volume,
    mutants,
    parity,
    patches,
    precision,
    recipe_limits,
    remedies,
    residual_curves,
    resume,
    schedule,
    soft_sum,
    solver_choices,
    stages,
    starts,
    sunsal_tv,
    table_apex,
    table_hysu,
    table_known,
    table_relab,
    table_samson,
    table_synthetic,
    tables,
)

COLUMNS = {
    admm_penalty: "geometric mean",
    blind_table: "msad",
    choose_rest: "armse",
    certificate_table: "certified steps",
    choose_start: "worst",
    choose_training: "worst of msad",
    denoising: "armse",
    factorisation: "msad",
    gradient_error: "error",
    large_scene: "resident GB",
    memory: "temporary MB",
    minimum_volume: "scenes",
    mutants: "seconds",
    patches: "msad",
    precision: "error of the state",
    recipe_limits: "soft_smoothed",
    remedies: "armse",
    residual_curves: "relative_residual",
    resume: "kill",
    schedule: "steps",
    soft_sum: "aRMSE of FCLS",
    solver_choices: "smallest",
    stages: "all",
    starts: "msad",
    table_apex: "armse_unit",
    table_hysu: "area_error",
    table_known: "sad_5",
    table_relab: "psnr",
    table_samson: "sad_3",
    table_synthetic: "pooled",
}
"""Experiments, and a column of each that must be positive."""
SLOW = {large_scene, stages}
"""Six processes, each of which compiles: a minute; and two trainings with every stage, compiled: another."""
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
    if experiment is blind_table:  # the reference is named, and the promise of every training step is kept
        assert all(row["reference"] for row in rows)
        ours = next(row for row in rows if row["method"] == "DEQ-Unmix, as found")
        assert float(ours["failed"]) == 0 and float(ours["residual"]) <= 1e-3


def test_the_loss_of_the_figures_is_that_of_training():
    sample = synthetic.linear_scene(jax.random.key(0), (5, 6), synthetic.spectra(jax.random.key(1), 3, 12), 30.0)
    config = dq.Model(gradient=dq.Energy(width=2))
    params = dq.init(jax.random.key(2), sample.cube, config, endmembers=0.9 * sample.endmembers)

    def solve(theta, start):
        return dq.fixed_point(model.state_map(config), config.forward, config.backward, theta, start)[0]

    ours = equilibria.objective(params, sample.cube, config, solve)
    np.testing.assert_allclose(ours, dq.loss(params, sample.cube, config, dq.Rates())[0], rtol=1e-5)


def test_operands_are_rounded_to_nearest():
    x = jnp.asarray([1.0, 1 + 2**-11, 1 + 2**-10, 1 + 2**-11 + 2**-20, -3.3, jnp.inf, jnp.nan], jnp.float32)
    expected = [1.0, 1.0, 1 + 2**-10, 1 + 2**-10, -3.30078125, np.inf, np.nan]
    np.testing.assert_array_equal(precision.rounded(x, 10), np.asarray(expected, np.float32))


def test_sparse_unmixing_of_dc1(data_dir, tmp_path):
    with sunsal_tv.main(sunsal_tv.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["SRE dB"]) > float(rows[0]["SRE dB"]) > 0
    assert all(row["converged"] == "True" for row in rows)


def test_parity_reads_the_table_of_samson(data_dir, tmp_path):
    with pytest.raises(dq.InputError, match=r"Run experiments.table_samson first"):
        parity.main(parity.Settings(), tmp_path)
    fields = ("scene", "reference", "method", "armse", "armse_sd", "pooled", "pooled_sd", "msad", "msad_sd")
    rows = [
        ("samson", who, "DeepTrans", 0.08 + x, 0.01, 0.09, 0.01, 0.05, 0.01) for who, x in (("Zhu", 1), ("Rasti", 0))
    ]
    tables.write_csv(tmp_path / "table_samson.csv", [dict(zip(fields, row, strict=True)) for row in rows])
    with parity.main(parity.Settings(), tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        found = {row["figure"]: row for row in csv.DictReader(file)}
    # The published map of DeepTrans has an aRMSE of 0.0775 (measured from it once, by hand).
    np.testing.assert_allclose(float(found["armse"]["published"]), 0.0775, atol=1e-4)
    np.testing.assert_allclose(float(found["armse"]["sds"]), 0.25, atol=0.01)

"""The table of closed forms and `dequnmix score` give one figure for one result."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.cli import main
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import Cone, Simplex
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.types import Estimate
from experiments.comparison import closed_forms

LEVELS = jnp.asarray([[0.9], [0.4], [0.1]])  # materials of several levels: fractions depend on the convention


@pytest.mark.parametrize("constraint", [Cone(), Simplex()], ids=lambda constraint: constraint.word)
@pytest.mark.parametrize("reference", ["reflectance", "scaled"])
def test_the_table_and_the_command_agree(tmp_path, capsys, constraint, reference):
    E = LEVELS * mixing.scale_to_unit_maximum(synthetic.spectra(jax.random.key(1), 3, 24))
    sample = synthetic.linear_scene(jax.random.key(2), (12, 11), E, 35.0, length=2.0)
    A = sample.abundances
    if reference == "scaled":
        A, _ = mixing.convert(A, LEVELS[:, 0], "scaled")
    start = jnp.maximum(dq.endmembers.vca(jax.random.key(0), sample.cube, 3), 1e-5)[jnp.asarray([2, 0, 1])]
    found = closed_forms.closed_form(constraint)(jax.random.key(0), sample.cube, start)
    truth = Truth(np.asarray(A), np.asarray(E))
    table = closed_forms.figures(found, sample.cube, truth)

    spectra = mixing.scale_to_unit_maximum(start) if isinstance(constraint, Cone) else start
    estimate = Estimate(found.abundances, spectra, found.brightness, found.abundances)
    dq.write(tmp_path / "out", jax.tree.map(np.asarray, estimate), dq.Scene(np.asarray(sample.cube)))
    np.savez(tmp_path / "truth.npz", abundances=A, endmembers=E, cube=sample.cube)
    assert main.main(["score", str(tmp_path / "out"), str(tmp_path / "truth.npz"), "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)
    assert errors["convention"]["reference"] == reference
    np.testing.assert_allclose(table, [errors[name] for name in ("armse", "pooled_rmse", "msad")], rtol=1e-4)
    assert errors["armse"] < 0.1
    converted = (reference == "scaled") != isinstance(constraint, Cone)
    assert errors["convention"]["converted"] == converted
    assert not converted or errors["as_they_are"]["armse"] > 2 * errors["armse"]

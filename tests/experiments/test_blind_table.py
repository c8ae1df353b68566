"""The table of closed forms and `dequnmix score` give one figure for one result."""

import json

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import main
from dequnmix_jax.equilibrium import Cone, Simplex
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.types import Estimate
from experiments.comparison import closed_forms

LEVELS = np.array([0.9, 0.4, 0.1], np.float32)  # materials of several levels: fractions depend on the convention


def normal(x):
    return (x / x.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("constraint", [Cone(), Simplex()], ids=lambda constraint: constraint.word)
@pytest.mark.parametrize("reference", ["reflectance", "scaled"])
def test_the_table_and_the_command_agree(tmp_path, capsys, constraint, reference):
    draw = np.random.default_rng(0)
    x = np.linspace(0, 1, 24)
    shapes = np.stack([0.2 + np.exp(-((x - c) ** 2) / 0.02) for c in (0.1, 0.5, 0.9)])
    U = (shapes / shapes.max(axis=1, keepdims=True)).astype(np.float32)
    shares = normal(draw.dirichlet(np.full(3, 0.5), (12, 11)))
    E = LEVELS[:, None] * U
    cube = (shares @ E + draw.normal(0, 2e-3, (12, 11, 24))).astype(np.float32)
    A = normal(shares * LEVELS) if reference == "scaled" else shares
    order = [2, 0, 1]
    wrong = np.abs(shares + draw.normal(0, 0.02, shares.shape))[..., order]
    states = wrong * LEVELS[order] if isinstance(constraint, Cone) else wrong
    light = (states if isinstance(constraint, Cone) else np.ones_like(states) / 3).sum(-1).astype(np.float32)
    # A method of the table may hold spectra of any level beside fractions of spectra of maximum one.
    found = closed_forms.Estimate(normal(states), E[order], light, constraint)
    table = closed_forms.figures(found, cube, Truth(A, E))

    spectra = U[order] if isinstance(constraint, Cone) else E[order]
    dq.write(tmp_path / "out", Estimate(normal(states), spectra, light, normal(states)), dq.Scene(cube))
    np.savez(tmp_path / "truth.npz", abundances=A, endmembers=E, cube=cube)
    assert main.main(["score", str(tmp_path / "out"), str(tmp_path / "truth.npz"), "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)
    converted = (reference == "scaled") != isinstance(constraint, Cone)
    assert errors["convention"]["reference"] == reference and errors["convention"]["converted"] == converted
    np.testing.assert_allclose(table, [errors[name] for name in ("armse", "pooled_rmse", "msad")], rtol=1e-4, atol=1e-6)
    assert 0.005 < errors["armse"] < 0.06
    assert not converted or errors["as_they_are"]["armse"] > 2 * errors["armse"]

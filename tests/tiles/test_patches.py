"""Training on patches: no patch sees another, and the unit is that of the whole scene."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, unit
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import source_of
from dequnmix_jax.tiles import patches, survey
from dequnmix_jax.training import checkpoint

H, W, B, R, S = 22, 19, 11, 3, 6
CONFIG = dq.Model(gradient=dq.equilibrium.Energy(width=4))


def scene(mask=None):
    rng = np.random.default_rng(0)
    cube = rng.dirichlet(np.ones(R), (H, W)) @ rng.uniform(0.1, 0.9, (R, B)) + 0.01 * rng.uniform(size=(H, W, B))
    return Scene(cube.astype(np.float32), mask=mask, wavelengths=np.linspace(400, 2400, B), name="s")


def test_patches_are_windows_of_the_scene_and_none_lies_over_another():
    whole = scene()
    drawn = patches.draw(jax.random.key(0), whole, 7, S, CONFIG)
    assert len(drawn.places) == 7 and drawn.shape == (H, W, B) and drawn.valid == H * W
    seen = np.zeros((H, W), int)
    for place, (top, left) in zip(drawn.places, drawn.corners, strict=True):
        seen[place] += 1
        part = drawn.scene.cube[top : top + S, left : left + S]
        np.testing.assert_array_equal(part, whole.cube[place])
        assert drawn.scene.mask[top : top + S, left : left + S].all()
    assert seen.max() == 1 and drawn.scene.mask.sum() == 7 * S * S
    assert not drawn.scene.cube[~drawn.scene.mask].any()
    np.testing.assert_allclose(drawn.whole.scale, unit(jnp.asarray(whole.cube)), rtol=1e-6)
    assert (drawn.sample[:, None] == whole.cube.reshape(-1, B)[None, :50]).all(-1).any()
    again = patches.draw(jax.random.key(0), source_of(whole), 7, S, CONFIG)
    np.testing.assert_array_equal(again.scene.cube, drawn.scene.cube)
    other = patches.draw(jax.random.key(1), whole, 7, S, CONFIG)
    assert other.places != drawn.places


@pytest.mark.parametrize(
    "gradient", [dq.equilibrium.Energy(width=4), dq.equilibrium.Residual(width=4)], ids=lambda g: g.word
)
def test_no_patch_sees_another(gradient):
    config = dq.Model(gradient=gradient, prox=dq.equilibrium.Conv(width=4))
    drawn = patches.draw(jax.random.key(0), scene(), 4, S, config)
    cube, mask = jnp.asarray(drawn.scene.cube), jnp.asarray(drawn.scene.mask)
    params = dq.init(jax.random.key(1), cube, config, endmembers=cube[0, :R], mask=mask)
    draw = jax.random.split(jax.random.key(2), len(jax.tree.leaves(params)))
    noisy = [
        leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(jax.tree.leaves(params), draw, strict=True)
    ]
    params = jax.tree.unflatten(jax.tree.structure(params), noisy)
    state = jax.random.uniform(jax.random.key(3), (*cube.shape[:2], R)) * mask[..., None].astype(jnp.float32)
    pools = (jnp.full(4, 0.3), jnp.full(4, 0.7)) if isinstance(gradient, dq.equilibrium.Energy) else None
    if isinstance(
        gradient, dq.equilibrium.Residual
    ):  # it pools the state, so that only without attention the patches are apart
        config = dq.Model(gradient=replace(gradient, attention=False), prox=dq.equilibrium.Conv(width=4))
        params = dq.init(jax.random.key(1), cube, config, endmembers=cube[0, :R], mask=mask)
    whole = Scenewide(drawn.whole.scale, pools)
    f = jax.jit(fixed_point_map.state_map(config))
    factor = jax.jit(fixed_point_map.factor, static_argnums=2)
    together = f(factor(params, cube, config, mask, None, whole), state)
    for top, left in drawn.corners:
        part = np.s_[top : top + S, left : left + S]
        alone = f(factor(params, cube[part], config, mask[part], None, whole), state[part])
        np.testing.assert_allclose(together[part], alone, atol=2e-6)


def test_the_unit_of_the_whole_scene_is_that_of_training():
    drawn = patches.draw(jax.random.key(0), scene(), 2, S, CONFIG)
    cube, mask = jnp.asarray(drawn.scene.cube), jnp.asarray(drawn.scene.mask)
    params = dq.init(jax.random.key(1), cube, CONFIG, endmembers=cube[0, :R], mask=mask)
    value = jax.jit(dq.training.loss, static_argnums=2)
    plain = value(params, cube, CONFIG, mask=mask, whole=Scenewide(unit(cube, mask)))[0]
    np.testing.assert_allclose(plain, value(params, cube, CONFIG, mask=mask)[0], rtol=1e-6)
    params = params | {"network": jax.tree.map(lambda leaf: leaf + 0.1, params["network"])}
    twice = Scenewide(2 * unit(cube, mask))
    assert abs(float(value(params, cube, CONFIG, mask=mask, whole=twice)[0] / plain) - 1) > 1e-3


def test_masked_scenes_small_scenes_and_what_cannot_be_drawn():
    mask = np.zeros((H, W), bool)
    mask[:S, :S] = True
    drawn = patches.draw(jax.random.key(0), scene(), 99, 50, CONFIG)
    assert drawn.scene.cube.shape == (H, W, B) and "1 half valid patch, of 99" in drawn.scene.notes[-1]
    few = patches.draw(jax.random.key(3), scene(mask), 5, 2, CONFIG)
    assert all(mask[place].mean() >= 0.5 for place in few.places)
    assert few.valid == S * S and len(few.sample) < 20_000 * 0.2
    mask[:] = False
    mask[0, 0] = True
    with pytest.raises(InputError, match=r"expected one\. Ask for smaller ones"):
        patches.draw(jax.random.key(0), scene(mask), 5, S, CONFIG)
    with pytest.raises(InputError, match="0 patches of 3 x 3"):
        patches.draw(jax.random.key(0), scene(), 0, 3, CONFIG)
    with pytest.raises(InputError, match="one of them"):
        dq.tiles.fit_patches(jax.random.key(0), scene(), CONFIG, patches=2, size=3)


def test_a_scene_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "s.npy"
    np.save(path, scene().cube)
    scan = survey.scan

    def grows(seen):
        found = scan(seen)
        with path.open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(patches.survey, "scan", grows)
    with pytest.raises(InputError, match="was changed while it was read"):
        patches.draw(jax.random.key(0), dq.io.open_source(path), 2, S, CONFIG)


def test_fit_on_patches_by_the_command_line_and_in_python(tmp_path, capsys):
    np.save(tmp_path / "s.npy", scene().cube)
    (tmp_path / "c.toml").write_text("[model]\nwidth = 4\n[training]\nepochs = 2\n")
    words = [
        "fit",
        str(tmp_path / "s.npy"),
        "--endmembers",
        str(R),
        "--config",
        str(tmp_path / "c.toml"),
        "--seed",
        "3",
    ]
    words += ["--patches", "4", "--patch-size", str(S), "-o", str(tmp_path / "m.npz")]
    assert main.main(words) == 0, capsys.readouterr().err
    params, metadata = checkpoint.load(tmp_path / "m.npz")
    assert metadata["scene"]["shape"] == [H, W, B] and metadata["scene"]["patches"] == 4
    assert {path.name for path in tmp_path.iterdir()} == {"s.npy", "c.toml", "m.npz"}
    training, rates = dq.RECOMMENDED
    choices = dq.Training(**{**training.__dict__, "epochs": 2})
    source = dq.io.open_source(tmp_path / "s.npy")
    ours, history = dq.tiles.fit_patches(jax.random.key(3), source, CONFIG, choices, rates, patches=4, size=S, count=R)
    assert history.loss.shape == (2,) and np.isfinite(history.loss).all()
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (
        main.main(["unmix", str(tmp_path / "s.npy"), str(tmp_path / "m.npz"), "--no-plots", "-o", str(tmp_path / "o")])
        == 0
    )

"""Many scenes and many devices give the results of one scene on one device."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io import formats
from dequnmix_jax.tiles import grid, survey
from dequnmix_jax.tiles import solve as tiles_solve

ENERGY = dq.equilibrium.Energy(width=8)
CONFIG = dq.Model(gradient=ENERGY)
TRAINING = dq.Training(epochs=6, holdout=0.5, subspace="signal", endmembers_first=0.5)
RATES = dq.RECOMMENDED[1]


def scene(key, height=12, width=10, bands=20, count=3):
    spectra, mix, noise = jax.random.split(key, 3)
    sample = synthetic.linear_scene(mix, (height, width), synthetic.spectra(spectra, count, bands), brightness=0.1)
    return synthetic.add_noise(noise, sample.cube, 30.0)


def mesh(devices=2):
    return jax.make_mesh((devices,), ("scenes",), devices=jax.devices()[:devices])


def fit(key, cube, mask=None, **more):
    return dq.fit(key, cube, CONFIG, TRAINING, RATES, count=3, mask=mask, **more)


def close(a, b, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


SIDE_BY_SIDE = jax.jit(jax.vmap(fit))  # compiled once for all that follows


def four():
    """Return keys, cubes and masks of four scenes of different size."""
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = ((12, 10), (9, 12), (12, 12), (10, 11))
    cubes = [scene(key, *size).astype(jnp.float64) for key, size in zip(keys, sizes, strict=True)]
    return keys, *dq.parallel.stack(cubes), cubes


def test_stacked_scenes_are_trained_as_if_alone(x64):
    """Padding changes nothing but rounding, for scenes of different sizes in one batch."""
    keys, cubes, masks, alone = four()
    params, history = SIDE_BY_SIDE(keys, cubes, masks)
    single, told = jax.jit(fit)(keys[0], alone[0])
    close(jax.tree.map(lambda x: x[0], params), single, 1e-7)
    np.testing.assert_allclose(history.loss[0], told.loss, rtol=1e-8)
    np.testing.assert_array_equal(history.steps[0], told.steps)


def test_a_scene_of_nan_leaves_the_others_alone(x64):
    keys, cubes, masks, _ = four()
    clean, spoilt = SIDE_BY_SIDE(keys, cubes, masks), SIDE_BY_SIDE(keys, cubes.at[1, 2, 3].set(jnp.nan), masks)
    close(*(jax.tree.map(lambda x: x[jnp.asarray([0, 2, 3])], found) for found in (clean, spoilt)), 0)
    assert not jnp.isfinite(spoilt[1].loss[1]).any() and jnp.isfinite(spoilt[1].loss[0]).all()


def test_a_batch_on_a_cpu_is_the_scenes_one_by_one(x64):
    """The same bits as one call a scene, from threads; and inside jit, to rounding, one after the other."""
    keys, cubes, masks, _ = four()
    batch = dq.parallel.over_scenes(unmix_start)
    found = batch(keys, cubes, masks)
    alone = jax.jit(unmix_start)
    each = [alone(keys[i], cubes[i], masks[i]) for i in range(4)]
    close(found, jax.tree.map(lambda *x: jnp.stack(x), *each), 0)
    close(jax.jit(batch)(keys, cubes, masks), found, 1e-7)
    with pytest.raises(InputError, match=r"leading axes of \[3, 4\]"):
        batch(keys[:3], cubes, masks)
    with pytest.raises(InputError, match="close over"):
        batch(keys[0], cubes, masks)


def unmix_start(key, cube, mask):
    """Unmix one scene by the analytic model, from VCA."""
    endmembers = jnp.maximum(dq.endmembers.vca(key, cube, 3, mask=mask), 0)
    config = dq.Model(gradient=dq.equilibrium.Analytic())
    params = dq.init(key, cube, config, endmembers=endmembers, mask=mask)
    return dq.unmix(params, cube, config, mask=mask)[0].abundances


def loops(text):
    """Return the parts of a compiled program that its loops run."""
    bodies = re.findall(r"(?:body|condition)=%?([\w.\-]+)", text)
    parts = re.split(r"\n(?=[%\w][^\n]*\{\n)", text)
    named = {part.split()[0].lstrip("%"): part for part in parts if part.strip()}
    return [named[body] for body in bodies if body in named]


def test_devices_side_by_side_do_not_wait_for_each_other(x64):
    *arguments, _ = four()
    spread = jax.jit(dq.parallel.over_scenes(fit, mesh())).lower(*arguments).compile()
    text = spread.as_text()
    assert loops(text) and not re.search(r"all-reduce|all-gather|collective|all-to-all", text)
    close(spread(*arguments), SIDE_BY_SIDE(*arguments), 1e-7)
    with pytest.raises(InputError, match="a multiple of the devices"):
        dq.parallel.over_scenes(fit, mesh())(*(argument[:3] for argument in arguments))


def test_one_network_for_many_scenes(x64):
    """Two devices with two scenes each train the same network as one device with four."""
    *arguments, _ = four()
    one, two = partial(fit, shared="all"), partial(fit, shared=dq.parallel.shared(mesh()))
    spread = jax.jit(dq.parallel.over_scenes(two, mesh())).lower(*arguments).compile()
    inside = "".join(loops(spread.as_text()))
    assert "all-reduce" in inside  # of the gradient, once a step
    found, alone = spread(*arguments), jax.jit(jax.vmap(one, axis_name="all"))(*arguments)
    close(found[0], alone[0], 1e-5)
    for leaf in jax.tree.leaves(found[0]["network"]):
        np.testing.assert_array_equal(leaf, jnp.broadcast_to(leaf[:1], leaf.shape))
    single, _ = SIDE_BY_SIDE(*arguments)
    assert jnp.abs(single["network"]["first"][0] - found[0]["network"]["first"][0]).max() > 1e-4
    impatient = dq.Training(patience=3)
    with pytest.raises(InputError, match="no early stop"):
        jax.vmap(lambda k, c: dq.fit(k, c, CONFIG, impatient, count=3, shared="all"), axis_name="all")(*arguments[:2])


def trained(key, cube, gradient, constraint):
    """Return a model with a network that has an effect, without training it."""
    config = dq.Model(gradient=gradient, constraint=constraint, forward=dq.Solver(tolerance=1e-9))
    params = dq.init(key, cube, config, endmembers=jnp.maximum(dq.endmembers.vca(key, cube, 3), 0.01))
    if isinstance(gradient, dq.equilibrium.Energy):
        params["network"]["energy"]["gain"] = jnp.full(8, 0.3)
        last = params["network"]["net"]["last"]
        last["kernel"] = 0.2 * jax.random.normal(key, last["kernel"].shape)
    return params, config


@pytest.mark.parametrize(
    ("gradient", "constraint"),
    [
        (ENERGY, dq.equilibrium.Cone()),
        (ENERGY, dq.equilibrium.Simplex()),
        (dq.equilibrium.Analytic(), dq.equilibrium.Cone()),
    ],
    ids=lambda choice: choice.word,
)
@pytest.mark.parametrize("devices", [2, 8])
def test_strips_of_one_scene(x64, gradient, constraint, devices):
    key = jax.random.key(3)
    cube = scene(key, 117, 5).astype(jnp.float64)
    mask = jnp.ones(cube.shape[:2], bool).at[20:23, 4].set(False)
    params, config = trained(key, cube, gradient, constraint)
    halo = 0 if isinstance(gradient, dq.equilibrium.Analytic) else 117 // devices
    whole, _ = jax.jit(dq.unmix, static_argnums=2)(params, cube, config, mask=mask)
    strips, trace = jax.jit(
        lambda p, c, m: dq.parallel.unmix_in_strips(p, c, config, mesh(devices), halo=halo, mask=m)
    )(params, cube, mask)
    assert trace.converged and whole.abundances.shape == strips.abundances.shape
    close(strips, whole, 1e-5)
    if isinstance(gradient, dq.equilibrium.Energy):  # and the network counts
        plain, _ = dq.unmix(
            params, cube, dq.Model(gradient=dq.equilibrium.Analytic(), constraint=constraint), mask=mask
        )
        assert jnp.abs(plain.abundances - whole.abundances).max() > 0.005


def test_tiles_over_devices():
    """Stacked tiles of one shape are solved together; none waits for another."""
    key = jax.random.key(3)
    cube = scene(key, 24, 20)
    params, config = trained(key, cube, ENERGY, dq.equilibrium.Cone())
    config = replace(config, forward=dq.Solver(tolerance=2e-6, max_steps=1000))
    seen = survey.view(formats.open_source(np.asarray(cube)))
    found = survey.scan(seen)
    whole = tiles_solve.statistics(params, seen, found, config, (12, 10))
    plan = grid.plan(24, 20, 12, 10, 10)
    tiles, cubes, masks = zip(*tiles_solve.read_ahead(seen, plan.tiles, plan.shape), strict=True)
    solve = dq.parallel.over_scenes(
        lambda cube, mask: tiles_solve.solve_tile(params, cube, mask, whole, config), mesh()
    )
    arguments = jnp.stack(cubes), jnp.stack(masks)
    program = jax.jit(solve).lower(*arguments).compile()
    assert not re.search(r"all-reduce|all-gather|collective|all-to-all", program.as_text())
    solved = program(*arguments)
    assert solved.trace.converged.all()
    expected, _ = jax.jit(dq.unmix, static_argnums=2)(params, cube, config)
    for number, tile in enumerate(tiles):
        inside = solved.abundances[number][tile.inside]
        np.testing.assert_allclose(inside, expected.abundances[tile.core], atol=1e-4)


def test_gradients_of_strips(x64):
    key = jax.random.key(3)
    cube = scene(key, 24, 9).astype(jnp.float64)
    params, config = trained(key, cube, ENERGY, dq.equilibrium.Cone())
    target = jax.random.normal(key, (24, 9, 3))
    whole = jax.grad(lambda p, c: jnp.mean(target * dq.unmix(p, c, config)[0].abundances), argnums=(0, 1))
    strips = jax.grad(
        lambda p, c: jnp.mean(target * dq.parallel.unmix_in_strips(p, c, config, mesh(), halo=12)[0].abundances),
        argnums=(0, 1),
    )
    a, b = jax.jit(whole)(params, cube), jax.jit(strips)(params, cube)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * float(jnp.abs(x).max()) + 1e-12)


def test_bad_input_is_named():
    cube = scene(jax.random.key(0))
    with pytest.raises(InputError, match="no scene"):
        dq.parallel.stack([])
    with pytest.raises(InputError, match="20 bands of float32 and 21 bands"):
        dq.parallel.stack([cube, jnp.zeros((3, 3, 21))])
    with pytest.raises(InputError, match="one mask, or None"):
        dq.parallel.stack([cube], [None, None])
    assert dq.parallel.alike([cube, cube[..., :9], cube], [3, 3, 3]) == {(20, 3): [0, 2], (9, 3): [1]}
    params, config = trained(jax.random.key(0), cube, ENERGY, dq.equilibrium.Cone())
    with pytest.raises(InputError, match="halo is 40"):
        dq.parallel.unmix_in_strips(params, cube, config, mesh(), halo=40)
    with pytest.raises(InputError, match="pools over all pixels"):
        dq.parallel.unmix_in_strips(params, cube, dq.Model(gradient=dq.equilibrium.Residual()), mesh(), halo=3)
    with pytest.raises(InputError, match="expected one"):
        dq.parallel.over_scenes(fit, jax.make_mesh((1, 2), ("a", "b")))


def test_a_cube_may_be_stored_in_half_precision():
    """Every function reads it as the same numbers in float32, and computes in float32."""
    key, dtype = jax.random.key(3), jnp.bfloat16
    half = scene(key).astype(dtype)
    full = half.astype(jnp.float32)
    params, config = trained(key, full, ENERGY, dq.equilibrium.Cone())
    E = params["endmembers"]
    for function in (
        lambda cube: dq.unmix(params, cube, config),
        lambda cube: jax.grad(lambda c: jnp.sum(dq.unmix(params, c, config)[0].abundances[..., 0]))(cube),
        lambda cube: dq.abundances.fcls(cube, E),
        lambda cube: dq.abundances.scaled_nnls(cube, E),
        lambda cube: dq.endmembers.vca(key, cube, 3),
        lambda cube: dq.abundances.sunsal(cube, E, 1e-3)[0],
    ):
        a, b = jax.jit(function)(half), jax.jit(function)(full)
        if jax.tree.leaves(a)[0].dtype == dtype:  # a gradient comes in the precision of what it is taken for
            b = b.astype(dtype)
        jax.tree.map(np.testing.assert_array_equal, a, b)
    plan = dq.Training(epochs=1)
    runs = [jax.jit(lambda c: dq.fit(key, c, CONFIG, plan, RATES, count=3)[0])(cube) for cube in (half, full)]
    close(*runs, 1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "under jit"])
def test_scenes_divided_over_a_mesh_need_that_mesh(wrap):
    """Of an explicit axis; arrays of an automatic one, and replicated ones, are mapped as any other."""
    explicit, automatic = (
        jax.make_mesh((2,), ("scenes",), devices=jax.devices()[:2], axis_types=(kind,))
        for kind in (jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto)
    )
    over, whole = jax.sharding.PartitionSpec("scenes"), jax.sharding.PartitionSpec()
    x = np.arange(12.0, dtype=np.float32).reshape(4, 3)

    def placed(where, how):
        return jax.device_put(x, jax.sharding.NamedSharding(where, how))

    def double(row):
        return 2 * row

    with pytest.raises(InputError, match=r"divided over the axis 'scenes' .* Pass it, over_scenes\(function, mesh\)"):
        wrap(dq.parallel.over_scenes(double))(placed(explicit, over))
    for array in (placed(automatic, over), placed(explicit, whole), np.asarray(placed(explicit, over))):
        np.testing.assert_array_equal(wrap(dq.parallel.over_scenes(double))(array), 2 * x)
    np.testing.assert_array_equal(wrap(dq.parallel.over_scenes(double, explicit))(placed(explicit, over)), 2 * x)

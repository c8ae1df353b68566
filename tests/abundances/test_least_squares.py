"""FCLS and NNLS against the optimality conditions, scipy and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.abundances import least_squares
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic

RESIDUAL = jax.jit(least_squares.kkt_residual, static_argnums=3)
SOLVERS = pytest.mark.parametrize(("solver", "sum_to_one"), [(least_squares.nnls, False), (least_squares.fcls, True)])


def scene(seed, count, bands, kind="plain"):
    """Draw difficult endmembers, and pixels inside, outside, far outside, and dark."""
    draw = np.random.default_rng(seed)
    E = draw.uniform(0.05, 1.0, size=(count, bands))
    if kind == "collinear":  # cond(E) about 1e4: nothing is left of the normal equations in float32
        E = E[:1] + 1e-4 * draw.normal(size=E.shape)
    elif kind == "shade":
        E[count // 2] = 0.0
    elif kind == "duplicate":
        E[-1] = E[0]
    elif kind == "proportional":
        E[-1] = 0.5 * E[0]
    elif kind == "unequal":
        E *= np.logspace(-4, 2, count)[:, None]
    Y = draw.dirichlet(np.full(count, 0.4), size=(5, 20)) @ E + 0.03 * draw.normal(size=(5, 20, bands))
    Y[0, 0], Y[0, 1:3], Y[0, 3:6] = 0.0, draw.normal(size=(2, bands)), 100.0 * Y[0, 3:6]
    return Y, E


@SOLVERS
@pytest.mark.parametrize("kind", ["plain", "collinear", "shade", "duplicate", "proportional", "unequal"])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_every_pixel_is_optimal(solver, sum_to_one, kind, dtype, bound):
    with jax.enable_x64(dtype == "float64"):
        for count, bands in ((6, 40), (12, 9))[: 2 if dtype == "float32" else 1]:
            Y, E = (x.astype(dtype) for x in scene(count, count, bands, kind))
            x = jax.jit(solver)(Y, E)
            assert x.dtype == dtype and (x >= 0).all()
            assert jnp.max(RESIDUAL(Y, E, x, sum_to_one)) < bound
            if sum_to_one:
                np.testing.assert_allclose(x.sum(-1), 1.0, atol=bound)


@SOLVERS
def test_many_endmembers_in_double_precision(x64, solver, sum_to_one):
    """The search for many endmembers is iterative: its answers have all digits."""
    Y, E = scene(0, 18, 40, "duplicate")
    x = jax.jit(solver)(Y, E)
    assert jnp.max(RESIDUAL(Y, E, x, sum_to_one)) < 1e-14
    assert (x[..., -1] == 0).all()


@pytest.mark.parametrize(("solver", "count"), [(least_squares.fcls, 9), (least_squares.nnls, 18)])
def test_shards_of_a_scene(solver, count):
    """Loops start from values that vary over devices as their results do."""
    Y, E = (jnp.asarray(x, "float32") for x in scene(0, count, 40))
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("rows")
    x = jax.jit(jax.shard_map(solver, mesh=mesh, in_specs=(rows, None), out_specs=rows))(Y, E)
    assert jnp.max(RESIDUAL(Y, E, x, solver is least_squares.fcls)) < 1e-5


@SOLVERS
def test_one_endmember_and_no_endmember_to_choose(solver, sum_to_one):
    Y, E = (x.astype("f") for x in scene(0, 1, 5))
    for spectra in (E, np.repeat(E, 3, axis=0), 0.0 * E):
        x = jax.jit(solver)(Y, spectra)
        assert jnp.max(RESIDUAL(Y, spectra, x, sum_to_one)) < 1e-5
        assert not sum_to_one or jnp.allclose(x.sum(-1), 1.0, atol=1e-6)


@SOLVERS
def test_scipy_finds_the_same(solver, sum_to_one):
    nnls = pytest.importorskip("scipy.optimize").nnls
    Y, E = scene(3, 5, 12)
    x = np.asarray(jax.jit(solver)(Y.astype("f"), E.astype("f")))
    if sum_to_one:  # scipy knows no equality: a heavy row stands for it
        Y, E = np.concatenate([Y, np.full((5, 20, 1), 1e4)], -1), np.concatenate([E, np.full((5, 1), 1e4)], -1)
    expected = np.stack([[nnls(E.T, y)[0] for y in row] for row in Y])
    np.testing.assert_allclose(x, expected, atol=1e-5, rtol=1e-5)


@SOLVERS
def test_residual_sees_what_is_not_optimal(solver, sum_to_one):
    Y, E = (x.astype("f") for x in scene(1, 5, 12))
    x = jax.jit(solver)(Y, E)
    for wrong in (jnp.roll(x, 1, axis=-1), jnp.full_like(x, 0.2), 0.9 * x, x - 0.01):
        assert jnp.median(RESIDUAL(Y, E, wrong, sum_to_one)) > 1e-4


def test_the_residual_by_hand():
    """One coefficient is off: by 0.3 of a pixel of length 0.5^(1/2), or 0.2 too much, which the descent overshoots."""
    Y, E = jnp.full((1, 1, 2), 0.5), jnp.eye(2)
    assert float(RESIDUAL(Y, E, jnp.asarray([[[0.5, 0.2]]]), False)[0, 0]) == pytest.approx(0.3 / 0.5**0.5, rel=1e-5)
    assert float(RESIDUAL(Y, E, jnp.asarray([[[0.7, 0.3]]]), True)[0, 0]) == pytest.approx(0.4, rel=1e-5)


@SOLVERS
def test_gradient_goes_through_the_active_set(x64, solver, sum_to_one):
    Y, E = scene(5, 5, 12)
    draw = np.random.default_rng(0)
    dY, dE, w = draw.normal(size=Y.shape), draw.normal(size=E.shape), draw.normal(size=(*Y.shape[:2], 5))
    step = 1e-6
    solve = jax.jit(solver)
    x = [solve(Y + t * dY, E + t * dE) for t in (step, -step)]
    same = np.array(((x[0] > 0) == (x[1] > 0)).all(-1))  # no corner between them
    same[0, :6] = False  # far pixels: their differences are too coarse
    assert same.mean() > 0.85 and (x[0][same] == 0).any()
    w = w * same[..., None].astype(w.dtype)
    pull = jax.jit(lambda Y, E: jax.vjp(solver, Y, E)[1](jnp.asarray(w)))
    slope = sum(jnp.sum(g * d) for g, d in zip(pull(Y, E), (dY, dE), strict=True))
    np.testing.assert_allclose(slope, jnp.sum((x[0] - x[1]) * w) / (2 * step), rtol=1e-6)
    # Forward mode, and second derivatives: that of the slope along the same line.
    along = lambda t: jnp.sum(jax.jvp(solver, (Y + t * dY, E + t * dE), (dY, dE))[1] * w)  # noqa: E731
    twice = jax.jit(lambda t: jax.jvp(along, (t,), (1.0,)))
    np.testing.assert_allclose(twice(0.0)[0], slope, rtol=1e-9)
    np.testing.assert_allclose(twice(0.0)[1], (twice(step)[0] - twice(-step)[0]) / (2 * step), rtol=1e-4)


@SOLVERS
def test_gradient_is_finite_where_endmembers_depend(solver, sum_to_one):
    run = jax.jit(jax.grad(lambda Y, E: jnp.sum(solver(Y, E) ** 2), argnums=(0, 1)))
    for kind in ("duplicate", "shade", "collinear"):
        Y, E = (x.astype("f") for x in scene(2, 5, 12, kind))
        assert all(np.isfinite(slope).all() for slope in run(Y, E))


@SOLVERS
def test_masked_pixels_do_not_exist(solver, sum_to_one):
    Y, E = (x.astype("f") for x in scene(4, 5, 12))
    run = jax.jit(solver)
    mask = np.random.default_rng(0).uniform(size=Y.shape[:2]) > 0.4
    x = run(np.where(mask[..., None], Y, np.nan).astype("f"), E, mask=mask)
    np.testing.assert_allclose(x[mask], run(Y, E)[mask], atol=1e-6)
    assert (x[~mask] == 0).all()
    # A traced mask over NaN, and the gradient through it.
    slope = jax.jit(jax.grad(lambda E, Y, m: jnp.sum(solver(Y, E, mask=m) ** 2)))
    assert jnp.isfinite(slope(E, np.where(mask[..., None], Y, np.nan).astype("f"), mask)).all()
    assert jnp.isnan(run(jnp.asarray(Y).at[2, 2, 1].set(jnp.nan), E)[2, 2]).all()


def test_vmap_over_scenes_is_a_loop_over_scenes():
    scenes = [scene(s, 5, 12) for s in range(3)]
    Y, E = (np.stack(x).astype("f") for x in zip(*scenes, strict=True))
    for solver in (least_squares.nnls, least_squares.fcls):
        alone = [jax.jit(solver)(y, e) for y, e in zip(Y, E, strict=True)]
        np.testing.assert_allclose(jax.jit(jax.vmap(solver))(Y, E), alone, atol=1e-5)


def test_soft_nnls_lies_between_scaled_and_fully_constrained_least_squares():
    E = synthetic.spectra(jax.random.key(1), 3, 20)
    scene = synthetic.linear_scene(jax.random.key(2), (9, 8), E, 25.0, brightness=0.3)
    heavy, s = least_squares.soft_nnls(scene.cube, E, weight=1e3)
    np.testing.assert_allclose(heavy, least_squares.fcls(scene.cube, E), atol=2e-3)
    np.testing.assert_allclose(s, 1, atol=1e-3)
    light, s = least_squares.soft_nnls(scene.cube, E, weight=1e-4)
    x = least_squares.nnls(scene.cube, E)
    np.testing.assert_allclose(s, x.sum(-1), rtol=1e-4)
    np.testing.assert_allclose(light, x / x.sum(-1, keepdims=True), atol=1e-4)
    # The stationary point of the objective in the brightness, w = 0.3, where all abundances are positive.
    a, s = least_squares.soft_nnls(scene.cube, E)
    rebuilt = jnp.matmul(a, E, precision="highest")
    row = 0.09 * jnp.mean(jnp.sum(scene.cube**2, axis=-1))
    slope = jnp.sum((s[..., None] * rebuilt - scene.cube) * rebuilt, axis=-1) + row * (s - 1)
    np.testing.assert_allclose(slope, 0, atol=1e-3)
    mask = jnp.ones((9, 8), bool).at[2].set(False)
    part, s = least_squares.soft_nnls(jnp.where(mask[..., None], scene.cube, jnp.nan), E, mask=mask)
    assert float(jnp.abs(part[2]).max()) == 0 and float(jnp.abs(s[2]).max()) == 0
    assert float(jnp.abs(part - jnp.where(mask[..., None], a, 0)).max()) < 0.05


def test_the_weight_of_a_soft_sum_is_in_units_of_the_valid_pixels():
    """By hand: with E = I and y = (0.6, 0.2), x = y + r (1 - s) and s = (0.8 + 2 r) / (1 + 2 r), r = w^2 0.4."""
    cube = jnp.full((3, 4, 2), 7.0).at[:2].set(jnp.asarray([0.6, 0.2]))
    mask = jnp.zeros((3, 4), bool).at[:2].set(True)
    r = 0.5**2 * 0.4
    s = (0.8 + 2 * r) / (1 + 2 * r)
    abundances, brightness = least_squares.soft_nnls(cube, jnp.eye(2), weight=0.5, mask=mask)
    np.testing.assert_allclose(brightness[:2], s, rtol=1e-5)
    np.testing.assert_allclose(abundances[:2, :, 0], (0.6 + r * (1 - s)) / s, rtol=1e-5)
    np.testing.assert_array_equal(brightness[2], 0)


def test_scaled_nnls_separates_brightness():
    _, E = scene(6, 3, 20)
    E = (E / E.max(-1, keepdims=True)).astype("f")
    a = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, 5)).astype("f")
    s = np.random.default_rng(1).uniform(0.2, 3.0, size=(4, 5)).astype("f")
    abundances, brightness = jax.jit(least_squares.scaled_nnls)(
        s[..., None] * a @ E, np.asarray([[0.3], [2.0], [7.0]], "f") * E
    )
    np.testing.assert_allclose(abundances, a, atol=1e-5)
    np.testing.assert_allclose(brightness, s, rtol=1e-5)


@pytest.mark.parametrize(
    ("cube", "endmembers", "words"),
    [
        (np.ones((4, 5)), np.ones((2, 5)), "rows, columns, bands"),
        (np.ones((2, 2, 5)), np.ones((5, 2)), "transposed"),
        (np.full((2, 2, 5), np.nan), np.ones((2, 5)), "NaN or infinite"),
        (np.ones((2, 2, 5)), np.full((2, 5), np.inf), "endmembers hold"),
        (np.ones((2, 2, 5)), np.ones((2, 5), bool), "data type bool"),
    ],
)
def test_bad_input_is_named(cube, endmembers, words):
    for solver in (least_squares.nnls, least_squares.fcls, least_squares.scaled_nnls):
        with pytest.raises(InputError, match=words):
            solver(cube, endmembers)


def test_samson_closed_form(data_dir):
    """The figures for the reference of Zhu, from the authors' own VCA spectra: 0.2748 and 0.0490."""
    from scipy.io import loadmat

    from dequnmix_jax import metrics

    file = loadmat(data_dir / "samson_authors.mat")
    cube, truth = (np.asarray(file[k].reshape(-1, 95, 95, order="F").transpose(1, 2, 0), "f") for k in ("Y", "A"))
    vca, E = (np.asarray(file[k].T, "f") for k in ("M1", "M"))
    order = metrics.align(vca, E)
    score = lambda a: float(metrics.armse(a[..., order], truth))  # noqa: E731
    assert abs(score(least_squares.fcls(cube, vca)) - 0.2748) < 1e-4
    assert abs(score(least_squares.scaled_nnls(cube, vca)[0]) - 0.0490) < 1e-4

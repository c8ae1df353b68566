"""Laws of mixing, projections and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import metrics, mixing
from dequnmix_jax.checks import InputError


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def simplex_by_bisection(v):
    """Solve sum max(v - tau, 0) = 1 for tau: an oracle independent of the closed form."""
    low, high = v.min(-1, keepdims=True) - 1.0, v.max(-1, keepdims=True)
    for _ in range(200):
        middle = (low + high) / 2
        above = np.maximum(v - middle, 0).sum(-1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.maximum(v - low, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 48, 49, 80])
def test_projection_is_the_nearest_point_of_the_simplex(x64, count):
    v = 2.0 * numbers(count, 4, 5, count)
    np.testing.assert_allclose(mixing.project_simplex(v), simplex_by_bisection(v), atol=1e-13)


def test_projection_of_ties_far_values_and_its_own_results():
    v = jnp.asarray([[0.5, 0.5, 0.5], [7.0, 7.0, -1.0], [1e6, 0.0, 0.0], [-1e6, -1e6, -1e6 - 3]])
    expected = [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [1, 0, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose(mixing.project_simplex(v), expected, atol=1e-6)
    a = mixing.project_simplex(jnp.asarray(numbers(0, 9, 6), jnp.float32))
    np.testing.assert_allclose(mixing.project_simplex(a), a, atol=2e-7)
    assert jnp.isnan(mixing.project_simplex(jnp.asarray([0.1, jnp.nan, 0.2]))).all()


@pytest.mark.parametrize("count", [3, 60])
def test_derivatives_of_the_projection(x64, count):
    v, dv, w = numbers(1, 7, count), numbers(2, 7, count), numbers(3, 7, count)
    step = 1e-7
    project = jax.jit(mixing.project_simplex)
    slope = (project(v + step * dv) - project(v - step * dv)) / (2 * step)
    _, tangent = jax.jvp(project, (v,), (dv,))
    np.testing.assert_allclose(tangent, slope, atol=1e-7)
    (cotangent,) = jax.vjp(project, v)[1](jnp.asarray(w))
    # The Jacobian of a projection is symmetric.
    np.testing.assert_allclose(jnp.sum(cotangent * dv), jnp.sum(tangent * w), rtol=1e-12)


def test_mixing_is_linear_and_scaling_is_brightness():
    a, b = (jnp.asarray(numbers(s, 3, 4, 2), jnp.float32) for s in (0, 1))
    E = jnp.asarray(numbers(2, 2, 6), jnp.float32)
    s = jnp.asarray(numbers(3, 3, 4), jnp.float32)
    np.testing.assert_allclose(
        mixing.linear_mix(a + 2 * b, E), mixing.linear_mix(a, E) + 2 * mixing.linear_mix(b, E), atol=1e-5
    )
    np.testing.assert_allclose(mixing.scaled_mix(a, E, s), s[..., None] * mixing.linear_mix(a, E), atol=1e-6)
    # Correlation is the adjoint of mixing: <A E, Y> = <A, Y E^T>.
    Y = jnp.asarray(numbers(4, 3, 4, 6), jnp.float32)
    np.testing.assert_allclose(jnp.sum(mixing.linear_mix(a, E) * Y), jnp.sum(a * mixing.correlate(Y, E)), rtol=1e-5)
    np.testing.assert_allclose(mixing.gram(E), mixing.correlate(E[None], E)[0], rtol=1e-6)


def test_normalising_splits_and_stays_finite_without_light():
    x = jnp.asarray(np.abs(numbers(0, 3, 4, 5)), jnp.float32).at[0, 0].set(0.0).at[0, 1].set(1e-30)
    normalise = jax.jit(mixing.normalise_abundances)
    a, s = normalise(x)
    np.testing.assert_allclose(a.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(s[..., None] * a, x, atol=1e-6)
    np.testing.assert_allclose(a[0, 0], 0.2, atol=1e-7)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(mixing.normalise_abundances(x)[0] ** 3)))(x)
    assert jnp.isfinite(slope).all()
    mask = jnp.ones((3, 4), bool).at[1, 1].set(False)
    a, s = normalise(x.at[1, 1].set(jnp.nan), mask)
    assert (a[1, 1] == 0).all() and s[1, 1] == 0 and jnp.isfinite(a).all()


def test_unit_maximum_is_safe_and_blind_to_scale():
    E = jnp.asarray(np.abs(numbers(0, 3, 5)), jnp.float32).at[2].set(0.0)
    scaled = mixing.scale_to_unit_maximum(E)
    np.testing.assert_allclose(scaled.max(-1), [1, 1, 0])
    np.testing.assert_allclose(mixing.scale_to_unit_maximum(7.0 * E), scaled, rtol=1e-6)
    assert jnp.isfinite(jax.grad(lambda E: jnp.sum(mixing.scale_to_unit_maximum(E) ** 2))(E)).all()


def test_conventions_describe_the_same_pixels_and_undo_each_other():
    E = jnp.asarray(np.abs(numbers(0, 3, 7)), jnp.float32) * jnp.asarray([[3.0], [0.4], [0.05]])
    c = jnp.max(E, axis=1)
    a, s = mixing.normalise_abundances(jnp.asarray(np.abs(numbers(1, 4, 5, 3)), jnp.float32))
    Y = mixing.scaled_mix(a, E, s)
    b, t = jax.jit(mixing.convert, static_argnames="to")(a, c, to="scaled", brightness=s)
    assert jnp.abs(a - b).max() > 0.3
    np.testing.assert_allclose(b.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(b, metrics.in_unit(a, c), atol=1e-6)
    np.testing.assert_allclose(mixing.scaled_mix(b, mixing.scale_to_unit_maximum(E), t), Y, rtol=1e-4, atol=1e-6)
    back, light = mixing.convert(b, c, "reflectance", t)
    np.testing.assert_allclose(back, a, atol=1e-6)
    np.testing.assert_allclose(light, s, rtol=1e-5)
    np.testing.assert_allclose(mixing.convert(a, c, "scaled")[1], jnp.sum(a * c[None, None], -1), rtol=1e-6)
    # The state of an equilibrium may have dark pixels, where the fractions are 0.
    dark = a.at[0, 0].set(0.0)

    def loss(x, levels):
        converted, brightness = mixing.convert(x, levels, "reflectance", s)
        return jnp.sum(converted**3) + jnp.sum(brightness)

    slopes = jax.grad(loss, argnums=(0, 1))(dark, c)
    assert all(jnp.isfinite(slope).all() and jnp.abs(slope).max() > 0 for slope in slopes)
    assert (mixing.convert(dark, c, "scaled")[0][0, 0] == 0).all()
    along = jnp.asarray([0.3, -0.2, 0.5])
    step = 1e-2 * c * along
    quotient = (loss(a, c + step) - loss(a, c - step)) / 2e-2
    np.testing.assert_allclose(jnp.sum(jax.grad(loss, argnums=1)(a, c) * c * along), quotient, rtol=1e-2)


def test_the_cone_wall_has_no_slope():
    assert (
        jax.vmap(jax.grad(mixing.project_cone))(jnp.asarray([-1.0, 0.0, 1.0])) == jnp.asarray([0.0, 0.0, 1.0])
    ).all()


def test_types_are_kept(x64):
    for dtype in (jnp.float32, jnp.float64):
        a, E = jnp.ones((2, 2, 3), dtype), jnp.ones((3, 4), dtype)
        calls = [(mixing.project_simplex, a), (mixing.normalise_abundances, a), (mixing.scale_to_unit_maximum, E)]
        calls += [(mixing.gram, E), (mixing.linear_mix, a, E)]
        results = [jax.eval_shape(f, *x) for f, *x in calls]
        assert {r.dtype for r in jax.tree.leaves(results)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mixing.linear_mix(np.ones((2, 2, 3)), np.ones((4, 5))), "one map for each endmember"),
        (lambda: mixing.scaled_mix(np.ones((2, 2, 3)), np.ones((3, 5)), np.ones(2)), "one value a pixel"),
        (lambda: mixing.correlate(np.ones((2, 2, 3)), np.ones((3, 5))), "transposed"),
        (lambda: mixing.project_simplex(np.ones((2, 0))), "R at least 1"),
        (lambda: mixing.normalise_abundances(np.ones((2, 3))), "rows, columns, bands"),
        (lambda: mixing.convert(np.ones((2, 2, 3)), np.ones(2), "scaled"), "one level for each endmember"),
        (lambda: mixing.convert(np.ones((2, 2, 3)), np.ones(3), "scaled", np.ones(2)), "one value a pixel"),
        (lambda: mixing.convert(np.ones((2, 2, 3)), np.ones(3), "level"), "to is 'level'; expected 'reflectance' or"),
        (lambda: jax.eval_shape(mixing.gram, jax.ShapeDtypeStruct((3,), jnp.float32)), "one spectrum a row"),
    ],
)
def test_wrong_shapes_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()

"""Networks: the convolution is exact, the energy is convex for any weights, masked pixels have no influence."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.equilibrium import curvature, network
from dequnmix_jax.equilibrium import energy as equilibrium_energy
from dequnmix_jax.ops import convolution


def draw(*shape, key=0):
    return jax.random.normal(jax.random.key(key), shape)


def reference(x, w):
    return jax.lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (3, 3, 5, 4), (7, 7, 2, 1), (5, 3, 1, 2), (1, 3, 4, 2)])
def test_convolution_and_its_derivatives_are_those_of_xla(shape):
    x, w, g = draw(9, 11, shape[2]), draw(*shape, key=1), draw(9, 11, shape[3], key=2)
    ours, pull = jax.vjp(convolution.convolve, x, w)
    theirs, reference_pull = jax.vjp(reference, x, w)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for a, b in zip(pull(g), reference_pull(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_second_derivatives_pass_through_the_convolution():
    x, w = draw(5, 6, 2), draw(3, 3, 2, 2, key=1)

    def twice(f):
        return jax.grad(lambda w: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(f(x, w))))(x) ** 2))(w)

    np.testing.assert_allclose(twice(convolution.convolve), twice(reference), rtol=1e-3, atol=1e-3)


def test_transpose_is_the_adjoint():
    x, w, y = draw(8, 7, 3), draw(3, 3, 3, 6, key=1), draw(8, 7, 6, key=2)
    left = jnp.vdot(convolution.convolve(x, w), y)
    np.testing.assert_allclose(left, jnp.vdot(x, convolution.transpose(y, w)), rtol=1e-4)


def labels(function, *arguments):
    """Return the forms of the convolutions in the compiled text."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert "feature_group_count" not in text and "batch_group_count" not in text
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", text))


def test_loops_hold_only_the_canonical_convolution():
    w = 0.05 * draw(3, 3, 4, 4)

    def adjoint_loop(x, w):
        _, pull = jax.vjp(lambda x: jnp.tanh(convolution.convolve(x, w)), x)
        return jax.lax.fori_loop(0, 5, lambda _, u: x + pull(u)[0], x)

    assert labels(adjoint_loop, draw(16, 16, 4), w) == {"b01f_01io->b01f"}
    many = labels(jax.vmap(adjoint_loop), draw(2, 16, 16, 4), jnp.stack([w, w]))
    assert many == {"b01f_01io->b01f"}


def test_second_derivatives_in_a_loop_are_canonical_too():
    """A penalty on J^T u, differentiated in the weights."""

    def penalty(w, x):
        _, pull = jax.vjp(lambda x: jnp.tanh(convolution.convolve(x, w)), x)
        return jnp.sum(pull(x)[0] ** 2)

    def descend(w, x):
        return jax.lax.fori_loop(0, 3, lambda _, w: w - 0.1 * jax.grad(penalty)(w, x), w)

    assert labels(descend, draw(3, 3, 4, 4), draw(16, 16, 4)) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_scenes_mapped_over_give_what_each_gives(axes):
    x, w = draw(3, 9, 8, 3), draw(3, 3, 3, 3, 4, key=1)
    x, w = (a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))

    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(convolution.convolve(x, w))), (0, 1))(x, w)

    mapped = jax.jit(jax.vmap(gradients, axes))(x, w)
    for i in range(3):
        each = gradients(*(a[i] if axis == 0 else a for a, axis in zip((x, w), axes, strict=True)))
        for ours, alone in zip(mapped, each, strict=True):
            np.testing.assert_allclose(ours[i], alone, rtol=1e-4, atol=1e-4)


def norm_squared(w, size=20):
    """Return the largest eigenvalue of W^T W on an image, by power iteration."""
    x = draw(size, size, w.shape[2], key=3)
    for _ in range(200):
        x = convolution.transpose(convolution.convolve(x, w), w)
        value = jnp.linalg.norm(x)
        x = x / value
    return float(value)


@pytest.mark.parametrize("shape", [(3, 3, 3, 8), (3, 3, 8, 3), (5, 5, 2, 2), (1, 1, 4, 4)])
def test_convolution_bound_holds_and_is_not_loose(shape):
    for key in range(3):
        w = draw(*shape, key=key)
        true, bound = norm_squared(w), float(curvature.convolution_bound(w))
        assert 0.999 * true <= bound <= 1.7 * true


def test_spectral_bound():
    matrices = jnp.stack([m @ m.T for m in draw(5, 6, 6)])
    top = np.linalg.eigvalsh(np.asarray(matrices))[:, -1]
    bound = np.asarray(curvature.spectral_bound(matrices))
    assert (bound >= 0.9999 * top).all() and (bound <= 1.12 * top).all()
    assert float(curvature.spectral_bound(jnp.zeros((3, 3)))) == 0.0
    assert np.isfinite(jax.grad(lambda m: curvature.spectral_bound(m))(1e-10 * jnp.eye(3))).all()


def test_the_bound_of_an_energy_has_a_finite_derivative_at_tiny_gains():
    """Filters without response to a constant have a symbol at rounding level at the lowest frequency."""
    weights = equilibrium_energy.energy_weights(equilibrium_energy.init_energy(jax.random.key(0), 3, 3, 4, 0.0))
    for gain in (0.0, 1e-30, 1e-6, 1.0):
        at = jnp.asarray([gain, 0.0, 0.0, gain])
        value, slope = jax.value_and_grad(lambda s: equilibrium_energy.energy_bound(weights._replace(gain=s)))(at)
        assert np.isfinite(slope).all() and float(value) <= gain


def energy(seed, gain=2.0):
    raw = equilibrium_energy.init_energy(jax.random.key(seed), 3, 3, 8, gain)
    raw["filters"] = 5 * raw["filters"] + 1  # training may scale and shift them as it likes
    return equilibrium_energy.energy_weights(raw)


def test_energy_gradient_is_symmetric_and_lies_between_zero_and_its_largest_gain():
    weights, mask = energy(0), jnp.ones((6, 5, 1)).at[1, 1].set(0)
    windows = convolution.whole_windows(mask, 3)
    drive, A = draw(6, 5, 8, key=1), draw(6, 5, 3, key=2)
    jacobian = jax.jacobian(lambda a: equilibrium_energy.energy_gradient(a, drive, weights, mask, windows))(A).reshape(
        90, 90
    )
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-5)
    values = np.linalg.eigvalsh(np.asarray(jacobian))
    assert values[0] >= -1e-5
    assert values[-1] <= 2.0 + 1e-5


def test_a_level_image_has_no_edge_at_its_border_nor_at_a_hole():
    weights = equilibrium_energy.energy_weights(equilibrium_energy.init_energy(jax.random.key(0), 3, 3, 8, 1.0))
    mask = jnp.ones((9, 8, 1)).at[4, 5].set(0)
    level = jnp.broadcast_to(jnp.asarray([0.2, 0.5, 0.3]), (9, 8, 3))
    windows = convolution.whole_windows(mask, 3)
    assert float(jnp.sum(windows)) == 7 * 6 - 9  # the inner pixels less those around the hole
    gradient = equilibrium_energy.energy_gradient(level, jnp.zeros((1, 1, 1)), weights, mask, windows)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    framed = equilibrium_energy.energy_gradient(level, jnp.zeros((1, 1, 1)), weights, mask, mask)
    assert float(jnp.max(jnp.abs(framed))) > 0.01


def test_some_filters_see_one_pixel_and_the_others_differences():
    raw = equilibrium_energy.init_energy(jax.random.key(0), 3, 3, 6, 1.0)
    filters = np.asarray(equilibrium_energy.energy_weights(raw, pointwise=2).filters)
    around = filters.copy()
    around[1, 1] = 0
    assert np.all(around[..., :2] == 0)
    assert np.abs(filters[1, 1, :, :2]).min() > 0
    np.testing.assert_allclose(filters[..., 2:].mean((0, 1)), 0, atol=1e-7)


def test_a_shift_of_all_abundances_leaves_no_frame():
    """Pointwise filters count at every pixel, edges only within: a shift moves border and hole as all others."""
    weights = equilibrium_energy.energy_weights(
        equilibrium_energy.init_energy(jax.random.key(0), 3, 3, 8, 1.0), pointwise=4
    )
    mask = jnp.ones((9, 8, 1)).at[4, 5].set(0)
    A = jnp.broadcast_to(jnp.asarray([0.2, 0.5, 0.3]), (9, 8, 3))
    drive = convolution.convolve(0.5 * A, weights.filters)
    gradient = equilibrium_energy.energy_gradient(A, drive, weights, mask, convolution.whole_windows(mask, 3))
    assert float(jnp.max(jnp.abs(gradient))) > 1e-3
    np.testing.assert_allclose(gradient, gradient[:1, :1] * mask, atol=1e-6)


def test_gain_learns_from_zero():
    raw = equilibrium_energy.init_energy(jax.random.key(0), 3, 3, 4, 0.0)
    slope = jax.grad(lambda g: jnp.sum(equilibrium_energy.energy_weights(raw | {"gain": g}).gain))(raw["gain"])
    np.testing.assert_array_equal(slope, 1.0)


@pytest.mark.parametrize("attention", [True, False])
def test_a_masked_frame_changes_nothing(attention):
    net = network.Net(width=6, out=4, kernel=3, attention=attention, zero=False)
    x, ones = draw(7, 6, 6), jnp.ones((7, 6, 1))
    params = net.init(jax.random.key(1), x, ones)
    inside = net.apply(params, x, ones)
    frame = ((2, 3), (1, 4), (0, 0))
    padded = net.apply(params, jnp.pad(x, frame, constant_values=1e3), jnp.pad(ones, frame))
    np.testing.assert_allclose(padded[2:9, 1:7], inside, rtol=1e-5, atol=1e-5)
    padded = padded.at[2:9, 1:7].set(0)
    assert not np.asarray(padded).any()


def test_the_last_layer_starts_at_zero_where_asked():
    net = network.Net(width=6, out=4, kernel=3, attention=True, zero=True)
    x, ones = draw(7, 6, 6), jnp.ones((7, 6, 1))
    assert not np.asarray(net.apply(net.init(jax.random.key(1), x, ones), x, ones)).any()


def test_bounded_layers_make_a_network_that_does_not_expand():
    """Every kernel has norm at most one; without attention, whose products have no bound, so has the whole."""
    net = network.Net(width=6, out=3, kernel=3, attention=False, zero=False)
    ones = jnp.ones((8, 7, 1))
    params = net.init(jax.random.key(1), draw(8, 7, 6), ones)["params"]
    wild = jax.tree.map(lambda w: 5 * w, params)
    tame = network.bounded(wild)
    for name in ("inner", "last"):
        assert norm_squared(wild[name]["kernel"]) > 2
        assert 0.5 < norm_squared(tame[name]["kernel"]) <= 1.0001
    a, b = (draw(8, 7, 6, key=key) for key in (2, 3))
    change = net.apply({"params": tame}, a, ones) - net.apply({"params": tame}, b, ones)
    assert float(jnp.linalg.norm(change)) < float(jnp.linalg.norm(a - b))
    small = jax.tree.map(lambda w: 0.01 * w, params)
    jax.tree.map(np.testing.assert_array_equal, network.bounded(small), small)
    zero = jax.grad(lambda w: jnp.sum(network.bounded({"kernel": w})["kernel"]))(jnp.zeros((3, 3, 2, 2)))
    np.testing.assert_array_equal(zero, 1.0)


def test_bounded_holds_dense_layers_too():
    w = network.bounded({"kernel": draw(6, 4), "bias": 9 * draw(4)})
    assert 0.8 < float(jnp.linalg.norm(w["kernel"], 2)) <= 1
    np.testing.assert_array_equal(w["bias"], 9 * draw(4))

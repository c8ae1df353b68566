"""Networks: the convolution is exact, the energy is convex for any weights, the mask leaves no trace."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import network


def draw(*shape, key=0):
    return jax.random.normal(jax.random.key(key), shape)


def reference(x, w):
    return jax.lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (3, 3, 5, 4), (7, 7, 2, 1), (5, 3, 1, 2), (1, 3, 4, 2)])
def test_convolution_and_its_derivatives_are_those_of_xla(shape):
    x, w, g = draw(9, 11, shape[2]), draw(*shape, key=1), draw(9, 11, shape[3], key=2)
    ours, pull = jax.vjp(network.convolve, x, w)
    theirs, reference_pull = jax.vjp(reference, x, w)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for a, b in zip(pull(g), reference_pull(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_second_derivatives_pass_through_the_convolution():
    x, w = draw(5, 6, 2), draw(3, 3, 2, 2, key=1)

    def twice(f):
        return jax.grad(lambda w: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(f(x, w))))(x) ** 2))(w)

    np.testing.assert_allclose(twice(network.convolve), twice(reference), rtol=1e-3, atol=1e-3)


def test_transpose_is_the_adjoint():
    x, w, y = draw(8, 7, 3), draw(3, 3, 3, 6, key=1), draw(8, 7, 6, key=2)
    left = jnp.vdot(network.convolve(x, w), y)
    np.testing.assert_allclose(left, jnp.vdot(x, network.transpose(y, w)), rtol=1e-4)


def labels(function, *arguments):
    """Return the forms of the convolutions in the compiled text."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert "feature_group_count" not in text and "batch_group_count" not in text
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", text))


def test_loops_hold_only_the_canonical_convolution():
    w = 0.05 * draw(3, 3, 4, 4)

    def adjoint_loop(x, w):
        _, pull = jax.vjp(lambda x: jnp.tanh(network.convolve(x, w)), x)
        return jax.lax.fori_loop(0, 5, lambda _, u: x + pull(u)[0], x)

    assert labels(adjoint_loop, draw(16, 16, 4), w) == {"b01f_01io->b01f"}
    many = labels(jax.vmap(adjoint_loop), draw(2, 16, 16, 4), jnp.stack([w, w]))
    assert many == {"b01f_01io->b01f"}


def test_second_derivatives_in_a_loop_are_canonical_too():
    """A penalty on J^T u, differentiated in the weights."""

    def penalty(w, x):
        _, pull = jax.vjp(lambda x: jnp.tanh(network.convolve(x, w)), x)
        return jnp.sum(pull(x)[0] ** 2)

    def descend(w, x):
        return jax.lax.fori_loop(0, 3, lambda _, w: w - 0.1 * jax.grad(penalty)(w, x), w)

    assert labels(descend, draw(3, 3, 4, 4), draw(16, 16, 4)) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_scenes_mapped_over_give_what_each_gives(axes):
    x, w = draw(3, 9, 8, 3), draw(3, 3, 3, 3, 4, key=1)
    x, w = (a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))

    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(network.convolve(x, w))), (0, 1))(x, w)

    mapped = jax.jit(jax.vmap(gradients, axes))(x, w)
    for i in range(3):
        each = gradients(*(a[i] if axis == 0 else a for a, axis in zip((x, w), axes, strict=True)))
        for ours, alone in zip(mapped, each, strict=True):
            np.testing.assert_allclose(ours[i], alone, rtol=1e-4, atol=1e-4)


def norm_squared(w, size=20):
    """Return the largest eigenvalue of W^T W on an image, by power iteration."""
    x = draw(size, size, w.shape[2], key=3)
    for _ in range(200):
        x = network.transpose(network.convolve(x, w), w)
        value = jnp.linalg.norm(x)
        x = x / value
    return float(value)


@pytest.mark.parametrize("shape", [(3, 3, 3, 8), (3, 3, 8, 3), (5, 5, 2, 2), (1, 1, 4, 4)])
def test_convolution_bound_holds_and_is_not_loose(shape):
    for key in range(3):
        w = draw(*shape, key=key)
        true, bound = norm_squared(w), float(network.convolution_bound(w))
        assert 0.999 * true <= bound <= 1.7 * true


def test_spectral_bound():
    matrices = jnp.stack([m @ m.T for m in draw(5, 6, 6)])
    top = np.linalg.eigvalsh(np.asarray(matrices))[:, -1]
    bound = np.asarray(network.spectral_bound(matrices))
    assert (bound >= 0.9999 * top).all() and (bound <= 1.12 * top).all()
    assert float(network.spectral_bound(jnp.zeros((3, 3)))) == 0.0
    assert np.isfinite(jax.grad(lambda m: network.spectral_bound(m))(1e-10 * jnp.eye(3))).all()


def energy(seed, gain=2.0):
    raw = network.init_energy(jax.random.key(seed), 3, 3, 8, gain)
    raw["filters"] = 5 * raw["filters"] + 1  # training may scale and shift them as it likes
    return network.energy_weights(raw)


def test_energy_gradient_is_symmetric_and_lies_between_zero_and_its_largest_gain():
    weights, mask = energy(0), jnp.ones((6, 5, 1))
    drive, A = draw(6, 5, 8, key=1), draw(6, 5, 3, key=2)
    jacobian = jax.jacobian(lambda a: network.energy_gradient(a, drive, weights, mask))(A).reshape(90, 90)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-5)
    values = np.linalg.eigvalsh(np.asarray(jacobian))
    assert values[0] >= -1e-5
    assert values[-1] <= 2.0 + 1e-5


def test_gain_learns_from_zero():
    raw = network.init_energy(jax.random.key(0), 3, 3, 4, 0.0)
    slope = jax.grad(lambda g: jnp.sum(network.energy_weights(raw | {"gain": g})["gain"]))(raw["gain"])
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

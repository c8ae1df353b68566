"""The autoencoders among the competitors: each does what its equations say, and its small form runs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.baselines import METHODS, cnnaeu, cycunet, dtu_net, endnet, layers, mlm_autoencoder, ust_net
from dequnmix_jax.ops.quick_compile import compiler_options
from experiments.shared import autoencoders

SHAPE, COUNT, BANDS = (9, 10), 3, 12
SMALL = autoencoders.QUICK


RANDOM = np.random.default_rng(0)
MAPS = jnp.asarray(RANDOM.dirichlet(np.ones(COUNT), SHAPE), jnp.float32)
SPECTRA = jnp.asarray(0.5 + 0.4 * np.sin(np.arange(1, COUNT + 1)[:, None] * np.linspace(0.3, 3, BANDS)), jnp.float32)
CUBE = jnp.asarray(np.asarray(MAPS) @ np.asarray(SPECTRA) + RANDOM.normal(0, 0.01, (*SHAPE, BANDS)), jnp.float32)
START = 1.05 * SPECTRA
quick = partial(jax.jit, compiler_options=compiler_options("quick"))
"""These programs run once: compiling is their cost."""


@pytest.mark.parametrize("method", autoencoders.methods(SMALL), ids=lambda method: method.name)
def test_the_small_form_obeys_the_constraints(method):
    found = quick(method.estimate)(jax.random.key(0), CUBE, START)
    assert found.abundances.shape == (*SHAPE, COUNT) and found.endmembers.shape == (COUNT, BANDS)
    assert float(jnp.min(found.abundances)) >= 0 and float(jnp.min(found.endmembers)) >= 0
    np.testing.assert_allclose(jnp.sum(found.abundances, axis=-1), 1, atol=1e-5)
    assert bool(jnp.all(jnp.isfinite(found.endmembers)))


@pytest.mark.slow
@pytest.mark.parametrize("method", autoencoders.methods(SMALL), ids=lambda method: method.name)
def test_two_starts_at_once_are_one_after_the_other(method):
    """As the tables run them; to rounding, which training amplifies."""
    keys, starts = jax.random.split(jax.random.key(0)), jnp.stack([START, 0.9 * START])
    both = quick(jax.vmap(method.estimate, in_axes=(0, None, 0)))(keys, CUBE, starts)
    alone = quick(method.estimate)(keys[1], CUBE, starts[1])
    np.testing.assert_allclose(both.abundances[1], alone.abundances, atol=0.02)
    np.testing.assert_allclose(both.endmembers[1], alone.endmembers, atol=0.02 * float(jnp.max(alone.endmembers)))


def test_the_tables_and_the_catalogue_name_them_alike():
    names = [
        METHODS[word]().name for word in ("cnnaeu", "endnet", "cycu-net", "mlm-3d", "mlm-1d", "ust-net", "dtu-net")
    ]
    assert names == [method.name for method in autoencoders.methods(autoencoders.Constants())]


def test_batches_take_each_member_once_a_round_and_running_statistics_their_share():
    members, keys = layers.epochs(jax.random.key(0), 7, 3, 2)
    assert members.shape == (6, 3) and keys.shape == (6,)
    for each in members.reshape(2, 9):
        assert sorted(each[:7].tolist()) == list(range(7)) and each[7:].tolist() == each[:2].tolist()
    x = jax.random.normal(jax.random.key(1), (4, 5, 2)) + 3.0
    y, (mean, variance) = layers.batch_norm(layers.norm(2), x, layers.fresh(2), 0.9)
    np.testing.assert_allclose(mean, 0.9 * np.mean(x, axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.1 + 0.9 * np.var(x, axis=(0, 1), ddof=1), rtol=1e-4)
    np.testing.assert_allclose(np.var(y, axis=(0, 1)), 1, rtol=1e-3)
    evaluated, kept = layers.batch_norm(layers.norm(2), x, (mean, variance), None)
    expected = (np.asarray(x) - np.asarray(mean)) / np.sqrt(np.asarray(variance) + 1e-5)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-4, atol=1e-5)
    assert kept[0] is mean


def test_maxima_pass_the_gradient_to_the_largest():
    x = jnp.array([[3.0, 1.0, 2.0, 5.0, 5.0, 4.0, 9.0]])
    np.testing.assert_array_equal(layers.pooled(x, 3), [[3.0, 5.0]])
    gradient = jax.grad(lambda x: jnp.sum(layers.pooled(x, 3)))(x)
    np.testing.assert_array_equal(gradient, [[1.0, 0, 0, 1, 0, 0, 0]])
    gradient = jax.grad(lambda x: jnp.sum(layers.limited(x, 2.0, 4.0)))(x)
    np.testing.assert_array_equal(gradient, [[1.0, 0, 1, 0, 0, 1, 0]])


def test_the_kernel_of_stride_two_sees_every_second_pixel():
    x = jax.random.normal(jax.random.key(0), (5, 6, 2))
    layer = layers.torch_layer(jax.random.key(1), (3, 3, 2, 4))
    found, every = quick(lambda x: (layers.conv_by_two(layer, x), layers.conv(layer, x)))(x)
    np.testing.assert_allclose(found, every[::2, ::2], rtol=1e-4, atol=1e-5)


def test_cnnaeu_decodes_by_a_convolution_and_reports_its_mean():
    """The sum over positions by hand; abundances are softmax(3 z)."""
    settings = cnnaeu.Settings(width=4, kernel=5)
    weights, running = quick(lambda key: cnnaeu.init(key, BANDS, COUNT, settings))(jax.random.key(0))
    W = np.abs(np.asarray(weights["decoder"]))
    weights["decoder"] = jnp.asarray(W)
    maps = np.asarray(MAPS)[None]
    padded = np.pad(maps[0], ((2, 2), (2, 2), (0, 0)))
    expected = sum(padded[i : i + SHAPE[0], j : j + SHAPE[1]] @ W[i, j] for i in range(5) for j in range(5))
    np.testing.assert_allclose(cnnaeu.decode(weights, jnp.asarray(maps))[0], expected, rtol=1e-4)
    np.testing.assert_allclose(cnnaeu.endmembers(weights), W.reshape(25, COUNT, BANDS).mean(axis=0), rtol=1e-5)
    # An encoder whose first layer copies three bands and whose second layer is the identity: z is known.
    copy = np.zeros((3, 3, BANDS, 4), np.float32)
    copy[1, 1, range(COUNT), range(COUNT)] = 1
    weights["encoder"][0]["w"] = jnp.asarray(copy)
    weights["encoder"][1]["w"] = jnp.eye(4, COUNT)[None, None]
    z = np.asarray(CUBE[..., :COUNT]) / (1 + 1e-3)  # two normalisations by running statistics 0, 1 + 1e-3
    found, _ = cnnaeu.abundances(weights, CUBE[None], settings, running)
    np.testing.assert_allclose(found[0], np.exp(3 * z) / np.exp(3 * z).sum(axis=-1, keepdims=True), rtol=1e-4)


@pytest.mark.slow
def test_cnnaeu_learns_the_scene():
    """With a decoder of one position: neighbours of this scene have nothing in common, which a wider one needs."""
    settings = cnnaeu.Settings(width=8, kernel=1, patches=8, side=8, batch=4, epochs=300)
    A, E, _ = quick(cnnaeu.cnnaeu(settings).estimate)(jax.random.key(0), CUBE, START)
    mean = jnp.broadcast_to(jnp.mean(CUBE, axis=(0, 1)), CUBE.shape)
    angle = dq.metrics.mean_spectral_angle(CUBE, jnp.asarray(A @ E))
    assert float(angle) < 0.6 * float(dq.metrics.mean_spectral_angle(CUBE, mean))


CYCLE = cycunet.Settings(widths=(BANDS, BANDS), cycle=0.0, sum_to_one=0.0, rank=0.0)


def linear_cycunet():
    """An encoder of known result: hidden layers copy, the last applies the pseudoinverse of the spectra."""
    matrices = (jnp.eye(BANDS), jnp.eye(BANDS), jnp.asarray(np.linalg.pinv(START)))
    encoder = [{"w": w, "b": jnp.zeros(w.shape[1]), "norm": layers.norm(w.shape[1])} for w in matrices]
    running = [(jnp.zeros(n), jnp.full(n, 1 - 1e-5)) for n in (BANDS, BANDS, COUNT)]
    return {"encoder": encoder, "first": START, "second": START}, running


def test_the_cycle_loss_is_zero_when_both_passes_agree_and_reaches_both_decoders():
    weights, running = linear_cycunet()
    cube = jnp.asarray(np.asarray(MAPS) @ np.asarray(START))

    def cycle(w):
        a1, y1, a2, y2 = cycunet.passes(w, cube, CYCLE, running)[0]
        return cycunet.cycle_loss(a1, a2), (a1, y1, y2)

    @quick
    def gradients(w):
        return jax.grad(cycle, has_aux=True)(w)[0], jax.grad(cycunet.loss, has_aux=True)(w, cube, CYCLE, running, None)

    compiled = quick(cycle)
    value, (a1, y1, y2) = compiled(weights)
    np.testing.assert_allclose(a1, MAPS, atol=1e-4)
    np.testing.assert_allclose(y1, cube, atol=1e-4)
    np.testing.assert_allclose(y2, cube, atol=1e-4)
    assert float(value) < 1e-8
    moved = weights | {"first": 0.7 * START, "second": 0.9 * START}
    np.testing.assert_allclose(compiled(moved)[0], np.mean(np.square(0.3 * np.asarray(MAPS))), rtol=1e-3)
    # The cycle term teaches the first decoder, by which the second pass begins; the loss teaches both.
    of_cycle, (of_loss, _) = gradients(moved)
    assert all(float(np.abs(g).max()) > 1e-4 for g in (of_cycle["first"], of_loss["first"], of_loss["second"]))


def test_both_passes_of_cycunet_leave_their_statistics():
    """running = 0.1 (0.1 old + 0.9 first) + 0.9 second: nine tenths are those of the newest batch."""
    weights, running = linear_cycunet()
    passes = quick(lambda w: cycunet.passes(w, CUBE, CYCLE, running, jax.random.key(4)))
    (_, y1, _, _), ((mean, variance), *_) = passes(weights)
    first, second = (np.asarray(each).reshape(-1, BANDS) for each in (CUBE, y1))
    np.testing.assert_allclose(mean, 0.09 * first.mean(axis=0) + 0.9 * second.mean(axis=0), rtol=1e-4, atol=1e-6)
    expected = 0.01 + 0.09 * first.var(axis=0, ddof=1) + 0.9 * second.var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, expected, rtol=1e-3)


def test_the_nuclear_norm_is_the_sum_of_singular_values():
    flat = np.asarray(MAPS).reshape(-1, COUNT)
    U, values, V = np.linalg.svd(flat, full_matrices=False)
    norm, gradient = quick(jax.value_and_grad(cycunet.nuclear_norm))(MAPS)
    np.testing.assert_allclose(norm, values.sum(), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(gradient).reshape(-1, COUNT), U @ V, rtol=1e-2, atol=1e-4)


def test_endnet_measures_angles_and_pulls_the_reconstruction_to_the_pixel():
    weights, running = endnet.init(START)
    pixels = 2.0 * START
    plain = endnet.Settings(error=0.0, weight=0.0)
    abundances = quick(lambda w: endnet.abundances(w, pixels, plain, running)[0])
    z = np.asarray(quick(endnet.similarity)(pixels[:, None], START[None]))
    np.testing.assert_allclose(np.diag(z), 1, atol=1e-3)  # a spectrum of any brightness is like itself
    np.testing.assert_allclose(abundances(weights), z / z.sum(axis=1, keepdims=True), rtol=1e-4)
    # What is alike costs less, whatever its brightness: the sign of the divergence.
    loss = quick(lambda w, pixel: endnet.loss(w, pixel, plain, running, None)[0])
    pure = weights | {"endmembers": jnp.tile(START[:1], (COUNT, 1))}
    np.testing.assert_allclose(loss(pure, pixels[:1]), 0, atol=0.05)
    np.testing.assert_allclose(loss(pure, pixels[1:2]), -50 * np.log(z[1, 0]), rtol=1e-3)
    # A unit at zero gets nothing, and a pixel with all at zero equal shares.
    assert float(np.max(abundances(weights | {"shift": jnp.array([-2.0, 0.0, 0.0])})[:, 0])) == 0
    np.testing.assert_allclose(abundances(weights | {"shift": jnp.full(COUNT, -2.0)}), 1 / COUNT, rtol=1e-6)


def test_the_bounces_of_the_multilinear_model():
    """P = 0 is linear; the sum over numbers of bounces; the reconstruction of the network is that of its parts."""
    x = jax.random.uniform(jax.random.key(0), (6, BANDS))
    np.testing.assert_array_equal(mlm_autoencoder.bounced(x, jnp.zeros((6, 1))), x)
    P = jnp.linspace(0.05, 0.9, 6)[:, None]
    p, t = np.asarray(P, np.float64), np.asarray(x, np.float64)
    series = sum((1 - p) * p**k * t ** (k + 1) for k in range(400))
    np.testing.assert_allclose(mlm_autoencoder.bounced(x, P), series, rtol=1e-3)


@pytest.mark.parametrize("patch", [5, 1])
def test_the_convolutions_of_the_multilinear_autoencoder_are_three_dimensional(patch):
    """Against XLA's own 3-D convolutions on the whole patch."""
    settings = mlm_autoencoder.Settings(patch=patch, kernel=3, pool=2)
    E = jnp.asarray(np.tile(START, (1, 3))[:, :29])
    weights = quick(lambda key: mlm_autoencoder.init(key, E, settings))(jax.random.key(0))
    patches = jnp.asarray(np.random.default_rng(1).uniform(size=(2, patch, patch, 29)), jnp.float32)
    side = (patch + 1) // 2

    @quick
    def whole(weights):
        x = jnp.moveaxis(patches, -1, 1)[..., None]  # (N, bands, rows, columns, channels)
        kernels = [(side, 1), (side, 4 * COUNT), (1, 4 * COUNT)]
        for layer, (s, inputs) in zip(weights["encoder"], kernels, strict=True):
            w = layer["w"].reshape(3, s, s, inputs, -1)
            x = jax.lax.conv_general_dilated(x, w, (1, 1, 1), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
            x = jax.nn.leaky_relu(layers.add(x, layer["b"]), 0.01)
            n = x.shape[1] // 2
            x = jnp.max(x[:, : 2 * n].reshape(2, n, 2, *x.shape[2:]), axis=2)
        assert x.shape[2:4] == (1, 1)
        z = jax.nn.leaky_relu(layers.dense(weights["last"], x.reshape(2, -1)), 0.01)
        return jax.nn.softmax(z, axis=-1)

    @quick
    def parts(weights):
        """The loss, and what it is made of."""
        found, pixels = mlm_autoencoder.abundances(weights, patches, settings), patches[:, patch // 2, patch // 2]
        P = mlm_autoencoder.further(weights, jnp.matmul(found, E), pixels)
        return mlm_autoencoder.loss(weights, patches, settings), found, pixels, P

    value, found, pixels, P = map(np.asarray, parts(weights))
    np.testing.assert_allclose(found, whole(weights), rtol=1e-4)
    linear = found @ np.asarray(E)
    np.testing.assert_allclose(value, np.mean(np.square((1 - P) * linear / (1 - P * linear) - pixels)), rtol=1e-4)


def test_the_multilinear_autoencoder_eats_all_bands():
    sizes = mlm_autoencoder.lengths(224, mlm_autoencoder.Settings())
    assert sizes == [(7, 3, 72), (7, 3, 22), (7, 3, 5)]
    assert mlm_autoencoder.lengths(156, mlm_autoencoder.Settings())[-1][-1] == 2
    assert all(mlm_autoencoder.lengths(bands, mlm_autoencoder.Settings())[-1][-1] >= 1 for bands in range(2, 120))


def seen(function, x, pixel):
    """Return where the output of a function of an image changes with one pixel: (H, W) bool."""
    other = np.array(x)
    other[pixel] += 1
    changed = np.asarray(function(jnp.asarray(other))) - np.asarray(function(x))
    return np.abs(changed).max(axis=-1) > 1e-6


@partial(quick, static_argnums=1)
def swin_block(key, width):
    return ust_net._block(key, width, ust_net.Settings())


window_attention = quick(ust_net.window_attention, static_argnums=(2, 3, 4))
dilated_attention = quick(dtu_net.dilated_attention, static_argnums=(3, 4))


def test_a_shifted_window_holds_true_neighbours_only():
    """8 x 8 pixels, windows of 4 shifted by 2: the corner's window wraps around, its attention does not."""
    block, x = swin_block(jax.random.key(0), 6), jax.random.normal(jax.random.key(1), (8, 8, 6))

    def shifted(image):
        return window_attention(block, image, 6, 4, 2)

    expected = np.zeros((8, 8), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(seen(shifted, x, (0, 0)), expected)
    np.testing.assert_array_equal(seen(shifted, x, (7, 7)), expected[::-1, ::-1])
    middle = np.zeros((8, 8), bool)
    middle[2:6, 2:6] = True
    np.testing.assert_array_equal(seen(shifted, x, (3, 4)), middle)
    still = seen(lambda image: window_attention(block, image, 6, 4, 0), x, (0, 0))
    assert still[:4, :4].all() and still.sum() == 16


def test_the_window_attention_by_hand():
    """One window of all 16 pixels: softmax(q . k / sqrt(c) + bias of the relative position) v."""
    block = swin_block(jax.random.key(0), 12)
    block["positions"] = jax.random.normal(jax.random.key(2), (49, 6))
    x = jax.random.normal(jax.random.key(1), (4, 4, 12))
    q, k, v = np.split(np.asarray(x).reshape(16, 12) @ np.asarray(block["qkv"]["w"]), 3, axis=1)
    rows, columns = np.divmod(np.arange(16), 4)
    out = np.zeros((16, 12))
    for head in range(6):
        part = slice(2 * head, 2 * head + 2)
        place = (rows[:, None] - rows[None] + 3) * 7 + columns[:, None] - columns[None] + 3
        scores = q[:, part] @ k[:, part].T / 2**0.5 + np.asarray(block["positions"])[place, head]
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, part] = share / share.sum(axis=1, keepdims=True) @ v[:, part]
    found = window_attention(block, x, 6, 4, 0)
    np.testing.assert_allclose(found.reshape(16, 12), out @ np.asarray(block["out"]["w"]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dilation", dtu_net.DILATIONS)
def test_dilated_attention_sees_its_dilated_neighbours_and_no_other(dilation):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 9, 9, 4))
    for which in range(3):

        def attention(image, which=which):
            given = [q, k, v]
            given[which] = image
            return dilated_attention(*given, 2, dilation)

        expected = np.zeros((9, 9), bool)
        reach = [4 - dilation, 4, 4 + dilation] if which else [4]
        expected[np.ix_(reach, reach)] = True
        np.testing.assert_array_equal(seen(attention, (q, k, v)[which], (4, 4)), expected)


def test_the_decoder_of_dtu_net_is_post_nonlinear_at_known_b():
    settings = SMALL.dilated
    decode = quick(lambda w: dtu_net.decode(w, CUBE, MAPS, settings))
    bend = quick(lambda w, cube, x: dtu_net.bend(w, cube, x, settings))
    N, left = SHAPE[0] * SHAPE[1], 3 * BANDS // 4
    weights = {
        "bend": [{"w": jnp.asarray(w, jnp.float32), "b": jnp.zeros(1)} for w in RANDOM.normal(size=(3, 5, 1))],
        "bend_maps": {"w": jnp.asarray(RANDOM.normal(size=(left, N)), jnp.float32), "b": jnp.zeros(N)},
        "endmembers": START,
    }
    b = jnp.linspace(-0.3, 0.3, N)
    known = weights | {"bend_maps": {"w": jnp.zeros((left, N)), "b": b}}
    x = np.asarray(MAPS) @ np.asarray(START)
    np.testing.assert_allclose(decode(known), x + np.asarray(b).reshape(*SHAPE, 1) * x**2, rtol=1e-4)
    # And b depends on the scene by its mean alone: the same pixels in another order have the same b.
    found = np.asarray(bend(weights, CUBE, jnp.asarray(x)))
    assert np.std(found) > 0
    np.testing.assert_allclose(found, bend(weights, CUBE[::-1], jnp.asarray(x[::-1])), rtol=1e-4, atol=1e-6)


def test_the_widths_of_dtu_net_suit_any_count():
    assert dtu_net.widths(3, dtu_net.Settings()) == [72, 144, 288, 576]
    for count in range(2, 13):
        width, *_, last = dtu_net.widths(count, dtu_net.Settings())
        assert width % 3 == 0 and last % count == 0 and 72 <= width < 72 + 3 * count


def test_the_attention_to_all_by_hand():
    q, k, v = np.asarray(jax.random.normal(jax.random.key(0), (3, 2, 3, 4)))
    flat = [x.reshape(6, 4) for x in (q, k, v)]
    expected = np.zeros((6, 4))
    for part in (slice(0, 2), slice(2, 4)):
        share = np.exp(flat[0][:, part] @ flat[1][:, part].T / 2**0.5)
        expected[:, part] = share / share.sum(axis=1, keepdims=True) @ flat[2][:, part]
    found = quick(dtu_net.full_attention, static_argnums=3)(q, k, v, 2)
    np.testing.assert_allclose(found.reshape(6, 4), expected, rtol=1e-4, atol=1e-5)

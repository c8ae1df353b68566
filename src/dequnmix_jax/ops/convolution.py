"""The convolution of all networks, in the forms that XLA runs fastest.

XLA's CPU compiler has a fast path for canonical convolutions only (b01f, 01io -> b01f, one group). Outside a loop it
transforms others to that form, inside a loop it does not, and every solve, adjoint solve and training is a loop: there
the derivative from jax took 82 to 122 ms, the canonical form takes 2 (3 x 3, 32 -> 32 channels, 95 x 95). All
derivatives are therefore written as canonical convolutions. On a GPU these are the ordinary forms too.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from dequnmix_jax.ops import stored_programs

_LABELS = ("NHWC", "HWIO", "NHWC")

_NARROW = 4
"""Product of input and output channels up to which a convolution is written as matrix products: XLA's CPU convolution
has no fast path there. 7 x 7, 2 -> 1 channels (the attention) at 95 x 95, CPU ms: 1.2 as a convolution, 0.2 as
products; the kernel gradient 2.5 and 0.2."""

_rounding: ContextVar[Callable[[jax.Array], jax.Array] | None] = ContextVar("_rounding", default=None)


@contextlib.contextmanager
def rounded_operands(rounding: Callable[[jax.Array], jax.Array]) -> Iterator[None]:
    """Round both operands of every convolution, and of its derivatives, that is traced in this context.

    Simulates products of lower precision on any device. The gradient in a kernel of few channels is not rounded.
    Compiled programs are discarded at both ends, because their caches do not depend on the context, and stored ones are
    not used.
    """
    jax.clear_caches()
    token = _rounding.set(rounding)
    try:
        with stored_programs.suspended():
            yield
    finally:
        _rounding.reset(token)
        jax.clear_caches()


def _rounded(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    rounding = _rounding.get()
    return (x, w) if rounding is None else (rounding(x), rounding(w))


@jax.custom_vjp
def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve an image with zero padding, keeping its size.

    Args:
        x: (H, W, I).
        w: (K, L, I, O), K and L odd.

    Returns:
        (H, W, O).
    """
    if w.shape[2] * w.shape[3] <= _NARROW:
        return _narrow(x, w)
    return _canonical(w.shape[0] // 2, w.shape[1] // 2)(x[None], w)[0]


def _convolve_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, w), (x, w)  # convolve itself, so that second derivatives use these rules too


def _convolve_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    return transpose(g, w), _kernel_gradient(x, g, w.shape)


convolve.defvjp(_convolve_forward, _convolve_backward)


def transpose(g: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the transpose of `convolve(., w)`: (H, W, O) -> (H, W, I), as a forward convolution, differentiable too."""
    return convolve(g, jnp.swapaxes(w[::-1, ::-1], 2, 3))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: jax.Array, g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return the gradient of `convolve` in w: x and g correlated at the lags of the kernel, (K, L, I, O).

    The channels of one image are the batch, the other image is the kernel, as large as the image. The image with fewer
    channels is the batch. On 2 CPU cores at 95 x 95 and 3 x 3, 32 -> 32 channels 1.7 ms (nine products of shifted
    images 4.0, patches and one product 4.8), 3 -> 32 and 32 -> 3 0.16 ms (0.4 and 3.4).
    """
    if x.shape[-1] * g.shape[-1] <= _NARROW:
        return _narrow_lags(x, g, shape)
    if x.shape[-1] > g.shape[-1]:  # the correlation of g with x, at the opposite lags
        return jnp.swapaxes(_lags(g, x, shape)[::-1, ::-1], 2, 3)
    return _lags(x, g, shape)


def _kernel_gradient_forward(
    x: jax.Array, g: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _kernel_gradient(x, g, shape), (x, g)


def _kernel_gradient_backward(
    _: tuple[int, ...], kept: tuple[jax.Array, jax.Array], dw: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, g = kept
    return transpose(g, dw), convolve(x, dw)  # bilinear: <dw, gradient(x, g)> = <convolve(x, dw), g>


_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)


def _lags(x: jax.Array, g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return sum over pixels p of x[p + lag] g[p], for the lags of an odd kernel: (K, L, channels of x, of g)."""
    images = jnp.moveaxis(x, -1, 0)[..., None]
    return jnp.moveaxis(_canonical(shape[0] // 2, shape[1] // 2)(images, g[:, :, None, :]), 0, 2)


@cache
def _canonical(rows: int, columns: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return the convolution of images (N, H, W, I) by a kernel (K, L, I, O), `rows` and `columns` of zeros around.

    Under vmap with a kernel for each scene jax makes one grouped convolution. On a CPU this has no fast path: four
    scenes at 95 x 95 one after the other take 8 CPU ms instead of 43 (32 -> 32 channels), 2 instead of 32 (32 -> 3).
    """
    padding = ((rows, rows), (columns, columns))

    def plain(images: jax.Array, w: jax.Array) -> jax.Array:
        # At the default precision of the device. With operands rounded as on a GPU (TF32) the residual has a floor of
        # 8e-7 and the gradient an error of 7e-4 (float32: 3e-7 and 6e-4); as on a TPU (bfloat16), 7e-6 and 7e-3, as
        # large as the default tolerance: `experiments.equilibrium.precision`. Products with H use the highest
        # precision, because they carry the data term.
        images, w = _rounded(images, w)
        if images.shape[-1] % 2 and images.shape[-1] > 1:
            # An odd number of channels has no fast path in XLA's CPU convolution: 95 x 95, 3 x 3 to 32 channels, one
            # core, ms: from 3 channels 0.83, from 4 0.16; from 5 0.84, from 6 0.24 (jaxlib 0.10.2; in 0.12 from 3
            # channels 0.30 either way).
            images, w = (jnp.pad(a, [(0, int(axis == a.ndim + place)) for axis in range(a.ndim)])
                         for a, place in ((images, -1), (w, -2)))  # fmt: skip
        return lax.conv_general_dilated(images, w, (1, 1), padding, dimension_numbers=_LABELS)

    convolution = custom_vmap(plain)

    @convolution.def_vmap
    def mapped(_: int, batched: list[bool], images: jax.Array, w: jax.Array) -> tuple[jax.Array, bool]:
        if not batched[1]:  # one kernel for all: the scenes join the batch
            joined = convolution(images.reshape(-1, *images.shape[2:]), w)
            return joined.reshape(*images.shape[:2], *joined.shape[1:]), True

        def in_turn(images: jax.Array, w: jax.Array) -> jax.Array:
            if batched[0]:
                return lax.map(lambda scene: convolution(*scene), (images, w))
            return lax.map(lambda kernel: convolution(images, kernel), w)

        def grouped(images: jax.Array, w: jax.Array) -> jax.Array:
            return jax.vmap(plain, (0 if batched[0] else None, 0))(images, w)

        return lax.platform_dependent(images, w, cpu=in_turn, default=grouped), True

    return convolution


def _columns(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """Return the padded image with the neighbours in its row as channels: (H + rows - 1, W, columns * I)."""
    top, left = rows // 2, columns // 2
    padded = jnp.pad(x, ((top, top), (left, left), (0, 0)))
    return jnp.concatenate([padded[:, j : j + x.shape[1]] for j in range(columns)], axis=-1)


def _narrow(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve an image of few channels: all row kernels by one matrix product, then a sum of shifted rows."""
    x, w = _rounded(x, w)
    rows, columns, _, out = w.shape
    matrix = jnp.transpose(w, (1, 2, 0, 3)).reshape(-1, rows * out)
    each = jnp.matmul(_columns(x, rows, columns), matrix)
    return sum(each[i : i + x.shape[0], :, i * out : (i + 1) * out] for i in range(rows))  # type: ignore[return-value]


def _narrow_lags(x: jax.Array, g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return `_lags` of images of few channels: the transpose of `_narrow` in w."""
    rows, columns, channels, out = shape
    shifted = jnp.concatenate([jnp.pad(g, ((i, rows - 1 - i), (0, 0), (0, 0))) for i in range(rows)], axis=-1)
    flat = _columns(x, rows, columns).reshape(-1, columns * channels)
    product = jnp.matmul(flat.T, shifted.reshape(-1, rows * out))
    return jnp.transpose(product.reshape(columns, channels, rows, out), (2, 0, 1, 3))


def whole_windows(mask: jax.Array, kernel: int) -> jax.Array:
    """Return 1 where the whole window of a K x K kernel is valid, else 0: (H, W, 1)."""
    ones = jnp.ones((kernel, kernel, 1, 1), mask.dtype)
    return (convolve(mask, ones) > kernel * kernel - 0.5).astype(mask.dtype)


def valid_windows(mask: jax.Array, w: jax.Array) -> jax.Array:
    """Return 1 where all pixels that a filter of w (K, L, 1, F) weighs are valid, else 0: (H, W, F)."""
    weighs = lax.stop_gradient(w != 0).astype(mask.dtype)
    return (convolve(mask, weighs) > jnp.sum(weighs, axis=(0, 1, 2))[None, None] - 0.5).astype(mask.dtype)

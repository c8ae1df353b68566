"""Steps of the alternating direction method: shrinkage, total variation on a torus, and the regularised data term."""

import jax
import jax.numpy as jnp


def shrink(v: jax.Array, by: jax.Array | float) -> jax.Array:
    """Return the minimiser of by |x| + |x - v|^2 / 2, each entry for itself."""
    return jnp.sign(v) * jax.nn.relu(jnp.abs(v) - by)


def shrink_length(v: jax.Array, by: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
    """Return the minimiser of by |x|_2 + |x - v|^2 / 2, vectors along `axis`."""
    length = jnp.sqrt(jnp.sum(v * v, axis=axis, keepdims=True))
    return v * (jax.nn.relu(length - by) / jnp.where(length == 0.0, 1.0, length))


def differences(x: jax.Array) -> jax.Array:
    """Return the differences to the pixel below and to the right, (2, H, W, R), of maps on a torus."""
    return jnp.stack([jnp.roll(x, -1, axis=axis) - x for axis in (0, 1)])


def differences_adjoint(v: jax.Array) -> jax.Array:
    """Return the adjoint of `differences`, (H, W, R)."""
    return sum((jnp.roll(v[axis], 1, axis=axis) - v[axis] for axis in (0, 1)), jnp.zeros_like(v[0]))


def smooth(b: jax.Array) -> jax.Array:
    """Solve (I + D^T D) x = b for maps (H, W, R) on a torus, D the differences, by the Fourier transform."""
    H, W = b.shape[:2]
    turn = lambda n: 2.0 - 2.0 * jnp.cos(2.0 * jnp.pi * jnp.arange(n, dtype=b.dtype) / n)  # noqa: E731
    spectrum = 1.0 + turn(H)[:, None] + turn(W)[None, : W // 2 + 1]
    waves = jnp.fft.rfft2(b, axes=(0, 1))
    return jnp.fft.irfft2(waves * (1.0 / spectrum)[..., None].astype(waves.dtype), s=(H, W), axes=(0, 1))


def data_step(basis: jax.Array, values: jax.Array, target: jax.Array, weight: jax.Array, sum_to_one: bool) -> jax.Array:
    """Solve (G + weight I) x = target in every pixel (..., R), G = V diag(values) V^T, under sum x = 1 if asked."""
    inverse = 1.0 / (values + weight)
    turned = jnp.matmul(target, basis, precision="highest") * jnp.expand_dims(inverse, tuple(range(target.ndim - 1)))
    x = jnp.matmul(turned, basis.T, precision="highest")
    if not sum_to_one:
        return x
    ones = jnp.matmul(basis, inverse * jnp.sum(basis, axis=0), precision="highest")
    return x - ((jnp.sum(x, axis=-1, keepdims=True) - 1.0) / jnp.sum(ones)) * jnp.expand_dims(
        ones, tuple(range(x.ndim - 1))
    )

"""Steps of the alternating direction method: shrinkage, total variation on a torus, and the regularised data term."""

import jax
import jax.numpy as jnp


def shrink(v: jax.Array, by: jax.Array | float) -> jax.Array:
    """Return the minimiser of by |x| + |x - v|^2 / 2, each entry for itself."""
    return jnp.sign(v) * jax.nn.relu(jnp.abs(v) - by)


def shrink_length(v: jax.Array, by: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
    """Return the minimiser of by |x|_2 + |x - v|^2 / 2, vectors along `axis`."""
    square = jnp.sum(v * v, axis=axis, keepdims=True)
    length = jnp.sqrt(jnp.where(square == 0.0, 1.0, square))  # the derivative of the root at 0 is infinite
    return v * jnp.where(square == 0.0, 0.0, jax.nn.relu(length - by) / length)


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


def data_step(basis: jax.Array, inverse: jax.Array | None, target: jax.Array, sum_to_one: bool) -> jax.Array:
    """Return M target in every pixel (..., R), under sum x = 1 if asked, for M = V diag(inverse) V^T.

    V = `basis` are eigenvectors; where `inverse` is None, `basis` is M itself.
    """

    def times(b: jax.Array) -> jax.Array:
        if inverse is None:
            return jnp.matmul(b, basis, precision="highest")
        turned = jnp.matmul(b, basis, precision="highest") * jnp.expand_dims(inverse, tuple(range(b.ndim - 1)))
        return jnp.matmul(turned, basis.T, precision="highest")

    x = times(target)
    if not sum_to_one:
        return x
    ones = times(jnp.ones_like(basis[0]))
    return x - ((jnp.sum(x, axis=-1, keepdims=True) - 1.0) / jnp.sum(ones)) * jnp.expand_dims(
        ones, tuple(range(x.ndim - 1))
    )

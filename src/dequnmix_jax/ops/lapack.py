"""Decompositions of one matrix per scene, which run one after the other under jax.vmap on a CPU.

jaxlib divides a batch of LAPACK calls among the threads on which XLA itself runs, and waits for them there: two batches
at the same time, on as many threads, deadlock (jaxlib 0.10.2: 64 scenes on two cores, one thread in a batched QR and
one in a batched eigenvalue decomposition). One matrix at a time is not divided. Batches over pixels go through
`small_systems`, which does not call LAPACK.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from dequnmix_jax.ops.guards import divide

Decomposition = Callable[[jax.Array], tuple[jax.Array, ...]]
Rule = Callable[[tuple[jax.Array, ...], jax.Array, jax.Array], tuple[jax.Array, ...]]


def _one_by_one(plain: Decomposition, rule: Rule | None = None) -> Decomposition:
    """Return the same function, whose batches run sequentially on a CPU and in parallel elsewhere.

    Args:
        plain: the decomposition of one matrix.
        rule: (answer, x, change of x) -> change of the answer, with matrix products alone. Without a rule the
            derivative is that of `plain`, with batched LAPACK calls: for functions that are not differentiated.
    """
    single = custom_vmap(plain)

    @single.def_vmap
    def mapped(_: int, batched: list[bool], x: jax.Array) -> tuple[Any, Any]:
        answer = lax.platform_dependent(x, cpu=lambda x: lax.map(single, x), default=jax.vmap(plain))
        return answer, jax.tree.map(lambda _: True, answer)

    differentiable = jax.custom_jvp(single)  # the batching rule has no transpose of its own

    def derivative(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[Any, Any]:
        if rule is None:
            return jax.jvp(plain, primals, tangents)
        answer = differentiable(*primals)
        return answer, rule(answer, *primals, *tangents)

    differentiable.defjvp(derivative)
    return differentiable


def _product(*factors: jax.Array) -> jax.Array:
    result = factors[0]
    for factor in factors[1:]:
        result = jnp.matmul(result, factor, precision="highest")
    return result


def _eigh_rule(answer: tuple[jax.Array, ...], _: jax.Array, change: jax.Array) -> tuple[jax.Array, ...]:
    values, V = answer
    turned = _product(V.T, (change + change.T) / 2, V)
    gap = values[None, :] - values[:, None]
    shares = divide(1, gap)  # as jax: 0 where eigenvalues meet
    return jnp.diagonal(turned), _product(V, shares * turned)


def _pinv_rule(answer: tuple[jax.Array, ...], x: jax.Array, change: jax.Array) -> tuple[jax.Array, ...]:
    """Golub and Pereyra, SIAM Journal on Numerical Analysis 10(2), 1973."""
    (P,) = answer
    row = _product(P, P.T, change.T)
    column = _product(change.T, P.T, P)
    return (row - _product(row, x, P) + column - _product(P, x, column) - _product(P, change, P),)


def _cholesky_rule(answer: tuple[jax.Array, ...], _: Any, change: jax.Array) -> tuple[jax.Array, ...]:
    (L,) = answer
    back = inverse(L)
    inner = jnp.tril(_product(back, (change + change.T) / 2, back.T))
    return (_product(L, inner - jnp.diag(jnp.diagonal(inner)) / 2),)


def _root_rule(answer: tuple[jax.Array, ...], x: jax.Array, change: jax.Array) -> tuple[jax.Array, ...]:
    """The rule of the Cholesky factor of x x^T, which equals L up to signs of columns, which cancel."""
    return _cholesky_rule(answer, None, 2 * _product(change, x.T))


eigh: Decomposition = _one_by_one(lambda x: tuple(jnp.linalg.eigh(x)), _eigh_rule)
"""Eigenvalues, smallest first, and eigenvectors as columns, of a symmetric matrix."""

qr: Decomposition = _one_by_one(lambda x: tuple(jnp.linalg.qr(x)))
"""The orthonormal and the triangular factor of a QR decomposition."""

qr_root: Decomposition = _one_by_one(lambda x: (jnp.linalg.qr(x, mode="r"),))
"""The triangular factor of a QR decomposition, alone in a tuple."""

svd: Decomposition = _one_by_one(lambda x: tuple(jnp.linalg.svd(x)))
"""U, singular values and V^T."""

_inverse = _one_by_one(
    lambda x: (jnp.linalg.inv(x),), lambda answer, _, change: (-_product(answer[0], change, answer[0]),)
)
_cholesky = _one_by_one(lambda x: (jnp.linalg.cholesky(x),), _cholesky_rule)
_root_of_gram = _one_by_one(lambda x: (jnp.linalg.qr(x.T, mode="r").T,), _root_rule)
_log_determinant = _one_by_one(
    lambda x: (jnp.linalg.slogdet(x)[1],),
    lambda _, x, change: (jnp.sum(inverse(x).T * change),),
)
_determinant = _one_by_one(lambda x: (jnp.linalg.det(x),))


def inverse(x: jax.Array) -> jax.Array:
    """Return the inverse of a square matrix."""
    return _inverse(x)[0]


def cholesky(x: jax.Array) -> jax.Array:
    """Return L, lower triangular, of the symmetric positive definite matrix L L^T."""
    return _cholesky(x)[0]


def root_of_gram(x: jax.Array) -> jax.Array:
    """Return L, lower triangular, with L L^T = x x^T, of x (R, C), C >= R, from a QR decomposition of x^T.

    Rounding grows with the condition of x, and not with its square as in the Cholesky factor of the product.
    """
    return _root_of_gram(x)[0]


def log_determinant(x: jax.Array) -> jax.Array:
    """Return log |det x|; -inf where it is singular."""
    return _log_determinant(x)[0]


def determinant(x: jax.Array) -> jax.Array:
    """Return det x."""
    return _determinant(x)[0]


def pinv(x: jax.Array, rtol: float | None = None) -> jax.Array:
    """Return the pseudo-inverse, singular values below `rtol` times the largest set to 0 (None: jax's own limit)."""
    return _pinv(rtol)(x)[0]


@cache
def _pinv(rtol: float | None) -> Decomposition:
    return _one_by_one(partial(_pinv_of, rtol=rtol), _pinv_rule)


def _pinv_of(x: jax.Array, rtol: float | None) -> tuple[jax.Array]:
    return (jnp.linalg.pinv(x, rtol=rtol),)

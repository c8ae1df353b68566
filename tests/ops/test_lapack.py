"""No batch of LAPACK calls: two of them on two threads of XLA can deadlock."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.ops import lapack, small_systems
from dequnmix_jax.training import fitting

_CALL = re.compile(r"(\S+\[[\d,]*\][^=]*?|\(.*?\)) custom-call\(.*custom_call_target=\"((?:lapack|blas)_\w+)\"")
_SHAPE = re.compile(r"[a-z]\d+\[([\d,]*)\]")


def batched(text):
    """Return the LAPACK and BLAS calls of a compiled program that hold more than one matrix."""
    found = []
    for line in text.splitlines():
        target = re.search(r'custom_call_target="((?:lapack|blas)_\w+)"', line)
        if target is None:
            continue
        shapes = [tuple(int(n) for n in s.split(",") if n) for s in _SHAPE.findall(line.split("custom_call_target")[0])]
        largest = max(shapes, key=len)
        if len(largest) > 2 and np.prod(largest[:-2]) > 1:
            found.append(f"{target[1]} of {largest}")
    return found


def calls(function, *arguments):
    return batched(jax.jit(function).lower(*arguments).compile().as_text())


@cache
def scene(count, bands=12):
    rng = np.random.default_rng(count)
    E = 0.2 + rng.random((count, bands))
    A = rng.dirichlet(np.ones(count), (5, 6))
    return jnp.asarray(A @ E, jnp.float32), jnp.asarray(E, jnp.float32)


def test_the_search_finds_what_it_looks_for():
    """A batched solve over pixels is detected; a single matrix, or one after the other, is not."""
    many = jnp.tile(jnp.eye(3), (7, 1, 1)) * 2
    assert calls(jnp.linalg.solve, many, jnp.ones((7, 3, 1)))
    assert calls(jax.vmap(jnp.linalg.qr), many)
    assert not calls(jnp.linalg.inv, many[0])
    assert not calls(jax.vmap(lapack.inverse), many)


@pytest.mark.parametrize(
    "name",
    ["fcls", "nnls", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scaled_nnls", "soft_nnls"))],
)
def test_classical_and_its_gradient(name):
    """Also with vmapped scenes."""
    function = {
        "fcls": dq.abundances.fcls, "nnls": dq.abundances.nnls,
        "scaled_nnls": lambda Y, E: dq.abundances.scaled_nnls(Y, E)[0],
        "soft_nnls": lambda Y, E: dq.abundances.soft_nnls(Y, E)[0],
    }[name]  # fmt: skip

    def slope(cube, endmembers):
        return jax.value_and_grad(lambda Y, E: jnp.sum(jnp.sin(function(Y, E))), (0, 1))(cube, endmembers)

    cube, E = scene(8 if name == "fcls" else 3)
    assert not calls(jax.vmap(slope), jnp.stack([cube] * 2), jnp.stack([E] * 2))


@pytest.mark.parametrize(("count", "constraint"), [
    (8, dq.equilibrium.Simplex()), pytest.param(8, dq.equilibrium.Soft(), marks=pytest.mark.slow),
    pytest.param(3, dq.equilibrium.Simplex(), marks=pytest.mark.slow),
    pytest.param(3, dq.equilibrium.Cone(), marks=pytest.mark.slow),
], ids=lambda value: getattr(value, "word", None))  # fmt: skip
def test_training_and_unmixing(count, constraint):
    """One program each: a step of training holds the solve, its adjoint and the update."""
    cube, E = scene(count)
    config = dq.Model(constraint=constraint, gradient=dq.equilibrium.Analytic(), prior="none")
    choices = dq.Training(epochs=2)
    state = jax.eval_shape(lambda E: fitting.begin(jax.random.key(0), cube, config, endmembers=E), E)
    state = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype) if not jax.dtypes.issubdtype(
        x.dtype, jax.dtypes.prng_key) else jax.random.key(0), state)  # fmt: skip

    def both(state, cube):
        new, _ = fitting.advance(state, cube, config, choices, dq.Rates(), 2)
        return new, dq.unmix(new.params, cube, config)[0]

    many = jax.tree.map(lambda x: jnp.stack([x] * 2), state)
    assert not calls(jax.vmap(both), many, jnp.stack([cube] * 2))


@pytest.mark.parametrize("count", [1, 5, pytest.param(8, marks=pytest.mark.slow), 16])
@pytest.mark.parametrize("condition", [10.0, 1e4])
def test_elimination_is_as_accurate_as_lapack(count, condition):
    """Against LAPACK in double precision: no worse than LAPACK in single precision by more than a factor of three."""
    rng = np.random.default_rng(count)
    N = 200
    Q = np.linalg.qr(rng.standard_normal((N, count, count)))[0]
    A = Q * np.geomspace(1, 1 / condition, count) @ Q.swapaxes(1, 2)
    A = ((A + A.swapaxes(1, 2)) / 2).astype(np.float32)
    b = rng.standard_normal((N, count, 2)).astype(np.float32)
    exact = np.linalg.solve(A.astype(np.float64), b.astype(np.float64))

    def error(x):
        return np.mean(np.abs(x - exact).max(axis=(1, 2)) / np.abs(exact).max(axis=(1, 2)))

    single = np.asarray(jnp.linalg.solve(jnp.asarray(A), jnp.asarray(b)))
    found = small_systems.eliminate(jnp.asarray(A.transpose(1, 2, 0)), jnp.asarray(b.transpose(1, 2, 0)))
    assert error(np.asarray(found).transpose(2, 0, 1)) <= 3 * error(single) + 1e-7
    assert error(np.matmul(small_systems.inverses(jnp.asarray(A)), b)) <= 6 * error(single) + 1e-6


def test_elimination_leaves_out_what_depends_on_others():
    """A duplicate gets 0, and the others their solution."""
    v = jnp.array([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [1.0, 1.0, 3.0]])
    x = small_systems.eliminate(v[:, :, None], jnp.array([3.0, 3.0, 4.0])[:, None, None])[:, 0, 0]
    np.testing.assert_allclose(x, [1.0, 0.0, 1.0], atol=1e-6)


def test_faces_of_pixels_to_any_order(x64):
    """On the support of each pixel, in several blocks, with first and second derivatives against plain LAPACK."""
    rng = np.random.default_rng(0)
    R, N = 4, 3500  # two blocks
    B = rng.standard_normal((R, 9))
    G, inside, g = jnp.asarray(B @ B.T / 9), jnp.asarray(rng.random((N, R)) < 0.6), jnp.asarray(rng.random((N, R)))

    def plain(G, g):
        both = inside[:, :, None] & inside[:, None, :]
        pad = jnp.where(inside, R * jnp.finfo(G.dtype).eps, 1.0)
        H = jnp.where(both, G[None], 0.0) + pad[:, :, None] * jnp.eye(R)[None]
        return jnp.linalg.solve(H, jnp.where(inside, g, 0.0)[..., None])[..., 0]

    def energy(solve):
        return lambda G, g: jnp.sum(jnp.sin(solve(G, g)))

    def mine(G, g):
        return small_systems.solve_on_faces(G, inside, g)

    np.testing.assert_allclose(mine(G, g), plain(G, g), atol=1e-10)
    for found, expected in zip(*(jax.grad(energy(f), (0, 1))(G, g) for f in (mine, plain)), strict=True):
        symmetric = (lambda x: x + x.T) if found.shape == (R, R) else (lambda x: x)
        np.testing.assert_allclose(symmetric(found), symmetric(expected), atol=1e-8)
    second = [jax.jvp(jax.grad(energy(f), 1), (G, g), (G * 0.1, jnp.cos(g)))[1] for f in (mine, plain)]
    np.testing.assert_allclose(*second, atol=1e-8)


_MATRICES = {
    "inverse": (lapack.inverse, jnp.linalg.inv, False),
    "cholesky": (lapack.cholesky, jnp.linalg.cholesky, True),
    "root_of_gram": (
        lambda x: jnp.square(lapack.root_of_gram(x)),  # its columns have no sign
        lambda x: jnp.square(jnp.linalg.cholesky(jnp.matmul(x, x.T))),
        False,
    ),
    "log_determinant": (lapack.log_determinant, lambda x: jnp.linalg.slogdet(x)[1], False),
    "pinv": (lapack.pinv, jnp.linalg.pinv, False),
    "eigenvalues": (lambda x: lapack.eigh(x)[0], lambda x: jnp.linalg.eigh(x)[0], True),
    "eigenvectors": (lambda x: jnp.square(lapack.eigh(x)[1]), lambda x: jnp.square(jnp.linalg.eigh(x)[1]), True),
}


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("inverse", "root_of_gram", "eigenvectors") else pytest.param(name, marks=pytest.mark.slow)
        for name in _MATRICES
    ],
)
def test_derivatives_of_decompositions(name, x64):
    """Under vmap, first and second order, against those of jax; and no batch is left in either."""
    mine, theirs, symmetric = _MATRICES[name]
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((3, 4, 6 if name in ("pinv", "root_of_gram") else 4)))
    if symmetric:
        x = jnp.matmul(x, x.swapaxes(1, 2)) + jnp.eye(4)[None]

    def slopes(f):
        def of(x):
            return jnp.sum(jnp.sin(f((x + x.T) / 2 if symmetric else x)))

        return lambda x: (f(x), jax.grad(of)(x), jax.jvp(jax.grad(of), (x,), (jnp.cos(x),))[1])

    for found, expected in zip(*(jax.vmap(slopes(f))(x) for f in (mine, theirs)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    assert not calls(jax.vmap(slopes(mine)), x)
    assert calls(jax.vmap(theirs), x)

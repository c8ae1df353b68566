"""The learned equilibrium of endmembers: its map, its solve, its gradient."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.learned import joint
from dequnmix_jax.learned.weights import shipped
from dequnmix_jax.solvers.config import Adjoint, BiCGSTAB, Picard, Solver
from dequnmix_jax.solvers.implicit import fixed_point

COUNT, PIXELS = 3, 400


@cache
def scene(seed=0, scaled=False, noise=0.01, shift=0.1):
    """Return a geometry of a simplex without pure pixels, and vertices that are too small by `shift`."""
    keys = jax.random.split(jax.random.key(seed), 3)
    a = jax.random.dirichlet(keys[0], jnp.ones(COUNT), (PIXELS,))
    true = jnp.eye(COUNT) + 0.2
    true = true / true[:, :1]
    level = jnp.exp(0.2 * jax.random.normal(keys[1], (PIXELS, 1))) if scaled else jnp.ones((PIXELS, 1))
    points = (a @ true) * level + noise * jax.random.normal(keys[2], (PIXELS, COUNT)) * jnp.asarray([[0.0, 1, 1]])
    covariance = noise**2 * jnp.diag(jnp.asarray([0.0, 1, 1]))
    geometry = joint.Geometry(
        points, jnp.ones(()), covariance, jnp.ones(PIXELS, bool), jnp.asarray(scaled),
        jnp.asarray([-1.5, -1.5, 0.0, 0.0, float(scaled)]),
    )  # fmt: skip
    start = (1 - shift) * true + shift * jnp.mean(true, axis=0)[None]
    return geometry, start, true


def weights():
    """Return the shipped weights, whose map moves vertices."""
    return shipped()[0].joint


@pytest.mark.parametrize("scaled", [False, True])
def test_the_equilibrium_of_a_small_simplex_is_nearer_to_the_truth(scaled):
    geometry, start, true = scene(scaled=scaled)
    vertices, trace = joint.equilibrium(weights(), geometry, start)
    assert bool(trace.converged)
    assert np.abs(vertices - true).mean() < 0.7 * np.abs(start - true).mean()


def test_the_answer_is_a_fixed_point():
    geometry, start, _ = scene()
    vertices, trace = joint.equilibrium(weights(), geometry, start)
    facets = joint.facets_of(vertices, geometry.height)
    moved = joint.joint_map((weights(), geometry), facets)
    size = np.sqrt(np.mean(np.square(moved)))
    assert bool(trace.converged)
    assert np.sqrt(np.mean(np.square(moved - facets))) <= 2 * joint.FORWARD.tolerance * size


def test_the_map_is_equivariant_to_the_order_of_endmembers():
    geometry, start, _ = scene()
    order = np.asarray([2, 0, 1])
    facets = joint.facets_of(start, geometry.height)
    moved = joint.joint_map((weights(), geometry), facets)
    turned = joint.joint_map((weights(), geometry), facets[order])
    assert float(jnp.max(jnp.abs(moved - facets))) > 1e-3
    np.testing.assert_allclose(turned, moved[order], rtol=0, atol=2e-4)


def test_the_map_has_no_unit():
    """A change of coordinates of the frame changes nothing: what is learned does not depend on it."""
    geometry, start, _ = scene()
    turn = jnp.asarray([[1.0, 0, 0], [0, 2.0, 1.0], [0, -1.0, 3.0]])
    other = geometry._replace(points=geometry.points @ turn, noise=turn.T @ geometry.noise @ turn)
    moved = joint.vertices_of(joint.joint_map((weights(), geometry), joint.facets_of(start, geometry.height)))
    also = joint.vertices_of(joint.joint_map((weights(), other), joint.facets_of(start @ turn, other.height)))
    np.testing.assert_allclose(also, moved @ turn, rtol=0, atol=5e-3)


def test_masked_pixels_change_nothing():
    geometry, start, _ = scene()
    wrong = jnp.concatenate([geometry.points, jnp.full((50, COUNT), 7.0)])
    masked = geometry._replace(points=wrong, valid=jnp.arange(PIXELS + 50) < PIXELS)
    facets = joint.facets_of(start, geometry.height)
    one, two = (joint.joint_map((weights(), g), facets) for g in (geometry, masked))
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_gradient_implicit_unrolled_and_finite_differences():
    """In float64, of half the map: the shipped one hardly contracts along some directions."""
    with jax.enable_x64(True):
        geometry, start, true = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, scene())
        base = jax.tree.map(lambda x: x.astype(jnp.float64), weights())
        forward = Solver(Picard(), tolerance=1e-12, max_steps=60)
        backward = Adjoint(BiCGSTAB(), tolerance=1e-10, max_steps=60)
        facets = joint.facets_of(start, geometry.height)

        def contracted(t):
            """Half way between the map and its start: a contraction, with the derivative of the map in it."""
            layers = tuple((w + t * jnp.cos(jnp.arange(w.size, dtype=w.dtype)).reshape(w.shape) * 0.01, b)
                           for w, b in base.layers)  # fmt: skip
            return base._replace(layers=layers)

        def error(q):
            return jnp.mean(jnp.square(joint.vertices_of(q) - true))

        def half(theta, q):
            return 0.5 * (joint.joint_map(theta, q) + facets)

        def implicit(t):
            return error(fixed_point(half, forward, backward, (contracted(t), geometry), facets)[0])

        def unrolled(t):
            theta = (contracted(t), geometry)
            return error(jax.lax.scan(lambda q, _: (half(theta, q), None), facets, None, length=40)[0])

        zero, step = jnp.zeros(()), 1e-3
        one, two = (float(jax.grad(f)(zero)) for f in (implicit, unrolled))
        three = float((unrolled(zero + step) - unrolled(zero - step)) / (2 * step))
    assert abs(one) > 1e-9
    assert one == pytest.approx(two, rel=1e-4)
    assert one == pytest.approx(three, rel=1e-2)

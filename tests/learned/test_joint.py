"""The learned equilibrium of endmembers: its map, its solve, its gradient."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.learned import joint
from dequnmix_jax.learned.weights import shipped
from dequnmix_jax.solvers.config import Adjoint, Anderson, BiCGSTAB, Solver

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
    solver = Solver(Anderson(memory=3), tolerance=1e-5, max_steps=100)
    vertices, _ = joint.equilibrium(weights(), geometry, start, solver)
    facets = joint.facets_of(vertices, geometry.height)
    moved = joint.joint_map((weights(), geometry), facets)
    np.testing.assert_allclose(moved, facets, rtol=0, atol=2e-4 * np.abs(facets).max())


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


def test_gradient_implicit_unrolled_and_finite_differences():
    geometry, start, true = scene()
    forward = Solver(Anderson(memory=3), tolerance=1e-6, max_steps=60)
    backward = Adjoint(BiCGSTAB(), tolerance=1e-4, max_steps=60)
    base = weights()
    direction = [jax.random.normal(jax.random.key(i), w.shape) * 0.01 for i, (w, _) in enumerate(base.layers)]

    def at(t):
        layers = tuple((w + t * d, b) for (w, b), d in zip(base.layers, direction, strict=True))
        return base._replace(layers=layers)

    def error(vertices):
        return jnp.mean(jnp.square(vertices - true))

    def implicit(t):
        return error(joint.equilibrium(at(t), geometry, start, forward, backward)[0])

    def unrolled(t):
        facets = joint.facets_of(start, geometry.height)
        facets = jax.lax.scan(lambda q, _: (joint.joint_map((at(t), geometry), q), None), facets, None, length=40)[0]
        return error(joint.vertices_of(facets))

    one, two = (float(jax.grad(f)(jnp.zeros(()))) for f in (implicit, unrolled))
    step = 0.02
    three = float((unrolled(jnp.asarray(step)) - unrolled(jnp.asarray(-step))) / (2 * step))
    assert abs(one) > 1e-7
    assert one == pytest.approx(two, rel=0.05)
    assert one == pytest.approx(three, rel=0.15)

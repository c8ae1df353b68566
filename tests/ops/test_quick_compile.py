"""Quick compilation gives the same numbers, and is left alone inside other transformations and on large scenes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.ops import quick_compile
from dequnmix_jax.ops.quick_compile import effort_loop, effort_once, quick_jit


def slow_sum(x, count):
    return jnp.sum(jnp.sin(x) ** 2, axis=0) * count


def small(x, count):
    return "quick" if x.shape[0] < 5 else "full"


quickly = quick_jit(small, static_argnums=1)(slow_sum)


@pytest.mark.parametrize("rows", [4, 6])
def test_the_numbers_are_those_of_jit(rows):
    x = jnp.linspace(0, 1, rows * 3).reshape(rows, 3)
    np.testing.assert_allclose(quickly(x, 2), jax.jit(slow_sum, static_argnums=1)(x, 2), rtol=1e-6)


def test_it_works_inside_other_transformations():
    x = jnp.linspace(0, 1, 6).reshape(2, 3)
    inside = jax.jit(lambda x: quickly(x, 2))(x)
    np.testing.assert_allclose(jax.jit(lambda: quickly(np.asarray(x), 2))(), inside, rtol=1e-6)  # a constant of it
    mapped = jax.vmap(lambda x: quickly(x[None], 2))(x)
    gradient = jax.grad(lambda x: quickly(x, 2).sum())(x)
    np.testing.assert_allclose(inside, mapped.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * jnp.sin(2 * x), rtol=1e-5)


def test_a_small_scene_alone_is_compiled_quickly(monkeypatch):
    seen = []
    whole = jax.jit

    def jit(function, **options):
        seen.append(options.get("compiler_options", {}).get("xla_backend_optimization_level"))
        return whole(function, **options)

    monkeypatch.setattr(quick_compile.jax, "jit", jit)
    quick = quick_jit(small, static_argnums=1)(slow_sum)
    quick(jnp.zeros((6, 3)), 2)
    assert seen == [None, None]
    quick(jnp.zeros((4, 3)), 2)
    assert seen == [None, None, 0]


def test_the_effort_follows_the_work():
    tiny, middle, samson, large = (np.zeros((side, side, 3)) for side in (10, 60, 95, 200))
    assert [effort_once(cube, 3) for cube in (tiny, samson)] == ["quick"] * 2
    assert [effort_once(middle, count) for count in (8, 9)] == ["quick", "moderate"]
    assert [effort_once(large, count) for count in (2, 5, 6)] == ["quick", "moderate", "full"]
    assert [effort_loop(cube, 3) for cube in (tiny, samson)] == ["quick", "moderate"]
    assert effort_loop(large, 9) == "full"


def test_this_version_of_xla_knows_an_option():
    assert quick_compile.compiler_options("quick")["xla_backend_optimization_level"] == 0
    jax.jit(lambda x: x + 1, compiler_options=quick_compile.compiler_options("quick"))(jnp.zeros(2))

"""Compile programs that run once with little optimisation: for a small scene, compiling costs more than running.

A program for one scene is compiled for its shape, runs once or for a hundred steps, and is done. On CPUs, LLVM without
optimisation and the plain emitters of XLA compile the choice of endmembers three times as fast; it then runs up to four
times as long (`results/quick_compile.md`).
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from typing import Any, TypeVar

import jax
import numpy as np

LARGEST_WORK = 250_000
"""Pixels times squared endmembers up to which quick compilation pays for a program that runs once. Choosing the
endmembers on 95 x 95 pixels, R = 3 (81,000): 9.5 + 0.7 CPU s optimised, 3.3 + 1.9 quick; 40 x 40, R = 6 (58,000):
9.9 + 0.2 and 3.4 + 0.6; 200 x 200, R = 9 (3.2 million): 10.7 + 11.1 and 3.8 + 40.4."""

LARGEST_LOOP = 10_000
"""The same for a program that runs through a whole training, about a hundred steps."""

F = TypeVar("F", bound=Callable[..., Any])


@cache
def quick_options() -> dict[str, Any]:
    """Return the compiler options of a quick compilation, of those that this version of XLA knows."""
    wanted: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    program = jax.jit(lambda x: x).lower(jax.ShapeDtypeStruct((), np.float32))
    known: dict[str, Any] = {}
    for name, value in wanted.items():
        with suppress(jax.errors.JaxRuntimeError):
            program.compile(compiler_options={name: value})
            known[name] = value
    return known


def is_traced(*trees: Any) -> bool:
    """Return whether a transformation of JAX is at work: on arrays of these trees, or around the caller."""
    around = jax.device_put(np.zeros(()))  # inside jit this is traced, without a traced argument too
    return any(isinstance(leaf, jax.core.Tracer) for leaf in (around, *jax.tree.leaves(trees)))


def is_small(cube: Any, count: int, largest: int = LARGEST_WORK) -> bool:
    """Return whether quick compilation pays for a cube (H, W, B) and `count` endmembers."""
    return cube.shape[0] * cube.shape[1] * count**2 <= largest


def quick_jit(small: Callable[..., bool], **options: Any) -> Callable[[F], F]:
    """Return a decorator like `jax.jit`, whose programs are compiled quickly where `small(*arguments)` says so.

    Inside another transformation (jit, vmap, grad), and on other devices than CPUs, it is `jax.jit`.

    Args:
        small: is called with the arguments of the function.
        **options: those of `jax.jit`.
    """

    def decorate(function: F) -> F:
        optimised = jax.jit(function, **options)
        quick = cache(lambda: jax.jit(function, compiler_options=quick_options(), **options))

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if jax.default_backend() == "cpu" and not is_traced(args, kwargs) and small(*args, **kwargs):
                return quick()(*args, **kwargs)
            return optimised(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate

"""Compile programs that run once with little optimisation: for a small scene, compiling costs more than running.

A program for one scene is compiled for its shape, runs once or for a hundred steps, and is done. On CPUs, LLVM without
optimisation and the plain emitters of XLA compile the choice of endmembers three times as fast; it then runs up to four
times as long (`results/quick_compile.md`).
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from typing import Any, Literal, TypeVar

import jax
import numpy as np

from dequnmix_jax.ops import stored_programs

LARGEST_WORK = 250_000
"""Pixels times squared endmembers up to which quick compilation pays for a program that runs once. Choosing the
endmembers on 95 x 95 pixels, R = 3 (81,000): 17.2 CPU s, and 0.7 again, optimised, 7.7 and 1.5 quick; 40 x 40, R = 6
(58,000): 17.1 and 0.2, 6.9 and 0.6; 200 x 200, R = 9 (3.2 million): 35.5 and 17, 70 and 53. `dq.run` on 95 x 95, R = 3:
61.3 and 1.9, 21.8 and 4.4 (`results/quick_compile.md`)."""

LARGEST_ONCE = 1_000_000
"""The same up to which moderate effort pays for a program that runs once. `dq.run` on 100 x 100 pixels, R = 9
(810,000): 75.8 CPU s, and 8.6 again, optimised, 55.5 and 11.4 moderate, 60.6 and 40 quick; 60 x 60, R = 9 (292,000):
69.4 and 5.8, 47.3 and 6.6, 44.8 and 23.8 (the same table)."""

LARGEST_LOOP = 10_000
"""The same for a program that runs through a whole training, about a hundred steps. Between the two, such a program is
compiled with moderate effort. A training step on 96 x 96 pixels, R = 3: 10.8 CPU s full and 34 ms a step, 4.9 s
moderate and 36 ms, 1.5 s quick and 97 ms; 200 x 200, R = 6: 11.2 s and 0.79 s, 7.4 s and 1.2 s."""

F = TypeVar("F", bound=Callable[..., Any])
Effort = Literal["quick", "moderate", "full"]

_OPTIONS: dict[Effort, dict[str, Any]] = {
    "quick": {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
    "moderate": {"xla_cpu_use_fusion_emitters": False},
    "full": {},
}


@cache
def compiler_options(effort: Effort) -> dict[str, Any]:
    """Return the compiler options of an effort, of those that this version of XLA knows."""
    wanted = _OPTIONS[effort]
    if not wanted:
        return {}
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


def effort_once(cube: Any, count: int) -> Effort:
    """Return the effort that pays for a program that runs once."""
    if is_small(cube, count):
        return "quick"
    return "moderate" if is_small(cube, count, LARGEST_ONCE) else "full"


def effort_loop(cube: Any, count: int) -> Effort:
    """Return the effort that pays for a program that runs through a whole training."""
    if is_small(cube, count, LARGEST_LOOP):
        return "quick"
    return "moderate" if is_small(cube, count) else "full"


def quick_jit(effort: Callable[..., Effort], **options: Any) -> Callable[[F], F]:
    """Return a decorator like `jax.jit`, whose programs are compiled with the effort that `effort(*arguments)` returns.

    Its programs are stored if `stored_programs.use` names a folder. Inside another transformation (jit, vmap, grad),
    and on other devices than CPUs, it is `jax.jit`.

    Args:
        effort: is called with the arguments of the function.
        **options: those of `jax.jit`: `static_argnums`, `static_argnames`.
    """

    def decorate(function: F) -> F:
        in_others = jax.jit(function, **options)
        with_effort = cache(lambda level: jax.jit(function, compiler_options=compiler_options(level), **options))
        names = list(inspect.signature(function).parameters)
        static = {names[place] for place in _listed(options.get("static_argnums"))}
        static |= set(_listed(options.get("static_argnames")))

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if jax.default_backend() != "cpu" or is_traced(args, kwargs):
                return in_others(*args, **kwargs)
            level = effort(*args, **kwargs)
            fixed = [(name, value) for name, value in (*zip(names, args, strict=False), *kwargs.items())
                     if name in static]  # fmt: skip
            dynamic = tuple(value for name, value in zip(names, args, strict=False) if name not in static)
            named = {name: value for name, value in kwargs.items() if name not in static}
            return stored_programs.call(
                function,
                with_effort(level),
                (compiler_options(level), *fixed),
                (dynamic, named),
                (args, kwargs),
            )

        return call  # type: ignore[return-value]

    return decorate


def _listed(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,) if isinstance(value, int | str) else tuple(value)

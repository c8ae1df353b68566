"""Solve z = f(theta, z), and differentiate the solution.

* `fixed_point(f, solver, adjoint, theta, z0)`: solve, with implicit gradients at constant memory. The derivative of
  z* = f(theta, z*) is dz* = (I - J)^-1 (df/dtheta) dtheta, J = df/dz; reverse mode solves (I - J^T) u = w (Bai, Kolter
  and Koltun 2019).
* `solve`: the same solve without gradients; `unrolled`: differentiated through its steps, memory grows with them.
* `adjoint_trace`: how well the adjoint system was solved.

`Solver(method=Anderson(memory=5), tolerance=1e-4)` and `Adjoint(method=BiCGSTAB())` say how. Tolerances are relative:
RMS(f(z) - z) / RMS(f(z)).
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.solvers.config import (
        Adjoint,
        Anderson,
        BiCGSTAB,
        Broyden,
        JaxoptAnderson,
        Neumann,
        OneStep,
        Phantom,
        Picard,
        Solver,
    )  # fmt: skip
    from dequnmix_jax.solvers.forward import solve
    from dequnmix_jax.solvers.implicit import adjoint_trace, fixed_point, unrolled

__all__ = [
    "Adjoint", "Anderson", "BiCGSTAB", "Broyden", "JaxoptAnderson", "Neumann", "OneStep", "Phantom", "Picard", "Solver",
    "adjoint_trace", "fixed_point", "solve", "unrolled",
]  # fmt: skip

__getattr__, __dir__ = attach(
    __name__,
    {
        "solvers.config": __all__[:10],
        "solvers.forward": ["solve"],
        "solvers.implicit": ["adjoint_trace", "fixed_point", "unrolled"],
    },
)

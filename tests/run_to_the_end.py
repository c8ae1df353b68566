"""Run jobs to their end, one after the other: `run_to_the_end.py COUNT CONSTRAINT JOB ...`, for test_ends."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq

count, constraint, jobs = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
rng = np.random.default_rng(count)
E = np.abs(np.cumsum(rng.standard_normal((count, 20)), 1)) * 0.02 + 0.2
A = rng.dirichlet(np.ones(count), (64, 64))
Y = jnp.asarray(A @ E + 0.002 * rng.standard_normal((64, 64, 20)), jnp.float32)
E = jnp.asarray(E, jnp.float32)
kinds = {"simplex": dq.equilibrium.Simplex(), "cone": dq.equilibrium.Cone(), "soft": dq.equilibrium.Soft()}
config = dq.Model(constraint=kinds[constraint], gradient=dq.equilibrium.Analytic(), prior="none")


def run(job):
    if job == "fit":
        fit = jax.jit(lambda k, Y, E: dq.fit(k, Y, config, dq.Training(epochs=40), endmembers=E)[1].loss)
        return [fit(jax.random.key(0), Y, E)]
    if job == "unmix":
        params = dq.init(jax.random.key(0), Y, config, endmembers=E)
        return [jax.jit(lambda p, Y: dq.unmix(p, Y, config)[0].abundances)(params, Y)]
    exact = {
        "simplex": dq.abundances.fcls,
        "cone": dq.abundances.nnls,
        "soft": lambda Y, E: dq.abundances.soft_nnls(Y, E)[0],
    }[constraint]
    slope = jax.jit(jax.grad(lambda Y, E: jnp.sum(jnp.sin(exact(Y, E))), (0, 1)))
    for _ in range(20):
        found = slope(Y, E)
    return found


sys.exit(not all(np.isfinite(x).all() for job in jobs for x in run(job)))

"""Nonlinear mixing: models against their equations, recovered fractions, K-Hype against its dual, exact derivatives."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import dequnmix_jax as dq
from dequnmix_jax.abundances import (
    fcls,
    kernel,
    nonlinear,
    nonlinear_inversion,
    residual_part,
)
from dequnmix_jax.abundances.known import unmix_known
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.solvers.config import Solver

SHAPE, R, B = (3, 4), 3, 20


def draw(dtype=np.float64):
    """Return abundances (some pixels on a face), spectra and numbers of each pixel."""
    rng = np.random.default_rng(5)
    A = rng.dirichlet(np.ones(R), SHAPE)
    A[0, :3] = [[0.4, 0.6, 0], [0, 0.3, 0.7], [1, 0, 0]]
    bands = np.linspace(0, 1, B)[None]
    E = 0.4 + 0.3 * np.sin(6 * bands * rng.uniform(0.5, 1.5, (R, 1)) + rng.uniform(0, 6, (R, 1)))
    numbers = rng.uniform(0.1, 0.9, (*SHAPE, R))
    return tuple(jnp.asarray(x, dtype) for x in (A, E, numbers))


def mixed(word, A, E, numbers):
    """Return the cube of a model and its parameters, by loops over pixels and pairs."""
    A, E, numbers = (np.asarray(x) for x in (A, E, numbers))
    Y, own = np.zeros((*SHAPE, E.shape[1])), []
    for at in np.ndindex(*SHAPE):
        a, n = A[at], numbers[at]
        x = sum(a[r] * E[r] for r in range(R))
        if word in ("fan", "gbm"):
            g = n if word == "gbm" else np.ones(R)
            Y[at] = x + sum(g[k] * a[i] * a[j] * E[i] * E[j] for k, (i, j) in enumerate(combinations(range(R), 2)))
            own.append(n if word == "gbm" else [])
        elif word == "ppnm":
            Y[at] = x + (n[0] - 0.5) * x**2
            own.append([n[0] - 0.5])
        else:
            P = n[0] - 0.3
            Y[at] = (1 - P) * x / (1 - P * x)
            own.append([P])
    return jnp.asarray(Y), jnp.asarray(own).reshape(*SHAPE, -1)


MODELS = {
    "fan": nonlinear_inversion.fan,
    "gbm": nonlinear_inversion.gbm,
    "ppnm": nonlinear_inversion.ppnm,
    "mlm": nonlinear_inversion.mlm,
    "mlm multiplied": partial(nonlinear_inversion.mlm, fit="multiplied"),
}


SLOW = pytest.mark.slow  # the same code with another model


@pytest.mark.parametrize(
    "word", ["gbm", "ppnm", "mlm", *(pytest.param(w, marks=SLOW) for w in ("fan", "mlm multiplied"))]
)
def test_models_and_their_inverses(x64, word):
    """The cube is that of loops, and fractions and parameters come back."""
    A, E, numbers = draw()
    Y, own = mixed(word.split()[0], A, E, numbers)
    built = {
        "fan": lambda: nonlinear.bilinear(A, E),
        "gbm": lambda: nonlinear.bilinear(A, E, own),
        "ppnm": lambda: nonlinear.post_nonlinear(A, E, own[..., 0]),
        "mlm": lambda: nonlinear.multilinear(A, E, own[..., 0]),
    }[word.split()[0]]()
    np.testing.assert_allclose(built, Y, atol=1e-12)
    found = MODELS[word](Y, E)
    np.testing.assert_allclose(found.abundances, A, atol=1e-5)
    np.testing.assert_allclose(found.error, 0, atol=1e-6)
    real = np.ones(own.shape, bool)
    if word == "gbm":
        first, second = np.triu_indices(R, 1)
        real = np.asarray(A[..., first] * A[..., second]) > 1e-3
    np.testing.assert_allclose(np.asarray(found.parameters)[real], np.asarray(own)[real], atol=1e-3)


@pytest.mark.parametrize("word", ["ppnm", *(pytest.param(w, marks=SLOW) for w in MODELS if w != "ppnm")])
def test_derivatives_are_those_of_differences(x64, word):
    A, E, numbers = draw()
    Y, _ = mixed(word.split()[0], A, E, numbers)
    noise = 0.01 * np.random.default_rng(1).normal(size=Y.shape)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=A.shape))

    def value(Y, E):
        return jnp.sum(weights * MODELS[word](Y, E).abundances)

    rng, Y, step = np.random.default_rng(3), Y + noise, 1e-5
    in_Y, in_E = jax.grad(value, (0, 1))(Y, E)
    dY, dE = (jnp.asarray(rng.normal(size=x.shape)) for x in (Y, E))
    slope = jnp.vdot(in_Y, dY) + jnp.vdot(in_E, dE)
    ahead, behind = (value(Y + s * dY, E + s * dE) for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=2e-4)


def test_a_noisy_pixel_is_at_its_minimum(x64):
    """No other point nearby is better: against scipy from the answer and from elsewhere."""
    A, E, numbers = draw()
    Y, _ = mixed("ppnm", A, E, numbers)
    Y = Y + 0.02 * np.random.default_rng(1).normal(size=Y.shape)
    found = nonlinear_inversion.ppnm(Y, E)
    for at in ((0, 0), (1, 2)):

        def cost(z, at=at):
            x = z[:R] @ np.asarray(E)
            return np.sum((np.asarray(Y[at]) - x - z[R] * x**2) ** 2)

        start = np.append(np.full(R, 1 / R), 0.0)
        best = minimize(cost, start, bounds=[(0, 1)] * R + [(-2, 2)], method="SLSQP", options={"ftol": 1e-15},
                        constraints={"type": "eq", "fun": lambda z: z[:R].sum() - 1})  # fmt: skip
        assert cost(np.append(found.abundances[at], found.parameters[at])) <= best.fun * (1 + 1e-7)


def test_without_interactions_all_are_fcls(x64):
    """Parameters at zero are the linear model: what no bend explains is FCLS."""
    A, E, _ = draw()
    Y = A @ E
    for word in ("gbm", "ppnm", "mlm"):
        found = MODELS[word](Y, E)
        np.testing.assert_allclose(found.abundances, fcls(Y, E), atol=1e-5, err_msg=word)
        if word != "gbm":
            np.testing.assert_allclose(found.parameters, 0, atol=1e-4)
    plain = nonlinear_inversion.nascimento(Y, E)
    np.testing.assert_allclose(plain.abundances, A, atol=1e-6)
    far = kernel.khype(Y + 0.01, E, mu=1e-12, xi=1e9)
    np.testing.assert_allclose(far.abundances, fcls(Y + 0.01, E), atol=1e-5)


def test_nascimento_divides_by_what_is_area(x64):
    A, E, numbers = draw()
    b = 0.2 * numbers / jnp.sum(numbers, axis=-1, keepdims=True)
    Y = nonlinear.nascimento(0.8 * A, E, b)
    found = nonlinear_inversion.nascimento(Y, E)
    np.testing.assert_allclose(found.abundances, A, atol=1e-6)
    np.testing.assert_allclose(found.parameters, b, atol=1e-6)


def test_masks_batches_and_nan():
    A, E, numbers = draw(np.float32)
    Y = nonlinear.post_nonlinear(A, E, numbers[..., 0] - 0.5)
    bad = Y.at[0, 0].set(jnp.nan).at[2, 3].set(jnp.nan)
    mask = jnp.ones(SHAPE, bool).at[2, 3].set(False)
    both = jax.jit(jax.vmap(lambda y: nonlinear_inversion.ppnm(y, E, mask=mask)))(jnp.stack([Y, bad]))
    assert np.isnan(both.abundances[1, 0, 0]).all() and np.isfinite(both.abundances[1, 1:]).all()
    np.testing.assert_array_equal(both.abundances[:, 2, 3], 0)
    np.testing.assert_array_equal(both.error[:, 2, 3], 0)
    np.testing.assert_allclose(both.abundances[0][mask], A[mask], atol=1e-3)
    np.testing.assert_allclose(both.abundances[1, 1], both.abundances[0, 1], atol=1e-6)


def test_khype_solves_its_dual(x64):
    """Against the dual quadratic programme of B + R + 1 unknowns of the paper, by scipy."""
    A, E, _ = draw()
    Y = nonlinear.bilinear(A, E) + 0.02 * np.random.default_rng(1).normal(size=(*SHAPE, B))
    mu, xi, M = 0.02, 3.0, np.asarray(E).T
    K = (1 + (M - 0.5) @ (M - 0.5).T / R**2) ** 2
    np.testing.assert_allclose(kernel.kernel(E), K, atol=1e-12)
    found = kernel.khype(Y, E, mu=mu, xi=xi)
    for at in ((0, 0), (1, 1), (2, 0)):
        y = np.asarray(Y[at])

        def dual(z, y=y):
            beta, gamma, level = z[:B], z[B:-1], z[-1]
            a = (M.T @ beta + gamma - level) / mu
            value = 0.5 * beta @ (beta + K @ beta / xi) - beta @ y + 0.5 * mu * a @ a + level
            slope = np.concatenate([beta + K @ beta / xi - y + M @ a, a, [1 - a.sum()]])
            return value, slope

        bounds = [(None, None)] * B + [(0, None)] * R + [(None, None)]
        best = minimize(dual, np.zeros(B + R + 1), jac=True, bounds=bounds, method="L-BFGS-B",
                        options={"ftol": 1e-16, "gtol": 1e-10, "maxiter": 20000, "maxfun": 20000})  # fmt: skip
        a = (M.T @ best.x[:B] + best.x[B:-1] - best.x[-1]) / mu
        np.testing.assert_allclose(found.abundances[at], a, atol=2e-6)
        np.testing.assert_allclose(found.fluctuation[at], K @ best.x[:B] / xi, atol=2e-6)


@pytest.mark.slow
def test_derivatives_of_khype(x64):
    A, E, numbers = draw()
    Y, _ = mixed("gbm", A, E, numbers)
    Y = Y + 0.01 * np.random.default_rng(1).normal(size=Y.shape)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=A.shape))
    rng, step = np.random.default_rng(3), 1e-6
    dE = jnp.asarray(rng.normal(size=E.shape))

    def value(E):
        return jnp.sum(weights * kernel.khype(Y, E, kernel_word="gaussian").abundances)

    slope = jnp.vdot(jax.grad(value)(E), dE)
    np.testing.assert_allclose(slope, (value(E + step * dE) - value(E - step * dE)) / (2 * step), rtol=1e-4)


@pytest.mark.slow
def test_sk_hype_weighs_the_linear_part(x64):
    """Nearly all of a linear pixel, less of a bent one; the objective is no larger than at any other weight tried."""
    A, E, _ = draw()
    Y = A @ E
    straight = kernel.skhype(Y, E)
    bent = kernel.skhype(nonlinear.multilinear(A, E, jnp.full(SHAPE, 0.6)), E)
    assert float(jnp.median(straight.weight)) > float(jnp.median(bent.weight))
    np.testing.assert_allclose(jnp.sum(bent.abundances, axis=-1), 1, atol=1e-6)

    def cost(u, h, psi):
        rest = np.asarray(Y) - np.asarray(h) @ np.asarray(E) - np.asarray(psi)
        K = np.asarray(kernel.kernel(E))
        norm = np.einsum("hwb,bc,hwc->hw", psi, np.linalg.pinv(K, rcond=1e-10), psi)
        return (np.sum(np.square(h), -1)) / u + norm / (1 - u) + np.sum(rest**2, -1) / 0.01

    best = cost(np.asarray(straight.weight), straight.coefficients, straight.fluctuation)
    equal = kernel.khype(Y, E, mu=0.02, xi=0.02)  # u = 1/2, with the sum to one: a point of the feasible set
    assert np.all(best <= cost(0.5, equal.abundances, equal.fluctuation) + 1e-6)


@pytest.mark.slow
def test_derivatives_of_sk_hype_are_those_of_its_function_and_not_of_a_weight_that_moves(x64):
    """Exact between two values of u, which is constant there; over a longer way u jumps."""
    A, E, numbers = draw()
    Y, _ = mixed("gbm", A, E, numbers)
    Y = Y + 0.01 * np.random.default_rng(1).normal(size=Y.shape)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=A.shape))
    direction = jnp.asarray(np.random.default_rng(3).normal(size=Y.shape))

    def found(h):
        return kernel.skhype(Y + h * direction, E)

    def value(h):
        return jnp.sum(weights * found(h).abundances)

    slope = float(jax.grad(value)(0.0))
    near, far = ((found(h), found(-h), h) for h in (1e-7, 3e-2))
    np.testing.assert_array_equal(near[0].weight, near[1].weight)
    assert (np.asarray(far[0].weight) != np.asarray(far[1].weight)).any()
    quotient = float(jnp.sum(weights * (near[0].abundances - near[1].abundances))) / (2 * near[2])
    np.testing.assert_allclose(slope, quotient, rtol=1e-4)


def test_the_component_of_a_mixture_is_no_residual():
    """Another word for `fluctuation` is kept."""
    parts = residual_part.Component(*(jnp.full((1, 1, 2), float(n)) for n in range(3)), None)
    assert parts._fields[1] == "fluctuation" and parts.residual is parts.fluctuation


@pytest.mark.parametrize("kind", [pytest.param(w, marks=SLOW) for w in residual_part.KINDS])
def test_residual_components_are_at_their_minimum(x64, kind):
    """The optimality conditions of |.|^2 / 2 + weight |c|, and pixels without a component."""
    A, E, _ = draw()
    Y = nonlinear.bilinear(A, E).at[1].set(A[1] @ E)
    weight = 0.01
    found = residual_part.residual_component(
        Y, E, weight=weight, kind=kind, count=6, solver=Solver(tolerance=1e-9, max_steps=4000)
    )
    D = np.asarray(residual_part.dictionary(E, kind, 6))
    c, a = np.asarray(found.coefficients), np.asarray(found.abundances)
    rest = np.asarray(Y) - a @ np.asarray(E) - c @ D
    np.testing.assert_allclose(a, fcls(Y - jnp.asarray(c @ D), E), atol=1e-6)
    length = np.linalg.norm(c, axis=-1, keepdims=True)
    pull = rest @ D.T
    there = length[..., 0] > 0
    assert there[0].any() and not there[1].any()
    g = (pull - weight * c / np.where(length > 0, length, 1))[there]
    held = (c[there] == 0) if kind == "interactions" else np.zeros_like(g, bool)
    np.testing.assert_allclose(np.where(held, np.maximum(g, 0), g), 0, atol=2e-5)
    outside = np.maximum(pull, 0) if kind == "interactions" else pull
    assert np.all(np.linalg.norm(outside[~there], axis=-1) <= weight * (1 + 1e-6))


WORDS = ("ppnm", "nascimento", "gbm", "khype", "skhype")


@pytest.mark.parametrize("word", [pytest.param(w, marks=SLOW) for w in WORDS])
def test_words_are_their_functions(x64, word):
    """The change by a further step is small at the answer, and not beside it."""
    A, E, numbers = draw()
    Y, _ = mixed("gbm", A, E, numbers)
    mask = jnp.ones(SHAPE, bool).at[2, 3].set(False)
    Y = jnp.where(mask[..., None], Y, 0)
    found = unmix_known(Y, E, mask, jnp.asarray(1.0), Known(word))
    own = getattr(dq.abundances, word)(Y, E, mask=mask)
    np.testing.assert_allclose(found.abundances, own.abundances, atol=1e-8)
    assert bool(found.trace.converged) and float(found.trace.residual) < 1e-5
    np.testing.assert_array_equal(np.asarray(found.error)[2, 3], 0)
    if word == "ppnm":
        np.testing.assert_allclose(found.error, own.error, atol=1e-8)
        assert float(jnp.max(found.error)) < float(jnp.max(jnp.std(Y - found.abundances @ E, axis=-1)))


def test_what_does_not_fit_is_said():
    A, E, _ = draw(np.float32)
    Y = A @ E
    with pytest.raises(dq.InputError, match="expected reflectance, at most about 1"):
        nonlinear_inversion.ppnm(Y * 1000, E * 1000)
    with pytest.raises(dq.InputError, match="expected direct or multiplied"):
        nonlinear_inversion.mlm(Y, E, fit="both")
    with pytest.raises(dq.InputError, match="expected polynomial, homogeneous, gaussian"):
        kernel.khype(Y, E, kernel_word="cubic")
    with pytest.raises(dq.InputError, match="expected interactions or smooth"):
        residual_part.residual_component(Y, E, kind="rough")
    with pytest.raises(dq.InputError, match="expected a number for each pixel and pair"):
        nonlinear.bilinear(A, E, jnp.ones((2, 2, 3)))
    with pytest.raises(dq.InputError, match="expected one value a pixel"):
        nonlinear.multilinear(A, E, jnp.ones((2, 2)))

r"""What the spectra of a scene do not explain, as one covariance between bands: noise, variability and other mixing.

Errors that lie in the span of the spectra cannot be seen in the residual, and are just those that move fractions. So
the covariance is a sum of known kinds with unknown strengths t >= 0,

    C = t_1 diag(v) + t_2 I + sum_l (t_l K_l + t'_l K_l o (m m^T)) + t_y mean(y y^T)

v the residual of each band, K_l = exp(-((b - b') / l)^2 / 2) over band numbers (errors that are smooth over l bands,
equal or proportional to the RMS spectrum m), and y y^T a brightness that varies. The strengths are those that explain
the residual's covariance S best where it can be seen,

    min over t of |W (P S P - sum_j t_j P C_j P) W|^2,   W = (P C P)^(-1/2) of the step before,

P the projection off the span, as restricted maximum likelihood sees it (Patterson and Thompson, Biometrika 58, 1971).
A kind whose strength is less than `_CERTAIN` of its standard errors is left out.
"""

from typing import NamedTuple

import numpy as np

from dequnmix_jax.abundances.least_squares import nnls
from dequnmix_jax.checks import Array

_LENGTHS = (3, 8, 20, 60)
"""Bands over which errors are smooth."""

_CERTAIN = 4.0
"""Standard errors of a strength below which a kind is left out. On generated scenes 4 and 12 give the same coverage."""

_STEPS = 40
"""Fits at most; each leaves out one kind."""

_FAR = 10.0
"""Factor by which the variance of a band may differ from that of its residual."""

_SEEN = 0.2
"""Least share of a band in the residual, for the variance of that band."""


class SceneErrors(NamedTuple):
    """The covariance of the errors of pixels.

    Attributes:
        covariance: C (B, B) float64, squared units of the scene.
        strengths: the share of each kind in the trace of C, by its word.
    """

    covariance: np.ndarray
    strengths: dict[str, float]


def scene_errors(pixels: Array, endmembers: Array, sum_to_one: bool) -> SceneErrors:
    """Estimate the covariance of what the spectra do not explain.

    Args:
        pixels: (N, B), valid ones, N > 1.
        endmembers: (R, B), those of the method.
        sum_to_one: whether their coefficients sum to one, so that brightness is an error.
    """
    Y, E = np.asarray(pixels, np.float64), np.asarray(endmembers, np.float64)
    N, B = Y.shape
    origin = E.mean(axis=0) if sum_to_one else np.zeros(B)
    _, sizes, directions = np.linalg.svd(E - origin, full_matrices=True)
    rank = int(np.sum(sizes > 1e-6 * max(sizes.max(initial=0), 1e-300)))
    Z = directions[rank:].T  # (B, B - rank), off the span
    seen = (Y - origin) @ Z
    S = seen.T @ seen / N
    kinds = _kinds(Y, _band_variances(Z, S), sum_to_one)
    names = list(kinds)
    inside = [Z.T @ kinds[name] @ Z for name in names]
    active = np.ones(len(names), np.bool_)
    W = np.eye(len(S)) / max(np.trace(S) / len(S), 1e-300) ** 0.5
    strength = np.zeros(len(names))
    for step in range(_STEPS):
        # A kind that is left out is a column of zeros: problems of one size, for one compiled program.
        columns = np.stack([(W @ kind @ W).ravel() * there for kind, there in zip(inside, active, strict=True)], axis=1)
        units = np.linalg.norm(columns, axis=0)
        units[units == 0] = 1
        Q, R = np.linalg.qr(columns / units)
        found = nnls((Q.T @ (W @ S @ W).ravel())[None, None].astype(np.float32), R.T.astype(np.float32))
        strength = np.asarray(found, np.float64)[0, 0] / units
        M = np.einsum("j,jab->ab", strength, np.stack(inside))
        values, vectors = np.linalg.eigh(M)
        W = (vectors / np.sqrt(np.maximum(values, 1e-6 * max(values.max(), 1e-300)))) @ vectors.T
        if step == 0:
            continue
        certain = [_certainty(columns, strength, k) if active[k] else np.inf for k in range(len(names))]
        least = int(np.argmin(certain))
        if certain[least] * (N / 2) ** 0.5 >= _CERTAIN or active.sum() == 1:
            break
        active[least] = False
    chosen = {name: t for name, t in zip(names, strength, strict=True) if t > 0}
    C = sum((t * kinds[name] for name, t in chosen.items()), np.zeros((B, B)))
    total = max(float(np.trace(C)), 1e-300)
    return SceneErrors(C, {name: float(t * np.trace(kinds[name]) / total) for name, t in chosen.items()})


def _band_variances(Z: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Return the variances v of independent noise: the solution of diag(P diag(v) P) = diag(P S P) (Rao 1970)."""
    seen, P = np.sum((Z @ S) * Z, axis=1), Z @ Z.T
    plain = seen / np.maximum(np.diag(P), _SEEN)
    solved = np.linalg.lstsq(P * P, seen, rcond=1e-6)[0]
    return np.asarray(np.clip(solved, plain / _FAR, plain * _FAR))


def _kinds(Y: np.ndarray, bands: np.ndarray, sum_to_one: bool) -> dict[str, np.ndarray]:
    """Return the kinds of errors by their words, each (B, B)."""
    B = Y.shape[1]
    m = np.sqrt(np.mean(Y * Y, axis=0))
    apart = np.arange(B)[:, None] - np.arange(B)
    kinds = {"bands": np.diag(bands), "white": np.eye(B)}
    for length in (entry for entry in _LENGTHS if entry <= B):
        smooth = np.exp(-((apart / length) ** 2) / 2)
        kinds |= {f"smooth over {length} bands": smooth, f"proportional over {length} bands": smooth * np.outer(m, m)}
    if sum_to_one:
        kinds["brightness"] = Y.T @ Y / len(Y)
    return kinds


def _certainty(columns: np.ndarray, strength: np.ndarray, k: int) -> float:
    """Return the strength k in units of its error, up to the root of half the number of pixels."""
    others = [i for i in range(columns.shape[1]) if i != k and strength[i] > 0]
    rest = columns[:, k]
    if others:
        rest = rest - columns[:, others] @ np.linalg.lstsq(columns[:, others], rest, rcond=None)[0]
    return float(strength[k] * np.linalg.norm(rest))

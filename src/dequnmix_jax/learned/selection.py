"""Endmembers and a mixing model of a scene by the learned operator, without training on the scene."""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_key
from dequnmix_jax.endmembers import selection as rules
from dequnmix_jax.endmembers.candidates import (
    CANDIDATES,
    SceneScores,
    Scores,
    candidate_spectra,
    measure,
    pairs_of,
    random_half,
    scene_scores,
)
from dequnmix_jax.endmembers.noise import simplex_noise
from dequnmix_jax.endmembers.selection import CONSTRAINTS, SIMPLEX, SOFT, Selection
from dequnmix_jax.endmembers.subspace import frame, pixels
from dequnmix_jax.learned import choice, joint
from dequnmix_jax.learned.features import HALF, Shape, Way, context, features, shape_scores, ways_of
from dequnmix_jax.learned.weights import OperatorWeights, shipped
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.padding import pad, padded_shape
from dequnmix_jax.ops.quick_compile import effort_once, is_traced, quick_jit
from dequnmix_jax.types import Trace

WAYS: tuple[Way, ...] = ways_of(True)
"""The entries of `OperatorSelection.prediction`, in this order."""

_WAY_SPECTRA = np.asarray([way.spectra for way in WAYS], np.int32)
_WAY_CONSTRAINT = np.asarray([way.constraint for way in WAYS], np.int32)


class OperatorSelection(NamedTuple):
    """What the learned operator chose, and how sure it is.

    Attributes:
        endmembers: (R, B), >= 0, units of the cube.
        constraint_index: () int32, the mixing model as an index into `selection.CONSTRAINTS`.
        way: () int32, an index into `WAYS`.
        prediction: of the errors of every way (`choice.Prediction`).
        trace: of the learned equilibrium under both geometries, plane and cone, (2,) each.
        radius: (2,), spectral radius of its map at the answers; below 1 plain iteration converges too.
        rule: what the rule without learning chose, with the scores of the candidates (`select_endmembers`).
        scores: of the refined spectra, (2,) each.
        spectra: (18, R, B), those of the candidates and the refined ones, in which a `Way` counts.
    """

    endmembers: jax.Array
    constraint_index: jax.Array
    way: jax.Array
    prediction: choice.Prediction
    trace: Trace
    radius: jax.Array
    rule: Selection
    scores: Scores
    spectra: jax.Array

    @property
    def constraint(self) -> str:
        """The mixing model, "simplex", "cone" or "soft" (host side)."""
        return CONSTRAINTS[int(self.constraint_index)]

    def as_selection(self) -> Selection:
        """Return the choice in the place of the rule's, with the rule's scores of the candidates."""
        return self.rule._replace(endmembers=self.endmembers, constraint_index=self.constraint_index)

    @property
    def expected_error(self) -> tuple[float, float]:
        """aRMSE to expect (`choice.expected`), 1 at most, and the factor that one standard deviation is (host side)."""
        error, spread = choice.expected(self.prediction, int(self.way))
        return min(float(jnp.exp(error)), 1.0), float(jnp.exp(spread))


class Measured(NamedTuple):
    """What is measured of a scene before anything learned: all spectra (3, C, R, B), their scores and shapes (C,)."""

    spectra: jax.Array
    scores: Scores
    scene: SceneScores
    shape: Shape


class Views(NamedTuple):
    """The pixels under both geometries, plane and cone: `subspace.Frame` of each, and what the equilibrium reads.

    Attributes:
        points: (2, N, R).
        lifts: (2, R, B), and their pseudo-inverses, backs: (2, B, R).
        scenes: `joint.Geometry` of both, with a context of zeros.
    """

    points: jax.Array
    lifts: jax.Array
    backs: jax.Array
    scenes: joint.Geometry


class Refined(NamedTuple):
    """The learned equilibrium of a scene: refined spectra (2, R, B), and their starts (3, 2, R, B)."""

    spectra: jax.Array
    pair: jax.Array
    trace: Trace
    radius: jax.Array
    rule: Selection
    rule_way: jax.Array


def select(
    key: Array,
    cube: Array,
    count: int,
    *,
    mask: Array | None = None,
    constraint: str | None = None,
    weights: OperatorWeights | None = None,
    fixed: Array | None = None,
) -> OperatorSelection:
    """Choose endmembers and a mixing model by the learned operator, without training on the scene and without a truth.

    The candidates of `select_endmembers` are scored; the learned choice takes the best of each geometry (plane and
    cone), the learned equilibrium (`joint`) moves both, and a second choice decides among all 27 ways (`choice`). Where
    the equilibrium is not reached, the spectra stay as they were.

    Args:
        key: random key, of VCA and of the halves of the pixels.
        cube: (H, W, B), any units, B >= 2 R.
        count: R, static, at least 2.
        mask: (H, W) bool, True for valid pixels.
        constraint: "simplex", "cone" or "soft", static: only ways of this mixing model are compared; None: all.
        weights: of the operator; None: those of the package.
        fixed: (F, B), spectra that are known, in the units of the cube, F < R and all different: they are the first
            endmembers, unchanged, and the other R - F are looked for beside them. None: all are looked for.
            A spectrum of zeros (shade) has no direction under a cone: give `constraint` "simplex" with it.

    Returns:
        An OperatorSelection; a constant under differentiation.

    Raises:
        InputError: as `select_endmembers`.
    """
    check_key(key)
    rules.check_bands(cube, count, mask)
    if constraint is not None and constraint not in CONSTRAINTS:
        raise InputError(f"constraint is {constraint!r}; expected one of {', '.join(CONSTRAINTS)}, or None.")
    weights = shipped()[0] if weights is None else weights
    known = None if fixed is None else rules.fixed_spectra(fixed, count, cube)
    allowed: Any = np.ones(len(WAYS), np.bool_)
    if constraint is not None:
        allowed = np.equal(_WAY_CONSTRAINT, CONSTRAINTS.index(constraint))
    if is_traced(key, cube, mask):
        valid = jnp.ones(np.shape(cube)[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
        cube = jnp.where(valid[..., None], wide(lax.stop_gradient(cube)), 0)
        spectra = candidate_spectra(key, cube, valid, count, fixed=known)
        views = views_of(cube, valid, count, known)
        pairs = pairs_of(spectra)
        scores, shape = lax.map(lambda pair: (measure(pair, cube, valid), shapes(views, pair[0], valid)), pairs)
        measured = Measured(spectra, _in_order(scores), scene_scores(cube, valid, count), _in_order(shape))
        refined = refine(weights, measured, views, known)
        last = measure(refined.pair, cube, valid), shapes(views, refined.spectra, valid)
        return conclude(weights, measured, refined, *last, allowed)
    true = np.shape(cube)[:2]
    inside: Any = np.ones(true, np.bool_) if mask is None else mask
    half, shape_of_image = _half(key, true), padded_shape(cube, count)
    image, valid, half = (pad(x, shape_of_image) for x in (cube, inside, half))
    image = jnp.where(jnp.asarray(valid)[..., None], wide(jnp.asarray(image)), 0)
    spectra, of_scene = _spectra(key, image, valid, half, count, known)
    views = _views(image, valid, count, known)
    # The same programs for every pair, and for the refined one.
    found = [(_score(pair, image, valid), _shapes(views, pair[0], valid)) for pair in np.asarray(pairs_of(spectra))]
    scores, shape = jax.tree.map(lambda *x: np.stack(x), *found)
    measured = Measured(spectra, _in_order(scores), of_scene, _in_order(shape))
    refined = _refine(weights, measured, views, known)
    last = _score(refined.pair, image, valid), _shapes(views, refined.spectra, valid)
    return _conclude(weights, measured, refined, *last, allowed)


_T = TypeVar("_T", Scores, Shape)


def _in_order(of_pairs: _T) -> _T:
    """Return what is known of pairs (C / 2, 2) as that of the candidates, (C,)."""
    return jax.tree.map(lambda x: x.T.reshape(-1), of_pairs)


def views_of(cube: jax.Array, valid: jax.Array, count: int, fixed: jax.Array | None = None) -> Views:
    """Return the pixels under both geometries; `fixed` spectra do not move."""
    Y, inside = pixels(cube, valid)
    noise = simplex_noise(cube, count, mask=valid)
    views = [frame(Y, inside, count, scaled, fixed) for scaled in (False, True)]
    free = None if fixed is None else jnp.arange(count) >= fixed.shape[0]
    unknown = jnp.zeros(5, Y.dtype)
    scenes = [
        joint.geometry(view, noise, inside, scaled, unknown, free)
        for view, scaled in zip(views, (False, True), strict=True)
    ]
    backs = jnp.stack([lapack.pinv(view.lift) for view in views])
    lifts, points = jnp.stack([view.lift for view in views]), jnp.stack([view.points for view in views])
    return Views(points, lifts, backs, jax.tree.map(lambda *x: jnp.stack(x), *scenes))


def shapes(views: Views, E: jax.Array, valid: jax.Array) -> Shape:
    """Return the shapes (2,) of spectra (2, R, B), one of each geometry."""

    def of_geometry(given: tuple[jax.Array, ...]) -> Shape:
        E, points, noise, back, scaled = given
        facets = _safe_inverse(jnp.matmul(E, back, precision="highest")).T
        return shape_scores(points, noise, facets, jnp.max(E, axis=1), valid, scaled)

    # One after the other: the program of both is compiled once.
    return lax.map(of_geometry, (E, views.points, views.scenes.noise, views.backs, views.scenes.scaled))


def refine(weights: OperatorWeights, measured: Measured, views: Views, fixed: jax.Array | None = None) -> Refined:
    """Move the best candidate of each geometry by the learned equilibrium, but for its first, `fixed` spectra."""
    spectra, scores, scene, shape = measured
    rule = rules.decide(scores, scene, rules.Weights())
    soft = rule.constraint_index == SOFT
    rule_way = rule.chosen + jnp.where(soft, HALF, 0)
    contexts = jnp.stack([context(scores, scene, scaled) for scaled in (False, True)])
    scenes = views.scenes._replace(context=contexts)
    before = choice.predict(weights.first, features(scores, scene, shape, rule_way, False))
    m = choice.cost(before)
    finite = jnp.isfinite(scores.error)
    best = [
        jnp.argmin(jnp.where(finite[:HALF], m[:HALF], jnp.inf)),
        HALF + jnp.argmin(jnp.where(finite[HALF:], jnp.minimum(m[HALF : 2 * HALF], m[2 * HALF :]), jnp.inf)),
    ]
    pair = jnp.stack([spectra[:, i] for i in best], axis=1)  # (3, 2, R, B)
    starts = jnp.matmul(pair[0], views.backs, precision="highest")
    vertices, trace = jax.vmap(lambda s, V: joint.equilibrium(weights.joint, s, V))(scenes, starts)
    radius = jax.vmap(lambda s, V: joint.spectral_radius(weights.joint, s, V))(scenes, vertices)
    moved = jnp.maximum(jnp.matmul(vertices, views.lifts, precision="highest"), 0)
    # The frame has lost the level of the starts under the cone, and what lies outside its subspace.
    moved = jnp.stack([moved[0], _at_level(moved[1], pair[0, 1])])
    ok = trace.converged & jnp.all(jnp.isfinite(moved), axis=(1, 2)) & jnp.all(jnp.max(moved, axis=2) > 0, axis=1)
    moved = jnp.where(ok[:, None, None], moved, pair[0])
    if fixed is not None:  # not even rounded
        moved = moved.at[:, : fixed.shape[0]].set(fixed[None])
    return Refined(moved, pair.at[0].set(moved), trace, radius, rule, rule_way)


def conclude(
    weights: OperatorWeights, measured: Measured, refined: Refined, last: Scores, last_shape: Shape, allowed: Array
) -> OperatorSelection:
    """Choose one of the allowed ways (27,), from what is measured of the candidates and of the refined spectra."""
    both = lambda *x: jnp.concatenate(x)  # noqa: E731
    scores = jax.tree.map(both, measured.scores, last)
    shape = jax.tree.map(both, measured.shape, last_shape)
    x = features(scores, measured.scene, shape, refined.rule_way, True)
    prediction = choice.predict(weights.last, x)
    error, above = held_out(scores.error, measured.scene.floor)
    way = choice.decide(prediction, refined.rule_way, error, above, jnp.asarray(allowed))
    every = jnp.concatenate([measured.spectra[0], refined.spectra])
    return OperatorSelection(
        every[jnp.asarray(_WAY_SPECTRA)[way]], jnp.asarray(_WAY_CONSTRAINT)[way], way, prediction, refined.trace,
        refined.radius, refined.rule._replace(endmembers=measured.spectra[0][refined.rule.chosen]), last,
        every,
    )  # fmt: skip


def held_out(error: jax.Array, floor: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the log held-out error of each way, (27,), and what of it lies above the noise.

    Args:
        error: (18,), `Scores.error` of the candidates and of the refined spectra.
        floor: (2,), `SceneScores.floor`.
    """
    log_error = jnp.log(jnp.maximum(error, 1e-9))[_WAY_SPECTRA]
    floors = 0.5 * jnp.log(jnp.maximum(floor, 1e-14))
    return log_error, log_error - jnp.where(_WAY_CONSTRAINT == SIMPLEX, floors[0], floors[1])


def _at_level(E: jax.Array, start: jax.Array) -> jax.Array:
    """Return spectra scaled to the level (sum over bands) of the spectra they came from."""
    level = jnp.sum(start, axis=1) / jnp.maximum(jnp.sum(E, axis=1), 1e-12)
    return E * level[:, None]


def _safe_inverse(V: jax.Array) -> jax.Array:
    return jnp.nan_to_num(lapack.inverse(V), nan=0.0, posinf=0.0, neginf=0.0)


_half = quick_jit(lambda *_: "quick", static_argnums=1)(random_half)


@quick_jit(lambda _, cube, mask, half, count, fixed: effort_once(cube, count), static_argnums=4)
def _spectra(
    key: Array, cube: jax.Array, valid: jax.Array, half: jax.Array, count: int, fixed: jax.Array | None
) -> tuple[jax.Array, SceneScores]:
    return candidate_spectra(key, cube, valid, count, half, fixed), scene_scores(cube, valid, count)


@quick_jit(lambda pair, cube, valid: effort_once(cube, pair.shape[2]))
def _score(pair: jax.Array, cube: jax.Array, valid: jax.Array) -> Scores:
    return measure(pair, cube, valid)


@quick_jit(lambda cube, valid, count, fixed: effort_once(cube, count), static_argnums=2)
def _views(cube: jax.Array, valid: jax.Array, count: int, fixed: jax.Array | None) -> Views:
    return views_of(cube, valid, count, fixed)


@quick_jit(lambda views, E, valid: effort_once(valid, E.shape[1]))
def _shapes(views: Views, E: jax.Array, valid: jax.Array) -> Shape:
    return shapes(views, E, valid)


@quick_jit(lambda weights, measured, views, fixed: effort_once(_column(views), measured.spectra.shape[2]))
def _refine(weights: OperatorWeights, measured: Measured, views: Views, fixed: jax.Array | None) -> Refined:
    return refine(weights, measured, views, fixed)


def _column(views: Views) -> jax.ShapeDtypeStruct:
    """Return an image of one column with as many pixels."""
    return jax.ShapeDtypeStruct((views.points.shape[1], 1), np.float32)


_conclude = quick_jit(lambda *_: "quick")(conclude)


_WORDS = {"simplex": "linear", "cone": "scaled", "soft": "soft"}


def way_text(way: int, reached: bool = True) -> str:
    """Return the spectra of a way in words; `reached`: whether the learned equilibrium of its geometry was."""
    spectra = WAYS[way].spectra
    if spectra >= 2 * HALF:
        return "moved by the learned equilibrium" if reached else "the start of an equilibrium that was not reached"
    candidate = CANDIDATES[spectra]
    return f"{candidate.method}{', refined on the purest pixels' if candidate.purified else ''}"


def reason(selection: OperatorSelection, constraint: str | None = None) -> str:
    """Say in short sentences what was chosen and how sure the choice is (host side).

    Args:
        selection: from `select`.
        constraint: the constraint that the caller keeps whatever the operator chose, or None.
    """
    way = int(selection.way)
    reached = bool(selection.trace.converged[min(WAYS[way].constraint, 1)])
    error, factor = selection.expected_error
    mixing = f"{rules.ASKED[constraint]}, as asked for" if constraint else rules.MIXING[_WORDS[selection.constraint]]
    rule = int(selection.rule.chosen) + (HALF if selection.rule.constraint == "soft" else 0)
    kept = "as the rule without learning" if rule == way else f"the rule without learning: {way_text(rule)}"
    return (
        f"Endmembers: {way_text(way, reached)} ({kept}). Mixing: {mixing}. Expected error of the abundances: "
        f"{error:.2g} (from {error / factor:.2g} to {min(error * factor, 1):.2g} in two of three scenes)."
    )

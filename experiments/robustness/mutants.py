"""Mutation tests: change one line of the package at a time, and check whether the tests fail.

Each entry of `TABLE` is a plausible mistake: a sign, a bound, a mask, an axis, two arguments swapped, a missing check.
The tests named in it run on a copy of the project with that one line changed. A mutant is *killed* if a test fails,
*timed out* (which counts as killed) if a test does not end, and has *survived* if all pass. First the same tests run
once on the unchanged copy: a mutant whose tests fail there is *unsound*. An entry whose text does not occur exactly
once in its module is *stale* and must be rewritten.
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dequnmix_jax
from experiments.shared import results_table

ROOT = Path(__file__).parents[2]
_COPIED = ("src", "tests", "experiments", "benchmarks", "notebooks", "pyproject.toml", "README.md", "CITATION.cff")
_KILLED = ("killed", "timed out")


class Mutant(NamedTuple):
    """One changed line.

    Attributes:
        part: heading of the table.
        module: of the package, `wing/name` without suffix.
        old: text that occurs once in the module.
        new: its replacement.
        tests: files and tests of `tests/` in pytest's words.
    """

    part: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """The mutants that run, and time limits.

    Attributes:
        parts: beginnings of parts or modules; empty: all.
        shard: (i, n): every n-th mutant from the i-th, counted from 1.
        limit: seconds for one test.
        most: seconds for all tests of a mutant.
        first: maximum number of mutants.
    """

    parts: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)
    limit: int = 120
    most: int = 600
    first: int | None = None


QUICK = Settings(parts=("resampling",))


def read_table(text: str) -> list[Mutant]:
    """Return the entries of a table: `# part`, then `module: tests`, `- old` and `+ new` of each mutant.

    `metrics::errors_by_hand` stands for `tests/test_metrics.py::test_errors_by_hand`, `metrics` for its whole file. A
    line that ends in a backslash continues in the next.
    """
    mutants, part, module, old = [], "", "", ""
    tests: tuple[str, ...] = ()
    for line in text.strip().replace("\\\n", "").splitlines():
        if line.startswith("# "):
            part = line[2:]
        elif line.startswith("- "):
            old = line[2:]
        elif line.startswith("+"):
            mutants.append(Mutant(part, module, old, line[2:], tests))
        elif line.strip():
            module, named = line.split(":", 1)
            tests = tuple(_node(word) for word in named.split())
    return mutants


def _node(word: str) -> str:
    file, separator, test = word.partition("::")
    folder, slash, name = file.rpartition("/")
    return f"tests/{folder}{slash}test_{name}.py{separator}{'test_' if test else ''}{test}"


def main(settings: Settings, folder: Path) -> Path:
    """Run the selected mutants, and write `mutants.csv` and `mutants.md`."""
    chosen = [m for m in read_table(TABLE) if not settings.parts or any(
        name.startswith(settings.parts) for name in (f"{m.part} {m.module}", m.module, m.module.rpartition("/")[2])
    )]  # fmt: skip
    if not chosen:
        raise dequnmix_jax.InputError(f"{', '.join(settings.parts)}: no part or module of the table begins so.")
    chosen = chosen[settings.shard[0] - 1 :: settings.shard[1]][: settings.first]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "project"
        _copy(copy)
        run = _Runner(copy, settings)
        sound = _baseline(run, sorted({test for mutant in chosen for test in mutant.tests}))
        rows = []
        for number, mutant in enumerate(chosen, start=1):
            row = _row(run, mutant, sound)
            rows.append(row)
            print(f"{number}/{len(chosen)}  {results_table.line(row)}", flush=True)
        run.close()
    return _written(rows, folder, settings, time.perf_counter() - began)


def _written(rows: Sequence[dict[str, Any]], folder: Path, settings: Settings, seconds: float) -> Path:
    results_table.write_csv(folder / "mutants.csv", rows)
    total = _counted("all", rows)
    names = dict.fromkeys(row["part"] for row in rows)
    parts = [_counted(name, [row for row in rows if row["part"] == name]) for name in names]
    left = [f"* `{row['module']}`: `{row['old']}` as `{row['new']}` ({row['outcome']}; {row['tests']})" for row in rows
            if row["outcome"] not in _KILLED]  # fmt: skip
    note = (
        "Mutants of one line each, chosen by hand, and the tests that should detect them. Killed: a test "
        f"failed; timed out: a test had not ended after {settings.limit} s, which counts as killed. Share: of the "
        "killed among those killed or survived. Stale: its line does not exist any more; unsound: a test named for it "
        "does not exist, or fails without the mutant. Every mutant, the test that detected it and its seconds: "
        f"`mutants.csv`. {seconds:.0f} s in all.\n\n"
        + ("Not killed:\n\n" + "\n".join(left) if left else "All were killed.")
    )
    part, parts_of = settings.shard
    words = "python -m experiments.robustness.mutants" + (f" --shard {part}/{parts_of}" if parts_of > 1 else "")
    return _markdown(folder, words, note, [*parts, total])


def _markdown(folder: Path, words: str, note: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Write the Markdown of the parts, without changing the CSV of the mutants."""
    with tempfile.TemporaryDirectory() as temporary:
        made = results_table.write(Path(temporary), "mutants", rows, words, note, kind="Counts of mutants.")
        return Path(shutil.copy(made, folder / made.name))


def _counted(part: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    count = {word: sum(row["outcome"] == word for row in rows) for word in (*_KILLED, "survived", "stale", "unsound")}
    killed = sum(count[word] for word in _KILLED)
    share = killed / max(killed + count["survived"], 1)
    return {"part": part, "mutants": len(rows), **count, "share": share, "seconds": sum(row["seconds"] for row in rows)}


def _copy(target: Path) -> None:
    target.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, target / name)


_SERVER = """
import importlib.util, json, os, signal, sys, time
spec = importlib.util.spec_from_file_location("settings", "tests/conftest.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))  # the environment that the tests need, and jax
import flax.linen, h5py, jaxopt, matplotlib.figure, numpy, optax, pytest, rasterio, scipy.io
print("ready", flush=True)
for line in sys.stdin:
    words, out, seconds = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(file, 1), os.dup2(file, 2)
        code = int(pytest.main(words))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports the dependencies once and forks for each pytest run, because imports take seconds."""


class _Runner:
    """Runs tests on a copy of the project."""

    def __init__(self, copy: Path, settings: Settings) -> None:
        self.copy, self.settings, self.said = copy, settings, copy.parent / "said.txt"
        # Programs that a mutant does not change are compiled once; stale bytecode is not used.
        known = {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        known |= {"JAX_COMPILATION_CACHE_DIR": str(copy.parent / "compiled")}
        known |= {
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER],
            cwd=copy, env=os.environ | known, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> str:
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        if not line:
            raise dequnmix_jax.InputError("The process that runs the tests has ended; install the extra `dev`.")
        return line.strip()

    def __call__(self, tests: Sequence[str], *more: str, most: float | None = None) -> tuple[int, str, float]:
        """Run tests; return pytest's exit code, output and seconds."""
        words = ["-q", "-n0", "-p", "no:cacheprovider", "-rfE", "--no-header", "--tb=no"]
        words += [f"--timeout={self.settings.limit}", *more, *tests]
        assert self.server.stdin is not None
        began = time.perf_counter()
        self.server.stdin.write(json.dumps([words, str(self.said), most or self.settings.most]) + "\n")
        self.server.stdin.flush()
        code = int(self._answer())
        said = self.said.read_text(encoding="utf-8", errors="replace") if self.said.exists() else ""
        return code, said + ("\nTimeout" if code == -9 else ""), time.perf_counter() - began

    def close(self) -> None:
        """End the process."""
        self.server.communicate()


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["nothing said"])[-1][:100]


def _baseline(run: _Runner, tests: Sequence[str]) -> set[str]:
    """Return those tests that exist and pass on the unchanged copy."""
    code, said, seconds = run(tests, most=3600)
    print(f"without a mutant: {seconds:.0f} s, {_last(said)}", flush=True)
    if code == 0:
        return set(tests)
    if code == 1:  # all ran, and some failed
        failed = tuple(re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.M))
        print("not sound: " + ", ".join(failed), flush=True)
        return {test for test in tests if not any(name.startswith(test) for name in failed)}
    sound = set()
    for test in tests:  # a missing test keeps pytest from running the others
        code, said, _ = run([test], most=3600)
        if code == 0:
            sound.add(test)
        else:
            print(f"not sound: {test}: {_last(said)}", flush=True)
    return sound


def _row(run: _Runner, mutant: Mutant, sound: set[str]) -> dict[str, Any]:
    path = run.copy / "src" / "dequnmix_jax" / f"{mutant.module}.py"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    outcome, by, seconds, line = "stale", "", 0.0, 0
    if text.count(mutant.old) == 1:
        line = text[: text.index(mutant.old)].count("\n") + 1
        if not set(mutant.tests) <= sound:
            outcome = "unsound"
        else:
            path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
            try:
                code, said, seconds = run(mutant.tests, "-x")
            finally:
                path.write_text(text, encoding="utf-8")
            outcome = "survived" if code == 0 else "timed out" if re.search(r"^\+* ?Timeout", said, re.M) else "killed"
            failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", said, re.M)
            by = failed[1] if failed else "" if code == 0 else _last(said)
    return {
        "part": mutant.part, "module": mutant.module, "line": line, "old": mutant.old, "new": mutant.new,
        "tests": " ".join(mutant.tests).replace("tests/", ""), "outcome": outcome, "by": by, "seconds": seconds,
    }  # fmt: skip


TABLE = r"""
# solvers
solvers/forward: solvers/forward
- z = jnp.where(has_image, walk.image_x,
+ z = jnp.where(has_image, walk.x,
solvers/anderson: solvers/forward
- size <= GROWTH * walk.best_size
+ size <= 1e30 * walk.best_size
solvers/anderson: solvers/forward
- better = first | (sound & (residual < walk.best))
+ better = first | sound
solvers/anderson: solvers/forward::anderson_needs_far_fewer_steps_than_plain_iteration_on_a_stiff_map \
solvers/forward::finds_the_fixed_point_and_reports_the_residual_it_has
- return beta * r - _dot(weights, memory.dg) + shortened
+ return beta * r + _dot(weights, memory.dg) + shortened
solvers/anderson: solvers/forward::the_iterates_are_those_of_the_textbook
- lambda r: (1 - beta) * _dot(weights, memory.dr), r)
+ lambda r: beta * _dot(weights, memory.dr), r)
solvers/anderson: solvers/forward::a_restart_now_and_then_halves_the_steps_on_a_stiff_map
- filled = jnp.where(filled >= method.restart, 0, filled)
+ filled = jnp.where(filled >= method.restart, filled, filled)
solvers/forward: solvers/forward::anderson_ends_at_the_floor_of_its_precision_and_says_that_it_has_not_converged
- return ~walk.alive | ((walk.waited >= STALL) & (walk.best <= floor))
+ return ~walk.alive
solvers/anderson: solvers/forward::damping_makes_an_oscillating_map_converge
- step = jnp.asarray(method.damping, x.dtype) if memory is None else memory.step
+ step = jnp.asarray(1.0, x.dtype) if memory is None else memory.step
solvers/forward: solvers/forward::a_bfloat16_state_is_walked_in_float32
- if vector.dtype.itemsize >= 4 else
+ if vector.dtype.itemsize >= 2 else
solvers/anderson: solvers/forward
- jnp.where(first, jnp.isfinite(extent), extent <= walk.most)
+ jnp.isfinite(extent)
solvers/anderson: solvers/forward
- is_image = try_image | (~extrapolated & (step == 1) & ~first)
+ is_image = try_image | (~extrapolated & (step == 1))
solvers/forward: solvers/forward::residuals_are_those_of_the_iterates_of_solve
- return walk, walk.now
+ return walk, walk.best
solvers/jaxopt_methods: solvers/forward::finds_the_fixed_point_and_reports_the_residual_it_has \
solvers/forward::nan_is_never_a_success_and_ends_at_once
- improved = ends[1] <= ends[0]
+ improved = ends[1] > ends[0]
# implicit
solvers/implicit: solvers/implicit::the_adjoint_says_how_it_went
- return w + pull(u)
+ return w - pull(u)
solvers/implicit: solvers/implicit::the_adjoint_is_as_accurate_for_a_mean_as_for_a_sum
- unravel(u * scale), Trace
+ unravel(u), Trace
solvers/implicit: solvers/implicit::cheap_adjoints_are_the_neumann_series_cut_short
- count = backward.limit
+ count = backward.limit + 1
solvers/implicit: solvers/implicit::the_phantom_gradient_is_that_of_a_few_damped_steps_from_the_equilibrium
- method.damping if isinstance(method, Phantom) else 1, x.dtype
+ 1, x.dtype
solvers/implicit: solvers/implicit::the_tolerance_of_the_adjoint_follows_the_forward_one_unless_it_has_its_own
- tolerance if backward.tolerance is None else backward.tolerance, x.dtype
+ tolerance, x.dtype
solvers/implicit: solvers/implicit::bicgstab_ends_after_as_many_steps_as_there_are_unknowns
- p = s.r + beta * (s.p - s.omega * s.v)
+ p = s.r + beta * (s.p + s.omega * s.v)
solvers/implicit: solvers/implicit::a_traced_tolerance_reaches_both_solves_of_a_gradient
- cotangent[0], forward.tolerance if tolerance is None else tolerance)
+ cotangent[0], forward.tolerance)
solvers/implicit: solvers/implicit::a_nan_cotangent_ends_at_once_and_is_no_success
- alive=jnp.isfinite(residual) & (omega != 0) & (rho != 0),
+ alive=jnp.asarray(True),
# mixing and least squares
mixing: mixing::derivatives_of_the_projection
- return projected, jnp.where(inside, tangent - mean, 0.0)
+ return projected, jnp.where(inside, tangent + mean, 0.0)
mixing: mixing::projection_is_the_nearest_point_of_the_simplex \
mixing::projection_of_ties_far_values_and_its_own_results
- tau = jnp.maximum(tau, (total - 1.0) / (rank + 1))
+ tau = jnp.maximum(tau, total / (rank + 1))
mixing: mixing::projection_is_the_nearest_point_of_the_simplex \
mixing::projection_of_ties_far_values_and_its_own_results
- jnp.maximum(a, b), jnp.minimum(a, b)
+ jnp.maximum(a, b), jnp.maximum(a, b)
mixing: mixing::projection_is_the_nearest_point_of_the_simplex \
mixing::projection_of_ties_far_values_and_its_own_results
- jnp.max((jnp.cumsum(u, axis=-1) - 1.0) / k
+ jnp.min((jnp.cumsum(u, axis=-1) - 1.0) / k
mixing: mixing::normalising_splits_and_stays_finite_without_light
- jnp.where(dark, uniform, x / jnp.where(dark, 1.0, total))
+ x / total
mixing: mixing::normalising_splits_and_stays_finite_without_light
- brightness = jnp.where(mask, brightness, 0.0)
+ brightness = jnp.where(mask, brightness, 1.0)
mixing: mixing::unit_maximum_is_safe_and_blind_to_scale
- return E / positive(
+ return E / jnp.abs(
abundances/least_squares: abundances/least_squares::the_weight_of_a_soft_sum_is_in_units_of_the_valid_pixels
- if mask is None else jnp.maximum(jnp.sum(mask.astype(Y.dtype)), 1)
+ if mask is None else mask.size
abundances/least_squares: abundances/least_squares::masked_pixels_do_not_exist
- return x if mask is None else jnp.where(mask[..., None], x, 0.0)
+ return x
abundances/least_squares: abundances/least_squares::gradient_goes_through_the_active_set
- jnp.matmul(r, dE.T, precision="highest") + change
+ change - jnp.matmul(r, dE.T, precision="highest")
abundances/least_squares: abundances/least_squares::gradient_goes_through_the_active_set
- return a, u - v * (
+ return a, u + v * (
abundances/least_squares: abundances/least_squares::the_residual_by_hand
- residual = jnp.max(jnp.abs(x - project_cone(x - g)), axis=-1)
+ residual = jnp.min(jnp.abs(x - project_cone(x - g)), axis=-1)
abundances/least_squares: abundances/least_squares::scaled_nnls_separates_brightness
- nnls(cube, scale_to_unit_maximum(wide(endmembers)), mask=mask), mask)
+ nnls(cube, wide(endmembers), mask=mask), mask)
abundances/exact: abundances/exact::a_wrong_answer_of_the_search_is_noticed
- proved = off <= _OUTSIDE * eps
+ proved = off >= -1.0 + 0 * eps
abundances/exact: abundances/exact::blocks_and_repair
- jnp.arange(-(-N // block), dtype=jnp.int32)
+ jnp.arange(N // block, dtype=jnp.int32)
abundances/exact: abundances/exact::blocks_and_repair
- return x.at[pixels].set(answer, mode="drop"), number + 1
+ return x.at[pixels].set(answer * 0.5, mode="drop"), number + 1
abundances/active_set: abundances/exact::both_searches_agree_and_need_no_repair \
abundances/exact::blocks_and_repair
- least = jnp.min(share, axis=0)
+ least = jnp.max(share, axis=0)
abundances/active_set: abundances/exact::a_dependent_column_takes_no_part
- jnp.where((length <= small[k])[None], 0.0, a / nonzero(length)[None])
+ a / nonzero(length)[None]
abundances/active_set: abundances/exact
- jnp.where(rows == pivot[None], 1.0 - jnp.sum(z, axis=0)[None], z)
+ jnp.where(rows == pivot[None], jnp.sum(z, axis=0)[None], z)
abundances/enumeration: abundances/exact abundances/least_squares::scipy_finds_the_same
- dual = -jnp.matmul(M, across, precision="highest")
+ dual = jnp.matmul(M, across, precision="highest")
abundances/enumeration: abundances/exact::both_searches_agree_and_need_no_repair
- codes = np.arange(1 if sum_to_one else 0, 2**count)
+ codes = np.arange(1 if sum_to_one else 0, 2**count - 1)
abundances/pivoting: abundances/exact::both_searches_agree_and_need_no_repair
- sign = jnp.where(able, jnp.where(entering, 1.0, -1.0), 0.0)
+ sign = jnp.where(able, jnp.where(entering, -1.0, 1.0), 0.0)
abundances/pivoting: abundances/exact::both_searches_agree_and_need_no_repair
- k = (su - 1.0) / jnp.where(
+ k = su / jnp.where(
abundances/splitting: abundances/exact::many_endmembers_need_rounds_and_no_repair
- ((y > 0.0) & ~tab.repeated)
+ (y > 0.0)
abundances/splitting: abundances/exact::many_endmembers_need_rounds_and_no_repair
- + (1.0 - _RELAXED) * jnp.maximum(y, 0.0)
+ + _RELAXED * jnp.maximum(y, 0.0)
abundances/splitting: abundances/exact::many_endmembers_need_rounds_and_no_repair
- r = on_face(r - length * product)
+ r = on_face(r - 0.5 * length * product)
abundances/exact: abundances/exact::many_endmembers_need_rounds_and_no_repair \
abundances/exact::a_wrong_answer_of_splitting_is_repaired
- unproved.at[pixels].set(~proved, mode="drop")
+ unproved.at[pixels].set(False, mode="drop")
abundances/active_set: abundances/least_squares::shards_of_a_scene
- advance, alongside(start, t, P))[0]
+ advance, start)[0]
# projection in a metric
abundances/projection: abundances/projection::answers_on_faces_are_as_good_as_the_root_allows
- answer = answer + jnp.matmul(inverse, lifted, precision=lax.Precision.HIGHEST)
+ answer = answer + 0 * lifted
abundances/projection: abundances/projection::derivative_is_that_of_finite_differences
- change = jnp.concatenate([dw - _times(a, droot)
+ change = jnp.concatenate([dw + _times(a, droot)
abundances/projection: abundances/projection::equals_the_active_set_search
- better = jnp.all(x >= 0, axis=0) & (objective < value)
+ better = jnp.all(x >= -1, axis=0) & (objective < value)
abundances/projection: abundances/projection::equals_the_active_set_search
- & (objective < value)
+ & (objective > value)
abundances/projection: abundances/projection::nan_stays_where_it_was
- undefined = jnp.full_like(g, jnp.nan)
+ undefined = jnp.zeros_like(g)
abundances/projection: abundances/projection::equals_the_active_set_search
- answer = answer - offset[:, :, None] * jnp.sum(answer, axis=1)[:, None, :]
+ answer = answer + 0 * offset[:, :, None]
# model
equilibrium/fixed_point_map: equilibrium/model::the_factored_map_is_the_equation_of_the_paper
- precision=lax.Precision.HIGHEST) - data.b
+ precision=lax.Precision.HIGHEST) + data.b
equilibrium/fixed_point_map: equilibrium/model::the_cone_does_not_care_for_the_unit_of_the_cube \
equilibrium/model::the_factored_map_is_the_equation_of_the_paper
- if config.scales_endmembers else E / scale
+ if config.scales_endmembers else E
equilibrium/fixed_point_map: equilibrium/model::the_learned_energy_weighs_more_against_fewer_bands
- made.gain * (weight.size / jnp.maximum(jnp.sum(weight), 1))
+ made.gain
equilibrium/fixed_point_map: equilibrium/model::untrained_equilibrium_is_the_classical_answer
- level = config.constraint.slack**2 * jnp.sum(weight)
+ level = config.constraint.slack * jnp.sum(weight)
equilibrium/fixed_point_map: equilibrium/model::untrained_equilibrium_is_the_classical_answer
- metric.w + pulled
+ metric.w - pulled
equilibrium/fixed_point_map: equilibrium/model::a_masked_frame_changes_nothing
- return _project_in_metric(factors, factors.metric, state, G, config) * m
+ return _project_in_metric(factors, factors.metric, state, G, config)
equilibrium/fixed_point_map: equilibrium/model::the_factored_map_is_the_equation_of_the_paper
- A = proximal(factors, state - eta * G)
+ A = state - eta * G
equilibrium/fixed_point_map: equilibrium/model::many_endmembers_take_the_other_path_to_the_same_answer
- metric.unroot.T
+ metric.unroot
equilibrium/model: equilibrium/model::softmax_comes_near_the_simplex_as_gamma_grows
- jax.nn.softmax(config.constraint.gamma * state, axis=-1)
+ jax.nn.softmax(state, axis=-1)
equilibrium/scene_statistics: equilibrium/model::a_masked_frame_changes_nothing
- jnp.sum(valid.astype(Y.dtype)), Y.shape[-1])
+ jnp.asarray(Y[..., 0].size, Y.dtype), Y.shape[-1])
equilibrium/curvature: equilibrium/certify::the_step_none_is_the_certified_best_and_saves_steps
- lax.stop_gradient(2 / (1 + jnp.min(
+ lax.stop_gradient(2 / (2 + jnp.min(
# network
equilibrium/energy: equilibrium/network::a_level_image_has_no_edge_at_its_border_nor_at_a_hole
- counted = jnp.where(weights.pointwise[None, None] > 0, mask, windows)
+ counted = mask
equilibrium/energy: equilibrium/network::energy_gradient_is_symmetric_and_lies_between_zero_and_its_largest_gain
- transpose(s * d * jnp.tanh(t / d) * counted
+ transpose(s * jnp.tanh(t / d) * counted
equilibrium/energy: equilibrium/network::some_filters_see_one_pixel_and_the_others_differences
- jnp.where(alone[None, None, None], values, differences)
+ jnp.where(alone[None, None, None], differences, values)
equilibrium/network: equilibrium/network::a_masked_frame_changes_nothing
- jnp.where(mask > 0, x, jnp.finfo(x.dtype).min)
+ x
equilibrium/network: equilibrium/network::bounded_layers_make_a_network_that_does_not_expand
- return w / jnp.sqrt(jnp.maximum(square, 1))
+ return w / jnp.maximum(square, 1) ** 0.25
equilibrium/network: equilibrium/network::the_last_layer_starts_at_zero_where_asked
- nn.initializers.zeros if zero else
+ nn.initializers.zeros if not zero else
ops/convolution: equilibrium/network::transpose_is_the_adjoint
- jnp.swapaxes(w[::-1, ::-1], 2, 3)
+ jnp.swapaxes(w[::-1, :], 2, 3)
equilibrium/curvature: equilibrium/network::convolution_bound_holds_and_is_not_loose
- return 1 / between.astype(w.dtype)
+ return between.astype(w.dtype)
ops/convolution: equilibrium/network::convolution_and_its_derivatives_are_those_of_xla
- return jnp.swapaxes(_lags(g, x, shape)[::-1, ::-1], 2, 3)
+ return jnp.swapaxes(_lags(g, x, shape), 2, 3)
# certificate
equilibrium/certify: equilibrium/certify::no_pair_of_states_and_no_run_beats_the_certificate
- return jnp.maximum(jnp.abs(1 - step * alpha), jnp.abs(1 - step * beta))
+ return jnp.minimum(jnp.abs(1 - step * alpha), jnp.abs(1 - step * beta))
equilibrium/certify: equilibrium/certify::nothing_is_claimed_where_nothing_is_proven
- plain = not isinstance(config.gradient, Residual) and config.physical
+ plain = config.physical
equilibrium/certify: equilibrium/certify::equal_endmembers_have_no_certificate
- convex = alpha > 0
+ convex = alpha >= 0
equilibrium/certify: equilibrium/certify::the_step_none_is_the_certified_best_and_saves_steps
- return 1 / beta if one_sided else 2 / (alpha + beta)
+ return 1 / beta
equilibrium/certify: equilibrium/certify::on_logits_the_divergence_falls_as_the_theorem_says
- (1 if by_entropy else 2) / beta
+ 2 / beta
equilibrium/curvature: equilibrium/certify::differences_of_states_have_sum_zero
- if not sum_to_one:
+ if sum_to_one:
# endmembers
endmembers/pure_pixel: endmembers/pure_pixel::vca_does_not_see_masked_pixels_or_the_unit
- C = jnp.where(valid[:, None], S - mean[None, :], 0.0)
+ C = S - mean[None, :]
endmembers/pure_pixel: endmembers/pure_pixel::of_several_runs_the_one_of_largest_volume_is_kept
- jnp.argmax(volumes >= jnp.max(volumes) - tolerance)
+ jnp.argmin(volumes)
endmembers/pure_pixel: endmembers/pure_pixel::vca_in_noise_takes_the_centred_branch
- lax.cond(snr < threshold, centred, projective)
+ lax.cond(snr > threshold, centred, projective)
endmembers/pure_pixel: endmembers/pure_pixel::purify_averages_the_purest_with_ties
- (a >= largest[:, wanted - 1][None, :])
+ (a > largest[:, wanted - 1][None, :])
endmembers/pure_pixel: endmembers/pure_pixel::purify_does_not_see_masked_pixels_or_the_order
- a = jnp.where(valid[:, None], a, -jnp.inf)
+ a = jnp.where(valid[:, None], a, jnp.inf)
endmembers/pure_pixel: endmembers/extreme::pure_pixels_are_found_among_duplicates_dark_and_masked_ones
- rest = _farthest(x - x[first][None], bright, count - 1)
+ rest = _farthest(x, bright, count - 1)
endmembers/pure_pixel: endmembers/extreme::pure_pixels_are_found_among_duplicates_dark_and_masked_ones
- u = x[point] / positive(length)
+ u = x[point]
endmembers/pure_pixel: endmembers/extreme::no_exchange_of_a_pixel_makes_the_simplex_of_nfindr_larger
- chosen.at[jnp.mod(best, R)].set(best // R)
+ chosen.at[jnp.mod(best + 1, R)].set(best // R)
endmembers/pure_pixel: endmembers/extreme::no_exchange_of_a_pixel_makes_the_simplex_of_nfindr_larger
- (carry[1] > 1 + _GAIN) & (carry[3] < _EXCHANGES * R)
+ (carry[1] > 1.5 + _GAIN) & (carry[3] < _EXCHANGES * R)
endmembers/minimum_volume_simplex: endmembers/extreme::no_pure_pixels_and_the_minimum_volume_beats_vca_clearly
- curved = ((u < 0) & (u > -far))
+ curved = ((u > 0) & (u > -far))
endmembers/minimum_volume_simplex: endmembers/extreme::no_pure_pixels_and_the_minimum_volume_beats_vca_clearly
- e = e - jnp.einsum("rij,j->ri", inverse, price
+ e = e + jnp.einsum("rij,j->ri", inverse, price
endmembers/minimum_volume_simplex: endmembers/extreme::a_flat_scene_says_that_it_failed_and_gives_numbers
- Trace(last.steps, last.change, last.change <= _CHANGE)
+ Trace(last.steps, last.change, last.done)
endmembers/subspace: endmembers/extreme::the_frame_is_that_of_the_valid_pixels
- C = jnp.where(valid[:, None], Y - mean[None], 0)
+ C = Y - mean[None]
# noise and dimension
endmembers/noise: endmembers/noise::what_the_regression_has_fitted_is_given_back
- left = valid / jnp.where(freedom > 1, freedom, 1) / precision
+ left = 1 / precision
endmembers/noise: endmembers/noise::masked_pixels_do_not_count
- Y = jnp.where(mask[..., None], Y, 0)
+ Y = jnp.where(mask[..., None], Y, 1)
endmembers/noise: endmembers/noise::the_signal_subspace_holds_the_endmembers_and_little_noise
- kept = energies > 2 * jnp.matmul(noise
+ kept = energies > 0.5 * jnp.matmul(noise
endmembers/noise: endmembers/noise::the_unexplained_energy_is_the_squared_sine_to_the_best_subspace
- return jnp.sum(energies[count:]) / positive(total)
+ return jnp.sum(energies[count - 1 :]) / positive(total)
endmembers/noise: endmembers/noise::variability_is_zero_where_the_linear_model_holds_and_large_where_it_does_not
- return jnp.where(jnp.isnan(share), 1, jnp.clip(share, 0, 1))
+ return jnp.where(jnp.isnan(share), 1, 1 - jnp.clip(share, 0, 1))
endmembers/noise: endmembers/selection::the_distance_from_the_simplex_is_the_noise_or_the_variability
- unexplained / max(energies.size - count, 1), noise + varied)
+ unexplained / max(energies.size - count, 1), noise)
endmembers/dimension: endmembers/selection::the_number_of_endmembers_is_found
- return _counted(evidence, 2 * noise)
+ return _counted(evidence, 0.5 * noise)
endmembers/dimension: endmembers/selection::the_number_of_endmembers_is_found \
endmembers/selection::whitening_sees_what_coloured_noise_hides
- return _counted(second - covariance, sigma *
+ return _counted(second, sigma *
# start
endmembers/selection: endmembers/selection::each_doubt_alone_makes_a_choice_unsure
- doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~pure, ~stable])
+ doubts = jnp.stack([lacking >= 9, scene.beyond >= 1, soft, ~pure, ~stable])
endmembers/selection: endmembers/selection::each_doubt_alone_makes_a_choice_unsure
- doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~pure, ~stable])
+ doubts = jnp.stack([lacking >= 1, scene.beyond >= 9, soft, ~pure, ~stable])
endmembers/selection: endmembers/selection::each_doubt_alone_makes_a_choice_unsure
- doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~pure, ~stable])
+ doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~stable, ~stable])
endmembers/selection: endmembers/selection::the_decision_follows_the_scores
- cone = differ & ((shared > enough) | (brightness > weights.whole))
+ cone = differ & (brightness > weights.whole)
endmembers/selection: endmembers/selection::a_purified_candidate_may_fit_worse_where_spectra_vary
- - jnp.where(purified, weights.purified + weights.varied * scene.variability, 0)
+ - jnp.where(purified, weights.purified, 0)
endmembers/selection: endmembers/selection::the_decision_follows_the_scores
- + jnp.where(smallest, weights.varied * scene.variability, 0)
+ + 0
endmembers/selection: endmembers/selection::each_doubt_alone_makes_a_choice_unsure
- doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~pure, ~stable])
+ doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~pure, ~pure])
training/recipe: endmembers/selection::spectra_rest_where_they_vary_and_brightness_is_not_free
- (selection.constraint_index == CONE) | (selection.beyond < 1)
+ selection.beyond < 1
endmembers/selection: endmembers/selection::the_decision_follows_the_scores
- jnp.maximum(least**2 - floor, 0) + 0.02 * floor
+ least**2 + 0.02 * floor
endmembers/candidates: endmembers/selection::bands_are_judged_by_the_half_that_has_not_seen_them
- jnp.concatenate([from_even, from_odd], axis=-1), both
+ jnp.concatenate([from_odd, from_even], axis=-1), both
endmembers/candidates: endmembers/selection::bands_are_judged_by_the_half_that_has_not_seen_them
- shared = relative(around * rebuilt(of_simplex[3], of_simplex[4], linear))
+ shared = relative(around * rebuilt(of_simplex[4], of_simplex[3], linear))
learned/features: learned/features::a_brightness_that_mixing_changes_is_seen_with_its_size
- rest, bent = _rest(light, centred), _rest(about, centred)
+ rest, bent = light, _rest(about, centred)
learned/features: learned/features::products_are_seen_that_the_mixedness_does_not_show
- inner[:, first] * inner[:, second]
+ inner[:, first] + inner[:, second]
learned/features: learned/features::the_most_mixed_pixels_are_three_of_ten
- 3 * pixels // 10 - 1
+ 3 * pixels // 100
learned/features: learned/features::neither_masked_pixels_nor_the_size_of_the_scene_matter
- pixels // 20)
+ total // 20)
endmembers/candidates: endmembers/candidates::spectra_that_half_of_the_bands_cannot_tell_apart_are_scored
- Q = jnp.where(hidden[..., None], 0, Q)
+ Q = jnp.where(hidden[..., None], Q, Q)
endmembers/candidates: endmembers/candidates::the_angle_of_a_pixel_of_zeros_is_a_quarter_turn
- jnp.pi * half)
+ 2 * half)
endmembers/candidates: endmembers/candidates::shared_brightness
- plain[1:] / around[None]
+ plain[1:] * around[None]
endmembers/candidates: endmembers/candidates::purity_is_what_one_percent_of_the_valid_pixels_exceed
- rank = jnp.maximum(jnp.sum(valid) // 100, 1) - 1
+ rank = jnp.maximum(jnp.sum(valid) // 10, 1) - 1
endmembers/candidates: endmembers/selection::the_brightness_around_a_pixel_is_that_of_its_eight_neighbours
- at[1, 1].set(0)
+ at[1, 1].set(1)
endmembers/candidates: endmembers/selection::bands_are_judged_by_the_half_that_has_not_seen_them
- metrics.msad(first[metrics.align(first, second)], second)
+ metrics.msad(first, second)
# stages
training/stages: training/stages::the_better_endmembers_stand_whichever_come_first
- gain = misfit[0] - misfit[1]
+ gain = misfit[1] - misfit[0]
training/stages: training/stages::what_helps_only_in_pixels_of_the_training_is_left_out
- kept = jnp.all(gained > NEEDED)
+ kept = jnp.any(gained > NEEDED)
training/stages: training/stages::where_the_model_does_not_hold_to_the_noise_endmembers_are_not_moved
- kept = kept & (~jnp.asarray(moved) | (jnp.all(lower > NEEDED) & (after_all <= ADEQUATE)))
+ kept = kept & (~jnp.asarray(moved) | jnp.all(lower > NEEDED))
training/stages: training/stages::pixels_without_data_say_nothing
- cube = jnp.where(valid[..., None], cube, 0)
+ cube = cube
training/prior_stage: training/stages::the_prior_smooths_noise_and_leaves_texture
- jnp.square(SD) - removed[0] * removed[1]
+ jnp.square(SD) - 0 * removed[1]
training/prior_stage: training/stages::errors_of_spectra_that_vary_are_no_texture
- decrease + errors * taken
+ decrease + 0 * taken
training/prior_stage: training/stages::texture_stays_where_spectra_vary
- all_bands[0] - common[0] / jnp.maximum(alpha, ALIKE)
+ all_bands[0] - 0 * common[0]
training/prior_stage: training/stages::halves_that_distinguish_no_materials_show_no_errors
- (all_bands[1] > 0) & (alpha >= ALIKE)
+ all_bands[1] > 0
training/pixel_blocks: training/stages::the_standard_error_is_that_of_the_means_of_blocks
- blocks / jnp.where(blocks > 1, blocks - 1, jnp.nan)
+ 1.0
training/prior_stage: training/stages::the_nugget_is_that_of_the_smoother
- 3 * near - 3 * far + farther
+ 3 * near - 2 * far + farther
training/fitting: training/stages::pixels_set_aside_teach_nothing
- mask = ~state.held_out_pixels if mask is None else mask & ~state.held_out_pixels
+ mask = mask
# training
training/fitting: training/fitting::endmembers_move_inside_the_signal_subspace_alone
- if training.subspace == "signal":
+ if training.subspace == "none":
training/fitting: training/fitting::endmembers_stay_above_their_floor
- E = jnp.maximum(E, FLOOR * jnp.max(E))
+ E = jnp.maximum(E, -1e9)
training/fitting: training/fitting::masked_pixels_teach_nothing
- subspace=lax.stop_gradient(noise.signal_subspace(cube, E.shape[0], mask=mask)),
+ subspace=lax.stop_gradient(noise.signal_subspace(cube, E.shape[0])),
training/fitting: training/fitting::the_endmembers_come_to_rest_before_the_network_learns
- network_turn = jnp.where(first, 0, schedule)
+ network_turn = schedule
training/fitting: training/fitting::the_endmembers_come_to_rest_before_the_network_learns
- fresh = state.step == settled
+ fresh = state.step < 0
training/fitting: training/fitting::a_plateau_stops_training_and_freezes_the_parameters
- active = active & (state.waited < training.patience)
+ active = active & (state.waited < 100 * training.patience)
training/fitting: training/fitting::a_nan_loss_leaves_the_parameters_as_they_were
- active = jnp.isfinite(value)
+ active = jnp.isfinite(value) | True
training/fitting: training/fitting::a_schedule_loosens_the_first_solves_and_ends_at_the_tolerance_of_the_solver
- left = jnp.clip(1 - step.astype(jnp.float32)
+ left = jnp.clip(step.astype(jnp.float32)
training/objective: training/fitting::the_held_bands_are_not_seen_by_the_equilibrium
- bands = None if held_out is None else (~held_out).astype(cube.dtype)
+ bands = None if held is None else held.astype(cube.dtype)
training/objective: training/fitting::masked_pixels_teach_nothing
- valid_cube = jnp.where(valid[..., None], cube, 0)
+ clean = cube
training/objective: training/fitting::the_spread_of_equal_spectra_is_zero_and_finite
- jnp.square(U - jnp.mean(U, axis=0, keepdims=True))
+ jnp.square(U)
training/objective: training/fitting::the_penalty_is_the_frobenius_norm_of_the_jacobian
- jnp.mean(lax.map(lambda v: jnp.mean(jnp.square(pull(v)[0])), probes))
+ jnp.mean(lax.map(lambda v: jnp.sum(jnp.square(pull(v)[0])), probes))
# neighbours
abundances/smoothing: abundances/smoothing::errors_are_told_from_what_the_maps_show \
abundances/smoothing::few_pixels_are_no_ground_and_raise_nothing
- farther, pairs = semivariance(A, valid, 3)
+ farther, pairs = semivariance(A, valid, 2)
abundances/smoothing: abundances/smoothing::it_is_the_posterior_mean_of_its_docstring \
abundances/smoothing::turned_maps_have_the_same_prior_and_turned_answers
- both = lax.slice_in_dim(valid, 1, size, axis=axis) & lax.slice_in_dim(valid, 0, size - 1, axis=axis)
+ both = lax.slice_in_dim(valid, 1, size, axis=axis) & lax.slice_in_dim(valid, 0, size - 1, axis=axis) & (axis == 1)
abundances/smoothing: abundances/smoothing::differences_count_down_the_columns_and_along_the_rows \
abundances/smoothing::turned_maps_have_the_same_prior_and_turned_answers
- d = (high[..., :-1] - low[..., :-1]) * both
+ d = (high[..., :-1] - low[..., :-1]) * (both := both * axis)
abundances/smoothing: abundances/smoothing::differences_count_down_the_columns_and_along_the_rows \
abundances/smoothing::turned_maps_have_the_same_prior_and_turned_answers
- d = (high[..., :-1] - low[..., :-1]) * both
+ d = (high[..., :-1] - low[..., :-1]) * (both := both * (1 - axis))
abundances/smoothing: abundances/smoothing::masked_pixels_are_no_neighbours
- both = low[..., -1:] * high[..., -1:]
+ both = jnp.ones_like(low[..., -1:])
abundances/smoothing: abundances/smoothing::errors_are_told_from_what_the_maps_show
- errors = 3 * near - 3 * far + farther
+ errors = 3 * near + 3 * far - farther
abundances/smoothing: abundances/smoothing::few_pixels_are_no_ground_and_raise_nothing
- jnp.where((pairs >= FEWEST) & (variance > 0)
+ jnp.where((pairs >= 0) & (variance > 0)
abundances/smoothing: abundances/smoothing::it_is_the_posterior_mean_of_its_docstring
- return jnp.where(valid[..., None], project_simplex(smooth_linearly(A, valid, prior)), 0)
+ return project_simplex(smooth_linearly(A, valid, prior))
# metrics
metrics: metrics::the_angle_is_the_angle metrics::small_and_special_angles_in_single_precision
- return 2.0 * jnp.arctan2(_norm(u - v), _norm(u + v))[..., 0]
+ return jnp.arctan2(_norm(u - v), _norm(u + v))[..., 0]
metrics: metrics::errors_by_hand metrics::masked_pixels_do_not_exist
- return jnp.mean(_root(_mean(jnp.square(a - b), mask)))
+ return _root(jnp.mean(_mean(jnp.square(a - b), mask)))
metrics: metrics::masked_pixels_do_not_exist
- jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)
+ mask.size
metrics: metrics::errors_by_hand
- return 10.0 * jnp.log10(jnp.sum(b * b) / jnp.sum(jnp.square(a - b)))
+ return 10.0 * jnp.log10(jnp.sum(a * a) / jnp.sum(jnp.square(a - b)))
metrics: metrics::alignment_undoes_a_permutation \
metrics::alignment_is_the_best_assignment_and_not_the_greedy_one
- jnp.int32).at[rows].set(columns.astype(jnp.int32))
+ jnp.int32).at[columns].set(rows.astype(jnp.int32))
metrics: metrics::errors_by_hand
- jnp.log10(peak * peak / jnp.mean(
+ jnp.log10(peak / jnp.mean(
equilibrium/convergence: equilibrium/convergence::a_pixel_that_was_disturbed_stands_out \
equilibrium/convergence::the_map_adds_up_to_the_residual_of_its_state
- return jnp.sqrt(jnp.mean(jnp.square(image - state), axis=-1))
+ return jnp.sqrt(jnp.mean(jnp.square(image), axis=-1))
# sparse and factorisation
abundances/admm: abundances/sparse::total_variation_against_a_dual_method
- jnp.roll(v[axis], 1, axis=axis) - v[axis]
+ jnp.roll(v[axis], -1, axis=axis) - v[axis]
abundances/admm: abundances/sparse::sunsal_is_optimal
- return jnp.sign(v) * jax.nn.relu(jnp.abs(v) - by)
+ return jnp.sign(v) * jax.nn.relu(jnp.abs(v) + by)
abundances/admm: abundances/sparse::collaborative_is_optimal
- by, axis=(0, 1))
+ by, axis=2)
abundances/admm: abundances/sparse::sunsal_is_optimal
- by = problem.weight / mu
+ by = problem.weight * mu
endmembers/nmf_descent: endmembers/nmf::minimum_volume_is_stationary \
endmembers/nmf::better_than_its_start_and_never_uphill
- beyond = (t - c - jnp.sum(v * at(t))) * end >= 0
+ beyond = (t - c - jnp.sum(v * at(t))) * end <= 0
endmembers/nmf_descent: endmembers/nmf::l_half_is_stationary \
endmembers/nmf::better_than_its_start_and_never_uphill
- sums * jnp.sum(A, axis=1, keepdims=True) + slope(A)
+ sums * jnp.sum(A, axis=1, keepdims=True) - slope(A)
# scenes and readers
scenes/scene: scenes/scene::bands_nearest
- ranks = wanted.argsort().argsort()
+ ranks = wanted.argsort().argsort()[::-1]
scenes/scene: scenes/scene::zero_pixels_are_counted_and_masked
- invalid = scene.valid & (~finite | zero)
+ invalid = scene.valid & ~finite
scenes/values: io/envi::data_ignore_value_masks io/formats
- return ~np.any(values == values.dtype.type(int(nodata)), axis=2)
+ return ~np.all(values == values.dtype.type(int(nodata)), axis=2)
scenes/values: io/envi::saturation_of_the_header_or_the_user_masks
- return np.any(values >= limit, axis=2)
+ return np.any(values > limit, axis=2)
scenes/values: io/formats io/geotiff::scale_and_offset_of_each_band
- cube = (values / np.float64(scale)).astype(np.float32)
+ cube = (values * np.float64(scale)).astype(np.float32)
scenes/values: io/geotiff::scale_and_offset_of_each_band
- np.float64(gains[band]) + np.float64(offsets[band])
+ np.float64(gains[band]) - np.float64(offsets[band])
scenes/values: io/formats io/envi::saturation_of_the_header_or_the_user_masks
- mask = seen if mask is None else mask & seen
+ mask = seen if mask is None else mask
scenes/values: io/envi::swapped_samples_and_lines_are_noticed
- return picture_roughness(alternative) < 0.5 * picture_roughness(image)
+ return picture_roughness(alternative) > 0.5 * picture_roughness(image)
io/envi/layout: io/envi::every_layout_gives_the_same_cube
- "bil": ("lbs", (0, 2, 1))
+ "bil": ("lbs", (2, 0, 1))
io/envi/image: io/envi::every_layout_gives_the_same_cube
- dtype.newbyteorder("<" if order == 0 else ">")
+ dtype.newbyteorder(">" if order == 0 else "<")
io/envi/image: io/envi::gzip_inside io/envi::gzip_that_the_header_does_not_mention
- return header.get("file compression", "0").strip() == "1" or (marked and
+ return header.get("file compression", "0").strip() == "1" and (marked and
io/envi/header: io/envi::bad_bands_as_floats
- return None if values is None else values > 0.5
+ return None if values is None else values < 0.5
io/envi/writer: io/envi::written_image_reads_back
- np.asarray(values).transpose(2, 0, 1), fields
+ np.asarray(values).transpose(2, 1, 0), fields
io/envi/writer: io/envi::an_image_written_in_strips_is_the_image
- file.seek(4 * (band * height + first) * width)
+ file.seek(4 * (band * height + first) * width if band else 0)
io/bands: io/envi::both_ends_of_an_ignored_range_are_ignored
- inside = (wavelengths >= low) & (wavelengths <= high)
+ inside = (wavelengths > low) & (wavelengths < high)
io/bands: io/envi::micrometres_beyond_one_hundred io/envi::wavelengths_come_in_nanometres
- guess = "micrometres" if small else "nanometres"
+ guess = "nanometres"
io/raw: scenes/source::windows_are_those_of_the_scene
- fill((row * width + columns.start) * bands, cube[row - first])
+ fill((row * width + first) * bands, cube[row - first])
scenes/source: scenes/source::windows_are_those_of_the_scene
- Window(slice(first + top, first + end), window.columns)
+ Window(slice(top, end), window.columns)
io/geotiff: scenes/values::the_nodata_value_in_a_bad_band_hides_no_pixel io/geotiff::nodata_of_each_band_masks
- if missing is not None and (good is None or good[band]):
+ if missing is not None:
io/geotiff: io/geotiff::mask_band_masks io/geotiff::alpha_is_a_mask_and_no_band
- shown = file.read_masks(bands[0], window=area) > 0
+ shown = file.read_masks(bands[0], window=area) == 0
io/geotiff: io/geotiff::blocks_make_the_same_picture scenes/source::windows_are_those_of_the_scene
- cube[first - begin : last - begin] = block.transpose(1, 2, 0)
+ cube[first - begin : last - begin] = block[::-1].transpose(1, 2, 0)
scenes/georeference: results/placed_outputs::a_swath_is_rectified
- picture[seen] = values[rows[seen], columns[seen]]
+ picture[seen] = values[columns[seen] % len(values), rows[seen] % values.shape[1]]
scenes/georeference: results/placed_outputs::areas_are_known_in_metres_alone
- abs(a * e - b * d) or None
+ abs(a * e + b * d) + 1 or None
io/georaster: results/placed_outputs::geotiff_read_back_by_rasterio
- for band, name in enumerate(band_names, start=1):
+ for band, name in enumerate(band_names[::-1], start=1):
io/matlab/variables: scenes/values::a_hdf5_mat_file_without_matlabs_marks_is_not_turned
- return values.T if kind else values
+ return values.T
io/matlab/variables: io/matlab::every_layout_gives_the_same_scene io/matlab::the_user_says_the_order
- "C" if pair in _ALONG_ROWS else "F"
+ "F" if pair in _ALONG_ROWS else "C"
io/matlab/scene: io/matlab::every_layout_gives_the_same_scene io/matlab::version_73_gives_what_version_7_gives
- return value.T if value.shape[axis] == known else value
+ return value
io/pixel_order: io/matlab
- spectra = spectra - spectra.mean(axis=0)
+ spectra = spectra + spectra.mean(axis=0)
io/npz: io/formats::npz_round_trip io/scene_writer::nothing_is_lost
- good = None if listed is None else listed > 0.5
+ good = None if listed is None else listed < 0.5
io/npz: io/formats io/scene_writer::nothing_is_lost
- seen = None if stored is None else stored.astype(np.bool_)
+ seen = None
io/npz_arrays: io/formats::pickles_are_refused_unread
- if dtype.hasobject:
+ if False:
io/placement: scenes/values::a_part_lies_where_its_coordinates_say
- step * (np.arange(size) + 0.5)
+ step * np.arange(size)
io/labelled_arrays: scenes/source::windows_are_those_of_the_scene
- places = dict(zip(axes, (*window, slice(None)), strict=True))
+ places = dict(zip(axes, (*window[::-1], slice(None)), strict=True))
io/placement: io/labelled_arrays scenes/values::a_part_lies_where_its_coordinates_say
- from_gdal(values[:6]) if name == "GeoTransform" else
+ from_gdal(values[:6]) if name != "GeoTransform" else
io/xarrays: io/scene_writer::other_programs_read_it
- "x": x0 + a * x}
+ "x": x0 + a * (x - 0.5)}
io/xarrays: io/xarrays::a_scene_goes_there_and_back
- cube = np.where(scene.valid[:, :, None], cube, np.float32(np.nan))
+ cube = cube
io/placement: io/xarrays::a_grid_mapping_without_wkt
- crs = xarrays.crs_from_cf(mapping)
+ crs = ""
results/dataset: results/labelled::a_result_goes_there_and_back
- values[~mask] = 0
+ pass
results/files: results/one_file::matlab_reads_pictures_in_its_own_order
- order="F").T)
+ order="C").T)
io/zarr: io/labelled_arrays::a_fill_value_of_zero_is_only_the_default_of_zarr
- or fill is None or fill == 0:
+ or fill is None:
io/missions/emit: io/missions::emit_is_rectified_by_its_table
- lookup = np.where(seen < 2**31, seen, 0).astype(np.int32) - 1
+ lookup = np.where(seen < 2**31, seen, 0).astype(np.int32)
io/missions/emit: io/missions::emit
- good = None if listed is None else listed > 0.5
+ good = None
io/missions/prisma: io/missions::prisma
- return (high - low) / _LARGEST, low
+ return high / _LARGEST, low
io/missions/prisma: io/missions::prisma_level_1_is_radiance
- return 1.0 / scale, -offset
+ return 1.0 / scale, offset
io/missions/table: io/mission_table::cube_wavelengths_widths_and_place
- return Stored(values.transpose(axes), seen)
+ return Stored(values.transpose(axes)[::-1], seen)
io/missions/dlr: io/dlr::level_1_is_radiance_with_gains_of_each_band
- _GAINS, _OFFSETS = ("GainOfBand", "gainOfBand"), ("OffsetOfBand", "offsetOfBand")
+ _GAINS, _OFFSETS = ("gainOfBand",), ("offsetOfBand",)
io/missions/hyperion: io/hyperion::a_folder_of_bands
- _VNIR = 70
+ _VNIR = 71
io/units: io/units::every_unit_becomes_nanometres
- return np.asarray(centres**2 * values / 1e7 if
+ return np.asarray(centres * values / 1e7 if
io/units: io/units::a_unit_is_a_word_by_itself
- found = ["metres"]
+ found = []
io/bands: io/units::widths_in_another_unit_than_the_wavelengths
- widths = candidate
+ widths = widths
io/envi/layout: io/envi::frame_offsets_are_left_out
- start = file.offset + file.major[0] + file.minor[0]
+ start = file.offset + file.minor[0]
io/georaster: results/placed_outputs::areas_on_the_ellipsoid
- * np.cos(latitude)
+ * np.sin(latitude)
scenes/band_order: scenes/band_order::bands_in_any_order_are_matched
- return np.asarray(bands[nearest])
+ return np.asarray(bands[np.argsort(nearest)])
scenes/source: scenes/source::bands_without_data_are_marked_bad
- if not empty.any() or (empty == good).all():
+ if not empty.any():
libraries/csv: libraries/library::numbers_may_name_the_columns
- if not _monotone(centres) or _counts(centres) or
+ if not _monotone(centres) or
io/missions/prisma: io/missions::prisma_padding_errors_and_lost_bands
- lost: Array = without > _MOSTLY * pixels
+ lost: Array = without > pixels
io/missions/prisma: io/missions::prisma
- half = _PIXEL / 2 if centred else 0.0
+ half = 0.0
io/missions/prisma: io/missions::prisma
- swir.centres <= vnir.centres.max(initial=0.0)
+ swir.centres < 0
# libraries
libraries/library: libraries/library::wavenumbers_run_backwards_and_become_nanometres libraries/library::tables
- wavelengths_nm, values = wavelengths_nm[order], values[:, order]
+ wavelengths_nm, values = wavelengths_nm[order], values
libraries/library: libraries/library
- missing = ~np.isfinite(values) | (values < DELETED / 10)
+ missing = ~np.isfinite(values)
libraries/csv: libraries/library::tables_in_wavenumbers
- unit = SHORT.get(units, "") or header[0]
+ unit = "nm"
libraries/csv: libraries/library::spectra_in_rows
- *cells[texts:]] for _, cells in kept), strict=True)
+ *cells[texts:]] for _, cells in kept[::-1]), strict=True)
libraries/usgs: libraries/library::usgs_version_6
- return title or path.stem, table[:, 1], table[:, 0]
+ return title or path.stem, table[:, 2], table[:, 0]
libraries/usgs: libraries/library::usgs_version_7_finds_wavelengths_and_bandpass
- fitting = named or fitting
+ fitting = fitting
libraries/resampling: libraries/library::resampling_convolves_a_gaussian_with_a_gaussian
- np.sqrt(np.maximum(widths**2 - own**2, 0.0))
+ np.sqrt(np.maximum(widths**2 + own**2, 0.0))
libraries/resampling: libraries/library::resampling_convolves_a_gaussian_with_a_gaussian \
libraries/library::resampling_without_widths_is_linear_and_exact_on_the_librarys_bands
- inside = total >= _KNOWN
+ inside = total >= 0
libraries/matching: libraries/library::matching_by_angle_over_common_bands
- both = valid & own[None, :]
+ both = valid | own[None, :]
libraries/matching: libraries/library::matching_by_angle_over_common_bands
- ties=(angles <= nearest[:, :1] + _SAME).sum(axis=1),
+ ties=(angles <= nearest[:, -1:] + _SAME).sum(axis=1),
# tiles and what is kept
tiles/unmix: tiles/unmix_tiled::the_output_is_that_of_write
- masked = source.shape[0] * source.shape[1] - valid
+ masked = 0 * valid
tiles/records: tiles/unmix_tiled::the_worst_tile_speaks_for_all
- max(entry["residual"] for entry in solved)),
+ min(entry["residual"] for entry in solved)),
tiles/run: tiles/unmix_tiled::solvers_are_told_apart
- known = (stored.nodata, stored.scale
+ known = (stored.scale
tiles/records: tiles/unmix_tiled::the_output_is_that_of_write
- size = (sum(entry["size"] for entry in solved) / valid) ** 0.5
+ size = (sum(entry["size"] for entry in solved)) ** 0.5
tiles/run: tiles/unmix_tiled::finished_tiles_are_not_done_again
- left = [number for number in range(total) if number not in finished]
+ left = list(range(total))
tiles/grid: tiles/unmix_tiled::cores_make_up_the_scene_once
- slice(max(first - halo, 0), min(first + step + halo, size))
+ slice(max(first - halo, 0), min(first + step, size))
tiles/grid: tiles/unmix_tiled::tiles_fit_their_memory_and_waste_little
- rows = min(max(pixels // seen - 2 * halo, 1), height)
+ rows = min(max(pixels // seen, 1), height)
tiles/output: tiles/unmix_tiled::the_output_is_that_of_write
- valid += int(inside.sum())
+ valid += inside.size
tiles/solve: tiles/unmix_tiled::the_output_is_that_of_write
- jnp.asarray(np.max(tops, axis=0), jnp.float32)
+ jnp.asarray(np.min(tops, axis=0), jnp.float32)
tiles/survey: tiles/unmix_tiled::a_survey_says_what_check_scene_says
- scale = float(np.sqrt(squares / (valid * bands)))
+ scale = float(np.sqrt(squares / valid))
tiles/halo: tiles/unmix_tiled::without_a_halo_there_are_seams_and_the_measured_one_is_enough
- halo = min(max(halo, least), _WIDEST)
+ halo = min(min(halo, least), _WIDEST)
tiles/journal: tiles/unmix_tiled::killed_and_resumed_the_result_has_the_same_bits \
tiles/unmix_tiled::other_choices_begin_again
- work.clear()
+ pass
tiles/journal: tiles/unmix_tiled::one_byte_changed_in_what_is_kept
- zlib.crc32(self.values(tile).tobytes()) == entry["crc32"]
+ zlib.crc32(self.values(tile).tobytes())
tiles/journal: tiles/unmix_tiled::a_wrong_field_of_a_tile_is_done_again
- if entry.pop("run") != self.fingerprint or entry["tile"] != tile or not sound(entry):
+ if not entry.pop("run") or entry["tile"] != tile or not sound(entry):
tiles/tasks: tiles/tiles_on_workers::an_input_that_changes_is_refused
- raise outcome.error
+ pass
many_scenes/batch: many_scenes::a_failure_is_a_row_and_what_is_finished_is_kept
- if self.overwrite or not mark.is_file():
+ if not mark.is_file():
many_scenes/names: many_scenes::names_differ_and_stay
- used = set(taken.values())
+ used = set()
parallel/cluster: many_scenes::a_dead_process_costs_one_retry_and_a_poisoned_task_one_failure
- "distributed.scheduler.allowed-failures": retries,
+ "distributed.scheduler.allowed-failures": 0,
parallel/cluster: many_scenes::workers_do_not_hear_an_interrupt
- resource_tracker.ensure_running()
+ pass
results/kept_methods: cli/compare::an_interrupted_comparison_keeps_what_is_finished_and_goes_on
- if others and not overwrite:
+ if others and overwrite:
checks: scenes/scene::values_whose_squares_float32_cannot_hold
- if largest > LARGEST:
+ if largest > LARGEST**2:
io/atomic: io/leftovers::outputs_are_renamed_and_not_copied
- os.replace(part, target)
+ shutil.move(shutil.copy(part, str(part) + "x"), target)
io/atomic: io/leftovers::a_failed_replacement_puts_the_old_folder_back \
io/leftovers::killed_anywhere_the_folder_is_the_old_or_the_new_one
- os.rename(target, aside / target.name)
+ shutil.rmtree(target)
io/atomic: results/writer::nothing_is_overwritten_by_default
- if os.path.lexists(path) and not overwrite:
+ if os.path.lexists(path) and overwrite:
training/resume: training/resume::a_training_with_another_mask_is_another
- "scene": _digest(cube, mask, *jax.tree.leaves(whole)),
+ "scene": _digest(cube, *jax.tree.leaves(whole)),
training/resume: training/resume::a_training_of_something_else_is_replaced_on_request_only
- others = [name for name in marks if kept.get(name) != marks[name]]
+ others = []
training/resume: training/resume::a_training_that_goes_on_gives_the_same_bits
- state, history, written = new, joined([history, rows]), False
+ state, history, written = new, joined([rows, history]), False
training/checkpoint: training/checkpoint::other_r_or_b
- if bands is not None and shape[1] != bands:
+ if bands is not None and shape[1] < bands:
training/checkpoint: training/checkpoint::foreign_and_hostile_files
- if written != _FORMAT:
+ if written < _FORMAT:
training/checkpoint: training/checkpoint::foreign_and_hostile_files
- if last in place:
+ if last in place and not place:
io/lock: tiles/unmix_tiled::two_processes_do_not_write_the_same_output
- fcntl.LOCK_EX | fcntl.LOCK_NB
+ fcntl.LOCK_SH | fcntl.LOCK_NB
# scoring
results/score: results/score::a_cycle_of_three_is_put_into_the_order_of_the_reference \
results/score::without_spectra_or_levels_there_is_one_figure
- order[rows] = columns
+ order[columns] = rows
results/score: results/score::a_reference_without_fractions_is_said
- values.max() <= 1 + _ROUNDING
+ True
results/score: results/score::a_reference_without_fractions_is_said
- (True if mask is None else np.asarray(mask, bool)[..., None])
+ True
results/score: results/score::what_the_estimate_masks_is_not_counted
- where = None if mask is None else jnp.asarray(mask)
+ where = None
results/score: results/score::what_the_estimate_masks_is_not_counted
- a, b = maps[valid].astype(np.float64), reference[valid].astype(np.float64)
+ a, b = maps.reshape(-1, maps.shape[2]), reference.reshape(-1, maps.shape[2])
results/score: results/score::a_cycle_of_three_is_put_into_the_order_of_the_reference
- sad = np.asarray(metrics.spectral_angle(E[order], E_true))
+ sad = np.asarray(metrics.spectral_angle(E, E_true))
# pictures and the report
report/plots: report/plots::composite_is_upright_and_in_colour
- axes.imshow(colours, origin="upper", interpolation="nearest")
+ axes.imshow(colours, origin="lower", interpolation="nearest")
report/plots: report/plots::an_abundance_stands_where_it_is
- vmin=0, vmax=1, origin="upper"
+ vmin=0, vmax=1, origin="lower"
report/plots: report/plots::convergence_shows_failures_and_tolerance
- failed = ~converged & finite
+ failed = converged & finite
report/plots: report/plots::spectra_over_wavelengths
- gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1 if steps.size else np.empty(0, int)
+ gaps = np.flatnonzero(steps > 3000 * np.median(steps)) + 1 if steps.size else np.empty(0, int)
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- return f"largest at row {row}, column {column}"
+ return f"largest at row {column}, column {row}"
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- mean {seen.mean():.3g}, {_where(
+ mean {values.mean():.3g}, {_where(
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- seen = values[valid].astype(np.float64)
+ seen = values.ravel().astype(np.float64)
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- seen = result.residual[valid]
+ seen = result.residual.ravel()
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- light = result.brightness[valid]
+ light = result.brightness.ravel()
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- seen = result.convergence[result.valid]
+ seen = result.convergence.ravel() * 0.5
report/map_sections: report/report::maps_say_where_they_are_largest_and_count_valid_pixels_alone
- Number(area_words(seen.mean() * area * pixels))
+ Number(area_words(seen.mean() * area))
report/charts: report/report::large_maps_are_averaged_and_small_ones_enlarged
- count = summed(seen.astype(np.float64))
+ count = summed(np.ones_like(seen, np.float64))
report/charts: report/report::maps_and_composite_are_upright
- np.moveaxis(np.asarray(colours, np.float64) / 255, 2, 0)
+ np.moveaxis(np.asarray(colours, np.float64)[::-1] / 255, 2, 0)
report/charts: report/report::scales
- low, high = np.percentile(seen, [1, 99.9])
+ low, high = np.percentile(seen, [50, 99.9])
results/maps: results/writer results/placed_outputs::residual_and_convergence_lie_where_the_scene_lies
- residual[block] = np.sqrt(np.mean(np.square(mixed), axis=2))
+ residual[block] = np.sqrt(np.sum(np.square(mixed), axis=2))
results/maps: report/report::masked_pixels_move_no_colour
- bottom, top = np.nanpercentile(values[scene.valid], [low, high], axis=0)
+ bottom, top = np.nanpercentile(values, [low, high], axis=(0, 1))
results/result: results/writer::means_and_areas_count_valid_pixels_alone
- name: np.mean(values[scene.valid], axis=0, dtype=np.float64)
+ name: np.mean(values, axis=(0, 1), dtype=np.float64)
results/summary: results/writer::means_and_areas_count_valid_pixels_alone
- [mean * area * valid_pixels for mean in
+ [mean * area * height * width for mean in
report/html: report/report::text_cannot_leave_its_place
- <{name}{scope}{kind}>{mark}{escape(text)}</{name}>
+ <{name}{scope}{kind}>{mark}{text}</{name}>
results/areas: results/areas::a_bias_of_a_missing_material_is_no_area
- fractions * distances > unexplained[:, None]
+ fractions * distances > 0.1 * unexplained[:, None]
results/areas: results/areas::distances_are_those_from_the_mixtures_of_the_others
- others[0] if convention != SCALED and
+ others[0] if convention == SCALED and
io/masks: io/masks::nodata_of_a_mask_is_used_in_no_way
- use = known & ~use
+ use = ~use
io/vectors/polygons: io/masks::random_polygons_are_filled_as_gdal_fills_them
- np.ceil(x - 0.5), 0, size[1])
+ np.ceil(x), 0, size[1])
libraries/naming: libraries/naming::near_far_and_none
- bool(angle <= NEAR and ties == 1)
+ bool(ties == 1)
results/verdicts: results/verdicts::a_missing_endmember_is_structure_and_noise_is_not
- if share < STRUCTURED:
+ if share < 2 * STRUCTURED:
report/spectra_section: report/report::library_spectra_are_drawn_at_the_height_of_their_match
- products[0] / np.where(products[1] > 0, products[1], 1)
+ products[1] / np.where(products[0] > 0, products[0], 1)
# the command line
cli/parser: cli/commands::a_word_may_stand_after_an_option
- not any(word.startswith("-") for word in unknown)
+ any(word.startswith("-") for word in unknown)
escaping: io/formats::the_words_of_another_library_are_not_cut_within_a_word
- length, placeholder=" ..."
+ 20, placeholder=" ..."
training/fitting: training/fitting::an_axis_that_nothing_maps_over_is_named
- except NameError as error
+ except KeyError as error
cli/main: cli/cli::bad_input_is_one_sentence cli/cli::other_failures
- print(f"dequnmix: {sentence_of(error)}", file=sys.stderr)
+ print(f"dequnmix: {sentence_of(error)}")
cli/main: io/leftovers::signals_that_ask_to_end_are_one cli/cli::other_failures
- return 128 + end.number
+ return end.number
cli/arguments/words: cli/cli::ranges_that_are_none
- if not low <= high:
+ if not low <= high + 1e9:
cli/unmix_tiles: tiles/unmix_tiled::a_scene_that_does_not_fit_is_unmixed_in_tiles
- if size <= _SHARE * free:
+ if size >= _SHARE * free:
cli/fit: cli/cli::nothing_is_overwritten_by_default
- with reserved(options.output, overwrite=options.force) as outputs:
+ with reserved(options.output, overwrite=True) as outputs:
results/writer: results/placed_outputs results/writer
- np.where(scene.valid[:, :, None], values, NODATA) if masked else values
+ values
results/writer: results/writer::foreign_folder_is_not_replaced
- (target / SUMMARY).is_file(), f"holds files
+ (target / "chapter.tex").is_file(), f"holds files
# generated scenes
datasets/generator/materials: datasets/generator::training_and_test_minerals_are_disjoint
- is_test_mineral(group) == (source == "test")
+ is_test_mineral(group) != (source == "test")
datasets/generator/materials: datasets/generator::training_and_test_minerals_are_disjoint
- apart = jnp.where(group[:, None] == group[None, :], -1.0, angles_between(seen))
+ apart = angles_between(seen)
datasets/generator/optics: datasets/generator::linear_scenes_are_their_mixture_with_noise_of_the_stated_ratio
- 10.0 ** (-numbers.snr / 20.0)
+ 10.0 ** (-numbers.snr / 10.0)
datasets/generator/optics: datasets/generator::noise_is_correlated_striped_and_coloured_as_asked
- jnp.matmul(n, factor.T, precision="highest")
+ jnp.matmul(n, factor, precision="highest")
datasets/generator/optics: datasets/generator::hapke_albedo_and_reflectance_are_inverse
- return 1.0 - jnp.square(g)
+ return 1.0 - g
datasets/generator/layouts: datasets/generator::fields_have_their_variance_and_covariance
- matern = jnp.exp(-(nu + 1.0)
+ matern = jnp.exp(-(nu + 0.5)
datasets/generator/layouts: datasets/generator::a_family_is_what_it_says
- shrink = jnp.minimum(1.0, (purity - level) / jnp.maximum(above, 1e-6))
+ shrink = 1.0
datasets/generator/layouts: datasets/generator::every_material_of_a_field_is_raised_to_a_presence
- jnp.maximum(_PRESENT + 0.02 - peak, 0.0)
+ jnp.maximum(_PRESENT - 0.2 - peak, 0.0)
datasets/generator/scenes: datasets/generator::reference_abundances_are_in_the_convention
- return jnp.where(scene.convention[..., None, None, None] == 1, scaled, scene.abundances)
+ return jnp.where(scene.convention[..., None, None, None] == 0, scaled, scene.abundances)
datasets/generator/corpus: datasets/generator::a_corpus_of_another_key_version_or_kind_is_refused
- if found.get(name) != value]
+ if name not in found]
datasets/generator/corpus: datasets/generator::a_corpus_goes_on_where_it_stopped
- for part in (*shard.size, SOURCES.index(shard.source), shard.part):
+ for part in (*shard.size, shard.part):
"""


def merged(files: Sequence[Path], folder: Path) -> Path:
    """Merge the tables of several shards, in the order of `TABLE`."""
    rows: list[dict[str, Any]] = []
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            rows += [row | {"seconds": float(row["seconds"])} for row in csv.DictReader(file)]
    order = {(m.module, m.old, m.new): i for i, m in enumerate(read_table(TABLE))}
    rows.sort(key=lambda row: order.get((row["module"], row["old"], row["new"]), len(order)))
    return _written(rows, folder, Settings(), sum(row["seconds"] for row in rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three mutants")
    parser.add_argument("--only", nargs="+", default=(), metavar="PART", help="parts or modules that begin so")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th mutant from the I-th, from 1")
    parser.add_argument("--merge", nargs="+", type=Path, metavar="CSV", help="put the tables of shards together")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    asked = parser.parse_args()
    if asked.merge:
        print(merged(asked.merge, asked.output))
    elif asked.quick:
        print(main(QUICK, asked.output))
    else:
        first, count = (int(number) for number in asked.shard.split("/"))
        print(main(Settings(parts=tuple(asked.only), shard=(first, count)), asked.output))

"""`dequnmix compare` and `dq.compare`: figures, order, failures, masks, tables and refusals."""

import csv
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import compared_methods, comparison, metrics
from dequnmix_jax.baselines import METHODS, Method, MethodResult
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main, parser
from dequnmix_jax.report import comparison_table
from dequnmix_jax.scenes.truth import Truth

H, W, B, R = 9, 8, 12, 3


def drawn():
    """Return a scene with pure pixels and noise, and its truth."""
    rng = np.random.default_rng(3)
    x = np.linspace(0, 1, B)
    spectra = np.stack([0.2 + 0.6 * np.exp(-((x - c) ** 2) / 0.05) for c in (0.1, 0.5, 0.9)]).astype(np.float32)
    maps = rng.dirichlet(np.full(R, 0.5), (H, W)).astype(np.float32)
    maps[np.arange(R), 0] = np.eye(R)
    cube = maps @ spectra + 0.002 * rng.standard_normal((H, W, B)).astype(np.float32)
    return cube, Truth(
        maps, spectra, names=("clay", "lime | chalk", "oak_tree"), reference="drawn", convention="reflectance"
    )


CUBE, TRUTH = drawn()
KEYS = [jax.random.key(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def found():
    mask = np.ones((H, W), np.bool_)
    mask[4, 4] = False
    cube = CUBE.copy()
    cube[4, 4] = 1e6  # masked: no method and no figure may see it
    return dq.compare(dq.Scene(cube, mask=mask), R, KEYS, ("fcls", "scaled"), reference=TRUTH)


def test_figures_are_those_of_the_metrics(found):
    fcls = found.rows[0]
    each = [
        float(metrics.armse(one.result.abundances, TRUTH.abundances, found.scene.valid)) for one in found.runs["fcls"]
    ]
    assert fcls["armse"] == pytest.approx(np.mean(each), rel=1e-5) and fcls["armse_sd"] == pytest.approx(np.std(each))
    angles = [float(metrics.msad(one.result.endmembers, TRUTH.endmembers)) for one in found.runs["fcls"]]
    assert fcls["msad"] == pytest.approx(np.mean(angles), rel=1e-5)
    assert 0 < fcls["armse"] < 0.05 and 0 < fcls["residual"] < 0.02 and fcls["seeds"] == 2
    maps = np.stack([one.result.abundances[found.scene.valid] for one in found.runs["fcls"]])
    assert fcls["spread"] == pytest.approx(np.sqrt(maps.var(axis=0).mean()), rel=1e-4)
    assert fcls["cpu_seconds"] < fcls["cpu_seconds_first"]  # without compilation
    assert not found.runs["fcls"][0].result.abundances[4, 4].any()


def test_all_have_the_order_and_the_names_of_the_reference(found):
    for runs in found.runs.values():
        for one in runs:
            np.testing.assert_array_equal(metrics.align(one.result.endmembers, TRUTH.endmembers), np.arange(R))
            assert one.result.names == TRUTH.names
    assert found.runs["scaled"][0].result.convention == "scaled"
    assert found.rows[1]["armse"] < 0.06  # compared in the convention of the reference


def test_without_a_reference_all_follow_the_first():
    found = dq.compare(CUBE, R, KEYS[:1], ("fcls", "purified-fcls"))
    first, other = (found.runs[word][0].result.endmembers for word in found.runs)
    np.testing.assert_array_equal(metrics.align(other, first), np.arange(R))
    assert "armse" not in found.rows[0] and found.rows[0]["spread"] is None and found.rows[0]["cpu_seconds"] > 0


def test_a_reference_of_maps_alone_gives_the_order():
    truth = Truth(TRUTH.abundances[:, :, ::-1], reference="maps")
    found = dq.compare(CUBE, R, KEYS[:1], ("fcls",), reference=truth)
    assert found.rows[0]["armse"] < 0.05 and "msad" not in found.rows[0]


def test_the_equilibrium_is_compared_as_run_finds_it(monkeypatch):
    calls = []

    def run(scene, count, key, training):
        calls.append(training)
        return SimpleNamespace(
            abundances=TRUTH.abundances, endmembers=TRUTH.endmembers, brightness=np.ones((H, W), np.float32),
            convention="reflectance",
        )  # fmt: skip

    monkeypatch.setattr(compared_methods, "run", run)
    found = dq.compare(CUBE, R, KEYS, ("deq", "deq-trained"), reference=TRUTH)
    assert [row["armse"] for row in found.rows] == [0, 0] and calls == [None] * 2 + [dq.RECOMMENDED[0]] * 2


def test_a_method_that_fails_does_not_end_the_others(monkeypatch):
    def diverge(key, cube, start):
        return MethodResult(cube[..., :R] * np.nan, start)

    def fail(key, cube, start):
        raise ValueError("patch larger than the scene")

    monkeypatch.setitem(METHODS, "nan", lambda: Method("diverging net", diverge))
    monkeypatch.setitem(METHODS, "bad", lambda: Method("failing net", fail))
    found = dq.compare(CUBE, R, KEYS[:1], ("nan", "bad", "fcls"))
    assert list(found.runs) == ["fcls"] and found.failed["bad"] == "ValueError: patch larger than the scene"
    assert found.failed["nan"] == "diverging net found NaN or infinity: it diverged on this scene."


def test_the_command_writes_tables_maps_and_a_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    np.savez("scene.npz", cube=CUBE)
    np.savez("truth.npz", abundances=TRUTH.abundances, endmembers=TRUTH.endmembers)
    words = ["compare", "scene.npz", "--endmembers", "3", "--methods", "fcls", "--methods", "scaled"]
    words += ["--seeds", "1", "--seed", "7"]
    assert main.main([*words, "--reference", "truth.npz", "-o", "out"]) == 0
    printed = capsys.readouterr()
    assert "scaled: seed 7, " in printed.err and "| VCA + FCLS | " in printed.out
    rows = list(csv.DictReader((tmp_path / "out/comparison.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["fcls", "scaled"] and float(rows[0]["armse"]) < 0.05
    best = min(rows, key=lambda row: float(row["armse"]))
    table = (tmp_path / "out/comparison.md").read_text()
    assert f"| {best['name']} | **{float(best['armse']):.4f}** |" in table and "One seed." in table
    assert (tmp_path / "out/maps.png").stat().st_size > 10_000
    record = json.loads((tmp_path / "out/summary.json").read_text())
    assert record["first_seed"] == 7 and record["failed"] == {} and record["methods"] == ["fcls", "scaled"]
    assert main.main(["score", "out/fcls", "truth.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["armse"] == pytest.approx(float(rows[0]["armse"]), rel=1e-4)
    assert main.main([*words, "-o", "out"]) == 1 and "exists already" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert main.main([*words, "-o", "mine", "--force"]) == 1
    assert "is not replaced" in capsys.readouterr().err and (tmp_path / "mine/notes.txt").read_text() == "mine"


def test_tables_escape_what_they_quote():
    rows = [
        {"method": "a", "name": "net_1 | 50 %", "seeds": 2, "armse": 0.1, "armse_sd": 0.01, "cpu_seconds": 1.0},
        {"method": "b", "name": "other", "seeds": 2, "armse": 0.2, "armse_sd": 0.02, "cpu_seconds": 2.0},
    ]
    latex, markdown = comparison_table.as_latex(rows, "the truth."), comparison_table.as_markdown(rows, "the truth.")
    assert r"net\_1 | 50 \% & \textbf{0.1000} (0.0100) & 1 \\" in latex and r"\begin{tabular}{lrr}" in latex
    assert r"| net_1 \| 50 % | **0.1000** (0.0100) | 1 |" in markdown and "Reference: the truth. Mean" in markdown
    assert latex.splitlines()[0].startswith("% ")
    lines = comparison_table.as_csv([*rows, {"method": "c", "name": "none"}]).splitlines()
    assert lines[0] == "method,name,seeds,armse,armse_sd,cpu_seconds" and lines[3] == "c,none,,,,"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": ("fcls", "net")}, "method is 'net'; expected deq, deq-trained, fcls"),
        ({"methods": ()}, "No method is named; expected at least one of deq"),
        ({"count": 1}, "count is 1; expected the number of endmembers"),
        (
            {"count": 4, "reference": TRUTH},
            r"have shape \(9, 8, 3\); expected \(9, 8, 4\) for this scene",
        ),
        ({"reference": Truth(reference="empty")}, "neither abundances nor endmembers"),
        ({"keys": []}, "keys is empty; expected one key"),
    ],
)
def test_refusals(changes, sentence):
    words = {"scene": CUBE, "count": R, "keys": KEYS[:1], "methods": ("fcls",)} | changes
    with pytest.raises(InputError, match=sentence):
        dq.compare(**words)


def test_the_parser_names_the_default_methods():
    assert parser.COMPARED == comparison.DEFAULT


def test_scenes_of_zeros_and_with_a_value_beyond_all_others():
    with pytest.raises(InputError, match="All 72 valid pixels of the scene are zero"):
        dq.compare(np.zeros_like(CUBE), R, KEYS[:1], ("fcls",))
    poisoned = CUBE.copy()
    poisoned[2, 2, 2] = 1e30
    with pytest.raises(InputError, match=r"values up to 1e\+30; expected at most"):
        dq.compare(poisoned, R, KEYS[:1], ("fcls",))
    poisoned[2, 2, 2] = 1e12
    found = dq.compare(poisoned, R, KEYS[:1], ("fcls",))
    assert all(np.isfinite(value) for row in found.rows for value in row.values() if isinstance(value, float))


def test_keys_of_split_are_keys():
    assert dq.compare(CUBE, R, jax.random.split(jax.random.key(0), 2), ("fcls",)).rows[0]["seeds"] == 2
    with pytest.raises(InputError, match="keys is one key; expected one for each seed"):
        dq.compare(CUBE, R, jax.random.key(0), ("fcls",))


def test_the_operator_without_bands_to_hold_out_is_no_training():
    found = dq.compare(CUBE[:, :, :5], R, KEYS[:1], ("deq",))
    assert found.failed["deq"].startswith("5 bands for 3 endmembers; expected at least two bands for each")


def test_a_folder_of_others_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dequnmix_jax.cli.compare.compare", lambda *_, **__: pytest.fail("worked"))
    np.savez("scene.npz", cube=CUBE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert main.main(["compare", "scene.npz", "--endmembers", "3", "-o", "mine", "--force"]) == 1


class Counted:
    """Two methods that count their runs; the second is interrupted in its second one, if asked to be."""

    def __init__(self, monkeypatch):
        self.runs, self.interrupt = {"one": 0, "two": 0}, False
        for word, name in (("one", "Method one"), ("two", "Method two")):
            method = Method(name, lambda key, cube, start, word=word: self.estimate(word, start), pure=False)
            monkeypatch.setitem(METHODS, word, lambda method=method: method)

    def estimate(self, word, start):
        self.runs[word] += 1
        if self.interrupt and self.runs["two"] == 2:
            raise KeyboardInterrupt
        return MethodResult(np.float32(self.runs[word] / 8) * TRUTH.abundances, np.asarray(start))


def test_an_interrupted_comparison_keeps_what_is_finished_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    np.savez("scene.npz", cube=CUBE)
    words = ["compare", "scene.npz", "--endmembers", "3", "--methods", "one,two", "--seeds", "2", "-o", "out"]

    def start(*more, status=0):
        capsys.readouterr()
        assert main.main([*words, *more]) == status
        return capsys.readouterr().err

    counted = Counted(monkeypatch)
    counted.interrupt = True
    printed = start(status=130)
    assert "interrupted; 1 finished method is kept in .out.methods, and the same command goes on" in printed
    assert counted.runs == {"one": 2, "two": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.methods", "scene.npz"]  # nothing half written
    counted.interrupt = False
    # Another scene or other seeds are not mixed with what is kept.
    np.savez("scene.npz", cube=CUBE[::-1])
    assert "keeps finished methods of a comparison with another state of the scene; expected the same" in start(
        status=1
    )
    np.savez("scene.npz", cube=CUBE)
    assert "with another choice of seeds; expected" in start("--seed", "5", status=1)
    # The same command: "one" is not run again, and has the maps of its own runs; other words of methods may join.
    printed = start("--methods", "fcls")
    assert "note: An earlier start of this command has finished one; it is kept." in printed
    assert counted.runs == {"one": 2, "two": 4}
    rows = list(csv.DictReader((tmp_path / "out/comparison.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["one", "two", "fcls"] and float(rows[0]["spread"]) > 0
    np.testing.assert_allclose(dq.read_result("out/one").abundances, TRUTH.abundances / 8, rtol=1e-6)
    assert json.loads((tmp_path / "out/summary.json").read_text())["kept"] == ["one"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scene.npz"]
    # The finished table is not replaced by itself, and with --force all is done anew.
    assert "exists already" in start(status=1) and counted.runs == {"one": 2, "two": 4}
    start("--force")
    assert counted.runs == {"one": 4, "two": 6}


def test_what_a_comparison_keeps_is_checked(tmp_path, monkeypatch, capsys):
    counted, keep = Counted(monkeypatch), tmp_path / "kept"
    words = {"scene": CUBE, "count": R, "keys": KEYS, "methods": ("one",), "keep": keep}
    first = dq.compare(**words)
    again = dq.compare(**words)
    assert counted.runs["one"] == 2 and again.record["kept"] == ["one"] and first.record["kept"] == []
    assert again.rows == first.rows
    with pytest.raises(InputError, match="another number of endmembers"):
        dq.compare(**words | {"count": 4})
    (keep / "one.npz").write_bytes((keep / "one.npz").read_bytes()[:900])
    dq.compare(**words)
    assert "one.npz is damaged; one is done again" in capsys.readouterr().err and counted.runs["one"] == 4
    dq.compare(**words | {"keys": KEYS[:1], "overwrite": True})
    assert counted.runs["one"] == 6  # one seed runs twice, for its time
    with pytest.raises(InputError, match="does not exist"):
        dq.compare(**words | {"keep": tmp_path / "absent" / "kept"})

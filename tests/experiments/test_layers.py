"""Experiments import downward only, none of them imports another, and the table of mutants fits the code."""

import ast

from experiments.robustness.mutants import ROOT, TABLE, read_table

FLOOR = {"plans": 0, "shared": 2, "comparison": 3, "equilibrium": 3, "defaults": 3, "robustness": 3,
         "operator": 3}  # fmt: skip
FILES = {path.relative_to(ROOT): path.read_text(encoding="utf-8")
         for folder in ("experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py")}  # fmt: skip
PROGRAMS = {path.with_suffix("").as_posix().replace("/", ".") for path, text in FILES.items() if "__main__" in text}


def imports(text):
    """Return the modules and names that a file imports from experiments and benchmarks, in dots."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("experiments", "benchmarks"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_experiments_import_downward_only():
    wrong = []
    for path, text in FILES.items():
        floor = FLOOR.get(path.parts[1].removesuffix(".py"), 4)  # benchmarks stand above all
        for name in imports(text):
            wing = name.split(".")[1]
            other = FLOOR[wing] if name.startswith("experiments.") else 4
            if other > floor or (other == 3 and (floor == 4 or wing != path.parts[1])):
                wrong.append(f"{path} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_program_imports_another():
    wrong = [
        f"{path} imports {name}"
        for path, text in FILES.items()
        for name in imports(text)
        if name in PROGRAMS or name.rpartition(".")[0] in PROGRAMS
    ]
    assert len(PROGRAMS) > 30 and not wrong, "\n".join(wrong)


def test_each_mutant_changes_one_place_and_its_tests_exist():
    stale = []
    for mutant in read_table(TABLE):
        count = (ROOT / "src" / "dequnmix_jax" / f"{mutant.module}.py").read_text(encoding="utf-8").count(mutant.old)
        stale += [f"{mutant.module}: found {count} times: {mutant.old}"] if count != 1 else []
        for node in mutant.tests:
            file, _, test = node.partition("::")
            name = test.partition("[")[0]
            found = (ROOT / file).is_file() and (
                not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
            )
            stale += [] if found else [f"{mutant.module}: no test {node}"]
    assert not stale, "\n".join(stale)

"""Container file, conda recipe and public workflow agree with pyproject.toml and with the files that they name."""

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import dequnmix_jax as dq

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ALL = ["io", "geo", "zarr", "xarray", "remote", "plots", "explore", "export", "completion", "dask"]
ON_CONDA = {"matplotlib": "matplotlib-base", "flatbuffers": "python-flatbuffers", "dask": "dask-core"}
PYTHONS = [found[1] for line in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))]


def requirement(text):
    """Return the name of a requirement, without extras, and its condition."""
    name, condition = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?\s*([<>=\d.,]*)", text).groups()
    return name, condition


def number(condition):
    return tuple(int(part) for part in condition.removeprefix(">=").split("."))


def instructions():
    """Return (instruction, words) of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]


def test_all_is_every_extra_for_users():
    assert PROJECT["optional-dependencies"]["all"] == [f"dequnmix-jax[{','.join(ALL)}]"]


def test_the_container_has_a_python_of_the_project_and_what_the_build_reads():
    given = instructions()
    assert given[0] == ["FROM", f"python:{PYTHONS[-1]}-slim"]
    copied = [word for name, words in given if name == "COPY" for word in words.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    needed = ["pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src/dequnmix_jax/__init__.py"]
    assert all(any(Path(file).is_relative_to(word) for word in copied) for file in needed)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not set(copied) & set(ignored)
    installed = re.search(r"pip install [^&]*'\.\[([\w,]+)\]'", " ".join(words for _, words in given))
    assert set(installed[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert ["ENTRYPOINT", '["dequnmix"]'] in given and "dequnmix" in PROJECT["scripts"]


def test_the_command_of_the_container_file_is_one(capsys):
    from dequnmix_jax.cli import main

    line = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("# docker run "))
    words = shlex.split(line.replace("$(id -u):$(id -g)", "1:1"))
    main.parser("0").parse_args(words[words.index("dequnmix") + 1 :])


@pytest.fixture(scope="module")
def recipe():
    """Return the conda recipe, with the one function of conda-build that it calls."""
    jinja2, yaml = pytest.importorskip("jinja2"), pytest.importorskip("yaml")

    def load_file_regex(load_file, regex_pattern, from_recipe_dir):
        assert from_recipe_dir
        return re.search(regex_pattern, (ROOT / "packaging/conda" / load_file).read_text(encoding="utf-8"))

    text = (ROOT / "packaging/conda/meta.yaml").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return yaml.safe_load(environment.from_string(text).render(load_file_regex=load_file_regex, PYTHON="python"))


def test_the_conda_recipe_has_the_dependencies_of_the_project(recipe):
    needs = recipe["requirements"]
    wanted = {"python": PROJECT["requires-python"], **dict(map(requirement, PROJECT["dependencies"]))}
    assert dict(map(requirement, needs["run"])) == wanted
    system = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert {"python": PROJECT["requires-python"], "pip": "", **dict(map(requirement, system))} == dict(
        map(requirement, needs["host"])
    )


def test_the_conda_recipe_bounds_the_extras(recipe):
    least = {}
    for extra in ALL:
        for name, condition in map(requirement, PROJECT["optional-dependencies"][extra]):
            least[name] = min(least.get(name, condition), condition, key=number)
    least = {ON_CONDA.get(name, name): condition for name, condition in least.items()}
    assert dict(map(requirement, recipe["requirements"]["run_constrained"])) == least


def test_the_conda_recipe_has_the_version_the_command_and_the_licences(recipe):
    assert recipe["package"] == {"name": PROJECT["name"], "version": dq.__version__}
    assert recipe["build"]["entry_points"] == [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["license_file"] == PROJECT["license-files"]
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert (ROOT / "packaging/conda" / recipe["source"]["path"] / "pyproject.toml").is_file()


def test_the_workflow_runs_the_check_on_every_python_of_the_project():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["ci"]["steps"]
    (versions,) = (step["with"]["python-version"].split() for step in steps if "setup-python" in step.get("uses", ""))
    assert sorted(versions) == sorted(PYTHONS)
    assert PROJECT["requires-python"] == f">={versions[-1]}"  # the last one is `python3`
    (script,) = (step["run"] for step in steps if "run" in step)
    assert os.access(ROOT / script, os.X_OK)
    for other in re.findall(r"for other in ([\d. ]+);", (ROOT / script).read_text(encoding="utf-8")):
        assert set(other.split()) <= set(PYTHONS)


def test_the_published_site_has_executed_notebooks():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github/workflows/site.yml").read_text(encoding="utf-8"))
    runs = [step["run"] for step in workflow["jobs"]["site"]["steps"] if "run" in step]
    order = [
        next(i for i, run in enumerate(runs) if part in run) for part in ("gallery.py", "mkdocs build", "check.py")
    ]
    assert order == sorted(order)
    for script in re.findall(r"docs/generate/\w+\.py", " ".join(runs)):
        assert (ROOT / script).is_file()
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", " ".join(runs))
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_workflows_and_templates_are_yaml():
    yaml = pytest.importorskip("yaml")
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.md"):
        head = path.read_text(encoding="utf-8").split("---")[1]
        assert set(yaml.safe_load(head)) >= {"name", "about"}, path
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == dq.__version__

"""The README and the site: commands are understood, lines of Python run, links lead somewhere, numbers are measured."""

import ast
import csv
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import jax
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"(?:<!-- (run|slow) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)


def blocks(path):
    """Return (run, slow or nothing; language; text) of the blocks of a page."""
    return [found.groups() for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))]


def commands(text):
    """Return the words of each `dequnmix` command in lines of a shell, without comments and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&& |\bsrun ", line):
            found = re.match(r"\s*(?:JAX_PROCESS_ID=\d )?(?:\S*/)?dequnmix (.*)", part)
            if found and "$(" not in part:
                words = shlex.split(found[1], comments=True)
                yield words[: words.index(">")] if ">" in words else [word for word in words if word != "&"]


def name(path):
    return path.relative_to(ROOT).as_posix()


RUNNING = [path for path in PAGES if any(how for how, *_ in blocks(path))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_there_are_commands_to_understand():
    assert sum(len(list(commands(text))) for path in PAGES for _, kind, text in blocks(path) if kind == "sh") > 25


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_are_understood_and_python_names_exist(path):
    for _, kind, text in blocks(path):
        if kind == "sh":
            for words in commands(text):
                main.parser("0").parse_args(words)
            continue
        if path.name == "mission.md":  # rows of a table, not a program
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("dq."):
                owner = dq
                for part in ast.unparse(node).split(".")[1:]:
                    owner = getattr(owner, part) if re.fullmatch(r"\w+", part) else pytest.fail(ast.unparse(node))
                    if not isinstance(owner, ModuleType):
                        break


def run_page(path, folder, monkeypatch, wanted):
    monkeypatch.chdir(folder)
    space = {"__name__": "__main__"}
    # A reader has the defaults of JAX, not the strict ones of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for how, kind, text in blocks(path):
            if how not in wanted:
                continue
            if kind == "python":
                exec(compile(text, str(path), "exec"), space)
            else:
                for words in commands(text):
                    assert main.main(words) == 0, words
    return space


@pytest.mark.parametrize("path", RUNNING, ids=name)
def test_a_page_runs(path, tmp_path, monkeypatch, capsys):
    for module in {"student": ["scipy"], "engineer": ["rasterio", "matplotlib"]}.get(path.stem, []):
        pytest.importorskip(module, reason="pip install 'dequnmix-jax[all]'")
    space = run_page(path, tmp_path, monkeypatch, ("run",))
    if path.stem == "jax":
        assert abs(float(space["gain"]) - 1.15) < 2e-3
    if path.stem == "student":
        assert "reference: abundances (60, 60, 4)" in capsys.readouterr().out
        assert (tmp_path / "baseline" / "abundances.img").exists()
    if path.stem == "engineer":
        assert dq.read(tmp_path / "maps" / "abundances.tif").envi_fields or (tmp_path / "hysu.html").exists()
        first, maps = (dq.read(tmp_path / file).georeference for file in ("hysu.hdr", "maps/abundances.tif"))
        assert maps is not None and (first is None or maps.transform == first.transform)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RUNNING if "<!-- slow -->" in path.read_text("utf-8")], ids=name)
def test_a_page_runs_to_its_end(path, tmp_path, monkeypatch):
    run_page(path, tmp_path, monkeypatch, ("run", "slow"))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_to_files(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    made = ("results/claims.md", "changelog.md", "gallery/", "reference/", "results/files/")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if target.startswith("http"):
            continue
        place = (path.parent / target).resolve()
        # Pages that the site makes; `mkdocs build --strict` checks them.
        generated = path.is_relative_to(ROOT / "docs") and any(part in place.as_posix() for part in made)
        assert place.exists() or generated, target


def test_marked_numbers_are_those_of_the_results():
    marks = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"<!-- (\w+) @ ([^@]+) @ ([^@]+?) -->(\d+(?:\.\d+)?)", text)
        assert len(found) == text.count(" @ ") // 2, path  # each mark has a number behind it
        marks += found
    assert len(marks) >= 10
    for file, column, conditions, shown in marks:
        wanted = dict(part.split("=", 1) for part in conditions.split("; "))
        with (ROOT / "results" / f"{file}.csv").open(newline="", encoding="utf-8") as table:
            (row,) = (row for row in csv.DictReader(table) if all(row[k] == v for k, v in wanted.items()))
        digits = len(shown.partition(".")[2])
        assert f"{float(row[column]):.{digits}f}" == shown, (file, wanted)


def test_the_version_stands_in_one_place_and_the_others_agree():
    assert f"version: {dq.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {dq.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# --- The generated pages -------------------------------------------------------------------------------------------


def generator(module):
    """Import a module of docs/generate."""
    folder = ROOT / "docs" / "generate"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(module, folder / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(module, loaded)
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(folder))
    return loaded


def test_every_public_name_has_a_section():
    public = generator("public_names")
    pages = public.pages()
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {page}\n" in site for page in pages)
    for place in public.places().values():
        page, _, anchor = place.partition("#")
        assert (
            not anchor
            or f"{{#{anchor}}}" in pages[f"reference/{page}"]
            or f"{{ #{anchor} " in pages[f"reference/{page}"]
        )
    assert "::: dequnmix_jax.endmembers.pure_pixel.vca" in pages["reference/endmembers.md"]
    assert "::: dequnmix_jax.pipeline.run" in pages["reference/dq.md"]


def test_the_page_of_the_command_line_has_every_option():
    page = generator("command_line").page()
    choices = next(action for action in main.parser("0")._actions if action.dest == "command").choices
    for command, parser in choices.items():
        assert f"## dequnmix {command}" in page
        flags = [flag for action in parser._actions for flag in action.option_strings]
        section = page.split(f"## dequnmix {command}\n")[1].split("\n## ")[0]
        assert all(f"`{flag}" in section for flag in flags), command


def test_tables_and_claims_come_from_the_results():
    results = generator("result_pages")
    folder = ROOT / "results"
    for table in results.TABLES:
        text = results.markdown(folder, table, "files/")
        assert text.count("\n|") >= 3, table
    with (folder / "table_samson.csv").open(newline="", encoding="utf-8") as file:
        row = next(r for r in csv.DictReader(file) if r["method"] == "DEQ-Unmix, cone" and "Zhu" in r["reference"])
    assert f"| {float(row['armse']):.4f} (" in results.markdown(folder, "samson", "files/")
    pages = results.pages(folder)
    assert pages["results/claims.md"].count("Reproduced: ") == 8
    assert "](files/stages.md)" in pages["results/claims.md"] and "results/files/stages.md" in pages
    with pytest.raises(ValueError, match="no row"):
        results.rows_of(folder, results.Table("memory", {}, {"form": "none"}))


def test_the_gallery_shows_sources_and_what_was_executed(tmp_path):
    gallery = generator("gallery_pages")
    pages = gallery.pages(ROOT / "notebooks", tmp_path)
    assert "without its results" in pages["gallery/first_unmixing.md"]
    folder = tmp_path / "first_unmixing"
    folder.mkdir()
    (folder / "page.md").write_text("executed")
    (folder / "source.ipynb").write_text("an older notebook")
    assert gallery.pages(ROOT / "notebooks", tmp_path)["gallery/first_unmixing.md"] != "executed"
    (folder / "source.ipynb").write_bytes((ROOT / "notebooks" / "first_unmixing.ipynb").read_bytes())
    assert gallery.pages(ROOT / "notebooks", tmp_path)["gallery/first_unmixing.md"] == "executed"


def test_formulas_become_mathml_and_code_does_not():
    pytest.importorskip("latex2mathml", reason="pip install 'dequnmix-jax[docs]'")
    maths = generator("maths")
    text = maths.replaced("`$x$` costs $5; $y$\n\n```sh\necho $HOME $x$\n```\n\n$$z = 1$$\n")
    assert text.count("<math") == 2 and "`$x$`" in text and "echo $HOME $x$" in text

"""Control characters in names from files have no effect in the terminal, on the page, or in a spreadsheet."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import main
from dequnmix_jax.escaping import Terminal, guarded, shown
from dequnmix_jax.libraries.csv import write_table
from dequnmix_jax.report import html
from dequnmix_jax.report.page import report
from dequnmix_jax.results.result import read_result
from dequnmix_jax.results.writer import write
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate
from tests.io.test_envi import image

# The title of the window, a bell, a screen wiped, a C1 control, text turned round, and a line that the program never
# said.
EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u2066\x7f\u2028\r\nnote: forged"
CONTROL = re.compile("(?!\n)[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
H, W, B, R = 4, 5, 8, 3
NM = 500.0 + 50 * np.arange(B)


def spectra():
    return np.random.default_rng(0).uniform(0.1, 0.9, (R, B)).astype(np.float32)


def maps():
    return np.random.default_rng(1).dirichlet(np.ones(R), (H, W)).astype(np.float32)


def evil_names():
    return [f"{EVIL} {i}" for i in range(R)]


def harmless(text):
    assert not CONTROL.search(text), repr(text)
    assert not any(line.startswith("note: forged") for line in text.splitlines()), text
    return text


def run(capsys, *words, status=0):
    assert main.main([str(word) for word in words]) == status
    out, err = capsys.readouterr()
    return harmless(out) + harmless(err)


def result(folder, **fields):
    write(folder, Estimate(maps(), spectra(), np.ones((H, W)), maps()), scene(**fields), names=evil_names())
    return folder


def scene(**fields):
    return Scene((maps() @ spectra()).astype(np.float32), wavelengths=NM, name=EVIL, notes=(EVIL,), **fields)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("plain, Ελληνικά, 日本 £ — ²", "plain, Ελληνικά, 日本 £ — ²"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\a\b\t\r\n\x00\x7f", "\\x07\\x08\\t\\r\\n\\x00\\x7f"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("\u202eabc\u2066\u200f\u2028", "\\u202eabc\\u2066\\u200f\\u2028"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_written_out(text, right):
    assert shown(text) == right
    assert shown(text, lines=True) == right.replace("\\n", "\n")


def test_the_door_of_the_terminal():
    class Old(io.StringIO):
        encoding = "ascii"

    stream = Old()
    door = Terminal(stream)
    print("two\nlines \x1b[31m ² \udc80", file=door)
    assert stream.getvalue() == "two\nlines \\x1b[31m \\xb2 \\udc80\n"  # what a terminal cannot show ends no work
    assert door.isatty() is False
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), guarded():
        assert isinstance(sys.stderr, Terminal)
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


def test_info(tmp_path, capsys):
    path = tmp_path / "scene\x1b[2J\n.npz"
    arrays = {"cube": maps() @ spectra(), "abundances": maps(), "endmembers": spectra(), "names": evil_names()}
    np.savez(path, note=EVIL, crs=json.dumps({"map info": EVIL}), **arrays)
    text = run(capsys, "info", path)
    assert text.count("\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnp\\u2066\\x7f\\u2028\\r\\nnote: forged") == R + 2
    assert "scene\\x1b[2J\\n.npz: 4 rows" in text
    run(capsys, "info", path, "--json")
    header = image(tmp_path, wavelength="{1, 2, 3, 4, 5}", wavelength_units="\x1b[2J\x07", map_info="{\x9b31m}")
    text = run(capsys, "info", header)
    assert "gives unit '\\x1b[2j\\x07' for the wavelengths" in text and "on the ground: {\\x9b31m}" in text


def test_notes(tmp_path, capsys):
    unit = "{\x1b[2J\nnote: forged}"  # a header's value in braces runs over several lines
    header = image(tmp_path, wavelength="{1, 2, 3, 4, 5}", wavelength_units=unit)
    text = run(capsys, "convert", header, "-o", tmp_path / "c.npz")
    assert "note: The header gives unit '{\\x1b[2j\\nnote: forged}' for the wavelengths" in text


def test_errors(tmp_path, capsys):
    assert "says 'interleave = \\x1b[2j\\x07'" in run(
        capsys, "info", image(tmp_path, interleave="\x1b[2J\x07"), status=1
    )
    path = tmp_path / "s.npz"
    np.savez(path, **{f"{EVIL}1": np.ones((2, 2)), f"{EVIL}2": np.ones(3)})
    assert "\\x1b]0;owned\\x07" in run(capsys, "info", path, status=1)
    assert "does not exist" in run(capsys, "info", tmp_path / "no\x1b[2J\udcff.hdr", status=1)
    with pytest.raises(SystemExit):
        main.main(["info", str(path), "--ignore", "\x1b[2J"])
    harmless(capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main.main(["info", str(path), "\x1b[2J\x07"])
    assert "unrecognized arguments: \\x1b[2J\\x07" in harmless(capsys.readouterr().err)


def test_score(tmp_path, capsys):
    np.savez(tmp_path / "t.npz", abundances=maps(), endmembers=spectra(), names=evil_names(), note=EVIL)
    text = run(capsys, "score", result(tmp_path / "out"), tmp_path / "t.npz")
    assert "reference: a\\x1b]0;owned\\x07" in text and text.count("a\\x1b]0;owned\\x07\\x1b[") >= 2 * R
    run(capsys, "score", tmp_path / "out", tmp_path / "t.npz", "--json")


def test_match(tmp_path, capsys):
    write_table(tmp_path / "l.csv", spectra(), evil_names(), NM)
    text = run(capsys, "match", result(tmp_path / "out"), tmp_path / "l.csv")
    assert text.count("\\x1b]0;owned\\x07") >= 2 * R
    run(capsys, "match", tmp_path / "out", tmp_path / "l.csv", "--json")
    write_table(tmp_path / "one.csv", np.stack([spectra()[0]] * 2), evil_names()[:2], NM)
    assert "equally near to a\\x1b]0;" in run(capsys, "match", tmp_path / "out", tmp_path / "one.csv")


def test_the_real_command_line(tmp_path):
    path = os.fsencode(tmp_path) + b"/bad\xff\x1b[2J\x9b.npz"
    with open(path, "wb") as file:  # noqa: PTH123 - the name is bytes
        np.savez(file, cube=maps() @ spectra(), abundances=maps(), names=evil_names(), note=EVIL)
    command = [sys.executable, "-m", "dequnmix_jax", "info", path]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for said in (done.stdout, done.stderr):
        harmless(said.decode("utf-8"))
    assert b"bad\\udcff\\x1b[2J\\udc9b.npz: 4 rows" in done.stdout
    # What is written of a name that is no text is text.
    assert main.main(["convert", os.fsdecode(path), "-o", str(tmp_path / "copy.img")]) == 0
    assert b"bad\\udcff" in (tmp_path / "copy.hdr").read_bytes()


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page(tmp_path):
    library = tmp_path / "lib\x1b[2J.csv"
    write_table(library, spectra(), evil_names(), NM)
    found = read_result(result(tmp_path / "out"))
    text = report(found, dq.libraries.read_library(library))
    assert not CONTROL.search(text)
    assert "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnp\\u2066\\x7f\\u2028" in text and "lib\\x1b[2J.csv" in text
    charts = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)
    assert charts
    for chart in charts:
        picture = base64.b64decode(chart).decode("utf-8")
        assert not CONTROL.search(picture)
        ElementTree.fromstring(picture)


def test_the_door_of_the_page():
    assert html.paragraph("<b>\x1b[2J\u202e\n&\x85</b>") == "<p>&lt;b&gt;\\x1b[2J\\u202e\n&amp;\\x85&lt;/b&gt;</p>"


# --- spreadsheets ----------------------------------------------------------------------------------------------------

FORMULAS = [
    "=HYPERLINK(\"http://x\",\"y\")", "+1+1", "-2+3", "@SUM(1)", "\tcmd", "\r=1", "  =1+1", "'=quoted", "''+twice",
    "＝1", "-soil", "a,b", 'c"d', "it's", "'plain", "two\nlines", "u\u2028v\x85w", r"a \x0a b", r"\x5cx0a", "µm",
    "-", "'",
]  # fmt: skip


def test_no_cell_of_a_table_is_a_formula_and_all_names_come_back(tmp_path):
    values = np.random.default_rng(2).normal(size=(len(FORMULAS), B))  # numbers stay numbers, negative ones too
    write_table(tmp_path / "t.csv", values, FORMULAS, NM)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert not [cell for cell in rows[0] if cell.lstrip()[:1] in ("=", "+", "-", "@", "＝") or cell[:1] in "\t\r"]
    assert rows[0][1] == '\'=HYPERLINK("http://x","y")'
    np.testing.assert_allclose(np.array(rows[1:], float)[:, 1:].T, values, rtol=1e-6)
    assert any(cell.startswith("-") for row in rows[1:] for cell in row)
    found = dq.libraries.read_library(tmp_path / "t.csv")
    assert [name.strip() for name in found.names] == [name.strip() for name in FORMULAS]
    np.testing.assert_allclose(found.spectra, values, rtol=1e-5)


def test_the_table_of_an_output(tmp_path):
    names = ["=1+1", "-2", "@c"]
    write(tmp_path / "out", Estimate(maps(), spectra(), np.ones((H, W)), maps()), scene(), names=names)
    head = (tmp_path / "out" / "endmembers.csv").read_text().splitlines()[0]
    assert head == "wavelength_nm,'=1+1,'-2,'@c"
    assert dq.libraries.read_library(tmp_path / "out" / "endmembers.csv").names == tuple(names)

"""The page about an unmixing: what it says, and how a browser shows it."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.endmembers.candidates import CANDIDATES, SceneScores, Scores
from dequnmix_jax.endmembers.selection import Weights, decide, reason
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.report import charts, html
from dequnmix_jax.report.map_sections import abundance_part
from dequnmix_jax.report.page import report, write_report
from dequnmix_jax.report.spectra_section import matched
from dequnmix_jax.results.maps import colour_composite
from dequnmix_jax.results.result import read_result
from dequnmix_jax.results.writer import result_of, write
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate, Trace

pytest.importorskip("matplotlib")

H, W, B, R = 9, 14, 40, 3
PLACED = {"share": 100 / (30 * W), "label": "100 m"}
NAMES = ["soil <dry>", 'roof "red" & tile', "$tree_1$"]
WAVELENGTHS = np.linspace(420, 900, B)


def spectra():
    x = np.linspace(0, 1, B)
    return np.stack([0.2 + 0.6 * np.exp(-((x - c) ** 2) / 0.05) for c in np.linspace(0.1, 0.9, R)])


def scene():
    """Return a scene with soil in the upper left corner only, so that a flip or rotation changes it."""
    maps = np.full((H, W, R), 1 / 3)
    maps[:3, :4] = [1, 0, 0]
    mask = np.ones((H, W), bool)
    mask[8, 13] = False
    cube = (maps @ spectra()).astype(np.float32)
    georeference = Georeference("EPSG:32632", (30.0, 0.0, 600000.0, 0.0, -30.0, 5300000.0))
    made = Scene(cube, wavelengths=WAVELENGTHS, mask=mask, name="a <b> & c", notes=("Values were divided by 10000.",))
    return Scene(**(vars(made) | {"georeference": georeference})), maps * mask[:, :, None]


def result(converged=True, **record):
    found, maps = scene()
    estimate = Estimate(maps, spectra(), np.where(found.valid, 1.0, 0.0) * np.linspace(0.9, 1.1, W), maps)
    history = {
        "loss": [0.5, 0.2, 0.1],
        "residual": [1e-3, None, 1e-5],
        "steps": [5, 4, 4],
        "converged": [True, False, True],
    }
    record = {
        "unit": "reflectance",
        "history": history,
        "reading": {"ignore": [[1310.0, 1490.0]], "nodata": 0.0},
    } | record
    change = np.where(found.valid, np.geomspace(1e-7, 1e-4, H * W).reshape(H, W), 0)
    trace = Trace(np.int32(4), np.float32(3e-5), np.bool_(converged))
    return result_of(estimate, found, names=NAMES, trace=trace, convergence=change, record=record), found, estimate


def library():
    far = np.linspace(400, 950, 56)
    x = (far - 420) / 480
    shapes = [0.1 + 0.3 * np.exp(-((x - c) ** 2) / 0.05) for c in (0.1, 0.5, 0.9)]
    return Library(("Sand", "Brick", "Oak"), far, np.stack([np.ones_like(far), *shapes][1:]), notes=("Made up.",))


class Page(HTMLParser):
    """Return the text of a page, without a browser."""

    def __init__(self, text):
        super().__init__()
        self.images, self.headings, self.words, self.tags, self._in = [], [], [], [], None
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "img":
            self.images.append(dict(attrs))
        if re.fullmatch(r"h\d", tag):
            self.headings.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def pixels(image):
    from matplotlib.image import imread

    return imread(io.BytesIO(base64.b64decode(image["src"].split(",", 1)[1])))


def test_the_page_says_everything_and_loads_nothing():
    found, _, _ = result(warnings=["Values reach 8141."])
    text = report(found, library())
    seen = Page(text)
    linked = [attributes.get(name) or "" for _, attributes in seen.tags for name in ("src", "href", "srcset")]
    assert all(not link or link.startswith("data:") for link in linked)
    assert not [tag for tag, _ in seen.tags if tag in ("script", "link", "iframe", "object")]
    policy = next(a["content"] for tag, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    for words in (
        *NAMES, "Unmixing of a <b> & c", "Values reach 8141.", "Values were divided by 10000.", "1310:1490", "Made up.",
        "fraction of the pixel", "relative change", "units of the scene", "125 of 126 valid", "900 m² on the ground",
        "relative residual", "sha256" if found.summary["source"] else "not from a file", "Sand", "Brick", "Oak",
        "nearest: Sand", "numpy", "yes", "2 of 3 converged",
    ):  # fmt: skip
        assert words in seen.text, words
    assert seen.headings[0] == "h1" and seen.headings.count("h1") == 1 and set(seen.headings) <= {"h1", "h2", "h3"}
    assert all(len(image["alt"]) > 10 for image in seen.images)
    assert len(seen.images) == 1 + R + 2 + 1 + 2 * 4  # composite, abundances, residual, brightness, convergence, curves
    table = re.search(r"Mean abundances.*?</table>", text, re.DOTALL)[0]
    mean = (12 + 113 / 3) / 125
    assert f"{mean:.4f}" in table and f"{mean * 125 * 900 / 1e4:.4g} ha" in table


def test_the_page_says_the_convention_and_shows_the_other_where_they_differ():
    found, _, _ = result()
    seen = Page(abundance_part(found, None)).text
    assert "Convention: reflectance. Fractions of spectra at their own level" in seen
    assert "in both conventions" not in seen  # spectra of one level
    steep = replace(found, endmembers=found.endmembers * np.array([[1.0], [0.5], [0.1]]))
    seen = Page(abundance_part(steep, None)).text
    converted = steep.in_convention("scaled")
    difference = np.sqrt(np.mean((converted.abundances - steep.abundances)[found.valid] ** 2))
    assert f"the maps differ by {difference:.2f} (root mean square)" in seen and difference > 0.05
    assert "Mean abundances in both conventions" in seen
    for maps in (steep.abundances, converted.abundances):
        assert all(f"{mean:.4f}" in seen for mean in maps[found.valid].mean(axis=0))
    assert (
        "Convention: scaled. Fractions of spectra divided by their maximum"
        in Page(abundance_part(converted, None)).text
    )


def test_maps_and_composite_are_upright():
    seen = Page(report(result()[0]))
    named = {image["alt"].split(":")[0].split(" in ")[0]: pixels(image) for image in seen.images[:2]}
    side = 480 // W
    for picture in named.values():
        assert picture.shape == (H * side, W * side, 4)
        assert picture[-1, -1, 3] == 0 and picture[-1, 0, 3] == 1  # the masked pixel, lower right
        corner, rest = picture[: 3 * side, : 4 * side], picture[3 * side :]
        assert np.ptp(corner, axis=(0, 1)).max() == 0  # one colour
        assert not (rest[:, :, :3] == corner[0, 0, :3]).all(axis=2)[rest[:, :, 3] > 0].any()
    alternative = seen.images[1]["alt"]
    assert "largest at row 0, column 0" in alternative and "1, mean 0.397" in alternative


def test_maps_say_where_they_are_largest_and_count_valid_pixels_alone():
    """By hand: 2 in 124 pixels, 3 in one, and 50 in the masked one, which does not count."""
    found = result()[0]
    values = np.full((H, W), 2.0, np.float32)
    values[2, 11], values[8, 13] = 3, 50
    text = report(
        replace(
            found, residual=values, brightness=values, convergence=values, abundances=values[..., None].repeat(R, 2)
        )
    )
    seen = Page(text)
    said = [image["alt"] for image in seen.images if "largest at" in image["alt"]]
    assert len(said) == R + 3
    for words in said:
        assert "2 to 3, mean 2.01, largest at row 2, column 11" in words, words
    assert "mean 2.01, 95 % of the pixels below 2" in seen.text and "mean 2.01, from 2 to 3" in seen.text
    assert "largest 3 " in seen.text and "50" not in "".join(re.findall(r"largest [\d.]+", seen.text))
    table = re.search(r"Mean abundances.*?</table>", text, re.DOTALL)[0]
    assert ">2.0080<" in table and ">3.000<" in table and ">125<" in table
    assert f">{251 * 900 / 1e4:.4g} ha<" in table


def test_masked_pixels_move_no_colour():
    cube = np.random.default_rng(0).random((7, 8, 4)).astype(np.float32)
    mask = np.ones((7, 8), bool)
    mask[0, 0] = False
    pictures = []
    for fill in (0.0, 1e6):
        cube[0, 0] = fill
        pictures.append(colour_composite(Scene(cube.copy(), mask=mask))[0])
    np.testing.assert_array_equal(*pictures)
    assert pictures[0].max() == 1 and (pictures[0][0, 0] == 0).all()


def test_what_went_wrong_stands_first():
    found, _, _ = result(converged=False)
    text = report(found)
    assert "The equilibrium was not reached (relative residual" in text
    assert text.index("not reached") < text.index("Abundances")
    assert "No library was given" in text
    assert ">Warnings<" not in report(result()[0])


def test_an_unsure_choice_stands_first():
    flat = jnp.ones(len(CANDIDATES))
    scores = Scores(0.1 * flat, 0.1 * flat, -flat, 0.01 * flat, 0.9 * flat, 0.1 * flat)
    quiet = SceneScores(jnp.zeros(()), jnp.zeros(()), *jnp.zeros((2, 2)))
    certain, doubtful = (
        reason(decide(scores, whole, Weights())._replace(endmembers=jnp.ones((3, 8))))
        for whole in (quiet, quiet._replace(beyond=jnp.ones(())))
    )
    sure, unsure = (report(result(start=text)[0]) for text in (certain, doubtful))
    assert "Endmembers: VCA, refined" in sure and ">Warnings<" not in sure
    assert unsure.index(">Warnings<") < unsure.index("endmembers and mixing is unsure")


def test_a_result_is_read_back_and_reported_alike(tmp_path):
    found, scene_, estimate = result()
    write(tmp_path / "out", estimate, scene_, names=NAMES)
    again = read_result(tmp_path / "out")
    assert again.names == found.names and again.convergence is None
    np.testing.assert_array_equal(again.composite, found.composite)
    np.testing.assert_allclose(again.residual, found.residual)
    assert write_report(tmp_path / "r.html", again) == tmp_path / "r.html"
    with pytest.raises(InputError, match="exists already"):
        write_report(tmp_path / "r.html", again)
    with pytest.raises(InputError, match="not the output of an unmixing"):
        read_result(tmp_path)
    content = dict(np.load(tmp_path / "out" / "estimate.npz"))
    for name, values in {
        "residual": np.ones((2, 2)), "mask": np.ones((H, W)), "wavelengths_nm": np.ones(B + 1),
        "names": np.array(["a"]), "composite": np.ones((H, W), np.uint8),
        "abundances": np.ones((H, W)), "endmembers": np.ones((R, B), int),
    }.items():  # fmt: skip
        np.savez(tmp_path / "out" / "estimate.npz", **(content | {name: values}))
        with pytest.raises(InputError, match="fit together"):
            read_result(tmp_path / "out")
    np.savez(tmp_path / "out" / "estimate.npz", **content)
    sound = json.loads((tmp_path / "out" / "summary.json").read_text())
    for name, value in {
        "wavelengths_nm": "blue", "pixel_area_m2": [1], "notes": 3, "trace": [1], "history": {"loss": 1},
        "source": "file", "warnings": {"a": 1}, "versions": 3, "reading": [1],
    }.items():  # fmt: skip
        (tmp_path / "out" / "summary.json").write_text(json.dumps(sound | {name: value}))
        with pytest.raises(InputError, match="was changed"):
            read_result(tmp_path / "out")
    (tmp_path / "out" / "summary.json").write_text("[]")
    with pytest.raises(InputError, match="was changed"):
        read_result(tmp_path / "out")
    (tmp_path / "out" / "summary.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_result(tmp_path / "out")


def test_library_spectra_are_drawn_at_the_height_of_their_match():
    found = result()[0]
    here = Library(("x", "y", "z"), WAVELENGTHS, np.asarray([[0.4], [3.0], [7.0]]) * spectra()[[2, 0, 1]])
    drawn = matched(found, here)
    assert [names[0] for names in drawn.matches.names] == ["y", "z", "x"]
    np.testing.assert_allclose(drawn.spectra, spectra(), rtol=1e-4)


def test_shade_is_reported_without_a_name():
    found = result()[0]
    dark = replace(found, endmembers=np.concatenate([np.zeros((1, B), np.float32), found.endmembers[1:]]))
    here = Library(("x", "y", "z"), WAVELENGTHS, spectra())
    drawn = matched(dark, here)
    assert drawn.matches.names[0][0] == "" and np.isnan(drawn.spectra[0]).all() and np.isfinite(drawn.spectra[1:]).all()
    page = report(dark, here)
    assert page.count("no library spectrum, because it is zero in every band") >= 2
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_a_library_needs_wavelengths():
    found, _, _ = result()
    with pytest.raises(InputError, match="has no wavelengths"):
        report(
            found._replace(wavelengths_nm=None) if hasattr(found, "_replace") else _without_wavelengths(found),
            library(),
        )


def _without_wavelengths(found):

    return replace(found, wavelengths_nm=None)


def test_large_maps_are_averaged_and_small_ones_enlarged():
    values = np.zeros((3000, 2000))
    values[:, 1000:] = 1
    valid = np.ones(values.shape, bool)
    valid[:4] = False
    uri, width, height = charts.map_picture(values, valid, charts.Scale(0, 1, "viridis"))
    assert (width, height) == (500, 750)
    picture = pixels({"src": uri})
    assert (picture[0, :, 3] == 0).all() and (picture[1:, :, 3] == 1).all()
    ends = np.array(
        [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in charts.stops(charts.Scale(0, 1, "viridis"))]
    )
    np.testing.assert_allclose(255 * picture[5, [0, -1], :3], ends[[0, -1]], atol=1)
    half = np.indices(values.shape).sum(axis=0) % 2 == 0  # an average is that of the valid pixels alone
    picture = pixels({"src": charts.map_picture(np.where(half, 1.0, -9.0), half, charts.Scale(0, 1, "viridis"))[0]})
    assert np.abs(255 * picture[:, :, :3] - ends[-1]).max() <= 1


def test_scales():
    valid = np.ones((10, 10), bool)
    values = np.geomspace(1e-6, 1e-2, 100).reshape(10, 10)
    scale = charts.scale_of(values, valid, "magma", logarithmic=True)
    assert 1e-6 <= scale.low < 2e-6 and 5e-3 < scale.high <= 1e-2
    assert scale.middle() == pytest.approx((scale.low * scale.high) ** 0.5)
    assert charts.scale_of(np.zeros((10, 10)), valid, "magma").high == 1
    assert charts.scale_of(np.zeros((10, 10)), valid, "magma", logarithmic=True).low > 0
    assert charts.training_chart({}, None) is None


def test_text_cannot_leave_its_place():
    text = html.table("a<b", ["x&y"], [["<script>", html.Number('"')]])
    assert "<script>" not in text and "&lt;script&gt;" in text and "a&lt;b" in text


_PROBE = """<script>
window.addEventListener("load", () => {
  const box = element => element.getBoundingClientRect();
  const drawn = image => {  // drawing decodes; nothing is drawn of a broken picture
    const canvas = document.createElement("canvas"), size = canvas.width = canvas.height = 40;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, size, size);
    return context.getImageData(0, 0, size, size).data.some(value => value > 0); };
  const luminance = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const page = luminance(getComputedStyle(document.body).backgroundColor);
  const bar = document.querySelector(".metres"), map = bar && bar.closest(".placed").querySelector("img");
  const contrast = name => { const ink = luminance(getComputedStyle(document.querySelector(name)).color);
    return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05); };
  parent.postMessage({
    images: [...document.images].filter(i => box(i).width > 0).map(
      i => [i.naturalWidth, i.naturalHeight, box(i).width, box(i).right, drawn(i)]),
    maps: [...document.querySelectorAll("img.map")].map(
      i => [box(i).width / box(i).height, i.naturalWidth / i.naturalHeight]),
    bar: bar && box(bar).width / box(map).width,
    swatches: [...document.querySelectorAll(".maps .swatch")].map(s => getComputedStyle(s).backgroundColor),
    overflow: document.documentElement.scrollWidth - window.innerWidth, width: window.innerWidth, page: page,
    contrast: Math.min(...["body", "h1", "h2", ".soft", ".unit", "caption", "small"].map(contrast)),
    shown: [...document.querySelectorAll("img.curves")].filter(i => box(i).width > 0).map(i => i.className),
    sections: [...document.querySelectorAll("section")].map(s => s.id), bars: document.querySelectorAll(".bar").length,
  }, "*");
});</script></body>"""

# A window is never narrower than 500 pixels, a frame is; the page in it is of another origin and sends what it found.
_FRAME = """<!DOCTYPE html><body style="margin:0"><script>window.addEventListener("message", event =>
  document.body.setAttribute("data-found", JSON.stringify(event.data)));</script>
<iframe src="probed.html" style="border:0;width:WIDTHpx;height:2400px"></iframe></body>"""


@pytest.fixture(scope="module")
def browser():
    found = next(
        (path for name in ("chromium", "google-chrome", "chromium-browser") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("neither chromium nor google-chrome is on the path, so no browser can show the page")
    return found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 400])
def test_in_a_browser(browser, tmp_path, width, dark):
    """A browser decodes every picture, nothing overflows the page, and the text has enough contrast."""
    found = result(warnings=["Values reach 8141."])[0]
    place = {"metres_per_column": 30.0, "north": 12.0}
    text = report(replace(found, summary={**found.summary, "place": place}), library())
    assert f">{PLACED['label']}<" in text and "rotate(12.0deg)" in text
    # The page itself forbids scripts; the copy that measures itself may run one.
    (tmp_path / "probed.html").write_text(re.sub(r"<meta http-equiv.*?>", "", text).replace("</body>", _PROBE), "utf-8")
    (tmp_path / "frame.html").write_text(_FRAME.replace("WIDTH", str(width)), "utf-8")
    (tmp_path / "page.html").write_text(text, "utf-8")

    def run(name, *options):
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,2400", "--virtual-time-budget=20000"]
        words += ["--blink-settings=preferredColorScheme=0"] if dark else []
        home = os.environ | {"HOME": str(tmp_path)}
        command = [*words, *options, f"file://{tmp_path / name}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=home).stdout

    body = next(attributes for tag, attributes in Page(run("frame.html", "--dump-dom")).tags if tag == "body")
    found = json.loads(body["data-found"])
    assert found["width"] == width and found["overflow"] <= 0
    assert len(found["images"]) == 9 and all(drawn for *_, drawn in found["images"])
    assert found["shown"] == 2 * [f"curves {'dark' if dark else 'light'}{' narrow' if width == 400 else ''}"]
    for natural_width, natural_height, shown_width, right, _ in found["images"]:
        assert natural_width > 0 and natural_height > 0 and shown_width > 100 and right <= width
    for ratio, natural in found["maps"]:
        assert ratio == pytest.approx(natural, rel=0.02)  # not distorted
    # The scale bar is as long as it says.
    assert found["bar"] == pytest.approx(PLACED["share"], abs=0.01)
    colours = (charts.ON_DARK if dark else charts.COLOURS)[:R]
    rgb = ["rgb({}, {}, {})".format(*(int(c[i : i + 2], 16) for i in (1, 3, 5))) for c in colours]
    assert found["swatches"] == rgb
    assert found["contrast"] >= 4.5 and (found["page"] < 0.05) == dark
    assert found["sections"] == [
        "conclusion", "cautions", "scene", "abundances", "spectra", "fit", "convergence", "assumed", "record",
    ]  # fmt: skip
    assert found["bars"] == R + 3
    if width != 1200:
        return
    run("page.html", f"--screenshot={tmp_path / 'shot.png'}")
    picture = pixels({"src": "," + base64.b64encode((tmp_path / "shot.png").read_bytes()).decode()})
    assert picture.shape[:2] == (2400, width)
    edge = picture[:, 2, :3]  # left of everything
    assert (edge.max() < 0.2) if dark else (edge.min() > 0.9)
    yellow = (np.abs(255 * picture[:, :, :3] - [253, 231, 37]).max(axis=2) < 3).sum()
    assert yellow > 500  # the bright end of viridis: the corner that is all soil


def test_a_library_is_read_first():
    with pytest.raises(InputError, match=r"library.*read_library"):
        report(result()[0], "library.csv")


@pytest.mark.parametrize("dark", [False, True])
def test_a_chart_is_drawn_once_for_light_and_dark(dark, monkeypatch):
    """Either chart has the bytes that drawing it in its own colours gives, but for names inside the file."""
    drawn = []
    written = charts.write_figure
    monkeypatch.setattr(charts, "write_figure", lambda *words: (drawn.append(1), written(*words))[1])
    history = {"loss": [3.0, 2.0, 1.0], "residual": [1e-1, 1e-3, 1e-5], "steps": [9, 5, 4]}
    together = charts.training_chart(history, 1e-4)
    assert len(drawn) == 2
    monkeypatch.setattr(charts, "THEMES", charts.THEMES[int(dark) :: 2])
    alone = charts.training_chart(history, 1e-4)
    names = re.compile(r"[mp][0-9a-f]{10}")  # of a marker or a path, made of its style

    def text(uri):
        return names.sub("", base64.b64decode(uri.split(",")[1]).decode())

    for theme in charts.THEMES:
        assert text(together[theme.name]) == text(alone[theme.name])
        assert theme.ink in text(together[theme.name]) and theme.colours[0].lower() in text(together[theme.name])

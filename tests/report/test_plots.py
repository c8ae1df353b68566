"""Pictures: correct orientation, labelled, on one scale, without overlapping text."""

import itertools
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from dequnmix_jax.checks import InputError
from dequnmix_jax.report import charts, plots
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import History

REFERENCE = "A. Author et al. 2021, image library; no truth per pixel, but the true areas of 25 targets"


def drawn(figure):
    """Return the rendered pixels of a figure, (rows, columns, 3) in 0..255."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(int)


def colour_at(figure, axes, row, column):
    """Return the rendered colour of one pixel of the picture in some axes."""
    pixels = drawn(figure)
    x, y = axes.transData.transform((column, row))
    return pixels[pixels.shape[0] - 1 - round(y), round(x)]


def overlapping(figure):
    """Return the pairs of texts that overlap or leave the figure."""
    from matplotlib.text import Text

    figure.set_dpi(60)  # faster, and the same layout
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    undrawn = set()  # a tick outside the limits keeps a text, which its axis does not draw
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    undrawn |= {tick.label1, tick.label2}
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in undrawn
    ]
    wide, high = figure.bbox.size
    outside = [text for text, b in boxes if min(b.x0, b.y0) < -1 or b.x1 > wide + 1 or b.y1 > high + 1]
    return outside + [
        (a, b) for (a, p), (b, q) in itertools.combinations(boxes, 2) if p.padded(-1).overlaps(q.padded(-1))
    ]


def history(count, converged=True):
    steps = np.arange(count)
    return History(
        loss=0.1 * 0.9**steps + 0.01,
        angle=0.08 * 0.9**steps + 0.01,
        error=0.01 * 0.9**steps,
        steps=np.full(count, 7),
        residual=np.where(steps % 3 == 0, 3e-4, 5e-5),
        converged=(steps % 3 != 0) | converged,
        active=np.ones(count, bool),
    )


def maps(count, height=8, width=10):
    return np.random.default_rng(count).dirichlet(np.ones(count), (height, width))


def test_an_abundance_stands_where_it_is():
    abundances = np.zeros((6, 9, 2))
    abundances[..., 1] = 1
    abundances[0, 7] = 1, 0  # near the top right corner, and nowhere else
    mask = np.ones((6, 9), bool)
    mask[5, 0] = False  # bottom left
    figure = plots.abundance_maps(abundances, ["rock", "soil"], mask=mask)
    axes = figure.axes[0]
    assert axes.get_title() == "rock"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("column", "row")
    yellow, violet, grey = (253, 231, 37), (68, 1, 84), (178, 178, 178)
    assert np.abs(colour_at(figure, axes, 0, 7) - yellow).max() <= 2
    assert np.abs(colour_at(figure, axes, 5, 7) - violet).max() <= 2
    assert np.abs(colour_at(figure, axes, 5, 0) - grey).max() <= 2
    pixels = drawn(figure)
    where = np.argwhere(np.abs(pixels - yellow).max(axis=2) <= 2)
    rows, columns = where[where[:, 1] < pixels.shape[1] // 2].mean(axis=0)  # the first map alone
    x0, y0, x1, y1 = axes.get_window_extent().extents
    assert rows < pixels.shape[0] - (y0 + y1) / 2  # above the middle of its axes
    assert columns > (x0 + x1) / 2


def test_one_fixed_scale_for_all_maps():
    figure = plots.abundance_maps(0.1 * maps(5), truth=maps(5), reference="me")
    images = [image for axes in figure.axes for image in axes.images]
    assert len(images) == 10
    assert {image.get_clim() for image in images} == {(0, 1)}
    assert len({id(axes) for axes in figure.axes}) == 11
    assert figure.axes[-1].get_ylabel() == "abundance (fraction of the pixel)"
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert "estimate\nrow" in labels
    assert "reference: me\nrow" in labels


@pytest.mark.parametrize(("count", "with_truth"), [*((count, count % 2 == 1) for count in range(2, 13)), (12, True)])
def test_no_text_over_another_in_maps(count, with_truth):
    names = [f"material {i} with a long name, weathered" for i in range(count)]
    height, width = ((8, 10), (40, 12), (5, 60))[count % 3]
    abundances = maps(count, height, width)
    figure = plots.abundance_maps(abundances, names, truth=abundances if with_truth else None, reference=REFERENCE)
    assert overlapping(figure) == []


@pytest.mark.parametrize("count", [2, 7, 12])
def test_no_text_over_another_in_spectra(count):
    spectra = np.random.default_rng(0).random((count, 20))
    names = [f"material {i} with a long name, weathered" for i in range(count)]
    figure = plots.endmember_spectra(spectra, names, reference=spectra, reference_name=REFERENCE)
    assert overlapping(figure) == []


@pytest.mark.parametrize("count", [1, 60])
def test_no_text_over_another_in_convergence(count):
    assert overlapping(plots.convergence(history(count, converged=False), tolerance=1e-4)) == []


def test_spectra_over_wavelengths():
    wavelengths = np.r_[400:500:10, 800:900:10].astype(float)
    spectra = np.random.default_rng(0).random((9, 20))
    figure = plots.endmember_spectra(spectra, wavelengths=wavelengths, reference=spectra / 2, unit="radiance")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "wavelength (nm)"
    assert axes.get_ylabel() == "radiance"
    styles = {(line.get_color(), str(line._dash_pattern)) for line in axes.lines[:9]}
    assert len(styles) == 9  # told apart by colour and line
    x = axes.lines[0].get_xdata()
    assert np.isnan(x).sum() == 1  # the gap is not drawn across
    assert plots.endmember_spectra(spectra).axes[0].get_xlabel() == "band (counted from 0)"


def test_names_are_taken_as_they_are():
    names = ["_hidden", "a $x^ b", r"$\nonsense$"]
    figure = plots.endmember_spectra(np.ones((3, 4)) * [[1], [2], [3]], names)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    drawn(figure)
    drawn(plots.abundance_maps(maps(3), names, truth=maps(3), reference=r"$\nonsense$"))


def test_convergence_shows_failures_and_tolerance():
    axes = plots.convergence(history(30, converged=False), tolerance=1e-4).axes[2]
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "tolerance 0.0001",
        "not converged: 10 of 30",
    ]
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    np.testing.assert_array_equal(crosses.get_xdata(), np.arange(0, 30, 3))  # on the steps that failed
    np.testing.assert_allclose(crosses.get_ydata(), 3e-4)


def test_convergence_survives_nan_and_zero():
    odd = history(3)._replace(loss=np.full(3, np.nan), residual=np.array([0, np.nan, 0.0]), converged=np.zeros(3, bool))
    for figure in (plots.convergence(odd), plots.convergence(odd, tolerance=1e-4)):
        drawn(figure)
        assert len(figure.axes) == len(plots.convergence(history(3)).axes)


def test_composite_is_upright_and_in_colour():
    cube = np.zeros((6, 9, 3), np.float32)  # 460, 550, 640 nm
    cube[:3, :, 2] = 0.5  # the upper half is red
    cube[3:, :4, 0] = 0.5  # the lower left is blue
    mask = np.ones((6, 9), bool)
    mask[0, 8] = False
    figure = plots.composite(Scene(cube, wavelengths=[460, 550, 640], mask=mask))
    axes = figure.axes[0]
    assert tuple(colour_at(figure, axes, 1, 1)) == (255, 0, 0)
    assert tuple(colour_at(figure, axes, 5, 0)) == (0, 0, 255)
    assert tuple(colour_at(figure, axes, 5, 8)) == (0, 0, 0)
    assert tuple(colour_at(figure, axes, 0, 8)) == (178, 178, 178)
    pixels = drawn(figure)
    rows = [np.argwhere((pixels == colour).all(axis=2))[:, 0] for colour in ((255, 0, 0), (0, 0, 255))]
    assert rows[0].max() < rows[1].min()  # as drawn: red above blue
    assert axes.get_title() == "640, 550, 460 nm as red, green, blue"


def test_save_is_whole_and_asked(tmp_path):
    figure = plots.convergence(history(3))
    path = plots.save(figure, tmp_path / "c.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="exists already"):
        plots.save(figure, path)
    plots.save(figure, path, overwrite=True)
    with pytest.raises(InputError, match=r"expected one of .*\.png"):
        plots.save(figure, tmp_path / "c.doc")
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.png"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.abundance_maps(maps(3)[0]), r"shape \(10, 3\)"),
        (lambda: plots.abundance_maps(maps(3), ["a"]), "1 name for 3"),
        (lambda: plots.abundance_maps(maps(3), truth=maps(4)), "reference has shape"),
        (lambda: plots.abundance_maps(maps(3), mask=np.ones((2, 2), bool)), "mask has shape"),
        (lambda: plots.endmember_spectra(np.ones(4)), r"shape \(4,\)"),
        (lambda: plots.endmember_spectra(np.ones((2, 4)), wavelengths=np.arange(3)), "same bands"),
        (lambda: plots.endmember_spectra(np.ones((2, 4)), reference=np.ones((3, 4))), "same bands"),
        (lambda: plots.convergence(history(0)), "history is empty"),
        (lambda: plots.composite(Scene(np.ones((2, 2, 4), np.float32)), low=98, high=2), "percentiles"),
    ],
)
def test_bad_input_is_said(draw, message):
    with pytest.raises(InputError, match=message):
        draw()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[plots\]'"):
        plots.convergence(history(2))


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, kind):
    spectra = np.random.default_rng(0).uniform(size=(3, 8))
    for name in ("a", "b"):
        plots.save(plots.endmember_spectra(spectra), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_the_same_curves_give_the_same_text():
    history = {"loss": [3.0, 1.0], "residual": [1e-3, 1e-4], "steps": [4, 5]}
    spectra = np.random.default_rng(0).uniform(size=(3, 8))
    for draw in (
        lambda: charts.spectra_chart(spectra, ["a", "b", "c"], None, "reflectance"),
        lambda: charts.training_chart(history, 1e-3),
    ):
        assert draw() == draw()


def test_compared_maps_have_a_row_for_each_set_with_its_label():
    first = np.zeros((5, 6, 2))
    first[1, 4, 0] = 1
    figure = plots.compared_maps({"ours": first, "truth": 1 - first}, ("a", "b"))
    maps = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert [axes.get_ylabel() for axes in maps if axes.get_ylabel()] == ["ours\nrow", "truth\nrow"]
    assert [axes.get_title() for axes in maps if axes.get_title()] == ["a", "b"]
    shown = {axes.get_ylabel(): axes.images[0].get_array() for axes in maps if axes.get_ylabel()}
    np.testing.assert_array_equal(shown["ours\nrow"], first[..., 0])
    np.testing.assert_array_equal(shown["truth\nrow"], 1 - first[..., 0])
    with pytest.raises(InputError, match="one or more sets of one shape"):
        plots.compared_maps({"ours": first, "truth": first[:, :5]})
    with pytest.raises(InputError, match="one or more sets of one shape"):
        plots.compared_maps({})


def test_areas_found_are_drawn_over_true_ones_and_missing_ones_are_not_drawn():
    true = np.array([9.0, 4, 1])
    found = {"one": np.array([[8.0, 4.5, 0.9], [np.nan] * 3])}
    figure = plots.found_areas(true, found, ("bitumen", "metal"))
    lines = [next(line for line in axes.lines if line.get_label() == "one") for axes in figure.axes]
    np.testing.assert_array_equal(lines[0].get_xdata(), true)
    np.testing.assert_array_equal(lines[0].get_ydata(), found["one"][0])
    assert [axes.get_title() for axes in figure.axes] == ["bitumen", "metal"]
    assert "m²" in figure.axes[0].get_xlabel() and figure.axes[0].get_yscale() == "log"
    assert np.isnan(lines[1].get_ydata()).all()  # a material that was not found is not an area of zero
    with pytest.raises(InputError, match="expected \\(2, 3\\)"):
        plots.found_areas(true, {"one": true}, ("a", "b"))

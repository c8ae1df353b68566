"""Pixels of a result under the mouse: what is drawn, what a pointer and clicks do, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.results.result import Result

pytest.importorskip("ipympl", reason="pip install 'dequnmix-jax[explore]'")
H, W, B = 4, 6, 5
E = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1]], np.float32)


def result_of_two():
    rng = np.random.default_rng(0)
    A = rng.dirichlet(np.ones(2), (H, W)).astype(np.float32)
    mask = np.ones((H, W), np.bool_)
    mask[0, 0] = False
    A[0, 0] = 0
    cube = (A @ E).astype(np.float32) + np.float32(0.01)
    return Result(
        ("clay", "a long name of a material"), A, E, mask.astype(np.float32), mask=mask,
        wavelengths_nm=np.linspace(400, 800, B), abundances_sd=np.full_like(A, 0.05), summary={"unit": "reflectance"},
    ), dq.Scene(cube)  # fmt: skip


def event(canvas, kind, axes, x, y):
    """Send a pointer event at coordinates of axes."""
    from matplotlib.backend_bases import MouseEvent

    at = axes.transData.transform((x, y))
    button = 1 if kind == "button_press_event" else None
    canvas.callbacks.process(kind, MouseEvent(kind, canvas, *at, button))


@pytest.fixture(scope="module")
def shown():
    result, scene = result_of_two()
    canvas = dq.explore(result, scene)
    canvas.figure.draw_without_rendering()  # places the axes
    return result, scene, canvas, canvas.explorer


def test_the_first_pixel_is_the_purest_of_the_first_map(shown):
    result, scene, _, explorer = shown
    best = np.unravel_index(np.argmax(result.abundances[..., 0]), (H, W))
    assert (explorer.row, explorer.column) == best
    measured, fit = explorer._spectrum.get_lines()
    np.testing.assert_array_equal(measured.get_ydata(), scene.cube[best])
    np.testing.assert_allclose(fit.get_ydata(), result.abundances[best] @ E, rtol=1e-6)
    np.testing.assert_array_equal(measured.get_xdata(), result.wavelengths_nm)
    assert [bar.get_height() for bar in explorer._bars.patches] == pytest.approx(result.abundances[best].tolist())


def test_the_pointer_a_pin_and_another_map(shown):
    result, _, canvas, explorer = shown
    event(canvas, "motion_notify_event", explorer._map, 2.2, 3.1)
    assert (explorer.row, explorer.column) == (3, 2) and not explorer.pinned
    event(canvas, "button_press_event", explorer._map, 5, 1)
    event(canvas, "motion_notify_event", explorer._map, 1, 1)
    assert (explorer.row, explorer.column) == (1, 5) and explorer.pinned
    assert "pinned" in explorer._spectrum.get_title()
    event(canvas, "button_press_event", explorer._map, 5, 1)
    event(canvas, "motion_notify_event", explorer._map, 0, 0)
    assert (explorer.row, explorer.column) == (0, 0) and "masked" in explorer._spectrum.get_title()
    event(canvas, "button_press_event", explorer._bars, 1.1, 0.2)
    assert explorer.endmember == 1 and explorer._map.get_title().startswith("a long name of a material")
    np.testing.assert_array_equal(explorer._image.get_array().filled(0), result.abundances[..., 1])


def test_refusals():
    result, scene = result_of_two()
    with pytest.raises(InputError, match=r"The scene has shape \(4, 6, 4\) and the result \(4, 6, 5\)"):
        dq.explore(result, dq.Scene(scene.cube[:, :, :4]))
    with pytest.raises(InputError, match="explore got ndarray; expected a Result"):
        dq.explore(scene.cube)
    with pytest.raises(InputError, match="row 9, column 0, endmember None is not in the result; expected rows 0 to 3"):
        dq.explore(result).explorer.show(9, 0)


def test_mixing_that_is_not_linear_has_no_linear_fit():
    result, scene = result_of_two()
    summary = {**result.summary, "configuration": {"method": {"method": "ppnm"}}}
    explorer = dq.explore(replace(result, summary=summary), scene).explorer
    assert [line.get_label() for line in explorer._spectrum.get_lines()] == ["measured"]
    assert "no fit" in explorer._spectrum.get_title()


def test_bands_in_another_order_and_more_bands_are_matched_by_wavelength():
    result, scene = result_of_two()
    places = np.linspace(400, 800, B)
    turned = dq.Scene(scene.cube[:, :, ::-1].copy(), wavelengths=places[::-1].copy())
    wide = dq.Scene(np.concatenate([scene.cube, scene.cube[:, :, :1]], axis=2), wavelengths=np.append(places, 900.0))
    for other in (turned, wide):
        explorer = dq.explore(result, other).explorer
        np.testing.assert_array_equal(explorer._scene.cube, scene.cube)
    with pytest.raises(InputError, match=r"row 2\.5, column 3"):
        explorer.show(2.5, 3)

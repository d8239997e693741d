"""A page in a headless Chromium, from `file://`: nothing is fetched, tables sort, the viewer draws the right voxels."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.core.page.page import Section, write_page
from scripts.core.page.viewer import crop, viewed_case, viewer
from tests.browser import Browser

TABLE = """{% from "macros.html" import table %}{{ table(rows, left=1, bars=["DSC"]) }}"""
SCORES = ["0.5", "-", "0.875", "<0.001*", "1.000", "10.5 [1]", "-2", "0.8 ± 0.1", "0.25", "0.3", "0.4", "2 of 4"]
COLOURS = {0: "background", 1: "uterus", 2: "HR-CTV"}  # blue and red
# the pixels of one view, without crosshair and letters, rows from the top
PIXELS = """(() => {
  const view = document.querySelector(".viewer").view;
  view.opts.isOrientationTextVisible = false;
  view.setCrosshairWidth(0);
  view.drawScene();
  const gl = view.gl;
  const [width, height] = [gl.drawingBufferWidth, gl.drawingBufferHeight];
  const pixels = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  let text = "";
  for (let i = 0; i < pixels.length; i += 8192) text += String.fromCharCode(...pixels.subarray(i, i + 8192));
  return [width, height, btoa(text)];
})()"""


@pytest.fixture
def page(phantom: Any, tmp_path: Path) -> Path:
    file = tmp_path / "table.html"
    file.write_text(TABLE)
    rows = [{"case": f"c{i}", "DSC": text} for i, text in enumerate(SCORES)]
    shown = viewed_case("c", *vars(phantom).values(), modality="MR")
    sections = [Section("Table", file, {"rows": rows}), viewer("Viewer", [shown, shown], COLOURS)]
    return write_page(tmp_path / "page.html", "t", "l", sections)


def column(browser: Browser, index: int) -> list[str]:
    script = f"[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[{index}].textContent)"
    return [str(text) for text in browser.evaluate(script)]


def pixels(browser: Browser) -> np.ndarray:
    width, height, text = browser.evaluate(PIXELS)
    flat = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
    return flat[::-1, :, :3].astype(int)


def choose(browser: Browser, name: str, value: int) -> None:
    control = f"document.querySelector('[name={name}]')"
    browser.evaluate(f"{control}.value = {value}; {control}.dispatchEvent(new Event('change'))")


def drawn(browser: Browser, plane: int) -> np.ndarray:
    """The image in one plane (0 axial, 1 coronal, 2 sagittal), without the black around it."""
    choose(browser, "view", plane)
    picture = pixels(browser)
    inside = picture.sum(axis=2) > 30
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Mean row and column of a mask as fractions of the picture."""
    assert mask.any()
    rows, columns = np.nonzero(mask)
    return (rows.mean() + 0.5) / mask.shape[0], (columns.mean() + 0.5) / mask.shape[1]


def blue(picture: np.ndarray) -> np.ndarray:
    return picture[..., 2] > picture[..., 0] + 30


def red(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] > picture[..., 2] + 30


def ready(browser: Browser) -> None:
    browser.wait("document.querySelector('.viewer').dataset.state === 'ready'")


def test_from_a_file_without_network_or_an_error(browser: Browser, page: Path) -> None:
    browser.open(page)
    ready(browser)
    assert browser.requests[0] == page.as_uri()
    assert all(address.startswith(("data:", "blob:")) for address in browser.requests[1:])
    assert not browser.errors


def test_tables_sort_and_filter_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert column(browser, 1) == SCORES
    browser.evaluate("document.querySelectorAll('thead button')[1].focus()")
    browser.press("Enter")
    ascending = [
        *("-2", "<0.001*", "0.25", "0.3", "0.4", "0.5"),
        *("0.8 ± 0.1", "0.875", "1.000", "2 of 4", "10.5 [1]", "-"),
    ]
    assert column(browser, 1) == ascending
    heading = "document.querySelectorAll('thead th')[1].getAttribute('aria-sort')"
    assert browser.evaluate(heading) == "ascending"
    browser.press(" ")
    assert column(browser, 1) == [*ascending[-2::-1], "-"], "what is no number is last either way"
    assert browser.evaluate(heading) == "descending"
    browser.evaluate("document.querySelectorAll('thead button')[0].click()")
    assert column(browser, 0) == [f"c{i}" for i in range(12)], "c10 after c9"
    assert browser.evaluate(heading) is None
    browser.evaluate("document.querySelector('input[type=search]').focus()")
    for key in "c1":
        browser.press(key)
    assert column(browser, 0) == ["c1", "c10", "c11"]
    assert browser.evaluate("document.querySelector('.tools output').textContent") == "3 of 12 rows"


def test_the_right_voxels_left_and_right(browser: Browser, page: Path, phantom: Any) -> None:
    browser.open(page)
    ready(browser)
    box = crop((phantom.truth > 0) | (phantom.prediction > 0), phantom.affine)
    size = [part.stop - part.start for part in box]

    def fraction(axis: int, middle: float) -> float:
        return (middle - box[axis].start) / size[axis]

    axial = drawn(browser, 0)
    # the first axis runs to the patient's left, which is at the right; the second to the back, which is below
    marker = (axial.min(axis=2) > 150) & ~blue(axial) & ~red(axial)
    assert centre(marker) == pytest.approx((fraction(1, 16), fraction(0, 46)), abs=0.02)
    assert centre(blue(axial)) == pytest.approx((fraction(1, 23), fraction(0, 25)), abs=0.02)
    assert centre(red(axial)) == pytest.approx((fraction(1, 33), fraction(0, 37)), abs=0.02)
    assert red(axial).mean() == pytest.approx(36 / (size[0] * size[1]), rel=0.25)
    coronal = drawn(browser, 1)
    # through the middle of the truth; the head is above
    assert centre(blue(coronal)) == pytest.approx((1 - fraction(2, 7.5), fraction(0, 25)), abs=0.03)
    sagittal = drawn(browser, 2)
    # the front is at the left
    assert centre(blue(sagittal)) == pytest.approx((1 - fraction(2, 7.5), fraction(1, 23)), abs=0.03)
    assert axial.shape[1] / axial.shape[0] == pytest.approx(size[0] / size[1], rel=0.03), "square pixels in mm"
    assert coronal.shape[1] / coronal.shape[0] == pytest.approx(size[0] * 2 / (size[2] * 4), rel=0.03)


def test_keys_and_controls(browser: Browser, page: Path) -> None:
    browser.open(page)
    ready(browser)
    before = drawn(browser, 0)
    assert blue(before).any()
    assert red(before).any()
    assert 0 < blue(before).mean() < red(before).mean(), "the truth is an outline"
    browser.evaluate("document.querySelector('.viewer canvas').focus()")
    browser.press("o")
    assert blue(drawn(browser, 0)).mean() == pytest.approx(red(before).mean(), rel=0.25), "as large as the prediction"
    browser.press("t")
    hidden = drawn(browser, 0)
    assert not blue(hidden).any()
    assert red(hidden).any()
    browser.press("p")
    assert not red(drawn(browser, 0)).any()
    for key in "tpo":
        browser.press(key)
    bright = (before.min(axis=2) > 150).sum()
    for _ in range(2):
        browser.press("ArrowUp")
    above = drawn(browser, 0)
    assert red(above).any()
    assert (above.min(axis=2) > 150).sum() < bright / 4, "the marker ends two slices below"
    set_width = "const w = document.querySelector('[name=width]'); w.value = w.min; w.dispatchEvent(new Event('input'))"
    browser.evaluate(set_width)
    assert browser.evaluate("document.querySelector('.viewer').view.volumes[0].cal_max") < 200
    choose(browser, "case", 1)
    ready(browser)
    assert browser.evaluate("document.querySelector('[name=place]').textContent").startswith(
        "value 100 · truth: uterus"
    )
    assert not browser.errors


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)])
def test_on_a_phone_and_a_laptop_in_light_and_dark(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, 844, dark)
    ready(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark
    assert drawn(browser, 0).std() > 5


def test_without_webgl_the_pictures_are_pointed_at(browser: Browser, page: Path) -> None:
    made = browser.call(
        "Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null"
    )
    try:
        browser.open(page)
        assert browser.evaluate("document.querySelector('.viewer').hidden")
        assert "see the pictures below" in browser.evaluate("document.querySelector('.absent').innerText")
        assert not browser.errors
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **made)

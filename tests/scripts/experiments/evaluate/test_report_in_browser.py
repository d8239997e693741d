"""The report of the verb in a headless Chromium, as a reader opens it."""

from __future__ import annotations

from typing import Any

from tests.browser import Browser


def test_the_report_opens_from_its_file_and_shows_every_case(cohort: Any, browser: Browser) -> None:
    assert cohort.run("--pictures", "1") == 0
    report = cohort.folder / "out/report.html"
    assert report.stat().st_size < 30e6
    browser.open(report)
    browser.wait("document.querySelector('.viewer').dataset.state === 'ready'")
    offered = browser.evaluate("[...document.querySelectorAll('[name=case] option')].map(o => o.textContent)")
    assert [text.split(":")[0] for text in offered] == ["p2_t3", "p2_t2", "p1_t1", "p0_t0"]
    # the tumour of the worst case was missed
    place = browser.evaluate("document.querySelector('[name=place]').textContent")
    assert "truth: tumor · prediction: organ" in place
    assert all(address.startswith(("file:", "data:")) for address in browser.requests)
    assert not browser.errors

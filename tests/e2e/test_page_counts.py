"""What a new user does on the page: a camera is added, a line drawn, and people are counted as they cross it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import browsing
from tests.support.cluster import Raysight, run_raysight
from tests.support.rtsp_server import RtspServer
from tests.support.waiting import until

PATIENCE_MS = 60_000
WIDTH = "Math.max(document.querySelector('.view img').naturalWidth, document.querySelector('.view video').videoWidth)"
"""Of the video, whichever way it comes."""
TWO_MINUTES_S = 120.0
LINE = ((0.72, 0.42), (0.72, 0.72))
"""Across the path of the clip: 26 people cross it in 32 seconds."""


@pytest.fixture(scope="module")
def raysight(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Raysight]:
    """The running system, as `make demo` starts it."""
    yield from run_raysight(tmp_path_factory.mktemp("page"), street_clip)


@pytest.fixture(scope="module")
def camera(street_clip: Path) -> Iterator[RtspServer]:
    """An RTSP camera that looks at a path and wants a password."""
    with RtspServer(clips={"path": street_clip}, user="viewer", password="s3cr3t-Pa55") as server:
        yield server


@pytest.fixture
def page() -> Iterator[Page]:
    with browsing(1400, 1000) as page:
        yield page


@pytest.mark.long
@pytest.mark.timeout(240)
def test_people_are_counted_within_two_minutes(raysight: Raysight, camera: RtspServer, page: Page) -> None:
    began = time.monotonic()
    page.goto(raysight.cluster.api_url)
    page.get_by_role("link", name="Add", exact=True).click()
    page.get_by_label("Name").fill("path")
    page.get_by_label("Address").fill(camera.url("path", ""))
    page.get_by_label("User").fill("viewer")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Add stream").click()
    expect(page.locator("#found")).to_contain_text("password", timeout=PATIENCE_MS)
    page.get_by_label("Password").fill("s3cr3t-Pa55")
    page.get_by_role("button", name="Add stream").click()
    page.get_by_role("heading", name="path", exact=True).wait_for()
    expect(page.locator(".badge")).to_have_text("Online", timeout=PATIENCE_MS)
    until(lambda: page.evaluate(WIDTH) == 768, PATIENCE_MS / 1000)

    page.get_by_role("link", name="Zones").click()
    expect(page.locator(".zone-stage img")).to_have_js_property("naturalWidth", 768, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Draw a line").click()
    box = page.locator(".zone-layer").bounding_box()
    assert box is not None
    start, end = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in LINE)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=5)
    page.mouse.up()
    page.get_by_label("Classes that count").fill("person")
    pictured(page, "story-zones")
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("Saved")
    page.get_by_role("link", name="Back to the stream").click()

    expect(page.get_by_role("log")).to_contain_text("crossed line", timeout=PATIENCE_MS)
    expect(page.locator("[data-zone=line]")).to_contain_text("person", timeout=PATIENCE_MS)
    assert time.monotonic() - began < TWO_MINUTES_S
    (line,) = raysight.status("path")["zones"]
    assert sum(counts.get("person", 0) for counts in line["crossed"].values()) >= 1
    assert raysight.view("path")["spec"]["source"]["url"] == camera.url("path", "")
    pictured(page, "story-stream")


def pictured(page: Page, name: str) -> None:
    """Keep a picture for people, where they ask for it."""
    if folder := os.environ.get("RAYSIGHT_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

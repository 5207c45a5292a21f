"""A stream's video in a real browser: by WebRTC from a real stream, by MJPEG where that fails; and its clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.shelf import Shelf
from deployments.streams.recording.spec import Clip
from deployments.streams.spec import StreamSpec
from deployments.streams.webrtc.settings import PlaybackSettings
from tests.support.browser import chromium, watched_page
from tests.support.page_site import page_site
from tests.support.stream_view import showing
from tests.support.waiting import until

expect.set_options(timeout=20_000)

SPEC = StreamSpec.model_validate({"id": "gate", "source": {"url": "testsrc://?fps=25&size=320x240"}})
FRAMES = "document.querySelector('.view video').getVideoPlaybackQuality().totalVideoFrames"
HIDE = """(hidden) => {
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def by_webrtc(page: Page) -> None:
    expect(page.locator(".view video")).to_be_visible()
    expect(page.locator(".view video")).to_have_js_property("videoWidth", 320)
    expect(page.locator(".veil")).to_be_hidden()
    expect(page.locator(".view img")).to_be_hidden()
    expect(page.locator(".view canvas")).to_be_hidden()  # boxes are drawn once, on the server
    expect(page.locator("dl.list")).to_contain_text("VideoWebRTC")
    before = page.evaluate(FRAMES)
    until(lambda: page.evaluate(FRAMES) > before + 10)


def by_mjpeg(page: Page) -> None:
    expect(page.locator(".view img")).to_be_visible()
    expect(page.locator(".view img")).to_have_js_property("naturalWidth", 320)
    expect(page.locator(".view video")).to_be_hidden()
    expect(page.locator("dl.list")).to_contain_text("VideoMJPEG")
    expect(page.locator(".message")).to_have_text(["", ""])


def test_video_comes_by_webrtc_and_nobody_watches_once_the_view_is_left(browser: Browser, tmp_path: Path) -> None:
    with showing(browser, SPEC, tmp_path) as (page, streams, asked):
        by_webrtc(page)
        assert streams.viewers.count == 1
        assert Axe().run(page).violations_count == 0
        page.evaluate(HIDE, True)
        until(lambda: streams.viewers.count == 0)
        page.evaluate(HIDE, False)
        by_webrtc(page)
        page.get_by_role("link", name="Models").click()
        until(lambda: streams.viewers.count == 0)
        every = ["POST", "DELETE", "POST", "DELETE"]
        until(lambda: page.evaluate("true") and asked == every)  # its requests are told in calls to the page only
        page.go_back()
        by_webrtc(page)
        page.goto("about:blank")
        until(lambda: streams.viewers.count == 0)


def test_a_refusal_is_taken_once_and_the_video_is_mjpeg(browser: Browser, tmp_path: Path) -> None:
    with showing(browser, SPEC, tmp_path, PlaybackSettings(viewers_per_stream=0)) as (page, _, asked):
        by_mjpeg(page)
        page.evaluate(HIDE, True)
        expect(page.locator(".view img")).to_be_hidden()
        page.evaluate(HIDE, False)
        by_mjpeg(page)
        assert asked == ["POST"]


def test_a_media_server_elsewhere_is_not_asked(browser: Browser, tmp_path: Path) -> None:
    settings = PlaybackSettings(media_server="https://cameras.example")
    with showing(browser, SPEC, tmp_path, settings) as (page, _, asked):
        by_mjpeg(page)
        assert asked == ["POST"]


def test_mjpeg_takes_over_where_no_picture_comes(browser: Browser, tmp_path: Path) -> None:
    """An answer that leads nowhere, as through a firewall."""
    lost = "RTCPeerConnection.prototype.setRemoteDescription = async () => {}"
    with showing(browser, SPEC, tmp_path, script=lost) as (page, streams, _):
        by_mjpeg(page)
        until(lambda: streams.viewers.count == 0)


def test_mjpeg_takes_over_when_the_connection_ends(browser: Browser, tmp_path: Path) -> None:
    with showing(browser, SPEC, tmp_path) as (page, streams, asked):
        by_webrtc(page)
        streams.viewers.close()
        by_mjpeg(page)
        assert asked == ["POST", "DELETE"]


def test_a_browser_without_webrtc_gets_mjpeg(browser: Browser, tmp_path: Path) -> None:
    with showing(browser, SPEC, tmp_path, script="delete window.RTCPeerConnection") as (page, _, asked):
        by_mjpeg(page)
        assert asked == []


def test_clips_are_shown_where_a_stream_records(browser: Browser, tmp_path: Path) -> None:
    with page_site() as site:
        site.streams.shelf = Shelf(UrlPolicy(media_root=tmp_path, output_root=tmp_path), "gate")
        site.add("gate", record={})
        site.add("other")
        with watched_page(browser, site.url) as page:
            page.goto(f"{site.url}/#/streams/other")
            expect(page.locator(".view img")).to_be_visible()
            expect(page.get_by_role("heading", name="Clips")).to_be_hidden()
            page.goto(f"{site.url}/#/streams/gate")
            expect(page.get_by_role("heading", name="Clips")).to_be_visible()
            expect(page.get_by_text("None yet.")).to_be_visible()
            for number in (1, 2):
                keep(site.streams.shelf, number)
            clips = page.get_by_role("list", name="Clips").get_by_role("link")
            expect(clips).to_have_count(2)
            expect(clips.first).to_contain_text("12 s, person")
            expect(clips.first.locator("img")).to_have_js_property("naturalWidth", 320)
            shape = "picture => picture.clientWidth / picture.clientHeight"
            assert clips.first.locator("img").evaluate(shape) == pytest.approx(16 / 9, rel=0.05)
            assert Axe().run(page).violations_count == 0
            with page.expect_download() as saved:
                clips.first.click()
            assert saved.value.path().read_bytes() == b"clip 2"


def keep(shelf: Shelf, number: int) -> None:
    """Another clip, as recording leaves it."""
    name = f"20260101T12000{number}-{number}"
    written = shelf.new(name)
    written.write_bytes(b"clip %d" % number)
    picture = cv2.imencode(".jpg", np.zeros((180, 320, 3), np.uint8))[1].tobytes()
    about = {"started_at": 1767268800.0 + number, "seconds": 10.0 + number, "label": "person", "key": "gate-0"}
    shelf.keep(written, Clip(name=name, size_bytes=6, **about), picture)

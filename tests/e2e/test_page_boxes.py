"""Boxes that the page draws over a stream's own video: in step with it, on what is seen in the very picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from deployments.streams.spec import StreamSpec
from tests.support.browser import chromium
from tests.support.media import make_clip
from tests.support.stream_view import showing
from tests.support.waiting import until

expect.set_options(timeout=20_000)

WIDTH, HEIGHT, SIDE, TOP = 320, 240, 40, 120
STEP = 8
"""Pixels by which the object moves from one picture to the next."""

TURN = 30
"""Pictures until it turns back."""

WATCH = """(count) => new Promise((resolve) => {
  const [video, overlay] = ['video', 'canvas'].map((name) => document.querySelector(`.view ${name}`));
  const copy = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext('2d', { willReadFrequently: true });
  const across = (context, y, of) => {
    const { data, width } = context.getImageData(0, y, context.canvas.width, 1);
    const found = [...Array(width).keys()].filter((x) => of(...data.subarray(4 * x, 4 * x + 4)));
    return found.length ? [found[0], found.at(-1) + 1] : null;
  };
  const seen = [];
  const look = () => {
    copy.drawImage(video, 0, 0);
    const scale = overlay.width / video.videoWidth;
    const red = (r, g, b, a) => a > 128 && r > 200 && g < 60;
    const box = across(overlay.getContext('2d'), Math.floor(EDGE * scale), red);
    seen.push({
      object: across(copy, INSIDE, (r, g, b) => r + g + b > 480),
      box: box && box.map((x) => x / scale),
    });
    if (seen.length < count) video.requestVideoFrameCallback(look);
    else resolve(seen);
  };
  video.requestVideoFrameCallback(look);
})""".replace("EDGE", str(TOP + SIDE)).replace("INSIDE", str(TOP + SIDE // 2))
"""Left and right of the object in each picture that is shown, and of the box over it by its lower edge."""


def moving(number: int, width: int, height: int) -> av.VideoFrame:
    """A bright square on dark, on its way to the right and back."""
    left = STEP * (TURN - abs(number % (2 * TURN) - TURN))
    luma = np.full((height, width), 40, np.uint8)
    luma[TOP : TOP + SIDE, left : left + SIDE] = 220
    grey = np.full((height // 2, width), 128, np.uint8)
    return av.VideoFrame.from_ndarray(np.vstack((luma, grey)), "yuv420p")


def spec(folder: Path, options: dict[str, str] | None = None, **more: Any) -> StreamSpec:
    """A stream of such a clip. Its video waits for boxes for long, so that a busy machine has the time."""
    make_clip(folder / "moving.mp4", frames=50 * TURN, draw=moving, options=options)
    source = {"url": "file:moving.mp4", "loop": True}
    return StreamSpec.model_validate({"id": "gate", "source": source, "video_delay_ms": 1500, **more})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def own_video(page: Page) -> None:
    expect(page.locator("dl.list")).to_contain_text("WebRTC, the source's own")
    expect(page.locator(".veil")).to_be_hidden()
    expect(page.locator(".view canvas")).to_be_visible()


def off(page: Page, pictures: int) -> list[float]:
    """Pixels between an object and its box, in each of so many pictures."""
    return [
        max(abs(seen - drawn) for seen, drawn in zip(one["object"], one["box"] or (WIDTH, 0), strict=True))
        for one in page.evaluate(WATCH, pictures)
    ]


def drawn_video(page: Page) -> None:
    expect(page.locator(".view video")).to_have_js_property("videoWidth", WIDTH)
    expect(page.locator(".veil")).to_be_hidden()
    expect(page.locator("dl.list")).not_to_contain_text("the source's own")
    expect(page.locator("dl.list")).to_contain_text("VideoWebRTC")
    expect(page.locator(".view canvas")).to_be_hidden()
    expect(page.get_by_label("Boxes and zones")).to_be_hidden()


def test_boxes_lie_on_what_is_seen_in_the_picture_that_is_shown(browser: Browser, tmp_path: Path) -> None:
    with showing(browser, spec(tmp_path), tmp_path) as (page, streams, asked):
        own_video(page)
        until(lambda: np.median(off(page, 20)) <= STEP, 60)  # the browser lets its delay grow bit by bit
        pixels = off(page, 100)
        assert np.median(pixels) <= 3, pixels  # what is found is found in decoded video, whose edges are soft
        assert sum(one <= STEP + 3 for one in pixels) >= 80, pixels
        expect(page.locator("dl.list")).to_contain_text("boxes in step")
        assert asked == ["POSTcodec=copy"]
        assert (streams.viewers.count, streams.runner.status().video.encoded) == (1, 0)
        assert streams.runner.status().video.drawn == 0


def test_the_time_of_a_picture_is_that_of_its_detections(browser: Browser, tmp_path: Path) -> None:
    times = """(count) => new Promise((resolve) => {
      const video = document.querySelector('.view video'), seen = [];
      const look = (now, { rtpTimestamp }) => {
        seen.push(rtpTimestamp);
        if (seen.length < count) video.requestVideoFrameCallback(look);
        else resolve(seen);
      };
      video.requestVideoFrameCallback(look);
    })"""
    with showing(browser, spec(tmp_path), tmp_path) as (page, streams, _):
        own_video(page)
        seen = page.evaluate(times, 20)
        events = streams.runner.pipeline.events.wait(-1, 0).events
        found = {json.loads(event)["pts"] for _, event in events}
        assert len(set(seen)) == 20
        assert len(found & set(seen)) >= 15  # a busy machine may leave pictures out


def painted(page: Page) -> int:
    """Pixels of the overlay on which something is drawn."""
    return int(
        page.evaluate("""() => {
          const { width, height } = document.querySelector('.view canvas');
          const { data } = document.querySelector('.view canvas').getContext('2d').getImageData(0, 0, width, height);
          return data.filter((value, place) => place % 4 === 3 && value > 128).length;
        }""")
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_boxes_and_zones_can_be_switched_off_by_keyboard_on_a_phone(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    zones = [{"name": "line", "kind": "line", "points": [[0.5, 0.2], [0.5, 0.9]]}]
    phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "color_scheme": scheme}
    with showing(browser, spec(tmp_path, track={}, zones=zones), tmp_path, **phone) as (page, streams, _):
        own_video(page)
        until(lambda: streams.runner.status().tracks == 1)
        until(lambda: painted(page) > 0)
        assert page.evaluate("document.querySelector('.view canvas').width") == 2 * page.evaluate(
            "document.querySelector('.view video').clientWidth"
        )
        assert Axe().run(page).violations_count == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_label("Boxes and zones").focus()
        page.keyboard.press("Space")
        until(lambda: painted(page) == 0)
        page.keyboard.press("Space")
        until(lambda: painted(page) > 0)


def test_where_an_output_is_drawn_its_video_is_shown(browser: Browser, tmp_path: Path) -> None:
    with showing(browser, spec(tmp_path, outputs=[{"url": "file:drawn.mp4"}]), tmp_path) as (page, _, asked):
        drawn_video(page)
        assert asked == ["POST"]


def test_video_with_b_frames_is_drawn(browser: Browser, tmp_path: Path) -> None:
    options = {"preset": "veryfast", "bf": "2", "g": "12"}
    with showing(browser, spec(tmp_path, options), tmp_path) as (page, streams, asked):
        source = streams.runner.status().source
        assert source is not None
        assert not source.webrtc_copy
        drawn_video(page)
        assert asked == ["POST"]


def test_video_that_can_not_be_entered_for_long_is_drawn(browser: Browser, tmp_path: Path) -> None:
    """There is a key frame at the beginning of the clip only, and the next round is far off."""
    options = {"preset": "ultrafast", "tune": "zerolatency", "g": "1000"}
    with showing(browser, spec(tmp_path, options), tmp_path) as (page, _, asked):
        drawn_video(page)
        until(lambda: page.evaluate("true") and asked == ["POSTcodec=copy", "DELETE", "POST"])


def test_a_browser_that_tells_no_times_of_pictures_gets_drawn_video(browser: Browser, tmp_path: Path) -> None:
    mute = """{
      const ask = HTMLVideoElement.prototype.requestVideoFrameCallback;
      HTMLVideoElement.prototype.requestVideoFrameCallback = function (call) {
        return ask.call(this, (now) => call(now, {}));
      };
    }"""
    with showing(browser, spec(tmp_path), tmp_path, script=mute) as (page, streams, asked):
        drawn_video(page)
        until(lambda: page.evaluate("true") and asked == ["POSTcodec=copy", "DELETE", "POST"])
        assert streams.viewers.count == 1

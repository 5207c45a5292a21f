"""Glass to glass: how old a picture is when a browser shows it, by WebRTC and as MJPEG, and a player of RTSP has it.

``python -m benchmarks.glass --json PATH``; needs the packages chromium and gir1.2-gst-rtsp-server-1.0.

The whole system plays ``testsrc://``, whose pictures carry the time at which they were drawn as black and white cells.
A headless Chromium on the same machine, so with the same clock, shows the stream, reads the cells of each picture
that it presents from a canvas, and compares them with its own clock. Thus everything counts: waiting for the boxes of
the frame (`video_delay_ms` at most), drawing, encoding, sending, the browser's jitter buffer, decoding. MJPEG tells a
page nothing of its pictures: there the canvas is read 60 times a second, which makes a picture 8 ms older on average.

By RTSP the stream's output goes over TCP to a server of GStreamer's on the same machine, which hands it on at once, and
from there to FFmpeg with what it has against delay, as ``ffplay -fflags nobuffer -flags low_delay`` would play it. A
picture counts as seen once it is decoded: no window is drawn.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from playwright.sync_api import Page

from benchmarks import report
from benchmarks.live import call, percentiles, wait_inferred, wait_until, whole_system
from deployments.streams.media.test_pattern import CHECK_BITS, CODE_CELLS, CODE_ROWS, time_code
from tests.support.browser import browsing
from tests.support.rtsp_server import RtspServer
from tests.support.waiting import until

PLAYER = f"() => {{\n{Path(__file__).with_name('player.js').read_text()}\n}}"
"""Run in a page, this gives it the functions of `player.js`."""

STREAM = "glass"
WANTED_P95_MS = 250.0
SETTLE_S = 3.0
"""The browser's jitter buffer begins deep, and finds out."""

_SHOW = {
    "webrtc": f"play('/v1/streams/{STREAM}/whep').then(found => {{ window.one = found; window.shown = one.video; "
    "window.size = () => [shown.videoWidth, shown.videoHeight]; })",
    "mjpeg": "{ window.shown = new Image(); "
    f"shown.src = '/v1/streams/{STREAM}/live.mjpeg?fps=60'; document.body.append(shown); "
    "window.size = () => [shown.naturalWidth, shown.naturalHeight]; }",
}
_LOW_DELAY = {
    "rtsp_transport": "tcp",
    "fflags": "nobuffer",
    "flags": "low_delay",
    "max_delay": "0",
    "probesize": "32768",
    "analyzeduration": "0",
}
"""Of FFmpeg, for a player."""

_END = {"webrtc": "fetch(one.location, {method: 'DELETE'}).then(() => one.pc.close())", "mjpeg": "shown.src = ''"}


def watched(page: Page, kind: str, seconds: float) -> dict[str, Any]:
    """Show the stream in the page that is open, and measure."""
    page.evaluate(_SHOW[kind])
    try:
        until(lambda: page.evaluate("size()[0] > 0"))  # `wait_for_function` evaluates, which the page forbids
        _watch(page, SETTLE_S)
        seen = _watch(page, seconds)
    finally:
        page.evaluate(_END[kind])
    return _row(seen["ages"], seen["unread"], seconds)


def _row(ages: list[float], unread: int, seconds: float) -> dict[str, Any]:
    return {
        "glass_to_glass_ms": percentiles(ages),
        "pictures": len(ages),
        "pictures_a_second": round(len(ages) / seconds, 1),
        "unreadable": unread,
    }


def _watch(page: Page, seconds: float) -> dict[str, Any]:
    seen: dict[str, Any] = page.evaluate(f"watch(shown, size, {seconds})")
    return seen


def received(url: str, seconds: float) -> dict[str, Any]:
    """Play what is at an RTSP server, and measure; the time until the first pictures is left out."""
    ages: list[float] = []
    unread, begins = 0, float("inf")
    with av.open(url, options=_LOW_DELAY, timeout=20) as player:
        player.streams.video[0].thread_type = "SLICE"  # threads that take a picture each would add that many
        for frame in player.decode(video=0):
            now = time.monotonic()
            begins = min(begins, now + SETTLE_S)
            if now > begins + seconds:
                break
            if now > begins:
                age = age_ms(frame, time.time())
                unread += age is None
                ages += [] if age is None else [age]
    return _row(ages, unread, seconds)


def wait_published(stream: str, timeout_s: float) -> None:
    """Return once the stream's output has sent something. Raises TimeoutError."""

    def published() -> bool:
        return any(output["packets"] for output in call("GET", stream)["status"]["outputs"])

    wait_until(published, "nothing was published", timeout_s)


def age_ms(frame: av.VideoFrame, now: float) -> float | None:
    """Since the test pattern was drawn; None where the picture has no readable code. As ``player.js`` reads it."""
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
    row = luma[frame.height - frame.height // CODE_ROWS // 2]
    cell = frame.width // CODE_CELLS
    code = 0
    for bit in range(CODE_CELLS):
        code = code << 1 | int(row[bit * cell + cell // 2] > 128)
    drawn_ms = code >> CHECK_BITS
    if time_code((drawn_ms + 0.5) / 1e3) != code:
        return None
    span = 1 << CODE_CELLS - CHECK_BITS
    return (now * 1e3 - drawn_ms + span / 2) % span - span / 2


def measure(size: str, fps: int, seconds: float) -> dict[str, Any]:
    """Run the system and return the result."""
    with whole_system() as cluster, browsing() as page, RtspServer(relays=(STREAM,)) as server:
        api = cluster.api_url
        path = f"{api}/v1/streams/{STREAM}"
        call("PUT", path, {"source": {"url": f"testsrc://?fps={fps}&size={size}"}})
        wait_inferred(api, [STREAM], 60)
        page.goto(f"{api}/healthz")
        page.evaluate(PLAYER)
        rows = {kind: watched(page, kind, seconds) for kind in _SHOW}
        call("PATCH", path, {"outputs": [{"url": f"{server.url(STREAM)}/in"}]})
        wait_published(path, 30)
        rows["rtsp"] = received(server.url(STREAM), seconds)
        status = call("GET", path)["status"]
    return {
        "source": {"size": size, "fps": fps},
        "seconds": seconds,
        "wanted_p95_ms": WANTED_P95_MS,
        "rows": rows,
        "stages_ms": {stage: values["p50"] for stage, values in status["latency_ms"].items()},
        "video": status["video"],
        "frames": status["frames"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    args = parser.parse_args()
    result = measure(args.size, args.fps, args.seconds)
    print(json.dumps(result, indent=2))
    if args.json is not None:
        report.write(args.json, "benchmarks.glass", result)


if __name__ == "__main__":
    main()

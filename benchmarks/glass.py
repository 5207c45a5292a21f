"""Glass to glass: how old a picture is when a browser shows it, by WebRTC and as MJPEG.

``python -m benchmarks.glass --json PATH``; needs the package chromium.

The whole system plays ``testsrc://``, whose pictures carry the time at which they were drawn as black and white cells.
A headless Chromium on the same machine, so with the same clock, shows the stream, reads the cells of each picture
that it presents from a canvas, and compares them with its own clock. Thus everything counts: waiting for the boxes of
the frame (`video_delay_ms` at most), drawing, encoding, sending, the browser's jitter buffer, decoding. MJPEG tells a
page nothing of its pictures: there the canvas is read 60 times a second, which makes a picture 8 ms older on average.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from benchmarks import report
from benchmarks.live import call, percentiles, wait_inferred, whole_system
from tests.support.browser import browsing

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
_END = {"webrtc": "fetch(one.location, {method: 'DELETE'}).then(() => one.pc.close())", "mjpeg": "shown.src = ''"}


def watched(page: Page, kind: str, seconds: float) -> dict[str, Any]:
    """Show the stream in the page that is open, and measure."""
    page.evaluate(_SHOW[kind])
    try:
        page.wait_for_function("size()[0] > 0")
        _watch(page, SETTLE_S)
        seen = _watch(page, seconds)
    finally:
        page.evaluate(_END[kind])
    return {
        "glass_to_glass_ms": percentiles(seen["ages"]),
        "pictures": len(seen["ages"]),
        "pictures_a_second": round(len(seen["ages"]) / seconds, 1),
        "unreadable": seen["unread"],
    }


def _watch(page: Page, seconds: float) -> dict[str, Any]:
    seen: dict[str, Any] = page.evaluate(f"watch(shown, size, {seconds})")
    return seen


def measure(size: str, fps: int, seconds: float) -> dict[str, Any]:
    """Run the system and return the result."""
    with whole_system() as cluster, browsing() as page:
        api = cluster.api_url
        call("PUT", f"{api}/v1/streams/{STREAM}", {"source": {"url": f"testsrc://?fps={fps}&size={size}"}})
        wait_inferred(api, [STREAM], 60)
        page.goto(f"{api}/healthz")
        page.evaluate(PLAYER)
        rows = {kind: watched(page, kind, seconds) for kind in _SHOW}
        status = call("GET", f"{api}/v1/streams/{STREAM}")["status"]
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

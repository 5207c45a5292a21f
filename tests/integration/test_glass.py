"""Every way in which the benchmark of glass to glass sees a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import glass
from deployments.streams.spec import StreamSpec
from deployments.streams.webrtc.settings import PlaybackSettings
from tests.support.browser import browsing
from tests.support.rtsp_server import RtspServer, available
from tests.support.theatre import theatre
from tests.support.waiting import until

SOURCE = {"url": "testsrc://?fps=25&size=640x360"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glass, "SETTLE_S", 0.2)


def sensible(row: dict[str, Any]) -> bool:
    return row["pictures"] > 0 and 0 < row["glass_to_glass_ms"]["p50"] < 30_000


def test_ages_are_read_in_a_browser(tmp_path: Path) -> None:
    spec = StreamSpec.model_validate({"id": glass.STREAM, "source": SOURCE})
    with theatre(spec, tmp_path, PlaybackSettings()) as (streams, address), browsing() as page:
        until(lambda: streams.runner.status().frames.published > 5)
        page.goto(f"{address}/healthz")
        page.evaluate(glass.PLAYER)
        assert sensible(glass.watched(page, "webrtc", 1.0))
        assert sensible(glass.watched(page, "mjpeg", 1.0))


@pytest.mark.skipif(not available(), reason="GStreamer's RTSP server is not installed")
def test_ages_are_read_of_what_comes_by_rtsp(tmp_path: Path) -> None:
    with RtspServer(relays=("played",)) as server:
        outputs = [{"url": f"{server.url('played')}/in"}]
        spec = StreamSpec.model_validate({"id": glass.STREAM, "source": SOURCE, "outputs": outputs})
        with theatre(spec, tmp_path, PlaybackSettings()) as (_, address):
            glass.wait_published(f"{address}/v1/streams/{glass.STREAM}", 30)
            assert sensible(glass.received(server.url("played"), 1.0))

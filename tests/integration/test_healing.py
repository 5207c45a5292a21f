"""Streams over real connections whose far ends change, freeze, break and come back, on loopback and without Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deployments.errors import StreamError
from deployments.streams import slate
from deployments.streams.backoff import Backoff
from deployments.streams.hardware import NOTHING
from deployments.streams.media import sink
from deployments.streams.media.items import VideoItem
from deployments.streams.media.opener import MediaOpener
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import SourceSpec, StreamSpec, StreamState
from tests.support.detectors import LocalDetector, fake_engine
from tests.support.live_http import LiveHttp, Part, units
from tests.support.media import make_clip
from tests.support.rtsp_server import RtspServer, available
from tests.support.waiting import PATIENCE_S, until

needs_gstreamer = pytest.mark.skipif(not available(), reason="GStreamer's RTSP server is not installed")

SIDE = 320
SMALL, LARGE = (320, 240), (640, 360)


def draw(number: int, width: int, height: int) -> av.VideoFrame:
    """Dark, with one bright block: from a quarter to a half of both sides."""
    picture = av.VideoFrame(width, height, "yuv420p")
    for index, plane in enumerate(picture.planes):
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        samples[:] = 30 + number % 8 if index == 0 else 128
        if index == 0:
            samples[height // 4 : height // 2, width // 4 : width // 2] = 220
    return picture


def is_right(event: dict[str, Any]) -> bool:
    """Whether the one box is that of the bright block, as closely as the engine's input shows it."""
    width, height = event["width"], event["height"]
    expected = [width / 4, height / 4, width / 2, height / 2]
    (found,) = event["detections"]
    return bool(np.abs(np.subtract(found["box"], expected)).max() <= 2 * width / SIDE + 2)


@pytest.fixture
def policy(tmp_path: Path) -> UrlPolicy:
    return UrlPolicy(media_root=tmp_path, output_root=tmp_path)


@dataclass
class Stream:
    """A whole stream in this process, over real media and a fake engine."""

    runner: StreamRunner
    detector: LocalDetector

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(event) for _, event in self.runner.pipeline.events.wait(-1, 0).events]

    def until(self, state: StreamState, seconds: float = PATIENCE_S) -> None:
        until(lambda: self.runner.status().state is state, seconds)

    def until_decoded(self, more: int, seconds: float = PATIENCE_S) -> None:
        goal = self.runner.status().frames.decoded + more
        until(lambda: self.runner.status().frames.decoded >= goal, seconds)

    def output(self, nth: int = 0) -> Any:
        return self.runner.status().outputs[nth]

    def went(self) -> list[tuple[str, str | None]]:
        entries = self.runner.history.since(0)[1]
        return [(entry.state.value, entry.error.code if entry.error else None) for entry in entries]


Start = Callable[..., Stream]


@pytest.fixture
def start(policy: UrlPolicy) -> Iterator[Start]:
    streams: list[Stream] = []

    def start(url: str, *outputs: dict[str, Any]) -> Stream:
        spec = StreamSpec.model_validate({"id": "gate", "source": {"url": url}, "outputs": outputs})
        detector = LocalDetector(fake_engine(side=SIDE))
        runner = StreamRunner(
            spec,
            1,
            detector,
            MediaOpener(policy, NOTHING, 0),
            epoch=1,
            first_sequence=0,
            node="here",
            observe=lambda stage, seconds: None,
            backoff=lambda: Backoff(initial_s=0.2, cap_s=0.5),
        )
        streams.append(stream := Stream(runner, detector))
        runner.start()
        return stream

    yield start
    for stream in streams:
        stream.runner.stop(20)
        counts = stream.runner.status().frames
        assert (counts.in_flight, counts.queued) == (0, 0)
        stream.detector.close()


# What a source does ---------------------------------------------------------------------------------------------------


def frozen(pieces: Iterator[tuple[int, bytes]], after: int) -> Iterator[tuple[int, bytes]]:
    """Every picture behind the first ``after`` bears the time of the last of those."""
    stamp = b""
    for number, (due, data) in enumerate(pieces):
        changed, at = bytearray(data), -1
        while (at := changed.find(b"\x00\x00\x01\xe0", at + 1)) >= 0:
            if number < after:
                stamp = bytes(changed[at + 9 : at + 14])
            else:
                changed[at + 9 : at + 14] = stamp
        yield due, bytes(changed)


def ends(url: str, policy: UrlPolicy, limit_s: float) -> tuple[list[VideoItem], StreamError]:
    items: list[VideoItem] = []
    with open_source(SourceSpec(url=url), policy, Timeline(), read_timeout_s=limit_s) as source:
        with pytest.raises(StreamError) as caught:
            items.extend(item for item in source.items() if isinstance(item, VideoItem))
    return items, caught.value


def test_pictures_whose_time_stands_still_are_a_stall(policy: UrlPolicy) -> None:
    with LiveHttp(lambda: frozen(units(Part(400)), after=50)) as camera:
        items, error = ends(camera.url, policy, 1.5)
    assert error.code == "stalled"
    assert "time stands still" in error.message
    assert 60 <= len(items) <= 50 + 2 * 1.5 * 25 + 30  # what came at once when it was opened included


def test_packets_without_a_picture_are_invalid_data(policy: UrlPolicy) -> None:
    """Another codec in the same place: FFmpeg goes on with the decoder that it has."""
    with LiveHttp(lambda: units(Part(50), Part(150, LARGE, codec="hevc"))) as camera:
        items, error = ends(camera.url, policy, 1.0)
    assert error.code == "invalid_data"
    assert "no picture" in error.message
    assert 45 <= len(items) <= 50


def test_silence_is_a_stall(policy: UrlPolicy) -> None:
    with LiveHttp(lambda: units(Part(30))) as camera:
        items, error = ends(camera.url, policy, 1.0)
    assert error.code == "stalled"
    assert len(items) >= 25


def test_endless_decode_errors_end_in_a_reconnect(start: Start) -> None:
    visits = iter([units(Part(100, fps=50), Part(600, fps=50, junk=True), draw=draw)])
    with LiveHttp(lambda: next(visits, units(Part(600), draw=draw))) as camera:
        stream = start(camera.url)
        until(lambda: camera.clients == 2)
        stream.until(StreamState.ONLINE)
        stream.until_decoded(20)
        assert [step for step in stream.went() if step[1]] == [("reconnecting", "invalid_data")]
        stream.runner.stop(20)


# Changes in mid-stream ------------------------------------------------------------------------------------------------


def sizes(path: Path) -> list[tuple[int, int]]:
    with av.open(path) as container:
        return [(frame.width, frame.height) for frame in container.decode(video=0)]


def test_a_new_size_and_rate_go_on_with_right_boxes_and_in_a_further_file(start: Start, tmp_path: Path) -> None:
    parts = (Part(50, SMALL), Part(40, LARGE, fps=10), Part(100, SMALL, fps=50))
    with LiveHttp(lambda: units(*parts, draw=draw)) as camera:
        stream = start(camera.url, {"url": "file:out.mp4"})
        stream.until(StreamState.ONLINE)
        until(lambda: (info := stream.runner.status().source) is not None and info.width == LARGE[0])
        until(lambda: stream.runner.status().frames.decoded >= 185)
        assert stream.runner.status().restarts == 0
        stream.runner.stop(20)
    events = stream.events()
    assert {(event["width"], event["height"]) for event in events} == {SMALL, LARGE}
    assert all(is_right(event) for event in events)
    assert len(events) > 120
    seen = [sizes(tmp_path / name) for name in ("out.mp4", "out-2.mp4", "out-3.mp4")]
    assert [set(part) for part in seen] == [{SMALL}, {LARGE}, {SMALL}]
    assert sum(map(len, seen)) >= 180


@needs_gstreamer
def test_a_new_size_goes_on_at_an_rtsp_receiver(start: Start, tmp_path: Path) -> None:
    parts = (Part(75, SMALL), Part(250, LARGE))
    with (
        RtspServer(recordings={"in": tmp_path / "in.h264"}) as receiver,
        LiveHttp(lambda: units(*parts, draw=draw)) as camera,
    ):
        stream = start(camera.url, {"url": receiver.url("in"), "gop_s": 30.0})
        until(lambda: (info := stream.runner.status().source) is not None and info.width == LARGE[0])
        receiver.wait_for_pictures("in", 80)
        stream.runner.stop(20)
    decoder: Any = av.CodecContext.create("h264", "r")
    packets = decoder.parse((tmp_path / "in.h264").read_bytes()) + decoder.parse(b"")
    arrived = [(frame.width, frame.height) for packet in packets for frame in decoder.decode(packet)]
    assert set(arrived) == {SMALL, LARGE}
    assert arrived == sorted(arrived)  # the small ones first


def test_another_codec_is_survived_by_one_reconnect(start: Start) -> None:
    hevc = Part(300, LARGE, codec="hevc")
    visits = iter([units(Part(100, fps=50), Part(300, LARGE, fps=50, codec="hevc"), draw=draw)])
    with LiveHttp(lambda: next(visits, units(hevc, draw=draw))) as camera:
        stream = start(camera.url)
        stream.until(StreamState.ONLINE)
        until(lambda: (info := stream.runner.status().source) is not None and info.codec == "hevc")
        until(lambda: stream.events()[-1]["width"] == LARGE[0])
        status = stream.runner.status()
        assert status.restarts == 1
        assert status.last_error is not None
        assert status.last_error.code == "invalid_data"
        events = stream.events()
        assert all(is_right(event) for event in events)
        assert all(later["sequence"] > earlier["sequence"] for earlier, later in pairwise(events))
        stream.runner.stop(20)

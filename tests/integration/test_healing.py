"""Streams over real connections whose far ends change, freeze, break and come back, on loopback and without Ray."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
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
from deployments.streams.media.outlet import Way
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.publisher import Publisher
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import OutputSpec, SourceInfo, SourceSpec, StreamSpec, StreamState
from tests.chaos.proxy import Proxy
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
    spec = SourceSpec(url=url)
    with (
        open_source(spec, policy, Timeline(), read_timeout_s=limit_s) as source,
        pytest.raises(StreamError) as caught,
    ):
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


@needs_gstreamer
def test_garbage_between_the_packets_of_rtsp_costs_a_reconnect_at_once(start: Start, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=50, options={"bf": "0", "g": "10"})
    with RtspServer(clips={"street": clip}) as camera, Proxy(("127.0.0.1", camera.port)) as way:
        stream = start(f"rtsp://127.0.0.1:{way.port}/street")
        stream.until(StreamState.ONLINE)
        stream.until_decoded(20)
        way.spoil(1, random.Random(0))
        began = time.monotonic()
        until(lambda: stream.runner.status().restarts == 1)
        stream.until(StreamState.ONLINE)
        stream.until_decoded(10)
        assert time.monotonic() - began < 4  # of the 10 s after which silence alone would tell
        assert [step for step in stream.went() if step[1]] == [("reconnecting", "invalid_data")]


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


# Outputs apart from the source ----------------------------------------------------------------------------------------


def test_a_dead_sink_costs_no_detection_and_no_other_output(start: Start, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # takes the connection and never says a word
        dead = {"url": f"rtsp://127.0.0.1:{server.getsockname()[1]}/live", "gop_s": 1.0}
        stream = start("testsrc://?fps=25&size=320x240", dead, {"url": "file:out.mp4"})
        stream.until(StreamState.ONLINE)
        stream.until_decoded(150)
        counts = stream.runner.status().frames
        stream.runner.stop(20)
    assert counts.inferred + counts.in_flight >= 0.9 * counts.decoded  # a busy machine may supersede a few
    assert counts.video_dropped == 0
    assert stream.runner.status().restarts == 0
    assert len(sizes(tmp_path / "out.mp4")) >= 145


@needs_gstreamer
def test_a_sink_that_hangs_while_it_receives_is_left_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "STALL_TIMEOUT_S", 1.0)
    noise = np.random.default_rng(0).integers(0, 256, (8, 480, 640, 3), np.uint8)
    pictures = [AvPicture(av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")) for image in noise]
    info = SourceInfo(codec="h264", width=640, height=480, fps=25.0)
    spec = OutputSpec(url="set below", bitrate=100_000_000)
    numbers = itertools.count()
    slowest = 0.0

    def write_until(holds: Callable[[], bool]) -> None:
        """Pictures that fill every buffer on the way soon: some 300 kB each."""
        nonlocal slowest

        def step() -> bool:
            nonlocal slowest
            number = next(numbers)
            began = time.monotonic()
            to.write(number * 3600, pictures[number % 8], None)
            slowest = max(slowest, time.monotonic() - began)
            return holds()

        until(step, 60)

    with RtspServer(recordings={"in": tmp_path / "in.h264"}) as receiver:
        spec = spec.model_copy(update={"url": receiver.url("in")})
        told: list[tuple[str, str]] = []
        heard = lambda url, error: told.append((url, error.code))  # noqa: E731
        to = Publisher((spec,), info, Fraction(1, 90_000), None, Way, on_error=heard)
        write_until(lambda: to.statuses()[0].state == "online")
        os.kill(receiver.pid, signal.SIGSTOP)
        write_until(lambda: to.statuses()[0].state == "reconnecting")
        error = to.statuses()[0].last_error
        assert error is not None
        assert error.code == "stalled"
        assert told == [(spec.url, "stalled")]
        lost = to.statuses()[0].dropped_packets
        assert lost > 0
        os.kill(receiver.pid, signal.SIGCONT)
        before = to.statuses()[0].packets
        write_until(lambda: to.statuses()[0].state == "online" and to.statuses()[0].packets > before + 5)
        to.close()
    assert slowest < 1.0  # encoding alone; the sink held nobody up


# The slate ------------------------------------------------------------------------------------------------------------


@dataclass
class Shown:
    """One picture of a recording."""

    at: float
    dim: bool
    key: bool


def shown(path: Path) -> list[Shown]:
    """The bright block of `draw` is far from bright on a slate."""
    found = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            pixels = AvPicture(frame).to_array(frame.width, frame.height)
            high, wide = frame.height // 16, frame.width // 16
            light = float(pixels[5 * high : 6 * high, 5 * wide : 7 * wide].mean())
            found.append(Shown(float(frame.pts * frame.time_base), light < 160, bool(frame.key_frame)))
    return found


@needs_gstreamer
def test_while_the_camera_is_away_outputs_show_a_slate_if_they_want_one(start: Start, tmp_path: Path) -> None:
    # GStreamer's server puts parameter sets between the slices of a key frame, which then decode as pictures each.
    whole = {"preset": "ultrafast", "tune": "zerolatency", "g": "12", "x264-params": "sliced-threads=0"}
    make_clip(tmp_path / "clip.mp4", draw=draw, options=whole)
    with (
        RtspServer(recordings={"in": tmp_path / "in.h264"}) as receiver,
        RtspServer(clips={"clip": tmp_path / "clip.mp4"}) as camera,
    ):
        alike = {"annotate": False, "gop_s": 30.0}
        slated = {"slate": True, **alike}
        outputs = (
            {"url": receiver.url("in"), **slated},
            {"url": "file:slate.mp4", **slated},
            {"url": "file:plain.mp4", **alike},
        )
        stream = start(camera.url("clip"), *outputs)
        stream.until(StreamState.ONLINE)
        until(lambda: stream.output(0).packets > 25)
        camera.kill()
        stream.until(StreamState.RECONNECTING)
        seen = stream.output(1).packets
        receiver.wait_for_pictures("in", 10)
        until(lambda: stream.output(1).packets >= seen + 15)
        assert stream.output(0).state == "online"
        camera.start()
        stream.until(StreamState.ONLINE)
        stream.until_decoded(50)
        stream.runner.stop(20)
    pictures, plain = shown(tmp_path / "slate.mp4"), shown(tmp_path / "plain.mp4")
    kinds = [kind for kind, _ in itertools.groupby(picture.dim for picture in pictures)]
    assert kinds == [False, True, False]
    gaps = [later.at - earlier.at for earlier, later in pairwise(pictures)]
    assert min(gaps) > 0
    assert max(gaps) < slate.AFTER_S + 1.0  # from the last picture to the slate; then one comes after the other
    assert sorted(gaps)[-4] < 0.5
    away = [index for index, picture in enumerate(pictures) if picture.dim]
    assert pictures[away[0]].key
    assert pictures[away[-1] + 1].key
    assert not any(picture.dim for picture in plain)
    assert (
        max(later.at - earlier.at for earlier, later in pairwise(plain)) > pictures[away[-1]].at - pictures[away[0]].at
    )

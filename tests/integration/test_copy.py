"""Outputs that get the source's own packets, and what is drawn and encoded for whom; on loopback and without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from deployments.streams.backoff import Backoff
from deployments.streams.hardware import NOTHING
from deployments.streams.media.audience import Audience
from deployments.streams.media.opener import MediaOpener
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.policy import UrlPolicy
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import StreamSpec, StreamState, VideoCounts
from tests.support.live_http import LiveHttp, Part, units
from tests.support.media import make_clip
from tests.support.rtsp_server import RtspServer, available
from tests.support.running import running
from tests.support.waiting import until

needs_gstreamer = pytest.mark.skipif(not available(), reason="GStreamer's RTSP server is not installed")

B_FRAMES = {"preset": "veryfast", "bf": "2", "g": "12"}
Start = Callable[..., StreamRunner]


@pytest.fixture
def audience() -> Audience:
    return Audience()


@pytest.fixture
def start(tmp_path: Path, audience: Audience) -> Iterator[Start]:
    (tmp_path / "out").mkdir(exist_ok=True)
    policy = UrlPolicy(media_root=tmp_path, output_root=tmp_path / "out")
    with running() as run:

        def start(source: dict[str, Any], *outputs: dict[str, Any]) -> StreamRunner:
            spec = StreamSpec.model_validate({"id": "gate", "source": source, "outputs": outputs})
            media = MediaOpener(policy, NOTHING, 0, audience)
            return run(spec, media, backoff=lambda: Backoff(initial_s=0.2, cap_s=0.5))

        yield start


def change(runner: StreamRunner, *outputs: dict[str, Any]) -> None:
    spec = StreamSpec.model_validate({**runner.spec.model_dump(exclude={"outputs"}), "outputs": outputs})
    runner.apply(spec, runner.generation + 1)


def read(path: Path, kind: str) -> list[tuple[bytes, float, float]]:
    """Data and seconds of pts and dts, both from the first packet's dts on, of all packets of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.best(kind)
        assert stream is not None
        packets = [packet for packet in container.demux(stream) if packet.size]
        first = packets[0].dts
        assert first is not None
        base = stream.time_base
        return [(bytes(one), float((one.pts - first) * base), float((one.dts - first) * base)) for one in packets]


def close_to(found: list[tuple[bytes, float, float]], wanted: list[tuple[bytes, float, float]]) -> bool:
    pairs = list(zip(found, wanted, strict=True))
    same = all(one[0] == other[0] for one, other in pairs)
    return same and all(abs(a - b) < 0.002 for one, other in pairs for a, b in zip(one[1:], other[1:], strict=True))


def counts(runner: StreamRunner) -> VideoCounts:
    return runner.status().video


def test_a_copy_has_every_packet_with_its_times_and_sound_and_nothing_is_encoded(start: Start, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=60, audio=True, options=B_FRAMES)
    outputs = [{"url": f"file:{name}", "codec": "copy"} for name in ("copy.mp4", "copy.m3u8")]
    runner = start({"url": "file:clip.mp4"}, *outputs)  # at its own pace: an output that is too slow would lose some
    until(lambda: runner.status().state is StreamState.FAILED)  # it has ended
    assert runner.status().frames.published == 60
    assert counts(runner) == VideoCounts()
    made = tmp_path / "out" / "copy.mp4"
    assert close_to(read(made, "video"), read(clip, "video"))
    sound = read(made, "audio")
    assert {one[0] for one in sound} <= {one[0] for one in read(clip, "audio")}
    assert len(sound) >= 30  # of 38: what came before the first picture has no place
    with av.open(str(tmp_path / "out" / "copy.m3u8")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 60


def test_what_a_container_cannot_carry_is_refused_in_words(start: Start, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", codec="mjpeg", frames=25)
    source = {"url": "file:clip.mkv", "loop": True}
    runner = start(
        source, {"url": "rtmp://127.0.0.1:9/live/gate", "codec": "copy"}, {"url": "file:a.mp4", "codec": "copy"}
    )
    until(lambda: runner.status().outputs[:1] and runner.status().outputs[0].state == "failed")
    until(lambda: runner.status().outputs[1].packets > 25)
    error = runner.status().outputs[0].last_error
    assert error is not None
    assert (error.code, error.retryable) == ("codec_unsupported", False)
    assert "flv can't carry mjpeg: set the output's codec to h264" in error.message


def test_a_copy_goes_on_over_a_reconnect_of_the_source(start: Start, tmp_path: Path) -> None:
    visits = iter([units(Part(40))])
    with LiveHttp(lambda: next(visits, units(Part(600)))) as camera:
        runner = start({"url": camera.url}, {"url": "file:copy.mp4", "codec": "copy"})
        until(lambda: camera.clients == 2, 30)
        until(lambda: runner.status().outputs[0].packets > 80, 30)
        assert runner.status().restarts == 1
        runner.stop(20)
    assert counts(runner) == VideoCounts()
    made = tmp_path / "out" / "copy.mp4"
    packets = read(made, "video")
    assert all(after[2] > before[2] for before, after in pairwise(packets))
    assert max(after[2] - before[2] for before, after in pairwise(packets)) > 0.1  # the time without a source shows
    with av.open(str(made)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == len(packets)
    assert frames[0].key_frame
    assert not any(frame.is_corrupt for frame in frames)
    assert not (tmp_path / "out" / "copy-2.mp4").exists()


def test_a_new_size_goes_on_in_a_further_file(start: Start, tmp_path: Path) -> None:
    with LiveHttp(lambda: units(Part(50, (320, 240)), Part(300, (640, 360)))) as camera:
        runner = start({"url": camera.url}, {"url": "file:copy.mp4", "codec": "copy"})
        until(lambda: runner.status().outputs[:1] and runner.status().outputs[0].packets > 80, 30)
        runner.stop(20)
    sizes = []
    for name in ("copy.mp4", "copy-2.mp4"):
        with av.open(str(tmp_path / "out" / name)) as container:
            sizes.append({(frame.width, frame.height) for frame in container.decode(video=0)})
    assert sizes == [{(320, 240)}, {(640, 360)}]


@needs_gstreamer
def test_a_copy_of_a_camera_goes_to_a_server_and_begins_with_a_key_frame(start: Start, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=50, options={"bf": "0", "g": "10"})
    published = tmp_path / "published.h264"
    with RtspServer(clips={"street": clip}) as camera, RtspServer(recordings={"live": published}) as server:
        output = {"url": f"rtsp://127.0.0.1:{server.port}/live", "codec": "copy"}
        runner = start({"url": f"rtsp://127.0.0.1:{camera.port}/street"}, output)
        until(lambda: runner.status().outputs[:1] and runner.status().outputs[0].packets > 50, 30)
        runner.stop(20)
    with av.open(str(published), format="h264") as container:
        frames = list(container.decode(video=0))
    assert len(frames) > 20
    assert frames[0].key_frame
    assert not any(frame.is_corrupt for frame in frames)


def test_nothing_is_drawn_or_encoded_for_nobody(start: Start, audience: Audience) -> None:
    runner = start({"url": "testsrc://?fps=25&size=320x240"})
    until(lambda: runner.status().frames.published > 30)
    assert counts(runner) == VideoCounts()
    taken: list[EncodedPacket] = []
    leave = audience.join(taken.append)
    until(lambda: len(taken) > 10)
    assert taken[0].key_frame
    change(runner, {"url": "file:a.mp4"})
    until(lambda: runner.status().outputs[0].packets > 5)
    seen = counts(runner)
    published = runner.status().frames.published
    until(lambda: runner.status().frames.published > published + 10)
    assert counts(runner).encoded - seen.encoded <= runner.status().frames.published - published + 2  # one for both
    leave()
    change(runner)
    seen = counts(runner)
    until(lambda: runner.status().frames.published > published + 30)
    assert counts(runner) == seen
    assert 0 < seen.drawn <= seen.encoded


def test_a_viewer_gets_a_key_frame_when_it_asks(start: Start, audience: Audience) -> None:
    start({"url": "testsrc://?fps=25&size=320x240"})
    taken: list[EncodedPacket] = []
    audience.join(taken.append)
    until(lambda: len(taken) > 15)
    before = sum(packet.key_frame for packet in taken)
    audience.want_key_frame()
    until(lambda: sum(packet.key_frame for packet in taken) > before, 1.5)  # without that it is one in 2 s

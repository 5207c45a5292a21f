"""Outputs against real files and real receivers, all on loopback."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deployments.errors import ForbiddenAddress
from deployments.streams.media.encoder import H264Encoder
from deployments.streams.media.gpu import Nvenc
from deployments.streams.media.items import AudioItem
from deployments.streams.media.outlet import Way
from deployments.streams.media.output import CLOSE_S
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.publisher import Publisher
from deployments.streams.media.sink import Sink, target_of
from deployments.streams.spec import OutputSpec, OutputStatus, SourceInfo
from tests.support.media import WITHOUT_GPU

TIME_BASE = Fraction(1, 90000)
FRAME = 3600
INFO = SourceInfo(codec="h264", width=320, height=240, fps=25.0)

RTMP_RECEIVER = """
import json, sys, av
with av.open(sys.argv[1], options={"listen": "1"}, timeout=30) as stream:
    for packet in stream.demux(video=0):
        print(json.dumps([packet.is_keyframe, float((packet.pts or 0) * packet.time_base)]), flush=True)
"""
RTSP_RECEIVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch(
    "( rtph264depay name=depay0 ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au"
    " ! filesink location=" + sys.argv[2] + " buffer-mode=unbuffered sync=false async=false )"
)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


def pictures(count: int, width: int = 320, height: int = 240) -> list[AvPicture]:
    """Each has a brightness of its own, by which it is known again."""
    made = []
    for index in range(count):
        image = np.full((height, width, 3), 40 + index % 50 * 3, np.uint8)
        frame: Any = av.VideoFrame.from_ndarray(image, format="bgr24")
        made.append(AvPicture(frame.reformat(format="yuv420p")))
    return made


def publisher(
    *specs: OutputSpec, audio: Any = None, resolve: Callable[[str], Way] = Way, nvenc: Nvenc | None = None
) -> Publisher:
    return Publisher(specs, INFO, TIME_BASE, audio, resolve, nvenc)


def eventually(holds: Callable[[], Any], seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.02)
    return result


def write_all(to: Publisher, some: Sequence[AvPicture]) -> None:
    """One picture a frame's time, from 0 on."""
    for index, picture in enumerate(some):
        to.write(index * FRAME, picture, None)


def keep_writing(to: Publisher, until: Callable[[], Any], start: int = 0, seconds: float = 20.0) -> int:
    """Frames at 50 a second until something holds; gives the pts after the last."""
    some = pictures(50)
    pts = start

    def step() -> Any:
        nonlocal pts
        to.write(pts, some[pts // FRAME % 50], None)
        pts += FRAME
        return until()

    eventually(step, seconds)
    return pts


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """Two seconds of AAC in an MP4."""
    path = tmp_path / "tone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 48000)
        for start in range(0, 96000, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames_of(path: Path) -> list[tuple[float, float]]:
    """Time and brightness of each frame."""
    with av.open(str(path)) as container:
        return [
            (float(frame.pts * frame.time_base), float(AvPicture(frame).to_array(32, 24).mean()))
            for frame in container.decode(video=0)
        ]


def test_an_mp4_has_every_frame_at_its_time_with_its_size_and_the_sound(tmp_path: Path, tone: Path) -> None:
    path = tmp_path / "out.mp4"
    times = np.cumsum(np.random.default_rng(0).integers(1000, 6000, 50)) + 900_000
    with av.open(str(tone)) as source:
        heard = [packet for packet in source.demux(audio=0) if packet.dts is not None]
        to = publisher(OutputSpec(url=str(path)), audio=source.streams.audio[0])
    for index, (pts, picture) in enumerate(zip(times.tolist(), pictures(50), strict=True)):
        to.write(pts, picture, None)
        for packet in heard[index * 2 : index * 2 + 2]:
            packet.pts = packet.dts = packet.pts + 480_000
            to.write_audio(AudioItem(packet, packet.pts, Fraction(1, 48000)))
    to.close()
    assert to.statuses() == ()
    seen = frames_of(path)
    start = 10 - 1024 / 48000  # the sound begins with a packet that fills the codec's delay
    assert seen[0][0] == pytest.approx(times[0] / 90000 - start, abs=1.1e-3)  # MP4 keeps this in milliseconds
    expected = (times - times[0]) / 90000
    assert [when - seen[0][0] for when, _ in seen] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [light for _, light in seen] == pytest.approx([40 + 3 * i for i in range(50)], abs=6)
    with av.open(str(path)) as result:
        video, sound = result.streams.video[0], result.streams.audio[0]
        assert (video.width, video.height) == (320, 240)
        assert video.average_rate is not None
        assert float(video.average_rate) == pytest.approx(50 / ((times[-1] - times[0]) / 90000 + 0.04), rel=0.05)
        assert sound.codec_context.name == "aac"
        assert len([packet for packet in result.demux(sound) if packet.size]) == len(heard)


def test_an_mp4_indexes_each_gop_by_itself(tmp_path: Path) -> None:
    """One index of all frames would be kept in memory until the file is closed, be that weeks."""
    path = tmp_path / "out.mp4"
    to = publisher(OutputSpec(url=str(path), gop_s=0.4))
    write_all(to, pictures(60))
    to.close()
    assert boxes(path) == [b"ftyp", b"moov", *[b"moof", b"mdat"] * 6, b"mfra"]


def boxes(path: Path) -> list[bytes]:
    """Of a file of ISO's base media format, the outermost."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        found.append(kind)
        at += size
    return found


def test_an_mp4_of_a_writer_that_was_killed_can_be_played(tmp_path: Path) -> None:
    some = pictures(60)
    encoder = H264Encoder(some[0], time_base=TIME_BASE, fps=Fraction(25), bitrate=1_000_000, gop_s=0.4)
    sink = Sink(target_of(str(tmp_path / "cut.mp4")), encoder.template, None)
    sent = iter(enumerate(some))

    def send() -> bool:
        index, picture = next(sent)
        for packet in encoder.encode(picture, index * FRAME):
            sink.send(packet)
        return index == 59

    eventually(send)
    path = tmp_path / "cut.mp4"
    eventually(lambda: path.exists() and path.stat().st_size > 1500)
    sink.close()
    assert len(frames_of(path)) >= 20


def test_an_output_says_why_no_packets_come(tmp_path: Path) -> None:
    to = publisher(OutputSpec(url=str(tmp_path / "a.mp4")), OutputSpec(url=str(tmp_path / "b.mp4"), gop_s=1.0))
    narrow = pictures(2, 1, 33)
    for number, picture in enumerate(narrow):
        with pytest.raises(av.FFmpegError):
            to.write(number * FRAME, picture, None)
    since = 0.0
    for status in to.statuses():  # each with an encoder of its own
        assert status.last_error is not None
        assert status.last_error.code == "codec_unsupported"
        assert "1x33" in status.last_error.message
        since = status.last_error.at
    with pytest.raises(av.FFmpegError):
        to.write(2 * FRAME, narrow[0], None)
    again = to.statuses()[-1].last_error
    assert again is not None
    assert again.at == since
    keep_writing(to, lambda: all(status.state == "online" for status in to.statuses()), start=3 * FRAME)
    to.close()


def test_hls_gives_a_playlist_whose_segments_hold_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "live.m3u8"
    to = publisher(OutputSpec(url=str(path), gop_s=1.0))
    write_all(to, pictures(150))
    to.close()
    lines = path.read_text().splitlines()
    segments = [line for line in lines if line.endswith(".ts")]
    assert lines[0] == "#EXTM3U"
    assert "#EXT-X-ENDLIST" in lines
    assert len(segments) >= 3
    assert all((tmp_path / name).stat().st_size for name in segments)
    assert len(frames_of(path)) == 150


def test_a_new_size_goes_on_in_a_further_file_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"an earlier recording")
    to = publisher(OutputSpec(url=str(tmp_path / "out.mp4")))
    write_all(to, pictures(10) + pictures(10, 160, 120))
    to.close()
    assert (tmp_path / "out.mp4").read_bytes() == b"an earlier recording"
    assert len(frames_of(tmp_path / "out-2.mp4")) == len(frames_of(tmp_path / "out-3.mp4")) == 10


def test_outputs_alike_share_an_encoder_and_a_change_leaves_the_others_alone(tmp_path: Path) -> None:
    urls = [str(tmp_path / f"{name}.mp4") for name in "abc"]
    first, second, plain = OutputSpec(url=urls[0]), OutputSpec(url=urls[1]), OutputSpec(url=urls[2], annotate=False)
    to = publisher()
    assert not to.active
    assert not to.wants_annotated
    to.update((plain,))
    assert to.active
    assert not to.wants_annotated
    to.update((plain, first, second))
    assert to.wants_annotated
    light, dark = pictures(50)[49], pictures(1)[0]
    for index in range(20):
        to.write(index * FRAME, dark, light)
    to.update((second, plain))
    for index in range(20, 30):
        to.write(index * FRAME, dark, light)
    assert [status.url for status in to.statuses()] == [urls[1], urls[2]]
    to.close()
    seen = [frames_of(Path(url)) for url in urls]
    assert [len(frames) for frames in seen] == [20, 30, 30]
    assert (tmp_path / "b.mp4").stat().st_size > (tmp_path / "a.mp4").stat().st_size
    assert seen[1][0][1] > 120 > seen[2][0][1]


def state(to: Publisher) -> OutputStatus:
    return to.statuses()[0]


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_a_server_that_takes_the_connection_and_hangs_costs_the_caller_nothing(scheme: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        to = publisher(OutputSpec(url=f"{scheme}://127.0.0.1:{server.getsockname()[1]}/live/x", bitrate=300_000))
        taken = []
        some = pictures(100)
        for index in range(1500):
            started = time.monotonic()
            to.write(index * FRAME, some[index % 100], None)
            taken.append(time.monotonic() - started)
        assert state(to).dropped_packets > 0
        assert state(to).state == "connecting"
        started = time.monotonic()
        to.close()
        assert time.monotonic() - started < 3.2
        # Encoding takes 0.5 ms; a busy machine may hold some up for a while, but a connection would for seconds.
        assert sorted(taken)[len(taken) * 95 // 100] < 0.05
        assert max(taken) < 1.0


def rtmp_receiver(children: list[subprocess.Popen[str]], port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RTMP_RECEIVER, f"rtmp://127.0.0.1:{port}/live/x"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    children.append(child)
    return child


def first_line(child: subprocess.Popen[str]) -> Callable[[], str | None]:
    """Reads on a thread of its own; the result is None until a line came."""
    lines: list[str] = []
    assert child.stdout is not None
    stdout = child.stdout
    threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True).start()
    return lambda: lines[0] if lines else None


def test_rtmp_arrives_and_comes_back_by_itself_with_a_key_frame(children: list[subprocess.Popen[str]]) -> None:
    port = free_port()
    to = publisher(OutputSpec(url=f"rtmp://127.0.0.1:{port}/live/x", gop_s=30.0))
    line = first_line(receiver := rtmp_receiver(children, port))
    pts = keep_writing(to, line)
    assert json.loads(line() or "")[0] is True
    pts = keep_writing(to, lambda: state(to).state == "online", pts)
    receiver.kill()
    pts = keep_writing(to, lambda: state(to).state == "reconnecting", pts)
    lost = state(to).dropped_packets
    line = first_line(rtmp_receiver(children, port))
    pts = keep_writing(to, line, pts)
    assert json.loads(line() or "")[0] is True
    keep_writing(to, lambda: state(to).state == "online", pts)
    assert state(to).dropped_packets >= lost
    to.close()


def rtsp_receiver(children: list[subprocess.Popen[str]], port: int, into: Path) -> int:
    command = ["/usr/bin/python3", "-c", RTSP_RECEIVER, str(port), str(into)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean)
    children.append(child)
    assert child.stdout is not None
    bound = child.stdout.readline()
    if not bound:
        pytest.skip("no RTSP server: the system's Python lacks GstRtspServer")
    return int(bound)


def arrived(path: Path) -> Sequence[Any]:
    decoder: Any = av.CodecContext.create("h264", "r")
    packets = decoder.parse(path.read_bytes()) + decoder.parse(b"")
    assert not packets or packets[0].is_keyframe
    return [frame for packet in packets for frame in decoder.decode(packet)]


def test_rtsp_arrives_and_comes_back_by_itself_with_a_key_frame(
    children: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    port = rtsp_receiver(children, 0, tmp_path / "first.h264")
    to = publisher(OutputSpec(url=f"rtsp://127.0.0.1:{port}/live", gop_s=30.0))
    pts = keep_writing(to, lambda: state(to).packets > 30)
    eventually(lambda: len(arrived(tmp_path / "first.h264")) > 20)
    children[0].kill()
    children[0].wait()
    pts = keep_writing(to, lambda: state(to).state == "reconnecting", pts)
    rtsp_receiver(children, port, tmp_path / "second.h264")
    before = state(to).packets
    keep_writing(to, lambda: state(to).packets > before + 30, pts)
    eventually(lambda: len(arrived(tmp_path / "second.h264")) > 20)
    to.close()


def test_what_cannot_heal_fails_for_good_says_why_and_is_not_encoded_for(tmp_path: Path) -> None:
    def forbid(url: str) -> Way:
        raise ForbiddenAddress("Outputs may not go to private networks.")

    cases = [
        (OutputSpec(url="rtsp://user:secret@127.0.0.1:9/x"), forbid, "forbidden_address"),
        (OutputSpec(url=str(tmp_path / "no" / "such" / "folder.mp4")), Way, "not_found"),
        (OutputSpec(url=str(tmp_path / "video.avi")), Way, "codec_unsupported"),
    ]
    for spec, resolve, code in cases:
        to = publisher(spec, resolve=resolve)
        keep_writing(to, lambda to=to: state(to).state == "failed")  # type: ignore[misc]
        error = state(to).last_error
        assert error is not None
        assert (error.code, error.retryable) == (code, False)
        assert "secret" not in repr(state(to))
        assert not to.active
        to.close()


def test_a_refused_connection_is_tried_again(tmp_path: Path) -> None:
    to = publisher(OutputSpec(url=f"rtmp://127.0.0.1:{free_port()}/live/x?token=secret"))
    keep_writing(to, lambda: state(to).state == "reconnecting")
    error = state(to).last_error
    assert error is not None
    assert (error.code, error.retryable) == ("connection_refused", True)
    assert "secret" not in repr(state(to))
    to.close()


def test_sound_that_a_container_cannot_carry_is_left_out_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("adpcm_ms", 8000, layout="mono")
        for start in range(0, 8000, 1012):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1012), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as source:
        to = publisher(OutputSpec(url=str(tmp_path / "out.mp4")), audio=source.streams.audio[0])
        heard = [packet for packet in source.demux(audio=0) if packet.dts is not None]
    for packet in heard:
        to.write_audio(AudioItem(packet, int(packet.pts or 0), Fraction(1, 8000)))
    keep_writing(to, lambda: state(to).state == "online" and state(to).last_error)
    error = state(to).last_error
    assert error is not None
    assert "Sound is left out" in error.message
    to.close()
    assert len(frames_of(tmp_path / "out.mp4")) > 0


@WITHOUT_GPU
def test_a_place_on_nvenc_without_a_gpu_is_x264_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    to = publisher(*(OutputSpec(url=str(path), gop_s=1.0 + n) for n, path in enumerate(paths)), nvenc=Nvenc())
    assert [status.encoder for status in to.statuses()] == [None, None]
    for index, picture in enumerate(pictures(20)):
        nv12: Any = picture.frame.reformat(format="nv12")
        to.write(index * FRAME, AvPicture(nv12), None)
    assert [status.encoder for status in to.statuses()] == ["libx264", "libx264"]
    eventually(lambda: all(status.packets == 20 for status in to.statuses()), 60.0)
    to.close()
    assert [len(frames_of(path)) for path in paths] == [20, 20]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ["encodes in software: NVENC can't be used (PermissionError)"]


def test_many_outputs_that_hang_are_closed_as_soon_as_one() -> None:
    """Names that can't be looked up, as on a node that is cut off; whoever succeeds it waits for no longer."""
    asked, ends = threading.Semaphore(0), threading.Event()

    def hang(url: str) -> Way:
        asked.release()
        ends.wait(30)
        raise OSError("no answer")

    to = publisher(*(OutputSpec(url=f"rtmp://media/live/{number}") for number in range(6)), resolve=hang)
    try:
        write_all(to, pictures(1))
        for _ in range(6):
            assert asked.acquire(timeout=10)
        began = time.monotonic()
        to.close()
        assert time.monotonic() - began < CLOSE_S + 1.0
    finally:
        ends.set()


def test_a_slate_costs_no_other_output_a_frame(tmp_path: Path) -> None:
    """It goes on by the clock, and what a source sends in a burst lies before it."""
    specs = (
        OutputSpec(url=f"{tmp_path}/plain.mp4"),
        OutputSpec(url=f"{tmp_path}/slate.mp4", slate=True),
    )
    to = publisher(*specs)
    some = pictures(3)
    assert to.write(0, some[0], some[0]) == 2
    assert to.write_slate(10 * FRAME, some[1]) == 1
    assert to.write(FRAME, some[2], some[2]) == 1
    assert to.write(11 * FRAME, some[2], some[2]) == 2
    to.close()


def test_a_file_that_can_not_be_begun_leaves_no_empty_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try would leave one, with a number of its own."""
    tries: list[None] = []

    def fails(*_: Any, **__: Any) -> Any:
        tries.append(None)
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(subprocess, "Popen", fails)
    to = publisher(OutputSpec(url=f"{tmp_path}/video.mp4"))
    keep_writing(to, lambda: len(tries) >= 2)
    eventually(lambda: list(tmp_path.iterdir()) == [])
    to.close()

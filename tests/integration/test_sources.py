"""Sources against real files and a real RTSP server on loopback."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from queue import SimpleQueue

import av
import cv2
import numpy as np
import pytest

from deployments.errors import ForbiddenAddress, StreamError
from deployments.streams.media.items import AudioItem, Source, VideoItem
from deployments.streams.media.pacing import Pacer
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceInfo, SourceSpec
from tests.support.media import frame, make_clip, rotate_clip
from tests.support.rtsp_server import RtspServer, available
from tests.support.waiting import until

needs_gstreamer = pytest.mark.skipif(not available(), reason="GStreamer's RTSP server is not installed")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    for codec in ("h264", "hevc", "mjpeg"):
        make_clip(root / f"{codec}.mp4", codec=codec)
    make_clip(root / "sound.mp4", audio=True)
    make_clip(root / "odd.mp4", size=(321, 241), frames=5)
    make_clip(root / "reordered.mp4", options={"preset": "medium", "bf": "3", "g": "25"})
    for degrees in (90, 180, 270):
        rotate_clip(make_clip(root / f"turned-{degrees}.mp4", frames=3), degrees)
    whole = (root / "h264.mp4").read_bytes()
    (root / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "text.mp4").write_text("This is no video.\n" * 100)
    (root / "empty.mp4").write_bytes(b"")
    (root / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nh264.mp4\n#EXT-X-ENDLIST\n")
    (root / "concat.mp4").write_text("ffconcat version 1.0\nfile h264.mp4\n")
    return root


@pytest.fixture(scope="module")
def policy(media: Path) -> UrlPolicy:
    return UrlPolicy(media_root=media, output_root=media)


@pytest.fixture(scope="module")
def cameras(media: Path) -> Iterator[RtspServer]:
    clips = {codec: media / f"{codec}.mp4" for codec in ("h264", "hevc", "mjpeg")}
    with RtspServer(clips=clips, user="viewer", password="s3cret/@:") as server:
        server.password = "s3cret%2F%40%3A"  # as it is written in a URL
        yield server


class MotionJpeg(BaseHTTPRequestHandler):
    """A camera of 10 pictures a second, as many are: JPEGs one after the other, without times."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
        self.end_headers()
        jpeg = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
        with suppress(OSError):
            for _ in range(200):
                head = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                self.wfile.write(head + jpeg + b"\r\n")
                time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def videos(source: Source, count: int) -> list[VideoItem]:
    return list(islice((item for item in source.items() if isinstance(item, VideoItem)), count))


def to_the_end(source: Source) -> tuple[list[VideoItem | AudioItem], StreamError]:
    items: list[VideoItem | AudioItem] = []
    with pytest.raises(StreamError) as caught:
        items.extend(iter(source.items()))
    return items, caught.value


def rises(items: list[VideoItem]) -> bool:
    return all(later.pts > earlier.pts for earlier, later in pairwise(items))


def brightest_quarter(item: VideoItem) -> tuple[str, str]:
    grey = item.picture.to_array(item.picture.width, item.picture.height)[:, :, 1].astype(int)
    height, width = grey.shape
    sums = {
        (row, column): grey[y : y + height // 8, x : x + width // 8].sum()
        for row, y in (("top", 0), ("bottom", height - height // 8))
        for column, x in (("left", 0), ("right", width - width // 8))
    }
    return max(sums, key=lambda place: sums[place])


class TestFiles:
    @pytest.mark.parametrize("name", ["hevc", "odd", "reordered", "turned-90", "turned-180"])
    def test_what_players_of_webrtc_can_not_have_as_it_is(self, policy: UrlPolicy, name: str) -> None:
        """Another codec, 4:4:4, B-frames, and what has to be turned."""
        with open_source(SourceSpec(url=f"file:{name}.mp4", realtime=False), policy, Timeline()) as source:
            assert not source.info.webrtc_copy

    @pytest.mark.parametrize("codec", ["h264", "hevc", "mjpeg"])
    def test_every_frame_of_every_codec(self, policy: UrlPolicy, codec: str) -> None:
        with open_source(SourceSpec(url=f"file:{codec}.mp4", realtime=False), policy, Timeline()) as source:
            expected = SourceInfo(codec=codec, width=320, height=240, fps=25.0, decoder=codec)
            assert source.info == expected.model_copy(update={"webrtc_copy": codec == "h264"})
            items, error = to_the_end(source)
        assert error.code == "ended"
        assert [item.pts for item in items] == [3600 * n for n in range(50)]
        assert source.undecodable == 0

    def test_reordered_frames_come_in_order(self, policy: UrlPolicy) -> None:
        with open_source(SourceSpec(url="file:reordered.mp4", realtime=False), policy, Timeline()) as source:
            items, _ = to_the_end(source)
        assert [item.pts for item in items] == [3600 * n for n in range(50)]

    def test_odd_sizes(self, policy: UrlPolicy) -> None:
        with open_source(SourceSpec(url="file:odd.mp4"), policy, Timeline()) as source:
            assert (source.info.width, source.info.height) == (321, 241)
            assert videos(source, 1)[0].picture.to_array(320, 240).shape == (240, 320, 3)

    @pytest.mark.parametrize(
        ("degrees", "size", "corner"),
        [
            (90, (240, 320), ("top", "right")),
            (180, (320, 240), ("bottom", "right")),
            (270, (240, 320), ("bottom", "left")),
        ],
    )
    def test_rotation_is_undone(
        self, policy: UrlPolicy, degrees: int, size: tuple[int, int], corner: tuple[str, str]
    ) -> None:
        with open_source(SourceSpec(url=f"file:turned-{degrees}.mp4"), policy, Timeline()) as source:
            assert (source.info.width, source.info.height) == size
            item = videos(source, 1)[0]
        assert (item.picture.width, item.picture.height) == size
        assert brightest_quarter(item) == corner

    def test_a_file_plays_at_its_own_pace(self, policy: UrlPolicy) -> None:
        with open_source(SourceSpec(url="file:h264.mp4"), policy, Timeline()) as source:
            items = videos(source, 50)
        assert items[-1].decoded_at - items[0].decoded_at == pytest.approx(49 / 25, abs=0.2)

    def test_a_loop_goes_on_with_rising_timestamps(self, policy: UrlPolicy) -> None:
        spec = SourceSpec(url="file:sound.mp4", realtime=False, loop=True)
        with open_source(spec, policy, Timeline()) as source:
            items = videos(source, 160)
        assert [item.pts for item in items] == [3600 * n for n in range(160)]

    def test_a_reconnect_goes_on_with_rising_timestamps(self, policy: UrlPolicy) -> None:
        timeline = Timeline()
        items: list[VideoItem] = []
        for _ in range(3):
            with open_source(SourceSpec(url="file:h264.mp4", realtime=False), policy, timeline) as source:
                items += videos(source, 20)
        assert len(items) == 60
        assert rises(items)

    def test_audio_is_handed_on_for_outputs(self, policy: UrlPolicy, tmp_path: Path) -> None:
        with open_source(SourceSpec(url="file:sound.mp4", realtime=False), policy, Timeline()) as source:
            assert source.info.audio_codec == "aac"
            items, _ = to_the_end(source)
        packets = [item for item in items if isinstance(item, AudioItem)]
        assert all(later.pts > earlier.pts for earlier, later in pairwise(packets))
        assert source.audio is not None
        with av.open(tmp_path / "sound.mp4", "w") as output:
            stream = output.add_stream_from_template(source.audio)  # after the source has closed
            for item in packets:
                item.packet.stream = stream
                output.mux(item.packet)
        with av.open(tmp_path / "sound.mp4") as written:
            assert sum(piece.samples for piece in written.decode(audio=0)) / 16_000 == pytest.approx(2, abs=0.2)

    @pytest.mark.parametrize("name", ["truncated", "text", "empty", "list", "concat"])
    def test_what_is_no_video_is_invalid(self, policy: UrlPolicy, name: str) -> None:
        with pytest.raises(StreamError) as caught:
            open_source(SourceSpec(url=f"file:{name}.mp4"), policy, Timeline())
        assert caught.value.code == "invalid_data"

    def test_damaged_frames_are_skipped_and_too_many_give_up(self, policy: UrlPolicy, media: Path) -> None:
        make_clip(media / "damaged.mp4", codec="mjpeg", frames=200)
        data = bytearray((media / "damaged.mp4").read_bytes())
        at = -1
        for number in range(200):
            at = data.index(b"\xff\xd8\xff", at + 1)
            if number == 5 or number >= 20:
                data[at : at + 700] = bytes(700)  # all headers of the picture
        (media / "damaged.mp4").write_bytes(bytes(data))
        with open_source(SourceSpec(url="file:damaged.mp4", realtime=False), policy, Timeline()) as source:
            items, error = to_the_end(source)
        assert len(items) == 19
        assert error.code == "invalid_data"
        assert source.undecodable == 101

    def test_interrupt_ends_a_paced_wait(self, policy: UrlPolicy, media: Path) -> None:
        make_clip(media / "slow.mp4", fps=1, frames=20)
        with open_source(SourceSpec(url="file:slow.mp4"), policy, Timeline()) as source:
            assert interrupted_after(source) < 1


def interrupted_after(source: Source) -> float:
    """Seconds from `interrupt` to the end of a reader that got its first item."""
    running = threading.Event()

    def read() -> None:
        for _ in source.items():
            running.set()

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        assert running.wait(5)
        began = time.monotonic()
        source.interrupt()
        reader.result(5)
        return time.monotonic() - began


@needs_gstreamer
class TestRtsp:
    @pytest.mark.parametrize(
        ("codec", "transport"), [("h264", "tcp"), ("hevc", "tcp"), ("mjpeg", "tcp"), ("h264", "udp")]
    )
    def test_live_video(self, policy: UrlPolicy, cameras: RtspServer, codec: str, transport: str) -> None:
        spec = SourceSpec.model_validate({"url": cameras.url(codec), "transport": transport})
        with open_source(spec, policy, Timeline()) as source:
            assert source.info.codec == codec
            assert (source.info.width, source.info.height) == (320, 240)
            items = videos(source, 50)
        assert rises(items)
        assert (items[-1].pts - items[10].pts) / 90_000 == pytest.approx(39 / 25, abs=0.2)
        assert source.undecodable == 0

    @pytest.mark.parametrize("user_info", ["viewer:wrong", "nobody:s3cret", ""])
    def test_wrong_credentials(self, policy: UrlPolicy, cameras: RtspServer, user_info: str) -> None:
        with pytest.raises(StreamError) as caught:
            open_source(SourceSpec(url=cameras.url("h264", user_info)), policy, Timeline())
        assert caught.value.code == "auth_failed"
        assert "s3cret" not in str(caught.value)
        assert not caught.value.retryable

    def test_digest_authentication(self, policy: UrlPolicy, media: Path) -> None:
        with (
            RtspServer(clips={"h264": media / "h264.mp4"}, user="viewer", password="s3cret", digest=True) as server,
            open_source(SourceSpec(url=server.url("h264")), policy, Timeline()) as source,
        ):
            assert videos(source, 2)

    def test_a_wrong_path(self, policy: UrlPolicy, cameras: RtspServer) -> None:
        with pytest.raises(StreamError) as caught:
            open_source(SourceSpec(url=cameras.url("nothing")), policy, Timeline())
        assert caught.value.code == "not_found"
        assert not caught.value.retryable

    def test_a_server_that_dies_and_comes_back(self, policy: UrlPolicy, media: Path) -> None:
        timeline = Timeline()
        with RtspServer(clips={"h264": media / "h264.mp4"}) as server:
            spec = SourceSpec(url=server.url("h264"))
            with open_source(spec, policy, timeline, read_timeout_s=2) as source:
                items = videos(source, 5)
                server.kill()
                began = time.monotonic()
                _, error = to_the_end(source)
                assert time.monotonic() - began < 2.5
                assert error.retryable
            server.start()
            with reopened(spec, policy, timeline) as source:
                items += videos(source, 5)
        assert len(items) == 10
        assert rises(items)

    def test_a_camera_that_hangs(self, policy: UrlPolicy, media: Path) -> None:
        with RtspServer(clips={"h264": media / "h264.mp4"}) as server:
            spec = SourceSpec(url=server.url("h264"))
            with open_source(spec, policy, Timeline(), read_timeout_s=1.5) as source:
                videos(source, 5)
                os.kill(server.pid, signal.SIGSTOP)
                began = time.monotonic()
                _, error = to_the_end(source)
                assert time.monotonic() - began < 6
                assert error.code == "stalled"

    def test_interrupt_ends_a_blocked_read(self, policy: UrlPolicy, media: Path) -> None:
        with RtspServer(clips={"h264": media / "h264.mp4"}) as server:
            with open_source(SourceSpec(url=server.url("h264")), policy, Timeline()) as source:
                videos(source, 5)
                os.kill(server.pid, signal.SIGSTOP)
                assert interrupted_after(source) < 1
                began = time.monotonic()
            assert time.monotonic() - began < 1.5

    def test_video_published_to_the_test_server_arrives(self, tmp_path: Path) -> None:
        target = tmp_path / "received.h264"
        with (
            RtspServer(recordings={"in": target}) as server,
            av.open(server.url("in"), "w", format="rtsp", options={"rtsp_transport": "tcp"}) as output,
        ):
            stream = output.add_stream("libx264", 25, options={"preset": "ultrafast", "tune": "zerolatency"})
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            pacer = Pacer(threading.Event())
            for number in range(30):
                pacer.wait(number, Fraction(1, 25))
                picture = frame(number, 320, 240)
                picture.pts = number
                output.mux(stream.encode(picture))
            server.wait_for_pictures("in", 20)
        with av.open(target) as received:
            assert sum(1 for _ in received.decode(video=0)) >= 20


def reopened(spec: SourceSpec, policy: UrlPolicy, timeline: Timeline) -> Source:
    """The source as the runner opens it after a failure: again, where that may help."""
    for _ in range(3):
        try:
            return open_source(spec, policy, timeline)
        except StreamError as error:  # GStreamer's server now and then leaves its first client waiting
            if not error.retryable:
                raise
    return open_source(spec, policy, timeline)


class TestNetwork:
    def test_a_closed_port(self, policy: UrlPolicy) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
            port = bound.getsockname()[1]
            for scheme in ("rtsp", "http", "rtmp"):
                with pytest.raises(StreamError) as caught:
                    open_source(SourceSpec(url=f"{scheme}://u:s3cret@127.0.0.1:{port}/x"), policy, Timeline())
                assert caught.value.code == "connection_refused"
                assert "s3cret" not in str(caught.value)

    def test_a_server_that_never_answers(self, policy: UrlPolicy) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
            began = time.monotonic()
            with pytest.raises(StreamError) as caught:
                open_source(SourceSpec(url=url), policy, Timeline(), open_timeout_s=0.5)
            assert caught.value.code == "timeout"
            assert time.monotonic() - began < 1.5

    @pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
    def test_ffmpeg_gives_up_before_the_caller_does(self, policy: UrlPolicy, scheme: str) -> None:
        def ffmpeg_gave_up(_: Source) -> None:
            until(lambda: all(thread.name != "source-reader" for thread in threading.enumerate()))

        with socket.create_server(("127.0.0.1", 0)) as silent:
            spec = SourceSpec(url=f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x")
            with pytest.raises(StreamError) as caught:
                open_source(spec, policy, Timeline(), open_timeout_s=0.2, on_opening=ffmpeg_gave_up)
        assert caught.value.code == "timeout"

    def test_interrupt_ends_an_opening(self, policy: UrlPolicy) -> None:
        opening: SimpleQueue[Source] = SimpleQueue()
        with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
            spec = SourceSpec(url=f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x")
            caller = pool.submit(open_source, spec, policy, Timeline(), on_opening=opening.put)
            source = opening.get(timeout=5)
            began = time.monotonic()
            source.interrupt()
            error = caller.exception(5)
            assert time.monotonic() - began < 1
        assert isinstance(error, StreamError)
        assert error.code == "ended"

    @pytest.mark.parametrize("scheme", ["https", "rtsps", "rtmps"])
    def test_a_server_without_tls(self, policy: UrlPolicy, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer() -> None:
                for _ in range(1 if scheme == "rtsps" else 2):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.0 400 This is plain HTTP\r\n\r\n")

            with ThreadPoolExecutor(1) as pool:
                server = pool.submit(answer)
                with pytest.raises(StreamError) as caught:
                    open_source(
                        SourceSpec(url=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/x"), policy, Timeline()
                    )
                server.result(5)
        assert caught.value.code == "tls_failed"

    def test_nothing_is_printed_about_a_broken_source(self, policy: UrlPolicy, media: Path) -> None:
        code = (
            "import sys, json\n"
            "from deployments.streams.media import probe\n"
            "print(json.dumps(probe.answer(json.load(sys.stdin))))"
        )
        for url in ("http://user:s3cret@127.0.0.1:1/x?token=s3cret", "file:truncated.mp4", "srt://127.0.0.1:1/x"):
            request = {"source": {"url": url}, "policy": policy.model_dump(mode="json"), "timeout_s": 3}
            child = subprocess.run(
                [sys.executable, "-c", code], input=json.dumps(request).encode(), capture_output=True, check=True
            )
            assert child.stderr == b""
            assert b"s3cret" not in child.stdout
            assert b'"error"' in child.stdout

    def test_a_forbidden_address_is_never_connected_to(self, policy: UrlPolicy) -> None:
        with pytest.raises(ForbiddenAddress):
            open_source(SourceSpec(url="http://169.254.169.254/latest"), policy, Timeline())


def test_pictures_without_times_have_those_at_which_they_came(policy: UrlPolicy) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), MotionJpeg)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with open_source(SourceSpec(url=f"http://127.0.0.1:{server.server_port}/"), policy, Timeline()) as source:
            items = videos(source, 21)
            assert source.info.fps is None
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    first, last = items[0], items[-1]
    took = last.decoded_at - first.decoded_at
    assert took > 1.5  # and not the 0.8 of 25 pictures a second
    assert abs((last.pts - first.pts) * last.time_base - took) < 0.2
    assert all(before.pts < after.pts for before, after in pairwise(items))
    assert all(packet.pts == packet.dts == one.pts for one in items for packet in one.packets)


def test_what_a_broken_connection_held_goes_with_it(policy: UrlPolicy) -> None:
    """A decoder has megabytes, and the collector of cycles comes seldom."""
    gc.collect()
    gc.disable()
    try:
        source = open_source(SourceSpec(url="file:h264.mp4", realtime=False), policy, Timeline())
        gone = weakref.ref(source)
        with suppress(StreamError):
            for _ in source.items():
                pass
        source.close()
        del source
        until(lambda: gone() is None)
    finally:
        gc.enable()


METADATA = "http://169.254.169.254/latest"
_LONG = "#EXT-X-TARGETDURATION:9\n"
REFRESHED = "/refreshed.m3u8"
PLAYLISTS = {
    "/segment.m3u8": f"{_LONG}#EXTINF:9,\n{METADATA}/segment.ts",
    "/encrypted.m3u8": f"{_LONG}#EXTINF:9,\nhttps://169.254.169.254/segment.ts",
    "/later.m3u8": f"{_LONG}#EXTINF:9,\nsegment.ts\n#EXTINF:9,\n{METADATA}/segment.ts",
    "/key.m3u8": f'{_LONG}#EXT-X-KEY:METHOD=AES-128,URI="{METADATA}/key"\n#EXTINF:9,\nsegment.ts',
    "/map.m3u8": f'{_LONG}#EXT-X-MAP:URI="{METADATA}/init.mp4"\n#EXTINF:9,\nsegment.ts',
    "/variant.m3u8": f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{METADATA}/live.m3u8",
    "/redirected.m3u8": f"{_LONG}#EXTINF:9,\naway.ts",
    "/mapped.m3u8": f"{_LONG}#EXTINF:9,\nhttp://[::ffff:169.254.169.254]/segment.ts",
}


class _Web(BaseHTTPRequestHandler):
    """Serves a media folder, a redirect, and playlists that point elsewhere; notes what was asked for."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/h264.mp4")
            self.end_headers()
            return
        if self.path == "/away.ts":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/segment.ts")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        body = self._body()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
        if self.path == "/file.m3u8":
            return f"{head}file://{self.root}/segment.ts\n#EXT-X-ENDLIST\n".encode()
        if self.path.startswith("/live.m3u8"):
            return f"{head}segment.ts\n#EXT-X-ENDLIST\n".encode()
        if self.path == "/master.m3u8":
            return b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nlive.m3u8?2\n"
        if self.path == REFRESHED:  # the first time it is looked at, the second time played, then played on
            live = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsegment.ts\n"
            more = f"#EXTINF:1,\n{METADATA}/segment.ts\n" if self.asked.count(self.path) > 2 else ""
            return f"{live}{more}".encode()
        if self.path in PLAYLISTS:
            return f"#EXTM3U\n#EXT-X-VERSION:3\n{PLAYLISTS[self.path]}\n#EXT-X-ENDLIST\n".encode()
        return (self.root / self.path.partition("?")[0].strip("/")).read_bytes()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def web(media: Path) -> Iterator[tuple[str, list[str]]]:
    make_clip(media / "segment.ts")
    handler = type("Web", (_Web,), {"root": media, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


class TestHttp:
    @pytest.mark.parametrize("path", ["h264.mp4", "segment.ts", "live.m3u8", "master.m3u8"])
    def test_files_and_playlists(self, policy: UrlPolicy, web: tuple[str, list[str]], path: str) -> None:
        with open_source(SourceSpec(url=f"{web[0]}/{path}"), policy, Timeline()) as source:
            assert len([item for item in to_the_end(source)[0] if isinstance(item, VideoItem)]) == 50

    @pytest.mark.parametrize("excepted", ["", "169.254.169.254,127.0.0.1"])
    @pytest.mark.parametrize("path", [*PLAYLISTS, REFRESHED])
    def test_a_playlist_leads_nowhere_that_sources_may_not_reach(
        self,
        policy: UrlPolicy,
        web: tuple[str, list[str]],
        path: str,
        excepted: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("no_proxy", excepted)  # of hosts that FFmpeg would open past the check
        monkeypatch.setenv("NO_PROXY", excepted)
        monkeypatch.setenv("no_grpc_proxy", excepted)
        before = set(threading.enumerate())

        def played() -> None:
            with open_source(SourceSpec(url=f"{web[0]}{path}"), policy, Timeline(), read_timeout_s=3) as source:
                for _ in source.items():
                    pass

        with pytest.raises(ForbiddenAddress, match="metadata"):
            played()
        until(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("egress")])

    def test_a_playlist_is_opened_by_the_address_that_was_checked(
        self, media: Path, web: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def addresses(self: UrlPolicy, url: str) -> list[str]:
            asked.append(url.rpartition("/")[2])
            return ["127.0.0.1"]

        monkeypatch.setattr(UrlPolicy, "addresses", addresses)
        policy = UrlPolicy(media_root=media, output_root=media)
        with open_source(SourceSpec(url=f"{web[0]}/live.m3u8"), policy, Timeline()) as source:
            to_the_end(source)
        assert asked == ["live.m3u8", "live.m3u8", "segment.ts"]  # first looked at, then played

    def test_a_missing_page(self, policy: UrlPolicy, web: tuple[str, list[str]]) -> None:
        with pytest.raises(StreamError) as caught:
            open_source(SourceSpec(url=f"{web[0]}/missing"), policy, Timeline())
        assert caught.value.code == "not_found"

    def test_a_redirect_is_followed(self, policy: UrlPolicy, web: tuple[str, list[str]]) -> None:
        with open_source(SourceSpec(url=f"{web[0]}/moved"), policy, Timeline()) as source:
            assert videos(source, 2)
        assert web[1][:2] == ["/moved", "/h264.mp4"]

    def test_a_redirect_is_checked(self, policy: UrlPolicy, web: tuple[str, list[str]]) -> None:
        with pytest.raises(ForbiddenAddress, match="metadata"):
            open_source(SourceSpec(url=f"{web[0]}/away.ts"), policy, Timeline())
        assert web[1] == ["/away.ts"]

    def test_a_playlist_opens_no_local_file(self, policy: UrlPolicy, web: tuple[str, list[str]]) -> None:
        with pytest.raises(StreamError):
            open_source(SourceSpec(url=f"{web[0]}/file.m3u8"), policy, Timeline(), read_timeout_s=2)

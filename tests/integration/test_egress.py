"""Where sources and outputs really connect to: whatever a name resolves to later, and wherever a server redirects."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deployments.errors import ForbiddenAddress, StreamError
from deployments.streams import policy as policies
from deployments.streams.media import connection, outlet
from deployments.streams.media.items import VideoItem
from deployments.streams.media.loopback import Loopback
from deployments.streams.media.outlet import Outlets, Way
from deployments.streams.media.rtsp_forward import Answers, RtspForward
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy, open_inside
from deployments.streams.spec import OutputSpec, SourceSpec
from tests.integration.test_outputs import keep_writing, publisher
from tests.support.media import make_clip
from tests.support.rtsp_server import RtspServer, available

needs_gstreamer = pytest.mark.skipif(not available(), reason="GStreamer's RTSP server is not installed")


@pytest.fixture
def policy(tmp_path: Path) -> UrlPolicy:
    return UrlPolicy(media_root=tmp_path, output_root=tmp_path)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listener on loopback that ``serve`` accepts from, on a thread, until it is closed; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Answers each request on loopback; its port, and what it was sent."""
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    while request := connection.recv(65536):
                        heard.append(request)
                        connection.sendall(answer(request))

    with listening(serve) as port:
        yield port, heard


def redirect(location: str) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        number = request.lower().partition(b"cseq: ")[2].partition(b"\r")[0]
        return b"RTSP/1.0 302 Moved\r\nCSeq: " + number + b"\r\nLocation: " + location.encode() + b"\r\n\r\n"

    return answer


@pytest.mark.parametrize("form", ["{}", "rtsp://user:pw@[::ffff:169.254.169.254]:{port}/x"])
def test_an_rtsp_redirect_to_a_forbidden_address_is_refused(policy: UrlPolicy, form: str) -> None:
    with server(redirect(form.format("rtsp://169.254.169.254/latest", port=554))) as (port, heard):
        with pytest.raises(ForbiddenAddress, match="metadata"):
            open_source(SourceSpec(url=f"rtsp://127.0.0.1:{port}/x"), policy, Timeline())
        assert len(heard) == 1


@pytest.mark.parametrize("location", ["http://127.0.0.1:{}/x", "file:///etc/passwd", "rtmp://127.0.0.1:{}/a/b", "//"])
def test_an_rtsp_redirect_leads_to_rtsp_only(policy: UrlPolicy, location: str) -> None:
    with server(lambda _: b"") as (other, asked):
        with server(redirect(location.format(other))) as (port, _), pytest.raises(StreamError):
            open_source(SourceSpec(url=f"rtsp://127.0.0.1:{port}/x"), policy, Timeline(), open_timeout_s=2)
        assert asked == []


def test_rtsp_redirects_in_a_circle_end(policy: UrlPolicy) -> None:
    place: list[int] = []
    with server(lambda request: redirect(f"rtsp://127.0.0.1:{place[0]}/again")(request)) as (port, heard):
        place.append(port)
        with pytest.raises(StreamError):
            open_source(SourceSpec(url=f"rtsp://127.0.0.1:{port}/x"), policy, Timeline())
        assert 2 <= len(heard) <= 7


@needs_gstreamer
def test_an_allowed_rtsp_redirect_is_followed(policy: UrlPolicy) -> None:
    clip = make_clip(policy.media_root / "clip.mp4")
    with (
        RtspServer(clips={"clip": clip}) as camera,
        server(redirect(camera.url("clip"))) as (port, _),
        open_source(SourceSpec(url=f"rtsp://127.0.0.1:{port}/x"), policy, Timeline()) as source,
    ):
        assert source.info.codec == "h264"


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "rtmp", "rtmps", "http", "https"])
def test_a_name_that_resolves_otherwise_the_second_time_leads_nowhere_else(
    policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """127.0.0.2 is what may be reached; the name then turns to 127.0.0.1, which stands for what may not."""
    refused = UrlPolicy._refusal
    monkeypatch.setattr(
        UrlPolicy, "_refusal", lambda self, at: "a forbidden address" if str(at) == "127.0.0.1" else refused(self, at)
    )
    answers = iter([["127.0.0.2"]])
    monkeypatch.setattr(policies, "resolve", lambda host: next(answers, ["127.0.0.1"]))
    with server(lambda _: b"") as (port, heard):
        with pytest.raises((ForbiddenAddress, StreamError)) as caught:
            open_source(SourceSpec(url=f"{scheme}://camera.example:{port}/live/x"), policy, Timeline())
        assert "forbidden" in str(caught.value)
        assert heard == []


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "srt"])
def test_outputs_are_dialled_by_literal_address(
    policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(policies, "resolve", lambda host: ["fd00::7"])
    way = Outlets(policy).way(f"{scheme}://sink.example:99/live/x")
    assert (way.url, way.proxy) == (f"{scheme}://[fd00::7]:99/live/x", None)


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_of_several_addresses_one_that_answers_is_dialled(
    policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(policies, "resolve", lambda host: ["127.0.0.2", "127.0.0.1"])
    with server(lambda _: b"") as (port, _):
        way = Outlets(policy).way(f"{scheme}://sink.example:{port}/live/x")
        assert way.url == f"{scheme}://127.0.0.1:{port}/live/x"


def test_a_link_swapped_in_after_the_check_opens_nothing(policy: UrlPolicy, tmp_path_factory: Any) -> None:
    secret = make_clip(tmp_path_factory.mktemp("elsewhere") / "secret.mp4", frames=3)
    clip = make_clip(policy.media_root / "clip.mp4", frames=3)
    path = policy.check_source("file:clip.mp4")
    os.close(open_inside(policy.media_root, path))
    clip.unlink()
    clip.symlink_to(secret)
    with pytest.raises(ForbiddenAddress):
        open_inside(policy.media_root, path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=control:{}\n",
    ],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ts"])
def test_a_list_under_the_media_root_leads_nowhere(policy: UrlPolicy, text: str, name: str) -> None:
    make_clip(policy.media_root / "clip.ts", frames=5)
    with server(lambda _: b"") as (port, heard):
        for target in (f"http://127.0.0.1:{port}/x.ts", "file:///etc/passwd", "clip.ts"):
            (policy.media_root / name).write_text(text.format(target))
            with pytest.raises(StreamError) as caught:
                open_source(SourceSpec(url=f"file:{name}"), policy, Timeline())
            assert caught.value.code == "invalid_data"
        assert heard == []


def test_answers_name_no_address_that_was_not_checked() -> None:
    answers = Answers(lambda location: "rtsp://127.0.0.1:1/x", lambda named: "10.0.0.7")
    sent = (
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nLocation: rtsp://evil/\r\n"
        b"Transport: RTP/AVP;unicast;client_port=5-6;server_port=7-8;source=192.0.2.1;destination=192.0.2.2\r\n"
        b"Content-Length: 4\r\n\r\n$\r\n\r$\0\0\x05\x80\r\n\r\nRTSP/1.0 301 Moved\nLocation : rtsp://evil/\n\n"
    )
    passed = b"".join(answers.rewritten(sent[at : at + 1]) for at in range(len(sent)))
    assert passed == (
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\n"
        b"Transport: RTP/AVP;unicast;client_port=5-6;server_port=7-8;source=10.0.0.7\r\n"
        b"Content-Length: 4\r\n\r\n$\r\n\r$\0\0\x05\x80\r\n\r\nRTSP/1.0 301 Moved\r\nLocation: rtsp://127.0.0.1:1/x\r\n\r\n"
    )


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;multicast;destination=224.1.1.1\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_plain_rtsp_ends_the_connection(sent: bytes) -> None:
    with pytest.raises(OSError, match=r"RTSP|multicast"):
        Answers(str, str).rewritten(sent)


def test_a_picture_that_is_too_large_is_refused_at_the_start_and_later(
    policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make_clip(policy.media_root / "small.h264", size=(64, 48), frames=100).read_bytes()
    large = make_clip(policy.media_root / "large.h264", frames=5).read_bytes()
    (policy.media_root / "grows.h264").write_bytes(small + large)
    monkeypatch.setattr(connection, "MAX_PIXELS", 20_000)
    with pytest.raises(StreamError) as caught:
        open_source(SourceSpec(url="file:large.h264"), policy, Timeline())
    assert caught.value.code == "codec_unsupported"
    with open_source(SourceSpec(url="file:grows.h264", realtime=False), policy, Timeline()) as source:
        sizes = []
        with pytest.raises(StreamError):
            sizes.extend(item.picture.width for item in source.items() if isinstance(item, VideoItem))
        assert sizes == [64] * 100
        assert source.undecodable >= 1


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[int, list[str | None]]]:
    """Shakes hands and closes; its port, and the names that it was asked for."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=camera.example"
    subprocess.run(command.split(), cwd=folder, capture_output=True, check=True)
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.sni_callback = lambda _, name, __: names.append(name)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(4096)

    with listening(serve) as port:
        yield port, names


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's, of TLS 1.3: it sends tickets once hands are shaken, before any data."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=camera.example"
    subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def test_a_client_that_takes_its_time_is_heard_over_tls(tls: ssl.SSLContext) -> None:
    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with tls.wrap_socket(connection, server_side=True) as secured:
                secured.settimeout(5)
                while request := secured.recv(4096):
                    secured.sendall(b"RTSP/1.0 200 OK\r\nCSeq: " + request[-5:-4] + b"\r\n\r\n")

    with listening(serve) as port:
        forward = RtspForward(f"rtsps://127.0.0.1:{port}/x", lambda url: ["127.0.0.1"], 1.0)
        host, _, place = urlsplit(forward.open()).netloc.partition(":")
        with socket.create_connection((host, int(place)), 5) as client:
            for number in (b"1", b"2"):
                threading.Event().wait(0.3)
                client.sendall(b"OPTIONS x RTSP/1.0\r\nCSeq: " + number + b"\r\n\r\n")
                assert number in client.recv(4096)
        forward.close()


def test_a_connection_that_can_not_be_taken_for_now_does_not_end_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    accept, failed = socket.socket.accept, threading.Event()

    def poor(self: socket.socket) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EMFILE, "too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", poor)
    loopback = Loopback(lambda client: client.sendall(b"here"), 5.0)
    host, _, port = loopback.open().partition(":")
    with socket.create_connection((host, int(port)), 5) as client:
        assert client.recv(4) == b"here"
    assert failed.is_set()
    loopback.close()


def test_an_output_that_has_nothing_to_send_stays_connected(policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "TIMEOUT_S", 0.3)
    answered = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(4096))
                answered.set()
                connection.recv(1)

    with listening(serve) as port:
        outlets = Outlets(policy)
        way = outlets.way(f"rtmps://127.0.0.1:{port}/live/x")
        assert way.proxy is not None
        proxy = urlsplit(way.proxy)
        with socket.create_connection((str(proxy.hostname), proxy.port or 0), 5) as client:
            client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port)
            assert b"200" in client.recv(4096)
            threading.Event().wait(1.0)
            client.sendall(b"still there")
            assert client.recv(4096) == b"still there"
        assert answered.wait(5)


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps", "https"])
def test_tls_keeps_the_name_of_the_host(policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setattr(policies, "resolve", lambda host: ["127.0.0.1"])
    with tls_server(policy.media_root) as (port, names):
        with pytest.raises(StreamError):
            open_source(SourceSpec(url=f"{scheme}://camera.example:{port}/live/x"), policy, Timeline())
        assert set(names) == {"camera.example"}


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps"])
def test_tls_of_outputs_keeps_the_name_of_the_host(
    policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(policies, "resolve", lambda host: ["127.0.0.1"])
    with tls_server(policy.media_root) as (port, names):
        to = publisher(OutputSpec(url=f"{scheme}://camera.example:{port}/live/x"), resolve=Outlets(policy).way)
        keep_writing(to, lambda: bool(names))
        to.close()
        assert set(names) == {"camera.example"}


@pytest.mark.parametrize("name", ["video.mp4", "live.m3u8"])
def test_an_output_stays_in_the_folder_that_was_checked(policy: UrlPolicy, tmp_path: Path, name: str) -> None:
    root, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (root / "gate").mkdir(parents=True)
    elsewhere.mkdir()
    outlets = Outlets(policy.model_copy(update={"output_root": root}))

    def swapped(url: str) -> Way:
        way = outlets.way(url)
        (root / "gate").rename(root / "moved")
        (root / "gate").symlink_to(elsewhere)
        return way

    descriptors = len(os.listdir("/proc/self/fd"))
    to = publisher(OutputSpec(url=f"file:gate/{name}"), resolve=swapped)
    keep_writing(to, lambda: to.statuses()[0].packets > 30)
    to.close()
    assert list(elsewhere.iterdir()) == []
    assert (root / "moved" / name).stat().st_size > 0
    assert len(os.listdir("/proc/self/fd")) == descriptors
    to = publisher(OutputSpec(url=f"file:gate/{name}"), resolve=outlets.way)
    keep_writing(to, lambda: to.statuses()[0].state == "failed")
    assert to.statuses()[0].last_error.code == "forbidden_address"  # type: ignore[union-attr]
    to.close()

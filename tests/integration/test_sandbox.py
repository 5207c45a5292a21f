"""Probing and decoding in child processes: limits of time, memory and size, and no secret where it could be read."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from deployments.errors import ForbiddenAddress, InvalidSpec, Overloaded, StreamError
from deployments.streams.media import sandbox
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceInfo, SourceSpec
from tests.support.media import make_clip


@pytest.fixture
def policy(tmp_path: Path) -> UrlPolicy:
    return UrlPolicy(media_root=tmp_path, output_root=tmp_path)


def probe(url: str, policy: UrlPolicy, timeout_s: float = 5) -> SourceInfo:
    return asyncio.run(sandbox.probe(SourceSpec(url=url), policy, timeout_s))


def decode(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return asyncio.run(sandbox.decode_image(data))


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b""
    for name, data in (head, *chunks, (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg(width: int, height: int) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def test_a_file_is_probed(policy: UrlPolicy) -> None:
    make_clip(policy.media_root / "clip.mp4", audio=True, frames=10)
    expected = SourceInfo(codec="h264", width=320, height=240, fps=25.0, audio_codec="aac", decoder="h264")
    assert probe("file:clip.mp4", policy) == expected.model_copy(update={"webrtc_copy": True})


def test_errors_come_back_as_they_were(policy: UrlPolicy) -> None:
    with pytest.raises(StreamError) as missing:
        probe("file:none.mp4", policy)
    assert missing.value.code == "not_found"
    with pytest.raises(InvalidSpec) as pattern:
        probe("testsrc://?fps=0", policy)
    assert pattern.value.field == "source.url"
    with pytest.raises(ForbiddenAddress):
        probe("http://169.254.169.254/", policy)
    with pytest.raises(InvalidSpec):
        probe("gopher://host/", policy)


def test_a_child_reaches_a_server_with_its_credentials_and_never_shows_them(policy: UrlPolicy) -> None:
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    while request := connection.recv(65536):
                        requests.append(request)
                        number = request.lower().partition(b"cseq: ")[2].partition(b"\r")[0]
                        challenge = b'WWW-Authenticate: Basic realm="camera"\r\n'
                        connection.sendall(b"RTSP/1.0 401 No\r\nCSeq: " + number + b"\r\n" + challenge + b"\r\n")
                    return

        server = threading.Thread(target=refuse)
        server.start()
        with pytest.raises(StreamError) as caught:
            probe(f"rtsp://user:s3cret@127.0.0.1:{listener.getsockname()[1]}/x", policy)
        server.join(5)
    assert caught.value.code == "auth_failed"
    assert "s3cret" not in str(caught.value)
    assert any(b"dXNlcjpzM2NyZXQ=" in request for request in requests), "the password has reached the server"


def test_a_child_gets_the_secrets_of_path_and_query(policy: UrlPolicy) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hear() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536))

        server = threading.Thread(target=hear)
        server.start()
        with pytest.raises(StreamError):
            probe(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/user=a&password=s3cret?a=1;token=t0ken", policy)
        server.join(5)
    assert b"/user=a&password=s3cret?a=1;token=t0ken" in asked[0]


def test_a_hanging_server_is_left_in_time(policy: UrlPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://user:s3cret@127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        with pytest.raises(StreamError) as caught:
            probe(url, policy, 1)
        assert caught.value.code == "timeout"
        assert time.monotonic() - began < 3.5
        monkeypatch.setattr(sandbox, "START_S", -29.8)  # the child itself would wait for 30 s
        began = time.monotonic()
        with pytest.raises(StreamError) as killed:
            probe(url, policy, 30)
        assert time.monotonic() - began < 1.5
    assert killed.value.code == "timeout"
    assert "s3cret" not in f"{caught.value}{killed.value}"


def test_a_cancelled_probe_ends_its_child(policy: UrlPolicy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(5)

        async def scenario() -> None:
            url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
            task = asyncio.create_task(sandbox.probe(SourceSpec(url=url), policy, 30))
            connection, _ = await asyncio.to_thread(silent.accept)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            connection.settimeout(5)
            with connection:
                while connection.recv(65536):
                    pass  # ends where the child is gone

        asyncio.run(scenario())


def test_more_probes_than_children_take_turns(policy: UrlPolicy) -> None:
    make_clip(policy.media_root / "clip.mp4", frames=5)

    async def scenario() -> list[SourceInfo]:
        spec = SourceSpec(url="file:clip.mp4")
        return await asyncio.gather(*(sandbox.probe(spec, policy, 20) for _ in range(sandbox.MAX_CHILDREN + 2)))

    assert len(asyncio.run(scenario())) == sandbox.MAX_CHILDREN + 2


def test_probes_that_hang_hold_up_no_image_and_only_so_many_wait(policy: UrlPolicy) -> None:
    async def scenario(url: str) -> None:
        spec = SourceSpec(url=url)
        most = sandbox.MAX_CHILDREN + sandbox.MAX_WAITING_PROBES
        hanging = [asyncio.create_task(sandbox.probe(spec, policy, 60)) for _ in range(most)]
        await asyncio.sleep(0)  # all of them are in their places
        with pytest.raises(Overloaded, match="8 probes"):
            await sandbox.probe(spec, policy, 60)
        assert (await sandbox.decode_image(jpeg(64, 48))).shape == (48, 64, 3)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        with pytest.raises(StreamError):  # there is room again
            await sandbox.probe(SourceSpec(url="file:none.mp4"), policy, 20)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(asyncio.wait_for(scenario(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"), 40))


def test_images_are_decoded() -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :, 2] = 200
    for suffix in (".png", ".jpg"):
        pixels = decode(cv2.imencode(suffix, picture)[1].tobytes())
        assert pixels.shape == (48, 64, 3)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - picture).max() < 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\xff" * 21_000_000, "20 MB"),
        (b"GIF89a" + b"\0" * 100, "JPEG or a PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "JPEG or a PNG"),
        (png(30_000, 30_000), "megapixels"),
        (png(2**31 - 1, 2**31 - 1), "megapixels"),
        (png(0, 10), "damaged"),
        (png(10, 10, (b"acTL", b"\0" * 8)), "animated"),
        (jpeg(64, 48)[:40], "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff\xe0\0\0" * 50, "damaged"),
    ],
)
def test_unusable_images_are_refused_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        decode(data)
    assert words in caught.value.message
    assert caught.value.field == "image"
    assert "\n" not in caught.value.message


def test_a_jpeg_that_claims_gigapixels_is_not_decoded() -> None:
    data = bytearray(jpeg(64, 48))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    with pytest.raises(InvalidSpec, match="megapixels"):
        decode(bytes(data))


def test_a_large_image_within_the_limits_is_decoded() -> None:
    assert decode(jpeg(8000, 6000)).shape == (6000, 8000, 3)

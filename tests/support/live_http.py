"""Cameras that misbehave: live video over HTTP, made frame by frame as the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av

from deployments.streams.media.pacing import Pacer
from tests.support.media import frame

_ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "g": "12"}),
    "hevc": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none:keyint=12"}),
}
_BASE = Fraction(1, 90_000)
Draw = Callable[[int, int, int], av.VideoFrame]


@dataclass(frozen=True)
class Part:
    """Some seconds of video of one kind; of ``junk`` nothing can be decoded."""

    frames: int
    size: tuple[int, int] = (320, 240)
    fps: int = 25
    codec: str = "h264"
    junk: bool = False


class _Written:
    """A file for PyAV that can't seek, and gives what was written since."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def units(*parts: Part, form: str = "mpegts", draw: Draw = frame) -> Iterator[tuple[int, bytes]]:
    """The parts one after the other as one stream: when each piece is due, in ticks of 1/90000 s, and its bytes."""
    began = 0
    number = 0
    for part in parts:
        buffer = _Written()
        name, options = _ENCODERS[part.codec]
        with av.open(buffer, "w", format=form, options={"flush_packets": "1", "max_delay": "0"}) as muxer:
            stream: Any = muxer.add_stream(name, part.fps, options=options)
            stream.width, stream.height = part.size
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _BASE
            for index in range(part.frames):
                picture = draw(number, *part.size)
                picture.pts, picture.time_base = began + index * 90_000 // part.fps, _BASE
                for packet in stream.encode(picture):
                    muxer.mux_one(_junk(packet) if part.junk else packet)
                yield int(picture.pts or 0), buffer.taken()
                number += 1
            muxer.mux(stream.encode(None))
        yield began + part.frames * 90_000 // part.fps, buffer.taken()
        began += part.frames * 90_000 // part.fps


def _junk(packet: Any) -> Any:
    """An H.264 key frame's header, and noise."""
    spoilt: Any = av.Packet(b"\x00\x00\x00\x01\x09\xf0\x00\x00\x00\x01\x65" + bytes([0xA5, 0x5A, 0x93]) * 300)
    spoilt.stream, spoilt.time_base = packet.stream, packet.time_base
    spoilt.pts, spoilt.dts = packet.pts, packet.dts
    return spoilt


class LiveHttp(ThreadingHTTPServer):
    """Sends the same pieces to every client, each when it is due, and then nothing more; `stop` ends all."""

    daemon_threads = True

    def __init__(self, pieces: Callable[[], Iterator[tuple[int, bytes]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pieces = pieces
        self.clients = 0
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/live"

    def __enter__(self) -> LiveHttp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is none."""


class _Handler(BaseHTTPRequestHandler):
    server: LiveHttp

    def do_GET(self) -> None:
        self.server.clients += 1
        self.send_response(200)
        self.end_headers()
        pacer = Pacer(self.server.stopped)
        for due, data in self.server.pieces():
            if not pacer.wait(due, _BASE):
                return
            self.wfile.write(data)
            self.wfile.flush()
        self.server.stopped.wait()

    def log_message(self, *args: object) -> None:
        """Nothing to say."""

"""The near end of a `relay` process: starts it, feeds it packets with a time limit, and hears what it reports."""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import av

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.media import errors
from deployments.streams.media.packets import EncodedPacket

OPEN_TIMEOUT_S = 10.0
"""From the first packet until the far end has taken the connection."""

STALL_TIMEOUT_S = 10.0
"""How long a connection that stands may take no data."""

_AT_ONCE = {"flush_packets": "1", "max_interleave_delta": "100000"}
"""Each packet goes out when it comes, and video waits for sound that stays away for 0.1 s at most (microseconds)."""

_FROM_ZERO = {"avoid_negative_ts": "make_zero"}
"""The first packet gets time 0, as players show a gap before a later one; the distances stay."""

_BY_SCHEME: dict[str, tuple[str, dict[str, str]]] = {
    "rtsp": ("rtsp", {"rtsp_transport": "tcp"}),
    "rtsps": ("rtsp", {"rtsp_transport": "tcp"}),
    "rtmp": ("flv", _FROM_ZERO | {"flvflags": "no_duration_filesize"}),
    "rtmps": ("flv", _FROM_ZERO | {"flvflags": "no_duration_filesize"}),
    "srt": ("mpegts", {}),
    "whip+http": ("whip", {}),
    "whip+https": ("whip", {}),
}
_PROGRAMS = {"whip": "deployments.streams.webrtc.publish"}
"""What sends where FFmpeg does not."""

_BY_SUFFIX: dict[str, tuple[str, dict[str, str]]] = {
    # Fragments: a crash costs the last GOP at most, and a file that is written for weeks takes no memory, where the
    # index of a plain MP4 takes 72 bytes a frame until it is closed. The delayed header lets sound and video begin at
    # different times.
    ".mp4": ("mp4", _FROM_ZERO | {"movflags": "frag_keyframe+delay_moov"}),
    ".m3u8": (
        "hls",
        {"hls_time": "2", "hls_list_size": "6", "hls_flags": "delete_segments+append_list+independent_segments"},
    ),
}


SHOWN_AFTER = struct.Struct(">q")
"""The end of each packet on the way to a relay: pts less dts, in nanoseconds, as NUT has time bases of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a relay sends to; ``url`` is what FFmpeg opens, credentials included: never log it.

    ``proxy`` is what FFmpeg connects through where it speaks TLS, ``folder`` a descriptor that ``url`` goes by;
    ``private`` is that of `Way`.
    """

    url: str
    format: str
    options: dict[str, str]
    proxy: str | None = None
    folder: int | None = None
    private: bool = True


def target_of(url: str) -> Target:
    """Container and options for ``url``, a URL or the path of a file.

    Raises:
        StreamError: `CODEC_UNSUPPORTED`, no output of this kind.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    known = _BY_SCHEME.get(scheme.lower()) if scheme else _BY_SUFFIX.get(PurePosixPath(url).suffix.lower())
    if known is None:
        raise StreamError(
            StreamErrorCode.CODEC_UNSUPPORTED,
            "No output of this kind: use rtsp, rtmp, srt or whip+https, or a file that ends in .mp4 or .m3u8.",
        )
    container, options = known
    return Target(url, container, _AT_ONCE | options)


class Sink:
    """One connection to ``target``; used by one thread, only `kill` may come from another.

    Args:
        video, audio: template streams; ``audio`` is left out where it can't be carried.

    Attributes:
        wants_key_frame: a receiver asked for one; whoever answers that takes it back.

    Raises:
        OSError: no process could be started.
    """

    def __init__(self, target: Target, video: Any, audio: Any | None) -> None:
        self.left_out: str | None = None
        self.is_open = False
        self.wants_key_frame = False
        self._place = errors.place(target.url)
        self._heard = bytearray()
        self._error: StreamError | None = None
        self._opened_by = time.monotonic() + OPEN_TIMEOUT_S
        self._nut = _Nut(video, audio)
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAMS.get(target.format, "deployments.streams.media.relay")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=() if target.folder is None else (target.folder,),
            env=_environment(target.proxy) | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the parent, which ends its outputs in order
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._first = json.dumps(asdict(target)).encode() + b"\n"

    def send(self, packet: EncodedPacket) -> None:
        """Hand one packet on; waits where the far end is slow.

        Raises:
            StreamError: the far end refused, went away, or took nothing for too long.
        """
        self._push(self._first + self._nut.muxed(packet))
        self._first = b""
        self.check()

    def check(self) -> None:
        """Read what the process reported since.

        Raises:
            StreamError: it failed, or did not open in time.
        """
        self._hear()
        if self._error is not None:
            raise self._error
        if not self.is_open and time.monotonic() > self._opened_by:
            raise errors.timed_out(f"{self._place}/")

    def finish(self, seconds: float) -> None:
        """Write the end of the container and wait for the process; at most ``seconds``, then it is killed."""
        deadline = time.monotonic() + seconds
        try:
            self._push(self._nut.end(), deadline)
            self._stdin.close()
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except (StreamError, subprocess.TimeoutExpired):
            self.kill()

    def kill(self) -> None:
        """End the process whatever it does; `send` then fails. Harmless once it has ended."""
        self._process.kill()

    def close(self) -> None:
        """`kill`, and free what belongs to the process."""
        self.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def _push(self, data: bytes, deadline: float | None = None) -> None:
        view = memoryview(data)
        limit = deadline or (time.monotonic() + STALL_TIMEOUT_S if self.is_open else self._opened_by)
        poll = select.poll()
        poll.register(self._stdin, select.POLLOUT)
        poll.register(self._stdout, select.POLLIN)
        while view:
            try:
                view = view[os.write(self._stdin.fileno(), view) :]
                continue
            except BlockingIOError:
                pass
            except BrokenPipeError:
                raise self._ended() from None
            was_open = self.is_open
            if not poll.poll(max(0.0, limit - time.monotonic()) * 1000):
                raise self._late()
            self._hear()
            if self._error is not None:
                raise self._error
            if self.is_open and not was_open and deadline is None:
                limit = time.monotonic() + STALL_TIMEOUT_S

    def _hear(self) -> None:
        while True:
            try:
                heard = os.read(self._stdout.fileno(), 4096)
            except BlockingIOError:
                break
            if not heard:
                self._error = self._error or StreamError(StreamErrorCode.ENDED, f"{self._place}: The output broke off.")
                break
            self._heard += heard
        while b"\n" in self._heard:
            line, _, rest = bytes(self._heard).partition(b"\n")
            self._heard = bytearray(rest)
            event = json.loads(line)
            if event["event"] == "key":
                self.wants_key_frame = True
            elif event["event"] == "open":
                self.is_open, self.left_out = True, event["left_out"]
            else:
                self._error = StreamError(StreamErrorCode(event["code"]), event["message"])

    def _ended(self) -> StreamError:
        """Why the process closed its input: its last words, which may take a moment longer to come."""
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while self._error is None and poll.poll(1000):
            self._hear()
        return self._error or StreamError(StreamErrorCode.ENDED, f"{self._place}: The output broke off.")

    def _late(self) -> StreamError:
        if not self.is_open:
            return errors.timed_out(f"{self._place}/")
        return StreamError(StreamErrorCode.STALLED, f"{self._place}: The receiver takes no data: check its network.")


def _environment(proxy: str | None) -> dict[str, str]:
    """That of the process, where FFmpeg finds its proxy; PyAV hands on no options when it connects an output."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in ("http_proxy", "no_proxy")}
    return kept if proxy is None else kept | {"http_proxy": proxy}


class _Nut:
    """Packets as bytes of a NUT stream."""

    def __init__(self, video: Any, audio: Any | None) -> None:
        self._buffer = _Buffer()
        # Nobody seeks in a pipe, and either end keeps 190 bytes of each syncpoint, that is of each key frame, for ever.
        options = _AT_ONCE | {"syncpoints": "none", "strict": "experimental"}
        self._container = av.open(self._buffer, "w", format="nut", options=options)
        self._video: Any = self._container.add_stream_from_template(video, opaque=True)
        self._audio: Any = None
        if audio is not None:
            self._audio = self._container.add_stream_from_template(audio, opaque=True)
        self._last: dict[bool, int] = {}

    def muxed(self, packet: EncodedPacket) -> bytes:
        """What to send for ``packet``; nothing for one that goes back in time or belongs to no stream."""
        stream = self._audio if packet.audio else self._video
        if stream is None or packet.dts <= self._last.get(packet.audio, packet.dts - 1):
            return b""
        self._last[packet.audio] = packet.dts
        # NUT keeps one time: that in which packets are sent. When a picture is shown stands behind its data.
        after_ns = round((packet.pts - packet.dts) * packet.time_base * 1_000_000_000)
        copy: Any = av.Packet(packet.data + SHOWN_AFTER.pack(after_ns))
        copy.stream, copy.time_base = stream, packet.time_base
        copy.pts, copy.dts, copy.duration = packet.dts, packet.dts, packet.duration
        copy.is_keyframe = packet.key_frame
        self._container.mux_one(copy)
        return self._buffer.taken()

    def end(self) -> bytes:
        """The rest of the stream."""
        self._container.close()
        return self._buffer.taken()


class _Buffer:
    """A file for PyAV to write to, which can't seek."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last call."""
        data = bytes(self._data)
        self._data.clear()
        return data

"""Reads packets on a thread of its own, so that whoever waits for them can be interrupted at any moment.

PyAV has no call that interrupts a blocked read, and a read that is cut by a short timeout loses its place in the
connection. So the thread blocks instead of the caller: an interrupted caller leaves at once, and the thread ends by
itself at FFmpeg's read timeout at the latest.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import av
from av.container import InputContainer

from deployments.errors import RaysightError, StreamError, StreamErrorCode
from deployments.streams.media.errors import ReadError, ended, place, translate
from deployments.streams.media.items import Packet
from deployments.streams.media.timeline import fraction

MAX_WAITING = 64
"""Packets read ahead at most; then the thread waits, and the sender is slowed down by its connection."""

READ_ON_AT = MAX_WAITING // 2
"""Packets left at which a thread that waits for room goes on: waking it for each packet costs more than the packet."""

DECODER_THREADS = 2
"""Slices of one picture decoded at once: helps a 4K stream, and a host with many streams is not flooded."""

MAX_FPS = 240

CLOSE_WAIT_S = 0.5
"""How long closing waits for the thread, which mostly suffices for the goodbye to the camera."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that stands, or the next round of a looped file."""

    container: InputContainer
    video: av.VideoStream
    audio: av.AudioStream | None
    audio_template: av.AudioStream | None
    video_template: Any
    fps: Fraction | None


Message: TypeAlias = "Opened | Packet | RaysightError"


class PacketReader:
    """Opens a container and reads it to its end, or again and again.

    Args:
        connect: opens the container; runs on the thread, resolves names there too.
        url: for messages only.
        loop: open anew at the end.
    """

    def __init__(self, connect: Callable[[], InputContainer], url: str, *, loop: bool) -> None:
        self.stopped = threading.Event()
        self._connect = connect
        self._url = url
        self._loop = loop
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._closed = False
        self._done = False
        self._container: InputContainer | None = None
        self._thread = threading.Thread(target=self._run, name="source-reader", daemon=True)
        self._thread.start()

    def get(self, deadline: float) -> Message | None:
        """The next message; None when stopped or past ``deadline`` (monotonic seconds)."""
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._waiting or self.stopped.is_set(), max(0.0, deadline - time.monotonic())
            )
            if not ready or self.stopped.is_set():
                return None
            message = self._waiting.popleft()
            if len(self._waiting) == READ_ON_AT:
                self._changed.notify_all()
            return message

    def stop(self) -> None:
        """End every wait; from any thread."""
        with self._changed:
            self.stopped.set()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and let the container go once nobody uses it; only from the thread that decodes."""
        self.stop()
        self._thread.join(CLOSE_WAIT_S)
        with self._changed:
            self._closed = True
            done = self._done
            self._waiting.clear()
        if done:
            self._close_container()

    def _run(self) -> None:
        try:
            self._read()
        except RaysightError as error:
            self._put(error)
        except ReadError as error:
            self._put(translate(error, self._url, "open" if self._container is None else "read"))
        finally:
            self._put(ended(self._url))
            with self._changed:
                self._done = True
                closed = self._closed
            if closed:
                self._close_container()

    def _read(self) -> None:
        while not self.stopped.is_set():
            container = self._connect()
            self._container = container
            opened = _survey(container, self._url)
            if not self._put(opened):
                return
            streams: list[Any] = [opened.video, *([opened.audio] if opened.audio is not None else [])]
            for packet in container.demux(streams):
                if not self._put(packet):
                    return
            if not self._loop:
                return

    def _put(self, message: Message) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < MAX_WAITING or self.stopped.is_set())
            if self.stopped.is_set():
                return False
            self._waiting.append(message)
            self._changed.notify_all()
            return True

    def _close_container(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()


def _survey(container: InputContainer, url: str) -> Opened:
    """Which streams to read, with the decoder set to add no delay."""
    video = container.streams.best("video")
    if not isinstance(video, av.VideoStream):
        raise StreamError(StreamErrorCode.CODEC_UNSUPPORTED, f"{place(url)}: The source has no video.")
    context: Any = video.codec_context
    if context is None:
        raise StreamError(
            StreamErrorCode.CODEC_UNSUPPORTED,
            f"{place(url)}: No decoder for this video: set the camera to H.264, HEVC or MJPEG.",
        )
    context.thread_type = "SLICE"  # frame threads would add a frame of delay each
    context.thread_count = 1 if context.is_hwaccel else DECODER_THREADS
    audio = container.streams.best("audio")
    audio = audio if isinstance(audio, av.AudioStream) and audio.codec_context is not None else None
    sound = _template(audio) if audio is not None else None
    return Opened(container, video, audio, sound, kept(video), _fps(video))


def kept(stream: Any) -> Any:
    """A stream with the same parameters that does not end with the container of ``stream``."""
    return av.open("-", "w", format="null").add_stream_from_template(stream, opaque=True)


def _template(audio: av.AudioStream) -> av.AudioStream | None:
    """A copy of the stream's parameters in a container of its own: the source's die with its connection."""
    keeper = av.open(io.BytesIO(), "w", format="nut")
    try:
        return keeper.add_stream_from_template(audio)
    except ValueError:  # a codec that no container takes: the video goes on without audio
        return None


def _fps(video: av.VideoStream) -> Fraction | None:
    for rate in (video.average_rate, video.guessed_rate):
        value = fraction(rate)
        if value is not None and value <= MAX_FPS:
            return value
    return None

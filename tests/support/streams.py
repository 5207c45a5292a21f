"""Pictures whose detections are known, and a source and a publisher that tests hold in their hands."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from deployments.streams.frame import Picture
from deployments.streams.media.items import VideoItem
from deployments.streams.media.picture import AvPicture
from deployments.streams.spec import OutputSpec, OutputStatus, SourceInfo, StreamSpec

WIDTH, HEIGHT, BLOCK = 64, 48, 8
PLACES = (WIDTH // BLOCK) * (HEIGHT // BLOCK)
TIME_BASE = Fraction(1, 90_000)
INFO = SourceInfo(codec="rawvideo", width=WIDTH, height=HEIGHT, fps=25.0)


def picture(number: int) -> AvPicture:
    """Dark but for one block, the place of which depends on ``number``; see `box`."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    left, top, right, bottom = box(number)
    for index, plane in enumerate(frame.planes):
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        samples[:] = 16 if index == 0 else 128
        if index == 0:
            samples[top:bottom, left:right] = 235
    return AvPicture(frame)


def box(number: int) -> list[int]:
    """Where `FakeEngine` finds the one object of picture ``number``, in its pixels."""
    top, left = (BLOCK * side for side in divmod(number % PLACES, WIDTH // BLOCK))
    return [left, top, left + BLOCK, top + BLOCK]


def item(number: int, *, fps: int = 25, at: Picture | None = None) -> VideoItem:
    """Frame ``number`` of a source with ``fps`` frames a second, decoded now."""
    shown: Any = at or picture(number)
    return VideoItem(shown, number * 90_000 // fps, TIME_BASE, time.time(), time.monotonic())


def spec(**changes: Any) -> StreamSpec:
    """A stream of a camera, with what a test changes of it."""
    return StreamSpec.model_validate({"id": "gate", "source": {"url": "rtsp://camera/1"}, **changes})


class HandFedSource:
    """Gives what the test feeds it: items, or an exception, which it raises."""

    audio = None

    def __init__(self, info: SourceInfo = INFO) -> None:
        self.info = info
        self.interrupted = threading.Event()
        self.closed = threading.Event()
        self._fed: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def feed(self, *things: Any) -> None:
        for thing in things:
            self._fed.put(thing)

    def items(self) -> Iterator[Any]:
        while not self.interrupted.is_set():
            thing = self._fed.get()
            if isinstance(thing, Exception):
                raise thing
            if thing is not None:
                yield thing

    def interrupt(self) -> None:
        self.interrupted.set()
        self._fed.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed.set()


class RecordingPublisher:
    """Keeps what it is given; `held` cleared makes it slow, ``broken`` makes it fail."""

    def __init__(self, outputs: tuple[OutputSpec, ...] = (), *, annotated: bool = False) -> None:
        self.outputs = outputs
        self.active = True
        self.wants_annotated = annotated
        self.slates: list[tuple[int, Any]] = []
        self.written: list[tuple[int, float, Any, Any]] = []
        self.audio: list[Any] = []
        self.packets: list[Any] = []
        self.held = threading.Event()
        self.held.set()
        self.broken: set[int] = set()
        self.closed = threading.Event()
        self.written_after_close = 0

    @property
    def pts(self) -> list[int]:
        return [pts for pts, *_ in self.written]

    def write(self, pts: int, plain: Any, annotated: Any, on_sent: Any = None) -> int:
        assert self.held.wait(20)
        if pts in self.broken:
            raise RuntimeError("this picture can't be encoded")
        self.written_after_close += self.closed.is_set()
        self.written.append((pts, time.monotonic(), plain, annotated))
        if on_sent is not None:
            on_sent(time.monotonic())
        return 1

    @property
    def wants_slate(self) -> bool:
        return any(output.slate for output in self.outputs)

    def write_slate(self, pts: int, picture: Any) -> int:
        self.written_after_close += self.closed.is_set()
        self.slates.append((pts, picture))
        return 1

    def write_packets(self, packets: tuple[Any, ...]) -> None:
        self.packets += packets

    def write_audio(self, item: Any) -> None:
        if item == "broken":
            raise RuntimeError("this packet can't be sent")
        self.audio.append(item)

    def update(self, outputs: tuple[OutputSpec, ...]) -> None:
        assert not self.closed.is_set()
        self.outputs = outputs

    def statuses(self) -> tuple[OutputStatus, ...]:
        return tuple(OutputStatus(url=output.url, state="online") for output in self.outputs)

    def close(self) -> None:
        self.closed.set()

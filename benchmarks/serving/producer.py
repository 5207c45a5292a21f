"""One stream's end of a benchmark: the same frames at the same rate, handed over by each of the paths."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ray import serve

from benchmarks.serving import first_version
from deployments.detector.attaching.actor import BrokeredAttachment
from deployments.detector.port import DetectRequest, PendingReply
from deployments.errors import DetectorUnavailable
from deployments.link.attacher import Attacher
from deployments.link.grant import Grant
from deployments.link.pending import FrameDropped
from deployments.link.pictures import Rows
from deployments.streams.inflight import MAX_IN_FLIGHT
from engines.letterbox import Letterbox
from engines.types import UInt8Array

PICTURES = 4
"""Different frames of one stream, in turn."""

CAMERA = (1920, 1080)
"""The pictures that were letterboxed into the frames."""

ATTACH_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 5.0


@dataclass
class Tally:
    """What became of one stream's frames.

    Attributes:
        latencies_s: from handing a frame over to its detections, of the frames that got some.
        batches: 1 / batch size, summed over those frames: the stream's part in the number of batches.
        dropped: the others by reason.
    """

    latencies_s: list[float] = field(default_factory=list)
    batches: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)

    def done(self, seconds: float, batch_size: int) -> None:
        """A frame got its detections."""
        self.latencies_s.append(seconds)
        self.batches += 1 / batch_size


Settled = Callable[[float, int, str | None], None]
"""Called once for each frame: seconds since it was handed over, size of its batch, or why it was dropped."""


class Path(Protocol):
    """A way to the engine."""

    def place(self) -> UInt8Array | None:
        """Where the next frame may be made; None where any array will do."""
        ...

    def hand_over(self, image: UInt8Array, rows: Rows, settled: Settled) -> None:
        """Send a frame and return at once; what is outside of ``rows`` is padding."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Nowhere:
    """The producers alone, whose cost isn't serving's."""

    def place(self) -> UInt8Array | None:
        return None

    def hand_over(self, image: UInt8Array, rows: Rows, settled: Settled) -> None:
        settled(0.0, 1, None)

    def close(self) -> None:
        pass


class OverTcp:
    """An attachment whose client can't reach the replica's Unix socket, as one on another node."""

    def __init__(self, attachment: BrokeredAttachment) -> None:
        self._attachment = attachment

    def grant(self) -> Grant:
        return dataclasses.replace(self._attachment.grant(), local="nobody-listens-here")

    def cancel(self) -> None:
        self._attachment.cancel()


class Link:
    """The frame link, as a stream uses it."""

    def __init__(self, stream: str, *, tcp: bool) -> None:
        def attach(key: bytes, to: str) -> BrokeredAttachment | OverTcp:
            attachment = BrokeredAttachment(stream, key, to)
            return OverTcp(attachment) if tcp else attachment

        self._attacher = Attacher(attach)
        self._attacher.info(ATTACH_TIMEOUT_S)

    def place(self) -> UInt8Array | None:
        return self._attacher.place()

    def hand_over(self, image: UInt8Array, rows: Rows, settled: Settled) -> None:
        started = time.perf_counter()
        try:
            reply = self._attacher.submit(DetectRequest(image, None, rows=rows))
        except DetectorUnavailable:
            settled(0.0, 1, "no_detector")
            return
        reply.when_settled(lambda: _read(reply, time.perf_counter() - started, settled))

    def close(self) -> None:
        self._attacher.close()


def _read(reply: PendingReply, seconds: float, settled: Settled) -> None:
    try:
        settled(seconds, reply.result(0.0).batch_size, None)
    except FrameDropped as drop:
        settled(seconds, 1, str(drop.reason))
    except DetectorUnavailable:
        settled(seconds, 1, "no_detector")


class ServeRequests:
    """Each frame as the argument of a Serve request."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._handle: Any = asyncio.run_coroutine_threadsafe(self._connect(), self._loop).result(ATTACH_TIMEOUT_S)

    async def _connect(self) -> Any:
        handle = serve.get_deployment_handle(first_version.DEPLOYMENT, app_name=first_version.APPLICATION)
        await handle.info.remote()
        return handle

    def place(self) -> UInt8Array | None:
        return None

    def hand_over(self, image: UInt8Array, rows: Rows, settled: Settled) -> None:
        asyncio.run_coroutine_threadsafe(self._request(image, settled), self._loop)

    async def _request(self, image: UInt8Array, settled: Settled) -> None:
        started = time.perf_counter()
        try:
            _, batch_size = await self._handle.detect.remote(image)
        except Exception as error:  # noqa: BLE001 - whatever it is, the frame has no detections
            settled(0.0, 1, type(error).__name__)
        else:
            settled(time.perf_counter() - started, batch_size, None)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Producer:
    """A Ray actor: one stream that hands frames over at a fixed rate, whatever becomes of them (open loop)."""

    def __init__(self, number: int, width: int, height: int) -> None:
        self._stream = f"stream-{number}"
        letterbox = Letterbox.fit(*CAMERA, width, height, "centre", 114)
        shape = (PICTURES, letterbox.inner_height, letterbox.inner_width, 3)
        inner = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        self._pictures = [letterbox.place(picture) for picture in inner]
        self._rows = letterbox.top, letterbox.inner_height
        self._canvases = np.empty((MAX_IN_FLIGHT, height, width, 3), np.uint8)
        self._path: Path = Nowhere()

    def choose(self, path: str) -> None:
        """Go over ``path`` from now on: ``none``, ``serve_requests``, ``link`` or ``link_tcp``."""
        self._path.close()
        if path == "none":
            self._path = Nowhere()
        elif path == "serve_requests":
            self._path = ServeRequests()
        else:
            self._path = Link(self._stream, tcp=path == "link_tcp")

    def _frame(self, number: int) -> UInt8Array:
        """Make a frame, as a scaler does: by writing all of its pixels, wherever the path wants them."""
        place = self._path.place()
        frame = self._canvases[number % MAX_IN_FLIGHT] if place is None else place
        np.copyto(frame, self._pictures[number % PICTURES])
        return frame

    def run(self, fps: float, start: float, seconds: float) -> Tally:
        """Hand frames over from ``start`` on, a monotonic time, each stream's at its own part of a frame's time.

        Only replies that come within ``seconds`` count.
        """
        tally, out, lock, until = Tally(), 0, threading.Lock(), start + seconds
        idle: Future[None] = Future()
        ended = False

        def settled(taken_s: float, batch_size: int, reason: str | None) -> None:
            nonlocal out
            with lock:
                out -= 1
                if reason is None:
                    if time.monotonic() < until:
                        tally.done(taken_s, batch_size)
                else:
                    tally.dropped[reason] += 1
                if ended and not out and not idle.done():
                    idle.set_result(None)

        pause = threading.Event()
        phase = np.random.default_rng().random()
        for number in range(round(fps * seconds)):
            pause.wait(max(0.0, start + (number + phase) / fps - time.monotonic()))
            with lock:
                full = out >= MAX_IN_FLIGHT
                out += not full
                tally.dropped["superseded"] += full
            if not full:
                self._path.hand_over(self._frame(number), self._rows, settled)
        with lock:
            ended = True
            if not out:
                idle.set_result(None)
        idle.result(SETTLE_TIMEOUT_S)
        return tally

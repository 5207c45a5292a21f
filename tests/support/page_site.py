"""The page and its API under a real server, over ports in memory: streams that move, without Ray and cameras."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cv2
import numpy as np
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.streams.history import HistoryEntry
from deployments.streams.spec import (
    DropCounts,
    FrameCounts,
    LastError,
    Percentiles,
    SourceInfo,
    SourceSpec,
    StreamSpec,
    StreamState,
)
from deployments.streams.tracking.spec import ZoneStatus
from serve_app.api.application import create_api
from serve_app.auth.doors import Doors
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams, Picture

SIZE = (640, 360)
FPS = 12.5
STAGES = {"decode": 4.0, "letterbox": 1.0, "slot": 0.4, "wait": 3.0, "infer": 9.0, "whole": 17.0}

Result = TypeVar("Result")


@dataclass
class Load:
    """Requests that a server has open: now, and at most since a test last reset it."""

    open: int = 0
    most: int = 0
    paths: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Count anew."""
        self.most = self.open
        self.paths.clear()


class _Counting:
    """ASGI middleware that knows which requests are open."""

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self._app = app
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._load.open += 1
        self._load.most = max(self._load.most, self._load.open)
        self._load.paths.append(scope["path"])
        try:
            await self._app(scope, receive, send)
        finally:
            self._load.open -= 1


class PageSite:
    """A running server and what lies behind it; its streams move as long as it runs.

    Args:
        doors: None where nobody is asked for a key.
    """

    def __init__(self, doors: Doors | None = None) -> None:
        self._doors = doors
        self.streams = MemoryStreams()
        self.detector = MemoryDetector()
        self.media = MemoryMedia()
        self.load = Load()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._stopped: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        """Have something done on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(30)

    def add(self, stream_id: str, **spec: Any) -> None:
        """A stream that is online."""

        async def added() -> None:
            source = SourceSpec(url=f"rtsp://10.0.0.7/{stream_id}")
            await self.streams.create(StreamSpec.model_validate({"id": stream_id, "source": source, **spec}))
            await self.streams.set_status(stream_id, **_online(self.streams.streams[stream_id].view.spec, 0))

        self.run(added())

    def change(self, stream_id: str, **status: Any) -> None:
        """Change what is the case with a stream."""
        self.run(self.streams.set_status(stream_id, **status))

    def breaks(self, stream_id: str, message: str) -> None:
        """The stream's source goes away, with an entry of its history."""
        error = LastError(code="connection_refused", message=message, at=time.time(), retryable=True)
        history = self.streams.streams[stream_id].history
        history.append(
            HistoryEntry(
                epoch=1,
                number=len(history) + 1,
                at=time.time() - 8,
                last_at=time.time(),
                times=3,
                state=StreamState.RECONNECTING,
                error=error,
            )
        )
        self.change(stream_id, state=StreamState.RECONNECTING, online=False, last_error=error)

    def happens(self, stream_id: str, **event: Any) -> None:
        """Something happens in a zone, on a frame that follows."""

        async def told() -> None:
            sequence = self.streams.streams[stream_id].newest + 1
            body = {"stream_id": stream_id, "sequence": sequence, "captured_at": time.time(), **event}
            await self.streams.publish(stream_id, sequence, in_zones=(json.dumps(body).encode(),))

        self.run(told())

    def clear(self) -> None:
        """No streams, no errors, nothing counted."""

        async def cleared() -> None:
            async with self.streams.changed:
                self.streams.streams.clear()
                self.streams.changed.notify_all()

        self.run(cleared())
        self.detector.available = True
        self.media.error = None
        self.media.probed.clear()
        self.load.reset()

    def start(self) -> None:
        """Returns once the server listens."""
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        """End it with all its connections."""
        assert self._stopped is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        app = create_api(self.streams, self.detector, self.media, version="0", doors=self._doors)
        config = uvicorn.Config(_Counting(app, self.load), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([self._sock]))
        moving = asyncio.create_task(self._move())
        self._loop.call_soon(self._ready.set)
        await self._stopped.wait()
        moving.cancel()
        server.should_exit = True
        await running

    async def _move(self) -> None:
        """New pictures and events for all that is online, in turns."""
        pictures, number = _pictures(), 0
        while True:
            number += 1
            for stream_id, stream in list(self.streams.streams.items()):
                if stream.view.status.state is StreamState.PENDING:
                    await self.streams.set_status(stream_id, **_online(stream.view.spec, number))
                if stream.view.status.state is not StreamState.ONLINE:
                    continue
                await self.streams.show(stream_id, Picture(number, pictures[number % len(pictures)]))
                await self.streams.publish(stream_id, stream.newest + 1)
                if number % 6 == 0:
                    await self.streams.set_status(stream_id, **_measured(number))
            await asyncio.sleep(1 / FPS)


def _online(spec: StreamSpec, number: int) -> dict[str, Any]:
    zones = tuple(ZoneStatus(name=zone.name, kind=zone.kind, since=time.time()) for zone in spec.zones)
    source = SourceInfo(codec="h264", width=SIZE[0], height=SIZE[1], fps=25.0, decoder="h264")
    return {
        "state": StreamState.ONLINE,
        "online": True,
        "source": source,
        "zones": zones,
        "since": time.time(),
        "epoch": 1,
        **_measured(number),
    }


def _measured(number: int) -> dict[str, Any]:
    swing = 1 + 0.3 * math.sin(number / 20)
    latencies = {
        name: Percentiles(p50=ms * swing, p95=ms * swing * 1.6, p99=ms * swing * 2) for name, ms in STAGES.items()
    }
    dropped = DropCounts(superseded=number // 10, stale=number // 50)
    inferred = number - dropped.superseded - dropped.stale
    frames = FrameCounts(decoded=number, inferred=inferred, dropped=dropped, published=number)
    return {
        "frames": frames,
        "latency_ms": latencies,
        "fps": {"decoded": 25.0, "inferred": 24.6, "published": 25.0},
        "detections": number * 2,
    }


def _pictures() -> list[bytes]:
    """A block that walks over a grey ramp, as JPEGs."""
    made = []
    for number in range(50):
        image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        image[:] += np.linspace(0, 100, SIZE[1], dtype=np.uint8)[:, None, None]
        left = number * (SIZE[0] - 60) // 49
        cv2.rectangle(image, (left, 120), (left + 50, 260), (60, 160, 40), 3)
        made.append(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes())
    return made


@contextmanager
def page_site(doors: Doors | None = None) -> Iterator[PageSite]:
    """A running server without streams; ends with the block."""
    site = PageSite(doors)
    site.start()
    try:
        yield site
    finally:
        site.stop()

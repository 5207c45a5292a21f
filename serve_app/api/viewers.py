"""Live views of streams for many clients: detections as server-sent events, annotated pictures as MJPEG."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.errors import StreamNotFound
from deployments.streams.events import EventBatch
from deployments.streams.webrtc.settings import SdpAnswer
from serve_app.api.fanout import GRACE_S, Broadcast, Fanout, Pace, Seats, StreamEnded, Viewer, patiently
from serve_app.api.playbacks import Playbacks
from serve_app.api.ports import JpegPicture, Streams

DELIVERIES_PER_S = 250.0
"""Pictures a second that one process hands out, over all viewers: with more viewers each gets fewer, so that the rest
of the API stays quick. Serve's proxy passes on some 1,200 chunks of 40 kB a second with one fast core to itself."""

POLL_S = 10.0
"""How long one question upstream waits for something new."""
PAUSE_S = 0.05
"""After an empty answer: a stream that answers at once with nothing is not asked in a busy loop."""
RETRY_S = 1.0
HEARTBEAT_S = 15.0
BUFFERED_EVENTS = 256
"""Ten seconds at 25 fps; beyond that a client is told that it lost some."""

_HEARTBEAT = b": still here\n\n"
_RETRY_HINT = b"retry: 2000\n\n"
_END = b'event: end\ndata: {"reason":"deleted"}\n\n'
_BOUNDARY = b"raysight-picture"

Chunk = tuple[int | None, bytes]
"""A ready piece of an event stream and the sequence in it; None for a gap."""


def _event(sequence: int, data: bytes, in_zones: tuple[bytes, ...] = ()) -> Chunk:
    """What happened in zones comes first and without an id: who loses the connection in between gets all again."""
    zones = b"".join(b"event: zone\ndata: %b\n\n" % event for event in in_zones)
    return sequence, b"%bid: %d\nevent: detections\ndata: %b\n\n" % (zones, sequence, data)


def _events(batch: EventBatch) -> list[Chunk]:
    return [_event(sequence, data, batch.in_zones.get(sequence, ())) for sequence, data in batch.events]


def _gap(reason: str, **more: int) -> bytes:
    return b"event: gap\ndata: %b\n\n" % json.dumps({"reason": reason, **more}, separators=(",", ":")).encode()


_HISTORY_LOST: Chunk = (None, _gap("history_lost"))


class LiveResponse(StreamingResponse):
    """A response without an end: it notices on any server that the client went away, and then cleans up.

    Starlette looks out for that only on servers of older ASGI versions, and on newer ones expects `send` to fail,
    which a stream that is silent never calls.
    """

    def __init__(self, content: AsyncGenerator[bytes], media_type: str, closed: Callable[[], None]) -> None:
        super().__init__(
            content, media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._content = content
        self._closed = [closed]
        self._over: list[Callable[[], Awaitable[None]]] = []

    def end_after(self, over: Callable[[], Awaitable[None]]) -> None:
        """End the response once this returns, for whatever reason."""
        self._over.append(over)

    def when_closed(self, call: Callable[[], None]) -> None:
        """Have this called too, once the response has ended."""
        self._closed.append(call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def until(over: Callable[[], Awaitable[None]]) -> None:
            await over()
            group.cancel_scope.cancel()

        ends: list[Callable[[], Awaitable[None]]] = [partial(self.listen_for_disconnect, receive), *self._over]
        try:
            async with anyio.create_task_group() as group:
                for over in ends:
                    group.start_soon(until, over)
                with contextlib.suppress(OSError):
                    await self.stream_response(send)
                group.cancel_scope.cancel()
        finally:
            for call in self._closed:
                call()
            with anyio.CancelScope(shield=True):
                await self._content.aclose()


class Viewers:
    """All live views of one process, over one subscription per stream and kind."""

    def __init__(self, streams: Streams, limit: int, grace_s: float = GRACE_S) -> None:
        self._streams = streams
        self.seats = Seats(limit)
        self.playbacks = Playbacks(streams, self.seats)
        self._events: Fanout[Chunk] = Fanout(
            self._pump_events, self.seats, capacity=BUFFERED_EVENTS, replay_newest=False, grace_s=grace_s
        )
        self._pictures: Fanout[JpegPicture] = Fanout(
            self._pump_pictures, self.seats, capacity=1, replay_newest=True, grace_s=grace_s
        )

    async def detections(self, stream_id: str, after: int | None) -> LiveResponse:
        """Detections as server-sent events, from the one after ``after`` or from now on."""
        await self._streams.get(stream_id)
        viewer, broadcast = self._events.join(stream_id)
        content = self._event_stream(stream_id, viewer, broadcast, after)
        return LiveResponse(content, "text/event-stream", viewer.leave)

    async def pictures(self, stream_id: str, fps: float) -> LiveResponse:
        """Annotated pictures, at most ``fps`` a second."""
        await self._streams.get(stream_id)
        viewer, _ = self._pictures.join(stream_id, fps)
        media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        return LiveResponse(_picture_stream(viewer), media_type, viewer.leave)

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer:
        """Video by WebRTC, annotated unless ``copied``."""
        return await self.playbacks.begin(stream_id, offer, copied, lambda: None, _always)

    async def stop_playing(self, stream_id: str, session: str) -> None:
        """End it."""
        await self.playbacks.end(stream_id, session)

    def close(self) -> None:
        """End all views; clients connect again, to another process."""
        self._events.close()
        self._pictures.close()
        self.playbacks.close()

    async def _pump_events(self, stream_id: str, broadcast: Broadcast[Chunk]) -> None:
        ask = partial(self._streams.events, stream_id)
        what = f"detections of {stream_id}"
        position = (await patiently(partial(ask, None, 0.0), what, RETRY_S)).newest
        broadcast.started.set()
        while True:
            batch = await patiently(partial(ask, position, POLL_S), what, RETRY_S)
            if batch.lost and position >= 0:  # nobody waits for what came before the first event
                broadcast.publish(_HISTORY_LOST)
            for chunk in _events(batch):
                broadcast.publish(chunk)
            position = max(position, batch.newest)
            if not batch.events:
                await asyncio.sleep(PAUSE_S)

    async def _pump_pictures(self, stream_id: str, broadcast: Broadcast[JpegPicture]) -> None:
        ask = partial(self._streams.picture, stream_id, True)
        newest: int | None = None
        pace = Pace()
        while True:
            picture = await patiently(partial(ask, newest, POLL_S), f"pictures of {stream_id}", RETRY_S)
            if picture is None:
                await asyncio.sleep(PAUSE_S)
                continue
            newest = picture.sequence
            broadcast.publish(picture)
            # No faster than anybody watches: each picture costs the stream an encoding.
            await pace.wait(min(broadcast.rate, DELIVERIES_PER_S / max(1, self.seats.taken)))

    async def _event_stream(
        self, stream_id: str, viewer: Viewer[Chunk], broadcast: Broadcast[Chunk], after: int | None
    ) -> AsyncGenerator[bytes]:
        yield _RETRY_HINT
        last = -1
        try:
            if after is not None:
                # History is asked for once the subscription stands: what is in neither would be lost unnoticed.
                while not await _is_set(broadcast.started, HEARTBEAT_S):
                    yield _HEARTBEAT
                for sequence, chunk in await self._missed(stream_id, after):
                    last = sequence if sequence is not None else last
                    yield chunk
            while True:
                item = await viewer.next(HEARTBEAT_S)
                if dropped := viewer.take_dropped():
                    yield _gap("slow_client", events=dropped)
                if item is None:
                    yield _HEARTBEAT
                elif item[0] is None or item[0] > last:
                    yield item[1]
        except (StreamEnded, StreamNotFound) as end:
            if isinstance(end, StreamNotFound) or end.deleted:
                yield _END

    async def _missed(self, stream_id: str, after: int) -> list[Chunk]:
        ask = partial(self._streams.events, stream_id, after, 0.0)
        batch = await patiently(ask, f"history of {stream_id}", RETRY_S)
        return [*([_HISTORY_LOST] if batch.lost else []), *_events(batch)]


async def _picture_stream(viewer: Viewer[JpegPicture]) -> AsyncGenerator[bytes]:
    # The boundary follows each picture at once: browsers show a part only when they see the next boundary.
    yield b"--%b\r\n" % _BOUNDARY
    pace = Pace()
    with contextlib.suppress(StreamEnded):
        while True:
            picture = await viewer.next(HEARTBEAT_S)
            if picture is not None:
                head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture.jpeg)
                yield b"%b%b\r\n--%b\r\n" % (head, picture.jpeg, _BOUNDARY)
                await pace.wait(viewer.rate)


async def _always() -> bool:
    return True


async def _is_set(event: asyncio.Event, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()

"""Live views over a real server and real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import uvicorn

from deployments.streams.spec import SourceSpec, StreamSpec
from serve_app.api.application import create_api
from tests.support.api_ports import HISTORY, MemoryDetector, MemoryMedia, MemoryStreams, Picture

DETECTIONS = "/v1/streams/gate/detections"


class Server:
    """The API under uvicorn on a free port, with one stream."""

    def __init__(self, streams: MemoryStreams, sock: socket.socket, client: httpx.AsyncClient) -> None:
        self.streams = streams
        self.address: tuple[str, int] = sock.getsockname()
        self.client = client

    @asynccontextmanager
    async def follow(self, path: str = DETECTIONS, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
        """The events of a path, as they come; comments are left out."""
        async with self.client.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            yield _events(response.aiter_lines())


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    event: dict[str, str] = {}
    async for line in lines:
        if line:
            key, _, value = line.partition(": ")
            event[key] = value
        elif "event" in event:
            yield event
            event = {}
        else:
            event = {}


def serve(test: Callable[[Server], Awaitable[None]], viewer_limit: int = 100) -> None:
    """Run a test against a server of its own."""

    async def whole() -> None:
        streams = MemoryStreams()
        await streams.create(StreamSpec(id="gate", source=SourceSpec(url="testsrc://")))
        app = create_api(streams, MemoryDetector(), MemoryMedia(), version="0", viewer_limit=viewer_limit)
        sock = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([sock]))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        limits = httpx.Limits(max_connections=None)
        try:
            async with asyncio.timeout(60), httpx.AsyncClient(base_url=base, limits=limits, timeout=30) as client:
                await test(Server(streams, sock, client))
        finally:
            server.should_exit = True
            await running

    asyncio.run(whole())


def test_what_happens_in_zones_comes_before_the_detections_of_its_frame() -> None:
    """Without an id of its own: who loses the connection in between gets both again."""

    async def test(server: Server) -> None:
        async with server.follow() as events:
            await server.streams.until_waiting(1)
            await server.streams.publish("gate", 5, in_zones=(b'{"event":"cross"}', b'{"event":"enter"}'))
            found = [await anext(events) for _ in range(3)]
        assert [(event["event"], event.get("id")) for event in found] == [
            ("zone", None), ("zone", None), ("detections", "5")
        ]  # fmt: skip
        assert [json.loads(event["data"])["event"] for event in found[:2]] == ["cross", "enter"]
        async with server.follow(f"{DETECTIONS}?after=4") as again:
            assert [(await anext(again))["event"] for _ in range(3)] == ["zone", "zone", "detections"]

    serve(test)


def test_fifty_viewers_over_one_subscription() -> None:
    async def test(server: Server) -> None:
        async with AsyncExitStack() as stack:
            followers = [await stack.enter_async_context(server.follow()) for _ in range(50)]
            await server.streams.until_waiting(1)
            for sequence in range(5):
                await server.streams.publish("gate", sequence)
            for events in followers:
                got = [await anext(events) for _ in range(5)]
                assert [event["id"] for event in got] == ["0", "1", "2", "3", "4"]
                assert json.loads(got[0]["data"])["sequence"] == 0
                assert server.streams.waiting <= 1
        await server.streams.until_waiting(0)  # the last viewer left, so the subscription ends

    serve(test)


def test_a_client_that_does_not_read_delays_nobody_and_learns_what_it_lost() -> None:
    async def test(server: Server) -> None:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stuck, server.address)
        reader, writer = await asyncio.open_connection(sock=stuck, limit=2**16)
        writer.write(f"GET {DETECTIONS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"retry: 2000")
        async with server.follow() as fast:
            await server.streams.until_waiting(1)
            for sequence in range(600):
                await server.streams.publish("gate", sequence, label="x" * 20_000)
                assert (await anext(fast))["id"] == str(sequence)
            lines = [await reader.readline()]
            while not lines[-1].startswith(b"id: 599"):
                lines.append((await reader.readline())[:100])
        writer.close()
        assert any(line.startswith(b'data: {"reason":"slow_client","events":') for line in lines)

    serve(test)


def test_a_client_that_comes_back_goes_on_where_it_was() -> None:
    async def test(server: Server) -> None:
        for sequence in range(10, 20):
            await server.streams.publish("gate", sequence)
        async with server.follow(**{"Last-Event-ID": "16"}) as events, server.follow(f"{DETECTIONS}?after=17") as other:
            assert [(await anext(events))["id"] for _ in range(3)] == ["17", "18", "19"]
            assert [(await anext(other))["id"] for _ in range(2)] == ["18", "19"]
            await server.streams.publish("gate", 23)
            assert (await anext(events))["id"] == (await anext(other))["id"] == "23"

    serve(test)


def test_lost_history_is_told() -> None:
    async def test(server: Server) -> None:
        for sequence in range(HISTORY + 5):
            await server.streams.publish("gate", sequence)
        async with server.follow(**{"Last-Event-ID": "1"}) as events:
            gap = await anext(events)
            assert (gap["event"], json.loads(gap["data"])) == ("gap", {"reason": "history_lost"})
            assert (await anext(events))["id"] == "5"

    serve(test)


def test_a_deleted_stream_ends_its_views() -> None:
    async def test(server: Server) -> None:
        await server.streams.show("gate", Picture(1, b"one"))
        async with server.follow() as events, server.client.stream("GET", "/v1/streams/gate/live.mjpeg") as video:
            await server.streams.until_waiting(2)
            assert (await server.client.delete("/v1/streams/gate")).status_code == 204
            assert [event["event"] async for event in events] == ["end"]
            assert b"one" in await video.aread()

    serve(test)


def test_viewers_wait_while_a_stream_is_away() -> None:
    async def test(server: Server) -> None:
        async with server.follow() as events:
            await server.streams.until_waiting(1)
            server.streams.failure = ConnectionError("the stream moves to another node")
            await server.streams.publish("gate", 1)
            assert (await anext(events))["id"] == "1"
            server.streams.failure = None
            await server.streams.publish("gate", 2)
            assert (await anext(events))["id"] == "2"

    serve(test)


def test_video_shows_the_newest_picture_at_the_rate_asked_for() -> None:
    async def test(server: Server) -> None:
        loop = asyncio.get_running_loop()
        await server.streams.show("gate", Picture(0, b"<0>"))
        path = "/v1/streams/gate/live.mjpeg?fps=5"
        async with server.client.stream("GET", path) as video:
            assert video.headers["content-type"].startswith("multipart/x-mixed-replace; boundary=")
            parts = _pictures(video.aiter_raw())
            assert await anext(parts) == 0
            started = loop.time()
            feed = asyncio.create_task(_feed(server.streams))
            got = [await anext(parts) for _ in range(8)]
            feed.cancel()
            assert loop.time() - started > 1.0, "8 pictures at 5 a second, the first two at once"
            assert got == sorted(set(got))
            assert got[-1] > 20, "pictures in between are skipped, not queued"

    serve(test)


async def _feed(streams: MemoryStreams) -> None:
    for sequence in range(1, 10_000):
        await streams.show("gate", Picture(sequence, b"<%d>" % sequence))
        await asyncio.sleep(0.01)  # the source's own rate


async def _pictures(chunks: AsyncIterator[bytes]) -> AsyncIterator[int]:
    text = b""
    async for chunk in chunks:
        text += chunk
        while b">\r\n--raysight-picture\r\n" in text:
            part, _, text = text.partition(b">\r\n--raysight-picture\r\n")
            yield int(part.rpartition(b"<")[2])


def test_places_for_viewers_are_limited_and_come_back() -> None:
    async def test(server: Server) -> None:
        async with server.follow():
            await server.streams.until_waiting(1)
            refused = await server.client.get(DETECTIONS)
            told: dict[str, Any] = refused.json()
            assert (refused.status_code, told["code"]) == (503, "too_many_viewers")
            assert refused.headers["retry-after"]
        await server.streams.until_waiting(0)
        async with server.follow() as events:
            await server.streams.until_waiting(1)
            await server.streams.publish("gate", 1)
            assert (await anext(events))["id"] == "1"

    serve(test, viewer_limit=1)

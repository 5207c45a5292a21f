"""One API over ports in memory, called without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve_app.api.application import create_api
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams


class Api:
    """The API and what lies behind it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.streams = MemoryStreams()
        self.detector = MemoryDetector()
        self.media = MemoryMedia()
        self.app = create_api(self.streams, self.detector, self.media, version="0.0.0")
        self.runner = runner

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        """One request and its whole answer."""

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
                return await client.request(method, path, **request)

        return self.runner.run(exchange())

    def put(self, stream_id: str, url: str = "testsrc://", **spec: Any) -> httpx.Response:
        """Create or replace a stream."""
        return self.call("PUT", f"/v1/streams/{stream_id}", json={"source": {"url": url}, **spec})


@pytest.fixture
def api() -> Iterator[Api]:
    with asyncio.Runner() as runner:
        yield Api(runner)

"""The API over HTTP, with streams and models in memory, answers whatever is sent as its OpenAPI document says."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from serve_app.api.application import create_api
from serve_app.local import free_port
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams
from tests.support.openapi import ask
from tests.support.waiting import until


@pytest.fixture
def api() -> Iterator[httpx.Client]:
    app = create_api(MemoryStreams(), MemoryDetector(), MemoryMedia(), version="0.0.0")
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join(10)


def test_every_answer_is_a_documented_one(api: httpx.Client) -> None:
    ask(api, 15)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_answer_of_many_is_a_documented_one(api: httpx.Client) -> None:
    ask(api, 400)


def test_a_rate_near_nothing_is_refused(api: httpx.Client) -> None:
    assert api.get("/v1/capacity", params={"fps": "5e-324"}).status_code == 422

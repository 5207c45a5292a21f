"""``raysight load-test`` against servers on the loopback: the API over ports in memory, with HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from typer.testing import CliRunner, Result

from serve_app.api.application import create_api
from serve_app.api.v2.messages import METHODS, SERVICE
from serve_app.api.v2.rpc import InferenceRpc
from serve_app.cli.app import app
from serve_app.client.errors import ServerAway
from serve_app.local import free_port
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams

QUICK = ("--concurrency", "1,2", "--seconds-each", "0.4")


@dataclass
class Servers:
    """One API, two doors."""

    url: str
    grpc: str
    detector: MemoryDetector


@pytest.fixture
def servers() -> Iterator[Servers]:
    detector = MemoryDetector()
    api = create_api(MemoryStreams(), detector, MemoryMedia(), version="0")
    with serving(api) as (url, loop):
        rpc = InferenceRpc(api.state.ports.inference, from_anywhere=False)
        server, port = asyncio.run_coroutine_threadsafe(_grpc_server(rpc), loop).result(10)
        yield Servers(url, f"127.0.0.1:{port}", detector)
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(10)


class serving:
    """An application on a thread of its own, with its URL and its event loop."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api

    def __enter__(self) -> tuple[str, asyncio.AbstractEventLoop]:
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self._api, log_level="error", ws="none")
        self._server = uvicorn.Server(config)
        started = threading.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            started.set()
            await self._server.serve([self._socket])

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self._thread.start()
        assert started.wait(10)
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}", loops[0]

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


async def _grpc_server(rpc: InferenceRpc) -> tuple[Any, int]:
    async def answer(method: str, request: bytes, context: Any) -> bytes:
        response: bytes = (await rpc.call(method, request, context)).SerializeToString()
        return response

    server = grpc.aio.server()
    handlers = {name: grpc.unary_unary_rpc_method_handler(partial(answer, name)) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["load-test", *arguments], catch_exceptions=False)


def test_both_ways_are_measured_and_written_down(servers: Servers, tmp_path: Path) -> None:
    as_json, plot = tmp_path / "load.json", tmp_path / "load.png"
    result = _run(servers.url, "--grpc", servers.grpc, *QUICK, "--json", str(as_json), "--plot", str(plot))
    assert result.exit_code == 0, result.output
    document = json.loads(as_json.read_text())
    assert [(level["over"], level["concurrency"]) for level in document["levels"]] == [
        ("http", 1),
        ("http", 2),
        ("grpc", 1),
        ("grpc", 2),
    ]
    for level in document["levels"]:
        assert level["failed"] == {}
        assert 0 < level["p50_ms"] <= level["p95_ms"] <= level["p99_ms"]
        assert level["fps"] > 0
    assert set(document["streams"]) == {"http", "grpc"}
    assert document["target"]["model"] == "nanodet-g"
    assert document["hardware"]["cores"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_an_image_is_sent_as_it_is(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "x.jpg"
    image.write_bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    assert _run(servers.url, *QUICK, "--image", str(image)).exit_code == 0
    image.write_bytes(b"no image")
    _refused(_run(servers.url, *QUICK, "--image", str(image)), "HTTP 400")


def test_what_is_not_there_or_not_ready_is_one_line(servers: Servers) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServerAway, match="can't be reached"):  # which `main` ends with 3
        _run(f"http://{nobody}", *QUICK)
    _refused(_run(servers.url, *QUICK, "--model", "other"), "404")
    _refused(_run(servers.url, *QUICK, "--grpc", nobody), "UNAVAILABLE")
    servers.detector.available = False
    result = _run(servers.url, *QUICK)
    assert result.exit_code == 1  # the command is right
    assert "answers 503" in result.stderr


def test_refusals_are_counted_and_end_the_test(servers: Servers) -> None:
    """The detector goes away after the first request of the test itself."""
    asked = 0
    infer = servers.detector.detect_frames

    async def once(*asked_for: Any) -> Any:
        nonlocal asked
        asked += 1
        servers.detector.available = asked == 1
        return await infer(*asked_for)

    servers.detector.detect_frames = once  # type: ignore[method-assign]
    result = _run(servers.url, *QUICK)
    assert result.exit_code == 0
    assert "x HTTP 503" in result.output
    assert "2 at once" not in result.output


def test_a_server_that_speaks_something_else_or_sends_elsewhere() -> None:
    elsewhere = FastAPI()
    asked: list[str] = []

    @elsewhere.get("/v2/models/{name}")
    async def model(name: str) -> JSONResponse:
        asked.append(name)
        return JSONResponse({"name": name}) if name == "odd" else JSONResponse({}, 307, {"Location": "/secret"})

    @elsewhere.get("/secret")
    async def secret() -> None:
        asked.append("secret")

    with serving(elsewhere) as (url, _):
        _refused(_run(url, *QUICK, "--model", "odd"), "does not speak")
        _refused(_run(url, *QUICK, "--model", "away"), "307")
    assert asked == ["odd", "away"]


def _refused(result: Result, word: str) -> None:
    assert result.exit_code == 2
    assert word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1

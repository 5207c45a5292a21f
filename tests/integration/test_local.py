"""The end of a local system: its streams first, but not for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serve_app.local import drain, free_port


class Server(ThreadingHTTPServer):
    """Answers as the API does: to a drain, once it is `released`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.server.released.wait()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing to say."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield found
        found.released.set()
        found.shutdown()
        thread.join()


def test_all_streams_are_ended_however_long_one_takes(server: Server) -> None:
    started = time.monotonic()
    drain(server.url, 0.5)
    assert 0.5 <= time.monotonic() - started < 5
    server.released.set()
    drain(server.url)
    assert server.asked == ["/v1/drain", "/v1/drain"]


def test_without_an_api_there_is_nothing_to_end() -> None:
    drain(f"http://127.0.0.1:{free_port()}")

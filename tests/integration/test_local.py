"""The end of a local system: its streams first, but not for ever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serve_app.local import end_streams, free_port


class Server(ThreadingHTTPServer):
    """Answers as the API does, but for the delete of ``stuck``, which waits until `released`."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.deleted: list[str] = []
        self.listed = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.listed)

    def do_DELETE(self) -> None:
        name = self.path.rpartition("/")[2]
        if name == "stuck":
            self.server.released.wait()
        self.server.deleted.append(name)
        self.send_response(404 if name == "gone" else 204)
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


def test_all_streams_are_ended_whatever_becomes_of_one(server: Server) -> None:
    ids = ["stuck", "gone", *(f"cam-{number}" for number in range(40))]
    server.listed = json.dumps({"items": [{"spec": {"id": name}} for name in ids]}).encode()
    started = time.monotonic()
    end_streams(server.url, 1.0)
    assert time.monotonic() - started < 5
    assert sorted(server.deleted) == sorted(ids[1:])


def test_without_an_api_there_is_nothing_to_end(server: Server) -> None:
    end_streams(f"http://127.0.0.1:{free_port()}")
    server.listed = b"something else"
    end_streams(server.url)
    assert server.deleted == []

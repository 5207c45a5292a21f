"""A real HTTP server that fails when a test says so."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from serve_app.local import free_port

Behaviour = int | Literal["hang", "close", "stale"]
"""An HTTP status; no answer at all; the end of the connection after the request; or 204, and then that end, unsaid."""


@dataclass(frozen=True)
class Received:
    """One POST."""

    path: str
    headers: Message
    body: bytes
    answered: Behaviour

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


@dataclass
class FailingHttp:
    """Answers as ``script`` says, then 204 for ever. A context manager."""

    script: deque[Behaviour] = field(default_factory=deque)
    always: Behaviour = 204
    port: int = field(default_factory=free_port)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> FailingHttp:
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"outer": self}))
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://localhost:{self.port}/events"

    @property
    def accepted(self) -> list[Received]:
        """What it took."""
        return [one for one in list(self.received) if one.answered in (204, "stale")]


class _Handler(BaseHTTPRequestHandler):
    outer: FailingHttp
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.outer.connections += 1

    def finish(self) -> None:
        super().finish()
        self.connection.close()
        self.outer.ended += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        how = self.outer.script.popleft() if self.outer.script else self.outer.always
        self.outer.received.append(Received(self.path, self.headers, body, how))
        if how == "hang":
            self.outer.released.wait(30)
        self._answer(how)

    def _answer(self, how: Behaviour) -> None:
        if isinstance(how, str):
            self.close_connection = True
        if how in ("hang", "close"):
            return
        status = 204 if how == "stale" else int(how)
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.outer.port}/elsewhere")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass

"""A TCP proxy that delays what passes, or spoils it."""

from __future__ import annotations

import queue
import random
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 16 * 1024
QUEUE_CHUNKS = 4096
"""At most this many wait for their time; then the sender is held up, as a full network would."""


class Proxy:
    """Passes connections on to ``target``.

    Attributes:
        delay_s: how long each byte is held, both ways; takes effect at once.
        target: host and port.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.delay_s = 0.0
        self._garbage: list[bytes] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True, name="proxy")
        self._accepting.start()

    def spoil(self, chunks: int, rng: random.Random) -> None:
        """Put random bytes in the place of the next ``chunks`` that come from the target."""
        with self._lock:
            self._garbage = [rng.randbytes(CHUNK) for _ in range(chunks)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone would leave accept() waiting.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            _close(one)
        self._accepting.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, 5)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            self._pump(client, server, spoiled=False)
            self._pump(server, client, spoiled=True)

    def _pump(self, source: socket.socket, sink: socket.socket, *, spoiled: bool) -> None:
        held: queue.Queue[tuple[float, bytes]] = queue.Queue(QUEUE_CHUNKS)
        for task in (self._read, self._write):
            threading.Thread(target=task, args=(source, sink, held, spoiled), daemon=True, name="proxy").start()

    def _read(
        self, source: socket.socket, sink: socket.socket, held: queue.Queue[tuple[float, bytes]], spoiled: bool
    ) -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(CHUNK)
            except OSError:
                data = b""
            with self._lock:
                if spoiled and data and self._garbage:
                    data = self._garbage.pop()[: len(data)]
            held.put((time.monotonic() + self.delay_s, data))

    def _write(
        self, source: socket.socket, sink: socket.socket, held: queue.Queue[tuple[float, bytes]], spoiled: bool
    ) -> None:
        pause = threading.Event()
        while True:
            due, data = held.get()
            if (left := due - time.monotonic()) > 0:
                pause.wait(left)
            try:
                if not data:
                    raise ConnectionError
                sink.sendall(data)
            except OSError:
                break
        for one in (source, sink):
            _close(one)
            with self._lock:
                self._sockets.discard(one)
        while data:  # the reader ends once its socket is closed, and must not wait for room
            _, data = held.get()


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()

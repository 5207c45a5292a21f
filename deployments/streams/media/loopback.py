"""A listener on loopback for FFmpeg alone, behind which our own code makes the connections that FFmpeg may not."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

CHUNK_BYTES = 65_536

AGAIN_S = 0.1
"""How long to wait after a connection could not be taken, for lack of descriptors for instance."""


class Loopback:
    """Listens from `open` until `close`, which also cuts the connections that stand.

    Args:
        serve: gets each connection on a thread of its own; OSErrors end that connection.
        timeout_s: for each wait on a connection.
    """

    def __init__(self, serve: Callable[[socket.socket], None], timeout_s: float) -> None:
        self._serve = serve
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()
        self._closed = threading.Event()

    def open(self) -> str:
        """Begin to listen; ``host:port``."""
        with self._lock:
            if self._closed.is_set():
                raise OSError("the source was closed meanwhile")
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", 0))
                threading.Thread(target=self._accept, args=(self._listener,), name="egress", daemon=True).start()
            return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Take no more connections, and end those there are."""
        with self._lock:
            self._closed.set()
            listener, self._listener = self._listener, None
            for client in self._clients:
                _shut(client)
        if listener is not None:
            _shut(listener)  # ends the wait for the next one
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                if self._closed.wait(AGAIN_S):
                    return
                continue
            threading.Thread(target=self._guarded, args=(client,), name="egress-connection", daemon=True).start()

    def _guarded(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)
            if self._closed.is_set():
                _shut(client)
        try:
            with suppress(OSError):
                client.settimeout(self._timeout_s)
                self._serve(client)
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()


def connected(addresses: Iterable[str], port: int, timeout_s: float) -> socket.socket:
    """A connection to the first of ``addresses`` (literal ones) that takes it; raises the last one's OSError."""
    failure = OSError("the host has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout_s)
        except OSError as error:
            failure = error
    try:
        raise failure
    finally:
        del failure  # which its traceback would keep, and that this frame


def relay(
    client: socket.socket,
    server: socket.socket,
    idle_s: float | None,
    rewrite: Callable[[bytes], bytes] = bytes,
) -> None:
    """Bytes both ways until either side ends, or nothing came for ``idle_s``; the server's go through ``rewrite``."""
    poll = select.poll()
    for end in (client, server):
        poll.register(end, select.POLLIN)
    while ready := poll.poll(None if idle_s is None else idle_s * 1000):
        for descriptor, _ in ready:
            from_server = descriptor == server.fileno()
            data = _received(server if from_server else client)
            if data is None:
                continue
            if not data:
                return
            if not from_server:
                server.sendall(data)
                continue
            while pending := getattr(server, "pending", int)():  # what TLS has decrypted shows in no poll
                data += server.recv(pending)
            client.sendall(rewrite(data))


def _received(end: socket.socket) -> bytes | None:
    """Empty at the end; None where TLS had something to say to itself, such as a session's ticket, and no data yet."""
    if not isinstance(end, ssl.SSLSocket):
        return end.recv(CHUNK_BYTES)
    before = end.gettimeout()
    end.settimeout(0.0)
    try:
        return end.recv(CHUNK_BYTES)
    except ssl.SSLWantReadError:
        return None
    finally:
        end.settimeout(before)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

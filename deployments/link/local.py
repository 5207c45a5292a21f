"""The link within a host: one Unix socket for each client, and the memory of its slots handed over on it.

Not ZeroMQ, which does the rest of the link: its sockets need two more threads on the way of every message, and its
keys a cipher, which together cost as much CPU a frame as everything else between a stream and its batch (some
0.2 ms of 0.4). A `SOCK_SEQPACKET` keeps messages apart and in order by itself, wakes the receiver at once, and ends
with either side, ``kill -9`` included. Its name is abstract: no file is left behind, and only processes in the same
network namespace (a pod) reach it.

Both sides look at whose process the other is (``SO_PEERCRED``): only this user's, or root's. A client then shows its
lease, which it has over a channel that is trusted already.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from deployments.link.codec import decode, encode
from deployments.link.messages import MAX_MESSAGE_BYTES, Hello, Message
from engines.types import UInt8Array

HELLO_WITHIN_S = 3.0
"""A connection that hasn't said hello by then is closed."""

_MAX_REQUEST_BYTES = 512
"""What a client sends is far smaller; what is longer arrives cut off, which no message is."""

_QUEUED_BYTES = 1 << 20
"""Of answers that a client hasn't read: a window's worth of the largest, several times over."""

_BACKLOG = 512
"""As many as may attach: who finds the queue full would take nobody to be here, and go over TCP."""

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message to the server.

    Attributes:
        peer: whom to answer.
        connection: by which `broken` names it.
        lease: the one that the peer's key was let in for; None where it has shown no key.
        data: empty where what came can't be a message.
        pixels: a picture that came along.
        descriptor: of memory that came along, until `close`.
    """

    peer: bytes
    connection: int
    data: bytes
    lease: str | None = None
    pixels: memoryview | None = None
    descriptor: int | None = None

    def close(self) -> None:
        """Close what came along."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def _is_ours(peer: socket.socket) -> bool:
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return uid in (os.geteuid(), 0)


@dataclass(slots=True)
class _Connection:
    peer: bytes
    number: int
    socket: socket.socket
    since: float
    greeted: bool = False


class LocalListener:
    """The server's side. `send` may be called from any thread, all else from the receiver.

    Attributes:
        name: what clients connect to.
        strangers: connections of other users' processes, and such that said no hello.
    """

    def __init__(self, poll: select.epoll) -> None:
        """Listen at once; ``poll`` ends its wait for whatever happens here, which is then told to `ready`."""
        self.name = f"raysight-link-{uuid.uuid4().hex}"
        self.strangers = 0
        self._lock = threading.Lock()
        self._socket = _new_socket()
        self._socket.bind("\0" + self.name)
        self._socket.listen(_BACKLOG)
        self._poll = poll
        self._poll.register(self._socket, select.EPOLLIN)
        self._by_descriptor: dict[int, _Connection] = {}
        self._by_peer: dict[bytes, _Connection] = {}
        self._count = 0
        self._paused = False
        self._ready: deque[int] = deque()
        self._ended: list[int] = []

    def ready(self, descriptor: int) -> bool:
        """Take note of what a wait has ended for; False where that isn't from here."""
        if descriptor in self._by_descriptor:
            self._ready.append(descriptor)
            return True
        if descriptor != self._socket.fileno():
            return False
        self._accept()
        return True

    def send(self, peer: bytes, message: Message) -> bool:
        """Queue a message and return at once; False where the peer is gone or doesn't read any more."""
        with self._lock:  # so that its descriptor can't become another's meanwhile
            connection = self._by_peer.get(peer)
            if connection is None:
                return False
            try:
                connection.socket.send(encode(message), _FLAGS)
            except OSError:
                return False
        return True

    def receive(self) -> Incoming | None:
        """The next message; None where there is none."""
        while self._ready:
            connection = self._by_descriptor.get(self._ready.popleft())
            if connection is None:
                continue
            incoming = self._read(connection)
            if incoming is not None:
                return incoming
        return None

    @property
    def ended(self) -> bool:
        """Whether `broken` has something to tell."""
        return bool(self._ended)

    def broken(self) -> list[int]:
        """The connections that have ended since."""
        ended, self._ended = self._ended, []
        return ended

    def end(self, peer: bytes) -> None:
        """Close a connection; what was sent last still arrives."""
        connection = self._by_peer.get(peer)
        if connection is not None:
            self._close(connection)

    def end_silent(self, now: float) -> None:
        """Close connections that said no hello; after trouble with accepting, try again."""
        if self._paused:
            self._paused = False
            self._poll.register(self._socket, select.EPOLLIN)
        for connection in list(self._by_descriptor.values()):
            if not connection.greeted and connection.since + HELLO_WITHIN_S <= now:
                self.strangers += 1
                self._close(connection)

    def close(self) -> None:
        """Close everything."""
        for connection in list(self._by_descriptor.values()):
            self._close(connection)
        self._socket.close()

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except OSError:  # it has gone already, or this process has too many descriptors: then pause
            self._poll.unregister(self._socket)
            self._paused = True
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUED_BYTES)
        if not _is_ours(accepted):
            self.strangers += 1
            accepted.close()
            return
        self._count += 1
        connection = _Connection(b"local%d" % self._count, -self._count, accepted, time.monotonic())
        with self._lock:
            self._by_descriptor[accepted.fileno()] = self._by_peer[connection.peer] = connection
        self._poll.register(accepted, select.EPOLLIN)

    def _read(self, connection: _Connection) -> Incoming | None:
        data, descriptor = _receive(connection.socket, _MAX_REQUEST_BYTES, descriptors=0 if connection.greeted else 1)
        if data == b"":
            self._close(connection)
        if not data:
            return None
        connection.greeted = True
        return Incoming(connection.peer, connection.number, data, descriptor=descriptor)

    def _close(self, connection: _Connection) -> None:
        with self._lock:
            del self._by_descriptor[connection.socket.fileno()]
            del self._by_peer[connection.peer]
            connection.socket.close()
        self._ended.append(connection.number)


class LocalLine:
    """The client's side, a `dial.Line`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self._open = True
        self._ready = self._broken = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(connection, select.POLLIN)

    @classmethod
    def reach(cls, name: str, timeout_s: float) -> LocalLine | None:
        """Connect to a server in this network namespace; None where there is none of ours."""
        connection = _new_socket()
        connection.settimeout(timeout_s)
        try:
            connection.connect("\0" + name)
            connection.setblocking(False)
            if _is_ours(connection):
                return cls(connection)
        except OSError:
            pass
        connection.close()
        return None

    def hello(self, message: Hello, descriptor: int) -> None:
        """Send a hello, and with it the memory of the slots; where that fails there will be no welcome."""
        with suppress(OSError):
            socket.send_fds(self._socket, [encode(message)], [descriptor], _FLAGS)

    def send(self, message: Message, *pixels: UInt8Array) -> bool:
        """Queue a message and return at once; False where the connection is gone or takes nothing any more."""
        assert not pixels, "pictures lie in the slots"
        with self._lock:
            if not self._open:
                return False
            try:
                self._socket.send(encode(message), _FLAGS)
            except OSError:
                return False
        return True

    def receive(self) -> Message | None:
        """The next message, where `wait` has found one. Raises Malformed."""
        if not self._ready:
            return None
        self._ready = False
        data, _ = _receive(self._socket, MAX_MESSAGE_BYTES)
        self._broken = data == b""
        return decode(data) if data else None

    def broken(self) -> bool:
        """Whether the connection has ended, and all that came before its end is received."""
        return self._broken

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something may be there, at most ``timeout_s``."""
        ready = {descriptor for descriptor, _ in self._poll.poll(max(0.0, timeout_s) * 1e3)}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        self._ready = self._socket.fileno() in ready
        return self._ready

    def wake(self) -> None:
        """End `wait`, now or the next time."""
        with self._lock:
            if self._open:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close it; what was sent last still arrives."""
        with self._lock:
            self._open = False
            self._socket.close()
            os.close(self._wake)


def _receive(connection: socket.socket, most: int, *, descriptors: int = 0) -> tuple[bytes | None, int | None]:
    """The next message, and a descriptor that came along: None where there is nothing yet, b"" at the end.

    Where the other side has closed before it read all, that is told first, as an error, and then what it sent.
    """
    for _ in range(2):
        try:
            if not descriptors:
                return connection.recv(most), None
            data, found, _, _ = socket.recv_fds(connection, most, descriptors)
            return data, found[0] if found else None
        except ConnectionResetError:
            continue
        except BlockingIOError:
            return None, None
        except OSError:
            break
    return b"", None


def _new_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUED_BYTES)
    return made

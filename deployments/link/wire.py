"""A ZeroMQ socket that several threads send on and one receives from, without a thread in between.

Handing each message to the receiving thread would cost a wake-up and a switch of threads a frame. ZeroMQ allows a
socket to several threads under a lock; the one catch is that the receiver sleeps on the socket's descriptor, which
is edge-triggered, and that sending may consume the edge. So a sender looks whether something has come in, and wakes
the receiver if so.
"""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Sequence
from typing import Any

import zmq

HEARTBEAT_MS = 2000
HEARTBEAT_TIMEOUT_MS = 6000
HANDSHAKE_MS = 3000
"""A connection that hasn't proven its key by then is closed."""

LINGER_MS = 200
"""How long a last message may take to leave."""

_EVENT = struct.Struct("=Hi")

# As plain numbers: the arithmetic of pyzmq's enums costs as much as sending.
_DONTWAIT = int(zmq.DONTWAIT)
_SNDMORE = int(zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits; far cheaper than an exception where none does."""
    return bool(int(socket.get(_EVENTS)) & _POLLIN)


class Wire:
    """One socket and its monitor. `send` and `wake` may be called from any thread, all else from the receiver.

    Attributes:
        poll: what `wait` sleeps on; more may be registered with it.
    """

    def __init__(self, socket: zmq.Socket[bytes], events: int) -> None:
        self._socket = socket
        self._lock = threading.Lock()
        self._open = True
        self._events: zmq.Socket[bytes] = socket.get_monitor_socket(events)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.poll = select.epoll()
        self._messages = {self._wake, int(socket.get(zmq.FD))}
        self.poll.register(self._wake, select.EPOLLIN)
        self.watch(socket)
        self.watch(self._events)

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """End `wait` for another socket's messages too."""
        self.poll.register(int(socket.get(zmq.FD)), select.EPOLLIN)

    def send(self, parts: Sequence[Any]) -> bool:
        """Queue a message and return at once; False where the other side is gone or takes nothing any more."""
        *first, last = parts
        with self._lock:
            if not self._open:
                return False
            try:
                for part in first:
                    self._socket.send(part, _DONTWAIT | _SNDMORE)
                self._socket.send(last, _DONTWAIT)
                incoming = readable(self._socket)
            except zmq.ZMQError:  # EAGAIN: its queue is full; EHOSTUNREACH: it has left
                return False
        if incoming:
            self.wake()
        return True

    def wake(self) -> None:
        """End `wait`, now or the next time."""
        with self._lock:
            if self._open:
                os.eventfd_write(self._wake, 1)

    def receive(self) -> list[zmq.Frame] | None:
        """The next message; None where there is none. Call it until then before `wait`."""
        with self._lock:
            if not readable(self._socket):
                return None
            parts = [self._socket.recv(_DONTWAIT, copy=False)]
            while parts[-1].more:
                parts.append(self._socket.recv(_DONTWAIT, copy=False))
            return parts

    def event(self) -> tuple[int, int] | None:
        """What happened next to the socket's connections (a `zmq.Event`), with its value; None where nothing did."""
        if not readable(self._events):
            return None
        event, value = _EVENT.unpack(self._events.recv_multipart(zmq.DONTWAIT)[0])
        return event, value

    def wait(self, timeout_s: float) -> set[int]:
        """Sleep until something may be there, at most ``timeout_s``; the descriptors of what is more than messages."""
        ready = {descriptor for descriptor, _ in self.poll.poll(max(0.0, timeout_s))}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        return ready - self._messages

    def close(self) -> None:
        """Close everything; messages that were queued have `LINGER_MS` to leave."""
        with self._lock:
            self._open = False
            self._socket.disable_monitor()
            self._events.close()
            self._socket.close()
            self.poll.close()
            os.close(self._wake)


def set_up(socket: zmq.Socket[bytes], *, max_message_bytes: int, queued: int) -> None:
    """The options that both sides share: every queue has an end, and a peer that is gone is noticed."""
    socket.linger = LINGER_MS
    socket.sndhwm = queued
    socket.rcvhwm = queued
    socket.maxmsgsize = max_message_bytes
    socket.heartbeat_ivl = HEARTBEAT_MS
    socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
    socket.handshake_ivl = HANDSHAKE_MS

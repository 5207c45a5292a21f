"""Who may connect: ZeroMQ asks here (ZAP, RFC 27) about every client key, before a message of its owner is read."""

from __future__ import annotations

import threading

import zmq

from deployments.link.wire import readable

DOMAIN = b"raysight"


class Gate:
    """The client keys that are let in, each for one lease. `answer` belongs to one thread, all else to any."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Answer for all sockets of ``context``; make it before they bind."""
        self._lock = threading.Lock()
        self._leases: dict[bytes, str] = {}
        self._strangers = 0
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    @property
    def strangers(self) -> int:
        """How often a key was refused."""
        return self._strangers

    def allow(self, key: bytes, lease: str) -> None:
        """Let the owner of a public key (32 bytes) in; messages then carry the lease as their user."""
        with self._lock:
            self._leases[key] = lease

    def forbid(self, key: bytes, lease: str) -> None:
        """Let its owner connect no more for this lease; a connection that stands stays."""
        with self._lock:
            if self._leases.get(key) == lease:
                del self._leases[key]

    def answer(self) -> None:
        """Answer all questions that wait."""
        while readable(self.socket):
            version, request, _domain, _address, _routing, mechanism, *credentials = self.socket.recv_multipart()
            with self._lock:
                lease = self._leases.get(credentials[0]) if mechanism == b"CURVE" else None
            if lease is None:
                self._strangers += 1
                answer = [b"400", b"unknown key", b""]
            else:
                answer = [b"200", b"OK", lease.encode()]
            self.socket.send_multipart([version, request, *answer, b""])

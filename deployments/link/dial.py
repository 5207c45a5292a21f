"""Attaching to a link server: over its Unix socket where its name is known here, else over ``tcp``."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Protocol

import zmq

from deployments.errors import DetectorUnavailable
from deployments.link.codec import decode, encode
from deployments.link.grant import Grant, KeyPair
from deployments.link.local import LocalLine
from deployments.link.messages import MAX_MESSAGE_BYTES, Hello, Malformed, Message, Welcome
from deployments.link.slots import Segment
from deployments.link.wire import Wire, set_up
from engines.types import UInt8Array

logger = logging.getLogger(__name__)

_REFUSED = (
    zmq.Event.HANDSHAKE_FAILED_AUTH,
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
)
_BROKEN = (zmq.Event.CLOSED, zmq.Event.DISCONNECTED)
_EVENTS = zmq.Event.HANDSHAKE_SUCCEEDED | _REFUSED[0] | _REFUSED[1] | _REFUSED[2] | _BROKEN[0] | _BROKEN[1]


ATTACH_TIMEOUT_S = 2.0


class Line(Protocol):
    """A connection to a server; all of it ends with `close`. `send` and `wake` are for any thread."""

    def send(self, message: Message, *pixels: UInt8Array) -> bool:
        """Queue a message and return at once; False where the connection is gone or takes nothing any more."""
        ...

    def receive(self) -> Message | None:
        """The next message; None where there is none. Raises Malformed."""
        ...

    def broken(self) -> bool:
        """Whether the connection has ended."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something may be there, at most ``timeout_s``; True where `broken` should be asked."""
        ...

    def wake(self) -> None:
        """End `wait`, now or the next time."""
        ...

    def close(self) -> None:
        """Close it; what was sent last has a moment to leave."""
        ...


class RemoteLine:
    """A `Line` over TCP, in a ZeroMQ context of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], wire: Wire) -> None:
        self.wire = wire
        self._context = context

    def send(self, message: Message, *pixels: UInt8Array) -> bool:
        return self.wire.send((encode(message), *pixels))

    def receive(self) -> Message | None:
        parts = self.wire.receive()
        if parts is None:
            return None
        if len(parts) != 1:
            raise Malformed("a server sends messages of one part")
        return decode(parts[0].bytes)

    def broken(self) -> bool:
        while (event := self.wire.event()) is not None:
            if event[0] in _BROKEN:
                return True
        return False

    def wait(self, timeout_s: float) -> bool:
        return bool(self.wire.wait(timeout_s))

    def wake(self) -> None:
        self.wire.wake()

    def close(self) -> None:
        self.wire.close()
        self._context.term()


@dataclass(frozen=True, slots=True)
class Attached:
    """What came of `attach`; ``segment`` is None where pictures go inline."""

    line: Line
    segment: Segment | None
    lease_s: float


def attach(grant: Grant, keys: KeyPair) -> Attached:
    """Connect, say hello and be welcomed. Raises DetectorUnavailable after at most `ATTACH_TIMEOUT_S`.

    A name that nobody here listens on is refused at once, so trying it costs a remote stream nothing.
    """
    deadline = time.monotonic() + ATTACH_TIMEOUT_S
    local = LocalLine.reach(grant.local, ATTACH_TIMEOUT_S)
    if local is not None and (segment := _segment(grant)) is not None:
        try:
            local.hello(Hello(grant.lease, segment.slots, segment.slot_bytes), segment.descriptor)
            welcome = _welcomed(local, deadline)
        except BaseException:
            local.close()
            raise
        finally:
            segment.hide()
        if welcome.shared:
            return Attached(local, segment, welcome.lease_s)
    if local is not None:
        local.close()
    return _attach_remotely(grant, keys, deadline)


def _attach_remotely(grant: Grant, keys: KeyPair, deadline: float) -> Attached:
    line = _connect(grant, keys)
    try:
        _wait_for_handshake(line.wire, grant.tcp, deadline)
        line.send(Hello(grant.lease, 0, 0))
        return Attached(line, None, _welcomed(line, deadline).lease_s)
    except BaseException:
        line.close()
        raise


def _segment(grant: Grant) -> Segment | None:
    try:
        return Segment(grant.window, grant.info.width * grant.info.height * 3)
    except OSError:
        logger.warning("no memory to share with the detector: frames go inline", exc_info=True)
        return None


def _connect(grant: Grant, keys: KeyPair) -> RemoteLine:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    set_up(socket, max_message_bytes=MAX_MESSAGE_BYTES, queued=2 * grant.window + 8)
    socket.reconnect_ivl = -1  # a broken connection ends the attachment: who attached decides where to next
    socket.curve_serverkey = grant.server_key
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
    socket.ipv6 = "[" in grant.tcp
    line = RemoteLine(context, Wire(socket, _EVENTS))
    socket.connect(grant.tcp)
    return line


def _wait_for_handshake(wire: Wire, address: str, deadline: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        while (event := wire.event()) is not None:
            if event[0] == zmq.Event.HANDSHAKE_SUCCEEDED:
                return
            if event[0] in _REFUSED:
                raise DetectorUnavailable("the replica's link doesn't let this key in: its grant is used or too old")
            if event[0] in _BROKEN:
                raise DetectorUnavailable(f"nobody listens at {address}")
        wire.wait(left)
    raise DetectorUnavailable("no answer from the replica's link in time")


def _welcomed(line: Line, deadline: float) -> Welcome:
    try:
        while (left := deadline - time.monotonic()) > 0:
            message = line.receive()
            if isinstance(message, Welcome):
                return message
            if message is not None or line.broken():
                raise DetectorUnavailable("the replica's link doesn't take this grant: it is used or too old")
            line.wait(left)
    except Malformed as error:
        raise DetectorUnavailable("the replica's link speaks another version") from error
    raise DetectorUnavailable("the replica's link didn't answer in time")

"""Where a server listens: a Unix socket for clients on its host, and a ROUTER on a ``tcp`` port for all others.

On ``tcp`` a peer proves its key (CURVE) before anything it sends is read. Messages have a largest size, queues an
end, and a connection that doesn't prove itself in time is closed; what isn't ours costs a counter.
"""

from __future__ import annotations

import zmq

from deployments.link.codec import encode
from deployments.link.gate import DOMAIN, Gate
from deployments.link.grant import KeyPair
from deployments.link.local import Incoming, LocalListener
from deployments.link.messages import MAX_MESSAGE_BYTES, Message
from deployments.link.wire import Wire, set_up

_QUEUED = 64
"""Messages to or from one client in ZeroMQ's queues; a client that leaves so many unread is taken for dead."""

_JUNK = (zmq.Event.HANDSHAKE_FAILED_NO_DETAIL, zmq.Event.HANDSHAKE_FAILED_PROTOCOL)
_EVENTS = zmq.Event.DISCONNECTED | _JUNK[0] | _JUNK[1]


_FAR = b"tcp:"
"""Before the names that ZeroMQ's peers choose for themselves, which might be those of others."""


class Listener:
    """`send` and `wake` may be called from any thread, all else from the receiver.

    Attributes:
        local, tcp: where it listens.
        key: its public key.
        gate: the keys that it lets in.
    """

    def __init__(self, host: str, frame_bytes: int) -> None:
        """Listen on a free port of ``host``. Raises OSError where that isn't an address of this machine."""
        keys = KeyPair.make()
        self.key = keys.public
        self._junk = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.gate = Gate(self._context)
        socket = self._context.socket(zmq.ROUTER)
        set_up(socket, max_message_bytes=frame_bytes + MAX_MESSAGE_BYTES, queued=_QUEUED)
        socket.router_mandatory = 1  # sending to who has left, or doesn't read, is an error rather than silence
        socket.curve_server = True
        socket.curve_secretkey = keys.secret
        socket.zap_domain = DOMAIN
        socket.ipv6 = ":" in host
        self._wire = Wire(socket, _EVENTS)
        self._wire.watch(self.gate.socket)
        self._near = LocalListener(self._wire.poll)
        self.local = self._near.name
        try:
            socket.bind(f"tcp://[{host}]:*" if ":" in host else f"tcp://{host}:*")
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"can't listen on {host}") from error
        self.tcp = bytes(socket.get(zmq.LAST_ENDPOINT)).decode().rstrip("\0")

    @property
    def junk(self) -> int:
        """Connections that spoke no ZeroMQ, or another dialect of it."""
        return self._junk

    @property
    def strangers(self) -> int:
        """Connections that may not attach: with an unknown key, or of another user."""
        return self.gate.strangers + self._near.strangers

    def send(self, peer: bytes, message: Message) -> bool:
        """Queue a message and return at once; False where the peer is gone or takes nothing any more."""
        if peer.startswith(_FAR):
            return self._wire.send((peer.removeprefix(_FAR), encode(message)))
        return self._near.send(peer, message)

    def wake(self) -> None:
        """End `wait`, now or the next time."""
        self._wire.wake()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something may be there, at most ``timeout_s``; True where `broken` should be called."""
        others = self._wire.wait(0.0 if self._near.ended else timeout_s)
        changed = [descriptor for descriptor in others if not self._near.ready(descriptor)]
        return bool(changed or self._near.ended)

    def receive(self) -> Incoming | None:
        """The next message; None where there is none."""
        incoming = self._near.receive()
        if incoming is not None:
            return incoming
        parts = self._wire.receive()
        if parts is None:
            return None
        lease, connection = str(parts[-1].get("User-Id")), int(parts[-1].get(zmq.SRCFD))
        possible = 2 <= len(parts) <= 3 and len(parts[1]) <= MAX_MESSAGE_BYTES
        data = parts[1].bytes if possible else b""
        return Incoming(_FAR + parts[0].bytes, connection, data, lease, parts[2].buffer if len(parts) == 3 else None)

    def broken(self) -> list[int]:
        """The connections that have ended since; lets peers in or not on the way."""
        self.gate.answer()
        ended = self._near.broken()
        while (event := self._wire.event()) is not None:
            kind, value = event
            if kind in _JUNK:
                self._junk += 1
            else:
                ended.append(value)
        return ended

    def end(self, peer: bytes) -> None:
        """Hang up on a peer nearby, after what was sent last; one that is far hangs up itself."""
        self._near.end(peer)

    def end_silent(self, now: float) -> None:
        """Close connections that prove nothing; ZeroMQ closes its own."""
        self._near.end_silent(now)

    def close(self) -> None:
        """Close everything; what was sent last has a moment to leave."""
        self._near.close()
        self._wire.close()
        self.gate.socket.close()
        self._context.term()

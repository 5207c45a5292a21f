"""Encoded packets on their way to an output, and the bounded queue in which they wait for a slow one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MAX_PACKETS = 256
"""Some five seconds of video with audio: longer than a reconnect within the network, short enough to stay live."""

MAX_BYTES = 16 << 20
"""Bounds the memory where single packets are large; one packet always fits."""


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One packet of one stream; shared by outputs, so it holds bytes and no `av.Packet`, which muxing changes.

    Attributes:
        pts, dts, duration: in ``time_base`` units; duration 0 where it is not known.
        template: PyAV stream with the parameters that a container needs; the same object for all packets of one
            encoder, so that a change of it is a change of the video.
        audio: whether it is sound rather than video.
        on_sent: called by each output that has sent it, on that one's thread; None where nobody asks.
    """

    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    key_frame: bool
    template: Any = field(repr=False)
    audio: bool = False
    on_sent: Callable[[], None] | None = field(default=None, repr=False)


class PacketQueue:
    """Packets between the encoder, which never waits, and the thread of one output.

    After a loss, and at the start, everything up to the next key frame of the video is left out, as no decoder could
    use it; ``want_key_frame`` is called (on the output's thread) when the reader is ready for one.
    """

    def __init__(self, want_key_frame: Callable[[], None]) -> None:
        self._want_key_frame = want_key_frame
        self._changed = threading.Condition()
        self._packets: deque[EncodedPacket] = deque()
        self._bytes = 0
        self._in_gap = True
        self._counts_losses = False
        self._paused = False
        self._closed = False
        self.dropped = 0

    def put(self, packet: EncodedPacket) -> None:
        """Queue ``packet`` or count it as dropped; never waits for the reader."""
        with self._changed:
            if self._closed:
                return
            starts = packet.key_frame and not packet.audio
            full = len(self._packets) >= MAX_PACKETS or self._bytes + len(packet.data) > MAX_BYTES
            if self._paused or (full and self._packets) or (self._in_gap and not starts):
                self._in_gap = True
                self.dropped += self._counts_losses
                return
            self._in_gap = False
            self._counts_losses = True
            self._packets.append(packet)
            self._bytes += len(packet.data)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> EncodedPacket | None:
        """The oldest packet; None after ``timeout_s`` without one, or when `close` was called and all are read."""
        with self._changed:
            starved = self._in_gap and not self._packets and not self._closed
        if starved:
            self._want_key_frame()
        with self._changed:
            self._changed.wait_for(lambda: self._packets or self._closed, timeout_s)
            if not self._packets:
                return None
            packet = self._packets.popleft()
            self._bytes -= len(packet.data)
            return packet

    def rest(self, seconds: float) -> bool:
        """Lose all packets for a while; False when `close` was called meanwhile."""
        with self._changed:
            self.dropped += len(self._packets)
            self._packets.clear()
            self._bytes = 0
            self._in_gap = self._paused = self._counts_losses = True
            closed = self._changed.wait_for(lambda: self._closed, seconds)
            self._paused = False
            return not closed

    def close(self) -> None:
        """Take no more packets; those queued can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._changed:
            return self._closed

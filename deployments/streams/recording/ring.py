"""The newest packets of a source, in memory: as many as a clip may begin with."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any

from deployments.streams.media.packets import EncodedPacket

MAX_BYTES = 32 << 20
"""Some 30 s at 8 Mbit/s; of more the oldest goes, and clips begin later."""


class Ring:
    """Used by one thread. It begins with a key frame, and with other video it begins anew."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._packets: deque[EncodedPacket] = deque()
        self._bytes = 0
        self._keys: deque[int] = deque()  # pts of the key frames in it

    @property
    def video(self) -> Any:
        """The template of the video in it; None while it is empty."""
        return next((packet.template for packet in self._packets if not packet.audio), None)

    @property
    def audio(self) -> Any:
        """The same of the sound."""
        return next((packet.template for packet in self._packets if packet.audio), None)

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._bytes

    def clear(self) -> None:
        """Forget all."""
        self._packets.clear()
        self._keys.clear()
        self._bytes = 0

    def add(self, packet: EncodedPacket, seconds: float) -> None:
        """Take the newest packet; what is older than ``seconds`` and not needed to decode what follows goes."""
        if not packet.audio:
            if self._packets and packet.template is not self.video:
                self.clear()
            if packet.key_frame:
                self._keys.append(packet.pts)
        if not self._keys:
            return
        self._packets.append(packet)
        self._bytes += len(packet.data)
        oldest = packet.pts - ticks(seconds, packet.time_base)
        while len(self._keys) > 1 and (self._keys[1] <= oldest or self._bytes > self._max_bytes):
            self._drop_first()
        if self._bytes > self._max_bytes:  # of one key frame alone
            self.clear()

    def since(self, pts: int) -> list[EncodedPacket]:
        """From the last key frame at or before ``pts`` on; from the first there is where none is."""
        start = max((key for key in self._keys if key <= pts), default=self._keys[0] if self._keys else 0)
        packets = list(self._packets)
        first = next(
            (at for at, one in enumerate(packets) if not one.audio and one.key_frame and one.pts == start), len(packets)
        )
        return packets[first:]

    def _drop_first(self) -> None:
        """All up to the second key frame."""
        self._keys.popleft()
        while True:
            self._bytes -= len(self._packets.popleft().data)
            first = self._packets[0]
            if first.key_frame and not first.audio:
                return


def ticks(seconds: float, time_base: Fraction) -> int:
    """Seconds in units of a time base."""
    return round(seconds / time_base)

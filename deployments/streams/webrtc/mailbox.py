"""The packets that wait for one viewer: few, since late ones are worth nothing, and from a key frame on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from deployments.streams.media.packets import EncodedPacket

MAX_WAITING = 32
"""About a second; then all of them are given up, and the viewer goes on with the next key frame."""


class Mailbox:
    """Used on one event loop; ``want_key_frame`` is called whenever nothing but a key frame is of use."""

    def __init__(self, want_key_frame: Callable[[], None]) -> None:
        self.dropped = 0
        self._want_key_frame = want_key_frame
        self._waiting: deque[EncodedPacket] = deque()
        self._filled = asyncio.Event()
        self._template: Any = None
        self._in_gap = True

    def put(self, packet: EncodedPacket) -> None:
        """Take the newest packet, or count it as dropped."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._in_gap = True
        if packet.template is not self._template:  # of another encoder
            self._template, self._in_gap = packet.template, True
        if self._in_gap and not packet.key_frame:
            self.dropped += 1
            self._want_key_frame()
            return
        self._in_gap = False
        self._waiting.append(packet)
        self._filled.set()

    async def take(self) -> EncodedPacket:
        """The oldest packet, once there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.popleft()

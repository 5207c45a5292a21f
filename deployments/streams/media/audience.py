"""Those who watch a stream's encoded video live, as its publisher sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from deployments.streams.media.packets import EncodedPacket

KEY_FRAMES_APART_S = 0.5
"""Between two that viewers asked for: each costs the bits of many pictures, for all who get the same video."""


class Audience:
    """Outlives the publishers of a stream; safe to use from several threads.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._takers: dict[object, Callable[[EncodedPacket], None]] = {}
        self._when_empty: Callable[[], None] | None = None
        self._key_wanted = False
        self._key_at = float("-inf")

    @property
    def wanted(self) -> bool:
        """Whether anybody watches, so that pictures are worth encoding."""
        return bool(self._takers)

    def join(self, take: Callable[[EncodedPacket], None]) -> Callable[[], None]:
        """Have packets brought from now on, by the thread that encodes, which must not be held up; call to leave."""
        key = object()
        with self._lock:
            self._takers[key] = take
            self._key_wanted = True

        def leave() -> None:
            with self._lock:
                was_last = self._takers.pop(key, None) is not None and not self._takers
                when_empty = self._when_empty
            if was_last and when_empty is not None:
                when_empty()

        return leave

    def when_empty(self, call: Callable[[], None]) -> None:
        """Have this called, instead of what was given before, by whoever leaves last."""
        with self._lock:
            self._when_empty = call

    def want_key_frame(self) -> None:
        """Somebody can't go on without one."""
        with self._lock:
            self._key_wanted = True

    def key_frame_due(self) -> bool:
        """Whether the next picture is to be one; asked before each, by the thread that encodes."""
        with self._lock:
            now = self._clock()
            if not self._key_wanted or now - self._key_at < KEY_FRAMES_APART_S:
                return False
            self._key_wanted, self._key_at = False, now
            return True

    def offer(self, packet: EncodedPacket) -> None:
        """Bring a packet to all."""
        with self._lock:
            takers = list(self._takers.values())
        for take in takers:
            take(packet)

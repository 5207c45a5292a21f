"""The two hand-overs between a stream's threads: a slot for the newest item, and a bounded queue.

Both drop the *older* item, and hand it back to the caller, who counts it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class DropOldestQueue(Generic[T]):
    """A bounded FIFO for one consumer; putting into a full one drops the oldest item."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T, *, wait: bool = False) -> T | None:
        """Add ``item`` and return the one that had to go, None where there was room.

        With ``wait``, block until there is room instead (for sources that can be read slower). What is put after
        `close` comes straight back.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                return item
            dropped = self._items.popleft() if len(self._items) >= self._size else None
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def take(self, timeout_s: float | None = None) -> T | None:
        """The oldest item, waiting for one; None once closed and empty, or after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def drain(self) -> list[T]:
        """Everything inside, without waiting; a `put` that waits for room goes on."""
        with self._changed:
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return items

    def close(self) -> None:
        """Take no more; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)


class NewestSlot(DropOldestQueue[T]):
    """Holds the newest item only."""

    def __init__(self) -> None:
        super().__init__(1)

"""Places for which callers wait in turn, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """As many as the detector's replicas let wait: what is more waits here, instead of being refused there.

    Callers are served in the order in which they came; who asks for many holds up those behind it until it has them.
    How many may wait is up to those who call: each has a time limit.
    """

    def __init__(self, total: int) -> None:
        self._free = asyncio.Semaphore(total)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold ``count`` places, of no more than there are in all."""
        held = 0
        try:
            async with self._turn:
                while held < count:
                    await self._free.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._free.release()

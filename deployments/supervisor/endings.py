"""`Endings`: lives that are ended in good order, at once or beside the supervisor's passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deployments.supervisor.book import StreamBook
from deployments.supervisor.past import Past

if TYPE_CHECKING:
    from deployments.supervisor.lives.actor import Life, Lives


class Endings:
    """All methods on one event loop.

    Args:
        on_end: called once lives have ended.
    """

    def __init__(self, lives: Lives, past: Past, book: StreamBook, on_end: Callable[[], None]) -> None:
        self._lives = lives
        self._past = past
        self._book = book
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(self, life: Life) -> None:
        """Begin to end one."""
        task = asyncio.get_running_loop().create_task(self.end([life]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, lives: Iterable[Life]) -> None:
        """Return once all have ended."""
        found = list(lives)
        moving = [life for life in found if self._book.kept(life.stream_id) is not None]
        for life in moving:
            self._past.ended(life.stream_id, life.next_sequence)
        await asyncio.gather(*(self._lives.end(life, self._book.epoch) for life in found))
        for life in moving:
            if not self._lives.of(life.stream_id) and self._book.kept(life.stream_id) is not None:
                self._past.hand_on(life.stream_id, life.carried)
        self._on_end()

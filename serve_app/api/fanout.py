"""One subscription upstream, many viewers: who is slow loses the oldest and delays nobody."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from deployments.errors import StreamNotFound
from serve_app.api.problems import TOO_MANY_VIEWERS, Refused

logger = logging.getLogger(__name__)

GRACE_S = 2.0
"""How long a subscription outlives its last viewer: a page that is loaded again finds it running."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class StreamEnded(Exception):
    """Nothing more will come and everything that came was read; ``deleted`` says whether the stream is gone."""

    def __init__(self, deleted: bool) -> None:
        super().__init__(deleted)
        self.deleted = deleted


class Seats:
    """How many viewers the process takes, of all streams and kinds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def take(self) -> None:
        """Take one. Raises Refused where none is free."""
        if self.taken >= self._limit:
            raise Refused(TOO_MANY_VIEWERS, f"All {self._limit} places for viewers are taken: try again later.")
        self.taken += 1

    def release(self) -> None:
        """Give one back."""
        self.taken -= 1


class Viewer(Generic[Item]):
    """One client's bounded mailbox; when it is full the oldest item goes."""

    def __init__(self, capacity: int, rate: float, leave: Callable[[Viewer[Item]], None]) -> None:
        self.rate = rate
        self.dropped = 0
        self._items: deque[Item] = deque(maxlen=capacity)
        self._wake = asyncio.Event()
        self._end: StreamEnded | None = None
        self._leave: Callable[[Viewer[Item]], None] | None = leave

    def offer(self, item: Item) -> None:
        """Put an item in."""
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._wake.set()

    def end(self, deleted: bool) -> None:
        """Nothing more will come."""
        self._end = StreamEnded(deleted)
        self._wake.set()

    async def next(self, timeout_s: float) -> Item | None:
        """The oldest item, None after ``timeout_s``. Raises StreamEnded after the last one."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return None
        if not self._items and self._end is not None:
            raise self._end
        item = self._items.popleft()
        if not self._items and self._end is None:
            self._wake.clear()
        return item

    def take_dropped(self) -> int:
        """How many items were lost since the last call."""
        dropped, self.dropped = self.dropped, 0
        return dropped

    def leave(self) -> None:
        """Give the place back; harmless when repeated."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(self)


class Broadcast(Generic[Item]):
    """One subscription and those who watch it."""

    def __init__(self) -> None:
        self.viewers: set[Viewer[Item]] = set()
        self.started = asyncio.Event()
        """Set once the subscription's position is fixed: whatever comes later reaches every viewer."""
        self.newest: Item | None = None
        self.task: asyncio.Task[None] | None = None
        self.closing: asyncio.TimerHandle | None = None

    def publish(self, item: Item) -> None:
        """Hand an item to every viewer."""
        self.newest = item
        for viewer in self.viewers:
            viewer.offer(item)

    @property
    def rate(self) -> float:
        """Items a second that the fastest viewer wants."""
        return max((viewer.rate for viewer in self.viewers), default=1.0)


class Fanout(Generic[Item]):
    """The broadcasts of one kind by stream; each starts with its first viewer and ends with the last.

    Args:
        pump: subscribes to a stream and publishes what comes, until it raises StreamNotFound.
        capacity: items that wait for one viewer at most.
        replay_newest: whether a viewer that joins gets the newest item at once.
    """

    def __init__(
        self,
        pump: Callable[[str, Broadcast[Item]], Awaitable[None]],
        seats: Seats,
        *,
        capacity: int,
        replay_newest: bool,
        grace_s: float = GRACE_S,
    ) -> None:
        self._pump = pump
        self._seats = seats
        self._capacity = capacity
        self._replay_newest = replay_newest
        self._grace_s = grace_s
        self._broadcasts: dict[str, Broadcast[Item]] = {}

    def join(self, stream_id: str, rate: float = math.inf) -> tuple[Viewer[Item], Broadcast[Item]]:
        """A new viewer of a stream; `Viewer.leave` ends it. Raises Refused where no place is free."""
        self._seats.take()
        broadcast = self._broadcasts.get(stream_id) or self._start(stream_id)
        if broadcast.closing is not None:
            broadcast.closing.cancel()
            broadcast.closing = None
        viewer: Viewer[Item] = Viewer(self._capacity, rate, lambda gone: self._left(stream_id, broadcast, gone))
        broadcast.viewers.add(viewer)
        if self._replay_newest and broadcast.newest is not None:
            viewer.offer(broadcast.newest)
        return viewer, broadcast

    def close(self) -> None:
        """End every subscription and every viewer."""
        for stream_id, broadcast in list(self._broadcasts.items()):
            self._stop(stream_id, broadcast)

    def _start(self, stream_id: str) -> Broadcast[Item]:
        broadcast: Broadcast[Item] = Broadcast()
        self._broadcasts[stream_id] = broadcast
        broadcast.task = asyncio.create_task(self._run(stream_id, broadcast))
        return broadcast

    async def _run(self, stream_id: str, broadcast: Broadcast[Item]) -> None:
        deleted = False
        try:
            await self._pump(stream_id, broadcast)
        except StreamNotFound:
            deleted = True
        finally:
            if self._broadcasts.get(stream_id) is broadcast:
                del self._broadcasts[stream_id]
            broadcast.started.set()
            for viewer in broadcast.viewers:
                viewer.end(deleted)

    def _left(self, stream_id: str, broadcast: Broadcast[Item], viewer: Viewer[Item]) -> None:
        self._seats.release()
        broadcast.viewers.discard(viewer)
        if not broadcast.viewers and broadcast.task is not None and not broadcast.task.done():
            loop = asyncio.get_running_loop()
            broadcast.closing = loop.call_later(self._grace_s, self._stop, stream_id, broadcast)

    def _stop(self, stream_id: str, broadcast: Broadcast[Item]) -> None:
        # Out of the table at once: a viewer that joins before the cancelled task has run must start a new one.
        if self._broadcasts.get(stream_id) is broadcast:
            del self._broadcasts[stream_id]
        if broadcast.task is not None:
            broadcast.task.cancel()


async def patiently(poll: Callable[[], Awaitable[Answer]], what: str, retry_s: float) -> Answer:
    """The answer of ``poll``, asked again after errors: a stream that moves to another node is away for a moment.

    Raises:
        StreamNotFound: the stream is deleted.
    """
    failed = False
    while True:
        try:
            return await poll()
        except StreamNotFound:
            raise
        except Exception:
            logger.log(logging.DEBUG if failed else logging.WARNING, "%s: asked again", what, exc_info=True)
            failed = True
            await asyncio.sleep(retry_s)


class Pace:
    """Keeps a loop at a rate, with credit for one interval so that jitter does not slow it."""

    def __init__(self) -> None:
        self._due = 0.0

    async def wait(self, rate: float) -> None:
        """Wait for the next turn at ``rate`` turns a second."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due + 1 / rate, now - 1 / rate)
        if self._due > now:
            await asyncio.sleep(self._due - now)

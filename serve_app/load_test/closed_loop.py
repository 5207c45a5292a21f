"""A closed loop: so many clients, each of which sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

RAMP_PART, RAMP_S = 0.2, 1.0
"""How long the loop runs before it counts: this part of the time of the measurement, at most so many seconds."""

PAUSE_S = 0.1
"""After a failed request: a client that is refused at once would otherwise only ask and be refused."""


class Failed(Exception):
    """One request had no reply; ``kind`` is what it is counted as, ``said`` the server's own words, if it had any."""

    def __init__(self, kind: str, said: str = "") -> None:
        super().__init__(kind)
        self.kind, self.said = kind, said


@dataclass(frozen=True, slots=True)
class Measured:
    """One closed loop.

    Attributes:
        since, until: on the monotonic clock; what ended in between counts as speed.
        completed: of those.
        latencies_s: of all that ended after ``since``, sorted: also of those that were under way at the end, or the
            slowest would be missing.
    """

    since: float
    until: float
    completed: int
    latencies_s: list[float]
    failed: Mapping[str, int]


async def closed_loop(send: Callable[[], Awaitable[None]], concurrency: int, seconds: float) -> Measured:
    """Run the loop for a little longer than ``seconds``, and wait for what is under way then.

    ``send`` raises `Failed`, and must have a time limit of its own.
    """
    since = time.monotonic() + min(RAMP_S, RAMP_PART * seconds)
    until = since + seconds
    ended: list[tuple[float, float]] = []
    failed: Counter[str] = Counter()

    async def client() -> None:
        while (started := time.monotonic()) < until:
            try:
                await send()
            except Failed as failure:
                failed[failure.kind] += 1
                await asyncio.sleep(min(PAUSE_S, max(0.0, until - time.monotonic())))
            else:
                ended.append((started, time.monotonic()))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(client())
    counted = [(started, end) for started, end in ended if end >= since]
    return Measured(
        since,
        until,
        sum(end <= until for _, end in counted),
        sorted(end - started for started, end in counted),
        dict(failed),
    )

"""Waiting for what other threads do, with an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

PATIENCE_S = 20.0
"""Far longer than anything here takes on a busy machine; only a failure waits for it."""


def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as ``condition`` holds."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.002)


def in_threads(*tasks: Callable[[], None]) -> None:
    """Run all tasks at the same time; raises what one of them raised."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        for running in [pool.submit(task) for task in tasks]:
            running.result(PATIENCE_S)


@contextmanager
def started(task: Callable[[], None]) -> Iterator[threading.Thread]:
    """``task`` on a thread of its own, which must have ended when the test is over."""
    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "a thread did not end"


async def until_so(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """As `until`, for what an event loop does meanwhile."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)

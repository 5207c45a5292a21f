"""CPU time of this thread: other programs on the machine don't count."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

TRIES = 3


def cpu_s(do: Callable[[], object]) -> float:
    """The least of `TRIES`, seconds."""
    least = math.inf
    for _ in range(TRIES):
        began = time.thread_time()
        do()
        least = min(least, time.thread_time() - began)
    return least

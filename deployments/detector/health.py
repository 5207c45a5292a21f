"""Whether the engine is well: what ended it, how often it failed in a row, how long it has been in a batch."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from engines.errors import EngineDead, EngineError, InferenceFailed

MAX_FAILURES = 3
"""Failed batches in a row, of one lane, that end the engine: a broken device fails for ever, batch by batch."""

STUCK_S, STUCK_ON_CPU_S = 3.5, 30.0
"""A batch that runs for longer is stuck: on a GPU streams have another replica within 5 s. A CPU doesn't hang; other
work takes it, and a new replica would have to start beside that."""

SLOW_TIMES = 10
"""Whatever it took when it was measured, a batch that takes so many times that may be slow and not yet stuck."""

Part = TypeVar("Part")

logger = logging.getLogger(__name__)


def patience_s(wanted_s: float | None, device: str, batch_s: float) -> float:
    """After which time a batch is stuck.

    Args:
        wanted_s: by the configuration; None: what suits the device.
        device: as `EngineInfo` has it.
        batch_s: what the largest batch took when it was measured.
    """
    least_s = wanted_s or (STUCK_ON_CPU_S if device == "cpu" else STUCK_S)
    return max(least_s, SLOW_TIMES * batch_s)


class Standstill:
    """How long frames have been waiting while no batch came to its end; told now and then, by one thread."""

    def __init__(self) -> None:
        self._free_at = 0.0
        self._since: float | None = None

    def seconds(self, now: float, waiting: int, free_at: float) -> float:
        """Of the time between looks at which frames waited and the engine's last end was the same; 0 where it moves."""
        if not waiting or free_at != self._free_at or self._since is None:
            self._free_at, self._since = free_at, now if waiting else None
            return 0.0
        return now - self._since


class EngineHealth:
    """Told by each of the engine's threads of its own batches; asked from any.

    Attributes:
        patience_s: how long a batch may run.
    """

    def __init__(self, patience_s: float = math.inf) -> None:
        self.patience_s = patience_s
        self._lock = threading.Lock()
        self._busy_since: dict[int, float] = {}  # by thread
        self._failures: Counter[int] = Counter()  # in a row, by thread
        self._dead: EngineDead | None = None

    def busy(self, since: float) -> None:
        """This thread is in a batch from then on; of several under way it is the oldest that counts."""
        with self._lock:
            self._busy_since[threading.get_ident()] = since

    def idle(self) -> None:
        """This thread is in no batch."""
        with self._lock:
            self._busy_since.pop(threading.get_ident(), None)

    def succeeded(self) -> None:
        """A batch of this thread did."""
        self._failures[threading.get_ident()] = 0

    def attempt(self, part: Callable[[], Part]) -> Part | EngineError:
        """Do a part of a batch of this thread's; returns what its callers get where that fails, or the engine is dead.

        The last batch that may fail is the engine's end, as is any error that engines don't speak of.
        """
        if self._dead is not None:
            return self._dead
        try:
            return part()
        except InferenceFailed as error:
            return self._failed(error)
        except Exception as error:
            logger.exception("the engine failed for good")
            self._dead = error if isinstance(error, EngineDead) else EngineDead(f"the engine failed: {error!r}")
            return self._dead

    def _failed(self, error: InferenceFailed) -> EngineError:
        this = threading.get_ident()
        self._failures[this] += 1
        if self._failures[this] < MAX_FAILURES:
            logger.warning("a batch failed: %s", error)
            return error
        self._dead = EngineDead(f"{MAX_FAILURES} batches in a row failed, the last one so: {error}")
        return self._dead

    def check(self, now: float) -> None:
        """Return while the engine is well.

        Raises:
            EngineDead: it failed for good, or a batch has been running for longer than `patience_s`.
        """
        with self._lock:
            busy_since = min(self._busy_since.values(), default=None)
        if self._dead is not None:
            raise self._dead
        if busy_since is not None and now - busy_since > self.patience_s:
            raise EngineDead(
                f"the engine has been in one batch for {now - busy_since:.1f} s: this replica must be replaced"
            )

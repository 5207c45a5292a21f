"""What a fault is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.fleet import Fleet

LIMIT_S = 5.0
"""A stream has to be online again within this, counted from the end of the cause."""


@dataclass(frozen=True)
class Outcome:
    """What has been done.

    Attributes:
        struck: the streams that may lose more than a second of frames; None: the one that gets another actor.
        restored: whether what was struck is whole again, such as the number of replicas; the next fault waits for it.
        began_wall: when the cause began, in Unix time; None: when `Fault.does` was called.
    """

    struck: frozenset[str] | None = frozenset()
    restored: Callable[[], bool] = lambda: True
    began_wall: float | None = None


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        does: strikes, and returns when the cause has ended.
        unavailable: why it can't be done here; None where it can.
        limit_s: within which all streams have to be back.
    """

    name: str
    does: Callable[[Fleet, random.Random], Outcome]
    unavailable: Callable[[Fleet], str | None] = lambda fleet: None
    limit_s: float = LIMIT_S


def last(seconds: float) -> None:
    """Let a fault last: its length is part of what it is."""
    threading.Event().wait(seconds)

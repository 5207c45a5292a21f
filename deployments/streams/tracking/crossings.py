"""How often lines were crossed in one life of a stream's process, for metrics: exact, and of bounded size."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

MAX_SERIES = 256
"""Different crossings that are told apart: 32 lines, both directions and four classes. Names of zones come and go with
the spec, and Prometheus keeps every series."""

OTHER = "(other)"
"""Zone and class of those beyond; no zone can have this name."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """What crossings are counted by; ``kind`` is the label of what crossed."""

    zone: str
    direction: str
    kind: str


class Crossings:
    """Counts on the thread that detects, and is read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Crossing] = Counter()

    def happened(self, sequence: int, event: bytes, in_zones: Iterable[bytes]) -> None:
        """What happened on one frame, as `EventLog` tells it; never waits long."""
        for one in in_zones:
            found = json.loads(one)
            if found["event"] == "cross":
                self._add(Crossing(found["zone"], found["direction"], found["label"]))

    def totals(self) -> dict[Crossing, int]:
        """All so far; none ever falls."""
        with self._lock:
            return dict(self._counts)

    def _add(self, crossing: Crossing) -> None:
        with self._lock:
            if crossing not in self._counts and len(self._counts) >= MAX_SERIES:
                crossing = Crossing(OTHER, crossing.direction, OTHER)
            self._counts[crossing] += 1

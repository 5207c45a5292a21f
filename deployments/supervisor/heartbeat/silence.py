"""How long each node has been silent; pure.

A node is heard of when any actor on it answers, or when the port of its raylet takes a connection: its kernel does that
also where everything on it is busy or stopped. So a node is lost when its machine is off or cut off, or Ray on it has
ended, and not when it is slow.
"""

from __future__ import annotations

from collections.abc import Iterable

LOST_S = 3.0
"""A node that is silent for so long is lost."""

SUSPECT_S = 1.0
"""One that is silent for so long is knocked at."""

GAP_S = 1.0
"""Who listens again after such a pause may have missed the answers, and begins to count anew."""


class Silence:
    """By node id. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._since = self._listened = float("-inf")

    def listen(self, now: float) -> None:
        """We are awake; to be called several times a second."""
        if now - self._listened > GAP_S:
            self._since = now
        self._listened = now

    def heard(self, node: str, at: float) -> None:
        """Something on the node answered."""
        self._heard[node] = max(at, self._heard.get(node, at))

    def suspects(self, nodes: Iterable[str], now: float) -> list[str]:
        """Those that should be knocked at."""
        return [node for node in nodes if self._silent_s(node, now) >= SUSPECT_S]

    def lost(self, nodes: Iterable[str], now: float) -> list[str]:
        """Those that are to be given up."""
        return [node for node in nodes if self._silent_s(node, now) >= LOST_S]

    def _silent_s(self, node: str, now: float) -> float:
        return now - max(self._heard.setdefault(node, now), self._since)

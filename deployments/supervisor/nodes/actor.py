"""`Nodes`: what Ray tells of its nodes, asked once a second, and at once where somebody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import ray
from ray._private.state import available_resources_per_node, state
from ray.exceptions import RayError

from deployments.supervisor.asking import ask_ray
from deployments.supervisor.placement import NodeSeen, to_leave

LOOK_S = 1.0
"""Between two looks: a node that drains is left soon after, and what is free is at most that old."""

AWAY_S = 2.5
"""Ray answers within milliseconds; where the last answer is so old nothing is started, which would hang as well."""

logger = logging.getLogger(__name__)


class Nodes:
    """All methods on one event loop; times are by its clock.

    Args:
        on_news: called after an answer that `told_since` had to wait for.
    """

    def __init__(self, on_news: Callable[[], None]) -> None:
        self.doors: dict[str, tuple[str, int]] = {}
        """Address and port of the raylet of each node that Ray takes for alive."""
        self.unrivalled_at = float("-inf")
        """Ray took our own node for alive when it was asked then: no other supervisor had been started."""
        self._own: str = ray.get_runtime_context().get_node_id()
        self._seen: tuple[NodeSeen, ...] = ()
        self._lost: frozenset[str] = frozenset()
        self._on_news = on_news
        self._awaited = asyncio.Event()
        self._told = asyncio.Event()
        self._told_at = self._answered_at = float("-inf")
        self._task = asyncio.get_running_loop().create_task(self._looks())

    @property
    def seen(self) -> tuple[NodeSeen, ...]:
        """The newest answer without what is lost; empty before the first."""
        return tuple(node for node in self._seen if node.node not in self._lost)

    @property
    def lost(self) -> frozenset[str]:
        """Nodes that are lost, though Ray takes them for alive: nothing must be started there."""
        return self._lost

    def lose(self, lost: frozenset[str]) -> None:
        """These are lost now, and no others."""
        self._lost = lost

    @property
    def others(self) -> list[str]:
        """All nodes that Ray takes for alive but our own."""
        return [node for node in self.doors if node != self._own]

    @property
    def to_leave(self) -> frozenset[str]:
        """Nodes that streams have to leave."""
        return to_leave(self.seen)

    @property
    def offered(self) -> dict[str, float]:
        """What all nodes together offer, by Ray's names."""
        seen = self.seen
        names = {name for node in seen for name in node.total}
        return {name: sum(node.total.get(name, 0.0) for node in seen) for name in names}

    @property
    def away(self) -> bool:
        """Whether Ray's head keeps us waiting: neither can it start an actor then."""
        return asyncio.get_running_loop().time() - self._answered_at > AWAY_S

    def told_since(self, at: float) -> bool:
        """Whether ``doors`` is of a question that was asked after ``at``; else it is asked at once."""
        if self._told_at >= at:
            return True
        self._awaited.set()
        return False

    def lives(self, node: str | None) -> bool:
        """Whether both Ray and we take a node for alive."""
        return node in self.doors and node not in self._lost

    async def told(self) -> None:
        """Return once there is an answer."""
        await self._told.wait()

    async def _look(self) -> bool:
        """Whether Ray answered. One question at a time: with the head away each hangs until it is back."""
        asked = asyncio.get_running_loop().time()
        try:
            self.doors, self._seen = await ask_ray(_ask)
        except (RayError, RuntimeError, OSError) as error:
            logger.warning("Ray does not tell its nodes: %s", error)
            return False
        self._told_at, self._answered_at = asked, asyncio.get_running_loop().time()
        self._told.set()
        if self._own in self.doors:
            self.unrivalled_at = asked
        return True

    async def _looks(self) -> None:
        while True:
            awaited = self._awaited.is_set()
            self._awaited.clear()
            try:
                if await self._look() and awaited:
                    self._on_news()
            except Exception:
                logger.exception("Ray could not be asked for its nodes; it is asked again")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._awaited.wait()


def _ask() -> tuple[dict[str, tuple[str, int]], tuple[NodeSeen, ...]]:
    free = available_resources_per_node()  # type: ignore[no-untyped-call]
    draining = state.get_draining_nodes()
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    doors = {node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in alive}
    ids = [(node["NodeID"], node["Resources"]) for node in alive]
    return doors, tuple(NodeSeen(name, total, free.get(name, {}), name in draining) for name, total in ids)

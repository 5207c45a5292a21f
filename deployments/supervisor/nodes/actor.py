"""`Nodes`: what Ray tells of its nodes, asked again and again beside the event loop: with the head away it may hang."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import ray
from ray._private.state import available_resources_per_node, state
from ray.exceptions import RayError

from deployments.supervisor.placement import NodeSeen, to_leave

LOOK_S = 1.0
"""Between two looks: a node that drains is left soon after, and what is free is at most that old."""

logger = logging.getLogger(__name__)


class Nodes:
    """``seen`` is the newest answer; empty before the first."""

    def __init__(self) -> None:
        self.seen: tuple[NodeSeen, ...] = ()
        self._look: asyncio.Task[None] | None = None
        self._next = 0.0

    @property
    def to_leave(self) -> frozenset[str]:
        """Nodes that streams have to leave."""
        return to_leave(self.seen)

    @property
    def offered(self) -> dict[str, float]:
        """What all nodes together offer, by Ray's names."""
        names = {name for node in self.seen for name in node.total}
        return {name: sum(node.total.get(name, 0.0) for node in self.seen) for name in names}

    def poll(self) -> None:
        """Look again where the last look is long enough ago."""
        now = asyncio.get_running_loop().time()
        if now >= self._next and (self._look is None or self._look.done()):
            self._next = now + LOOK_S
            self._look = asyncio.get_running_loop().create_task(self.look())

    async def look(self) -> None:
        """Ask now."""
        with suppress(RayError, OSError):
            self.seen = await asyncio.to_thread(_seen)


def _seen() -> tuple[NodeSeen, ...]:
    free = available_resources_per_node()  # type: ignore[no-untyped-call]
    draining = state.get_draining_nodes()
    return tuple(
        NodeSeen(node["NodeID"], node["Resources"], free.get(node["NodeID"], {}), node["NodeID"] in draining)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    )

"""`Heartbeat`: asks all actors twice a second, and gives up the lives on a node that is lost before Ray does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import ray
from ray.exceptions import RayError

from deployments.supervisor.heartbeat.silence import Silence
from deployments.supervisor.lives.actor import Life, Lives

BEAT_S = 0.5

KNOCK_S = 1.0
"""How long a raylet's port may take to accept a connection, which its kernel does."""

TABLE_S = 1.0
"""How often Ray is asked for its nodes."""

TABLE_TIMEOUT_S = 5.0
"""With the GCS away Ray does not answer; until it does, nobody is vouched for on its word."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Runs beside the supervisor's passes, which a store that hangs holds up.

    Args:
        epoch: of this supervisor, 0 before it took over.
        on_loss: called once lives were given up.
    """

    def __init__(self, lives: Lives, epoch: Callable[[], int], on_loss: Callable[[], None]) -> None:
        self._lives = lives
        self._epoch = epoch
        self._on_loss = on_loss
        self._own: str = ray.get_runtime_context().get_node_id()
        self._silence = Silence()
        self._doors: dict[str, tuple[str, int]] = {}
        self.lost: frozenset[str] = frozenset()
        """Nodes that are lost, though Ray takes them for alive: nothing must be started there."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._beats()), loop.create_task(self._tables())]

    async def lives_on(self, node: str | None) -> bool:
        """Whether Ray takes that node for alive, asked now; who died there has then died for certain."""
        return node not in self.lost and await self._table() and node in self._doors

    async def _beats(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._silence.listen(loop.time())
                self._lives.poll(self._epoch())
                await self._look()
            except Exception:
                logger.exception("a heartbeat failed; the next one comes")
            await asyncio.sleep(BEAT_S)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for life in self._lives:
            if life.report is not None and life.report.status.node is not None:
                self._silence.heard(life.report.status.node, life.heard_at)
        others = [node for node in self._doors if node != self._own]
        await asyncio.gather(*(self._knock(node) for node in self._silence.suspects(others, now)))
        now = asyncio.get_running_loop().time()
        lost = frozenset(self._silence.lost(others, now))
        for node in lost - self.lost:
            logger.error("node %s is lost: nothing on it has answered for 3 s; its streams start elsewhere", node)
        self.lost = lost
        gone = [life for life in self._lives if life.at in lost and life.alive and not life.stopping]
        if gone:
            await asyncio.gather(*(self._give_up(life) for life in gone))
            self._on_loss()

    async def _knock(self, node: str) -> None:
        with suppress(OSError, TimeoutError, KeyError):
            async with asyncio.timeout(KNOCK_S):
                _, writer = await asyncio.open_connection(*self._doors[node])
            writer.close()
            self._silence.heard(node, asyncio.get_running_loop().time())

    async def _give_up(self, life: Life) -> None:
        """Let Ray forget it, so that its name is free; the actor ends if it is ever reached."""
        self._lives.haunted.add(life.stream_id)
        with suppress(Exception):
            async with asyncio.timeout(TABLE_TIMEOUT_S):
                await asyncio.to_thread(ray.kill, life.actor, no_restart=True)
        life.alive = False

    async def _tables(self) -> None:
        while True:
            await self._table()
            await asyncio.sleep(TABLE_S)

    async def _table(self) -> bool:
        """Ask Ray for its nodes; False where it did not say. While ours lives, no other supervisor was started."""
        asked = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(TABLE_TIMEOUT_S):
                nodes = await asyncio.to_thread(ray.nodes)
        except (RayError, RuntimeError, TimeoutError, OSError) as error:
            logger.debug("Ray does not tell its nodes: %s", error)
            return False
        self._doors = {n["NodeID"]: (n["NodeManagerAddress"], n["NodeManagerPort"]) for n in nodes if n["Alive"]}
        if self._own in self._doors:
            self._lives.unrivalled_at = asked
        return True

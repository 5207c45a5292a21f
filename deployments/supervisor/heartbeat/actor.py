"""`Heartbeat`: asks all actors twice a second, and gives up the lives on a node that is lost before Ray does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import ray

from deployments.supervisor.asking import ask_ray
from deployments.supervisor.heartbeat.silence import Silence
from deployments.supervisor.lives.actor import Life, Lives
from deployments.supervisor.nodes.actor import Nodes

BEAT_S = 0.5

KNOCK_S = 1.0
"""How long a raylet's port may take to accept a connection, which its kernel does."""

KILL_S = 5.0
"""How long Ray may take to forget an actor; with the GCS away it does so once that is back."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Runs beside the supervisor's passes, which a store that hangs holds up.

    Args:
        epoch: of this supervisor, 0 before it took over.
        on_loss: called once lives were given up.
    """

    def __init__(self, lives: Lives, nodes: Nodes, epoch: Callable[[], int], on_loss: Callable[[], None]) -> None:
        self._lives = lives
        self._nodes = nodes
        self._epoch = epoch
        self._on_loss = on_loss
        self._silence = Silence()
        self._knocks: dict[str, asyncio.Task[None]] = {}
        self._losses: dict[str, asyncio.Task[None]] = {}
        self._task = asyncio.get_running_loop().create_task(self._beats())

    async def _beats(self) -> None:
        while True:
            try:
                self._beat()
            except Exception:
                logger.exception("a heartbeat failed; the next one comes")
            await asyncio.sleep(BEAT_S)

    def _beat(self) -> None:
        """Waits for nothing: what a beat waits for would pass for a sleep of ours, and nobody would ever be lost."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._silence.listen(now)
        self._lives.unrivalled_at = self._nodes.unrivalled_at
        self._lives.poll(self._epoch())
        for life in self._lives:
            if life.report is not None and life.report.status.node is not None:
                self._silence.heard(life.report.status.node, life.heard_at)
        self._knocks = {node: knock for node, knock in self._knocks.items() if not knock.done()}
        self._losses = {key: loss for key, loss in self._losses.items() if not loss.done()}
        others = self._nodes.others
        for node in set(self._silence.suspects(others, now)) - self._knocks.keys():
            self._knocks[node] = loop.create_task(self._knock(node))
        lost = frozenset(self._silence.lost(others, now))
        for node in lost - self._nodes.lost:
            logger.error("node %s is lost: nothing on it has answered for 3 s; its streams start elsewhere", node)
        self._nodes.lose(lost)
        for life in self._lives:
            if life.at in lost and life.alive and life.key not in self._losses:
                self._losses[life.key] = loop.create_task(self._give_up(life))

    async def _knock(self, node: str) -> None:
        with suppress(OSError, TimeoutError, KeyError):
            async with asyncio.timeout(KNOCK_S):
                _, writer = await asyncio.open_connection(*self._nodes.doors[node])
            writer.close()
            self._silence.heard(node, asyncio.get_running_loop().time())

    async def _give_up(self, life: Life) -> None:
        """Let Ray forget it, so that its name is free; the actor ends if it is ever reached."""
        self._lives.haunted.add(life.stream_id)
        with suppress(Exception):
            async with asyncio.timeout(KILL_S):
                await ask_ray(ray.kill, life.actor, no_restart=True)
        life.ended(asyncio.get_running_loop().time())
        self._on_loss()

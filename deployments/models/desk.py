"""Where replicas ask what to do and swaps are asked for: waits and limits around `ModelBoard`; asyncio, no Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from deployments.errors import DetectorUnavailable, PackageRefused
from deployments.models.board import ModelBoard, Verdict
from deployments.models.versions import ModelState, Order, Refusal, Report, Version

PREPARE_S = 120.0
"""How long all replicas may take to load a package and to try it; then nothing changes."""

SWITCH_S = 15.0
"""How long to wait for all replicas to have switched; one that hasn't by then does so later."""

LOOK_S = 1.0
"""A replica that is gone says nothing: how often to look."""

logger = logging.getLogger(__name__)


class ModelDesk:
    """All methods on one event loop."""

    def __init__(self) -> None:
        self._board = ModelBoard()
        self._changed = asyncio.Condition()

    async def follow(self, report: Report, wait_s: float) -> Order | None:
        """Take a replica's report; returns what it is to do, waiting ``wait_s`` for something to come up."""
        async with self._changed:
            self._board.hear(report, time.monotonic())
            self._changed.notify_all()
            await self._until(lambda: self._board.order(report) is not None, wait_s)
            return self._board.order(report)

    def wanted(self, model: str, configured: str) -> Version | None:
        """What a replica that starts should run instead of the package that its ``args`` name."""
        return self._board.wanted(model, configured)

    def states(self) -> tuple[ModelState, ...]:
        """The models that replicas run, by name."""
        return self._board.states(time.monotonic())

    async def swap(self, model: str, package: str) -> ModelState:
        """Have all replicas of a model run another package: once every one of them has it ready, or none does.

        Raises:
            ModelNotFound, SwapInProgress: as their names say.
            PackageRefused: a replica can't run it; nothing has changed.
            DetectorUnavailable: no replica is there, or they took longer than `PREPARE_S`; nothing has changed.
        """
        async with self._changed:
            version = self._board.begin(model, package, time.monotonic(), time.time_ns() // 1_000_000)
            self._changed.notify_all()
            logger.info("model %s: replicas prepare %s", model, package)
            try:
                await self._prepared(model, version)
            finally:  # without effect where it was committed
                self._board.abandon(model, version)
                self._changed.notify_all()
            await self._until(lambda: self._board.switched(model, version, time.monotonic()), SWITCH_S)
            logger.info("model %s runs %s", model, package)
            return self._board.state(model, time.monotonic())

    async def _prepared(self, model: str, version: Version) -> None:
        def verdict() -> Verdict | Refusal:
            return self._board.verdict(model, version, time.monotonic())

        await self._until(lambda: verdict() is not Verdict.WAIT, PREPARE_S)
        match verdict():
            case Verdict.READY:
                self._board.commit(model, version)
            case Refusal(reason=reason):
                raise PackageRefused(f"nothing has changed: {reason}")
            case Verdict.GONE:
                raise DetectorUnavailable(f"nothing has changed: the replicas of model {model!r} went away")
            case Verdict.WAIT:
                raise DetectorUnavailable(f"nothing has changed: not every replica was ready within {PREPARE_S:g} s")

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Return once ``done`` or after ``seconds``; the lock is held but while it waits."""
        deadline = time.monotonic() + seconds
        while not done() and (left := deadline - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_S)):
                    await self._changed.wait()

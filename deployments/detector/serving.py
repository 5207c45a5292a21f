"""One loaded engine with all that frames pass on their way to it: the link, the scheduler, the batches; no Ray.

A replica has one, and another beside it while its model is exchanged. Each frame is answered by the engine that it was
made for: the old link tells its streams to attach anew, goes on until they have, and takes its engine along.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np

from deployments.detector.batching import Batcher, WaitingFrame
from deployments.detector.health import Standstill
from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.scheduler import Scheduler
from deployments.detector.service import DetectorService, Outcome
from deployments.detector.waiting import DirectFrame, LinkedFrame
from deployments.link.attachments import LinkFrame
from deployments.link.grant import Grant
from deployments.link.messages import DrainReason
from deployments.link.server import LinkServer
from deployments.link.stats import LinkStats
from engines.errors import EngineDead
from engines.protocol import Engine
from engines.types import EngineInfo, Thresholds

RETIRE_S = 10.0
"""How long an exchanged engine is kept for streams that are still attached to it; they need a fraction of a second."""

LOOK_S = 0.05
"""Between two looks at whether they have left."""


class Release(NamedTuple):
    """Frames that enter a batch, and whose engine infers it."""

    service: DetectorService
    frames: Sequence[WaitingFrame]


class Serving:
    """An engine, its link and its batches.

    ``infer`` enters a release into `@serve.batch`. ``elsewhere`` is `LinkServer`'s. `start`, `attach` and `detect_all`
    are for the event loop on which requests run; that of a replica's constructor may be another.
    """

    def __init__(
        self,
        service: DetectorService,
        infer: Callable[[Release], Awaitable[Sequence[Outcome]]],
        *,
        host: str,
        elsewhere: Callable[[str], str | None],
        lease_s: float,
    ) -> None:
        self.service = service
        self._infer = infer
        self._batcher: Batcher | None = None
        self._ended: dict[str, asyncio.Event] = {}
        self._standstill = Standstill()
        self.link = LinkServer(
            service.info,
            host=host,
            on_frame=self._on_frame,
            on_gone=self._on_gone,
            elsewhere=elsewhere,
            lease_s=lease_s,
        )

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self.service.info

    @property
    def waiting(self) -> int:
        """Frames that wait for their turn."""
        return 0 if self._batcher is None else self._batcher.waiting

    def stuck_s(self, now: float) -> float:
        """How long frames have waited while no batch ended, by the looks that one thread takes with this."""
        return self._standstill.seconds(now, self.waiting, self.service.free_at)

    def stats(self) -> LinkStats:
        """What its link counted so far."""
        return self.link.stats()

    def start(self) -> Batcher:
        """The batcher, made on the first call."""
        if self._batcher is None:
            self._batcher = Batcher(
                asyncio.get_running_loop(),
                Scheduler(self.info.width, self.info.height, waiting_per_stream=1),
                self.service.staging,
                self.service.speed,
                lambda frames: self._infer(Release(self.service, frames)),
                self.service.fitting,
                self.service.lanes,
                lambda: self.service.free_at,
            )
        return self._batcher

    async def attach(self, stream: str, client_key: bytes) -> AsyncGenerator[Grant]:
        """Answer with leave to attach, then stay open for as long as the attachment stands."""
        self.start()
        grant = self.link.grant(stream, client_key)
        ended = self._ended[grant.lease] = asyncio.Event()
        try:
            yield grant
            await ended.wait()
        finally:
            self._ended.pop(grant.lease, None)
            self.link.end(grant.lease)

    async def detect_all(self, requests: Sequence[DetectRequest]) -> list[DetectReply]:
        """Find the objects in frames, in batches with whatever else is waiting; where one fails, the call does."""
        batcher, frames = self.start(), [DirectFrame(request) for request in requests]
        for frame in frames:
            batcher.offer(frame)
        return await asyncio.gather(*(frame.outcome for frame in frames))

    def check_health(self, now: float) -> None:
        """Raises EngineDead where the engine is stuck or dead, or the link broken."""
        self.service.check_health(now)
        if not self.link.running:
            raise EngineDead("the frame link is broken")

    def retire(self, to: str) -> None:
        """Send all streams to attach anew, best to the replica ``to``; close once the last frame is answered."""
        self.link.drain(DrainReason.EXCHANGE, to)
        pause, deadline = threading.Event(), time.monotonic() + RETIRE_S
        while self.link.stats().attached and time.monotonic() < deadline:
            pause.wait(LOOK_S)
        self.link.close()
        while self._batcher is not None and self._batcher.busy and time.monotonic() < deadline:
            pause.wait(LOOK_S)
        self.service.close()

    def close(self) -> None:
        """End one that nobody has been told of."""
        self.link.close()
        self.service.close()

    # On the link's thread -------------------------------------------------------------------------------------

    def _on_frame(self, frame: LinkFrame) -> None:
        assert self._batcher is not None, "nobody is attached before `attach` has made it"
        self._batcher.offer(LinkedFrame(frame, self.link))

    def _on_gone(self, lease: str) -> None:
        batcher, ended = self._batcher, self._ended.get(lease)
        if batcher is not None:
            batcher.forget(lease)
            if ended is not None:
                batcher.loop.call_soon_threadsafe(ended.set)


def proven(load: Callable[[], Engine]) -> Engine:
    """The engine that ``load`` makes, warm and seen to infer a blank frame; one that can't is closed again.

    For the thread that owns the engine.
    """
    engine = load()
    try:
        engine.warmup()
        engine.infer([np.zeros((engine.info.height, engine.info.width, 3), np.uint8)], [Thresholds()])
    except BaseException:
        engine.close()
        raise
    return engine

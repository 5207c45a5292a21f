"""A Detector replica without Ray: the same link, scheduler, batches and service, on an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from deployments.detector.batching import Batcher, WaitingFrame
from deployments.detector.scheduler import Scheduler
from deployments.detector.service import Arrival, DetectorService, Outcome
from deployments.detector.waiting import LinkedFrame
from deployments.link.attachments import LinkFrame
from deployments.link.grant import Grant
from deployments.link.server import LinkServer
from engines.fake import FakeEngine


class Replica:
    """One engine, one loop, one link server."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.elsewhere: str | None = None
        self.service = DetectorService(lambda: engine, stuck_after_s=5.0)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="replica", daemon=True)
        self._thread.start()
        info = self.service.info
        scheduler: Scheduler[WaitingFrame] = Scheduler(info.width, info.height, waiting_per_stream=1)
        self.batcher = Batcher(
            self.loop,
            scheduler,
            self.service.staging,
            self.service.speed,
            self._infer,
            self.service.fitting,
            self.service.lanes,
            lambda: self.service.free_at,
        )
        self.link = LinkServer(
            info,
            host="127.0.0.1",
            on_frame=self._on_frame,
            on_gone=self.batcher.forget,
            elsewhere=lambda lease: self.elsewhere,
        )

    async def _infer(self, frames: Sequence[WaitingFrame]) -> Sequence[Outcome]:
        return await asyncio.wrap_future(self.service.submit([Arrival(f.request, time.monotonic()) for f in frames]))

    def _on_frame(self, frame: LinkFrame) -> None:
        self.batcher.offer(LinkedFrame(frame, self.link))

    def close(self) -> None:
        """End everything, as the end of the process would; frames that are out get no answer."""
        self.link.close()
        self.engine.resume()
        self.service.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.run_until_complete(_cancel_the_rest())
        self.loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class ReplicaRequest:
    """`AttachRequest` to whichever replica ``choose`` names, once it is asked."""

    def __init__(self, choose: Callable[[], Replica], client_key: bytes) -> None:
        self._choose, self._client_key = choose, client_key
        self._granted: tuple[Replica, Grant] | None = None
        self.cancelled = threading.Event()

    def grant(self) -> Grant:
        replica = self._choose()
        grant = replica.link.grant("gate", self._client_key)
        self._granted = replica, grant
        return grant

    def cancel(self) -> None:
        self.cancelled.set()
        if self._granted is not None:
            replica, grant = self._granted
            if replica.link.running:
                replica.link.end(grant.lease)

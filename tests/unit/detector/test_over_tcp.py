"""From a stream on another node into a batch: link, scheduler and service, as a replica puts them together."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from deployments.detector.batching import Batcher, WaitingFrame
from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.scheduler import Scheduler
from deployments.detector.service import Arrival, DetectorService, Outcome
from deployments.detector.speed import BatchTimes
from deployments.detector.waiting import LinkedFrame
from deployments.link.attachments import LinkFrame
from deployments.link.client import LinkClient
from deployments.link.grant import KeyPair
from deployments.link.server import LinkServer
from engines.fake import FakeEngine
from engines.letterbox import Letterbox

SIDE = 64


def test_a_letterboxed_picture_is_found_where_it_is() -> None:
    """Its padding didn't travel: the box of what is bright ends where the picture does."""

    async def detect() -> DetectReply:
        loop = asyncio.get_running_loop()
        service = DetectorService(lambda: FakeEngine(width=SIDE, height=SIDE), stuck_after_s=5.0)

        async def infer(frames: Sequence[WaitingFrame]) -> Sequence[Outcome]:
            return await asyncio.wrap_future(service.submit([Arrival(f.request, f.arrived_at) for f in frames]))

        scheduler: Scheduler[WaitingFrame] = Scheduler(SIDE, SIDE, waiting_per_stream=1)
        batcher = Batcher(
            loop,
            scheduler,
            BatchTimes(),
            service.speed,
            infer,
            lambda frames: min(frames, 8),
            service.lanes,
            lambda: service.free_at,
        )

        def on_frame(frame: LinkFrame) -> None:
            batcher.offer(LinkedFrame(frame, server))

        server = LinkServer(
            service.info,
            host="127.0.0.1",
            on_frame=on_frame,
            on_gone=batcher.forget,
            elsewhere=lambda lease: None,
        )
        keys = KeyPair.make()
        grant = dataclasses.replace(server.grant("a", keys.public), local="nobody-listens-here")
        client = await asyncio.to_thread(LinkClient, grant, keys, on_drain=print, on_lost=print)
        letterbox = Letterbox.fit(160, 90, SIDE, SIDE, "centre", 114)
        image = letterbox.apply(np.full((90, 160, 3), 255, np.uint8))
        rows = letterbox.top, letterbox.inner_height
        try:
            reply = client.submit(DetectRequest(image, None, rows=rows))
            return await asyncio.to_thread(reply.result, 20.0)
        finally:
            client.close()
            server.close()
            service.close()

    started = time.monotonic()
    found = asyncio.run(detect()).detections
    assert time.monotonic() - started < 20
    assert found.xyxy.tolist() == [[0, 14, SIDE, 50]]

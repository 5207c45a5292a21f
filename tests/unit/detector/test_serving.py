"""An engine is exchanged under a stream that sends all the while; what can't infer never comes to serve."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from deployments.detector.port import DetectRequest
from deployments.detector.service import Arrival, DetectorService, Outcome
from deployments.detector.serving import Release, Serving, proven
from deployments.errors import DetectorUnavailable
from deployments.link.attacher import Attacher
from deployments.link.grant import Grant
from deployments.link.stats import together
from engines.errors import EngineDead, InferenceFailed
from engines.fake import FakeEngine
from engines.types import Thresholds
from tests.support.waiting import PATIENCE_S, until


class Loop:
    """An event loop on a thread, as a replica has one for requests."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        self.run(self._end()).result(PATIENCE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _end(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


class Request:
    """`AttachRequest` to whatever serves now, open for as long as the attachment stands."""

    def __init__(self, loop: Loop, serving: Serving, key: bytes) -> None:
        self._loop = loop
        self._grants: AsyncGenerator[Grant] = serving.attach("gate", key)
        self.over: Future[Any] | None = None

    def grant(self) -> Grant:
        grant: Grant = self._loop.run(anext(self._grants)).result(PATIENCE_S)
        self.over = self._loop.run(self._rest())
        return grant

    async def _rest(self) -> None:
        async for _ in self._grants:
            pass

    def cancel(self) -> None:
        if self.over is not None:
            self.over.cancel()


async def infer(release: Release) -> Sequence[Outcome]:
    arrivals = [Arrival(frame.request, frame.arrived_at) for frame in release.frames]
    return await asyncio.wrap_future(release.service.submit(arrivals))


def serving(engine: FakeEngine) -> Serving:
    service = DetectorService(lambda: proven(lambda: engine), stuck_after_s=5.0)
    return Serving(service, infer, host="127.0.0.1", elsewhere=lambda lease: None, lease_s=30.0)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_a_stream_goes_on_over_an_exchange_and_every_frame_gets_an_answer_of_its_own_engine(loop: Loop) -> None:
    old, new = (serving(FakeEngine(width=side, height=side, class_names=(str(side),))) for side in (32, 48))
    current = old
    wanted: list[str] = []

    def open_request(key: bytes, to: str) -> Request:
        wanted.append(to)
        return Request(loop, current, key)

    attacher = Attacher(open_request)
    changed, answered = 0, {32: 0, 48: 0}
    try:
        retired: threading.Thread | None = None
        while answered[48] < 50:
            info = attacher.info(PATIENCE_S)
            frame = np.full((info.height, info.width, 3), 200, np.uint8)
            try:
                reply = attacher.submit(DetectRequest(frame, None)).result(PATIENCE_S)
            except DetectorUnavailable:  # another model is loaded than this frame was made for
                changed += 1
                continue
            assert reply.detections.xyxy.tolist() == [[0, 0, info.width, info.height]]
            answered[info.width] += 1
            if answered[32] == 50 and retired is None:
                current = new
                retired = threading.Thread(target=old.retire, args=("here",))
                retired.start()
        assert retired is not None
        retired.join(PATIENCE_S)
        assert not retired.is_alive()
    finally:
        attacher.close()
    assert wanted == ["", "here"]
    assert changed <= 1
    counts = together([old.stats().ended(), new.stats()])
    assert counts.frames == counts.replies == sum(answered.values())
    assert (counts.dropped, old.stats().attached) == ({}, 0)
    with pytest.raises(EngineDead):
        old.check_health(0.0)
    new.close()


def test_an_image_that_waits_for_the_old_engine_is_still_answered(loop: Loop) -> None:
    engine = FakeEngine(width=32, height=32)
    old = serving(engine)
    engine.hang()
    replies = loop.run(old.detect_all([DetectRequest(np.zeros((32, 32, 3), np.uint8), None)]))
    until(lambda: old._batcher is not None and old._batcher.busy)
    retired = threading.Thread(target=old.retire, args=("",))
    retired.start()
    engine.resume()
    (reply,) = replies.result(PATIENCE_S)
    assert len(reply.detections) == 0
    retired.join(PATIENCE_S)
    assert not retired.is_alive()
    with pytest.raises(EngineDead):  # closed after its last batch
        engine.infer([np.zeros((32, 32, 3), np.uint8)], [Thresholds()])


def test_an_engine_that_can_not_infer_is_closed_again() -> None:
    engine = FakeEngine(width=32, height=32)
    engine.fail_next()
    with pytest.raises(InferenceFailed):
        proven(lambda: engine)
    with pytest.raises(EngineDead, match="closed"):
        engine.infer([np.zeros((32, 32, 3), np.uint8)], [Thresholds()])

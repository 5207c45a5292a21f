"""A detector in this process, built of the parts that the real one is: `DetectorService` over a `FakeEngine`."""

from __future__ import annotations

import time
from concurrent.futures import Future
from functools import partial

from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.service import Arrival, DetectorService, Outcome
from deployments.errors import DetectorUnavailable
from deployments.link.pending import LinkReply
from engines.fake import FakeEngine
from engines.types import EngineInfo, UInt8Array

SIDE = 64


def fake_engine(fixed_ms: float = 0.0, side: int = SIDE) -> FakeEngine:
    """An engine whose input holds a picture of `tests.support.streams` without scaling it."""
    return FakeEngine(fixed_ms=fixed_ms, width=side, height=side)


def _settle(reply: LinkReply, done: Future[list[Outcome]]) -> None:
    (outcome,) = done.result()
    if not isinstance(outcome, (DetectReply, InvalidFrame)):
        outcome, cause = DetectorUnavailable("the detector failed on this frame"), outcome
        outcome.__cause__ = cause
    reply.settle(outcome)


class LocalDetector:
    """`DetectorPort` over an engine that tests slow down, stop, break, exchange or take away."""

    def __init__(self, engine: FakeEngine | None = None) -> None:
        self.away = False
        self.submitted = 0
        self._services: list[DetectorService] = []
        self.load(engine or fake_engine())

    def load(self, engine: FakeEngine) -> None:
        """Exchange the model, as a new replica would."""
        self.engine = engine
        self.service = DetectorService(lambda: engine, stuck_after_s=5.0)
        self._services.append(self.service)

    def close(self) -> None:
        """End the engines' threads."""
        self.engine.resume()
        for service in self._services:
            service.close()

    def info(self, timeout_s: float) -> EngineInfo:
        if self.away:
            raise DetectorUnavailable("no replica")
        return self.service.info

    def place(self) -> UInt8Array | None:
        return None

    def submit(self, request: DetectRequest) -> LinkReply:
        if self.away:
            raise DetectorUnavailable("no replica")
        self.submitted += 1
        reply = LinkReply()
        self.service.submit([Arrival(request, time.monotonic())]).add_done_callback(partial(_settle, reply))
        return reply


class HeldDetector(LocalDetector):
    """Keeps frames until the test answers them, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.out: list[tuple[DetectRequest, LinkReply]] = []
        self.asked = 0

    def info(self, timeout_s: float) -> EngineInfo:
        self.asked += 1
        return super().info(timeout_s)

    def submit(self, request: DetectRequest) -> LinkReply:
        reply = LinkReply()
        self.out.append((DetectRequest(request.image.copy(), request.thresholds), reply))
        self.submitted += 1
        return reply

    def answer(self, number: int) -> None:
        """Give the ``number``th frame what the engine finds in it."""
        request, reply = self.out[number]
        reply.settle(super().submit(request).result(20))
        self.submitted -= 1

    def fail(self, number: int, error: Exception) -> None:
        """Give the ``number``th frame an error."""
        self.out[number][1].settle(error)

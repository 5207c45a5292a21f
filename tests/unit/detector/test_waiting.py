"""What becomes of a waiting frame is told to whoever waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.scheduler import DropReason
from deployments.detector.service import Outcome
from deployments.detector.waiting import DIRECT_BUDGET_S, DirectFrame, LinkedFrame
from deployments.errors import DetectorUnavailable
from deployments.link.client import LinkClient
from deployments.link.grant import KeyPair
from deployments.link.pending import FrameDropped
from deployments.link.server import LinkServer
from engines.errors import EngineDead, InferenceFailed
from engines.types import Detections, EngineInfo, Thresholds

INFO = EngineInfo("fake", "fake", 32, 32, "bgr", ("bright",), 8, "cpu")
REPLY = DetectReply(Detections.empty(), 0.25, 0.5, 3)
REQUEST = DetectRequest(np.zeros((32, 32, 3), np.uint8), Thresholds(0.5), priority=3)

End = Callable[["LinkedFrame | DirectFrame"], None]


def settled(outcome: Outcome) -> End:
    return lambda frame: frame.settle(outcome)


def dropped(reason: DropReason, detail: str = "") -> End:
    return lambda frame: frame.drop(reason, detail)


class Linked:
    """A client whose frames wait in ``here`` until the test ends them."""

    def __init__(self) -> None:
        self.here: list[LinkedFrame] = []
        self.arrived = threading.Semaphore(0)
        self.server = LinkServer(
            INFO, host="127.0.0.1", on_frame=self._take, on_gone=lambda lease: None, elsewhere=lambda lease: None
        )
        keys = KeyPair.make()
        grant = self.server.grant("gate", keys.public)
        self.client = LinkClient(grant, keys, on_drain=print, on_lost=print)

    def _take(self, frame: object) -> None:
        self.here.append(LinkedFrame(frame, self.server))  # type: ignore[arg-type]
        self.arrived.release()


@pytest.fixture
def linked() -> Iterator[Linked]:
    made = Linked()
    yield made
    made.client.close()
    made.server.close()


@pytest.mark.parametrize(
    ("end", "error", "reason"),
    [
        (settled(InvalidFrame("too small")), InvalidFrame, None),
        (settled(InferenceFailed("too small")), FrameDropped, DropReason.FAILED),
        (settled(EngineDead("too small")), FrameDropped, DropReason.FAILED),
        (dropped(DropReason.INVALID, "too small"), InvalidFrame, None),
        *((dropped(why, "too small"), FrameDropped, why) for why in DropReason if why is not DropReason.INVALID),
    ],
)
def test_a_stream_learns_why_there_is_no_reply(
    linked: Linked, end: End, error: type[Exception], reason: DropReason | None
) -> None:
    reply = linked.client.submit(REQUEST)
    assert linked.arrived.acquire(timeout=20)
    (frame,) = linked.here
    assert (frame.priority, frame.request.thresholds, frame.image.shape) == (3, REQUEST.thresholds, (32, 32, 3))
    end(frame)
    end(frame)  # the second answer goes nowhere
    with pytest.raises(error, match="too small") as raised:
        reply.result(20)
    assert getattr(raised.value, "reason", None) is reason
    assert linked.server.stats().frames == 1


def test_a_stream_gets_its_reply(linked: Linked) -> None:
    reply = linked.client.submit(REQUEST)
    assert linked.arrived.acquire(timeout=20)
    linked.here[0].settle(REPLY)
    got = reply.result(20)
    assert (got.wait_s, got.infer_s, got.batch_size) == (0.25, 0.5, 3)
    assert linked.server.stats().replies == 1


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (settled(InvalidFrame("too small")), InvalidFrame),
        (settled(InferenceFailed("too small")), InferenceFailed),
        (settled(EngineDead("too small")), EngineDead),
        (dropped(DropReason.INVALID, "too small"), InvalidFrame),
        *((dropped(why, "too small"), DetectorUnavailable) for why in DropReason if why is not DropReason.INVALID),
    ],
)
def test_a_caller_learns_why_there_is_no_reply(end: End, error: type[Exception]) -> None:
    async def call() -> None:
        frame = DirectFrame(REQUEST)
        end(frame)
        end(frame)
        with pytest.raises(error, match="too small"):
            await frame.outcome

    asyncio.run(call())


def test_a_caller_gets_its_reply_once() -> None:
    async def call() -> None:
        frame = DirectFrame(REQUEST)
        assert frame.stream is None
        assert frame.expires_at == frame.arrived_at + DIRECT_BUDGET_S
        for end in (settled(REPLY), settled(EngineDead("late")), dropped(DropReason.STALE)):
            end(frame)
        assert await frame.outcome is REPLY

    asyncio.run(call())


def test_a_drop_without_a_detail_names_its_reason() -> None:
    async def call() -> None:
        frame = DirectFrame(REQUEST)
        frame.drop(DropReason.STALE, "")
        with pytest.raises(DetectorUnavailable, match="stale"):
            await frame.outcome

    asyncio.run(call())


@pytest.mark.parametrize("end", [settled(REPLY), settled(EngineDead("late")), dropped(DropReason.STALE)])
def test_who_has_left_is_told_nothing(end: End) -> None:
    async def call() -> None:
        frame = DirectFrame(REQUEST)

        async def ask() -> DetectReply:
            return await frame.outcome

        caller = asyncio.create_task(ask())
        await asyncio.sleep(0)  # lets it begin
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        end(frame)
        assert frame.outcome.cancelled()

    asyncio.run(call())

"""A stream finds a replica, and another one when it has to, without losing a frame that it needn't lose."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments.detector.port import DetectReply, DetectRequest
from deployments.errors import DetectorUnavailable
from deployments.link.attacher import LONGEST_PAUSE_S, Attacher
from deployments.link.attachments import WINDOW
from deployments.link.grant import Grant
from deployments.link.pending import FrameDropped
from engines.fake import FakeEngine
from engines.types import UInt8Array
from tests.support.replica import Replica, ReplicaRequest
from tests.support.waiting import PATIENCE_S, started, until

SIDE = 32


def image(number: int) -> UInt8Array:
    """A dark frame with one bright pixel, the place of which depends on ``number``."""
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[number // SIDE % SIDE, number % SIDE] = 255
    return frame


def seen(reply: DetectReply) -> int:
    (box,) = reply.detections.xyxy
    return int(box[1]) * SIDE + int(box[0])


def engine(side: int = SIDE) -> FakeEngine:
    return FakeEngine(width=side, height=side)


class Rig:
    """Two replicas, and a stream that attaches to the one which ``chosen`` names."""

    def __init__(self) -> None:
        self.replicas = [Replica(engine()), Replica(engine())]
        self.chosen = self.replicas[0]
        self.requests: list[ReplicaRequest] = []
        self.wanted: list[str] = []
        self.attacher = Attacher(self._open)

    def _open(self, key: bytes, to: str) -> ReplicaRequest:
        self.wanted.append(to)
        self.requests.append(ReplicaRequest(lambda: self.chosen, key))
        return self.requests[-1]

    def ask(self, number: int) -> int:
        return seen(self.attacher.submit(DetectRequest(image(number), None)).result(PATIENCE_S))

    def attached(self) -> list[int]:
        return [replica.link.stats().attached for replica in self.replicas]

    def close(self) -> None:
        self.attacher.close()
        for replica in self.replicas:
            replica.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.attacher.info(PATIENCE_S)
    yield made
    made.close()


def test_frames_get_their_own_answers(rig: Rig) -> None:
    assert rig.attacher.info(PATIENCE_S) == rig.replicas[0].service.info
    assert [rig.ask(number) for number in range(0, 1000, 37)] == list(range(0, 1000, 37))
    assert rig.attached() == [1, 0]


def test_when_the_replica_ends_frames_fail_and_another_is_found_within_a_second(rig: Rig) -> None:
    rig.replicas[0].engine.hang()
    out = [rig.attacher.submit(DetectRequest(image(number), None)) for number in range(WINDOW)]
    rig.chosen = rig.replicas[1]
    rig.replicas[0].link.close()
    began = time.monotonic()
    for reply in out:
        with pytest.raises(DetectorUnavailable):
            reply.result(PATIENCE_S)
    rig.attacher.info(PATIENCE_S)  # waits for the next attachment, where there is still the broken one
    until(lambda: rig.attached() == [0, 1])
    assert time.monotonic() - began < 1
    rig.attacher.info(PATIENCE_S)
    until(lambda: _answers(rig))
    assert rig.ask(77) == 77
    assert rig.requests[0].cancelled.is_set()
    rig.replicas[0].engine.resume()


def _answers(rig: Rig) -> bool:
    try:
        return rig.ask(5) == 5
    except DetectorUnavailable:
        return False


def test_a_drain_loses_no_frame(rig: Rig) -> None:
    """A stream sends all the while it moves back and forth; every frame is answered, and rightly."""
    stop, right = threading.Event(), 0

    def send() -> None:
        nonlocal right
        while not stop.is_set():
            assert rig.ask(right) == right % SIDE**2
            right += 1

    with started(send) as sending:
        until(lambda: right > 20)
        rig.chosen = rig.replicas[1]
        rig.replicas[0].link.drain()
        until(lambda: rig.attached() == [0, 1])
        goal = right + 20
        until(lambda: right > goal or not sending.is_alive())
        assert sending.is_alive()
        stop.set()
    assert all(not replica.link.stats().dropped for replica in rig.replicas)
    assert sum(replica.link.stats().replies for replica in rig.replicas) == right
    assert len(rig.requests) == 2


def test_a_stream_that_is_sent_elsewhere_asks_once_for_the_replica_that_was_named(rig: Rig) -> None:
    rig.replicas[0].elsewhere = "another"
    client = rig.attacher._client
    assert client is not None
    client.renew()
    until(lambda: len(rig.requests) == 2 and rig.attached() == [1, 0])
    rig.replicas[0].elsewhere = None
    rig.chosen = rig.replicas[1]
    rig.replicas[0].link.drain()
    until(lambda: rig.attached() == [0, 1])
    assert rig.wanted[:3] == ["", "another", ""]


def test_frames_that_are_out_while_it_moves_are_answered_where_they_are(rig: Rig) -> None:
    rig.replicas[0].engine.hang()
    out = [rig.attacher.submit(DetectRequest(image(number), None)) for number in range(2)]
    until(lambda: rig.replicas[0].link.stats().frames == 2)
    rig.chosen = rig.replicas[1]
    rig.replicas[0].link.drain()
    until(lambda: rig.attached() == [1, 1])
    rig.replicas[0].engine.resume()
    for number, reply in enumerate(out):
        try:
            assert seen(reply.result(PATIENCE_S)) == number
        except FrameDropped:  # the newer one took its place before the engine got it
            assert number == 0
    until(lambda: rig.attached() == [0, 1])


def test_a_drained_replica_serves_on_until_there_is_another(rig: Rig) -> None:
    rig.replicas[0].link.drain()  # `chosen` still names it, and it grants nothing any more
    until(lambda: len(rig.requests) > 3)
    assert rig.ask(12) == 12
    rig.chosen = rig.replicas[1]
    until(lambda: rig.attached() == [0, 1])
    assert rig.ask(13) == 13


def test_a_replica_with_another_model_gets_no_frame_of_the_old_size(rig: Rig) -> None:
    rig.replicas.append(Replica(engine(side=64)))
    rig.chosen = rig.replicas[-1]
    rig.replicas[0].link.drain()
    until(lambda: rig.attached() == [0, 0, 1])
    with pytest.raises(DetectorUnavailable, match="another model"):
        rig.ask(1)
    assert rig.attacher.info(PATIENCE_S).width == 64
    assert rig.chosen.link.stats().frames == 0


class Unwilling:
    """A request that never leads to an attachment."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self.cancelled = threading.Event()

    def grant(self) -> Grant:
        if self._error is None:
            self.cancelled.wait(PATIENCE_S)
            raise DetectorUnavailable("cancelled")
        raise self._error

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.mark.parametrize("error", [DetectorUnavailable("none"), KeyError("odd")])
@pytest.mark.parametrize("at", ["open", "grant"])
def test_what_fails_is_tried_again_less_and_less_often(at: str, error: Exception) -> None:
    tries: list[float] = []

    def refuse(key: bytes, to: str) -> Unwilling:
        tries.append(time.monotonic())
        if at == "open":
            raise error
        return Unwilling(error)

    attacher = Attacher(refuse)
    with pytest.raises(DetectorUnavailable):
        attacher.info(1.0)
    with pytest.raises(DetectorUnavailable):
        attacher.submit(DetectRequest(image(0), None))
    until(lambda: len(tries) >= 4)
    attacher.close()
    lasted = time.monotonic() - tries[0]
    assert 4 <= len(tries) <= 7 + lasted / (LONGEST_PAUSE_S / 2)
    assert tries[3] - tries[0] >= 0.05 * (1 + 1.5 + 2.25) / 2


def test_a_replica_that_ends_each_attachment_is_not_asked_without_end(rig: Rig) -> None:
    before, began = len(rig.requests), time.monotonic()
    while time.monotonic() < began + 1.5:
        rig.replicas[0].link.drain()  # also says so to whoever comes later
        rig.replicas[0].link._draining = False
        threading.Event().wait(0.002)
    assert len(rig.requests) - before < 12


def test_close_does_not_wait_for_a_grant() -> None:
    opened = threading.Event()
    request = Unwilling(None)

    def open_request(key: bytes, to: str) -> Unwilling:
        opened.set()
        return request

    attacher = Attacher(open_request)
    assert opened.wait(PATIENCE_S)
    began = time.monotonic()
    attacher.close()
    assert time.monotonic() - began < 2
    assert request.cancelled.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "attach"]


def traces() -> tuple[int, int, int, int]:
    """Descriptors, threads, shared mappings, files in shared memory."""
    return (
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        Path("/proc/self/maps").read_text().count("memfd:raysight-link"),
        len([name for name in os.listdir("/dev/shm") if "raysight" in name]),
    )


def test_close_leaves_nothing_and_fails_what_is_out(rig: Rig) -> None:
    rig.ask(0)  # starts threads of the replica's
    rig.attacher.close()
    until(lambda: rig.attached() == [0, 0])
    before = traces()
    rig.attacher = Attacher(rig._open)
    rig.attacher.info(PATIENCE_S)
    rig.replicas[0].engine.hang()
    reply = rig.attacher.submit(DetectRequest(image(0), None))
    rig.attacher.close()
    with pytest.raises(DetectorUnavailable):
        reply.result(PATIENCE_S)
    for call in (lambda: rig.attacher.info(1), lambda: rig.attacher.submit(DetectRequest(image(0), None))):
        with pytest.raises(DetectorUnavailable):
            call()
    rig.replicas[0].engine.resume()
    until(lambda: rig.attached() == [0, 0] and traces() == before)


@pytest.mark.parametrize("wait", [True, False], ids=["attached", "at any moment"])
def test_a_hundred_streams_that_come_and_go_leave_nothing(rig: Rig, wait: bool) -> None:
    rig.ask(0)  # starts threads of the replica's
    rig.attacher.close()
    until(lambda: rig.attached() == [0, 0])
    before = traces()
    for number in range(100):
        rig.attacher = Attacher(rig._open)
        if wait:
            rig.attacher.info(PATIENCE_S)
            assert rig.ask(number) == number
        rig.attacher.close()
        assert rig.requests[-1].cancelled.is_set()
    until(lambda: rig.attached() == [0, 0] and _no_more_than(before))


def _no_more_than(before: tuple[int, ...]) -> bool:
    return all(now <= then for now, then in zip(traces(), before, strict=True))


def test_attaching_anew_leaves_the_old_replica_only_once_the_new_one_stands(rig: Rig) -> None:
    rig.chosen = rig.replicas[1]
    rig.attacher.reattach()
    until(lambda: rig.attached() == [0, 1])
    assert rig.ask(7) == 7
    assert rig.attacher.trouble is None


def test_without_a_new_replica_the_old_one_is_left_all_the_same_and_it_is_told_why(rig: Rig) -> None:
    rig.replicas[1].link.drain()
    rig.chosen = rig.replicas[1]
    rig.attacher.reattach()
    until(lambda: rig.attached() == [0, 0])
    with pytest.raises(DetectorUnavailable):
        rig.ask(1)
    assert rig.attacher.trouble == "this replica takes no more streams"
    rig.chosen = rig.replicas[0]
    rig.attacher.info(PATIENCE_S)
    until(lambda: rig.attached() == [1, 0])
    assert rig.attacher.trouble is None

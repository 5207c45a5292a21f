"""Batches on the engine's own thread: who gets which answer, and when the engine counts as sick."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import numpy as np
import pytest

from deployments.detector.config import DetectorConfig, DetectorSettings, FakeEngineConfig
from deployments.detector.health import MAX_FAILURES, SLOW_TIMES, STUCK_ON_CPU_S, patience_s
from deployments.detector.health import STUCK_S as STUCK_ON_GPU_S
from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.service import (
    WARM_BATCHES,
    Arrival,
    DetectorService,
    Outcome,
    load_engine,
)
from deployments.detector.speed import BatchTimes
from deployments.link.pictures import to_i420
from engines.errors import EngineDead, InferenceFailed, PackageError
from engines.fake import FakeEngine
from engines.types import Detections, EngineInfo, Thresholds, UInt8Array
from tests.support.waiting import in_threads, until

SIDE = 32
STUCK_S = 5.0


def engine(**options: float) -> FakeEngine:
    return FakeEngine(width=SIDE, height=SIDE, max_batch_size=8, **options)


def image(number: int) -> UInt8Array:
    """A dark frame with one bright pixel in column ``number``."""
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[3, number] = 255
    return frame


def arrival(number: int, thresholds: Thresholds | None = None, picture: UInt8Array | None = None) -> Arrival:
    return Arrival(DetectRequest(image(number) if picture is None else picture, thresholds), time.monotonic())


def column(outcome: Outcome) -> int:
    """Where the bright pixel was found."""
    assert isinstance(outcome, DetectReply)
    (box,) = outcome.detections.xyxy
    return int(box[0])


Make = Callable[..., DetectorService]


@pytest.fixture
def make() -> Iterator[Make]:
    services: list[DetectorService] = []

    def make(loaded: FakeEngine | None = None) -> DetectorService:
        chosen = loaded or engine()
        services.append(service := DetectorService(lambda: chosen, stuck_after_s=STUCK_S))
        return service

    yield make
    for service in services:
        service.close()


def infer(service: DetectorService, *arrivals: Arrival) -> list[Outcome]:
    return service.submit(arrivals).result(20)


def test_a_batch_is_answered_in_order(make: Make) -> None:
    replies = infer(make(), *(arrival(number) for number in (7, 3, 5)))
    assert [column(reply) for reply in replies] == [7, 3, 5]
    for reply in replies:
        assert isinstance(reply, DetectReply)
        assert reply.batch_size == 3
        assert reply.wait_s >= 0
        assert reply.infer_s > 0


def test_many_callers_get_their_own_answers(make: Make) -> None:
    service = make()

    def call(first: int) -> None:
        for number in range(first, SIDE, 4):
            assert [column(reply) for reply in infer(service, arrival(number), arrival(31 - number))] == [
                number,
                31 - number,
            ]

    in_threads(*(lambda first=first: call(first) for first in range(4)))


@pytest.mark.parametrize(
    "odd",
    [
        np.zeros((SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE), np.uint8),
        "no picture",
        None,
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_frame_fails_alone(make: Make, odd: UInt8Array, place: int) -> None:
    frames = [arrival(number) for number in (7, 3)]
    frames.insert(place, Arrival(DetectRequest(odd, None), time.monotonic()))
    service = make()
    outcomes = infer(service, *frames)
    refusal = outcomes.pop(place)
    assert isinstance(refusal, InvalidFrame)
    assert f"[{SIDE}, {SIDE}, 3]" in str(refusal)
    assert [column(outcome) for outcome in outcomes] == [7, 3]
    assert isinstance(outcomes[0], DetectReply)
    assert outcomes[0].batch_size == 2
    service.check_health(time.monotonic())


def test_a_batch_of_bad_frames_never_reaches_the_engine(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    loaded.die()
    odd = np.zeros((1, 1, 3), np.uint8)
    (outcome,) = infer(service, arrival(0, picture=odd))
    assert isinstance(outcome, InvalidFrame)
    assert infer(service) == []
    assert service.staging.seconds(3) == 0.0  # nothing is known of it, and nothing was learnt from no frames
    service.check_health(time.monotonic())


def test_a_failed_batch_fails_alone(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    loaded.fail_next()
    outcomes = infer(service, arrival(1), arrival(2))
    assert all(isinstance(outcome, InferenceFailed) for outcome in outcomes)
    assert column(infer(service, arrival(4))[0]) == 4
    service.check_health(time.monotonic())


def test_three_failed_batches_in_a_row_end_the_engine(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    for _ in range(3):
        loaded.fail_next(MAX_FAILURES - 1)
        for _ in range(MAX_FAILURES - 1):
            assert isinstance(infer(service, arrival(1))[0], InferenceFailed)
        assert column(infer(service, arrival(4))[0]) == 4
        service.check_health(time.monotonic())
    loaded.fail_next(MAX_FAILURES)
    outcomes = [infer(service, arrival(1))[0] for _ in range(MAX_FAILURES)]
    assert [type(outcome) for outcome in outcomes] == [InferenceFailed, InferenceFailed, EngineDead]
    with pytest.raises(EngineDead, match="in a row"):
        service.check_health(time.monotonic())
    assert isinstance(infer(service, arrival(1))[0], EngineDead)  # is not asked any more


def test_a_dead_engine_is_seen_by_callers_and_the_health_check(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    loaded.die()
    assert all(isinstance(outcome, EngineDead) for outcome in infer(service, arrival(1), arrival(2)))
    with pytest.raises(EngineDead, match="was told to die"):
        service.check_health(time.monotonic())


class OddEngine(FakeEngine):
    """Breaks the protocol once it is told to."""

    how = ""

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        if self.how == "raises":
            raise MemoryError("cuda")
        return super().infer(frames, thresholds)[1 if self.how == "too few" else 0 :]


@pytest.mark.parametrize("how", ["raises", "too few"])
def test_an_engine_that_breaks_the_protocol_is_dead(make: Make, how: str) -> None:
    loaded = OddEngine(width=SIDE, height=SIDE)
    service = make(loaded)
    loaded.how = how
    assert all(isinstance(outcome, EngineDead) for outcome in infer(service, arrival(1), arrival(2)))
    with pytest.raises(EngineDead):
        service.check_health(time.monotonic())
    loaded.how = ""


def test_when_a_batch_is_stuck() -> None:
    assert patience_s(None, "cuda:0", 0.01) == STUCK_ON_GPU_S < STUCK_ON_CPU_S == patience_s(None, "cpu", 0.01)
    assert patience_s(2.0, "cpu", 0.01) == patience_s(2.0, "cuda:0", 0.01) == 2.0
    assert patience_s(2.0, "cuda:0", 1.0) == SLOW_TIMES  # a slow model is no stuck one


def test_a_slow_engine_is_not_taken_for_a_stuck_one() -> None:
    """Its batches take longer than others may, each time."""
    service = DetectorService(lambda: engine(fixed_ms=30.0), stuck_after_s=0.02)
    try:
        batch = service.submit([arrival(1)])
        service.check_health(time.monotonic() + 0.1)
        assert column(batch.result(20)[0]) == 1
    finally:
        service.close()


def test_a_hanging_batch_is_seen_by_the_health_check(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    loaded.hang()
    began = time.monotonic()
    running = service.submit([arrival(1)])
    until(lambda: _sick(service, time.monotonic() + STUCK_S + 0.001))
    service.check_health(began + STUCK_S)
    assert not running.done()
    loaded.resume()
    assert column(running.result(20)[0]) == 1
    service.check_health(time.monotonic() + 10 * STUCK_S)


def _sick(service: DetectorService, now: float) -> bool:
    try:
        service.check_health(now)
    except EngineDead as error:
        return "must be replaced" in str(error)
    return False


def test_settings_change_from_the_next_batch_on(make: Make) -> None:
    service = make()
    dim = image(9) // 2  # found with a confidence of 0.5 where the pixel still counts as bright
    dim[3, 9] = 140
    assert len(_found(infer(service, arrival(0, picture=dim))[0])) == 1
    service.settings = DetectorSettings(confidence=0.9)
    assert len(_found(infer(service, arrival(0, picture=dim))[0])) == 0
    own = arrival(0, Thresholds(confidence=0.2), dim)
    assert len(_found(infer(service, own)[0])) == 1


def _found(outcome: Outcome) -> Detections:
    assert isinstance(outcome, DetectReply)
    return outcome.detections


def test_the_batch_size_is_what_settings_and_engine_allow(make: Make) -> None:
    service = make()
    assert service.max_batch_size == 8
    service.settings = DetectorSettings(max_batch_size=3)
    assert service.max_batch_size == 3
    service.settings = DetectorSettings(max_batch_size=200)
    assert service.max_batch_size == 8


def i420(number: int) -> UInt8Array:
    """A dark picture as it comes over TCP, with bright pixels in column ``number`` and its neighbour; it is even."""
    picture = image(number)
    picture[2:4, number : number + 2] = 255
    return to_i420(picture, "bgr")


class NotedTimes(BatchTimes):
    """Tells of each batch that was put together."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: SimpleQueue[int] = SimpleQueue()

    def learn(self, frames: int, seconds: float) -> None:
        super().learn(frames, seconds)
        self.noted.put(frames)


def test_i420_is_unpacked_while_a_batch_runs(make: Make) -> None:
    """Two batches have left their pictures by then, which may be overwritten; a third waits for a staging buffer."""
    loaded = engine()
    service = make(loaded)
    service.staging = staging = NotedTimes()
    loaded.hang()
    batches = [[i420(number) for number in batch] for batch in ((2, 4, 6), (8, 10, 12), (14, 16, 18))]
    running = [service.submit([arrival(0, picture=picture) for picture in batch]) for batch in batches]
    last = service.submit([arrival(1), arrival(0, picture=i420(20))])
    assert [staging.noted.get(timeout=20) for _ in range(2)] == [3, 3]
    for picture in (*batches[0], *batches[1]):
        picture[:] = 255
    assert not any(batch.done() for batch in (*running, last))
    loaded.resume()
    found = [[column(outcome) for outcome in batch.result(20)] for batch in (*running, last)]
    assert found == [[2, 4, 6], [8, 10, 12], [14, 16, 18], [1, 20]]


def test_rows_that_did_not_travel_are_padding(make: Make) -> None:
    """The fake engine's box ends where the picture does: padding, at 114, isn't bright."""
    service = make()
    bright = np.full((SIDE, SIDE, 3), 255, np.uint8)
    (found,) = infer(service, Arrival(DetectRequest(to_i420(bright, "bgr", (2, 4)), None, rows=(2, 4)), 0.0))
    assert isinstance(found, DetectReply)
    assert found.detections.xyxy.tolist() == [[0, 2, SIDE, 6]]
    (refused,) = infer(service, Arrival(DetectRequest(to_i420(bright, "bgr", (2, 4)), None, rows=(2, 6)), 0.0))
    assert isinstance(refused, InvalidFrame)


def test_pictures_are_inferred_where_they_lie(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    loaded.hang()
    pictures = [image(number) for number in (3, 5, 7)]
    running = service.submit([arrival(0, picture=picture) for picture in pictures])
    for picture, number in zip(pictures, (4, 6, 8), strict=True):
        picture[:] = image(number)
    loaded.resume()
    assert [column(outcome) for outcome in running.result(20)] == [4, 6, 8]


def test_batches_that_cannot_be_put_together_cost_no_staging_buffer(make: Make) -> None:
    service = make()
    for _ in range(4):
        with pytest.raises(ValueError, match="more than the 8"):
            service.submit([arrival(0, picture=i420(2))] * 9).result(20)
    assert column(infer(service, arrival(0, picture=i420(4)))[0]) == 4
    service.check_health(time.monotonic())


def test_a_batch_that_is_on_its_way_cannot_be_cancelled(make: Make) -> None:
    loaded = engine()
    service = make(loaded)
    loaded.hang()
    running = [service.submit([arrival(number)]) for number in (1, 2, 3, 4)]
    assert not any(batch.cancel() for batch in running)
    loaded.resume()
    assert [column(batch.result(20)[0]) for batch in running] == [1, 2, 3, 4]


def test_speed_is_known_before_the_first_frame(make: Make) -> None:
    service = make(engine(fixed_ms=8, per_frame_ms=4))
    assert 30 < service.engine_fps <= 8 / 0.040
    for _ in range(30):
        infer(service, arrival(1))
    assert 30 < service.engine_fps <= 8 / 0.040  # lone frames are dear, and say nothing of what it can do
    assert service.speed.seconds(1) >= 0.012


def test_lanes_infer_side_by_side(make: Make) -> None:
    loaded = FakeEngine(width=SIDE, height=SIDE, max_batch_size=8, fixed_ms=100, lanes=3)
    service = make(loaded)
    assert service.lanes == 3
    assert 24 < service.engine_fps / 8 <= 30  # three batches of eight every 100 ms
    for picture, columns in ((image, (1, 2, 3)), (i420, (2, 4, 6))):
        began = time.monotonic()
        running = [service.submit([arrival(0, picture=picture(number))]) for number in columns]
        assert [column(batch.result(20)[0]) for batch in running] == list(columns)
        assert time.monotonic() - began < 0.29  # one after the other: 0.3
    loaded.hang()
    stuck = service.submit([arrival(4)])
    until(lambda: _sick(service, time.monotonic() + STUCK_S + 0.001))
    loaded.resume()
    assert column(stuck.result(20)[0]) == 4
    service.check_health(time.monotonic() + 10 * STUCK_S)


def test_a_broken_lane_ends_the_engine_though_others_work(make: Make) -> None:
    class HalfBroken(FakeEngine):
        """Fails on whichever thread first was told to."""

        broken: int | None = None

        def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
            found = super().infer(frames, thresholds)
            if self.broken == 0:
                self.broken = threading.get_ident()
            if self.broken == threading.get_ident():
                raise InferenceFailed("this lane is broken")
            return found

    loaded = HalfBroken(width=SIDE, height=SIDE, lanes=2, fixed_ms=5)
    service = make(loaded)
    loaded.broken = 0
    until(lambda: any(isinstance(_pair(service), EngineDead) for _ in range(4)))
    with pytest.raises(EngineDead, match="in a row"):
        service.check_health(time.monotonic())


def _pair(service: DetectorService) -> Outcome:
    """Two batches side by side; the outcome of the one that fared worse."""
    outcomes = [batch.result(20)[0] for batch in [service.submit([arrival(number)]) for number in (1, 2)]]
    return next((outcome for outcome in outcomes if isinstance(outcome, EngineDead)), outcomes[0])


def test_an_engine_with_one_lane_lives_on_one_thread() -> None:
    threads: list[int] = []

    class Watched(FakeEngine):
        def warmup(self) -> None:
            threads.append(threading.get_ident())

        def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
            threads.append(threading.get_ident())
            return super().infer(frames, thresholds)

        def close(self) -> None:
            threads.append(threading.get_ident())

    def load() -> FakeEngine:
        threads.append(threading.get_ident())
        return Watched(width=SIDE, height=SIDE)

    service = DetectorService(load, stuck_after_s=STUCK_S)
    infer(service, arrival(1))
    service.close()
    assert len(threads) == 3 + 2 * WARM_BATCHES + 1
    assert set(threads) - {threading.get_ident()} == {threads[0]}


def test_an_engine_that_does_not_load_says_why() -> None:
    def load() -> FakeEngine:
        raise PackageError("no model.onnx in this folder")

    with pytest.raises(PackageError, match=r"no model\.onnx"):
        DetectorService(load, stuck_after_s=STUCK_S)


def test_the_configuration_names_the_engine() -> None:
    fake = load_engine(DetectorConfig(engine="fake", fake=FakeEngineConfig(width=96, height=64)))
    assert isinstance(fake.info, EngineInfo)
    assert (fake.info.width, fake.info.height, fake.info.name) == (96, 64, "fake")

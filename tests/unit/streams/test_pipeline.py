"""The main path with real pictures: right boxes for the right frame, and every frame accounted for."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.detector.port import DetectRequest
from deployments.detector.scheduler import DropReason
from deployments.errors import DetectorUnavailable
from deployments.link.pending import FrameDropped, LinkReply
from deployments.streams import pipeline as pipeline_module
from deployments.streams import slate
from deployments.streams.inflight import MAX_IN_FLIGHT
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.pipeline import VIDEO_QUEUE_FRAMES, Pipeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import FrameCounts, OutputSpec, SourceSpec
from tests.support.detectors import HeldDetector, LocalDetector, fake_engine
from tests.support.streams import HandFedSource, RecordingPublisher, box, item, picture, spec
from tests.support.waiting import started, until

FILE = {"url": "file:clip.mp4", "realtime": False}


class Rig:
    """A running pipeline, the source that feeds it and what comes out."""

    def __init__(
        self, detector: LocalDetector, first: int, observe: Callable[[str, float], None], **changes: Any
    ) -> None:
        self.detector = detector
        self.first = first
        self.threads = set(threading.enumerate())
        self.pipeline = Pipeline(spec(**changes), detector, first_sequence=first, observe=observe)
        self.source = HandFedSource()
        self.publisher = RecordingPublisher()
        self.pipeline.publisher = self.publisher
        self.no_names = self.pipeline.annotator
        self.decoder = threading.Thread(target=lambda: self.pipeline.decode(self.source), daemon=True)
        self.pipeline.start()
        self.decoder.start()
        self.fed = 0

    @property
    def counts(self) -> FrameCounts:
        return self.pipeline.ledger.snapshot()

    def feed(self, count: int = 1, **how: Any) -> None:
        for _ in range(count):
            self.source.feed(item(self.fed, **how))
            self.fed += 1

    def feed_each(self, count: int, done: Callable[[FrameCounts], int]) -> None:
        """Feed the next frame as soon as ``done`` counts all those before it."""
        for _ in range(count):
            expected = done(self.counts) + 1
            self.feed()
            until(lambda: done(self.counts) >= expected)  # noqa: B023

    def settled(self) -> None:
        """Wait until every frame that was fed left both branches."""
        until(lambda: (c := self.counts).decoded == self.fed and c.in_flight == c.queued == 0)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(event) for _, event in self.pipeline.events.wait(-1, 0).events]

    def assert_right_boxes(self) -> None:
        """Every event has the one object that its own frame shows, and sequences rise."""
        events = self.events()
        for event in events:
            (found,) = event["detections"]
            assert found["box"] == box(event["sequence"] - self.first)
        sequences = [event["sequence"] for event in events]
        assert sequences == sorted(set(sequences))

    def ready(self) -> None:
        """Wait until the pipeline knows what the detector has loaded."""
        until(lambda: self.pipeline.annotator is not self.no_names)

    def stop(self) -> None:
        self.detector.engine.resume()
        self.source.interrupt()
        self.publisher.held.set()
        self.pipeline.stop(20)
        self.decoder.join(20)


Start = Callable[..., Rig]


@pytest.fixture
def start() -> Iterator[Start]:
    rigs: list[Rig] = []

    def start(
        detector: LocalDetector | None = None,
        *,
        first: int = 0,
        observe: Callable[[str, float], None] = lambda stage, seconds: None,
        ready: bool = True,
        **changes: Any,
    ) -> Rig:
        rigs.append(rig := Rig(detector or LocalDetector(), first, observe, **changes))
        if ready:
            rig.ready()
        return rig

    yield start
    for rig in rigs:
        rig.stop()
        counts = rig.counts
        assert (counts.in_flight, counts.queued) == (0, 0)
        rig.detector.close()
        assert set(threading.enumerate()) - rig.threads == set()


def inferred(counts: FrameCounts) -> int:
    return counts.inferred


def published(counts: FrameCounts) -> int:
    return counts.published


def off_line(counts: FrameCounts) -> int:
    """Frames that both branches are done with."""
    return counts.decoded - max(counts.in_flight, counts.queued)


# The detection branch -------------------------------------------------------------------------------------------------


def test_every_frame_gets_its_own_detections(start: Start) -> None:
    rig = start(first=500)
    rig.feed_each(60, inferred)
    rig.settled()
    rig.assert_right_boxes()
    assert [event["sequence"] for event in rig.events()] == list(range(500, 560))
    assert [event["pts"] for event in rig.events()] == [3600 * number for number in range(60)]
    assert rig.counts.inferred == rig.pipeline.ledger.detections == 60
    assert rig.pipeline.next_sequence == 560
    assert rig.pipeline.times.percentiles().keys() >= {"slot", "letterbox", "wait", "infer", "whole"}


def test_four_are_in_flight_and_newer_frames_replace_the_one_that_waits(start: Start) -> None:
    rig = start()
    rig.detector.engine.hang()
    fill(rig)
    rig.feed(10)
    until(lambda: rig.counts.dropped.superseded == 9)
    assert (rig.counts.in_flight, rig.detector.submitted) == (MAX_IN_FLIGHT + 1, MAX_IN_FLIGHT)
    rig.detector.engine.resume()
    rig.settled()
    assert [event["sequence"] for event in rig.events()] == [0, 1, 2, 3, 13]
    rig.assert_right_boxes()


def fill(rig: Rig) -> None:
    """Feed as many frames as may be out."""
    for _ in range(MAX_IN_FLIGHT):
        expected = rig.detector.submitted + 1
        rig.feed()
        until(lambda: rig.detector.submitted == expected)  # noqa: B023


def test_places_are_freed_in_the_order_of_outcomes(start: Start) -> None:
    detector = HeldDetector()
    rig = start(detector)
    fill(rig)
    for last_out, settled in ((4, 2), (5, 3), (6, 0), (7, 1)):
        assert len(detector.out) == last_out
        detector.answer(settled)
        rig.feed()
        until(lambda: len(detector.out) == last_out + 1)  # noqa: B023
    for number in range(4, 8):
        detector.answer(number)
    rig.settled()
    assert [event["sequence"] for event in rig.events()] == [2, 3, 4, 5, 6, 7]
    assert rig.counts.dropped.stale == 2
    rig.assert_right_boxes()


def test_replies_older_than_the_newest_are_stale(start: Start) -> None:
    detector = HeldDetector()
    rig = start(detector, first=70)
    fill(rig)
    for number, expected in ((2, (1, 0)), (0, (1, 1)), (1, (1, 2)), (3, (2, 2))):
        detector.answer(number)
        until(lambda: (rig.counts.inferred, rig.counts.dropped.stale) == expected)  # noqa: B023
    rig.settled()
    assert [event["sequence"] for event in rig.events()] == [72, 73]
    rig.assert_right_boxes()


DROPPED_THERE = {
    DropReason.SUPERSEDED: "superseded",
    DropReason.STALE: "stale",
    DropReason.OVERLOADED: "superseded",
    DropReason.GONE: "no_detector",
    DropReason.FAILED: "no_detector",
    DropReason.INVALID: "invalid",
}


@pytest.mark.parametrize("reason", DropReason)
def test_frames_dropped_there_leak_no_place_and_are_counted(start: Start, reason: DropReason) -> None:
    detector = HeldDetector()
    rig = start(detector)
    asked = detector.asked
    for rounds in range(3):
        fill(rig)
        for number in range(MAX_IN_FLIGHT):
            detector.fail(rounds * MAX_IN_FLIGHT + number, FrameDropped(reason, "for a reason"))
    rig.settled()
    assert getattr(rig.counts.dropped, DROPPED_THERE[reason]) == 3 * MAX_IN_FLIGHT
    assert detector.asked == asked  # it is there: nothing has to be found out anew
    rig.feed()
    until(lambda: len(detector.out) == 3 * MAX_IN_FLIGHT + 1)
    detector.answer(-1)
    rig.settled()
    assert rig.counts.inferred == 1
    rig.assert_right_boxes()


def test_a_slow_detector_costs_frames_but_not_their_order(start: Start) -> None:
    rig = start(LocalDetector(fake_engine(fixed_ms=4)))
    rig.feed_each(200, published)
    rig.settled()
    rig.assert_right_boxes()
    counts = rig.counts
    assert counts.dropped.superseded > 0
    assert counts.inferred + counts.dropped.superseded == 200
    assert counts.inferred == len(rig.events())


def test_max_fps_is_kept_and_counted(start: Start) -> None:
    rig = start(source=FILE, detect={"max_fps": 10})
    rig.feed(100)
    rig.settled()
    assert rig.counts.inferred == 40
    assert rig.counts.dropped.max_fps == 60
    assert rig.counts.published == 100


def test_only_wanted_classes_are_reported(start: Start) -> None:
    rig = start(detect={"classes": ["person"]})
    rig.feed_each(3, inferred)
    assert [event["detections"] for event in rig.events()] == [[], [], []]
    rig.pipeline.spec = spec(detect={"classes": ["bright"]})
    rig.feed_each(3, inferred)
    assert [len(event["detections"]) for event in rig.events()] == [0, 0, 0, 1, 1, 1]


def test_frames_that_waited_too_long_are_stale(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "STALE_AFTER_S", 0.0)
    rig = start()
    rig.feed_each(5, lambda counts: counts.dropped.stale)
    rig.settled()
    assert (rig.counts.dropped.stale, rig.counts.published, rig.detector.submitted) == (5, 5, 0)


# The detector away, broken, exchanged ---------------------------------------------------------------------------------


def test_one_failed_batch_costs_one_frame(start: Start) -> None:
    """The next frames go on, also where the branch waited for one while the reply failed."""
    rig = start()
    for _ in range(2):
        rig.feed_each(3, inferred)
        rig.detector.engine.fail_next()
        rig.feed_each(1, lambda counts: counts.dropped.no_detector)
        rig.feed_each(1, off_line)
        until(lambda: _feeds_until_inferred(rig))
    rig.settled()
    rig.assert_right_boxes()


def _feeds_until_inferred(rig: Rig) -> bool:
    """Whether detection is back, one frame later."""
    before = rig.counts.inferred
    rig.feed_each(1, off_line)
    return rig.counts.inferred > before


class _Watched(AvPicture):
    """A picture that says when it is gone."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("failing", [False, True])
def test_frames_go_as_soon_as_they_are_through(start: Start, failing: bool) -> None:
    """A 4K frame takes 12 MB: none may wait for Python to look for cycles, which it does when it likes."""
    detector = HeldDetector()
    rig = start(detector)
    rig.publisher.active = False  # else it keeps them
    pictures: list[weakref.ref[_Watched]] = []
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            shown = _Watched(picture(number).frame)
            pictures.append(weakref.ref(shown))
            rig.source.feed(item(number, at=shown))
            del shown
            until(lambda: len(detector.out) == number + 1)  # noqa: B023
            if failing:
                detector.fail(number, FrameDropped(DropReason.STALE, ""))
            else:
                detector.answer(number)
            until(lambda: off_line(rig.counts) == number + 1)  # noqa: B023
        rig.fed = 20
        until(lambda: sum(alive() is not None for alive in pictures) <= 2)  # what the threads had in hand last
    finally:
        gc.enable()


def test_video_goes_on_while_the_detector_is_away_and_boxes_come_back(start: Start) -> None:
    detector = LocalDetector()
    detector.away = True
    rig = start(detector, ready=False)
    for rounds in (1, 2):
        detector.away = True
        rig.feed_each(30, published)
        until(lambda: rig.counts.in_flight <= 1)
        assert rig.counts.dropped.no_detector >= rounds * 27
        assert rig.counts.dropped.superseded <= 1
        detector.away = False
        until(lambda: _feeds_until_inferred(rig))
    rig.settled()
    assert rig.counts.video_dropped == 0
    assert rig.publisher.pts == [3600 * number for number in range(rig.fed)]
    rig.assert_right_boxes()


def test_objects_that_are_followed_have_numbers_and_zones_tell_of_them(start: Start) -> None:
    everything = [[0, 0], [1, 0], [1, 1], [0, 1]]
    rig = start(track={}, zones=[{"name": "all", "kind": "polygon", "points": everything}])
    for _ in range(4):
        rig.source.feed(item(rig.fed, at=picture(19)))
        rig.fed += 1
        until(lambda: rig.counts.inferred == rig.fed)
    rig.settled()
    assert [event["detections"][0]["tracker_id"] for event in rig.events()] == [None, 1, 1, 1]
    ((sequence, (told,)),) = rig.pipeline.events.wait(-1, 0).in_zones.items()
    event = json.loads(told)
    assert (sequence, event["sequence"], event["event"], event["zone"]) == (1, 1, "enter", "all")
    assert (event["tracker_id"], event["label"], event["pts"]) == (1, rig.detector.engine.info.class_names[0], 3600)
    assert [mark.caption for mark in rig.pipeline.marks] == ["all: 1"]
    assert rig.pipeline.times.percentiles()["track"].p50 is not None


def test_a_model_of_another_size_refuses_one_frame_and_then_fits(start: Start) -> None:
    rig = start()
    rig.feed_each(2, inferred)
    rig.detector.load(fake_engine(side=128))
    rig.feed_each(1, lambda counts: counts.dropped.invalid)
    until(lambda: _feeds_until_inferred(rig))
    rig.settled()
    assert rig.counts.dropped.invalid == 1
    (found,) = rig.events()[-1]["detections"]
    np.testing.assert_allclose(found["box"], box(rig.events()[-1]["sequence"]), atol=1)


def test_a_replica_that_goes_with_frames_out_leaks_no_place(start: Start) -> None:
    detector = HeldDetector()
    rig = start(detector)
    for rounds in range(1, 4):
        while detector.submitted < rounds * MAX_IN_FLIGHT:
            before = detector.submitted + rig.counts.dropped.no_detector
            rig.feed()  # the first one may find that the detector must be asked anew
            until(lambda: detector.submitted + rig.counts.dropped.no_detector > before)  # noqa: B023
        for number in range((rounds - 1) * MAX_IN_FLIGHT, rounds * MAX_IN_FLIGHT):
            detector.fail(number, DetectorUnavailable("gone"))
        rig.settled()
    assert rig.counts.dropped.no_detector == rig.fed <= 3 * MAX_IN_FLIGHT + 2
    assert detector.asked > 1


class OddDetector(LocalDetector):
    """Fails at the ``at`` that is set, in a way that no port may."""

    at = ""

    def info(self, timeout_s: float) -> Any:
        if self.at == "info":
            raise KeyError("info")
        return super().info(timeout_s)

    def submit(self, request: DetectRequest) -> LinkReply:
        if self.at == "submit":
            raise KeyError("submit")
        reply = super().submit(request)
        return _OddReply() if self.at == "reply" else reply


class _OddReply(LinkReply):
    def when_settled(self, callback: Callable[[], None]) -> None:
        callback()

    def result(self, timeout_s: float) -> Any:
        raise KeyError("reply")


@pytest.mark.parametrize("at", ["submit", "reply"])
def test_an_unforeseen_failure_of_the_detector_ends_no_branch(start: Start, at: str) -> None:
    detector = OddDetector()
    rig = start(detector)
    detector.at = at
    rig.feed_each(5, off_line)
    rig.settled()
    assert rig.counts.dropped.invalid >= 2
    assert rig.counts.inferred == 0
    detector.at = ""
    until(lambda: _feeds_until_inferred(rig))
    rig.feed_each(5, inferred)
    rig.settled()
    assert rig.counts.published == rig.fed
    rig.assert_right_boxes()


def test_an_unforeseen_failure_to_say_what_is_loaded_is_tried_again(start: Start) -> None:
    detector = OddDetector()
    detector.at = "info"
    rig = start(detector, ready=False)
    rig.feed_each(3, published)
    detector.at = ""
    until(lambda: _feeds_until_inferred(rig))


# The video branch -----------------------------------------------------------------------------------------------------


def test_video_keeps_every_frame_while_the_detector_hangs(start: Start) -> None:
    rig = start()
    rig.detector.engine.hang()
    rig.feed_each(150, published)
    assert rig.publisher.pts == [3600 * number for number in range(150)]
    assert (rig.counts.video_dropped, rig.counts.inferred) == (0, 0)
    assert rig.counts.in_flight <= MAX_IN_FLIGHT + 1


def test_an_annotated_frame_waits_for_its_own_boxes(start: Start) -> None:
    rig = start(LocalDetector(fake_engine(fixed_ms=20)), video_delay_ms=5000)
    rig.publisher.wants_annotated = True
    for number in range(5):
        rig.feed_each(1, published)
        shown = rig.pipeline.live.wait(number - 1, 0)
        assert shown is not None
        assert shown[1].xyxy.tolist() == [box(number)]
        *_, plain, annotated = rig.publisher.written[-1]
        assert not np.array_equal(plain.to_array(64, 48), annotated.to_array(64, 48))
        np.testing.assert_array_equal(plain.to_array(64, 48), picture(number).to_array(64, 48))


def test_a_single_look_at_a_stream_that_nobody_watches_shows_boxes_of_its_own_frame(start: Start) -> None:
    rig = start(LocalDetector(fake_engine(fixed_ms=20)), video_delay_ms=5000)
    rig.feed_each(3, published)
    looks: list[list[list[int]]] = []

    def look() -> None:
        found = rig.pipeline.live.wait(None, 20)
        assert found is not None
        looks.append([[found[0].sequence], *found[1].xyxy.tolist()])

    with started(look):
        until(lambda: rig.pipeline.live.watched)
        rig.feed()
    assert looks == [[[3], box(3)]]


def test_it_waits_no_longer_than_the_delay(start: Start) -> None:
    rig = start(video_delay_ms=150)
    rig.publisher.wants_annotated = True
    rig.detector.engine.hang()
    frames = [item(number) for number in range(3)]
    rig.source.feed(*frames)
    until(lambda: len(rig.publisher.written) == 3)
    rig.fed = 3
    waited = [at - frame.decoded_at for (_, at, *_), frame in zip(rig.publisher.written, frames, strict=True)]
    assert waited[-1] >= 0.15  # the newest one still hopes; those that it replaced go at once
    assert max(waited) < 3


def test_it_does_not_wait_where_nobody_looks_at_boxes(start: Start) -> None:
    rig = start(video_delay_ms=5000)
    rig.detector.engine.hang()
    began = time.monotonic()
    rig.feed_each(5, published)
    assert time.monotonic() - began < 4


def test_the_oldest_frames_go_when_encoding_does_not_keep_up(start: Start) -> None:
    rig = start()
    rig.publisher.held.clear()
    rig.feed()
    until(lambda: rig.counts.queued == 1 and rig.counts.inferred == 1)
    rig.feed(VIDEO_QUEUE_FRAMES + 12)
    until(lambda: rig.counts.decoded == rig.fed)
    until(lambda: rig.counts.video_dropped >= 11)
    rig.publisher.held.set()
    rig.settled()
    assert rig.counts.video_dropped in (11, 12)  # whether the first one was taken out in time
    assert rig.publisher.pts == sorted(rig.publisher.pts)
    assert rig.publisher.pts[-VIDEO_QUEUE_FRAMES:] == [
        3600 * number for number in range(rig.fed - VIDEO_QUEUE_FRAMES, rig.fed)
    ]


def test_a_frame_that_cannot_be_published_is_counted_and_the_next_goes_on(start: Start) -> None:
    rig = start()
    rig.publisher.broken = {3600, 7200}
    rig.feed_each(5, off_line)
    rig.settled()
    assert (rig.counts.video_dropped, rig.counts.published) == (2, 3)
    assert rig.publisher.pts == [0, 10800, 14400]


def looked_for_a_slate(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the video thread has had a slate to show and its chance to do so."""
    looked, show = threading.Event(), rig.pipeline._show_slate

    def look() -> None:
        show()
        if rig.pipeline.slate.due(time.monotonic()) is not None:
            looked.set()

    monkeypatch.setattr(rig.pipeline, "_show_slate", look)
    return looked


def test_outputs_that_want_it_show_a_slate_while_no_frame_comes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate, "AFTER_S", 0.2)
    rig = start()
    rig.publisher.outputs = (OutputSpec(url="rtmp://media/plain"),)
    looked = looked_for_a_slate(rig, monkeypatch)
    rig.feed_each(3, off_line)
    assert looked.wait(20)
    assert rig.publisher.slates == []
    rig.publisher.outputs = (*rig.publisher.outputs, OutputSpec(url="rtmp://media/slate", slate=True))
    until(lambda: len(rig.publisher.slates) >= 3)
    times = [pts for pts, _ in rig.publisher.slates]
    assert times == sorted(set(times))
    assert times[0] >= rig.publisher.pts[-1] + 0.2 * 90_000
    assert len({id(shown) for _, shown in rig.publisher.slates}) == 1
    rig.feed(1)
    rig.settled()
    assert rig.counts.published == 4  # a slate is no frame
    assert len(rig.events()) == 4


def test_a_file_has_no_slate(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate, "AFTER_S", 0.05)
    rig = start(source=FILE)
    rig.publisher.outputs = (OutputSpec(url="rtmp://media/slate", slate=True),)
    looked = looked_for_a_slate(rig, monkeypatch)
    rig.feed(1)
    assert looked.wait(20)
    assert rig.publisher.slates == []


def test_a_slate_that_cannot_be_encoded_ends_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate, "AFTER_S", 0.05)
    rig = start()
    rig.publisher.outputs = (OutputSpec(url="rtmp://media/slate", slate=True),)
    tried = threading.Semaphore(0)

    def broken(pts: int, picture: Any) -> None:
        tried.release()
        raise RuntimeError("this picture can't be encoded")

    monkeypatch.setattr(rig.publisher, "write_slate", broken)
    rig.feed(1)
    assert all(tried.acquire(timeout=20) for _ in range(2))
    rig.feed(1)
    rig.settled()
    assert rig.counts.published == 2


def test_sound_is_passed_on_and_its_failure_ends_nothing(start: Start) -> None:
    rig = start()
    rig.source.feed("one", "broken", "two")
    rig.feed_each(2, published)
    assert rig.publisher.audio == ["one", "two"]
    rig.pipeline.publisher = None
    rig.source.feed("three")
    rig.feed_each(2, published)
    assert rig.publisher.audio == ["one", "two"]


class _Unscalable:
    width, height = 64, 48

    def to_array(self, *_: Any) -> Any:
        raise ValueError("no such pixel format")


def test_a_picture_that_cannot_be_scaled_is_invalid_and_the_next_goes_on(start: Start) -> None:
    rig = start()
    odd: Any = _Unscalable()
    rig.feed(at=odd)
    until(lambda: rig.counts.dropped.invalid == 1)
    rig.feed_each(2, inferred)
    rig.settled()
    assert rig.counts.published == 3


@pytest.mark.parametrize("broken", ["slot", "letterbox", "wait", "whole", "encode"])
def test_an_observer_that_fails_ends_no_branch(start: Start, broken: str) -> None:
    failing = threading.Event()
    failing.set()

    def observe(stage: str, seconds: float) -> None:
        if failing.is_set() and stage == broken:
            raise OSError("no room for metrics")

    rig = start(observe=observe)
    rig.feed_each(3, off_line)
    rig.settled()
    failing.clear()
    until(lambda: _feeds_until_inferred(rig))
    rig.feed_each(3, inferred)
    rig.settled()


# Files, and the end ---------------------------------------------------------------------------------------------------


def test_a_file_that_may_be_read_slowly_loses_no_frame(start: Start) -> None:
    rig = start(LocalDetector(fake_engine(fixed_ms=2)), source=FILE)
    rig.publisher.wants_annotated = True
    rig.feed(150)
    rig.settled()
    assert (rig.counts.inferred, rig.counts.published) == (150, 150)
    rig.assert_right_boxes()


def test_a_file_that_may_be_read_slowly_waits_for_the_detector(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "STALE_AFTER_S", 0.0)
    detector = LocalDetector()
    detector.away = True
    rig = start(detector, ready=False, source=FILE)
    rig.feed(20)
    until(lambda: rig.counts.decoded == 2)
    detector.away = False
    rig.settled()
    assert rig.counts.inferred == 20


def test_a_file_that_waits_for_the_detector_can_be_left(start: Start) -> None:
    detector = LocalDetector()
    detector.away = True
    rig = start(detector, ready=False, source=FILE)
    rig.feed(20)
    until(lambda: rig.counts.decoded == 2)
    rig.source.interrupt()
    rig.pipeline.interrupt()
    rig.decoder.join(20)
    assert not rig.decoder.is_alive()


def test_stop_settles_what_is_under_way(start: Start) -> None:
    rig = start(LocalDetector(fake_engine(fixed_ms=30)))
    rig.feed(40)
    until(lambda: rig.counts.decoded == 40)
    rig.pipeline.stop(20)
    assert (rig.counts.in_flight, rig.counts.queued) == (0, 0)
    assert rig.counts.inferred == len(rig.events())
    rig.feed(5)  # a source that does not end in time
    rig.settled()
    assert rig.counts.video_dropped == 5


def test_stop_waits_for_replies_that_are_out(start: Start) -> None:
    detector = HeldDetector()
    rig = start(detector)
    fill(rig)
    rig.feed()
    until(lambda: rig.counts.decoded == rig.fed)
    with started(lambda: rig.pipeline.stop(20)) as stopping:
        until(lambda: rig.counts.in_flight == MAX_IN_FLIGHT)  # the one that waited is given up
        assert stopping.is_alive()
        for number in range(MAX_IN_FLIGHT):
            detector.answer(number)
    assert [event["sequence"] for event in rig.events()] == [0, 1, 2, 3]
    assert rig.counts.dropped.superseded == 1


def test_replies_that_come_after_the_end_are_counted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "LAST_REPLIES_S", 0.05)
    detector = HeldDetector()
    rig = start(detector)
    fill(rig)
    rig.pipeline.stop(20)
    assert rig.counts.in_flight == MAX_IN_FLIGHT
    for number in range(MAX_IN_FLIGHT):
        detector.answer(number)
    assert (rig.counts.in_flight, rig.counts.dropped.stale, rig.events()) == (0, MAX_IN_FLIGHT, [])


def test_stop_lets_all_readers_go(start: Start) -> None:
    rig = start()
    rig.pipeline.stop(20)
    assert rig.pipeline.events.wait(None, 60).events == ()
    assert rig.pipeline.live.wait(None, 60) is None


def test_a_real_source_at_full_speed_adds_up_at_any_moment(start: Start, tmp_path: Path) -> None:
    rig = start(LocalDetector(fake_engine(fixed_ms=3)), detect={"max_fps": 100})
    rig.publisher.wants_annotated = True
    policy = UrlPolicy(media_root=tmp_path, output_root=tmp_path)
    timeline = Timeline()
    moments: list[FrameCounts] = []
    pause = threading.Event()
    for _ in range(2):  # connections
        with open_source(SourceSpec(url="testsrc://?fps=240&size=320x240"), policy, timeline) as source:
            goal = rig.counts.decoded + 80
            decoder = threading.Thread(target=rig.pipeline.decode, args=(source,), daemon=True)
            decoder.start()
            while rig.counts.decoded < goal:
                moments.append(rig.counts)
                pause.wait(0.0005)
            source.interrupt()
            decoder.join(20)
            assert not decoder.is_alive()
    rig.pipeline.stop(20)
    for counts in [*moments, rig.counts]:
        dropped = sum(counts.dropped.model_dump().values())
        assert counts.decoded == counts.inferred + dropped + counts.in_flight
        assert counts.decoded == counts.published + counts.video_dropped + counts.queued
    assert rig.counts.inferred > 10
    assert rig.counts.dropped.max_fps > 10
    assert rig.publisher.pts == sorted(set(rig.publisher.pts))
    sequences = [event["sequence"] for event in rig.events()]
    assert sequences == sorted(set(sequences))

"""The stage that knows who is who, with the real tracker: frames in, numbers and zone events out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from benchmarks.tracking.measure import Blank
from deployments.streams.frame import Frame
from deployments.streams.tracking.carried import MAX_BYTES, unpack
from deployments.streams.tracking.follower import IDS_OF_A_LIFE, Followed, Follower
from deployments.streams.tracking.spec import TrackSpec, ZoneSpec
from engines.types import Detections

FPS = 25
MIDDLE = ZoneSpec(name="middle", kind="line", points=((0.5, 0.0), (0.5, 1.0)))
RIGHT = ZoneSpec(name="right", kind="polygon", points=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)), dwell_s=1.0)
LABELS = ("person", "car")


class Walk:
    """Feeds a follower with boxes of 60x200 by their centres' x."""

    def __init__(self, follower: Follower | None = None, *, captured_at: float = 1000.0) -> None:
        self.follower = follower or Follower(1, None, replayed=False)
        self.number = 0
        self.captured_at = captured_at
        self.stretch = 0
        self.size = (1280, 720)
        self.zones: tuple[ZoneSpec, ...] = (MIDDLE, RIGHT)

    def see(self, *centres: float, skip: int = 0, confidence: float = 0.8, class_id: int = 0) -> Followed:
        self.number += skip
        boxes = np.array([(x - 30, 300, x + 30, 500) for x in centres], np.float32).reshape(-1, 4)
        count = len(centres)
        found = Detections(boxes, np.full(count, confidence, np.float32), np.full(count, class_id, np.int32))
        picture: Any = Blank(*self.size)
        at = self.captured_at + self.number / FPS
        frame = Frame(self.number, self.number * 3600, Fraction(1, 90_000), at, at, picture, self.stretch)
        self.number += 1
        return self.follower.follow(frame, found, LABELS, 0.35, TrackSpec(), self.zones)

    def along(self, begin: float, end: float, step: float = 12.0) -> list[Followed]:
        return [self.see(float(x)) for x in np.arange(begin, end, step)]


def ids(followed: Followed) -> list[int]:
    assert followed.detections.tracker_id is not None
    return followed.detections.tracker_id.tolist()


def told(followed: list[Followed]) -> list[tuple[str, str]]:
    return [(event.event, event.zone) for one in followed for event in one.events]


def test_an_object_keeps_its_number_from_the_second_frame_on() -> None:
    found = [ids(one) for one in Walk().along(100, 600)]
    assert found[0] == [-1]
    assert found[1:] == [[1]] * (len(found) - 1)


def test_who_crosses_is_told_and_counted() -> None:
    walk = Walk()
    assert told(walk.along(400, 900)) == [("cross", "middle"), ("enter", "right")]
    middle, right = walk.follower.zones
    assert middle.crossed == {"left_to_right": {}, "right_to_left": {"person": 1}}
    assert (right.entered, right.inside, right.left) == ({"person": 1}, {"person": 1}, {})
    assert told([walk.see(890.0) for _ in range(40)]) == [("dwell", "right")]


def test_frames_that_were_not_inferred_do_no_harm() -> None:
    """A fast walker, 36 pixels a frame: of a box of 60 nothing would be left where time is not looked at."""
    walk = Walk()
    for number in range(8):
        walk.see(100 + 36.0 * number)
    assert ids(walk.see(100 + 36.0 * 11, skip=3)) == [1]


def test_low_boxes_continue_a_track_but_begin_none() -> None:
    walk = Walk()
    walk.along(100, 108, step=4.0)
    assert ids(walk.see(108.0, 900.0, confidence=0.15)) == [1]


def test_who_is_not_seen_any_more_leaves() -> None:
    walk = Walk()
    walk.along(500, 900)
    gone = [walk.see() for _ in range(FPS * 3)]
    (leave,) = [event for one in gone for event in one.events if event.event == "leave"]
    assert (leave.zone, leave.reason, walk.follower.tracks) == ("right", "lost", 0)
    assert walk.follower.zones[1].inside == {}


@pytest.mark.parametrize("change", ["stretch", "size"])
def test_a_source_that_begins_anew_has_new_objects(change: str) -> None:
    walk = Walk()
    walk.along(500, 900)
    if change == "stretch":
        walk.stretch = 1
    else:
        walk.size = (1920, 1080)
    assert ("leave", "right") in told([walk.see(890.0)])
    assert ids(walk.see(890.0)) == [2]
    assert walk.follower.zones[1].left == {"person": 1}


def test_the_label_is_what_an_object_was_mostly_taken_for() -> None:
    walk = Walk()
    walk.along(400, 632)
    (cross,) = [event for event in walk.see(655.0, class_id=1).events if event.event == "cross"]
    assert cross.label == "person"


def test_without_tracks_detections_stay_as_they_are() -> None:
    found = Detections.empty()
    frame = Frame(0, 0, Fraction(1, 25), 0.0, 0.0, Blank())  # type: ignore[arg-type]
    follower = Follower(1, None, replayed=False)
    assert follower.follow(frame, found, (), 0.35, None, ()).detections is found
    mixed = Detections(np.zeros((2, 4), np.float32), np.array([0.35, 0.2], np.float32), np.zeros(2, np.int32))
    late = follower.follow(frame, mixed, LABELS, 0.35, None, ()).detections  # asked for while tracks were wanted
    assert late.confidence.tolist() == pytest.approx([0.35])


def moved(walk: Walk, *, after_s: float, replayed: bool = False) -> Walk:
    """The same stream in another process, which gets its first frame so much later."""
    carried = walk.follower.carry()
    assert carried is not None
    last_at = walk.captured_at + (walk.number - 1) / FPS
    return Walk(Follower(2, carried, replayed=replayed), captured_at=last_at + after_s)


def test_a_planned_move_keeps_numbers_counts_and_stays() -> None:
    walk = Walk()
    walk.zones = (MIDDLE, RIGHT.model_copy(update={"dwell_s": 3.0}))
    walk.along(400, 900)
    stands = [walk.see(892.0) for _ in range(25)]
    assert told(stands) == []
    after = moved(walk, after_s=4.0)
    after.zones = walk.zones
    found = after.see(892.0)
    assert ids(found) == [1]
    assert [(event.event, event.zone) for event in found.events] == [("dwell", "right")]
    assert 5.0 < (found.events[0].seconds or 0) < 7.0
    middle, right = after.follower.zones
    assert (middle.crossed["right_to_left"], right.inside) == ({"person": 1}, {"person": 1})
    assert right.since == walk.follower.zones[1].since
    assert ids(after.see(892.0, 100.0)) == [1, -1]
    assert ids(after.see(892.0, 100.0)) == [1, 2]  # numbers go on


def test_who_walks_on_during_a_move_is_found_where_the_way_led() -> None:
    walk = Walk()
    walk.along(100, 500, step=2.0)
    after = moved(walk, after_s=3.0)
    assert ids(after.see(498.0 + 2.0 * FPS * 3)) == [1]


@pytest.mark.parametrize(("after_s", "replayed"), [(31.0, False), (4.0, True)])
def test_after_too_long_or_with_a_file_that_began_anew_counts_stay_and_tracks_end(
    after_s: float, replayed: bool
) -> None:
    walk = Walk()
    walk.along(400, 900)
    after = moved(walk, after_s=after_s, replayed=replayed)
    assert ("leave", "right") in told([after.see(890.0)])
    assert ids(after.see(890.0)) == [2]
    assert after.follower.zones[1].left == {"person": 1}


def test_a_life_that_was_handed_nothing_takes_numbers_that_none_before_had() -> None:
    walk = Walk(Follower(3, None, replayed=False))
    walk.see(100.0)
    assert ids(walk.see(104.0)) == [2 * IDS_OF_A_LIFE + 1]


def test_what_is_handed_on_without_a_frame_is_what_came() -> None:
    walk = Walk()
    walk.along(400, 900)
    carried = walk.follower.carry()
    assert Follower(2, carried, replayed=False).carry() == carried


@pytest.mark.parametrize("junk", [b"", b"{}", b'{"version": 2}', b"\x80\x04", b"[" * 1000, b" " * (MAX_BYTES + 1)])
def test_what_another_release_hands_on_may_be_anything(junk: bytes) -> None:
    assert unpack(junk) is None
    walk = Walk(Follower(2, junk, replayed=False))
    walk.see(100.0)
    assert ids(walk.see(104.0)) == [IDS_OF_A_LIFE + 1]


def test_most_tracks_that_move_fit() -> None:
    walk = Walk()
    walk.zones = (RIGHT,)
    picture: Any = Blank(20_000, 720)
    boxes = np.array([(70 * x, 300, 70 * x + 60, 500) for x in range(280)], np.float32)
    found = Detections(boxes, np.full(280, 0.9, np.float32), np.zeros(280, np.int32))
    for number in range(2):
        frame = Frame(number, number * 3600, Fraction(1, 90_000), number / FPS, 0.0, picture)
        walk.follower.follow(frame, found, LABELS, 0.35, TrackSpec(), (RIGHT,))
    carried = walk.follower.carry()
    assert carried is not None
    assert len(carried) < MAX_BYTES
    known = unpack(carried)
    assert known is not None
    (zone,) = known.zones
    assert len(known.tracks) == 256
    assert sum(zone.entered.values()) - sum(zone.left.values()) == len(zone.stays)


def test_tracks_can_be_turned_off_and_on_again() -> None:
    walk = Walk()
    walk.along(500, 900)
    frame = Frame(999, 999 * 3600, Fraction(1, 90_000), 0.0, 0.0, Blank())  # type: ignore[arg-type]
    assert walk.follower.follow(frame, Detections.empty(), LABELS, 0.35, None, ()).detections.tracker_id is None
    assert (walk.follower.zones, walk.follower.tracks) == ((), 0)
    walk.number = 1000
    walk.see(890.0)
    assert ids(walk.see(890.0)) == [2]


def test_a_rate_that_changes_keeps_the_tracks() -> None:
    walk = Walk()
    for number in range(30):
        assert ids(walk.see(100 + 4.0 * number * 5, skip=4))[-1:] in ([-1], [1])
    assert ids(walk.see(100 + 4.0 * 150, skip=4)) == [1]
    for number in range(1, 40):
        assert ids(walk.see(100 + 4.0 * (150 + number))) == [1]

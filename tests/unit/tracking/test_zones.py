"""Zones as state machines: whatever tracks do, counts add up and nothing chatters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.streams.tracking.spec import ZoneSpec
from deployments.streams.tracking.zones import AnyZone, Place, ZoneEvent, adapt, zone_of

SIZE = (1000, 1000)
MARGIN = 10.0
SQUARE = ((0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7))
UPRIGHT = ((0.5, 0.2), (0.5, 0.8))
"""Seen from above to below, its right side is on the picture's left."""

places = st.tuples(st.floats(0, 1000), st.floats(0, 1000))
paths = st.lists(places, min_size=2, max_size=40)
labels = st.sampled_from(["person", "car"])


def polygon(**changes: object) -> AnyZone:
    return zone_of(ZoneSpec.model_validate({"name": "z", "kind": "polygon", "points": SQUARE, **changes}), 0.0, SIZE)


def line(points: object = UPRIGHT, **changes: object) -> AnyZone:
    return zone_of(ZoneSpec.model_validate({"name": "z", "kind": "line", "points": points, **changes}), 0.0, SIZE)


def walk(
    zone: AnyZone, path: Iterable[tuple[float, float]], track: int = 1, label: str = "person", margin: float = MARGIN
) -> list[ZoneEvent]:
    return [event for at, foot in enumerate(path) for event in zone.see(Place(track, label, foot, margin), float(at))]


def names(events: Iterable[ZoneEvent]) -> list[str]:
    return [event.event for event in events]


@given(paths)
def test_enter_and_leave_alternate(path: list[tuple[float, float]]) -> None:
    found = names(walk(polygon(), path))
    assert found == ["enter", "leave"] * (len(found) // 2) + ["enter"] * (len(found) % 2)


@given(st.lists(st.floats(-MARGIN, MARGIN), max_size=60), st.booleans())
def test_who_trembles_on_an_edge_makes_one_event_at_most(offsets: list[float], inside_before: bool) -> None:
    start = (500.0, 500.0) if inside_before else (500.0, 100.0)
    on_edge = [(500.0, 300.0 + offset) for offset in offsets]
    assert names(walk(polygon(), [start, *on_edge])) == (["enter"] if inside_before else [])
    crossing = [(400.0, 500.0), *((500.0 + offset, 500.0) for offset in offsets)]
    assert names(walk(line(), crossing)) == []
    assert names(walk(line(), [*crossing, (600.0, 500.0)])) == ["cross"]


@given(st.lists(st.tuples(st.integers(0, 3), places, labels, st.booleans()), max_size=80))
def test_entered_less_left_is_inside_by_label(steps: list[tuple[int, tuple[float, float], str, bool]]) -> None:
    """Also where tracks are lost, and the detector changes its mind about what they are."""
    zone, events = polygon(dwell_s=5.0), list[ZoneEvent]()
    for at, (track, foot, label, lost) in enumerate(steps):
        events += zone.lose(track, float(at)) if lost else zone.see(Place(track, label, foot, MARGIN), float(at))
        events += zone.pass_time(float(at))
        status = zone.status()
        entered, left, inside = Counter(status.entered), Counter(status.left), Counter(status.inside)
        assert entered == left + inside
        for kind, counts in (("enter", entered), ("leave", left), ("dwell", Counter(status.dwelled))):
            assert Counter(event.label for event in events if event.event == kind) == counts
    for event in events:
        assert event.event != "dwell" or (event.seconds or 0) > 5.0


@given(paths)
def test_the_way_back_crosses_as_often_in_the_other_direction(path: list[tuple[float, float]]) -> None:
    there, back, turned = line(), line(), line(UPRIGHT[::-1])
    forth = Counter(event.direction for event in walk(there, path))
    backwards = Counter(event.direction for event in walk(back, reversed(path)))
    other_line = Counter(event.direction for event in walk(turned, path))
    swapped = Counter({"left_to_right": forth["right_to_left"], "right_to_left": forth["left_to_right"]})
    assert backwards == swapped
    assert other_line == swapped


@given(paths)
def test_directions_alternate_for_a_line_across_the_whole_picture(path: list[tuple[float, float]]) -> None:
    found = [event.direction for event in walk(line(((0.5, 0.0), (0.5, 1.0))), path)]
    assert all(one != other for one, other in pairwise(found))


def test_a_step_names_its_direction() -> None:
    zone = line()
    (event,) = walk(zone, [(400, 500), (600, 500)])
    assert event.direction == "right_to_left"  # who looks down the picture has its left part on the right
    assert zone.status().crossed == {"left_to_right": {}, "right_to_left": {"person": 1}}


def test_who_walks_around_the_end_does_not_cross() -> None:
    assert names(walk(line(), [(400, 500), (400, 100), (600, 100), (600, 500)])) == []


def test_who_stays_makes_one_dwell_a_stay() -> None:
    zone = polygon(dwell_s=10.0)
    assert names(zone.see(Place(1, "person", (500, 500), MARGIN), 0.0)) == ["enter"]
    assert names(zone.pass_time(10.0)) == []
    (dwell,) = zone.pass_time(10.5)
    assert (dwell.event, dwell.seconds, dwell.tracker_id) == ("dwell", 10.5, 1)
    assert names(zone.pass_time(99.0)) == []
    (leave,) = zone.lose(1, 100.0)
    assert (leave.event, leave.reason, leave.seconds) == ("leave", "lost", 100.0)
    assert leave.shown() == {
        "event": "leave", "zone": "z", "tracker_id": 1, "label": "person", "reason": "lost", "seconds": 100.0
    }  # fmt: skip


def test_other_classes_do_not_count() -> None:
    assert walk(polygon(classes=["car"]), [(500, 100), (500, 500)]) == []
    assert walk(line(classes=["car"]), [(400, 500), (600, 500)]) == []
    assert names(walk(line(classes=["car"]), [(400, 500), (600, 500)], label="car")) == ["cross"]


def test_a_small_zone_can_be_entered_whatever_the_margin() -> None:
    small = polygon(points=((0.5, 0.5), (0.54, 0.5), (0.54, 0.54), (0.5, 0.54)))
    assert names(walk(small, [(500, 100), (520, 520), (500, 100)], margin=50)) == ["enter", "leave"]


def test_a_zone_that_is_moved_keeps_its_counts_and_who_is_inside() -> None:
    zone = polygon()
    walk(zone, [(500, 100), (350, 500)])
    moved = zone.spec.model_copy(update={"points": ((0.5, 0.3), (0.9, 0.3), (0.9, 0.7), (0.5, 0.7))})
    (after,) = adapt([zone], [moved], SIZE, 7.0)
    assert after.status().entered == {"person": 1}
    (leave,) = walk(after, [(350, 500)])
    assert (leave.event, leave.reason) == ("leave", "moved")
    assert after.status().inside == {}


def test_a_line_that_is_moved_over_somebody_is_not_crossed_by_that() -> None:
    zone = line()
    walk(zone, [(400, 500)])
    (after,) = adapt([zone], [zone.spec.model_copy(update={"points": ((0.3, 0.2), (0.3, 0.8))})], SIZE, 7.0)
    assert walk(after, [(400, 500), (410, 500)]) == []


def test_a_zone_of_another_name_or_kind_begins_anew() -> None:
    zone = polygon()
    walk(zone, [(500, 100), (500, 500)])
    (renamed,) = adapt([zone], [zone.spec.model_copy(update={"name": "y"})], SIZE, 7.0)
    assert (renamed.status().entered, renamed.status().since) == ({}, 7.0)
    (same,) = adapt([zone], [zone.spec.model_copy(update={"dwell_s": 3.0})], SIZE, 7.0)
    assert (same.status().entered, same.spec.dwell_s) == ({"person": 1}, 3.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"points": [[0.1, 0.1], [0.9, 0.9]]}, "at least three points"),
        ({"points": [[0.1, 0.1], [0.9, 0.9], [0.1, 0.1]]}, "each point once"),
        ({"points": [[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]}, "crosses or touches itself"),
        ({"points": [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]}, "crosses or touches itself"),
        ({"points": [[0.1, 0.1], [0.11, 0.1], [0.11, 0.11]]}, "too small or flat"),
        ({"points": [[0.1, 0.1], [1.1, 0.1], [0.5, 0.5]]}, "less than or equal to 1"),
        ({"points": [[0.1, 0.1], [float("nan"), 0.1], [0.5, 0.5]]}, "finite number"),
        ({"points": [[0.1, 0.1]]}, "at least 2 items"),
        ({"kind": "line", "points": [[0.1, 0.1], [0.9, 0.9], [0.5, 0.1]]}, "a line has two points, not 3"),
        ({"kind": "line", "points": [[0.5, 0.5], [0.5, 0.5]]}, "too short"),
        ({"kind": "line", "points": [[0.1, 0.5], [0.9, 0.5]], "dwell_s": 3}, "nobody dwells on a line"),
        ({"kind": "circle"}, "'polygon' or 'line'"),
        ({"name": ""}, "letters"),
        ({"dwell_s": 0}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ZoneSpec.model_validate({"name": "z", "kind": "polygon", "points": SQUARE, **changes})

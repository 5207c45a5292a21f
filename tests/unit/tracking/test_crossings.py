"""What becomes metrics of what happens in zones."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.events import EventLog
from deployments.streams.tracking.crossings import MAX_SERIES, OTHER, Crossing, Crossings

HAPPENED = st.tuples(
    st.sampled_from(["enter", "leave", "dwell", "cross", "cross"]),
    st.sampled_from(["door", "gate"]),
    st.sampled_from(["left_to_right", "right_to_left"]),
    st.sampled_from(["person", "car"]),
)


def told(event: str, zone: str, direction: str, label: str) -> bytes:
    found = {"event": event, "zone": zone, "tracker_id": 1, "label": label}
    return json.dumps(found | ({"direction": direction} if event == "cross" else {})).encode()


@given(st.lists(st.lists(HAPPENED, max_size=4), max_size=20))
def test_each_crossing_of_the_log_is_counted_once(frames: list[list[tuple[str, str, str, str]]]) -> None:
    log, crossings, others = EventLog(0), Crossings(), []
    log.subscribe(lambda sequence, event, in_zones: others.append(sequence))
    log.subscribe(crossings.happened)
    before: dict[Crossing, int] = {}
    for sequence, happened in enumerate(frames):
        log.append(sequence, b"{}", tuple(told(*one) for one in happened))
        now = crossings.totals()
        assert all(now[crossing] >= count for crossing, count in before.items())
        before = now
    wanted = Counter(Crossing(*one[1:]) for frame in frames for one in frame if one[0] == "cross")
    assert before == wanted
    assert others == list(range(len(frames)))


def test_names_that_come_and_go_make_a_bounded_number_of_series() -> None:
    crossings = Crossings()
    for number in range(MAX_SERIES + 50):
        crossings.happened(number, b"", [told("cross", f"zone {number}", "left_to_right", "person")])
    crossings.happened(0, b"", [told("cross", "zone 0", "left_to_right", "person")])
    totals = crossings.totals()
    assert len(totals) == MAX_SERIES + 1
    assert totals[Crossing(OTHER, "left_to_right", OTHER)] == 50
    assert totals[Crossing("zone 0", "left_to_right", "person")] == 2

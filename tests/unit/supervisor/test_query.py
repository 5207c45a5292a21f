"""Parts of all streams: every stream once, whatever the size of the parts."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.spec import SourceSpec, StreamSpec, StreamState, StreamStatus, StreamView
from deployments.supervisor.query import PartQuery, part_of
from deployments.supervisor.registry import Entry

STATES = st.sampled_from([StreamState.ONLINE, StreamState.PAUSED])
FLEETS = st.dictionaries(st.integers(0, 99), st.tuples(STATES, st.sampled_from(["north", "south"])), max_size=12)


@given(FLEETS, st.integers(1, 5), st.none() | STATES, st.none() | st.sampled_from(["north", "east"]))
def test_parts_together_are_all_that_fit_once_and_in_order(
    fleet: dict[int, tuple[StreamState, str]], limit: int, state: StreamState | None, site: str | None
) -> None:
    views = {}
    for number, (is_in, at) in fleet.items():
        spec = StreamSpec(id=f"cam-{number}", source=SourceSpec(url="testsrc://"), labels={"site": at})
        views[spec.id] = StreamView(spec=spec, status=StreamStatus(state=is_in))
    entries = [Entry(view.spec, 1) for view in views.values()]
    labels = () if site is None else (("site", site),)
    found, after = [], ""
    while True:
        part = part_of(entries, lambda entry: views[entry.spec.id], PartQuery(limit, after, labels, state))
        items = json.loads(part.items)
        found += [item["spec"]["id"] for item in items]
        if part.last is None:
            break
        assert len(items) == limit
        after = part.last
    wanted = [
        view.spec.id
        for view in views.values()
        if state in (None, view.status.state) and site in (None, view.spec.labels["site"])
    ]
    assert found == sorted(wanted)


def test_an_item_is_what_the_api_shows_of_one_stream_and_no_secret() -> None:
    spec = StreamSpec(id="gate", source=SourceSpec.model_validate({"url": "rtsp://viewer:s3cr3t@10.0.0.7/ch1"}))
    view = StreamView(spec=spec, status=StreamStatus())
    part = part_of([Entry(spec, 1)], lambda _: view, PartQuery(10))
    assert json.loads(part.items) == [json.loads(view.model_dump_json())]
    assert b"s3cr3t" not in part.items

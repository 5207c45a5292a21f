"""What users want: generations, conflicts, patches, and whose credentials are kept."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import InvalidSpec, SpecConflict, StreamExists, StreamNotFound
from deployments.streams.addressed import Addressed
from deployments.streams.spec import StreamSpec
from deployments.streams.tracking.spec import TrackSpec
from deployments.supervisor.registry import Entry, StreamRegistry


def spec(stream_id: str = "gate", **changes: Any) -> StreamSpec:
    return StreamSpec.model_validate({"id": stream_id, "source": {"url": "rtsp://camera/1"}, **changes})


def registry(**changes: Any) -> StreamRegistry:
    made = StreamRegistry()
    made.create(spec(**changes))
    return made


def password(part: Addressed) -> str | None:
    if part.credentials is None or part.credentials.password is None:
        return None
    return part.credentials.password.get_secret_value()


def patched(streams: StreamRegistry, merge_patch: dict[str, Any]) -> StreamSpec:
    """As the supervisor does it."""
    return streams.put(streams.merged("gate", merge_patch), None)[0].spec


# Generations ----------------------------------------------------------------------------------------------------------


def test_a_generation_counts_the_changes() -> None:
    streams = StreamRegistry()
    assert streams.create(spec()).generation == 1
    assert streams.put(spec(paused=True), None) == (Entry(spec(paused=True), 2), False)
    assert streams.put(spec(paused=True), None) == (Entry(spec(paused=True), 2), False)  # nothing changed
    assert streams.put(spec("yard"), None) == (Entry(spec("yard"), 1), True)
    assert [entry.spec.id for entry in streams] == ["gate", "yard"]
    assert len(streams) == 2


def test_an_id_is_taken_once() -> None:
    streams = registry()
    with pytest.raises(StreamExists, match="gate"):
        streams.create(spec(paused=True))
    assert streams.get("gate") == Entry(spec(), 1)
    streams.remove("gate", None)
    assert streams.create(spec()).generation == 1


def test_what_is_not_there_is_named() -> None:
    streams = StreamRegistry()
    for call in (streams.get, lambda name: streams.remove(name, None), lambda name: streams.merged(name, {})):
        with pytest.raises(StreamNotFound, match="yard"):
            call("yard")


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_a_change_of_another_generation_is_a_conflict(wanted: int) -> None:
    streams = registry()
    streams.put(spec(paused=True), 1)
    for change in (lambda: streams.put(spec(), wanted), lambda: streams.remove("gate", wanted)):
        with pytest.raises(SpecConflict, match="generation 2"):
            change()
    assert streams.get("gate") == Entry(spec(paused=True), 2)
    assert streams.put(spec(), 2)[0].generation == 3
    streams.remove("gate", 3)
    assert len(streams) == 0


def test_generation_zero_means_that_there_must_be_none() -> None:
    streams = StreamRegistry()
    with pytest.raises(SpecConflict):
        streams.put(spec(), 1)
    assert streams.put(spec(), 0)[1]
    with pytest.raises(SpecConflict):
        streams.put(spec(), 0)


def test_of_two_who_read_the_same_only_one_changes() -> None:
    streams = registry()
    seen = streams.get("gate").generation
    streams.put(spec(paused=True), seen)
    with pytest.raises(SpecConflict):
        streams.put(spec(labels={"a": "b"}), seen)


def test_a_running_stream_is_adopted_as_it_is() -> None:
    streams = StreamRegistry()
    streams.adopt(Entry(spec(), 17))
    assert streams.put(spec(paused=True), 17)[0].generation == 18


def test_streams_may_change_while_they_are_looked_through() -> None:
    streams = registry()
    streams.create(spec("yard"))
    for entry in streams:
        streams.remove(entry.spec.id, None)
    assert len(streams) == 0


# Patches --------------------------------------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names_and_null_takes_back() -> None:
    streams = registry(detect={"confidence": 0.5, "max_fps": 5}, labels={"a": "1", "b": "2"})
    merged = streams.merged("gate", {"detect": {"max_fps": None, "iou": 0.4}, "labels": {"a": None, "c": "3"}})
    assert merged.detect.model_dump() == spec(detect={"confidence": 0.5, "iou": 0.4}).detect.model_dump()
    assert merged.labels == {"b": "2", "c": "3"}
    assert streams.get("gate").generation == 1  # not stored yet


def test_tracks_and_zones_come_with_one_patch_and_zones_go_as_a_whole() -> None:
    streams = registry()
    line = {"name": "door", "kind": "line", "points": [[0.1, 0.5], [0.9, 0.5]]}
    streams.put(streams.merged("gate", {"track": {}, "zones": [line, {**line, "name": "gate"}]}), None)
    assert streams.get("gate").spec.track == TrackSpec()
    assert [zone.name for zone in streams.merged("gate", {"zones": [line]}).zones] == ["door"]
    assert streams.merged("gate", {"zones": None, "track": None}) == spec()
    with pytest.raises(InvalidSpec, match='set "track"'):
        streams.merged("gate", {"track": None})


@pytest.mark.parametrize(
    ("merge_patch", "field"),
    [
        ({"id": "yard"}, "id"),
        ({"id": None}, "id"),
        ({"detect": {"confidence": 2}}, "detect.confidence"),
        ({"detect": {"colour": "red"}}, "detect.colour"),
        ({"outputs": [{"url": "rtmp://m/l", "bitrate": 1}]}, "outputs.0.bitrate"),
        ({"source": None}, "source"),
        ({"paused": "maybe"}, "paused"),
        ({"zones": [{"name": "a", "kind": "line", "points": [[0, 0.5], [1, 0.5]]}]}, "zones"),  # without tracks
        ({"track": {}, "zones": [{"name": "a", "kind": "line", "points": [[0.5, 0.5], [0.5, 0.5]]}]}, "zones.0.points"),
        ({"track": {}, "zones": [{"name": "a", "kind": "line", "points": [[0, 0], [1, 1]]}] * 2}, "zones"),
        ({"track": {"lost_s": 0}}, "track.lost_s"),
    ],
)
def test_a_patch_that_does_not_fit_names_the_field(merge_patch: dict[str, Any], field: str) -> None:
    streams = registry()
    with pytest.raises(InvalidSpec) as caught:
        streams.merged("gate", merge_patch)
    assert caught.value.field == field
    assert streams.get("gate") == Entry(spec(), 1)


def test_a_refused_patch_shows_no_secret() -> None:
    with pytest.raises(InvalidSpec) as caught:
        registry().merged("gate", {"source": {"url": "rtsp://u:s3cret@camera", "transport": "s3cret"}})
    assert "s3cret" not in str(caught.value)


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.text("abc", max_size=3) | st.none(), max_size=5))
def test_labels_follow_rfc_7396(merge_patch: dict[str, str | None]) -> None:
    before = {"x": "1", "y": "2", "xy": "3"}
    expected = {**before, **merge_patch}
    assert registry(labels=before).merged("gate", {"labels": merge_patch}).labels == {
        name: value for name, value in expected.items() if value is not None
    }


def test_an_entry_is_kept_with_its_credentials() -> None:
    entry = Entry(spec(source={"url": "rtsp://u:word@camera/1"}, outputs=[{"url": "rtmp://media/live?key=one"}]), 3)
    kept = pickle.loads(pickle.dumps(entry))
    assert kept == entry
    assert password(kept.spec.source) == "word"


# Credentials ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("rtsp://camera/1", "word"),
        ("rtsp://camera/other?channel=2", "word"),
        ("rtsp://CAMERA/1", "word"),
        ("rtsp://camera:8554/1", None),
        ("rtsps://camera/1", None),
        ("rtsp://camera.evil/1", None),
        ("rtsp://u:new@camera/1", "new"),
    ],
)
def test_a_source_keeps_its_credentials_on_the_same_server_only(url: str, kept: str | None) -> None:
    streams = registry(source={"url": "rtsp://u:word@camera/1"})
    assert password(patched(streams, {"source": {"url": url}}).source) == kept


def test_a_change_elsewhere_keeps_all_credentials() -> None:
    outputs = [{"url": "rtmp://u:one@media/a"}, {"url": "rtmp://media/b"}, {"url": "rtmp://u:two@media/c"}]
    streams = registry(source={"url": "rtsp://u:word@camera/1"}, outputs=outputs)
    before = streams.get("gate").spec
    after = patched(streams, {"labels": {"a": "b"}})
    assert (after.source, after.outputs) == (before.source, before.outputs)
    assert [password(output) for output in after.outputs] == ["one", None, "two"]


def test_the_same_spec_again_is_no_change() -> None:
    given_ = {"source": {"url": "rtsp://u:word@camera/1"}, "outputs": [{"url": "rtmp://u:one@media/a"}]}
    streams = registry(**given_)
    assert streams.put(spec(**given_), None)[0].generation == 1
    assert streams.put(spec(outputs=[{"url": "rtmp://media/a"}]), None)[0].generation == 1


@pytest.mark.parametrize(
    ("urls", "kept"),
    [
        (["rtmp://media/b", "rtmp://media/a"], ["two", "one"]),
        (["rtmp://media/c", "rtmp://media/a"], ["two", "one"]),
        (["rtmp://media/c"], ["one"]),
        (["rtmp://elsewhere/a", "rtmps://media/b"], [None, None]),
        (["rtmp://media/a", "rtmp://media/a", "rtmp://media/a"], ["one", "two", None]),
        (["rtmp://u:new@media/a", "rtmp://media/c"], ["new", "two"]),
        ([], []),
    ],
)
def test_each_output_keeps_its_own_credentials(urls: list[str], kept: list[str | None]) -> None:
    streams = registry(outputs=[{"url": "rtmp://u:one@media/a"}, {"url": "rtmp://u:two@media/b"}])
    after = patched(streams, {"outputs": [{"url": url} for url in urls]})
    assert [password(output) for output in after.outputs] == kept


def test_a_sink_keeps_its_credentials_on_the_same_server_only() -> None:
    hook = {"url": "https://u:word@hooks.example/a", "credentials": {"secret": "s" * 16}}
    streams = registry(sinks=[hook, {"url": "mqtt://u:two@broker/b"}])
    urls = ["mqtt://broker/c", "https://hooks.example/b", "https://hooks.example:444/a"]
    after = patched(streams, {"sinks": [{"url": url} for url in urls]}).sinks
    assert [password(sink) for sink in after] == ["two", "word", None]
    assert after[1].credentials == streams.get("gate").spec.sinks[1].credentials
    assert after[1].credentials.secret is not None


def test_outputs_that_differ_in_their_secret_only_keep_it() -> None:
    outputs = [{"url": "rtmp://media/live?key=one"}, {"url": "rtmp://media/live?key=two"}]
    streams = registry(outputs=outputs)
    before = streams.get("gate").spec.outputs
    assert before[0].url == before[1].url
    assert patched(streams, {"paused": True}).outputs == before


def test_empty_credentials_take_the_stored_ones_away() -> None:
    streams = registry(source={"url": "rtsp://u:word@camera/1"})
    assert password(patched(streams, {"source": {"credentials": {}}}).source) is None

"""Which events a sink takes, and what it gets."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.streams.sinks.letter import Letter, letters
from deployments.streams.sinks.spec import SinkSpec
from deployments.streams.spec import StreamSpec
from deployments.streams.tracking.spec import ZoneSpec
from deployments.supervisor.config import SupervisorConfig

DOOR = ZoneSpec(name="Door", kind="polygon", points=((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)))
KERB = ZoneSpec(name="Kerb", kind="line", points=((0.0, 0.5), (1.0, 0.5)))


def sink(**changes: Any) -> SinkSpec:
    return SinkSpec.model_validate({"url": "https://hooks.example/events", **changes})


def detection(label: str, confidence: float, foot: tuple[float, float] = (10.0, 90.0)) -> dict[str, Any]:
    x, y = foot
    return {"label": label, "confidence": confidence, "box": [x - 5, y - 20, x + 5, y]}


def event(*detections: dict[str, Any]) -> dict[str, Any]:
    return {"stream_id": "gate", "sequence": 7, "width": 100, "height": 100, "detections": list(detections)}


def happened(zone: str, label: str = "person") -> dict[str, Any]:
    return {"stream_id": "gate", "sequence": 7, "event": "enter", "zone": zone, "tracker_id": 3, "label": label}


def sent(spec: SinkSpec, what: dict[str, Any], *in_zones: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(letter.body) for letter in letters(spec, (DOOR, KERB), what, in_zones)]


def test_everything_goes_with_a_key_of_its_own() -> None:
    what = event(detection("person", 0.9))
    found = sent(sink(), what, happened("Door"), happened("Kerb"))
    assert found == [
        {"key": "gate/7", "type": "detection", **what},
        {"key": "gate/7/0", "type": "zone", **happened("Door")},
        {"key": "gate/7/1", "type": "zone", **happened("Kerb")},
    ]


def test_the_key_of_a_zone_event_does_not_hang_on_the_filter() -> None:
    (only,) = sent(sink(zones=["Kerb"]), event(), happened("Door"), happened("Kerb"))
    assert only["key"] == "gate/7/1"


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, ["person", "car", "dog"]),
        ({"classes": ["car", "dog"]}, ["car", "dog"]),
        ({"confidence": 0.5}, ["person", "dog"]),
        ({"zones": ["Door"]}, ["person", "car"]),
        ({"zones": ["Door"], "classes": ["car"], "confidence": 0.4}, ["car"]),
        ({"zones": ["Kerb"]}, []),
        ({"classes": ["bird"]}, []),
        ({"events": ["zone"]}, []),
    ],
)
def test_a_filter_leaves_out_detections_and_then_the_event(changes: dict[str, Any], labels: list[str]) -> None:
    what = event(detection("person", 0.9), detection("car", 0.4), detection("dog", 0.5, foot=(80.0, 90.0)))
    found = sent(sink(**changes), what)
    assert [one["label"] for shown in found for one in shown["detections"]] == labels
    assert len(found) == bool(labels)


def test_zone_events_are_filtered_by_zone_and_class() -> None:
    both = happened("Door"), happened("Door", "car")
    assert [one["label"] for one in sent(sink(classes=["car"]), event(), *both)] == ["car"]
    assert not sent(sink(zones=["Kerb"]), event(), *both)
    assert not sent(sink(events=["detection"]), event(), *both)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 1))),
    st.sets(st.sampled_from("abc")),
    st.floats(0, 1),
)
def test_what_is_sent_is_what_the_filter_names(
    found: list[tuple[str, float]], classes: set[str], confidence: float
) -> None:
    what = event(*(detection(*one) for one in found))
    shown = sent(sink(classes=sorted(classes), confidence=confidence), what)
    wanted = [one for one in found if one[0] in classes and one[1] >= confidence]
    assert [(one["label"], one["confidence"]) for part in shown for one in part["detections"]] == wanted
    assert len(shown) == bool(wanted)


def test_a_letter_is_read_back_from_its_body() -> None:
    for letter in letters(sink(), (), event(detection("person", 0.9)), [happened("Door")]):
        assert Letter.parse(letter.body) == letter


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"key": "a/1"}', b'{"key": 1, "type": "zone"}', b'{"key": "a", "type": "x"}']
)
def test_what_is_no_letter_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no event|Expecting"):
        Letter.parse(body)


def test_placeholders_and_defaults() -> None:
    assert sink(url="mqtt://broker/cameras/{stream_id}/events").of("gate").topic("gate") == "cameras/gate/events"
    assert sink(url="mqtt://broker").topic("gate") == "raysight/gate"
    assert sink(url="redis://r:6379/0?stream=seen:{stream_id}").of("gate").key("gate") == "seen:gate"
    assert sink(url="redis://r").key("gate") == "raysight:gate"
    assert sink(url="kafka://k/seen.{stream_id}").of("gate").kafka_topic == "seen.gate"
    assert sink(url="kafka://k").kafka_topic == "raysight"
    assert [sink(url=f"kafkas://k/x{query}").sasl for query in ("", "?sasl=scram-sha-512")] == [
        "PLAIN",
        "SCRAM-SHA-512",
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"url": "ftp://x/y"}, "unknown scheme"),
        ({"url": "amqp://x/y"}, "unknown scheme"),
        ({"url": "kafka://x/a/b"}, "a topic has letters"),
        ({"url": "kafka://x/" + "a" * 250}, "249 at most"),
        ({"url": "kafka://x/y?sasl=gssapi"}, "sasl=plain"),
        ({"url": "kafka://x/y?acks=0"}, "sasl=plain"),
        ({"url": "mqtt://x/y", "credentials": {"secret": "s" * 16}}, "only a webhook"),
        ({"url": "https://x/y", "credentials": {"secret": "short"}}, "at least 16"),
        ({"url": "https://x/y", "events": []}, "at least 1"),
        ({"url": "mqtt://x/cameras/+"}, "wildcard"),
        ({"url": "redis://x/events"}, "number of the database"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(body: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SinkSpec.model_validate(body)


def test_sinks_of_all_streams_keep_their_secrets_and_share_no_file() -> None:
    hook = {"url": "https://u:word@hooks.example/{stream_id}", "credentials": {"secret": "s" * 16}}
    config = SupervisorConfig.model_validate({"sinks": [hook, {"url": "file:{stream_id}.jsonl"}]})
    assert pickle.loads(pickle.dumps(config)) == config  # as it reaches the stream's process
    assert config.sinks[0].credentials is not None
    with pytest.raises(ValueError, match="share a file"):
        SupervisorConfig.model_validate({"sinks": [{"url": "file:all.jsonl"}]})


def test_a_stream_names_its_own_zones_and_each_url_once() -> None:
    body = {"id": "gate", "source": {"url": "testsrc://"}, "track": {}, "zones": [DOOR.model_dump()]}
    assert StreamSpec.model_validate({**body, "sinks": [{"url": "mqtt://b", "zones": ["Door"]}]}).sinks
    with pytest.raises(ValueError, match="no zone 'Yard'"):
        StreamSpec.model_validate({**body, "sinks": [{"url": "mqtt://b", "zones": ["Yard"]}]})
    with pytest.raises(ValueError, match="a URL of its own"):
        StreamSpec.model_validate({**body, "sinks": [{"url": "mqtt://b"}, {"url": "mqtt://b"}]})


def test_a_signing_key_stays_beside_the_secrets_of_the_url() -> None:
    made = sink(url="https://user:word@hooks.example/x?token=abc", credentials={"secret": "s" * 16})
    assert made.credentials is not None
    assert made.credentials.secret is not None
    assert made.credentials.username is not None
    assert made.url == "https://hooks.example/x"
    assert "sss" not in made.model_dump_json() + repr(made)

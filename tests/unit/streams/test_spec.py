"""What a user may ask for, and what is never shown of it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.streams.sinks.spec import SinkSpec
from deployments.streams.spec import OutputSpec, SourceSpec, StreamSpec, StreamStatus, StreamView

SECRET = "s3cret"
FULL: dict[str, Any] = {
    "id": "gate",
    "source": {"url": f"rtsp://{SECRET}:{SECRET}@camera/1?channel=1&token={SECRET}"},
    "outputs": [
        {"url": f"rtmp://{SECRET}:{SECRET}@media/live"},
        {"url": "srt://media:9000", "credentials": {"query": {"passphrase": SECRET}}},
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A valid spec with the field at a dotted path set."""
    whole: dict[str, Any] = {
        "id": "gate",
        "source": {"url": "rtsp://camera/1"},
        "detect": {},
        "outputs": [{"url": "rtmp://m/l"}],
    }
    place: Any = whole
    *way, last = path.split(".")
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = value
    return whole


def test_the_defaults() -> None:
    spec = StreamSpec(id="gate", source=SourceSpec(url="rtsp://camera/1"))
    assert (spec.source.transport, spec.source.realtime, spec.source.loop) == ("tcp", True, False)
    assert (spec.detect.max_fps, spec.detect.classes, spec.outputs, spec.paused) == (None, None, (), False)


def test_credentials_are_in_no_output_of_a_spec() -> None:
    spec = StreamSpec.model_validate(FULL)
    view = StreamView(spec=spec, status=StreamStatus())
    shown = [
        f(x) for x in (spec, view) for f in (repr, str, lambda m: m.model_dump_json(), lambda m: str(m.model_dump()))
    ]
    shown += [repr(spec.source), str(spec.outputs), f"{spec.source.credentials}", repr(spec.source.credentials)]
    assert all(SECRET not in text for text in shown)
    assert "credentials" not in spec.model_dump()["source"]
    assert spec.source.url == "rtsp://camera/1?channel=1"
    assert spec.source.credentials is not None
    assert spec.source.credentials.query["token"].get_secret_value() == SECRET
    assert spec.outputs[1].credentials is not None


def test_credentials_travel_with_the_spec_between_processes() -> None:
    spec = StreamSpec.model_validate(FULL)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert StreamSpec.model_validate(spec.model_dump()) != spec


@pytest.mark.parametrize("sent", ["python", "json"])
def test_a_webhook_may_have_secrets_in_its_url_and_one_to_sign_with(sent: str) -> None:
    given = {"url": "https://hooks/1?token=s3cret", "credentials": {"secret": "of 16 characters"}}
    sink = SinkSpec.model_validate(given) if sent == "python" else SinkSpec.model_validate_json(json.dumps(given))
    assert sink.url == "https://hooks/1"
    assert sink.credentials is not None
    assert sink.credentials.revealed() == {"query": {"token": "s3cret"}, "secret": "of 16 characters"}


def test_a_scheme_is_taken_in_any_spelling() -> None:
    assert SourceSpec(url="HTTP://Camera/A").url == "http://Camera/A"
    assert SourceSpec(url="RTSP://user:Word@Camera/A").url == "rtsp://Camera/A"


def test_credentials_in_the_url_win() -> None:
    given = {"url": "rtsp://new:word@camera", "credentials": {"username": "old"}}
    credentials = SourceSpec.model_validate(given).credentials
    assert credentials is not None
    assert credentials.username is not None
    assert credentials.username.get_secret_value() == "new"


@pytest.mark.parametrize(
    "path",
    [
        "colour",
        "source.speed",
        "source.credentials",
        "detect.nms",
        "outputs.0.preset",
        "detect.confidence",
        "source.url",
        "id",
    ],
)
def test_a_refusal_names_the_field_and_shows_no_secret(path: str) -> None:
    given = changed(path, {"bogus": SECRET} if path != "source.url" else f"rtsp://u:{SECRET}/x@camera")
    with pytest.raises(ValidationError) as caught:
        StreamSpec.model_validate(given)
    first = caught.value.errors()[0]
    assert ".".join(map(str, first["loc"])).startswith(path.removesuffix(".url"))
    assert SECRET not in str(caught.value)
    assert SECRET not in first["msg"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", "Gate"),
        ("id", "-gate"),
        ("id", "gate-"),
        ("id", ""),
        ("id", "a" * 64),
        ("id", "gate\n"),
        ("source.url", ""),
        ("source.url", "x" * 4097),
        ("source.transport", "http"),
        ("detect.confidence", 0.0),
        ("detect.confidence", 1.01),
        ("detect.confidence", float("nan")),
        ("detect.iou", -0.1),
        ("detect.iou", float("nan")),
        ("detect.max_fps", 0),
        ("detect.max_fps", 241),
        ("detect.max_fps", float("nan")),
        ("detect.max_fps", float("inf")),
        ("detect.model", "Other"),
        ("detect.model", "-other"),
        ("detect.model", "a" * 41),
        ("outputs.0.codec", "hevc"),
        ("outputs.0.bitrate", 49_999),
        ("outputs.0.gop_s", 0),
        ("outputs.0.gop_s", float("nan")),
        ("outputs.0.audio", "aac"),
        ("outputs", [{"url": "rtmp://m/l"}] * 9),
        ("video_delay_ms", -1),
        ("video_delay_ms", 5001),
        ("paused", "perhaps"),
        ("labels", {"a" * 64: "x"}),
        ("labels", {"a": "x" * 64}),
        ("labels", {str(number): "x" for number in range(33)}),
        ("labels", {"a": 1}),
    ],
)
def test_wrong_values_are_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        StreamSpec.model_validate(changed(path, value))
    assert ".".join(map(str, caught.value.errors()[0]["loc"])).startswith(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", "a"),
        ("id", "a" * 63),
        ("id", "0-9"),
        ("detect.confidence", 1.0),
        ("detect.max_fps", 240),
        ("outputs", [{"url": "rtmp://m/l"}] * 8),
        ("video_delay_ms", 0),
        ("labels", {str(number).zfill(63): "x" * 63 for number in range(32)}),
    ],
)
def test_values_at_the_bounds_are_taken(path: str, value: Any) -> None:
    assert StreamSpec.model_validate(changed(path, value)).id


def test_a_spec_cannot_be_changed_in_place() -> None:
    spec = StreamSpec.model_validate(FULL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.paused = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "realtime", "is_file", "unpaced"),
    [
        ("file:clip.mp4", False, True, True),
        ("FILE:clip.mp4", True, True, False),
        ("rtsp://camera/1", False, False, False),
        ("testsrc://", False, False, False),
    ],
)
def test_only_files_can_be_read_at_any_pace(url: str, realtime: bool, is_file: bool, unpaced: bool) -> None:
    source = SourceSpec(url=url, realtime=realtime)
    assert (source.is_file, source.unpaced) == (is_file, unpaced)


def test_outputs_hide_their_credentials_too() -> None:
    output = OutputSpec(url=f"rtmp://u:{SECRET}@media/live")
    assert output.url == "rtmp://media/live"
    assert SECRET not in repr(output) + output.model_dump_json()

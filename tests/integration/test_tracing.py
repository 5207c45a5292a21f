"""A whole stream's frames as traces, at a real receiver of OpenTelemetry's protocol; without Ray."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from deployments.streams.hardware import NOTHING
from deployments.streams.media.opener import MediaOpener
from deployments.streams.policy import UrlPolicy
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import StreamSpec
from deployments.tracing import open_tracer
from tests.support.detectors import LocalDetector, fake_engine
from tests.support.otlp import Collector, collecting
from tests.support.waiting import until

ONE_IN = 5


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield collector


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_one_frame_in_five_is_traced_from_decoding_to_publishing(collector: Collector, tmp_path: Path) -> None:
    spec = StreamSpec.model_validate(
        {
            "id": "gate",
            "source": {"url": "testsrc://?fps=20&size=320x240"},
            "outputs": [{"url": "file:gate.mp4"}],
        }
    )
    tracer = open_tracer("gate", "node-1", ONE_IN, os.environ)
    assert tracer is not None
    detector = LocalDetector(fake_engine(side=320))
    policy = UrlPolicy(media_root=tmp_path, output_root=tmp_path)
    runner = StreamRunner(
        spec,
        1,
        detector,
        MediaOpener(policy, NOTHING, 0),
        epoch=1,
        first_sequence=0,
        node="node-1",
        observe=lambda stage, seconds: None,
        tracer=tracer,
    )
    runner.start()
    try:
        until(lambda: runner.status().frames.decoded > 60)
        until(lambda: sum(span.name == "publish" for span in collector.spans) >= 3)
        events = {event["sequence"]: event for event in map(json.loads, _events(runner))}
    finally:
        runner.stop(20)
        tracer.close()
        detector.close()

    assert {"service.name": "raysight", "raysight.node": "node-1"}.items() <= collector.resources[0].items()
    stages: defaultdict[bytes, dict[str, Span]] = defaultdict(dict)
    for span in collector.spans:
        stages[span.trace_id][span.name] = span
    whole = [trace for trace in stages.values() if {"frame", "infer", "publish"} <= trace.keys()]
    assert len(whole) >= 3
    for trace in whole:
        frame = trace["frame"]
        said = attributes(frame)
        assert said["raysight.stream"] == "gate"
        assert said["raysight.sequence"] % ONE_IN == 0
        assert (said["raysight.detection"], said["raysight.video"]) == ("inferred", "published")
        assert trace.keys() == {
            "frame", "decode", "slot", "letterbox", "wait", "infer", "draw", "encode", "publish",
        }  # fmt: skip
        assert all(trace[stage].parent_span_id == frame.span_id for stage in trace if stage != "frame")
        for before, after in (("decode", "slot"), ("slot", "letterbox"), ("letterbox", "wait"), ("wait", "infer")):
            assert abs(trace[before].end_time_unix_nano - trace[after].start_time_unix_nano) < 1e6
        for before, after in (("decode", "draw"), ("draw", "encode")):
            assert trace[before].end_time_unix_nano <= trace[after].start_time_unix_nano + 1e3
        assert trace["encode"].start_time_unix_nano <= trace["publish"].start_time_unix_nano
        # The frame's own time, as its event tells it.
        if (event := events.get(said["raysight.sequence"])) is not None:
            assert abs(trace["decode"].end_time_unix_nano / 1e9 - event["captured_at"]) < 1e-3


def _events(runner: StreamRunner) -> list[str]:
    return [event for _, event in runner.pipeline.events.wait(-1, 0).events]

"""Which frames are traced, and that nothing is done for the others."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deployments.streams.frame import Frame
from deployments.tracing import MAX_OPEN, FrameTracer, open_tracer

ROOT = Path(__file__).resolve().parents[3]
HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def frame(sequence: int) -> Frame:
    no_picture: Any = None
    return Frame(sequence, sequence, Fraction(1, 25), 1_700_000_000.0 + sequence / 25, 50.0 + sequence / 25, no_picture)


def tracer(one_in: int) -> tuple[FrameTracer, Callable[[], tuple[ReadableSpan, ...]]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return FrameTracer(provider, "gate", one_in), exporter.get_finished_spans


@given(one_in=st.integers(1, 30), first=st.integers(0, 10**9), count=st.integers(0, 60))
def test_one_frame_in_so_many_is_traced_and_no_other(one_in: int, first: int, count: int) -> None:
    traces, finished = tracer(one_in)
    for sequence in range(first, first + count):
        now = frame(sequence)
        traces.begin(now, 0.004)
        traces.stage(now, "decode", now.decoded_at - 0.004, now.decoded_at)
        traces.stage(now, "whole", now.decoded_at, now.decoded_at + 0.02)
        traces.ended(now, "detection", "inferred")
        traces.ended(now, "video", "published")
    wanted = [sequence for sequence in range(first, first + count) if sequence % one_in == 0]
    roots = [span for span in finished() if span.name == "frame"]
    assert [(span.attributes or {})["raysight.sequence"] for span in roots] == wanted
    assert len(finished()) == 2 * len(wanted)


def test_spans_bear_the_frames_own_time() -> None:
    traces, finished = tracer(1)
    now = frame(25)
    traces.begin(now, 0.004)
    traces.stage(now, "infer", now.decoded_at + 0.010, now.decoded_at + 0.030)
    (span,) = finished()
    assert abs((span.start_time or 0) - 1_700_000_001_010_000_000) < 1_000
    assert abs((span.end_time or 0) - 1_700_000_001_030_000_000) < 1_000


def test_a_frame_that_never_ends_is_given_up() -> None:
    traces, finished = tracer(1)
    for sequence in range(MAX_OPEN + 3):
        traces.begin(frame(sequence), 0.001)
    assert [(span.attributes or {})["raysight.sequence"] for span in finished()] == [0, 1, 2]
    traces.ended(frame(0), "video", "published")  # which nobody minds


@pytest.mark.parametrize(("one_in", "environ"), [(None, HERE), (5, {}), (5, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""})])
def test_it_is_off_unless_both_a_collector_and_a_sampling_are_set(one_in: int | None, environ: dict[str, str]) -> None:
    assert open_tracer("gate", "node", one_in, environ) is None


def test_a_stream_that_is_not_traced_makes_no_span() -> None:
    """Where nothing of OpenTelemetry is loaded there is no class to make one of."""
    code = """
        import sys, threading
        from deployments.streams.pipeline import Pipeline
        from tests.support.detectors import LocalDetector
        from tests.support.streams import HandFedSource, RecordingPublisher, item, spec
        from tests.support.waiting import until

        detector, source = LocalDetector(), HandFedSource()
        pipeline = Pipeline(spec(), detector, first_sequence=0, observe=lambda stage, seconds: None)
        pipeline.publisher = RecordingPublisher()
        pipeline.start()
        threading.Thread(target=lambda: pipeline.decode(source), daemon=True).start()
        for number in range(20):
            source.feed(item(number))
        until(lambda: pipeline.ledger.snapshot().published == 20)
        source.interrupt()
        pipeline.stop(20)
        detector.close()
        print(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT, env={**os.environ, **HERE}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"

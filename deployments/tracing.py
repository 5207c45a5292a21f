"""Traces of one frame in so many, from decoding to publishing, for OpenTelemetry. The only user of its packages.

A trace is one span for the frame, under which each stage has its own, at the times that the pipeline measured anyway.
Where it is off there is no `FrameTracer`, and the pipeline makes and calls nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deployments.streams.frame import Frame

if TYPE_CHECKING:  # an optional package, which most streams would load for nothing
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

Branch = Literal["detection", "video"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Either of these variables names the collector; both are OpenTelemetry's own."""

MAX_OPEN = 64
"""Frames whose trace is under way: those that wait for the video are 48 at most, a few more are at the detector."""

FLUSH_S = 2.0
"""How long a stream that stops waits for the collector."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trace:
    span: Span
    context: Context
    left: set[Branch]


class FrameTracer:
    """Traces every frame whose sequence is a multiple of ``one_in``; safe to use from several threads."""

    def __init__(self, provider: TracerProvider, stream_id: str, one_in: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._provider = provider
        self._tracer = provider.get_tracer("raysight")
        self._in_context = set_span_in_context
        self._stream = stream_id
        self._one_in = one_in
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Trace] = OrderedDict()

    def begin(self, frame: Frame, decode_s: float) -> None:
        """A frame was decoded, which took so long; the first call for it."""
        if frame.sequence % self._one_in:
            return
        span = self._tracer.start_span(
            "frame",
            start_time=_unix_ns(frame, frame.decoded_at - decode_s),
            attributes={"raysight.stream": self._stream, "raysight.sequence": frame.sequence},
        )
        with self._lock:
            self._open[frame.sequence] = _Trace(span, self._in_context(span), {"detection", "video"})
            oldest = self._open.popitem(last=False)[1] if len(self._open) > MAX_OPEN else None
        if oldest is not None:
            oldest.span.end()

    def stage(self, frame: Frame, stage: str, started: float, ended: float) -> None:
        """A stage of the frame, from and to these times of the monotonic clock."""
        trace = self._of(frame)
        if trace is not None and stage != "whole":  # that is the frame's own span
            self._add(trace, frame, stage, started, ended)

    def publishing(self, frame: Frame) -> Callable[[float], None] | None:
        """What each output has to call once it has sent the frame, with the time from which on it was encoded.

        None where the frame is not traced. An output may be later than the frame's own span.
        """
        trace = self._of(frame)
        if trace is None:
            return None
        return lambda encoded_at: self._add(trace, frame, "publish", encoded_at, time.monotonic())

    def ended(self, frame: Frame, branch: Branch, outcome: str) -> None:
        """A branch is done with the frame; with the second one the trace is complete."""
        trace = self._of(frame)
        if trace is None:
            return
        trace.span.set_attribute(f"raysight.{branch}", outcome)
        with self._lock:
            trace.left.discard(branch)
            complete = not trace.left and self._open.pop(frame.sequence, None) is not None
        if complete:
            trace.span.end(_unix_ns(frame, time.monotonic()))

    def close(self) -> None:
        """Send what is left, within `FLUSH_S`; the exporter itself knows no such limit."""
        flush = threading.Thread(target=self._provider.force_flush, name="traces", daemon=True)
        flush.start()
        flush.join(FLUSH_S)

    def _of(self, frame: Frame) -> _Trace | None:
        return None if frame.sequence % self._one_in else self._open.get(frame.sequence)

    def _add(self, trace: _Trace, frame: Frame, stage: str, started: float, ended: float) -> None:
        span = self._tracer.start_span(stage, context=trace.context, start_time=_unix_ns(frame, started))
        span.end(_unix_ns(frame, ended))


def _unix_ns(frame: Frame, at: float) -> int:
    """A time of the monotonic clock by the clock of the wall, as the frame has both of one instant."""
    return round((frame.captured_at + at - frame.decoded_at) * 1e9)


def open_tracer(stream_id: str, node: str, one_in: int | None, environ: Mapping[str, str]) -> FrameTracer | None:
    """None where no sampling is configured, or ``environ`` names no collector: the exporter reads the real one."""
    if one_in is None or not any(environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("no frame is traced, as the exporter is missing: pip install 'raysight[tracing]'")
        return None
    name = environ.get("OTEL_SERVICE_NAME") or "raysight"
    provider = TracerProvider(
        resource=Resource.create({"service.name": name, "raysight.node": node}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return FrameTracer(provider, stream_id, one_in)

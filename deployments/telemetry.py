"""Every metric: name, unit, tags. The only user of Ray's metrics, which the dashboard and Prometheus read.

Latencies are histograms by stage and node, never by stream: a histogram is a dozen series, and streams are many.
A stream has counters and gauges only. Prometheus sees each name with the prefix ``ray_``. Ray forgets a gauge that is
not set again for some 20 s, and with it streams that are gone.
"""

from __future__ import annotations

import threading
from collections import Counter as PlainCounter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Gauge, Histogram

from deployments.detector.port import DetectReply
from deployments.streams.spec import FrameCounts, Percentiles, StreamState, StreamStatus
from deployments.streams.tracking.crossings import Crossing

if TYPE_CHECKING:  # streams count too, and would load the engines with it
    from deployments.detector.service import Outcome
    from deployments.link.stats import LinkStats
    from deployments.supervisor.watch import ModelRoom

LATENCY_BUCKETS_MS = [1.0, 2.0, 5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0]
BATCH_BUCKETS = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]


class _Totals:
    """A counter that is told totals and passes on what is new; for any thread."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self._counter = Counter(name, description, tag_keys=tag_keys)
        self._told: PlainCounter[tuple[str, ...]] = PlainCounter()
        self._lock = threading.Lock()

    def bring_up_to(self, total: int, tags: dict[str, str]) -> None:
        key = tuple(tags.values())
        with self._lock:
            if total > self._told[key]:
                self._counter.inc(total - self._told[key], tags)
                self._told[key] = total


class DetectorTelemetry:
    """What a Detector replica counts."""

    def __init__(self) -> None:
        self._batch_size = Histogram(
            "raysight_batch_size_frames", "Frames in one batch of the engine.", boundaries=BATCH_BUCKETS
        )
        self._wait = Histogram(
            "raysight_batch_wait_milliseconds",
            "From the arrival of a batch's oldest frame to the engine.",
            boundaries=LATENCY_BUCKETS_MS,
        )
        self._infer = Histogram(
            "raysight_batch_infer_milliseconds", "The engine's time for one batch.", boundaries=LATENCY_BUCKETS_MS
        )
        self._attached = Gauge(
            "raysight_link_attachments", "Streams attached to this replica, by what carries frames.", tag_keys=("over",)
        )
        self._waiting = Gauge("raysight_waiting_frames", "Frames that wait for their turn at the engine.")
        self._stuck = Gauge(
            "raysight_engine_stuck_seconds", "How long frames have been waiting while no batch came to its end."
        )
        self._ended = _Totals(
            "raysight_link_frames_total", "Frames that streams sent by what became of them.", ("outcome",)
        )
        self._refused = _Totals(
            "raysight_link_refused_total", "Messages and connections that were not ours.", ("kind",)
        )
        self._failed = Counter("raysight_detect_failed_total", "Frames that the engine refused or failed on.")

    def batch(self, outcomes: Sequence[Outcome]) -> None:
        """Count one batch; each observation costs 20 us of CPU, hence none by frame."""
        replies = [outcome for outcome in outcomes if isinstance(outcome, DetectReply)]
        if len(replies) < len(outcomes):
            self._failed.inc(len(outcomes) - len(replies))
        if replies:
            self._wait.observe(max(0.0, *(reply.wait_s for reply in replies)) * 1e3)
            self._batch_size.observe(replies[0].batch_size)
            self._infer.observe(replies[0].infer_s * 1e3)

    def report(self, link: LinkStats, waiting: int, stuck_s: float) -> None:
        """Bring gauges and counters up to what the link counts; ``waiting``: frames of all callers."""
        self._attached.set(link.shared, {"over": "memory"})
        self._attached.set(link.attached - link.shared, {"over": "tcp"})
        self._waiting.set(waiting)
        self._stuck.set(stuck_s)
        dropped = {f"dropped_{reason}": count for reason, count in link.dropped.items()}
        for outcome, count in {"replied": link.replies, **dropped}.items():
            self._ended.bring_up_to(count, {"outcome": outcome})
        for kind, count in {"junk": link.junk, "stranger": link.strangers}.items():
            self._refused.bring_up_to(count, {"kind": kind})


class StreamTelemetry:
    """What one stream's actor counts; safe to call from its threads."""

    def __init__(self, stream_id: str, node: str) -> None:
        self._latency = Histogram(
            "raysight_stage_latency_milliseconds",
            "Time of one stage for one frame; 'whole' is from decoded to detections out.",
            boundaries=LATENCY_BUCKETS_MS,
            tag_keys=("stage", "node"),
        )
        self._frames = _Totals(
            "raysight_frames_total", "Frames of a stream by what became of them.", ("stream", "outcome")
        )
        self._errors = _Totals(
            "raysight_stream_errors_total", "Errors of a stream's source and outputs.", ("stream", "code")
        )
        self._sinks = _Totals(
            "raysight_sink_events_total", "Events for a stream's sinks by what became of them.", ("stream", "outcome")
        )
        self._crossings = _Totals(
            "raysight_zone_crossings_total",
            "Objects that crossed a line of a stream.",
            ("stream", "zone", "direction", "class"),
        )
        self._inside = Gauge(
            "raysight_zone_occupancy", "Objects inside a polygon of a stream now.", tag_keys=("stream", "zone")
        )
        self._percentile = Gauge(
            "raysight_stream_latency_milliseconds",
            "Latency from decoded to detections out over the newest frames.",
            tag_keys=("stream", "quantile"),
        )
        self._stream = stream_id
        self._node = node

    def latency(self, stage: str, seconds: float) -> None:
        """Observe one stage of one frame."""
        self._latency.observe(seconds * 1e3, {"stage": stage, "node": self._node})

    def report(self, status: StreamStatus, errors: Mapping[str, int], crossings: Mapping[Crossing, int]) -> None:
        """Bring counters and gauges up to ``status``, and to the errors by code and the crossings of this life."""
        for outcome, count in frame_outcomes(status.frames).items():
            self._frames.bring_up_to(count, {"stream": self._stream, "outcome": outcome})
        for code, count in errors.items():
            self._errors.bring_up_to(count, {"stream": self._stream, "code": code})
        for outcome in ("sent", "dropped", "dead_letters"):
            count = sum(getattr(sink, outcome) for sink in status.sinks)
            self._sinks.bring_up_to(count, {"stream": self._stream, "outcome": outcome})
        for crossing, count in crossings.items():
            of = {"zone": crossing.zone, "direction": crossing.direction, "class": crossing.kind}
            self._crossings.bring_up_to(count, {"stream": self._stream, **of})
        for zone in status.zones:
            if zone.kind == "polygon":
                self._inside.set(sum(zone.inside.values()), {"stream": self._stream, "zone": zone.name})
        whole = status.latency_ms.get("whole", Percentiles())
        for quantile, value in (("0.5", whole.p50), ("0.99", whole.p99)):
            if value is not None:
                self._percentile.set(value, {"stream": self._stream, "quantile": quantile})


class SupervisorTelemetry:
    """What the supervisor tells of the whole; safe to call from any thread."""

    def __init__(self) -> None:
        self._streams = Gauge("raysight_streams", "Streams by state.", tag_keys=("state",))
        self._online = Gauge(
            "raysight_stream_online", "1 where a stream that should run is online, else 0.", tag_keys=("stream",)
        )
        self._deaths = Counter(
            "raysight_stream_deaths_total", "Actors of a stream that ended unasked.", tag_keys=("stream",)
        )
        self._store = Gauge("raysight_store_reachable", "1 while the store answers, else 0.")
        self._waiting = Gauge("raysight_streams_waiting", "Streams that wait for room.")
        self._capable = Gauge(
            "raysight_engine_fps", "Frames a second that all replicas were measured to manage.", tag_keys=("model",)
        )
        self._asked = Gauge(
            "raysight_engine_asked_fps", "Frames a second that running streams ask of a model.", tag_keys=("model",)
        )
        self._room = Gauge(
            "raysight_room_streams", "Further streams of 25 frames a second that fit.", tag_keys=("model",)
        )

    def streams(self, by_state: Mapping[StreamState, int], online: Mapping[str, bool]) -> None:
        """Report how many streams are in each state, and which of those that should run are online."""
        for state in StreamState:
            self._streams.set(by_state.get(state, 0), {"state": state.value})
        for stream_id, is_online in online.items():
            self._online.set(is_online, {"stream": stream_id})

    def died(self, stream_id: str) -> None:
        """Count an actor that ended unasked."""
        self._deaths.inc(1, {"stream": stream_id})

    def store(self, reachable: bool) -> None:
        """Report whether the store answers."""
        self._store.set(reachable)

    def room(self, rooms: Iterable[ModelRoom], waiting: int) -> None:
        """Report what the models manage and what is asked of them, and how many streams wait for room."""
        self._waiting.set(waiting)
        for room in rooms:
            tags = {"model": room.model}
            self._asked.set(room.asked_fps, tags)
            if room.engine_fps is not None:
                self._capable.set(room.engine_fps, tags)
            if room.further is not None:
                self._room.set(room.further, tags)


def frame_outcomes(frames: FrameCounts) -> dict[str, int]:
    """Counters of one epoch by outcome; pure."""
    dropped = {f"dropped_{reason}": count for reason, count in frames.dropped.model_dump().items()}
    return {
        "decoded": frames.decoded,
        "inferred": frames.inferred,
        **dropped,
        "published": frames.published,
        "video_dropped": frames.video_dropped,
    }

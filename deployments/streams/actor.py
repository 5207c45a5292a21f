"""`StreamActor`: one detached, named Ray actor for each stream; a shell around `StreamRunner`."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.code import CODE_VERSION
from deployments.detector.attaching.actor import BrokeredAttachment
from deployments.link.attacher import Attacher
from deployments.logs import Context, configure_logging
from deployments.names import NAMESPACE
from deployments.streams.cpu import CpuMeter, CpuUse
from deployments.streams.events import EventBatch
from deployments.streams.fence import Fence
from deployments.streams.hardware import Grant, device_of
from deployments.streams.history import HistoryEntry
from deployments.streams.live import JpegPicture, JpegRenderer
from deployments.streams.media.audience import Audience
from deployments.streams.media.opener import MediaOpener
from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.recorder import Recorder
from deployments.streams.recording.shelf import ClipPart, Shelf
from deployments.streams.recording.spec import Clip
from deployments.streams.recording.thumbnail import thumbnail
from deployments.streams.runner import StreamRunner
from deployments.streams.sinks.fanout import Sinks
from deployments.streams.sinks.spec import SinkSpec
from deployments.streams.spec import StreamSpec, StreamStatus
from deployments.streams.tenure import SUCCEEDED, Tenancy, Tenure
from deployments.streams.tracking.crossings import Crossings
from deployments.streams.webrtc.settings import PlaybackSettings, SdpAnswer
from deployments.streams.webrtc.viewers import Viewers
from deployments.telemetry import StreamTelemetry
from deployments.tracing import open_tracer

REPORT_PERIOD_S = 2.0
"""How often counters reach Ray's metrics, which are exported every 10 s."""

STOP_TIMEOUT_S = 8.0
"""Within the 10 s that deleting a stream may take; after that the supervisor kills the actor."""

NODE_LABEL = "ray.io/node-id"
"""Which Ray gives to every node."""

logger = logging.getLogger(__name__)


def actor_name(stream_id: str) -> str:
    """The name under which a stream's actor is found in `NAMESPACE`."""
    return f"stream:{stream_id}"


@dataclass(frozen=True, slots=True)
class Report:
    """What the supervisor learns of a running stream.

    Attributes:
        next_sequence: number that the next decoded frame gets; a successor must not go below.
        grant: the places on its node's GPUs that the actor holds.
        code: what its process loaded, by `CODE_VERSION`.
        changes: counts those of the stream's history so far.
        history: its entries that are new, or came again, since as many changes as the supervisor had heard of.
        stamp: when it was made, by the clock of the actor; the supervisor names it when it vouches for the actor.
        publishes: it has the right to publish the stream.
        cpu: what its process takes; None before that was measured.
    """

    spec: StreamSpec
    status: StreamStatus
    next_sequence: int
    grant: Grant
    code: str
    changes: int
    history: tuple[HistoryEntry, ...]
    stamp: float
    publishes: bool
    cpu: CpuUse | None = None


class StreamActor:
    """Decodes, asks the detector, draws, encodes and publishes one stream.

    The methods that the supervisor calls take its epoch first, and raise Fenced once a newer one has called.
    """

    def __init__(
        self,
        supervisor_epoch: int,
        spec: StreamSpec,
        generation: int,
        policy: UrlPolicy,
        epoch: int,
        first_sequence: int,
        grant: Grant,
        notes: tuple[str, ...],
        tenancy: Tenancy,
        trace_one_in: int | None = None,
        sinks_of_all: tuple[SinkSpec, ...] = (),
        carried: bytes | None = None,
    ) -> None:
        node = ray.get_runtime_context().get_node_id()
        self._logs: Context = {"stream": spec.id, "node": node, "generation": generation}
        configure_logging(self._logs)
        if notes:
            logger.info("%s", "; ".join(notes))
        self._fence = Fence(supervisor_epoch)
        self._grant = grant
        device = device_of(spec.id, os.listdir("/dev"), os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._telemetry = StreamTelemetry(spec.id, node)
        self._model = spec.detect.model
        self._detector = Attacher(lambda key, to: BrokeredAttachment(spec.id, key, to, self._model))
        self._tracer = open_tracer(spec.id, node, trace_one_in, os.environ)
        audience, raw = Audience(), Audience()
        self._viewers = Viewers(audience, raw, policy.allows)
        self._runner = StreamRunner(
            spec,
            generation,
            self._detector,
            MediaOpener(policy, grant, device, audience, raw),
            epoch=epoch,
            first_sequence=first_sequence,
            node=node,
            observe=self._telemetry.latency,
            tracer=self._tracer,
            held=tenancy.held,
            carried=carried,
            sinks=Sinks(spec, sinks_of_all, policy),
            recording=lambda pipeline: Recorder(spec, policy, raw, partial(thumbnail, pipeline)),
        )
        self._crossings = Crossings()
        self._runner.pipeline.events.subscribe(self._crossings.happened)
        self._tenure = Tenure(tenancy, spec.id, os.environ, self._hold)
        self._renderer = JpegRenderer()
        self._shelf = Shelf(policy, spec.id)
        self._cpu = CpuMeter()
        self._stopping = threading.Event()
        self._reporter = threading.Thread(target=self._report_metrics, name="metrics", daemon=True)
        self._runner.start()
        self._tenure.start()
        self._reporter.start()

    @ray.method(concurrency_group="control")
    def apply(self, supervisor_epoch: int, spec: StreamSpec, generation: int) -> None:
        """Follow a changed spec."""
        self._fence.admit(supervisor_epoch)
        self._runner.apply(spec, generation)
        self._logs["generation"] = self._runner.generation
        model = self._runner.spec.detect.model
        if model != self._model:
            self._model = model
            self._detector.reattach()

    @ray.method(concurrency_group="control")
    def reconnect(self, supervisor_epoch: int) -> None:
        """Close the source and open it again now."""
        self._fence.admit(supervisor_epoch)
        self._runner.reconnect()

    @ray.method(concurrency_group="control")
    def report(self, supervisor_epoch: int, heard: int, vouched: float | None = None) -> Report:
        """Spec, status and sequence, for the supervisor, and of the history what is new after ``heard`` changes.

        Args:
            vouched: the ``stamp`` of an earlier report, for which the supervisor vouches (`streams.lease`).
        """
        self._fence.admit(supervisor_epoch)
        self._tenure.vouched(vouched)
        tenure = self._tenure.stamp, self._tenure.publishes
        status = self._runner.status()
        told: dict[str, Any] = {"video": status.video.model_copy(update={"viewers": self._viewers.count})}
        if status.online and status.reason is None:
            told["reason"] = self._detector.trouble
        status = status.model_copy(update=told)
        next_sequence, news = self._runner.pipeline.next_sequence, self._runner.history.since(heard)
        report = (self._runner.spec, status, next_sequence, self._grant, CODE_VERSION, *news, *tenure)
        return Report(*report, self._cpu.use)

    @ray.method(concurrency_group="control")
    def stop(self, supervisor_epoch: int) -> bytes | None:
        """End the stream; what comes back is for its next life, where there is to be one."""
        self._fence.admit(supervisor_epoch)
        self._stopping.set()
        self._tenure.stop()
        self._viewers.close()
        self._runner.stop(STOP_TIMEOUT_S)
        self._detector.close()
        if self._tracer is not None:
            self._tracer.close()
        return self._runner.carry()

    @ray.method(concurrency_group="viewers")
    def events(self, after: int | None, timeout_s: float) -> EventBatch:
        """Detection events after a sequence; waits up to ``timeout_s`` for the first."""
        return self._runner.pipeline.events.wait(after, timeout_s)

    @ray.method(concurrency_group="viewers")
    def picture(self, annotated: bool, newer_than: int | None, timeout_s: float) -> JpegPicture | None:
        """The newest frame as a JPEG; None without a newer one within ``timeout_s``."""
        pipeline = self._runner.pipeline
        found = pipeline.live.wait(newer_than, timeout_s)
        if found is None:
            return None
        return self._renderer.render(*found, pipeline.annotator if annotated else None, pipeline.marks)

    @ray.method(concurrency_group="viewers")
    def clips(self) -> tuple[Clip, ...]:
        """The clips there are on this node, the newest first."""
        return self._shelf.clips()

    @ray.method(concurrency_group="viewers")
    def clip_part(self, name: str, kind: str, offset: int) -> ClipPart | None:
        """Some bytes of a clip or its thumbnail; None where there is no such."""
        return self._shelf.part(name, kind, offset)

    @ray.method(concurrency_group="viewers")
    def play(self, offer: str, settings: PlaybackSettings, copied: bool) -> SdpAnswer:
        """Let a viewer watch by WebRTC; see `Viewers.play`."""
        return self._viewers.play(offer, settings, copied=copied)

    @ray.method(concurrency_group="viewers")
    def plays(self, session: str) -> bool:
        """Whether that viewer is there; it has to be asked, or the viewer goes."""
        return self._viewers.plays(session)

    @ray.method(concurrency_group="viewers")
    def stop_playing(self, session: str) -> None:
        """Let that viewer go, if it is there."""
        self._viewers.stop(session)

    def _hold(self, why: str | None) -> None:
        """Open or close the outputs; a life that was succeeded ends, as nobody may reach it any more to say so."""
        try:
            self._runner.hold(why)
        finally:
            if why == SUCCEEDED:
                self._runner.stop(STOP_TIMEOUT_S)
                logger.warning("this life of the stream ends: another one has begun, or nobody wants it")
                os._exit(0)

    def _report_metrics(self) -> None:
        while not self._stopping.wait(REPORT_PERIOD_S):
            try:
                status = self._runner.status()
                self._telemetry.report(status, self._runner.history.errors, self._crossings.totals())
                self._cpu.sample(time.monotonic(), time.process_time(), status.frames.decoded)
            except Exception:
                logger.exception("the metrics could not be told; they are told again")


def stream_actor_class(
    stream_id: str,
    num_cpus: float,
    memory_bytes: int,
    grant: Grant,
    node: str | None = None,
    lost: Collection[str] = (),
) -> Any:
    """`StreamActor` as Ray creates it: detached, so that it outlives the replica that asked for it.

    It starts on ``node``, or elsewhere where that one is gone or full by then, and never on those that are ``lost``,
    though Ray does not know it yet.
    """
    remote: Any = ray.remote  # its types know nothing of concurrency groups
    create = remote(
        max_restarts=0,
        concurrency_groups={"control": 2, "viewers": 16},
        # In order, a call that is taken back before the actor is up (a viewer who leaves) would hold up all later ones
        # of the same caller for 30 s: RAY_actor_scheduling_queue_max_reorder_wait_seconds.
        allow_out_of_order_execution=True,
    )
    return create(StreamActor).options(
        name=actor_name(stream_id),
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=num_cpus,
        memory=memory_bytes,
        resources=grant.resources,
        **_where(node, lost),
    )


def _where(node: str | None, lost: Collection[str]) -> dict[str, Any]:
    """Ray's options for it: labels where nodes are to be kept out of, which an affinity can't say."""
    if not lost:
        at = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True) if node is not None else None
        return {"scheduling_strategy": at}
    elsewhere = {NODE_LABEL: f"!in({','.join(sorted(lost))})"}
    if node is None:
        return {"label_selector": elsewhere}
    return {"label_selector": {NODE_LABEL: node}, "fallback_strategy": [{"label_selector": elsewhere}]}


def stream_actors(known: Collection[str]) -> dict[str, ActorHandle[Any]]:
    """Stream actors by stream id, those that wait for a node included, but for ``known`` streams."""
    prefix, found = actor_name(""), {}
    for named in ray.util.list_named_actors(all_namespaces=True):
        stream_id = named["name"].removeprefix(prefix)
        if named["namespace"] == NAMESPACE and named["name"] != stream_id and stream_id not in known:
            with suppress(ValueError):  # it ended meanwhile
                found[stream_id] = ray.get_actor(named["name"], NAMESPACE)
    return found

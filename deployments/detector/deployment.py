"""`Detector`: the Serve deployment that shares one engine among all streams, and how streams attach to it.

Frames don't travel as Serve requests: that path costs ten times the CPU and half of the engine's speed. A stream
opens one long-lived streaming request, `Detector.attach`, so that Serve's router spreads the streams, its autoscaler
counts them and its health checks end a sick replica; the frames themselves come over the link. Single images come
through a handle, `Detector.detect`. Both wait in one scheduler and enter the same batches.

Replicas tell each other their loads, and one with more than its fair share sends a stream on when it renews.

No postponed annotations here: Serve reads the builder's to validate ``args``.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from ray.serve.config import AutoscalingConfig

from deployments.detector.actor import LoadExchange
from deployments.detector.attaching.deployment import AttachRouter
from deployments.detector.batching import MAX_LANES, Batcher, WaitingFrame
from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.scheduler import Scheduler
from deployments.detector.service import Arrival, DetectorService, Outcome, load_engine
from deployments.detector.waiting import DirectFrame, LinkedFrame
from deployments.link.attachments import LinkFrame
from deployments.link.grant import Grant
from deployments.link.server import LinkServer
from deployments.names import DEPLOYMENT
from deployments.telemetry import DetectorTelemetry
from engines.errors import EngineDead
from engines.types import EngineInfo

MAX_ONGOING_REQUESTS = 512
"""Attachments and images of one replica at once; Serve's default of 5 would admit five streams."""

WATCH_S = 0.25
"""How often a replica looks at itself: whether its engine is well, and whether Serve wants it to leave."""

REPORT_EVERY = 8
"""Looks from one report of the counters to the next: 2 s; Ray exports them every 10 s."""

logger = logging.getLogger(__name__)


class Detector:
    """One engine on one device, shared by all streams."""

    def __init__(self, config: DetectorConfig) -> None:
        self._service = DetectorService(lambda: load_engine(config), stuck_after_s=config.stuck_after_s)
        self._telemetry = DetectorTelemetry()
        self._ended: dict[str, asyncio.Event] = {}
        self._batcher: Batcher | None = None
        self._draining = False
        self._configured = False
        self._loads: LoadExchange | None = None
        self._server = LinkServer(
            self._service.info,
            host=_node_address(),
            on_frame=self._on_frame,
            on_gone=self._on_gone,
            elsewhere=self._elsewhere,
            lease_s=config.lease_s,
        )
        if config.most_replicas > 1:
            self._loads = LoadExchange(serve.get_replica_context().replica_tag, self._load)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take thresholds and batch limits over without a restart.

        Serve replaces a replica that raises here, in the end all of them, each with all of its streams: so a later
        mistake leaves the settings as they are. At the start there are none to keep, and the deployment fails.

        Raises:
            ValueError: the first one can't be used; in one line.
        """
        try:
            settings = DetectorSettings.model_validate(user_config)
        except ValidationError as error:
            message = f"the Detector's user_config can't be used: {_in_one_line(error)}"
            if not self._configured:
                raise ValueError(message) from None
            logger.error("%s; the settings stay as they were", message)
            return
        self._service.settings, self._configured = settings, True

    async def info(self) -> EngineInfo:
        """What is loaded."""
        return self._service.info

    async def speed(self) -> tuple[str, float]:
        """The replica's node, and the measured frames a second of its engine."""
        return ray.get_runtime_context().get_node_id(), self._service.engine_fps

    async def attach(self, stream: str, client_key: bytes, to: str) -> AsyncIterator[Grant]:
        """Answer with leave to attach, then stay open for as long as the attachment stands.

        ``to`` is for `AttachRouter`: the replica that is asked need not be the one that is named.
        """
        self._start()
        grant = self._server.grant(stream, client_key)
        ended = self._ended[grant.lease] = asyncio.Event()
        try:
            yield grant
            await ended.wait()
        finally:
            self._ended.pop(grant.lease, None)
            self._server.end(grant.lease)

    async def detect(self, request: DetectRequest) -> DetectReply:
        """Find the objects in one frame, in a batch with whatever else is waiting."""
        frame = DirectFrame(request)
        self._start().offer(frame)
        return await frame.outcome

    async def detect_all(self, requests: Sequence[DetectRequest]) -> list[DetectReply]:
        """Find the objects in several frames, each as `detect` does; where one fails, the call does."""
        batcher, frames = self._start(), [DirectFrame(request) for request in requests]
        for frame in frames:
            batcher.offer(frame)
        return await asyncio.gather(*(frame.outcome for frame in frames))

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0, max_concurrent_batches=MAX_LANES + 1)
    async def _batch(self, releases: list[Sequence[WaitingFrame]]) -> list[list[Outcome]]:
        (frames,) = releases  # an item is a whole release: see `deployments.detector.batching`
        arrivals = [Arrival(frame.request, frame.arrived_at) for frame in frames]
        outcomes = await asyncio.wrap_future(self._service.submit(arrivals))
        self._telemetry.batch(outcomes)
        return [outcomes]

    def check_health(self) -> None:
        """Fail on a stuck or dead engine, or a broken link: Serve then replaces the replica."""
        self._service.check_health(time.monotonic())
        if not self._server.running:
            raise EngineDead("the frame link is broken")

    def _start(self) -> Batcher:
        """The batcher, made on the event loop on which requests run: that of the constructor may be another."""
        if self._batcher is None:
            info = self._service.info
            self._batcher = Batcher(
                asyncio.get_running_loop(),
                Scheduler(info.width, info.height, waiting_per_stream=1),
                self._service.staging,
                self._service.speed,
                self._batch,
                lambda: self._service.max_batch_size,
                self._service.lanes,
            )
        return self._batcher

    # On the link's thread -------------------------------------------------------------------------------------

    def _on_frame(self, frame: LinkFrame) -> None:
        assert self._batcher is not None, "nobody is attached before `attach` has made it"
        self._batcher.offer(LinkedFrame(frame, self._server))

    def _on_gone(self, lease: str) -> None:
        batcher, ended = self._batcher, self._ended.get(lease)
        if batcher is not None:
            batcher.forget(lease)
            if ended is not None:
                batcher.loop.call_soon_threadsafe(ended.set)

    def _elsewhere(self, lease: str) -> str | None:
        return None if self._loads is None else self._loads.elsewhere(lease)

    # On threads of their own ----------------------------------------------------------------------------------

    def _load(self) -> tuple[Mapping[str, int], float]:
        return self._server.offered(), 0.0 if self._draining else self._service.engine_fps

    def _watch(self) -> None:
        """End the process when the engine is beyond help: Serve's own health checks would take half a minute."""
        pause = threading.Event()
        for turn in count():
            pause.wait(WATCH_S)
            if turn % REPORT_EVERY == 0 and self._batcher is not None:
                self._telemetry.report(self._server.stats(), self._batcher.waiting)
            try:
                self.check_health()
            except EngineDead as error:
                logger.critical("this replica ends itself: %s", error)
                logging.shutdown()
                os._exit(1)
            if not self._draining and _is_leaving():
                self._draining = True
                self._server.drain()


def _in_one_line(error: ValidationError) -> str:
    """Each field and what is wrong with it."""
    return "; ".join(f"{'.'.join(map(str, found['loc'])) or 'it'}: {found['msg']}" for found in error.errors())


def _node_address() -> str:
    """This node's address as the others see it; loopback where Ray runs on one machine alone."""
    util: Any = ray.util
    address: str = util.get_node_ip_address()
    return address


def _is_leaving() -> bool:
    """Whether Serve is about to stop this replica. Ray 2.60 has no public hook for it."""
    actors = ray._private.worker.global_worker.actors.values()
    return any(getattr(getattr(actor, "_replica_impl", None), "_shutting_down", False) for actor in actors)


def _autoscaling(config: DetectorConfig) -> AutoscalingConfig:
    """Attachments are requests that stay open, so that Serve counts them as ongoing."""
    return AutoscalingConfig(
        min_replicas=config.num_replicas,
        max_replicas=config.most_replicas,
        target_ongoing_requests=config.streams_per_replica,
    )


def build_detector(config: DetectorConfig) -> serve.Application:
    """The detector's application: named in ``serve_config.yaml``, without a route."""
    scaled = config.most_replicas > config.num_replicas
    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=None if scaled else config.num_replicas,
        autoscaling_config=_autoscaling(config) if scaled else None,
        request_router_config={"request_router_class": AttachRouter},
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        health_check_period_s=1.0,
        health_check_timeout_s=2.0,
        graceful_shutdown_timeout_s=5.0,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
    )(Detector)
    application: serve.Application = deployment.bind(config)
    return application

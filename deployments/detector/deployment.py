"""`Detector`: the Serve deployment that shares one engine among all streams, and how streams attach to it.

Frames don't travel as Serve requests: that path costs ten times the CPU and half of the engine's speed. A stream
opens one long-lived streaming request, `Detector.attach`, so that Serve's router spreads the streams and its health
checks end a sick replica; the frames themselves come over the link. Single images come through a handle,
`Detector.detect`. Both wait in one scheduler and enter the same batches.

Replicas tell each other their loads, and one with more than its fair share sends a stream on when it renews. They tell
Serve too, which starts and ends replicas by that (`deployments.detector.autoscaling`).

Each model is an application of its own, named by `deployments.names.application_of`. While streams run, its package
can be swapped: each replica follows what the supervisor says (`deployments.models`), and keeps the old engine beside
the new one until the last stream has left it.

No postponed annotations here: Serve reads the builder's to validate ``args``.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from deployments.detector.actor import LoadExchange, Offer
from deployments.detector.attaching.deployment import AttachRouter
from deployments.detector.autoscaling import FramesPolicy
from deployments.detector.batching import MAX_LANES
from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.service import Arrival, DetectorService, Outcome, load_engine
from deployments.detector.serving import Release, Serving, proven
from deployments.errors import DetectorUnavailable
from deployments.link.grant import Grant
from deployments.link.stats import LinkStats, together
from deployments.logs import configure_logging
from deployments.models.actor import ModelFollower, wanted_version
from deployments.models.exchange import ModelExchange
from deployments.models.versions import Refusal, Report, Version
from deployments.names import APPLICATION, DEPLOYMENT, model_of
from deployments.telemetry import DetectorTelemetry
from engines.errors import EngineDead, EngineError
from engines.types import EngineInfo

MAX_ONGOING_REQUESTS = 512
"""Attachments and images of one replica at once; Serve's default of 5 would admit five streams."""

WATCH_S = 0.25
"""How often a replica looks at itself: whether its engine is well, and whether Serve wants it to leave."""

REPORT_EVERY = 8
"""Looks from one report of the counters to the next: 2 s; Ray exports them every 10 s."""

logger = logging.getLogger(__name__)


class Detector:
    """One engine on one device, shared by all streams; for a moment two, while its model is exchanged."""

    def __init__(self, config: DetectorConfig) -> None:
        context = serve.get_replica_context()
        self._config, self._replica, self._model = config, context.replica_tag, _model(context.app_name)
        self._node = ray.get_runtime_context().get_node_id()
        configure_logging({"node": self._node, "model": self._model, "replica": self._replica})
        self._settings = DetectorSettings()
        self._telemetry = DetectorTelemetry()
        self._draining = False
        self._configured = False
        self._loads: LoadExchange | None = None
        self._retiring: tuple[Serving, ...] = ()
        self._retired: list[LinkStats] = []
        self._version, self._serving = self._first()
        if config.most_replicas > 1:
            self._loads = LoadExchange(self._model, self._replica, self._load)
        self._follower = ModelFollower(ModelExchange(self._make, self._switch), self._report)
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
        self._settings = self._serving.service.settings = settings
        self._configured = True

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve passes on to `FramesPolicy`."""
        return {} if self._loads is None else self._loads.stats()

    async def info(self) -> EngineInfo:
        """What is loaded."""
        return self._serving.info

    async def attach(self, stream: str, client_key: bytes, to: str) -> AsyncIterator[Grant]:
        """Answer with leave to attach, then stay open for as long as the attachment stands.

        ``to`` is for `AttachRouter`: the replica that is asked need not be the one that is named.
        """
        async with aclosing(self._serving.attach(stream, client_key)) as grants:
            async for grant in grants:
                yield grant

    async def detect(self, request: DetectRequest, made_for: EngineInfo | None = None) -> DetectReply:
        """Find the objects in one frame, in a batch with whatever else is waiting.

        ``made_for`` is what the frame was made for, None for whatever is loaded. Raises DetectorUnavailable where that
        isn't loaded any more.
        """
        (reply,) = await self.detect_all([request], made_for)
        return reply

    async def detect_all(
        self, requests: Sequence[DetectRequest], made_for: EngineInfo | None = None
    ) -> list[DetectReply]:
        """Find the objects in several frames, each as `detect` does; where one fails, the call does."""
        for serving in (self._serving, *self._retiring):
            if made_for in (None, serving.info):
                return await serving.detect_all(requests)
        raise DetectorUnavailable("another model is loaded now: ask again what it is")

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0, max_concurrent_batches=MAX_LANES + 1)
    async def _batch(self, releases: list[Release]) -> list[list[Outcome]]:
        ((service, frames),) = releases  # an item is a whole release: see `deployments.detector.batching`
        arrivals = [Arrival(frame.request, frame.arrived_at) for frame in frames]
        outcomes = await asyncio.wrap_future(service.submit(arrivals))
        self._telemetry.batch(outcomes)
        return [outcomes]

    def check_health(self) -> None:
        """Fail on a stuck or dead engine, or a broken link: Serve then replaces the replica."""
        now = time.monotonic()
        self._serving.check_health(now)
        for serving in self._retiring:
            serving.service.check_health(now)

    # The model, on the follower's threads ---------------------------------------------------------------------

    def _first(self) -> tuple[Version, Serving]:
        """What the model was swapped to, or the configured package where that can't be had any more."""
        configured = self._package
        wanted = wanted_version(self._model, configured)
        if wanted.number:
            try:
                return wanted, self._make(wanted)
            except Exception:
                logger.exception("%s can't be loaded any more: this replica begins with %s", wanted.package, configured)
        return Version(0, configured), self._make(Version(0, configured))

    @property
    def _package(self) -> str:
        return "" if self._config.engine == "fake" else str(self._config.package.resolve())

    def _make(self, version: Version) -> Serving:
        """Load a version beside whatever runs. Raises EngineError where it can't be used."""
        if version.number and self._config.engine == "fake":
            raise EngineError("the engine that this model is configured with takes no package")
        config = self._config.model_copy(update={"package": Path(version.package)})
        service = DetectorService(lambda: proven(lambda: load_engine(config)), stuck_after_s=config.stuck_after_s)
        service.settings = self._settings
        return Serving(
            service,
            lambda release: self._batch(release),
            host=_node_address(),
            elsewhere=self._elsewhere,
            lease_s=config.lease_s,
        )

    def _switch(self, version: Version, serving: Serving) -> None:
        """Have new attachments and images go to ``serving``; what the old one has is answered there."""
        if self._draining:
            serving.close()
            return
        logger.info("from now on this replica runs %s", version.package)
        serving.service.settings = self._settings
        old, self._serving, self._version = self._serving, serving, version
        self._retiring = (*self._retiring, old)
        threading.Thread(target=self._retire, args=(old,), name="retire", daemon=True).start()

    def _retire(self, serving: Serving) -> None:
        serving.retire(self._replica)
        self._retired.append(serving.stats().ended())
        self._retiring = tuple(other for other in self._retiring if other is not serving)

    def _report(self, ready: int | None, refused: Refusal | None) -> Report:
        serving = self._serving
        return Report(
            self._model,
            self._replica,
            self._node,
            self._package,
            self._version,
            serving.info,
            serving.service.engine_fps,
            ready,
            refused,
        )

    # On threads of their own ----------------------------------------------------------------------------------

    def _elsewhere(self, lease: str) -> str | None:
        return None if self._loads is None else self._loads.elsewhere(lease)

    def _load(self) -> Offer:
        link, engine_fps = self._serving.link, self._serving.service.engine_fps
        return Offer(link.offered(), link.streams(), 0.0 if self._draining else engine_fps)

    def _watch(self) -> None:
        """End the process when the engine is beyond help: Serve's own health checks would take half a minute."""
        pause = threading.Event()
        for turn in count():
            pause.wait(WATCH_S)
            if turn % REPORT_EVERY == 0:
                self._count()
            try:
                self.check_health()
            except EngineDead as error:
                logger.critical("this replica ends itself: %s", error)
                logging.shutdown()
                os._exit(1)
            if not self._draining and _is_leaving():
                self._draining = True
                self._follower.stop()
                self._serving.link.drain()

    def _count(self) -> None:
        servings = (self._serving, *self._retiring)
        stats = [*self._retired, *(serving.stats() for serving in servings)]
        stuck_s = max(serving.stuck_s(time.monotonic()) for serving in servings)
        self._telemetry.report(together(stats), sum(serving.waiting for serving in servings), stuck_s)


def _model(application: str) -> str:
    """Raises ValueError where an application has another name than its model gives it."""
    model = model_of(application)
    if model is None:
        raise ValueError(
            f"call the application {application!r} {APPLICATION!r}, or '{APPLICATION}-' and a model's name"
        )
    return model


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
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function=f"{FramesPolicy.__module__}:{FramesPolicy.__name__}",
        policy_kwargs={"utilisation": config.target_utilisation},
    )
    return AutoscalingConfig(
        min_replicas=config.num_replicas,
        max_replicas=config.most_replicas,
        upscale_delay_s=config.upscale_delay_s,
        downscale_delay_s=config.downscale_delay_s,
        policy=policy,
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

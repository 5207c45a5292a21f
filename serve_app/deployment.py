"""The ingress: FastAPI's ports, implemented with calls of the supervisor, the stream actors and the Detector."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from contextvars import Context
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.grpc_util import RayServegRPCContext

from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.scheduler import WAITING_DIRECT
from deployments.errors import DetectorUnavailable, ModelNotFound, StreamNotFound, SupervisorUnavailable
from deployments.models.folders import package_folder
from deployments.models.versions import ModelState
from deployments.names import DEFAULT_MODEL, DEPLOYMENT, application_of
from deployments.store.opening import open_store
from deployments.streams.events import EventBatch
from deployments.streams.history import HistoryEntry
from deployments.streams.live import JpegPicture
from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.shelf import ClipPart
from deployments.streams.recording.spec import Clip
from deployments.streams.spec import StreamSpec, StreamView
from deployments.streams.webrtc.settings import PlaybackSettings, SdpAnswer
from deployments.supervisor.asking import ask_ray
from deployments.supervisor.entrance import Survey
from deployments.supervisor.finding.actor import find_supervisor, get_supervisor, stream_actor
from deployments.supervisor.query import Part, PartQuery
from deployments.supervisor.registry import StreamQuota
from engines.letterbox import Letterbox
from engines.types import Detections, EngineInfo, Thresholds
from serve_app.api.application import create_api
from serve_app.api.places import Places
from serve_app.api.ports import DetectResult, NodeLoad
from serve_app.api.v2.rpc import InferenceRpc
from serve_app.auth.audit import AuditLog
from serve_app.auth.config import close_doors, session_secret
from serve_app.auth.listening import require_closed_or_local
from serve_app.auth.together.actor import AskTally
from serve_app.config import AppArgs
from serve_app.loads import node_loads
from serve_app.looking import SandboxMedia

DETECT_TIMEOUT_S = 10.0
"""Longest wait of an image or a question for the Detector."""

FRAMES_AT_ONCE = 16
"""Frames of one request that go to the Detector together; single images find as many places beside them."""

ANSWER_TIMEOUT_S = 12.0
"""Of the supervisor, which may take `DELETE_TIMEOUT_S` to end a stream."""

PATIENCE_S = {"swap_model": 600.0, "drain": 30.0}
"""Where a call takes longer: loading a model, ending all streams."""

ABSENT_WAIT_S = 0.5
"""How long to wait before looking again for the actor of a stream that does not run: the supervisor's own period."""


class Ingress:
    """Serves the API and, where ``grpc_options`` ask for it, the inference protocol over gRPC.

    Everything it does is in `serve_app.api`. Serve's gRPC proxy calls the method of the same name as the protocol's,
    with the message as bytes: see `serve_app.api.v2.servicer`.
    """

    app: FastAPI  # set by Serve

    def __init__(self, args: AppArgs) -> None:
        self._from_anywhere = args.grpc_from == "anywhere"

    async def ServerLive(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """The process answers."""
        return await self._rpc.call("ServerLive", request, grpc_context)

    async def ServerReady(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """The detector answers."""
        return await self._rpc.call("ServerReady", request, grpc_context)

    async def ModelReady(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """Requests of the model will be served."""
        return await self._rpc.call("ModelReady", request, grpc_context)

    async def ServerMetadata(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """Name, version and extensions."""
        return await self._rpc.call("ServerMetadata", request, grpc_context)

    async def ModelMetadata(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """Inputs and outputs of the model."""
        return await self._rpc.call("ModelMetadata", request, grpc_context)

    async def ModelConfig(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """The model's configuration."""
        return await self._rpc.call("ModelConfig", request, grpc_context)

    async def ModelInfer(self, request: bytes, grpc_context: RayServegRPCContext) -> Any:
        """Find the objects in frames or images."""
        return await self._rpc.call("ModelInfer", request, grpc_context)

    @cached_property
    def _rpc(self) -> InferenceRpc:
        state = self.app.state
        return InferenceRpc(state.ports.inference, from_anywhere=self._from_anywhere, doors=state.doors)


def build_api(args: AppArgs) -> FastAPI:
    """The API over the cluster's actors; runs in the replica. Raises EngineError where its doors can't be as wanted."""
    require_doors(args)
    store = open_store(args.store_url, os.environ)
    doors = close_doors(args, store, args.num_replicas, AskTally)
    policy = args.policy()
    policy.output_root.mkdir(parents=True, exist_ok=True)
    streams = ClusterStreams(args, policy)
    return create_api(
        streams,
        ClusterDetector(streams, args.models_root),
        SandboxMedia(policy),
        version=version("raysight"),
        allowed_hosts=args.allowed_hosts,
        doors=doors,
        audit=AuditLog(store, args.audit_limit, time.time),
        playback=args.webrtc,
    )


def require_doors(args: AppArgs) -> None:
    """Raises OpenDoors where others than this machine could call an API that asks nobody; Serve is there by then.

    And EngineError where its replicas could not sign sessions, which no start of theirs would mend.
    """
    # The only place that has what Serve listens on: its public status has ports of proxies, not their host.
    client = _get_global_client()
    require_closed_or_local(args.auth, client.http_config.host if client is not None else None, args.grpc_from)
    if args.auth != "off":
        session_secret(os.environ, args.num_replicas)


class ClusterStreams:
    """`serve_app.api.ports.Streams` over the supervisor and the stream actors."""

    def __init__(self, args: AppArgs, policy: UrlPolicy) -> None:
        self._supervisor: ActorHandle[Any] = get_supervisor(args.streams, policy, args.store_url)
        self._supervisor.configure.remote(args.streams, policy)
        self._playback: PlaybackSettings = args.webrtc
        self._actors: dict[str, ActorHandle[Any]] = {}

    async def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> StreamView:
        view: StreamView = await self.ask("create", spec, quota)
        return view

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        answer: tuple[StreamView, bool] = await self.ask("put", spec, if_generation)
        return answer

    async def patch(self, stream_id: str, merge_patch: dict[str, Any], if_generation: int | None) -> StreamView:
        view: StreamView = await self.ask("patch", stream_id, merge_patch, if_generation)
        return view

    async def get(self, stream_id: str) -> StreamView:
        view: StreamView = await self.ask("get", stream_id)
        return view

    async def history(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        entries: tuple[HistoryEntry, ...] = await self.ask("history", stream_id)
        return entries

    async def list(self) -> list[StreamView]:
        views: list[StreamView] = await self.ask("list")
        return views

    async def part(self, query: PartQuery) -> Part:
        part: Part = await self.ask("part", query)
        return part

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        await self.ask("delete", stream_id, if_generation)

    async def restart(self, stream_id: str) -> StreamView:
        view: StreamView = await self.ask("restart", stream_id)
        return view

    async def survey(self) -> Survey:
        found: Survey = await self.ask("survey")
        return found

    async def drain(self) -> None:
        await self.ask("drain")

    async def events(self, stream_id: str, after: int | None, timeout_s: float) -> EventBatch:
        batch = await self._ask_stream(stream_id, "events", after, timeout_s)
        return batch if batch is not None else EventBatch((), False, -1 if after is None else after)

    async def picture(
        self, stream_id: str, annotated: bool, newer_than: int | None, timeout_s: float
    ) -> JpegPicture | None:
        picture: JpegPicture | None = await self._ask_stream(stream_id, "picture", annotated, newer_than, timeout_s)
        return picture

    async def clips(self, stream_id: str) -> tuple[Clip, ...] | None:
        clips: tuple[Clip, ...] | None = await self._ask_stream(stream_id, "clips")
        return clips

    async def clip_part(self, stream_id: str, name: str, kind: str, offset: int) -> ClipPart | None:
        part: ClipPart | None = await self._ask_stream(stream_id, "clip_part", name, kind, offset)
        return part

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer | None:
        answer: SdpAnswer | None = await self._ask_stream(stream_id, "play", offer, self._playback, copied)
        return answer

    async def plays(self, stream_id: str, session: str) -> bool:
        return bool(await self._ask_stream(stream_id, "plays", session))

    async def stop_playing(self, stream_id: str, session: str) -> None:
        await self._ask_stream(stream_id, "stop_playing", session)

    async def ask(self, method: str, *args: Any) -> Any:
        """What the supervisor answers; raises what it raises, and SupervisorUnavailable.

        With Ray's head away nothing ever answers, nor does Ray say that the supervisor is gone.
        """
        try:
            async with asyncio.timeout(PATIENCE_S.get(method, ANSWER_TIMEOUT_S)):
                try:
                    return await getattr(self._supervisor, method).remote(*args)
                except RayActorError as error:
                    self._supervisor = await ask_ray(find_supervisor)  # it may have been replaced
                    why = "the supervisor is being started again: try again shortly"
                    raise SupervisorUnavailable(why) from error
        except RayTaskError as error:
            raise error.cause from None
        except TimeoutError:
            why = "the supervisor does not answer (is Ray's head away?): running streams go on; try again later"
            raise SupervisorUnavailable(why) from None

    async def _ask_stream(self, stream_id: str, method: str, *args: Any) -> Any:
        """What the stream's actor answers; None while it does not run. Raises StreamNotFound."""
        known = self._actors.get(stream_id)
        if known is not None:
            try:
                return await _called(known, method, *args)
            except RayActorError:
                self._actors.pop(stream_id, None)  # it may have been replaced
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                actor = await ask_ray(stream_actor, stream_id)
        except TimeoutError:
            raise SupervisorUnavailable("Ray's head does not answer: try again later") from None
        except StreamNotFound:
            return await self._absent(stream_id)
        try:
            answer = await _called(actor, method, *args)
        except RayActorError:
            return await self._absent(stream_id)
        self._actors[stream_id] = actor
        return answer

    async def _absent(self, stream_id: str) -> None:
        await self.get(stream_id)
        await asyncio.sleep(ABSENT_WAIT_S)


async def _called(actor: ActorHandle[Any], method: str, *args: Any) -> Any:
    try:
        return await getattr(actor, method).remote(*args)
    except RayTaskError as error:
        raise error.cause from None


class ClusterDetector:
    """`serve_app.api.ports.Detector` over the Detectors' handles, and what their replicas told the supervisor."""

    def __init__(self, streams: ClusterStreams, models_root: Path | None) -> None:
        self._streams = streams
        self._models_root = models_root
        self._handles: dict[str, Any] = {DEFAULT_MODEL: _handle(DEFAULT_MODEL)}
        self._places: defaultdict[str, Places] = defaultdict(lambda: Places(WAITING_DIRECT - FRAMES_AT_ONCE))

    async def models(self) -> tuple[ModelState, ...]:
        states: tuple[ModelState, ...] = await self._streams.ask("models")
        if not states:
            raise DetectorUnavailable("no Detector replica has told what it runs yet: try again shortly")
        return states

    async def swap(self, model: str, package: str) -> ModelState:
        folder = package_folder(self._models_root, package)
        state: ModelState = await self._streams.ask("swap_model", model, str(folder))
        return state

    async def info(self, model: str = DEFAULT_MODEL) -> EngineInfo:
        info: EngineInfo = await self._ask(model, "info")
        return info

    async def detect(
        self, image_bgr: NDArray[np.uint8], thresholds: Thresholds | None, model: str = DEFAULT_MODEL
    ) -> DetectResult:
        started = time.monotonic()
        info = await self.info(model)
        height, width = image_bgr.shape[:2]
        letterbox = Letterbox.fit(width, height, info.width, info.height, info.letterbox, info.pad)
        image = await asyncio.to_thread(letterbox.apply, image_bgr)
        if info.colour == "rgb":
            image = np.ascontiguousarray(image[..., ::-1])
        reply: DetectReply = await self._ask(model, "detect", DetectRequest(image, thresholds), info)
        found = reply.detections
        boxes = Detections(letterbox.undo(found.xyxy), found.confidence, found.class_id)
        whole_s = time.monotonic() - started
        timing = {"wait": reply.wait_s * 1e3, "infer": reply.infer_s * 1e3, "whole": whole_s * 1e3}
        return DetectResult(boxes, info.class_names, timing)

    async def detect_frames(
        self,
        frames: Sequence[NDArray[np.uint8]],
        thresholds: Thresholds | None,
        made_for: EngineInfo,
        model: str = DEFAULT_MODEL,
    ) -> list[Detections]:
        requests = [DetectRequest(frame, thresholds) for frame in frames]
        parts = [requests[at : at + FRAMES_AT_ONCE] for at in range(0, len(requests), FRAMES_AT_ONCE)]
        try:
            async with asyncio.timeout(DETECT_TIMEOUT_S):
                replies = await asyncio.gather(*(self._detect_all(part, made_for, model) for part in parts))
        except TimeoutError:
            raise DetectorUnavailable(f"the frames were not inferred within {DETECT_TIMEOUT_S:g} s") from None
        return [reply.detections for part in replies for reply in part]

    async def _detect_all(self, requests: list[DetectRequest], made_for: EngineInfo, model: str) -> list[DetectReply]:
        async with self._places[model].taken(len(requests)):
            replies: list[DetectReply] = await self._ask(model, "detect_all", requests, made_for)
            return replies

    async def load(self, model: str = DEFAULT_MODEL) -> tuple[NodeLoad, ...]:
        return node_loads(await self._state(model), await self._streams.list())

    async def _state(self, model: str) -> ModelState:
        states = await self.models()
        for state in states:
            if state.name == model:
                return state
        if model == DEFAULT_MODEL:
            raise DetectorUnavailable("no Detector replica has told what it runs yet: try again shortly")
        known = ", ".join(state.name for state in states)
        raise ModelNotFound(f"no replica runs a model {model!r}; there are: {known}")

    async def _handle_of(self, model: str) -> Any:
        """Asking the handle of an application that isn't there would end by its time limit only."""
        if model not in self._handles:
            await self._state(model)
            self._handles[model] = _handle(model)
        return self._handles[model]

    async def _ask(self, model: str, method: str, *args: Any) -> Any:
        handle = await self._handle_of(model)
        # Outside the context of the API's request: Serve gives all calls in it one id, by which the router of
        # `AttachRouter` finds whom to serve, so that of two at once one would never be, and the router spin for it.
        response = Context().run(getattr(handle, method).remote, *args)
        try:
            return await asyncio.wait_for(response, DETECT_TIMEOUT_S)
        except asyncio.CancelledError:
            response.cancel()
            raise
        except TimeoutError:
            response.cancel()
            raise DetectorUnavailable(f"no Detector replica answered within {DETECT_TIMEOUT_S:g} s") from None
        except RayTaskError as error:
            if isinstance(error.cause, DetectorUnavailable):
                raise error.cause from None
            raise DetectorUnavailable("the Detector failed on this image") from error
        except (RayServeException, RayActorError) as error:
            raise DetectorUnavailable("the Detector is not there yet, or no more: try again shortly") from error


def _handle(model: str) -> Any:
    return serve.get_deployment_handle(DEPLOYMENT, app_name=application_of(model))

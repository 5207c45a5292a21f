"""The API's ports in memory: small, real, and without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from deployments.errors import (
    DetectorUnavailable,
    InvalidSpec,
    ModelNotFound,
    RaysightError,
    SpecConflict,
    StreamExists,
    StreamNotFound,
    said,
)
from deployments.models.versions import ModelState, ReplicaState
from deployments.streams.events import EventBatch
from deployments.streams.history import HistoryEntry
from deployments.streams.recording.shelf import ClipPart, Shelf
from deployments.streams.recording.spec import Clip
from deployments.streams.spec import SourceInfo, SourceSpec, StreamSpec, StreamState, StreamStatus, StreamView
from deployments.streams.webrtc.settings import SdpAnswer
from deployments.supervisor.admission import Room
from deployments.supervisor.demand import Costs
from deployments.supervisor.entrance import Survey
from deployments.supervisor.query import Part, PartQuery, part_of
from deployments.supervisor.registry import Entry, StreamQuota
from engines.types import Detections, EngineInfo, Thresholds
from serve_app.api.ports import DetectResult, JpegPicture, NodeLoad

HISTORY = 32

ENGINE = EngineInfo("nanodet-g", "nanodet", 416, 416, "bgr", ("person", "car"), 8, "cpu")


@dataclass(frozen=True)
class Picture:
    """A picture for viewers."""

    sequence: int
    jpeg: bytes


@dataclass
class MemoryStream:
    """One stream: its view, its newest events and its newest picture."""

    view: StreamView
    events: list[tuple[int, bytes]] = field(default_factory=list)
    in_zones: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    forgotten: int = -1
    newest: int = -1
    picture: Picture | None = None


class MemoryStreams:
    """`Streams` in a dict; tests publish events and pictures by hand."""

    def __init__(self) -> None:
        self.streams: dict[str, MemoryStream] = {}
        self.changed = asyncio.Condition()
        self.waiting = 0
        self.drained = False
        self.failure: Exception | None = None
        self.playing: dict[str, bool] = {}
        self.shelf: Shelf | None = None
        self.room = Survey(Room({}, {}, ()), Costs({}, {}), {}, 0, "off")

    def _found(self, stream_id: str) -> MemoryStream:
        if stream_id not in self.streams:
            raise StreamNotFound(f"There is no stream {stream_id!r}: GET /v1/streams lists them.")
        return self.streams[stream_id]

    async def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> StreamView:
        if self.failure is not None:
            raise self.failure
        if spec.id in self.streams:
            raise StreamExists(f"There is a stream {spec.id!r} already: pick another id, or PUT to replace it.")
        if quota is not None:
            quota.require(stream.view.spec for stream in self.streams.values())
        view = StreamView(spec=spec, status=StreamStatus())
        self.streams[spec.id] = MemoryStream(view)
        return view

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        if spec.id not in self.streams:
            if if_generation is not None:
                raise SpecConflict("There is no such stream to replace.")
            return await self.create(spec), True
        return self._replace(spec, if_generation), False

    def _replace(self, spec: StreamSpec, if_generation: int | None) -> StreamView:
        stream = self._found(spec.id)
        generation = stream.view.status.generation
        if if_generation not in (None, generation):
            raise SpecConflict(f"The stream is at generation {generation}: read it again.")
        if spec != stream.view.spec:
            generation += 1
        state = StreamState.PAUSED if spec.paused else StreamState.PENDING
        status = stream.view.status.model_copy(update={"generation": generation, "state": state})
        stream.view = StreamView(spec=spec, status=status)
        return stream.view

    async def patch(self, stream_id: str, merge_patch: dict[str, Any], if_generation: int | None) -> StreamView:
        document = self._found(stream_id).view.spec.model_dump(mode="json")
        try:
            spec = StreamSpec.model_validate(merged(document, merge_patch))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise InvalidSpec(".".join(map(str, first["loc"])), said(first)) from None
        return self._replace(spec, if_generation)

    async def get(self, stream_id: str) -> StreamView:
        return self._found(stream_id).view

    async def history(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        return tuple(reversed(self._found(stream_id).history))

    async def list(self) -> list[StreamView]:
        return [stream.view for stream in self.streams.values()]

    async def part(self, query: PartQuery) -> Part:
        views = {view.spec.id: view for view in await self.list()}
        entries = [Entry(view.spec, view.status.generation) for view in views.values()]
        return part_of(entries, lambda entry: views[entry.spec.id], query)

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        stream = self._found(stream_id)
        if if_generation not in (None, stream.view.status.generation):
            raise SpecConflict("The stream changed: read it again.")
        async with self.changed:
            del self.streams[stream_id]
            self.changed.notify_all()

    async def restart(self, stream_id: str) -> StreamView:
        stream = self._found(stream_id)
        status = stream.view.status.model_copy(update={"state": StreamState.CONNECTING})
        stream.view = StreamView(spec=stream.view.spec, status=status)
        return stream.view

    async def survey(self) -> Survey:
        return self.room

    async def drain(self) -> None:
        self.drained = True

    async def set_status(self, stream_id: str, **changes: Any) -> None:
        """Change what is the case with a stream."""
        stream = self._found(stream_id)
        stream.view = StreamView(spec=stream.view.spec, status=stream.view.status.model_copy(update=changes))

    async def until_waiting(self, count: int) -> None:
        """Until so many long polls wait here."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.waiting == count)

    async def publish(
        self, stream_id: str, sequence: int, label: str = "person", in_zones: tuple[bytes, ...] = ()
    ) -> None:
        """Add an event, and what happened in zones on its frame."""
        body = {"stream_id": stream_id, "sequence": sequence, "detections": [{"label": label}]}
        async with self.changed:
            stream = self._found(stream_id)
            stream.events.append((sequence, json.dumps(body).encode()))
            stream.in_zones[sequence] = in_zones
            stream.newest = sequence
            if len(stream.events) > HISTORY:
                stream.forgotten = stream.events.pop(0)[0]
            self.changed.notify_all()

    async def show(self, stream_id: str, picture: Picture) -> None:
        """Make a picture the newest."""
        async with self.changed:
            self._found(stream_id).picture = picture
            self.changed.notify_all()

    async def events(self, stream_id: str, after: int | None, timeout_s: float) -> EventBatch:
        position = self._found(stream_id).newest if after is None else after
        await self._until(stream_id, lambda stream: stream.newest > position, timeout_s)
        stream = self._found(stream_id)
        fresh = tuple(event for event in stream.events if event[0] > position)
        lost = after is not None and after < stream.forgotten
        return EventBatch(fresh, lost, stream.newest, dict(stream.in_zones))

    async def picture(
        self, stream_id: str, annotated: bool, newer_than: int | None, timeout_s: float
    ) -> JpegPicture | None:
        def newer(stream: MemoryStream) -> bool:
            return stream.picture is not None and (newer_than is None or stream.picture.sequence > newer_than)

        await self._until(stream_id, newer, timeout_s)
        stream = self._found(stream_id)
        return stream.picture if newer(stream) else None

    async def clips(self, stream_id: str) -> tuple[Clip, ...] | None:
        self._found(stream_id)
        return self.shelf.clips() if self.shelf is not None else None

    async def clip_part(self, stream_id: str, name: str, kind: str, offset: int) -> ClipPart | None:
        self._found(stream_id)
        return self.shelf.part(name, kind, offset) if self.shelf is not None else None

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer | None:
        if self.failure is not None:
            raise self.failure
        if self._found(stream_id).view.status.state is StreamState.FAILED:
            return None
        answer = SdpAnswer(f"viewer-{len(self.playing)}", f"answer to {offer}{', copied' if copied else ''}")
        self.playing[answer.session] = True
        return answer

    async def plays(self, stream_id: str, session: str) -> bool:
        self._found(stream_id)
        return self.playing[session]

    async def stop_playing(self, stream_id: str, session: str) -> None:
        self._found(stream_id)
        self.playing[session] = False

    async def _until(self, stream_id: str, ready: Callable[[MemoryStream], bool], timeout_s: float) -> None:
        """Wait until the stream is ready or gone."""
        self._found(stream_id)
        if self.failure is not None:
            raise self.failure
        if timeout_s == 0:
            return
        async with self.changed:
            self.waiting += 1
            self.changed.notify_all()
            try:
                async with asyncio.timeout(timeout_s):
                    await self.changed.wait_for(lambda: stream_id not in self.streams or ready(self.streams[stream_id]))
            except TimeoutError:
                pass
            finally:
                self.waiting -= 1
                self.changed.notify_all()


def merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class MemoryDetector:
    """Finds one person in the left half of any image, with either of its two models."""

    def __init__(self) -> None:
        self.available = True
        self.nodes: tuple[NodeLoad, ...] = (NodeLoad("node-a", 250.0, 50.0, 2), NodeLoad("node-b", 110.0, 0.0, 0))
        self.thresholds: Thresholds | None = None
        self.refusal: RaysightError | None = None
        replicas = (ReplicaState("node-a", 250.0), ReplicaState("node-b", 110.0))
        self.states = {
            "default": ModelState("default", "/models/nanodet-g", ENGINE, replicas),
            "fast": ModelState("fast", None, replace(ENGINE, name="fake"), (ReplicaState("node-a", 0.0),)),
        }

    def _require(self, model: str = "default") -> None:
        if not self.available:
            raise DetectorUnavailable("No detector answered: look at the Serve application's state.")
        if model not in self.states:
            raise ModelNotFound(f"There is no model {model!r}.")

    async def info(self, model: str = "default") -> EngineInfo:
        self._require(model)
        return self.states[model].info

    async def models(self) -> tuple[ModelState, ...]:
        self._require()
        return tuple(self.states.values())

    async def swap(self, model: str, package: str) -> ModelState:
        self._require(model)
        if self.refusal is not None:
            raise self.refusal
        self.states[model] = replace(self.states[model], package=f"/models/{package}")
        return self.states[model]

    async def detect(
        self, image_bgr: NDArray[np.uint8], thresholds: Thresholds | None, model: str = "default"
    ) -> DetectResult:
        self._require(model)
        self.thresholds = thresholds
        height, width = image_bgr.shape[:2]
        box = np.array([[0, 0, width / 2, height]], np.float32)
        found = Detections(box, np.array([0.9], np.float32), np.array([0], np.int32))
        return DetectResult(found, ENGINE.class_names, {"whole": 3.5})

    async def detect_frames(
        self,
        frames: Sequence[NDArray[np.uint8]],
        thresholds: Thresholds | None,
        made_for: EngineInfo,
        model: str = "default",
    ) -> list[Detections]:
        self._require(model)
        if made_for != self.states[model].info:
            raise DetectorUnavailable("Another model is loaded now.")
        return [(await self.detect(frame, thresholds, model)).detections for frame in frames]

    async def load(self, model: str = "default") -> tuple[NodeLoad, ...]:
        self._require(model)
        return self.nodes


class MemoryMedia:
    """Decodes with OpenCV; every probe gives the same answer, or the error a test asks for."""

    def __init__(self) -> None:
        self.error: RaysightError | None = None
        self.probed: list[SourceSpec] = []

    async def probe(self, source: SourceSpec) -> SourceInfo:
        self.probed.append(source)
        if self.error is not None:
            raise self.error
        return SourceInfo(codec="h264", width=1280, height=720, fps=25.0)

    async def decode_image(self, data: bytes) -> NDArray[np.uint8]:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise InvalidSpec("body", "is no JPEG or PNG that can be read")
        return np.asarray(image, np.uint8)

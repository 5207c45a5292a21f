"""What the API needs of the rest of the system; whoever deploys it says how.

Every method is awaited on the API's event loop and must be safe to call many times at once. Errors are those of
`deployments.errors`; anything else becomes a 500 that tells the client nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from deployments.models.versions import ModelState
from deployments.names import DEFAULT_MODEL
from deployments.streams.events import EventBatch
from deployments.streams.history import HistoryEntry
from deployments.streams.recording.shelf import ClipPart
from deployments.streams.recording.spec import Clip
from deployments.streams.spec import SourceInfo, SourceSpec, StreamSpec, StreamView
from deployments.streams.webrtc.settings import SdpAnswer
from deployments.supervisor.entrance import Survey
from deployments.supervisor.query import Part, PartQuery
from deployments.supervisor.registry import StreamQuota
from engines.types import Detections, EngineInfo, Thresholds


class JpegPicture(Protocol):
    """One encoded picture and the number of its frame."""

    @property
    def sequence(self) -> int: ...

    @property
    def jpeg(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class DetectResult:
    """What was found in one image, in the image's own pixels.

    Attributes:
        class_names: the names that ``detections.class_id`` points into.
        timing_ms: milliseconds by stage, and ``whole``.
    """

    detections: Detections
    class_names: tuple[str, ...]
    timing_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What one node's engines manage and what is asked of them.

    Attributes:
        engine_fps: measured frames a second at full load; None before it was measured.
        used_fps: frames a second that the node's streams offer now.
    """

    node: str
    engine_fps: float | None
    used_fps: float
    streams: int


class Streams(Protocol):
    """The streams there are: what is wanted of them, how they are, what they see.

    Every change raises StoreAway where it can't be stored: nothing has changed then.
    """

    async def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> StreamView:
        """Add a stream.

        Args:
            quota: holds however many add streams at once, through whichever replica.

        Raises:
            StreamExists: the id is taken.
            QuotaExceeded: as its name says.
            InvalidSpec, ForbiddenAddress: the spec can't be used.
            NoCapacity: it has no room, and the configuration refuses such.
        """
        ...

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        """Create or replace a stream; the second value says whether it is new.

        Raises:
            SpecConflict: ``if_generation`` is given and is not the stream's generation, or there is no such stream.
            InvalidSpec, ForbiddenAddress: the spec can't be used.
            NoCapacity: it would be new, has no room, and the configuration refuses such.
        """
        ...

    async def patch(self, stream_id: str, merge_patch: dict[str, Any], if_generation: int | None) -> StreamView:
        """Apply a JSON merge patch (RFC 7396) to the spec; it may hold credentials.

        Raises:
            StreamNotFound, SpecConflict: as their names say.
            InvalidSpec, ForbiddenAddress: the patched spec can't be used.
        """
        ...

    async def get(self, stream_id: str) -> StreamView:
        """One stream. Raises StreamNotFound."""
        ...

    async def history(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        """What a stream went through, newest first. Raises StreamNotFound."""
        ...

    async def list(self) -> list[StreamView]:
        """All streams, in any order."""
        ...

    async def part(self, query: PartQuery) -> Part:
        """Some of them, by id."""
        ...

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        """Stop and forget a stream; returns once it has stopped or after 10 s. Raises StreamNotFound, SpecConflict."""
        ...

    async def restart(self, stream_id: str) -> StreamView:
        """Reconnect the source now. Raises StreamNotFound."""
        ...

    async def survey(self) -> Survey:
        """What nodes and engines offer, what is spoken for, and what streams cost."""
        ...

    async def drain(self) -> None:
        """End all streams, 10 s later at most, and start none any more; what is wanted of them stays."""
        ...

    async def events(self, stream_id: str, after: int | None, timeout_s: float) -> EventBatch:
        """Events with a sequence above ``after``, as soon as there is one; empty after ``timeout_s``.

        None means from now on. With ``timeout_s`` 0 it answers at once with what there is, and ``newest`` says where
        the stream stands. Each event's JSON is one line and goes to viewers as it is. A stream that is paused or
        reconnecting is waited for like a silent one. Raises StreamNotFound once the stream is deleted.
        """
        ...

    async def picture(
        self, stream_id: str, annotated: bool, newer_than: int | None, timeout_s: float
    ) -> JpegPicture | None:
        """The newest picture as soon as its sequence is above ``newer_than``; None after ``timeout_s``.

        Raises StreamNotFound once the stream is deleted.
        """
        ...

    async def clips(self, stream_id: str) -> tuple[Clip, ...] | None:
        """Its clips, the newest first; None while it does not run. Raises StreamNotFound."""
        ...

    async def clip_part(self, stream_id: str, name: str, kind: str, offset: int) -> ClipPart | None:
        """Some bytes of a clip (``mp4``) or its thumbnail (``jpg``) from ``offset`` on; None where there is no such.

        Raises StreamNotFound.
        """
        ...

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer | None:
        """Let a viewer watch by WebRTC, the source's own video where ``copied``; None while the stream does not run.

        Raises:
            StreamNotFound: as its name says.
            InvalidSpec: the offer, SDP, can't be answered.
            TooManyViewers, PlaybackMissing, Overloaded: not now, or not here.
        """
        ...

    async def plays(self, stream_id: str, session: str) -> bool:
        """Whether that viewer is there; one of whom nobody asks for half a minute has to go. Raises StreamNotFound."""
        ...

    async def stop_playing(self, stream_id: str, session: str) -> None:
        """Let that viewer go, if it is there. Raises StreamNotFound."""
        ...


class LiveViews(Protocol):
    """Live views of streams for many clients."""

    async def detections(self, stream_id: str, after: int | None) -> Response:
        """Detections as server-sent events, from the one after ``after`` or from now on. Raises StreamNotFound."""
        ...

    async def pictures(self, stream_id: str, fps: float) -> Response:
        """Annotated pictures, at most ``fps`` a second. Raises StreamNotFound."""
        ...

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer:
        """Video by WebRTC, annotated unless ``copied``.

        Raises as `Streams.play`, and Refused while the stream does not run.
        """
        ...

    async def stop_playing(self, stream_id: str, session: str) -> None:
        """End it. Raises StreamNotFound."""
        ...


class Detector(Protocol):
    """The detector that all streams share. Every method raises DetectorUnavailable where no replica answers."""

    async def info(self, model: str = DEFAULT_MODEL) -> EngineInfo:
        """The loaded engine. Raises ModelNotFound."""
        ...

    async def models(self) -> tuple[ModelState, ...]:
        """The models that replicas run, by name; at least one."""
        ...

    async def swap(self, model: str, package: str) -> ModelState:
        """Have a model run another package, named by its folder below the models root, while streams go on.

        Raises:
            ModelNotFound, SwapInProgress, ForbiddenPackage: as their names say.
            PackageRefused: it can't be used. As with all errors, nothing has changed.
        """
        ...

    async def detect(
        self, image_bgr: NDArray[np.uint8], thresholds: Thresholds | None, model: str = DEFAULT_MODEL
    ) -> DetectResult:
        """Find objects in one image, uint8 ``[height, width, 3]``.

        ``thresholds`` None takes the detector's own. Raises ModelNotFound.
        """
        ...

    async def detect_frames(
        self,
        frames: Sequence[NDArray[np.uint8]],
        thresholds: Thresholds | None,
        made_for: EngineInfo,
        model: str = DEFAULT_MODEL,
    ) -> list[Detections]:
        """Find objects in frames that are letterboxed already, uint8 ``[height, width, 3]`` as ``made_for`` says.

        Boxes are pixels of the frames as they are given. Raises ModelNotFound, and DetectorUnavailable where the model
        was swapped meanwhile.
        """
        ...

    async def load(self, model: str = DEFAULT_MODEL) -> tuple[NodeLoad, ...]:
        """Measured speed and present load of each node with an engine of the model. Raises ModelNotFound."""
        ...


class Media(Protocol):
    """Looking into sources and images. Every method raises Overloaded where too many calls of it wait already."""

    async def probe(self, source: SourceSpec) -> SourceInfo:
        """What a source is, without starting a stream.

        Raises:
            StreamError: it can't be opened, with the code that a stream would get.
            InvalidSpec, ForbiddenAddress: the URL can't be used.
        """
        ...

    async def decode_image(self, data: bytes) -> NDArray[np.uint8]:
        """A JPEG or PNG as BGR, upright. Raises InvalidSpec of field ``body`` where it is none or far too large."""
        ...

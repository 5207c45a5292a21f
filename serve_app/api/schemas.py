"""What the API answers with, beyond specs and status."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.models.versions import ModelState
from deployments.streams.history import HistoryEntry
from deployments.streams.recording.spec import Clip
from deployments.streams.spec import StreamView
from deployments.supervisor.admission import Limit
from deployments.supervisor.config import Admission
from serve_app.auth.records import AuditEntry, KeyView
from serve_app.auth.roles import Role


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class StreamPage(_Answer):
    """A part of the streams, sorted by id."""

    items: tuple[StreamView, ...]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next part; null on the last.")


class Fleet(_Answer):
    """All streams."""

    streams: dict[str, dict[str, Any]] = Field(description="Specs by id, without what is as by default.")


class HistoryPage(_Answer):
    """What a stream went through, newest first."""

    items: tuple[HistoryEntry, ...]


class ClipList(_Answer):
    """The clips of a stream, newest first."""

    items: tuple[Clip, ...]


class DetectedObject(_Answer):
    """One object in an image."""

    class_id: int
    label: str
    confidence: float
    box: tuple[float, float, float, float] = Field(description="Left, top, right, bottom in pixels of the image.")


class DetectAnswer(_Answer):
    """What was found in one image, by falling confidence."""

    width: int
    height: int
    detections: tuple[DetectedObject, ...]
    timing_ms: dict[str, float] = Field(description="Milliseconds by stage, and 'whole'.")


class Model(_Answer):
    """A loaded model."""

    name: str = Field(description="What `detect.model` of a spec calls it.")
    package: str | None = Field(description="Folder of its package; null for an engine that has none.")
    engine: str
    family: str
    width: int = Field(description="Width of its input; frames are letterboxed to it.")
    height: int
    class_names: tuple[str, ...]
    max_batch_size: int
    device: str
    replicas: int = Field(description="Processes that run it.")
    engine_fps: float | None = Field(description="Frames a second of all of them at full load; null unmeasured.")

    @staticmethod
    def of(state: ModelState) -> Model:
        """A model that replicas run."""
        info, speeds = state.info, [replica.engine_fps for replica in state.replicas]
        return Model(
            name=state.name,
            package=state.package,
            engine=info.name,
            family=info.family,
            width=info.width,
            height=info.height,
            class_names=info.class_names,
            max_batch_size=info.max_batch_size,
            device=info.device,
            replicas=len(speeds),
            engine_fps=sum(speeds) if all(speeds) else None,
        )


class ModelSwap(BaseModel):
    """What a model should run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: str = Field(min_length=1, max_length=1000, description="Folder of the package below the models root.")


class KeyList(_Answer):
    """All keys, oldest first."""

    items: tuple[KeyView, ...]


class Me(_Answer):
    """Who calls."""

    name: str
    role: Role
    labels: dict[str, str] = Field(description="Only streams that have all of them are seen; empty: every stream.")


class AuditPage(_Answer):
    """A part of the audit log, newest first."""

    items: tuple[AuditEntry, ...]
    next_cursor: int | None = Field(description="Pass it as `cursor` for older ones; null on the last part.")


class Login(BaseModel):
    """What a browser logs in with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1, max_length=8192, description="A key, or a JWT where those are taken.")


class MediaRequest(BaseModel):
    """What a client of the media server wants, as MediaMTX asks; its further fields are not needed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    action: Literal["publish", "read", "playback", "api", "metrics", "pprof"] = Field(
        description="All but publish and read are refused."
    )
    path: str = Field(max_length=512, description="`whep/` and the id of a stream.")
    token: str = Field(default="", max_length=8192, description="A key, or a JWT where those are taken.")
    password: str = Field(default="", max_length=8192, description="The same, of clients that send no token.")


class ModelList(_Answer):
    """The loaded models."""

    items: tuple[Model, ...]


class NodeCapacity(_Answer):
    """One node's share of the capacity."""

    node: str
    engine_fps: float | None = Field(description="Measured frames a second at full load; null before it was measured.")
    used_fps: float = Field(description="Frames a second that its streams offer now.")
    streams: int
    fits: int | None = Field(description="Streams that fit: floor(engine_fps / fps).")
    free: int | None = Field(description="Streams that its engines still have room for.")
    cpus: float | None = Field(default=None, description="CPUs that Ray has of the node; null unknown.")
    cpus_used: float | None = Field(
        default=None, description="CPUs that its streams take, measured, or expected of those that just start."
    )
    holds: int | None = Field(
        default=None, description="More streams that its CPUs, its memory and its places on GPUs hold; null unknown."
    )
    places: dict[str, int] = Field(default_factory=dict, description="Places on its GPUs that are free, by kind.")
    draining: bool = Field(default=False, description="It is being emptied: nothing is placed there.")


class Capacity(_Answer):
    """How many streams fit, from measured speed; nulls where a node's engine was not measured yet."""

    model: str
    fps: float = Field(description="Frames a second of the streams that are counted.")
    nodes: tuple[NodeCapacity, ...]
    engine_fps: float | None
    used_fps: float
    streams: int
    fits: int | None
    free: int | None = Field(description="Streams that still fit beside what is there, all limits counted.")
    limit: Limit | None = Field(
        default=None,
        description="What runs out first: engine, cpu, nvdec (places on GPUs), actors (what Ray sets aside for each).",
    )
    cpu_ms_per_frame: float | None = Field(default=None, description="What one frame of such a stream costs a node.")
    cpu_measured: bool = Field(default=False, description="Whether that was measured here, or is as stated.")
    waiting: int = Field(default=0, description="Streams that wait for room.")
    admission: Admission = Field(
        default="off", description="What becomes of a new stream that does not fit: started, left waiting, or refused."
    )
    add: int | None = Field(description="As asked for.")
    add_fits: bool | None = Field(description="Whether `add` more streams fit; null without `add`.")


class Health(_Answer):
    """That the server is well."""

    status: Literal["ok", "ready"]

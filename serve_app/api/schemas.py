"""What the API answers with, beyond specs and status."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.streams.spec import StreamView
from engines.types import EngineInfo


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class StreamPage(_Answer):
    """A part of the streams, sorted by id."""

    items: tuple[StreamView, ...]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next part; null on the last.")


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

    name: Literal["default"] = Field(default="default", description="What `detect.model` of a spec calls it.")
    engine: str
    family: str
    width: int = Field(description="Width of its input; frames are letterboxed to it.")
    height: int
    class_names: tuple[str, ...]
    max_batch_size: int
    device: str

    @staticmethod
    def of(info: EngineInfo) -> Model:
        """The model that an engine runs."""
        return Model(
            engine=info.name,
            family=info.family,
            width=info.width,
            height=info.height,
            class_names=info.class_names,
            max_batch_size=info.max_batch_size,
            device=info.device,
        )


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
    free: int | None = Field(description="Streams that still fit beside what is there.")


class Capacity(_Answer):
    """How many streams fit, from measured speed; nulls where a node's engine was not measured yet."""

    fps: float = Field(description="Frames a second of the streams that are counted.")
    nodes: tuple[NodeCapacity, ...]
    engine_fps: float | None
    used_fps: float
    streams: int
    fits: int | None
    free: int | None
    add: int | None = Field(description="As asked for.")
    add_fits: bool | None = Field(description="Whether `add` more streams fit; null without `add`.")


class Health(_Answer):
    """That the server is well."""

    status: Literal["ok", "ready"]

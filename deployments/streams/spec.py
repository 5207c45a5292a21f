"""What a user wants of a stream (`StreamSpec`) and what is the case (`StreamStatus`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from deployments.errors import StreamErrorCode
from deployments.names import DEFAULT_MODEL, MODEL_PATTERN
from deployments.streams.addressed import Addressed, Strict
from deployments.streams.naming import Name
from deployments.streams.recording.spec import RecordingStatus, RecordSpec
from deployments.streams.sinks.spec import MAX_SINKS, SinkSpec, SinkStatus
from deployments.streams.tracking.spec import MAX_ZONES, TrackSpec, ZoneSpec, ZoneStatus

StreamId = Annotated[
    str, Name(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "take small letters, digits and inner hyphens, 63 at most")
]
ModelName = Annotated[str, Name(MODEL_PATTERN, "a model has small letters, digits and inner hyphens, 40 at most")]
Label = Annotated[str, StringConstraints(max_length=63)]


class SourceSpec(Addressed):
    """Where frames come from."""

    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP only: how RTP travels.")
    hwaccel: Literal["auto", "none", "cuda"] = Field(
        default="auto",
        description="Decode on a GPU: auto where a node has a place free, else in software; cuda on a GPU only.",
    )
    loop: bool = Field(default=False, description="Files only: start again at the end, as a live camera would go on.")
    realtime: bool = Field(default=True, description="Files only: play at the file's own pace.")

    @property
    def is_file(self) -> bool:
        """Whether the source is a file, which ends and can be read at any pace."""
        return self.url.lower().startswith("file:")

    @property
    def decoded(self) -> bool:
        """Whether there is anything to decode: the test pattern is drawn."""
        return not self.url.lower().startswith("testsrc:")

    @property
    def unpaced(self) -> bool:
        """Whether the source is read as fast as its frames are dealt with, so that none need be dropped."""
        return self.is_file and not self.realtime


class DetectSpec(Strict):
    """What is looked for."""

    model: ModelName = Field(default=DEFAULT_MODEL, description="Which of the loaded models.")
    confidence: float = Field(default=0.35, ge=0.01, le=1.0, description="Least confidence of a detection.")
    iou: float = Field(
        default=0.6, ge=0.0, le=1.0, description="Overlap above which two boxes of a class are one object."
    )
    classes: tuple[str, ...] | None = Field(default=None, description="Labels to report; null: all.")
    max_fps: float | None = Field(
        default=None, gt=0, le=240, description="Frames a second to infer at most; null: every frame."
    )


class OutputSpec(Addressed):
    """Where video goes."""

    codec: Literal["h264", "copy"] = Field(
        default="h264", description="Encode the video, or pass the source's own through, which costs next to no CPU."
    )
    bitrate: int = Field(
        default=4_000_000, ge=50_000, le=100_000_000, description="Bits a second; means nothing with `copy`."
    )
    gop_s: float = Field(
        default=2.0, gt=0, le=30, description="Seconds from one key frame to the next; means nothing with `copy`."
    )
    annotate: bool = Field(default=True, description="Draw boxes and labels; with `copy` false, and true is refused.")
    audio: Literal["copy", "none"] = Field(
        default="copy", description="Pass the source's audio through, or leave it out."
    )
    slate: bool = Field(
        default=False,
        description="While the source is away, show its last frame, dimmed, and since when there is no signal.",
    )

    @model_validator(mode="before")
    @classmethod
    def _copied_without_boxes(cls, given: Any) -> Any:
        return {"annotate": False, **given} if isinstance(given, dict) and given.get("codec") == "copy" else given

    @field_validator("annotate", "slate")
    @classmethod
    def _drawn_where_encoded(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("codec") == "copy":
            raise ValueError("nothing can be drawn on video that is passed through: set the output's codec to h264")
        return wanted


class StreamSpec(Strict):
    """One stream as its user wants it."""

    id: StreamId
    source: SourceSpec
    detect: DetectSpec = DetectSpec()
    track: TrackSpec | None = Field(default=None, description="Follow objects from frame to frame; null: don't.")
    outputs: tuple[OutputSpec, ...] = Field(default=(), max_length=8)
    video_delay_ms: int = Field(
        default=100, ge=0, le=5000, description="How long a frame of the video waits for its own boxes."
    )
    zones: tuple[ZoneSpec, ...] = Field(
        default=(), max_length=MAX_ZONES, description="Where to count objects; needs `track`."
    )
    sinks: tuple[SinkSpec, ...] = Field(default=(), max_length=MAX_SINKS, description="Where events are sent.")
    record: RecordSpec | None = Field(default=None, description="Clips around events; null: none.")
    paused: bool = False
    priority: int = Field(
        default=0, ge=-100, le=100, description="Where the detector can't serve all, higher ones are served first."
    )
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=32)

    @property
    def encodes(self) -> bool:
        """Whether any output takes encoded video, viewers aside."""
        return any(output.codec != "copy" for output in self.outputs)

    @field_validator("outputs")
    @classmethod
    def _sent_by_the_source(cls, outputs: tuple[OutputSpec, ...], info: ValidationInfo) -> tuple[OutputSpec, ...]:
        source = info.data.get("source")
        if source is not None and not source.decoded and any(output.codec == "copy" for output in outputs):
            raise ValueError(
                "the test pattern is drawn, there is nothing to pass through: set the output's codec to h264"
            )
        return outputs

    @field_validator("zones")
    @classmethod
    def _told_apart(cls, zones: tuple[ZoneSpec, ...], info: ValidationInfo) -> tuple[ZoneSpec, ...]:
        if zones and "track" in info.data and info.data["track"] is None:
            raise ValueError('zones count objects that are followed: set "track": {} as well')
        if len({zone.name for zone in zones}) < len(zones):
            raise ValueError("each zone needs a name of its own")
        return zones

    @field_validator("record")
    @classmethod
    def _recordable(cls, record: RecordSpec | None, info: ValidationInfo) -> RecordSpec | None:
        source = info.data.get("source")
        if record is not None and source is not None and not source.decoded:
            raise ValueError("the test pattern is drawn, there are no packets to record")
        known = {zone.name for zone in info.data.get("zones", ())}
        if record is not None and "zones" in info.data and (unknown := set(record.zones or ()) - known):
            raise ValueError(f"there is no zone {min(unknown)!r}: name one of `zones`")
        return record

    @field_validator("sinks")
    @classmethod
    def _of_this_stream(cls, sinks: tuple[SinkSpec, ...], info: ValidationInfo) -> tuple[SinkSpec, ...]:
        known = {zone.name for zone in info.data.get("zones", ())}
        if "zones" in info.data and (unknown := {name for sink in sinks for name in sink.zones or ()} - known):
            raise ValueError(f"there is no zone {min(unknown)!r}: name one of `zones`")
        if len({sink.url for sink in sinks}) < len(sinks):
            raise ValueError("each sink needs a URL of its own")
        return sinks


class StreamState(StrEnum):
    """What a stream is doing."""

    PENDING = "pending"
    """Accepted, its actor does not run yet."""
    CONNECTING = "connecting"
    ONLINE = "online"
    RECONNECTING = "reconnecting"
    """Was online or failed to become so; tried again after a back-off."""
    PAUSED = "paused"
    FAILED = "failed"
    """Waits for a change of the spec or a restart."""
    STOPPING = "stopping"


class SourceInfo(Strict):
    """What the source turned out to be."""

    codec: str
    width: int
    height: int
    fps: float | None = Field(description="Frames a second as the source states it; null where it doesn't.")
    audio_codec: str | None = None
    decoder: str | None = Field(
        default=None, description="What decodes it: the codec's name, with ' (cuda)' where the GPU does; null for none."
    )
    webrtc_copy: bool = Field(
        default=False, description="Whether players of WebRTC can have it as it is: H.264 4:2:0, upright, no B-frames."
    )


class LastError(Strict):
    """The newest error of a stream."""

    code: StreamErrorCode | Literal["internal"]
    message: str
    at: float = Field(description="Unix time, seconds.")
    retryable: bool


class DropCounts(Strict):
    """Decoded frames that were never inferred, by reason."""

    superseded: int = 0
    max_fps: int = 0
    stale: int = 0
    no_detector: int = 0
    invalid: int = 0


class FrameCounts(Strict):
    """Both ledgers of one epoch, from one locked snapshot.

    ``decoded == inferred + sum(dropped) + in_flight`` and ``decoded == published + video_dropped + queued``, always.
    """

    decoded: int = 0
    inferred: int = 0
    dropped: DropCounts = DropCounts()
    in_flight: int = 0
    published: int = 0
    video_dropped: int = 0
    queued: int = 0


class VideoCounts(Strict):
    """What the stream's video cost so far in this epoch; nothing while nobody gets it."""

    drawn: int = Field(default=0, description="Frames on which boxes were drawn for outputs and viewers of video.")
    encoded: int = Field(default=0, description="H.264 pictures; two for a frame that goes out in two kinds.")
    viewers: int = Field(default=0, description="Who watch by WebRTC now.")


class Percentiles(Strict):
    """Milliseconds over the last `stats.WINDOW` frames; null before the first."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class OutputStatus(Strict):
    """How one output is doing."""

    url: str
    state: Literal["connecting", "online", "reconnecting", "failed", "held"] = Field(
        description="`held`: closed for now, since another node may publish the stream."
    )
    packets: int = 0
    dropped_packets: int = Field(default=0, description="Packets that a slow or broken output lost.")
    encoder: str | None = Field(
        default=None, description="libx264, or h264_nvenc on the GPU; null before it encodes, and with `copy`."
    )
    last_error: LastError | None = None


class StreamStatus(Strict):
    """What is the case with one stream."""

    state: StreamState = StreamState.PENDING
    online: bool = False
    generation: int = Field(default=1, description="Counts the changes of the spec.")
    observed_generation: int = Field(default=0, description="The generation that the running stream follows.")
    since: float = Field(default=0.0, description="Unix time of the last change of state.")
    node: str | None = None
    reason: str | None = Field(
        default=None, description="Why the stream is pending, failed or without a detector, in words."
    )
    source: SourceInfo | None = None
    epoch: int = Field(default=0, description="Counts the lives of the stream's actor; the ledgers belong to one.")
    frames: FrameCounts = FrameCounts()
    video: VideoCounts = VideoCounts()
    detections: int = Field(default=0, description="Objects found in this epoch.")
    tracks: int = Field(default=0, description="Objects that are followed now.")
    zones: tuple[ZoneStatus, ...] = ()
    fps: dict[str, float] = Field(
        default_factory=dict, description="Measured frames a second: decoded, inferred, published."
    )
    latency_ms: dict[str, Percentiles] = Field(
        default_factory=dict, description="By stage, and 'whole': decoded to detections out."
    )
    outputs: tuple[OutputStatus, ...] = ()
    sinks: tuple[SinkStatus, ...] = Field(default=(), description="Those of the stream, then those of all streams.")
    recording: RecordingStatus | None = None
    restarts: int = 0
    last_error: LastError | None = None


class StreamView(BaseModel):
    """A stream as the API shows it."""

    model_config = ConfigDict(frozen=True)

    spec: StreamSpec
    status: StreamStatus

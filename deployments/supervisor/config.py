"""What a stream's actor reserves."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deployments.streams.sinks.spec import MAX_SINKS, SinkSpec
from deployments.supervisor.room import CPU, MEMORY

Admission = Literal["off", "pending", "refuse"]


class SupervisorConfig(BaseModel):
    """Resources by which Ray places stream actors.

    The defaults let 30 streams fit on two cores beside the detector (0.5) and the API (0.1). They say how many streams
    a node may hold, not what one takes: that depends on its video.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream_num_cpus: float = Field(
        default=0.03, gt=0, description="CPUs of one stream's actor; 0 would let Ray pack without limit."
    )
    stream_memory_mb: int = Field(default=200, ge=100, description="Memory of one stream's actor, MiB.")

    admission: Admission = Field(
        default="off",
        description="A new stream for which the measured engine or the nodes' CPUs have no room: off starts it all the "
        "same, and rates shrink; pending lets it wait until there is; refuse answers 409.",
    )

    trace_one_in: int | None = Field(
        default=None,
        ge=1,
        description="Trace one frame in so many with OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT names a "
        "collector that takes HTTP; null: none.",
    )

    sinks: tuple[SinkSpec, ...] = Field(
        default=(),
        max_length=MAX_SINKS,
        description="Where the events of all streams are sent, beside those that a stream's own `sinks` name.",
    )

    @field_validator("sinks")
    @classmethod
    def _one_file_each(cls, sinks: tuple[SinkSpec, ...]) -> tuple[SinkSpec, ...]:
        for sink in sinks:
            if sink.kind == "file" and "{stream_id}" not in sink.url:
                raise ValueError("streams can't share a file: write {stream_id} into its name")
        return sinks

    @property
    def resources(self) -> dict[str, float]:
        """By Ray's names."""
        return {CPU: self.stream_num_cpus, MEMORY: float(self.stream_memory_mb * 1024**2)}

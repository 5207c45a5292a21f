"""What a stream's actor reserves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SupervisorConfig(BaseModel):
    """Resources by which Ray places stream actors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream_num_cpus: float = Field(
        default=0.1, gt=0, description="CPUs of one stream's actor; 0 would let Ray pack without limit."
    )
    stream_memory_mb: int = Field(default=400, ge=100, description="Memory of one stream's actor, MiB.")

"""The detector's configuration: what needs a new replica to change, and what doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.link.server import LEASE_S
from engines.models import DEFAULT_PACKAGE
from engines.types import PREFERENCE, EngineName, Thresholds


class FakeEngineConfig(BaseModel):
    """An engine that plays a given speed, for tests and benchmarks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fixed_ms: float = Field(default=3.0, ge=0, description="Time of a batch, however small.")
    per_frame_ms: float = Field(default=0.75, ge=0, description="Further time of each frame in it.")
    width: int = Field(default=640, ge=1)
    height: int = Field(default=640, ge=1)
    max_batch_size: int = Field(default=16, ge=1, le=256)
    stride: int = Field(default=1, ge=1, description="It looks at each n-th pixel only, and costs less CPU.")
    hang_while: Path | None = Field(default=None, description="Batches hang while there is a file of this name.")


class DetectorConfig(BaseModel):
    """Args of the detector application; a change replaces the replicas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["auto", "tensorrt", "onnx", "fake"] = Field(
        default="onnx",
        description="What runs the model. auto: TensorRT where the package has a plan for this GPU, else ONNX Runtime.",
    )
    package: Path = Field(
        default=DEFAULT_PACKAGE, description="Folder of the model package: model.onnx and manifest.json."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="cpu", description="Where it runs. auto: on a GPU where one can be used, else on the CPU."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of one inference; as many run side by side as the cores suffice for. "
        "null: one thread each, and more only where that would make more than eight.",
    )
    fake: FakeEngineConfig = FakeEngineConfig()
    num_cpus: float = Field(default=0.5, ge=0, description="CPUs that Ray reserves for a replica.")
    num_gpus: float = Field(default=0.0, ge=0, description="GPUs that Ray reserves for a replica.")
    num_replicas: int = Field(
        default=1, ge=1, description="Set it here, not among Serve's options: replicas must know that there are others."
    )
    max_replicas: int | None = Field(
        default=None, ge=1, description="Lets Serve start more than `num_replicas`, up to this many; null: never."
    )
    target_utilisation: float = Field(
        default=0.8, gt=0, lt=0.95, description="Part of the engines' measured speed above which another is started."
    )
    upscale_delay_s: float = Field(default=30.0, ge=0, description="For how long it must be above that first.")
    downscale_delay_s: float = Field(
        default=600.0, ge=0, description="For how long one replica less must have sufficed before it is ended."
    )
    lease_s: float = Field(
        default=LEASE_S,
        gt=0,
        description="An attachment is renewed after two thirds of this: only then may its stream be sent elsewhere.",
    )
    stuck_after_s: float | None = Field(
        default=None,
        gt=0,
        description="A batch that runs longer than this, and than ten times what it took when it was measured, ends "
        "the replica: Serve starts another. By default 3.5 on a GPU and 30 on a CPU, which other work may take.",
    )

    @property
    def engines(self) -> tuple[EngineName, ...]:
        """The engines that `engine` and `device` leave to choose from, the preferred first."""
        by_engine = {"auto": PREFERENCE, "tensorrt": ("tensorrt",), "onnx": ("cuda", "cpu"), "fake": ()}[self.engine]
        by_device = {"auto": PREFERENCE, "cuda": ("tensorrt", "cuda"), "cpu": ("cpu",)}[self.device]
        return tuple(name for name in PREFERENCE if name in by_engine and name in by_device)

    @property
    def most_replicas(self) -> int:
        """Replicas that there may be at once."""
        return self.max_replicas or self.num_replicas

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.most_replicas < self.num_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below num_replicas {self.num_replicas}")
        if self.engine == "tensorrt" and self.device == "cpu":
            raise ValueError("engine tensorrt needs device cuda or auto")
        return self


class DetectorSettings(BaseModel):
    """The deployment's `user_config`: takes effect from the next batch on, without a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: float = Field(default=0.35, ge=0.01, le=1.0, description="For callers that name none.")
    iou: float = Field(default=0.6, ge=0.0, le=1.0, description="For callers that name none.")
    max_detections: int = Field(default=300, ge=1, le=1000)
    max_batch_size: int = Field(default=16, ge=1, le=256, description="At most the engine's own limit is used.")

    def thresholds(self) -> Thresholds:
        """The thresholds of callers that name none."""
        return Thresholds(self.confidence, self.iou, self.max_detections)

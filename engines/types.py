"""The data that engines exchange with the rest of the system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]

Colour = Literal["bgr", "rgb"]
Placement = Literal["centre", "top_left"]

EngineName = Literal["tensorrt", "cuda", "cpu"]

PREFERENCE: tuple[EngineName, ...] = ("tensorrt", "cuda", "cpu")
"""What runs a model, the fastest first: TensorRT, ONNX Runtime on a GPU, ONNX Runtime on the CPU."""


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects found in one frame, as parallel arrays sorted by falling confidence.

    Attributes:
        xyxy: float32 ``[N, 4]``, left, top, right, bottom in pixels of the frame they belong to.
        confidence: float32 ``[N]``, 0 to 1.
        class_id: int32 ``[N]``, index into `EngineInfo.class_names`.
        tracker_id: int64 ``[N]``, which object of the stream it is, -1 where that isn't known yet; None where nobody
            follows objects.
    """

    xyxy: Float32Array
    confidence: Float32Array
    class_id: Int32Array
    tracker_id: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    @staticmethod
    def empty() -> Detections:
        """No object at all."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as an object in one frame."""

    confidence: float = 0.35
    iou: float = 0.6
    max_detections: int = 300


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a caller must know of a loaded engine.

    Attributes:
        width, height: size of the input in pixels; callers letterbox to it.
        colour: order of the channels that `Engine.infer` expects.
        letterbox, pad: where callers put the scaled frame in the input, and the value around it.
        device: for people, such as ``cpu`` or ``cuda:0 NVIDIA H100``.
    """

    name: str
    family: str
    width: int
    height: int
    colour: Colour
    class_names: tuple[str, ...]
    max_batch_size: int
    device: str
    letterbox: Placement = "centre"
    pad: int = 114


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        dtype: NumPy's name of the element type, such as ``float32``.
        shape: None for a dimension that isn't fixed.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join('?' if side is None else str(side) for side in self.shape)}]"

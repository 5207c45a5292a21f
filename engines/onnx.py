"""The engine that runs a model package with ONNX Runtime, on CPU cores or an NVIDIA GPU.

On a CPU it runs several frames side by side, each on few threads, rather than one after the other on all of them:
NanoDet-g on two cores takes 58 ms for a frame on one thread and 41 on two, which wait for each other at each of its
layers, so that two lanes of one thread manage 33 frames a second and one lane of two threads 23. A frame that comes
alone, and a file whose frames wait for one another, pay for it: theirs are the 58 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engines.batches import check_batch
from engines.cores import available_cores
from engines.errors import EngineDead, EngineError, InferenceFailed, one_line
from engines.manifest import ManifestInput
from engines.package import ModelPackage
from engines.postprocess import detections
from engines.types import Detections, EngineInfo, Float32Array, Thresholds, UInt8Array

Device = Literal["cpu", "cuda"]

MAX_LANES = 8
"""On more cores a frame gets more threads: it is done sooner, and that many frames seldom wait at once."""


class Normaliser:
    """Turns uint8 ``[height, width, 3]`` frames into the model's float32 ``[B, 3, height, width]``.

    One table a channel holds all 256 results, and the planes go into memory that is allocated once: 0.2 ms a frame of
    416 x 416 on one core, against 0.36 ms of arithmetic in NumPy and 0.38 ms of OpenCV's blobFromImagesWithParams.
    """

    def __init__(self, spec: ManifestInput, max_batch_size: int) -> None:
        values = np.arange(256, dtype=np.float32)[:, None]
        tables = (values - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
        self._tables = np.ascontiguousarray(tables.T)
        self._planes = [np.empty((spec.height, spec.width), np.uint8) for _ in range(3)]
        self._tensor = np.empty((max_batch_size, 3, spec.height, spec.width), np.float32)

    def __call__(self, frames: Sequence[UInt8Array]) -> Float32Array:
        """Return a view that the next call overwrites."""
        for frame, planes in zip(frames, self._tensor, strict=False):
            cv2.split(frame, self._planes)
            for source, table, target in zip(self._planes, self._tables, planes, strict=True):
                cv2.LUT(source, table, target)
        return self._tensor[: len(frames)]


class Stacker:
    """Puts uint8 ``[height, width, 3]`` frames into one batch, as a wrapped network takes it."""

    def __init__(self, spec: ManifestInput, max_batch_size: int) -> None:
        self._tensor = np.empty((max_batch_size, spec.height, spec.width, 3), np.uint8)

    def __call__(self, frames: Sequence[UInt8Array]) -> UInt8Array:
        """Return a view that the next call overwrites."""
        for frame, target in zip(frames, self._tensor, strict=False):
            np.copyto(target, frame)
        return self._tensor[: len(frames)]


class OnnxEngine:
    """An `Engine` on ONNX Runtime.

    Args:
        threads: cores for one batch; None for one, or as many as `MAX_LANES` lanes can have. There is a lane for each
            such group of the `available_cores`.
        max_batch_size: for models with a dynamic batch; the others take one frame at a time. None: one where there
            are several lanes, since cores gain nothing from larger batches, else eight.

    Raises:
        EngineError: the device can't be used, or ONNX Runtime refuses the model on it.
    """

    def __init__(
        self,
        package: ModelPackage,
        threads: int | None = None,
        device: Device = "cpu",
        max_batch_size: int | None = None,
    ) -> None:
        manifest = package.manifest
        self._package = package
        cores = available_cores()
        threads = threads or -(-cores // MAX_LANES)
        self._lanes = max(1, cores // threads) if device == "cpu" else 1
        self._closed = False
        if max_batch_size is None:
            max_batch_size = 8 if self._lanes == 1 else 1
        if manifest.built is not None:
            max_batch_size = min(max_batch_size, manifest.built.max_batch)
        self._info = package.info(
            max_batch_size if package.batch is None else package.batch, "cuda:0" if device == "cuda" else "cpu"
        )
        self._idle: SimpleQueue[_Lane] = SimpleQueue()
        for _ in range(self._lanes):  # a session each: the threads of one are shared by all that it runs at a time
            session = _open_session(package, threads, device)
            prepare = Normaliser if manifest.built is None else Stacker
            self._idle.put(_Lane(session, prepare(manifest.input, self._info.max_batch_size)))
        self._outputs = [output.name for output in package.outputs]

    @property
    def lanes(self) -> int:
        """Batches that it infers at the same time."""
        return self._lanes

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._info

    def warmup(self) -> None:
        """Run every batch size once on blank frames, in each lane."""
        blank = np.zeros((self._info.height, self._info.width, 3), np.uint8)
        for size in range(1, self._info.max_batch_size + 1):
            for _ in range(self._lanes):  # they take turns
                self.infer([blank] * size, [Thresholds()] * size)

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        """Find the objects in a batch; see `Engine.infer`."""
        check_batch(frames, thresholds, self._info)
        if self._closed:
            raise EngineDead(f"{self._info.name} is closed; make a new engine")
        lane = self._idle.get()
        try:
            tensor = lane.prepare(frames)
            arrays = lane.session.run(self._outputs, {self._package.manifest.input.name: tensor})
        except Exception as error:
            # ONNX Runtime's errors share no other base.
            raise InferenceFailed(f"{self._info.name} failed on a batch of {len(frames)}: {one_line(error)}") from error
        finally:
            self._idle.put(lane)
        outputs = dict(zip(self._outputs, arrays, strict=True))
        decoded = self._package.decoder.decode(outputs, [each.confidence for each in thresholds])
        return [detections(frame, limits) for frame, limits in zip(decoded, thresholds, strict=True)]

    def close(self) -> None:
        """Free the model; nothing is inferred any more."""
        self._closed = True
        self._idle = SimpleQueue()


class _Prepare(Protocol):
    """Makes the model's input of a batch."""

    def __call__(self, frames: Sequence[UInt8Array]) -> NDArray[Any]: ...


class _Lane(NamedTuple):
    """What infers one batch at a time."""

    session: onnxruntime.InferenceSession
    prepare: _Prepare


def _open_session(package: ModelPackage, threads: int, device: Device) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Decoders and encoders share the cores: threads that spin while they wait would take them away.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise EngineError(
            f"this ONNX Runtime has no CUDA, only {', '.join(available)}; "
            "install onnxruntime-gpu in place of onnxruntime, or use device cpu"
        )
    if device == "cuda":
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(package.model_path, options, providers=[provider])
    except Exception as error:
        raise EngineError(f"ONNX Runtime can't load {package.path} on {device}: {one_line(error)}") from error
    # ONNX Runtime goes on with the CPU, in silence, when CUDA's libraries don't load.
    if provider not in session.get_providers():
        raise EngineError(
            "ONNX Runtime couldn't load its CUDA libraries; install CUDA and cuDNN of the versions that this "
            "onnxruntime-gpu was built for, check that nvidia-smi sees a GPU, or use device cpu"
        )
    return session

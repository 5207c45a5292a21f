"""ONNX Runtime's CUDA provider as the `Network` of a `PipelinedEngine`.

A session runs in the pipeline's own compute stream, and its inputs and outputs are bound to the slots' memory, so that
a run copies nothing and returns before it is done: events order it with the copies around it.

Each batch size has a session of its own. A session plans each convolution for one shape, and forgets the plan when
another one comes: NanoDet-g on an H100 took 90 ms a batch where their size changed, and 3 to 9 ms where it didn't. What
no longer changes is captured as a CUDA graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime

from engines.accelerator import Accelerator, Memory, Stream
from engines.errors import EngineError, InferenceFailed, one_line
from engines.families.wrapped import BATCH
from engines.package import ModelPackage
from engines.pipelined import PipelinedEngine
from engines.trt.cuda import Gpu
from engines.trt.graph import GraphRunner

PROVIDER = "CUDAExecutionProvider"

ERRORS = 3
"""ONNX Runtime's number for messages of errors and worse."""

CONVOLUTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "prefer_nhwc": "1"}
"""How cuDNN is to be used. YOLOv9-e in fp16 on an H100: 206 frames a second in batches of 16, and a second to warm up
each batch size, against 192 and 7 s with ONNX Runtime's own choice, which tries all algorithms on channels first."""


MEMORY = {"arena_extend_strategy": "kSameAsRequested"}
"""Each session has memory of its own, which by default grows to the next power of two: the sessions of YOLOv9-e in fp32
did not fit into 80 GB."""

SHRINK = ("memory.enable_memory_arena_shrinkage", "gpu:{}")
"""What a session's first run takes piece by piece it gives back: from the second on it takes one piece of the size that
the first has shown, the same each time. So nothing is allocated while a run is captured."""


def cuda_missing() -> str:
    """Why this ONNX Runtime can't use a GPU; empty where it can."""
    available = onnxruntime.get_available_providers()
    if PROVIDER in available:
        return ""
    return f"this ONNX Runtime has only {', '.join(available)}; for CUDA put onnxruntime-gpu in place of onnxruntime"


def open_cuda(package: ModelPackage, device: int = 0) -> PipelinedEngine:
    """A built package's engine on GPU number ``device``, owned by this thread.

    Raises:
        EngineError: the GPU, or ONNX Runtime on it, can't be used; or the package isn't a built one.
    """
    built = package.manifest.built
    if built is None:
        raise EngineError(f"{package.path} takes no uint8 frames; make a package that does: raysight engine build")
    if missing := cuda_missing():
        raise EngineError(missing)
    gpu = Gpu(device)

    def load(stream: Stream) -> BoundNetwork:
        def session(batch: int) -> onnxruntime.InferenceSession:
            return open_session(package, gpu, stream, batch)

        return BoundNetwork(session, package, ("cuda", device), gpu, stream)

    return PipelinedEngine(package, gpu, load, built.max_batch)


def open_session(package: ModelPackage, gpu: Gpu, stream: Stream, batch: int) -> onnxruntime.InferenceSession:
    """The model for batches of this size on a GPU, in this stream.

    Raises:
        EngineError: ONNX Runtime can't load it, or not its own CUDA libraries.
    """
    onnxruntime.preload_dlls()
    onnxruntime.set_default_logger_severity(ERRORS)  # each session would warn that no plugin brings the provider
    where = {"device_id": str(gpu.index), "user_compute_stream": str(stream.handle)}
    provider = (PROVIDER, {**where, **CONVOLUTIONS, **MEMORY})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name(BATCH, batch)  # shapes are worked out now, not in each run
    try:
        session = onnxruntime.InferenceSession(
            package.model_path, options, providers=[provider, "CPUExecutionProvider"]
        )
    except Exception as error:
        # ONNX Runtime's errors share no other base.
        raise EngineError(f"ONNX Runtime can't load {package.path} on {gpu.name}: {one_line(error)}") from error
    if PROVIDER not in session.get_providers():  # it goes on with the CPU, in silence
        raise EngineError(
            "ONNX Runtime couldn't load its CUDA libraries; install CUDA and cuDNN of the versions that this "
            "onnxruntime-gpu was built for, check that nvidia-smi sees a GPU, or use device cpu"
        )
    return session


class BoundNetwork:
    """Sessions whose inputs and outputs lie where their runners are told.

    Args:
        session: opens the one for a batch size.
        place: where that memory is, as ONNX Runtime names it: ``cuda`` and the number of the device.
    """

    def __init__(
        self,
        session: Callable[[int], onnxruntime.InferenceSession],
        package: ModelPackage,
        place: tuple[str, int],
        accelerator: Accelerator,
        stream: Stream,
    ) -> None:
        self._session, self._package, self._place = session, package, place
        self._accelerator, self._stream = accelerator, stream
        self._sessions: dict[int, Any] = {}

    def runner(self, batch: int, frames: Memory, outputs: Mapping[str, Memory]) -> GraphRunner:
        """See `Network.runner`."""
        is_new = batch not in self._sessions
        if is_new:
            self._sessions[batch] = self._session(batch)
        session = self._sessions[batch]
        binding = session.io_binding()
        declared = self._package.manifest.input
        shape = (batch, declared.height, declared.width, 3)
        binding.bind_input(declared.name, *self._place, np.uint8, shape, frames.address)
        for output in self._package.outputs:
            rows = (batch, *output.shape[1:])
            binding.bind_output(
                output.name, *self._place, np.dtype(output.dtype).type, rows, outputs[output.name].address
            )
        what = f"{self._package.manifest.name}, batch {batch}"
        first, later = _run_options(), _run_options()
        if is_new and self._place[0] != "cpu":  # later on a captured graph refers to the memory
            first.add_run_config_entry(SHRINK[0], SHRINK[1].format(self._place[1]))
        runs = itertools.chain([first], itertools.repeat(later))

        def enqueue() -> None:
            try:
                session.run_with_iobinding(binding, next(runs))
            except Exception as error:
                # ONNX Runtime's errors share no other base.
                raise InferenceFailed(f"ONNX Runtime failed on {what}: {one_line(error)}") from error

        return GraphRunner(self._stream, self._accelerator, enqueue, what)

    def close(self) -> None:
        """See `Network.close`."""
        self._sessions.clear()


def _run_options() -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    # Otherwise each run would wait for the stream before it returns.
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options

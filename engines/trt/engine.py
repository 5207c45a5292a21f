"""TensorRT as the `Network` of a `PipelinedEngine`: an execution context and a CUDA graph for each bucket and slot.

A graph is of one shape and fixed addresses, and a context belongs to one graph. They all share one piece of working
memory, as they run in one stream and so never at the same time: it costs what the largest batch needs, not the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.accelerator import Accelerator, Memory, Stream
from engines.errors import EngineError, InferenceFailed
from engines.package import ModelPackage
from engines.trt.graph import GraphRunner


class TrtNetwork:
    """A deserialised plan.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        messages: a ``trt.ILogger``; it must stay for as long as the network.
        rebuild: the command that makes a fitting plan, for messages.

    Raises:
        EngineError: the plan is foreign, truncated or of another model.
    """

    def __init__(
        self,
        trt: Any,
        plan: bytes,
        package: ModelPackage,
        accelerator: Accelerator,
        stream: Stream,
        messages: Any,
        rebuild: str,
    ) -> None:
        self._trt, self._package, self._stream, self._messages = trt, package, stream, messages
        self._accelerator = accelerator
        self._runtime = trt.Runtime(messages)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"{trt.__name__} {trt.__version__} can't load the plan of {package.path}: it is truncated, or made for "
                f"another version or GPU; {rebuild}"
            )
        wrong = tensors_differ(trt, self._engine, package)
        if wrong:
            raise EngineError(f"the plan of {package.path} is of another model ({wrong}); {rebuild}")
        size = int(self._engine.device_memory_size_v2)
        self._scratch, self._scratch_size = accelerator.memory(size), size

    def runner(self, batch: int, frames: Memory, outputs: Mapping[str, Memory]) -> GraphRunner:
        """See `Network.runner`."""
        context = self._context()
        context.set_device_memory(self._scratch.address, self._scratch_size)
        declared = self._package.manifest.input
        shape = (batch, declared.height, declared.width, 3)
        fits = context.set_input_shape(declared.name, shape)
        fits = context.set_tensor_address(declared.name, frames.address) and fits
        for name, memory in outputs.items():
            fits = context.set_tensor_address(name, memory.address) and fits
        missing = context.infer_shapes()
        if not fits or missing:
            raise EngineError(
                f"the plan of {self._package.path} takes no batch of {batch} ({', '.join(missing) or 'out of range'}); "
                "build it again with a larger --max-batch"
            )
        what = f"{self._package.manifest.name}, batch {batch}"

        def enqueue() -> None:
            if not context.execute_async_v3(self._stream.handle):
                raise InferenceFailed(f"TensorRT refused to run {what}; its messages say why")

        return GraphRunner(self._stream, self._accelerator, enqueue, what)

    def close(self) -> None:
        """See `Network.close`."""
        self._engine = None
        self._runtime = None
        self._scratch.free()

    def _context(self) -> Any:
        trt, engine = self._trt, self._engine
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            context = engine.create_execution_context(strategy)
        else:
            # TensorRT for RTX would compile the kernels of a shape in the background, and a graph hold the slow ones.
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            context = engine.create_execution_context(config)
        if context is None:
            raise EngineError(f"{trt.__name__} can't run {self._package.path}: no execution context could be made")
        return context


def tensors_differ(trt: Any, engine: Any, package: ModelPackage) -> str:
    """How the inputs and outputs of a TensorRT engine differ from what ``package`` declares; empty where they don't."""
    seen = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    declared = package.manifest.input
    inputs = {declared.name: ("uint8", (-1, declared.height, declared.width, 3))}
    outputs = {
        output.name: (output.dtype, tuple(-1 if side is None else side for side in output.shape))
        for output in package.outputs
    }
    if seen != inputs.keys() | outputs.keys():
        return f"it has the tensors {', '.join(sorted(seen))}"
    for name, (dtype, shape) in (*inputs.items(), *outputs.items()):
        found = trt.nptype(engine.get_tensor_dtype(name)).__name__, tuple(engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        if found != (dtype, shape) or is_input != (name in inputs):
            return f"{name} is {found[0]} {list(found[1])}, not {dtype} {list(shape)}"
    return ""

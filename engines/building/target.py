"""For which TensorRT and which GPU a plan is built."""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import EngineError
from engines.trt.binding import Binding, load
from engines.trt.builder import target_member
from engines.trt.device import ComputeCapability, local_gpus


@dataclass(frozen=True, slots=True)
class Target:
    """A TensorRT, a kind of GPU, and the name of the one here that is of this kind; None if it is somewhere else."""

    binding: Binding
    compute_capability: ComputeCapability
    gpu: str | None


def choose_target(wanted: ComputeCapability | None) -> Target:
    """TensorRT and the GPU of this machine, or, for ``wanted`` GPUs elsewhere, TensorRT for RTX.

    Raises:
        EngineError: no plan can be built here; the message says what is missing.
    """
    here = local_gpus()
    if wanted is None and not here:
        raise EngineError(
            "there is no NVIDIA GPU here, or no driver; give --compute-capability to build for another machine "
            "with TensorRT for RTX"
        )
    capability = here[0].compute_capability if wanted is None else wanted
    binding = load("tensorrt", "tensorrt_rtx") if wanted is None else load("tensorrt_rtx")
    if not binding.needs_gpu_to_build:
        target_member(binding, capability)
    name = next((gpu.name for gpu in here if gpu.compute_capability == capability), None)
    return Target(binding, capability, name)

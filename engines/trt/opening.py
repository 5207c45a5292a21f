"""From a package to a TensorRT engine on this machine: which TensorRT, which of the package's plans, which GPU."""

from __future__ import annotations

from pathlib import Path

from engines.accelerator import Stream
from engines.errors import EngineError
from engines.package import ModelPackage
from engines.pipelined import PipelinedEngine
from engines.trt.binding import Absent, Binding, Runtime, find, load
from engines.trt.cuda import Gpu
from engines.trt.device import local_gpus
from engines.trt.engine import TrtNetwork
from engines.trt.logger import Complaints
from engines.trt.plans import Plan, find_plan, plans_of, rebuild_command

RUNTIMES: tuple[Runtime, ...] = ("tensorrt", "tensorrt_rtx")
"""The preferred first: TensorRT, and TensorRT for RTX, whose interface is the same."""

NO_GPU = "NVIDIA's driver isn't installed, or sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES"


def installed() -> tuple[str, str]:
    """The TensorRT of this machine and its version, or "" and why there is none."""
    try:
        return str(load(*RUNTIMES)), ""
    except EngineError as error:
        return "", str(error)


def plan_for_here(package: ModelPackage) -> tuple[Binding, Plan]:
    """The TensorRT, and the plan for it and the first GPU. EngineError: there is none; the message says what to do."""
    gpus = local_gpus()
    if not gpus:
        raise EngineError(NO_GPU)
    found = [find(runtime) for runtime in RUNTIMES]
    bindings = [each for each in found if isinstance(each, Binding)]
    missing = ""
    for binding in bindings:
        try:
            version, capability = binding.version, str(gpus[0].compute_capability)
            return binding, find_plan(package.path, binding.runtime, version, capability)
        except EngineError as error:
            missing = missing or str(error)
    absent = "; ".join(f"{each.runtime}: {each.reason}" for each in found if isinstance(each, Absent))
    raise EngineError(missing or f"no TensorRT can be loaded ({absent})")


def plan_obstacle(package: ModelPackage) -> str:
    """What is in the way of running a plan of the package here; empty where one fits."""
    try:
        plan_for_here(package)
    except EngineError as error:
        return str(error)
    return ""


def described_plans(package: ModelPackage) -> list[str]:
    """A line for each plan of the package: its key, what it is for, and whether that is this machine."""
    try:
        _, chosen = plan_for_here(package)
        fitting = chosen.path
    except EngineError:
        fitting = None
    return [
        f"{plan.path.stem}: {plan.facts.runtime} {plan.facts.version}, compute capability "
        f"{plan.facts.compute_capability}, batch 1 to {plan.facts.max_batch}: "
        f"{_state(plan, fitting)}"
        for plan in plans_of(package.path)
    ]


def _state(plan: Plan, fitting: Path | None) -> str:
    if not plan.whole:
        return "cut off, or not the one that was built"
    return "for this machine" if plan.path == fitting else "not for this machine"


def lacks_plan(package: ModelPackage) -> bool:
    """Whether this machine could run a plan of the package, and has everything but the plan."""
    return bool(package.manifest.built and local_gpus() and installed()[0] and plan_obstacle(package))


def open_tensorrt(package: ModelPackage) -> PipelinedEngine:
    """A built package's engine on the first GPU, owned by this thread.

    Raises:
        EngineError: no plan fits, or the GPU or TensorRT can't be used.
    """
    binding, plan = plan_for_here(package)
    content = plan.read()
    complaints = Complaints(binding.trt)
    gpu = Gpu()

    def load_plan(stream: Stream) -> TrtNetwork:
        rebuild = f"build it again: {rebuild_command(package.path)}"
        return TrtNetwork(binding.trt, content, package, gpu, stream, complaints.logger, rebuild)

    return PipelinedEngine(package, gpu, load_plan, plan.facts.max_batch)

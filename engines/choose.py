"""Which engine runs a package on this machine, and why not the others: TensorRT before CUDA before the CPU."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engines.errors import EngineError
from engines.onnx import OnnxEngine
from engines.package import ModelPackage
from engines.protocol import Engine
from engines.trt.device import Gpu, local_gpus
from engines.types import PREFERENCE, EngineName

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine has for engines; each text says what is in the way, and is empty where nothing is.

    Attributes:
        gpus: empty where ``no_gpu`` says why.
        tensorrt: the installed one and its version, empty where ``no_tensorrt`` says why there is none.
        no_pycuda: what TensorRT, and ONNX Runtime on uint8 frames, reach the GPU with.
        no_onnx_cuda: about ONNX Runtime's CUDA provider.
    """

    gpus: tuple[Gpu, ...]
    no_gpu: str
    tensorrt: str
    no_tensorrt: str
    no_pycuda: str
    no_onnx_cuda: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an engine can run a package here: ``obstacle`` is empty, or says what is in the way."""

    engine: EngineName
    obstacle: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that is taken, None where there is none, and what was found about each, the preferred first."""

    engine: EngineName | None
    verdicts: tuple[Verdict, ...]

    @property
    def reasons(self) -> str:
        """Why not the others, in one line."""
        return "; ".join(f"{verdict.engine}: {verdict.obstacle}" for verdict in self.verdicts if verdict.obstacle)


def look() -> Machine:
    """Look at this machine; no library of NVIDIA's but the driver's own is loaded."""
    from engines.onnx_cuda import cuda_missing
    from engines.trt.opening import NO_GPU, installed

    found = local_gpus()
    tensorrt, no_tensorrt = installed()
    no_pycuda = "" if importlib.util.find_spec("pycuda") else "pycuda isn't installed"
    return Machine(found, "" if found else NO_GPU, tensorrt, no_tensorrt, no_pycuda, cuda_missing())


def judge(package: ModelPackage, machine: Machine, plan_obstacle: Callable[[], str]) -> tuple[Verdict, ...]:
    """What is in the way of each engine, in the order of `PREFERENCE`.

    ``plan_obstacle`` says what is in the way of the package's plans; it is asked only where TensorRT could run one.
    """
    return (
        Verdict("tensorrt", _of_tensorrt(package, machine) or plan_obstacle()),
        Verdict("cuda", _of_cuda(package, machine)),
        Verdict("cpu", ""),
    )


def _of_tensorrt(package: ModelPackage, machine: Machine) -> str:
    if machine.no_tensorrt:
        return machine.no_tensorrt
    if machine.no_gpu:
        return f"{machine.tensorrt} is here, but no GPU is: {machine.no_gpu}"
    if package.manifest.built is None:
        return "the package is a plain one; raysight engine build makes one with plans"
    return machine.no_pycuda


def _of_cuda(package: ModelPackage, machine: Machine) -> str:
    if machine.no_onnx_cuda:
        return machine.no_onnx_cuda
    if machine.no_gpu:
        return f"ONNX Runtime has CUDA, but no GPU is here: {machine.no_gpu}"
    return "" if package.manifest.built is None else machine.no_pycuda


def choose(allowed: Sequence[EngineName], verdicts: Sequence[Verdict]) -> Choice:
    """The first of `PREFERENCE` that is allowed and has nothing in its way."""
    considered = tuple(verdict for verdict in verdicts if verdict.engine in allowed)
    usable = (verdict.engine for verdict in considered if not verdict.obstacle)
    return Choice(next(usable, None), considered)


def choose_here(package: ModelPackage, allowed: Sequence[EngineName] = PREFERENCE) -> Choice:
    """`choose` for this machine."""
    from engines.trt.opening import plan_obstacle

    return choose(allowed, judge(package, look(), lambda: plan_obstacle(package)))


def open_engine(
    package: ModelPackage, allowed: Sequence[EngineName] = PREFERENCE, threads: int | None = None
) -> Engine:
    """The best engine that is allowed; the thread that calls this owns it.

    ``threads``: CPU cores for one batch, of `OnnxEngine`.

    Raises:
        EngineError: none of them can be used here, or the one that was chosen can't be made.
    """
    if tuple(allowed) == ("cpu",):  # then nothing need be looked at
        return OnnxEngine(package, threads=threads)
    choice = choose_here(package, allowed)
    if choice.engine is None:
        raise EngineError(f"no engine for {package.path} ({choice.reasons})")
    if choice.reasons:
        logger.info("%s runs on %s (%s)", package.manifest.name, choice.engine, choice.reasons)
    return _OPEN[choice.engine](package, threads)


def _tensorrt(package: ModelPackage, _: int | None) -> Engine:
    from engines.trt.opening import open_tensorrt

    return open_tensorrt(package)


def _cuda(package: ModelPackage, threads: int | None) -> Engine:
    if package.manifest.built is None:  # its frames are normalised on the CPU: there is nothing to overlap with
        return OnnxEngine(package, threads=threads, device="cuda")
    from engines.onnx_cuda import open_cuda

    return open_cuda(package)


_OPEN: Mapping[EngineName, Callable[[ModelPackage, int | None], Engine]] = {
    "tensorrt": _tensorrt,
    "cuda": _cuda,
    "cpu": lambda package, threads: OnnxEngine(package, threads=threads),
}

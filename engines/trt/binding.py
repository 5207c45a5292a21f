"""Which TensorRT is there: ``tensorrt`` (10 or 11) or ``tensorrt_rtx``, whose Python modules are alike."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from engines.errors import EngineError, one_line

Runtime = Literal["tensorrt", "tensorrt_rtx"]

_INSTALL = "pip install 'raysight[tensorrt]', or 'raysight[tensorrt-rtx]' for RTX GPUs"


@dataclass(frozen=True, slots=True)
class Binding:
    """A TensorRT that could be loaded. ``trt`` is its Python module."""

    runtime: Runtime
    version: str
    trt: Any

    @property
    def needs_gpu_to_build(self) -> bool:
        """TensorRT tries kernels out on the GPU; TensorRT for RTX leaves that to the machine that runs the plan."""
        return self.runtime == "tensorrt"

    def __str__(self) -> str:
        return f"{self.runtime} {self.version}"


@dataclass(frozen=True, slots=True)
class Absent:
    """A TensorRT that can't be loaded, and why."""

    runtime: Runtime
    reason: str


def find(runtime: Runtime) -> Binding | Absent:
    """Load one of them."""
    try:
        # Not by a name in a variable: which module imports what must be plain to see.
        trt: Any = (
            importlib.import_module("tensorrt") if runtime == "tensorrt" else importlib.import_module("tensorrt_rtx")
        )
    except ModuleNotFoundError as error:
        return Absent(runtime, f"{error.name} isn't installed")
    except (ImportError, OSError, RuntimeError) as error:
        # Its shared libraries, or those of CUDA that they need.
        return Absent(runtime, one_line(error))
    version = getattr(trt, "__version__", None)
    if version is None:  # an empty folder of that name imports too
        return Absent(runtime, f"{runtime} is there, but not whole")
    return Binding(runtime, str(version), trt)


def load(*runtimes: Runtime) -> Binding:
    """Load the first of ``runtimes`` that is there.

    Raises:
        EngineError: none is; the message says why and what to install.
    """
    absent = []
    for runtime in runtimes:
        found = find(runtime)
        if isinstance(found, Binding):
            return found
        absent.append(f"{found.runtime}: {found.reason}")
    raise EngineError(f"no TensorRT can be loaded ({'; '.join(absent)}); {_INSTALL}")

"""The NVIDIA GPUs of this machine, as the driver names them; without CUDA's runtime and without a context."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass

from engines.errors import EngineError

_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``_MINOR`` of cuda.h."""


@dataclass(frozen=True, slots=True, order=True)
class ComputeCapability:
    """What a GPU can do, such as 8.9 or 9.0."""

    major: int
    minor: int

    @staticmethod
    def parse(text: str) -> ComputeCapability:
        """Read ``8.9``.

        Raises:
            EngineError: it is no compute capability.
        """
        match = re.fullmatch(r"(\d{1,2})\.(\d)", text)
        if match is None:
            raise EngineError(f"compute capability {text!r} isn't one; give it as 8.9")
        return ComputeCapability(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine, in CUDA's order."""

    index: int
    name: str
    compute_capability: ComputeCapability


def local_gpus() -> tuple[Gpu, ...]:
    """All of them; none where there is no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(gpu for index in range(count.value) if (gpu := _gpu(cuda, index)) is not None)


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    failed = (
        cuda.cuDeviceGet(ctypes.byref(device), index)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    if failed:
        return None
    return Gpu(index, name.value.decode(errors="replace"), ComputeCapability(major.value, minor.value))

"""What every measured result carries: on what it was measured, with which versions, by which command."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from engines.utilisation import gpu_names

ENGINES = (
    "raysight",
    "numpy",
    "opencv-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "pycuda",
    "cuda-bindings",
)
"""What an engine's speed and results may depend on; those that aren't installed are left out."""


def of(command: str, packages: Iterable[str] = ()) -> dict[str, Any]:
    """``hardware``, ``versions`` (those of `ENGINES` and of ``packages``) and the ``command``, for a result's head."""
    return {"hardware": hardware(), "versions": versions((*ENGINES, *packages)), "command": command}


def hardware() -> dict[str, Any]:
    """Processor, cores that may be used, memory, GPUs."""
    model = next((ln.split(":")[1].strip() for ln in _lines("/proc/cpuinfo") if ln.startswith("model name")), "unknown")
    kib = next((int(ln.split()[1]) for ln in _lines("/proc/meminfo") if ln.startswith("MemTotal")), 0)
    memory = round(kib / 2**20, 1)
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": memory, "gpus": gpu_names()}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python, the kernel, and those of the packages that are installed."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []

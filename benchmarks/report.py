"""What every result carries: on what it was measured, with which versions, by which command."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("raysight", "ray", "numpy", "opencv-python", "av", "onnxruntime", "pyzmq")


def hardware() -> dict[str, Any]:
    """Processor, cores that may be used, memory."""
    model = next((ln.split(":")[1].strip() for ln in _lines("/proc/cpuinfo") if ln.startswith("model name")), "unknown")
    kib = next((int(ln.split()[1]) for ln in _lines("/proc/meminfo") if ln.startswith("MemTotal")), 0)
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(kib / 2**20, 1)}


def versions() -> dict[str, str]:
    """Python and the packages that matter here."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(path: Path, module: str, result: Mapping[str, Any]) -> None:
    """Write ``result`` with its circumstances as JSON."""
    command = " ".join(["python", "-m", module, *sys.argv[1:]])
    document = {"hardware": hardware(), "versions": versions(), "command": command, **result}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []

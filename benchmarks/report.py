"""Writes results with their circumstances."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines import circumstances

PACKAGES = ("raysight", "ray", "numpy", "opencv-python", "av", "onnxruntime", "pyzmq")


def write(path: Path, module: str, result: Mapping[str, Any]) -> None:
    """Write ``result`` with its circumstances as JSON."""
    command = " ".join(["python", "-m", module, *sys.argv[1:]])
    measured = {"hardware": circumstances.hardware(), "versions": circumstances.versions(PACKAGES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**measured, "command": command, **result}, indent=2) + "\n")

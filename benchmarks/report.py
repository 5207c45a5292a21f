"""Writes results with their circumstances."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines import circumstances

PACKAGES = ("ray", "av", "pyzmq")


def write(path: Path, module: str, result: Mapping[str, Any]) -> None:
    """Write ``result`` with its circumstances as JSON."""
    command = " ".join(["python", "-m", module, *sys.argv[1:]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**circumstances.of(command, PACKAGES), **result}, indent=2) + "\n")

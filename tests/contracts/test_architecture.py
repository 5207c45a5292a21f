"""Who may import what: the layers of docs/architecture.md, held by a walk over every import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("engines", "deployments", "serve_app")
"""Lowest first: a layer may import itself and those before it."""

OWNERS: dict[str, tuple[str, ...]] = {
    "ray": (
        "**/actor.py",
        "**/deployment.py",
        "serve_app/app.py",
        "deployments/telemetry.py",
    ),
    "fastapi": ("serve_app/**",),
    "starlette": ("serve_app/**",),
    "grpc": ("serve_app/api/v2/**", "serve_app/load_test/**"),
    "aiohttp": ("serve_app/load_test/**",),
    "google": ("serve_app/api/v2/**",),
    "jwt": ("serve_app/auth/web_tokens.py",),
    "av": ("deployments/streams/media/**", "deployments/streams/webrtc/**"),
    "aiortc": ("deployments/streams/webrtc/peer.py",),
    "zmq": ("deployments/link/**",),
    "trackers": ("deployments/streams/tracking/tracker.py",),
    "supervision": ("deployments/streams/tracking/tracker.py",),
    "tensorrt": ("engines/trt/**",),
    "tensorrt_rtx": ("engines/trt/**",),
    "pycuda": ("engines/trt/**",),
    "cuda": ("engines/trt/**",),
    "faster_coco_eval": ("engines/evaluation/coco.py",),
    "opentelemetry": ("deployments/tracing.py",),
    "redis": ("deployments/store/redis.py", "deployments/streams/sinks/redis.py"),
    "paho": ("deployments/streams/sinks/mqtt.py",),
    "kafka": ("deployments/streams/sinks/kafka.py",),
    "sqlite3": ("deployments/store/sqlite.py",),
    "onnxruntime": ("engines/onnx.py", "engines/onnx_cuda.py", "engines/package.py", "engines/building/trial.py"),
}
"""Packages that few files may know, and which."""


def imported(source: str, package: str) -> Iterator[str]:
    """Dotted names of all modules that ``source``, a module in ``package``, imports anywhere, under any condition."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield ".".join([*base, node.module or ""]).strip(".")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def violations(path: str, source: str) -> list[str]:
    """What the module at ``path`` imports against the rules."""
    place = PurePosixPath(path)
    layer = place.parts[0]
    above = {*LAYERS[LAYERS.index(layer) + 1 :], "tests", "benchmarks"}
    found = []
    for name in imported(source, ".".join(place.parent.parts)):
        top = name.partition(".")[0]
        if top in above:
            found.append(f"{path} imports {name}: {layer} may not know {top}")
        if top in OWNERS and not any(_fits(place, owner) for owner in OWNERS[top]):
            found.append(f"{path} imports {name}: only {', '.join(OWNERS[top])} may")
    return found


def _fits(place: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return place.name == pattern[3:]
    if pattern.endswith("/**"):
        return place.is_relative_to(pattern[:-3])
    return str(place) == pattern


def test_every_import_keeps_the_rules() -> None:
    modules = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
    assert len(modules) > 50
    found = [bad for path in modules for bad in violations(path.relative_to(ROOT).as_posix(), path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engines/fake.py", "from deployments.errors import RaysightError"),
        ("engines/families/yolo.py", "import serve_app.config"),
        ("deployments/logs.py", "from serve_app import config"),
        ("deployments/streams/runner.py", "import ray"),
        ("deployments/streams/runner.py", "from ray.actor import ActorHandle"),
        ("serve_app/config.py", "def later():\n    from ray import serve"),
        ("serve_app/api/streams.py", "import ray.serve as s"),
        ("deployments/detector/service.py", "from fastapi import FastAPI"),
        ("deployments/detector/service.py", "if TYPE_CHECKING:\n    from starlette.requests import Request"),
        ("deployments/streams/live.py", "import av"),
        ("deployments/streams/live.py", 'import importlib\nimportlib.import_module("av.video")'),
        ("deployments/streams/link.py", "import zmq.asyncio"),
        ("engines/onnx.py", "import tensorrt"),
        ("engines/build.py", "from cuda.bindings import driver"),
        ("deployments/detector/service.py", "import onnxruntime"),
        ("engines/types.py", "from tests.support import media"),
        ("engines/families/yolo.py", "from ...deployments import errors"),
    ],
)
def test_a_breach_is_found(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("deployments/streams/actor.py", "import ray"),
        ("deployments/telemetry.py", "from ray.util.metrics import Counter"),
        ("serve_app/api/streams.py", "from deployments.errors import SpecConflict\nimport fastapi"),
        ("deployments/streams/media/source.py", "import av"),
        ("engines/trt/cuda.py", "import pycuda.driver"),
        ("engines/batches.py", "import average\nfrom . import types"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert not violations(path, source)


def loaded_with(module: str) -> set[str]:
    """All modules that a fresh interpreter has after it has imported this one."""
    code = f"import sys, {module}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout.decode().split()
    )


def test_a_streams_process_never_loads_what_weighs_and_is_not_its_own() -> None:
    """Serve would cost each stream 25 MiB (benchmarks/results/stream-cost-2-cores.json), a tracker 44 MiB."""
    unwanted = {"ray.serve", "fastapi", "onnxruntime", "trackers", "supervision", "scipy", "paho", "kafka"}
    assert not loaded_with("deployments.streams.actor") & unwanted
    assert "ray.serve" in loaded_with("deployments.detector.deployment")

"""What the code asks of TensorRT is there in the TensorRT that can be installed, and nothing loads it too early."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

from tests.contracts.test_architecture import loaded_with

ROOT = Path(__file__).resolve().parents[2]
BUILDING = ("builder.py", "logger.py")
OBJECTS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
}
"""What the modules that build call the objects of each class."""


def asked(source: str, objects: dict[str, str]) -> set[str]:
    """Dotted names below TensorRT's module that ``source`` uses, by ``trt.`` or by an object's name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            if root == "trt":
                found.add(rest)
            elif root in objects:
                found.add(f"{objects[root]}.{rest.partition('.')[0]}")
            elif ".trt." in (text := ast.unparse(node)):
                found.add(text.partition(".trt.")[2])
    return {name for name in found if name.replace(".", "").replace("_", "").isalnum()}


def missing(trt: ModuleType, names: set[str]) -> list[str]:
    """Those that TensorRT hasn't got."""
    found = []
    for name in sorted(names):
        place: object = trt
        for part in name.split("."):
            if part.startswith("__"):
                break
            if not hasattr(place, part):
                found.append(name)
                break
            place = getattr(place, part)
    return found


def test_all_that_is_used_exists() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    names: set[str] = set()
    for path in sorted((ROOT / "engines" / "trt").rglob("*.py")):
        names |= asked(path.read_text(), OBJECTS if path.name in BUILDING else {})
    assert {"Builder", "OnnxParser", "IBuilderConfig.set_compute_capability", "BuilderFlag.TF32"} <= names
    assert not missing(trt, names)


def test_what_is_gone_is_found() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    source = "trt.BuilderFlag.FP16\nconfig.max_workspace_size = 1\nbinding.trt.Nothing.more\nbuilder.create_network(0)"
    assert missing(trt, asked(source, OBJECTS)) == [
        "BuilderFlag.FP16",
        "IBuilderConfig.max_workspace_size",
        "Nothing",
        "Nothing.more",
    ]


@pytest.mark.parametrize("module", ["serve_app.cli.app", "engines.building.build", "engines.trt.plans"])
def test_nothing_loads_tensorrt_before_it_is_needed(module: str) -> None:
    assert not loaded_with(module) & {"tensorrt", "tensorrt_rtx", "pycuda", "cuda", "ray"}


def test_the_command_line_starts_light() -> None:
    assert not loaded_with("serve_app.cli.app") & {"onnx", "onnxruntime", "ray"}

"""Small model packages, built with ONNX, that the tests load with the real runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.manifest import Manifest
from engines.types import TensorSpec

WIDTH, HEIGHT = 64, 32
BOXES = np.array([[16, 16, 8, 8], [40, 20, 10, 6]], np.float32)
"""Centre x, centre y, width, height of the two boxes that the model always gives."""

Shape = list[int | str]


def manifest(**changes: Any) -> dict[str, Any]:
    """A manifest of `bright_model`; ``input__x`` changes the field x of the input."""
    content: dict[str, Any] = {
        "name": "bright",
        "family": "yolo",
        "input": {
            "name": "images",
            "width": WIDTH,
            "height": HEIGHT,
            "colour": "rgb",
            "mean": [0, 0, 0],
            "std": [255, 255, 255],
            "letterbox": "top_left",
            "pad": 0,
        },
        "class_names": ["first", "second"],
        "licence": "Apache-2.0",
        "source": "tests",
    }
    for key, value in changes.items():
        target, field = (content["input"], key[7:]) if key.startswith("input__") else (content, key)
        target[field] = value
    return content


def described(width: int, height: int, classes: int) -> Manifest:
    """A manifest of a model with an input of this size and that many classes."""
    names = [str(index) for index in range(classes)]
    return Manifest.model_validate(manifest(class_names=names, input__width=width, input__height=height))


def specs(outputs: Mapping[str, NDArray[Any]]) -> list[TensorSpec]:
    """What a model with a dynamic batch says of its outputs."""
    return [TensorSpec(name, "float32", (None, *array.shape[1:])) for name, array in outputs.items()]


def constant(name: str, values: NDArray[Any]) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(values, name)


def model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    outputs: dict[str, Shape],
    images: Shape | None = None,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of these nodes with one input ``images``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", dtype, images or ["batch", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def bright_model(
    batch: int | str = "batch", output: Shape | None = None, images: Shape | None = None
) -> onnx.ModelProto:
    """A yolo model whose two boxes, one a class, score as high as the frame is bright (0 to 1).

    A frame whose values go beyond 1 makes the runtime fail: it gathers what isn't there.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["flat"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["flat", "axes"], ["brightness"]),
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["ones", "index"], ["one"]),
        helper.make_node("Mul", ["brightness", "nought"], ["dark"]),
        helper.make_node("Add", ["dark", "one"], ["each"]),
        helper.make_node("Mul", ["boxes", "each"], ["all_boxes"]),
        helper.make_node("Mul", ["scores", "brightness"], ["all_scores"]),
        helper.make_node("Concat", ["all_boxes", "all_scores"], ["output0"], axis=1),
    ]
    constants = [
        constant("axes", np.array([1, 2], np.int64)),
        constant("ones", np.ones(2, np.float32)),
        constant("nought", np.zeros(1, np.float32)),
        constant("boxes", BOXES.T[None].copy()),
        constant("scores", np.eye(2, dtype=np.float32)[None]),
    ]
    return model(nodes, constants, {"output0": output or [batch, 6, 2]}, images or [batch, 3, HEIGHT, WIDTH])


def fixed_model(
    outputs: Mapping[str, NDArray[np.float32]], declared: Mapping[str, Shape] | None = None
) -> onnx.ModelProto:
    """A model that gives these outputs whatever the frame; ``declared`` is what it says of their shapes."""
    nodes = [helper.make_node("Identity", [f"{name} value"], [name]) for name in outputs]
    constants = [constant(f"{name} value", values) for name, values in outputs.items()]
    shapes = declared or {name: list(values.shape) for name, values in outputs.items()}
    return model(nodes, constants, dict(shapes), [1, 3, HEIGHT, WIDTH])


def write(folder: Path, graph: onnx.ModelProto, content: dict[str, Any]) -> Path:
    """Write a package."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder

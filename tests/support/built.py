"""A built package whose network is small enough to be checked by hand, and an accelerator that is this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.package import ModelPackage, load_package
from engines.types import UInt8Array

WIDTH, HEIGHT, TOP_K = 64, 48, 3
CORNERS = np.array([[[0, 0, 4, 4], [10, 0, 18, 9], [20, 5, 32, 32]]], np.float32)
SCORES = np.array([[0.9, 0.6, 0.3]], np.float32)
CLASSES = np.array([[1, 0, 1]], np.int32)


def network() -> onnx.ModelProto:
    """Three boxes a frame, as constant as their scores and classes but for being moved by a tenth of its mean value."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "nought"], ["nothing"]),
        helper.make_node("Mul", ["column", "tenth"], ["moved"]),
        helper.make_node("Unsqueeze", ["moved", "end"], ["shift"]),
        helper.make_node("Add", ["shift", "corners"], ["boxes"]),
        helper.make_node("Add", ["nothing", "known"], ["scores"]),
        helper.make_node("Cast", ["nothing"], ["first"], to=TensorProto.INT32),
        helper.make_node("Add", ["first", "labels"], ["classes"]),
    ]
    constants = {
        "last": np.array([1], np.int64),
        "end": np.array([2], np.int64),
        "nought": np.zeros(1, np.float32),
        "tenth": np.full(1, 0.1, np.float32),
        "corners": CORNERS,
        "known": SCORES,
        "labels": CLASSES,
    }
    outputs = {"boxes": (1, [TOP_K, 4]), "scores": (1, [TOP_K]), "classes": (6, [TOP_K])}
    graph = helper.make_graph(
        nodes,
        "built",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def built_package(folder: Path, max_batch: int = 5, precision: str = "fp32") -> ModelPackage:
    """Write it, and read it."""
    content = {
        "name": "built",
        "family": "yolo",
        "input": {
            "name": "frames",
            "width": WIDTH,
            "height": HEIGHT,
            "colour": "rgb",
            "mean": [0, 0, 0],
            "std": [255, 255, 255],
            "letterbox": "centre",
            "pad": 114,
        },
        "class_names": ["first", "second"],
        "licence": "Apache-2.0",
        "source": "tests",
        "built": {"precision": precision, "top_k": TOP_K, "max_batch": max_batch, "suppress": False},
    }
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(network().SerializeToString())
    (folder / "manifest.json").write_text(json.dumps(content))
    return load_package(folder)


def grey(value: int) -> UInt8Array:
    """A frame whose boxes are moved by a tenth of ``value``."""
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


class HostMemory:
    """Both kinds of memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.address = array.ctypes.data

    def free(self) -> None:
        del self.array


class HostStream:
    handle = 0

    def wait_for(self, event: HostEvent) -> None: ...


class HostEvent:
    def record(self, stream: HostStream) -> None: ...

    def happened(self) -> bool:
        return True

    def wait(self) -> None: ...

    def free(self) -> None: ...


class HostAccelerator:
    """An `Accelerator` whose device is the host itself, where everything is done at once."""

    name = "cpu:0 host"

    def stream(self) -> HostStream:
        return HostStream()

    def event(self) -> HostEvent:
        return HostEvent()

    def memory(self, size: int) -> HostMemory:
        return HostMemory(np.full(size, 0xA5, np.uint8))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> HostMemory:
        return HostMemory(np.zeros(shape, dtype))

    def upload(self, target: HostMemory, source: NDArray[Any], stream: HostStream) -> None:
        target.array[: source.nbytes] = source.reshape(-1).view(np.uint8)

    def download(self, target: NDArray[Any], source: HostMemory, stream: HostStream) -> None:
        target[:] = source.array[: target.nbytes].view(target.dtype).reshape(target.shape)

    def synchronise(self) -> None: ...

    def free_bytes(self) -> int:
        return 1 << 30

    def close(self) -> None: ...

"""Networks with random weights, each with its family's outputs, for the tests that build packages of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.building.graph import GraphWriter
from engines.types import Float32Array, UInt8Array

WIDTH, HEIGHT = 96, 64
CLASSES = 3
CELLS = tuple((HEIGHT // stride) * (WIDTH // stride) for stride in (8, 16, 32))
TOTAL = sum(CELLS)
_OPSET = 17
_FEATURES = 16


class Network:
    """A graph with the input ``images``, to which a test's family adds its outputs."""

    def __init__(self, seed: int = 0, opset: int = _OPSET) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.graph = onnx.GraphProto(name="network")
        self.graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, HEIGHT, WIDTH]))
        self.write = GraphWriter(self.graph, opset)

    def conv(self, tensor: str, inside: int, outside: int, kernel: int = 1, stride: int = 1, bias: float = 0) -> str:
        """A layer with weights."""
        weights = self.random.normal(0, (inside * kernel * kernel) ** -0.5, (outside, inside, kernel, kernel))
        biases = self.random.normal(bias, 0.1, outside).astype(np.float32)
        return self.write.node(
            "Conv",
            tensor,
            self.write.constant(weights.astype(np.float32)),
            self.write.constant(biases),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def silu(self, tensor: str) -> str:
        return self.write.node("Mul", tensor, self.write.node("Sigmoid", tensor))

    def rows(self, count: int, width: int, images: str = "images") -> str:
        """Numbers ``[B, count, width]`` about nought, which follow from the frame as a whole."""
        features = self.conv(self.silu(self.conv(images, 3, _FEATURES, 3, 8)), _FEATURES, _FEATURES)
        flat = self.write.node("Flatten", self.write.node("GlobalAveragePool", features), axis=1)
        weights = self.random.normal(0, 3, (_FEATURES, count * width)).astype(np.float32)
        biases = self.random.normal(0, 1.5, count * width).astype(np.float32)
        mixed = self.write.node("MatMul", flat, self.write.constant(weights))
        return self.write.reshape(self.write.node("Add", mixed, self.write.constant(biases)), 0, count, width)

    def scaled(self, tensor: str, *factors: float) -> str:
        return self.write.node("Mul", tensor, self.write.constant(np.array(factors, np.float32)))

    def output(self, tensor: str, name: str, *shape: int) -> None:
        self.write.named("Identity", [tensor], name)
        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]))

    def model(self) -> onnx.ModelProto:
        return helper.make_model(self.graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def _boxes(net: Network, rows: str) -> str:
    """Centres anywhere, sides up to a third of the frame."""
    sides = net.write.node("Sigmoid", net.write.cut(rows, 2, 0, 4))
    return net.scaled(sides, WIDTH, HEIGHT, WIDTH / 3, HEIGHT / 3)


def _rows_with_scores(net: Network, count: int, extra: int) -> str:
    rows = net.rows(count, 4 + extra)
    scores = net.write.node("Sigmoid", net.write.cut(rows, 2, 4, 4 + extra))
    return net.write.node("Concat", _boxes(net, rows), scores, axis=2)


def _yolo(net: Network) -> None:
    columns = net.write.node("Transpose", _rows_with_scores(net, TOTAL, CLASSES), perm=[0, 2, 1])
    net.output(columns, "output0", 4 + CLASSES, TOTAL)


def _yolo_anchors(net: Network) -> None:
    net.output(_rows_with_scores(net, 3 * TOTAL, 1 + CLASSES), "output0", 3 * TOTAL, 5 + CLASSES)


def _nms_free(net: Network) -> None:
    rows = _rows_with_scores(net, 40, 2)
    corner, size = net.write.cut(rows, 2, 0, 2), net.write.cut(rows, 2, 2, 4)
    scores = net.write.cut(rows, 2, 4, 5)
    classes = net.write.node("Floor", net.scaled(net.write.cut(rows, 2, 5, 6), CLASSES))
    opposite = net.write.node("Add", corner, size)
    net.output(net.write.node("Concat", corner, opposite, scores, classes, axis=2), "output0", 40, 6)


def _yolox(net: Network) -> None:
    # Alone among the families, this one isn't given values about nought.
    rows = net.rows(TOTAL, 5 + CLASSES, net.scaled("images", 1 / 255))
    sides = net.scaled(net.write.cut(rows, 2, 0, 4), 0.3)
    scores = net.write.node("Sigmoid", net.write.cut(rows, 2, 4, 5 + CLASSES))
    net.output(net.write.node("Concat", sides, scores, axis=2), "output", TOTAL, 5 + CLASSES)


def add_detr(net: Network, boxes: str, logits: str, slots: int) -> None:
    """The outputs of a DETR model with 30 queries."""
    rows = net.rows(30, 4 + slots)
    sides = net.scaled(net.write.node("Sigmoid", net.write.cut(rows, 2, 0, 4)), 1, 1, 0.3, 0.3)
    net.output(sides, boxes, 30, 4)
    net.output(net.write.cut(rows, 2, 4, 4 + slots), logits, 30, slots)


def _nanodet(net: Network) -> None:
    for stride, count in zip((8, 16, 32), CELLS, strict=True):
        net.output(net.write.node("Sigmoid", net.rows(count, CLASSES)), f"cls_s{stride}", count, CLASSES)
        net.output(net.rows(count, 4 * 8), f"reg_s{stride}", count, 4 * 8)


def _level(net: Network, tensor: str, width: int, cells: int, classes: int) -> str:
    both = net.write.node("Concat", net.conv(tensor, width, 64), net.conv(tensor, width, classes, bias=-1), axis=1)
    return net.write.reshape(both, 0, 64 + classes, cells)


def _distribution_head(net: Network, levels: list[str], width: int, classes: int) -> str:
    """The head of YOLOv8 and v9: sides are the means of softmaxed bins, worked out by a Conv with weights 0 to 15."""
    write = net.write
    parts = [_level(net, level, width, cells, classes) for level, cells in zip(levels, CELLS, strict=True)]
    joined = write.node("Concat", *parts, axis=2)
    bins = write.node("Transpose", write.reshape(write.cut(joined, 1, 0, 64), 0, 4, 16, TOTAL), perm=[0, 2, 1, 3])
    counting: Float32Array = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
    means = write.node("Conv", write.node("Softmax", bins, axis=1), write.constant(counting), kernel_shape=[1, 1])
    sides = write.reshape(means, 0, 4, TOTAL)
    points = [np.mgrid[: HEIGHT // s, : WIDTH // s][::-1].reshape(2, -1) + 0.5 for s in (8, 16, 32)]
    anchors = write.constant(np.concatenate(points, axis=1)[None].astype(np.float32))
    low = write.node("Sub", anchors, write.cut(sides, 1, 0, 2))
    high = write.node("Add", anchors, write.cut(sides, 1, 2, 4))
    centres = write.node("Div", write.node("Add", low, high), write.constant(np.array([2], np.float32)))
    boxes = write.node("Concat", centres, write.node("Sub", high, low), axis=1)
    strides = np.repeat(np.array([8, 16, 32], np.float32), CELLS)[None, None]
    scores = write.node("Sigmoid", write.cut(joined, 1, 64, 64 + classes))
    return write.node("Concat", write.node("Mul", boxes, write.constant(strides)), scores, axis=1)


def yolov9(seed: int = 0, width: int = 16, classes: int = CLASSES, branches: int = 2, opset: int = _OPSET) -> Network:
    """As the training graph is exported: the auxiliary branch, ``output0``, then the main one, with a number."""
    net = Network(seed, opset)
    tensor, levels, inside = "images", [], 3
    for depth in range(5):
        tensor, inside = net.silu(net.conv(tensor, inside, width, 3, 2)), width
        levels += [tensor] if depth >= 2 else []
    for name in ("output0", "2498")[:branches]:
        net.output(_distribution_head(net, levels, width, classes), name, 4 + classes, TOTAL)
    return net


def _attention(net: Network, tokens: str, width: int) -> str:
    """One head over ``[B, T, width]``, then the sum with what went in, normalised."""
    write, random = net.write, net.random
    weights = [random.normal(0, width**-0.5, (width, width)).astype(np.float32) for _ in range(3)]
    query, key, value = (write.node("MatMul", tokens, write.constant(each)) for each in weights)
    products = write.node("MatMul", query, write.node("Transpose", key, perm=[0, 2, 1]))
    seen = write.node("MatMul", write.node("Softmax", net.scaled(products, width**-0.5), axis=2), value)
    ones = write.constant(np.ones(width, np.float32))
    return write.node("LayerNormalization", write.node("Add", tokens, seen), ones, axis=-1)


def _doubled(net: Network, tensor: str) -> str:
    """Twice as wide and high, by sizes that are worked out from shapes in floats, as old exporters do."""
    write = net.write
    shape = write.node("Shape", tensor)
    sides = write.cast(write.cut(shape, 0, 2, 4), TensorProto.FLOAT)
    larger = write.cast(write.node("Floor", net.scaled(sides, 2, 2)), TensorProto.INT64)
    sizes = write.node("Concat", write.cut(shape, 0, 0, 2), larger, axis=0)
    return write.node("Resize", tensor, "", "", sizes, mode="nearest")


def _transformer(net: Network) -> None:
    """A small DETR: convolutions, a larger picture of them, attention, and a head for each query."""
    write, width = net.write, _FEATURES
    features = net.silu(net.conv("images", 3, width, 3, 16))
    merged = net.conv(_doubled(net, features), width, width, 3, 2)
    tokens = write.node("Transpose", write.reshape(merged, 0, width, (HEIGHT // 16) * (WIDTH // 16)), perm=[0, 2, 1])
    for _ in range(2):
        tokens = _attention(net, tokens, width)
    head = net.random.normal(0, 1, (width, 4 + CLASSES)).astype(np.float32)
    rows = write.node("MatMul", tokens, write.constant(head))
    sides = net.scaled(write.node("Sigmoid", write.cut(rows, 2, 0, 4)), 1, 1, 0.3, 0.3)
    count = (HEIGHT // 16) * (WIDTH // 16)
    net.output(write.cut(rows, 2, 4, 4 + CLASSES), "pred_logits", count, CLASSES)
    net.output(sides, "pred_boxes", count, 4)


NETWORKS: dict[str, Any] = {
    "yolo": ("yolo", _yolo),
    "yolo with anchors": ("yolo", _yolo_anchors),
    "yolo-nms-free": ("yolo-nms-free", _nms_free),
    "yolox": ("yolox", _yolox),
    "rtdetr": ("rtdetr", lambda net: add_detr(net, "pred_boxes", "pred_logits", CLASSES)),
    "rfdetr": ("rfdetr", lambda net: add_detr(net, "dets", "labels", CLASSES + 1)),
    "nanodet": ("nanodet", _nanodet),
    "a transformer": ("rtdetr", _transformer),
}


def network(layout: str, seed: int = 0, opset: int = _OPSET) -> tuple[str, onnx.ModelProto]:
    """The family, and a network of it."""
    if layout.startswith("yolov9"):
        return "yolov9", yolov9(seed, branches=2 if layout.endswith("dual") else 1, opset=opset).model()
    family, add = NETWORKS[layout]
    net = Network(seed, opset)
    add(net)
    return family, net.model()


LAYOUTS = (*NETWORKS, "yolov9", "yolov9 dual")


def blocky(seed: int) -> UInt8Array:
    """A frame of coloured blocks, so that frames differ as a whole."""
    blocks: NDArray[Any] = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 32, WIDTH // 32, 3), np.uint8)
    return blocks.repeat(32, axis=0).repeat(32, axis=1)

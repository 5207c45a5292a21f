"""What each family's decoder does, as nodes of the graph that end in each frame's best boxes.

All of it is in float32: float16 has steps of half a pixel above 512. The classes in `engines.families` say where the
formulas come from; here the boxes are chosen before they are worked out, so that only ``top_k`` of them are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from engines.building.graph import GraphWriter
from engines.errors import PackageError
from engines.families.decoder import Decoder
from engines.families.detr import RfDetr, RtDetr
from engines.families.nanodet import NanoDet
from engines.families.nms_free import YoloNmsFree
from engines.families.yolo import Yolo, YoloV9
from engines.families.yolox import YoloX
from engines.types import TensorSpec

_BOX = 4


class Head(NamedTuple):
    """What a family's outputs become.

    ``boxes`` is float32 ``[B, K, 4]``, left, top, right, bottom in input pixels, ``scores`` float32 ``[B, K]``,
    falling, ``classes`` an integer ``[B, K]``; ``top_k`` is K, and ``suppress`` whether the boxes still overlap.
    """

    boxes: str
    scores: str
    classes: str
    top_k: int
    suppress: bool


class Outputs(NamedTuple):
    """A network's outputs by the names that its decoder knows, and what these begin with in the graph."""

    specs: Mapping[str, TensorSpec]
    prefix: str = ""

    def tensor(self, name: str) -> str:
        """Its name in the graph."""
        return self.prefix + name

    def sides(self, name: str) -> tuple[int, int]:
        """Its second and third side, which `engines.package` finds out of every output."""
        first, second = self.specs[name].shape[1:]
        assert first is not None
        assert second is not None
        return first, second


def used(decoder: Decoder, names: list[str]) -> list[str]:
    """The outputs that a decoder reads: all, but for the auxiliary branch of YOLOv9."""
    return [decoder.output] if isinstance(decoder, YoloV9) else names


@singledispatch
def attach(decoder: Decoder, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    """Write the nodes that do what ``decoder`` does to the network's ``outputs``, for at most ``top_k`` boxes."""
    raise PackageError(f"a network of {type(decoder).__name__} can't be built; name a family that can")


@attach.register
def _yolov9(decoder: YoloV9, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    return _anchor_free(decoder.output, writer, outputs, top_k)


@attach.register
def _yolo(decoder: Yolo, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    if not decoder.anchors:
        return _anchor_free(decoder.output, writer, outputs, top_k)
    rows, columns = outputs.sides(decoder.output)
    picked, scores, classes, count, _ = _with_objectness(outputs.tensor(decoder.output), writer, rows, columns, top_k)
    return Head(_corners(writer, writer.cut(picked, 2, 0, _BOX)), scores, classes, count, suppress=True)


@attach.register
def _yolox(decoder: YoloX, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    rows, columns = outputs.sides(decoder.output)
    picked, scores, classes, count, indices = _with_objectness(
        outputs.tensor(decoder.output), writer, rows, columns, top_k
    )
    corners = writer.node("Gather", writer.constant(decoder.corners), indices, axis=0)
    strides = writer.node("Gather", writer.constant(decoder.strides), indices, axis=0)
    centres = writer.node("Mul", writer.node("Add", writer.cut(picked, 2, 0, 2), corners), strides)
    sizes = writer.node("Mul", writer.node("Exp", writer.cut(picked, 2, 2, 4)), strides)
    boxes = _corners(writer, writer.node("Concat", centres, sizes, axis=2))
    return Head(boxes, scores, classes, count, suppress=True)


@attach.register
def _nms_free(decoder: YoloNmsFree, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    output = outputs.tensor(decoder.output)
    rows, columns = outputs.sides(decoder.output)
    count = min(top_k, rows)
    confidence = writer.reshape(writer.cut(output, 2, 4, 5), 0, rows)
    scores, indices = writer.top(confidence, count)
    picked = writer.gather(output, indices, 1, columns)
    classes = writer.reshape(writer.cut(picked, 2, 5, 6), 0, count)
    return Head(writer.cut(picked, 2, 0, _BOX), scores, classes, count, suppress=False)


@attach.register
def _nanodet(decoder: NanoDet, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    names = [(f"cls_s{level.stride}", f"reg_s{level.stride}") for level in decoder.levels]
    widths = {outputs.sides(sides)[1] for _, sides in names}
    if len(widths) > 1:
        raise PackageError("the strides have boxes of several numbers of bins; export the model with one")
    rows = sum(outputs.sides(scores)[0] for scores, _ in names)
    classes_count, width = outputs.sides(names[0][0])[1], widths.pop()
    scores = writer.node("Concat", *(outputs.tensor(name) for name, _ in names), axis=1)
    sides = writer.node("Concat", *(outputs.tensor(name) for _, name in names), axis=1)
    count = min(top_k, rows)
    best, indices = writer.top(writer.largest(scores, 2), count)
    classes = writer.node("ArgMax", writer.gather(scores, indices, 1, classes_count), axis=2, keepdims=0)
    strides = [np.full((len(level.centres), 1), level.stride, np.float32) for level in decoder.levels]
    centres = writer.constant(np.concatenate([level.centres for level in decoder.levels]))
    stride = writer.node("Gather", writer.constant(np.concatenate(strides)), indices, axis=0)
    centre = writer.node("Gather", centres, indices, axis=0)
    distances = writer.node("Mul", _distances(writer, writer.gather(sides, indices, 1, width), count, width), stride)
    low = writer.node("Sub", centre, writer.cut(distances, 2, 0, 2))
    high = writer.node("Add", centre, writer.cut(distances, 2, 2, 4))
    return Head(writer.node("Concat", low, high, axis=2), best, classes, count, suppress=True)


@attach.register(RfDetr)
@attach.register(RtDetr)
def _detr(decoder: RfDetr | RtDetr, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    queries, slots = outputs.sides(decoder.logits)
    count = min(top_k, queries)
    logits, pairs = writer.top(writer.reshape(outputs.tensor(decoder.logits), 0, queries * slots), count)
    query = writer.node("Div", pairs, writer.integers(slots))
    classes = writer.node("Sub", pairs, writer.node("Mul", query, writer.integers(slots)))
    boxes = writer.node(
        "Mul", writer.gather(outputs.tensor(decoder.boxes), query, 1, _BOX), writer.constant(decoder.size)
    )
    return Head(_corners(writer, boxes), writer.node("Sigmoid", logits), classes, count, suppress=False)


def _anchor_free(name: str, writer: GraphWriter, outputs: Outputs, top_k: int) -> Head:
    height, columns = outputs.sides(name)
    output, count = outputs.tensor(name), min(top_k, columns)
    scores, indices = writer.top(writer.largest(writer.cut(output, 1, _BOX, height), 1), count)
    picked = writer.gather(output, indices, 2, height)
    classes = writer.node("ArgMax", writer.cut(picked, 1, _BOX, height), axis=1, keepdims=0)
    boxes = writer.node("Transpose", writer.cut(picked, 1, 0, _BOX), perm=[0, 2, 1])
    return Head(_corners(writer, boxes), scores, classes, count, suppress=True)


def _with_objectness(
    output: str, writer: GraphWriter, rows: int, columns: int, top_k: int
) -> tuple[str, str, str, int, str]:
    """The best rows of ``[B, N, 5 + C]``, their scores and classes, how many they are, and their indices.

    Objectness is at least nought, so the best product is that of the best class.
    """
    count = min(top_k, rows)
    objectness = writer.reshape(writer.cut(output, 2, 4, 5), 0, rows)
    best = writer.node("Mul", writer.largest(writer.cut(output, 2, 5, columns), 2), objectness)
    scores, indices = writer.top(best, count)
    picked = writer.gather(output, indices, 1, columns)
    classes = writer.node("ArgMax", writer.cut(picked, 2, 5, columns), axis=2, keepdims=0)
    return picked, scores, classes, count, indices


def _corners(writer: GraphWriter, boxes: str) -> str:
    """Left, top, right, bottom of ``[B, K, 4]`` given as centre x, y, width, height."""
    centres = writer.cut(boxes, 2, 0, 2)
    halves = writer.node("Mul", writer.cut(boxes, 2, 2, 4), writer.constant(np.array([0.5], np.float32)))
    low, high = writer.node("Sub", centres, halves), writer.node("Add", centres, halves)
    return writer.node("Concat", low, high, axis=2)


def _distances(writer: GraphWriter, logits: str, count: int, width: int) -> str:
    """Mean bins ``[B, K, 4]`` of ``[B, K, 4 * bins]`` logits.

    Multiplied and summed, not by MatMul: GPUs may do that in TF32, with ten bits.
    """
    bins = width // _BOX
    weights = writer.node("Softmax", writer.reshape(logits, 0, count, _BOX, bins), axis=3)
    return writer.summed(writer.node("Mul", weights, writer.constant(np.arange(bins, dtype=np.float32))), 3)

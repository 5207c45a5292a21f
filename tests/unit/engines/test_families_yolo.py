"""YOLOv5, YOLOv9 and YOLOX, from the model's outputs to detections, against references that go row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engines.errors import PackageError
from engines.families import FAMILIES
from engines.postprocess import detections
from engines.types import Float32Array, TensorSpec, Thresholds
from tests.unit.engines.packages import described, specs
from tests.unit.engines.references import Found, assert_detects, best_class, corners, suppressed

SIZES = [(64, 32), (96, 160), (128, 128)]
CLASSES = [1, 2, 5, 80]
LIMITS = [Thresholds(0.5, 0.45, 300), Thresholds(0.05, 0.6, 300), Thresholds(0.2, 0.3, 7)]
"""One a frame."""


def _boxes(random: np.random.Generator, rows: int, size: tuple[int, int]) -> Float32Array:
    """Centres and sides of ``[3, rows]`` boxes, in pixels."""
    centres = random.random((len(LIMITS), rows, 2)) * size
    return np.concatenate([centres, random.uniform(4, 40, centres.shape)], axis=2).astype(np.float32)


def _cells(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in strides)


def _with_objectness(frame: Float32Array, limits: Thresholds) -> list[Found]:
    """As YOLOv5 does it: the objectness filters first, then multiplies the classes."""
    found = []
    for x, y, width, height, objectness, *scores in frame.tolist():
        if objectness >= limits.confidence:
            found.append(best_class([score * objectness for score in scores], corners(x, y, width, height)))
    return suppressed(found, limits)


@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64)])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("size", SIZES)
def test_yolo_with_anchors_is_yolov5s_reference(size: tuple[int, int], classes: int, strides: tuple[int, ...]) -> None:
    random = np.random.default_rng(classes)
    rows = 3 * _cells(size, strides)
    scores = random.random((len(LIMITS), rows, 1 + classes)) ** 2
    output = np.concatenate([_boxes(random, rows, size), scores.astype(np.float32)], axis=2)
    expected = [_with_objectness(*frame) for frame in zip(output, LIMITS, strict=True)]
    assert_detects("yolo", {"output0": output}, size, classes, LIMITS, expected)


@pytest.mark.parametrize("branches", [["output0"], ["output0", "2498"], ["aux", "main"]])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("size", SIZES)
def test_yolov9_reads_the_main_branch(size: tuple[int, int], classes: int, branches: list[str]) -> None:
    random = np.random.default_rng(classes)
    outputs: dict[str, Float32Array] = {}
    for name in branches:
        boxes = _boxes(random, 90, size)
        scores = random.random((*boxes.shape[:2], classes)) ** 4
        outputs[name] = np.concatenate([boxes, scores.astype(np.float32)], axis=2).transpose(0, 2, 1)
    expected = []
    for frame, limits in zip(outputs[branches[-1]], LIMITS, strict=True):
        columns = [frame[:, index].tolist() for index in range(frame.shape[1])]
        found = [best_class(scores, corners(x, y, width, height)) for x, y, width, height, *scores in columns]
        expected.append(suppressed(found, limits))
    assert_detects("yolov9", outputs, size, classes, LIMITS, expected)


def _yolox(frame: Float32Array, size: tuple[int, int], limits: Thresholds) -> list[Found]:
    """As YOLOX's demo does it: decode every cell, multiply, then filter."""
    rows = iter(frame.tolist())
    found = []
    for stride in (8, 16, 32):
        for row in range(math.ceil(size[1] / stride)):
            for column in range(math.ceil(size[0] / stride)):
                x, y, width, height, objectness, *scores = next(rows)
                box = corners(
                    (x + column) * stride, (y + row) * stride, math.exp(width) * stride, math.exp(height) * stride
                )
                found.append(best_class([score * objectness for score in scores], box))
    assert next(rows, None) is None
    return suppressed(found, limits)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("size", [*SIZES, (416, 224)])
def test_yolox_is_its_reference(size: tuple[int, int], classes: int) -> None:
    random = np.random.default_rng(classes)
    rows = _cells(size, (8, 16, 32))
    sides = random.normal(0, 1, (len(LIMITS), rows, 4))
    scores = random.random((len(LIMITS), rows, 1 + classes)) ** 2
    output = np.concatenate([sides, scores], axis=2).astype(np.float32)
    expected = [_yolox(frame, size, limits) for frame, limits in zip(output, LIMITS, strict=True)]
    assert_detects("yolox", {"output": output}, size, classes, LIMITS, expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [1e4, np.inf, np.nan])
def test_yolox_boxes_beyond_all_measure_are_dropped(side: float) -> None:
    output = np.zeros((1, 42, 6), np.float32)
    output[0, 3] = [0.5, 0.5, 1, 1, 0.9, 0.9]
    output[0, 4] = [0.5, 0.5, side, 1, 1, 1]
    decoder = FAMILIES["yolox"].check(specs({"output": output}), described(64, 32, 1))
    (frame,) = decoder.decode({"output": output}, [0.35])
    np.testing.assert_allclose(detections(frame, Thresholds()).confidence, [0.81], rtol=1e-5)


Shape = tuple[int | None, ...]


@pytest.mark.parametrize(
    ("family", "classes", "shapes", "says"),
    [
        ("yolo", 2, [(None, 125, 7)], r"\[batch, 126, 7\] as YOLOv5 has it for an input of 64x32.*125, 7.*input size"),
        ("yolo", 2, [(None, 42, 7)], "42, 7.*yolox"),
        ("yolo", 80, [(None, 300, 6)], "300, 6.*yolo-nms-free"),
        ("yolo", 1, [(None, 126, 7)], "1 class_names.*list"),
        ("yolo", 122, [(None, 126, 127)], "127 boxes without objectness and as 126 with it.*export"),
        ("yolo", 2, [(None, 6, 42), (None, 6, 42)], "first.*second.*yolov9"),
        ("yolov9", 2, [(None, 6, 42), (None, 6, 40)], "two of the same shape.*export"),
        ("yolov9", 2, [(None, 6, 42)] * 3, "two of the same shape.*third"),
        ("yolov9", 2, [(None, 6)], "one output"),
        ("yolov9", 3, [(None, 6, 42)] * 2, r"3 class_names.*\[batch, 7, boxes\].*list"),
        ("yolov9", 2, [(None, 126, 7)], r"\[batch, 6, boxes\]"),
        ("yolov9", 2, [(None, 1), (None, 100, 4), (None, 100), (None, 100)], "without NMS"),
        ("yolox", 2, [(None, 126, 7)], r"\[batch, 42, 7\].*64x32.*126, 7.*YOLOv5"),
        ("yolox", 2, [(None, 42, 6)], "2 class_names.*42, 6"),
        ("yolox", 2, [(None, 4, 8, 7), (None, 2, 4, 7), (None, 1, 2, 7)], "one output"),
    ],
)
def test_outputs_that_do_not_fit(family: str, classes: int, shapes: list[Shape], says: str) -> None:
    names = ["first", "second", "third", "fourth"]
    outputs = [TensorSpec(name, "float32", shape) for name, shape in zip(names, shapes, strict=False)]
    with pytest.raises(PackageError, match=says):
        FAMILIES[family].check(outputs, described(64, 32, classes))


def test_yolov9_whose_branches_changed_places() -> None:
    outputs = [TensorSpec(name, "float32", (None, 6, 42)) for name in ("2498", "output0")]
    with pytest.raises(PackageError, match=r"output0 is what the exporter calls the auxiliary one.*convert"):
        FAMILIES["yolov9"].check(outputs, described(64, 32, 2))

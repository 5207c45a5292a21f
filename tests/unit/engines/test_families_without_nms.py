"""YOLOv10 and YOLO26, RT-DETR and RF-DETR, from the model's outputs to detections, against plain references."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import PackageError
from engines.families import FAMILIES
from engines.families.decoder import Objects
from engines.postprocess import detections
from engines.types import Float32Array, TensorSpec, Thresholds
from tests.unit.engines.packages import described, specs
from tests.unit.engines.references import Found, assert_detects, confident, corners, sigmoid

SIZES = [(64, 32), (640, 640), (384, 672)]
CLASSES = [1, 2, 4, 80]
QUERIES = 60
LIMITS = [Thresholds(0.5, 0.0, 300), Thresholds(0.0, 0.0, 300), Thresholds(0.2, 0.0, 7)]
"""One a frame. An overlap of nothing would let nearly nothing stay, if boxes were suppressed."""


def _detect(
    family: str, outputs: dict[str, Float32Array], size: tuple[int, int], classes: int, expected: list[list[Found]]
) -> None:
    chosen = [confident(found, limits)[: limits.max_detections] for found, limits in zip(expected, LIMITS, strict=True)]
    for frame in assert_detects(family, outputs, size, classes, LIMITS, chosen):
        assert isinstance(frame, Objects)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("size", SIZES)
def test_yolo_nms_free_is_its_reference(size: tuple[int, int], classes: int) -> None:
    random = np.random.default_rng(classes)
    output = np.empty((len(LIMITS), QUERIES, 6), np.float32)
    output[..., :2] = random.random((len(LIMITS), QUERIES, 2)) * size
    output[..., 2:4] = output[..., :2] + random.uniform(-1, 40, (len(LIMITS), QUERIES, 2))
    output[..., 4] = random.random((len(LIMITS), QUERIES))
    output[..., 5] = random.integers(0, classes, (len(LIMITS), QUERIES))
    expected = [[Found(row[4], int(row[5]), tuple(row[:4])) for row in frame.tolist()] for frame in output]
    _detect("yolo-nms-free", {"output0": output}, size, classes, expected)


@pytest.mark.parametrize("class_id", [-1, 2, 1e9, np.nan])
@pytest.mark.filterwarnings("error")
def test_yolo_nms_free_drops_classes_without_a_name(class_id: float) -> None:
    output = np.array([[[0, 0, 9, 9, 0.9, class_id], [0, 0, 9, 9, 0.8, 1]]], np.float32)
    decoder = FAMILIES["yolo-nms-free"].check(specs({"output0": output}), described(64, 32, 2))
    (frame,) = decoder.decode({"output0": output}, [0.35])
    assert detections(frame, Thresholds()).class_id.tolist() == [1]


def _detr(logits: Float32Array, boxes: Float32Array, size: tuple[int, int], classes: int) -> list[Found]:
    """As RT-DETR and RF-DETR do it: the highest sigmoids of all queries and slots, as many as there are queries."""
    pairs = [
        (sigmoid(logit), slot, query) for query, row in enumerate(logits.tolist()) for slot, logit in enumerate(row)
    ]
    pairs.sort(key=lambda pair: -pair[0])
    found = []
    for score, slot, query in pairs[: len(logits)]:
        x, y, width, height = boxes[query].tolist()
        box = corners(x * size[0], y * size[1], width * size[0], height * size[1])
        if slot < classes:
            found.append(Found(score, slot, box))
    return found


def _queries(classes: int) -> tuple[Float32Array, Float32Array]:
    random = np.random.default_rng(classes)
    # So far apart that rounding doesn't change their order.
    logits = random.permuted(np.linspace([-6] * len(LIMITS), [3] * len(LIMITS), QUERIES * classes, axis=1), axis=1)
    boxes = random.uniform(0.1, 0.9, (len(LIMITS), QUERIES, 4))
    return logits.reshape(len(LIMITS), QUERIES, classes).astype(np.float32), boxes.astype(np.float32)


@pytest.mark.parametrize("names", [("pred_logits", "pred_boxes"), ("logits", "pred_boxes")])
@pytest.mark.parametrize("boxes_first", [False, True])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("size", SIZES)
def test_rtdetr_is_its_reference(
    size: tuple[int, int], classes: int, boxes_first: bool, names: tuple[str, str]
) -> None:
    logits, boxes = _queries(classes)
    outputs = dict(zip(names, (logits, boxes), strict=True))
    if boxes_first:
        outputs = dict(reversed(outputs.items()))
    expected = [_detr(*frame, size, classes) for frame in zip(logits, boxes, strict=True)]
    _detect("rtdetr", outputs, size, classes, expected)


@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("classes", [*CLASSES, 91])
@pytest.mark.parametrize("size", SIZES)
def test_rfdetr_is_its_reference(size: tuple[int, int], classes: int, background: int) -> None:
    logits, boxes = _queries(classes + background)
    expected = [_detr(*frame, size, classes) for frame in zip(logits, boxes, strict=True)]
    _detect("rfdetr", {"dets": boxes, "labels": logits}, size, classes, expected)


@pytest.mark.filterwarnings("error")
def test_a_query_may_be_of_two_classes() -> None:
    logits = np.array([[[3, 2, -3], [-200, -300, -400]]], np.float32)
    boxes = np.full((1, 2, 4), 0.5, np.float32)
    outputs = {"pred_logits": logits, "pred_boxes": boxes}
    (frame,) = FAMILIES["rtdetr"].check(specs(outputs), described(64, 32, 3)).decode(outputs, [0.35])
    found = detections(frame, Thresholds())
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.xyxy, [[16, 8, 48, 24]] * 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_no_objects(value: float) -> None:
    logits = np.array([[[value], [2]]], np.float32)
    outputs = {"dets": np.full((1, 2, 4), 0.5, np.float32), "labels": logits}
    (frame,) = FAMILIES["rfdetr"].check(specs(outputs), described(64, 32, 1)).decode(outputs, [0.0])
    np.testing.assert_allclose(detections(frame, Thresholds(confidence=0)).confidence, [sigmoid(2)], rtol=1e-5)


Shape = tuple[int | None, ...]


@pytest.mark.parametrize(
    ("family", "classes", "outputs", "says"),
    [
        ("yolo-nms-free", 2, {"output0": (None, 6, 8400)}, "objects, 6.*output0.*8400.*yolo"),
        ("yolo-nms-free", 2, {"output0": (None, 300, 38)}, "objects, 6.*300, 38"),
        ("yolo-nms-free", 2, {"a": (None, 300, 6), "b": (None, 300, 6)}, "one output.*a float32.*b float32"),
        ("yolo-nms-free", 2, {"output0": (None, 42, 6)}, "42, 6.*each cell.*2 classes.*yolox"),
        ("yolo-nms-free", 1, {"output0": (None, 126, 6)}, "126, 6.*each cell"),
        ("rtdetr", 2, {"labels": (None, 300), "boxes": (None, 300, 4), "scores": (None, 300)}, "without its post-proc"),
        ("rtdetr", 2, {"output0": (None, 300, 6)}, "two outputs"),
        ("rtdetr", 2, {"pred_logits": (None, 300, 2), "pred_boxes": (None, 299, 4)}, "two outputs"),
        ("rtdetr", 3, {"pred_logits": (None, 300, 2), "pred_boxes": (None, 300, 4)}, "3 class_names.*2 classes.*list"),
        ("rtdetr", 2, {"scores": (None, 300, 2), "boxes": (None, 300, 4)}, "scores.*sigmoid.*pred_logits"),
        ("rtdetr", 4, {"a": (None, 300, 4), "b": (None, 300, 4)}, "don't tell.*pred_boxes"),
        ("rtdetr", 2, {"logits": (None, 300, 2), "pred_boxes": (None, 300, 5)}, "don't tell"),
        ("rfdetr", 2, {"pred_logits": (None, 300, 2), "pred_boxes": (None, 300, 4)}, "dets.*labels.*pred_logits"),
        ("rfdetr", 2, {"dets": (None, 300, 4), "labels": (None, 300, 2), "masks": (None, 300, 9, 9)}, "segmentation"),
        ("rfdetr", 2, {"dets": (None, 300, 4), "labels": (None, 200, 2)}, "two outputs"),
        ("rfdetr", 2, {"dets": (None, 300, 5), "labels": (None, 300, 2)}, "two outputs"),
        ("rfdetr", 2, {"dets": (None, 300, 4), "labels": (None, 300, 4)}, "2 class_names.*4 slots.*background"),
        ("rfdetr", 90, {"dets": (None, 300, 4), "labels": (None, 300, 91)}, "90 class_names.*91 slots.*unused.*list"),
        ("rfdetr", 80, {"dets": (None, 300, 4), "labels": (None, 300, 91)}, "80 class_names.*list 91"),
    ],
)
def test_outputs_that_do_not_fit(family: str, classes: int, outputs: dict[str, Shape], says: str) -> None:
    with pytest.raises(PackageError, match=says):
        FAMILIES[family].check(
            [TensorSpec(name, "float32", shape) for name, shape in outputs.items()], described(64, 32, classes)
        )

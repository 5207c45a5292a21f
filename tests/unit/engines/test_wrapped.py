"""Packages whose network is wrapped: what loads, how the rest is refused, and what an engine makes of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engines.errors import PackageError
from engines.families.decoder import Candidates, Labelled
from engines.families.wrapped import Wrapped
from engines.onnx import OnnxEngine
from engines.package import load_package
from engines.postprocess import detections
from engines.types import TensorSpec, Thresholds, UInt8Array
from tests.unit.engines.packages import HEIGHT, WIDTH, constant, manifest, write

TOP_K = 3
BUILT = {"precision": "fp32", "top_k": TOP_K, "max_batch": 2, "suppress": True}
BOXES = np.array([[[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]]], np.float32)
Shape = list[int | str]


def _built(**changes: Any) -> dict[str, Any]:
    return manifest(input__name="frames", built={**BUILT, **changes})


def _wrapped(dtype: int = TensorProto.UINT8, frames: Shape | None = None) -> onnx.ModelProto:
    """Three boxes that overlap, of the classes 0, 0 and 1, scored by the frame's first, second and third channel."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["channels"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["channels", "white"], ["scores"]),
        helper.make_node("Mul", ["scores", "nought"], ["blank"]),
        helper.make_node("Cast", ["blank"], ["first"], to=TensorProto.INT32),
        helper.make_node("Add", ["first", "labels"], ["classes"]),
        helper.make_node("Unsqueeze", ["blank", "last"], ["blanks"]),
        helper.make_node("Add", ["blanks", "corners"], ["boxes"]),
    ]
    constants = [
        constant("white", np.array([255], np.float32)),
        constant("nought", np.array([0], np.float32)),
        constant("labels", np.array([[0, 0, 1]], np.int32)),
        constant("last", np.array([2], np.int64)),
        constant("corners", BOXES),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", TOP_K, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", TOP_K]),
        helper.make_tensor_value_info("classes", TensorProto.INT32, ["batch", TOP_K]),
    ]
    shape = frames or ["batch", HEIGHT, WIDTH, 3]
    graph = helper.make_graph(
        nodes, "wrapped", [helper.make_tensor_value_info("frames", dtype, shape)], outputs, constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _frame(*channels: int) -> UInt8Array:
    return np.full((HEIGHT, WIDTH, 3), channels, np.uint8)


@pytest.mark.parametrize(("suppress", "classes"), [(True, [0, 1]), (False, [0, 0, 1])])
def test_an_engine_feeds_frames_as_they_are(tmp_path: Path, suppress: bool, classes: list[int]) -> None:
    package = load_package(write(tmp_path, _wrapped(), _built(suppress=suppress)))
    engine = OnnxEngine(package, max_batch_size=8)
    assert (package.batch, engine.info.max_batch_size) == (None, 2)
    engine.warmup()
    frames = [_frame(204, 153, 102), _frame(0, 0, 255)]
    several, one = engine.infer(frames, [Thresholds(confidence=0.3)] * 2)
    assert several.class_id.tolist() == classes
    np.testing.assert_allclose(several.confidence[[0, -1]], [0.8, 0.4])
    assert (one.class_id.tolist(), one.confidence.tolist()) == ([1], [1.0])
    assert one.xyxy.tolist() == [[0, 0, 10, 10]]


@pytest.mark.parametrize(
    ("graph", "content", "says"),
    [
        (_wrapped(), manifest(input__name="frames"), "frames uint8.*must be float32"),
        (_wrapped(), manifest(built=BUILT), "with the input 'images'.*frames uint8.*build the package again"),
        (_wrapped(), _built(top_k=4), r"top_k 4.*boxes float32 \[\?, 4, 4\].*boxes float32 \[\?, 3, 4\].*build"),
        (_wrapped(frames=[1, HEIGHT, WIDTH, 3]), _built(), r"built.*frames uint8 \[1, 32, 64, 3\].*build"),
        (_wrapped(frames=["batch", 3, HEIGHT, WIDTH]), _built(), r"built.*frames uint8 \[\?, 3, 32, 64\].*build"),
        (_wrapped(TensorProto.FLOAT), _built(), r"built.*frames float32 \[\?, 32, 64, 3\].*build"),
        (_wrapped(), _built(precision="int8"), "built.precision.*'fp16' or 'fp32'.*'int8'.*mend"),
        (_wrapped(), _built(top_k=0), "built.top_k.*got 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, graph: onnx.ModelProto, content: dict[str, Any], says: str
) -> None:
    with pytest.raises(PackageError) as caught:
        load_package(write(tmp_path, graph, content))
    assert re.search(says, str(caught.value))
    assert "\n" not in str(caught.value)


def test_classes_without_a_name_and_frames_beyond_the_batch_are_dropped() -> None:
    outputs = {
        "boxes": np.repeat(BOXES, 2, axis=0),
        "scores": np.full((2, TOP_K), 0.5, np.float32),
        "classes": np.array([[-1, 1, 2], [0, 1, 1]], np.int32),
    }
    (frame,) = Wrapped(classes=2, suppress=False).decode(outputs, [0.5])
    assert frame.class_id.tolist() == [1]
    np.testing.assert_array_equal(frame.boxes, BOXES[0, 1:2])


def test_without_built_it_is_no_wrapped_network(tmp_path: Path) -> None:
    plain = load_package(write(tmp_path, _wrapped(), _built())).manifest.model_copy(update={"built": None})
    with pytest.raises(PackageError, match="doesn't say built"):
        Wrapped.check([TensorSpec("boxes", "float32", (None, TOP_K, 4))], plain)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0.1, 0.5]), st.sampled_from([0.2, 0.6]))
def test_candidates_of_one_class_are_chosen_as_those_of_many(seed: int, count: int, floor: float, iou: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-5, 40, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(-1, 20, (count, 2))], axis=1).astype(np.float32)
    scores = random.uniform(0, 1, (count, 3)).astype(np.float32)
    limits = Thresholds(floor, iou, 20)
    labelled = Labelled(boxes, scores.max(axis=1, initial=0), scores.argmax(axis=1).astype(np.int32))
    found, expected = detections(labelled, limits), detections(Candidates(boxes, scores), limits)
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    np.testing.assert_array_equal(found.class_id, expected.class_id)
    assert found.class_id.dtype == np.int32

"""Decoders, against references that go row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import PackageError
from engines.families import FAMILIES
from engines.families.decoder import Candidates
from engines.types import Float32Array, TensorSpec
from tests.unit.engines.packages import described, specs

STRIDES = (8, 16)
BINS = 5


def _nanodet_outputs(width: int, height: int, classes: int, seed: int) -> dict[str, Float32Array]:
    random = np.random.default_rng(seed)
    outputs: dict[str, Float32Array] = {}
    for stride in STRIDES:
        cells = math.ceil(width / stride) * math.ceil(height / stride)
        outputs[f"reg_s{stride}"] = random.normal(0, 4, (2, cells, 4 * BINS)).astype(np.float32)
        outputs[f"cls_s{stride}"] = random.random((2, cells, classes)).astype(np.float32)
    return outputs


def _nanodet_reference(outputs: dict[str, Float32Array], frame: int, width: int, floor: float) -> list[list[float]]:
    rows = []
    for stride in STRIDES:
        columns = math.ceil(width / stride)
        logits, scores = outputs[f"reg_s{stride}"][frame].tolist(), outputs[f"cls_s{stride}"][frame].tolist()
        for cell, row_scores in enumerate(scores):
            if max(row_scores) < floor:
                continue
            distances = []
            for side in range(4):
                weights = [math.exp(value) for value in logits[cell][side * BINS : (side + 1) * BINS]]
                distances.append(stride * sum(bin * weight for bin, weight in enumerate(weights)) / sum(weights))
            x, y = (cell % columns + 0.5) * stride, (cell // columns + 0.5) * stride
            rows.append([x - distances[0], y - distances[1], x + distances[2], y + distances[3], *row_scores])
    return rows


@settings(max_examples=25)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(1, 5), st.integers(0, 1000), st.floats(0, 1, width=32))
def test_nanodet_is_the_reference(width: int, height: int, classes: int, seed: int, floor: float) -> None:
    outputs = _nanodet_outputs(width, height, classes, seed)
    decoder = FAMILIES["nanodet"].check(specs(outputs), described(width, height, classes))
    for frame, candidates in enumerate(decoder.decode(outputs, [floor, 0.0])):
        assert isinstance(candidates, Candidates)
        expected = _nanodet_reference(outputs, frame, width, [floor, 0.0][frame])
        table = np.concatenate(candidates, axis=1)
        np.testing.assert_allclose(table, np.array(expected).reshape(-1, 4 + classes), rtol=1e-4, atol=1e-3)
        assert candidates.boxes.dtype == candidates.scores.dtype == np.float32


def test_nanodet_with_enormous_logits_stays_finite() -> None:
    outputs = _nanodet_outputs(32, 32, 2, 0)
    outputs["reg_s8"] *= np.float32(1e4)
    decoder = FAMILIES["nanodet"].check(specs(outputs), described(32, 32, 2))
    assert all(np.isfinite(frame.boxes).all() for frame in decoder.decode(outputs, [0.0, 0.0]))


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("reg_s8", (None, 15, 20), "reg_s8.*16 cells"),
        ("cls_s8", (None, 16, 3), "2 class_names.*3 classes"),
        ("reg_s16", (None, 4, 18), "4 sides"),
        ("reg_s16", (None, 4, 4), "4 sides"),
        ("cls_s16", (None, 4), "4 cells"),
        ("extra", (None, 4, 4), "no other.*extra"),
        ("cls_s32", (None, 1, 2), "reg_s<stride>.*cls_s32"),
    ],
)
def test_nanodet_refuses_other_outputs(name: str, shape: tuple[int | None, ...], says: str) -> None:
    by_name = {spec.name: spec for spec in specs(_nanodet_outputs(32, 32, 2, 0))}
    by_name[name] = TensorSpec(name, "float32", shape)
    with pytest.raises(PackageError, match=says):
        FAMILIES["nanodet"].check(list(by_name.values()), described(32, 32, 2))


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 1000), st.floats(0, 1, width=32))
def test_yolo_is_the_reference(classes: int, boxes: int, seed: int, floor: float) -> None:
    output = np.random.default_rng(seed).random((2, 4 + classes, boxes)).astype(np.float32)
    output[:, :4] *= 100
    outputs = {"output0": output}
    decoder = FAMILIES["yolo"].check(specs(outputs), described(64, 32, classes))
    for frame, candidates in enumerate(decoder.decode(outputs, [floor, 0.0])):
        assert isinstance(candidates, Candidates)
        expected = []
        for column in range(boxes):
            x, y, width, height, *scores = output[frame, :, column].tolist()
            if max(scores) >= [floor, 0.0][frame]:
                expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2, *scores])
        table = np.concatenate(candidates, axis=1)
        np.testing.assert_allclose(table, np.array(expected).reshape(-1, 4 + classes), rtol=1e-5, atol=1e-4)
        assert candidates.boxes.dtype == candidates.scores.dtype == np.float32


@pytest.mark.parametrize("shape", [(None, 7, 40), (None, 40, 6), (None, 40, 7), (None, 6)])
def test_yolo_refuses_other_outputs(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(PackageError, match="output0"):
        FAMILIES["yolo"].check([TensorSpec("output0", "float32", shape)], described(64, 32, 2))

"""Precision, recall and F1 against confidence, and precision against recall.

The definitions are those that YOLO's validation scripts have in common, at an IoU of 0.5: per class, detections by
falling confidence, right and wrong ones summed up, the results read off at 1,000 confidences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

IOU = 0.5
POINTS = 1000
GRID: Float64Array = np.linspace(0, 1, POINTS)
"""The confidences, and the recalls, at which curves are read off."""

_EPSILON = 1e-16
_RECALLS: Float64Array = np.linspace(0, 1, 101)
_SMOOTHING = 0.1


class Judged(NamedTuple):
    """Detections of all frames: float ``[N]`` confidences, bool ``[N]`` right or wrong, int ``[N]`` categories."""

    confidence: Float64Array
    right: NDArray[np.bool_]
    category: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Curves:
    """Float64 ``[C, 1000]`` each, a row for each category that has objects; on `GRID`.

    Attributes:
        categories: int ``[C]``, which category a row is of.
        precision, recall, f1: against confidence.
        precision_at_recall: the PR curve.
        area: float ``[C]``, under the PR curve, of 101 recalls: AP50 by this definition.
    """

    categories: NDArray[np.intp]
    precision: Float64Array
    recall: Float64Array
    f1: Float64Array
    precision_at_recall: Float64Array
    area: Float64Array

    @property
    def operating_point(self) -> int:
        """Index into `GRID` of the confidence with the best class-mean F1, smoothed over a tenth of the curve."""
        return int(smooth(self.f1.mean(axis=0), _SMOOTHING).argmax())


def draw_curves(judged: Judged, objects: NDArray[np.intp]) -> Curves:
    """Make the curves of ``objects``, int ``[categories]``: how many there are of each.

    Detections of a category without objects are left out, and a category that has none detected has nothing but zeros.
    Those of equal confidence count as one step, so that their order doesn't matter.
    """
    categories = np.flatnonzero(objects)
    rows = [_one(judged, int(category), int(objects[category])) for category in categories]
    precision, recall, at_recall, area = (np.array(part, np.float64) for part in zip(*rows, strict=True))
    f1 = 2 * precision * recall / (precision + recall + _EPSILON)
    return Curves(categories, precision, recall, f1, at_recall, area)


def smooth(curve: Float64Array, share: float) -> Float64Array:
    """The running mean over ``share`` of the curve; its ends are carried on beyond it."""
    half = round(len(curve) * share) // 2
    padded = np.concatenate([np.full(half, curve[0]), curve, np.full(half, curve[-1])])
    return np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")


def _one(judged: Judged, category: int, objects: int) -> tuple[Float64Array, Float64Array, Float64Array, float]:
    mine = judged.category == category
    if not mine.any():
        nothing = np.zeros(POINTS)
        return nothing, nothing, nothing, 0.0
    confidence, right = judged.confidence[mine], judged.right[mine]
    order = np.argsort(-confidence, kind="stable")
    confidence, found = confidence[order], np.cumsum(right[order])
    steps = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))
    confidence, found = confidence[steps], found[steps]
    recall, precision = found / objects, found / (steps + 1)
    # np.interp wants rising abscissae: confidence falls, so both are negated. Above the highest confidence nothing is
    # found (recall 0), and nothing of it is wrong (precision 1).
    at_confidence = (
        np.interp(-GRID, -confidence, precision, left=1),
        np.interp(-GRID, -confidence, recall, left=0),
    )
    ends_recall = np.concatenate([[0], recall, [1]])
    envelope = np.maximum.accumulate(np.concatenate([[1], precision, [0]])[::-1])[::-1]
    area = np.trapezoid(np.interp(_RECALLS, ends_recall, envelope), _RECALLS)
    return *at_confidence, np.interp(GRID, ends_recall, envelope), float(area)

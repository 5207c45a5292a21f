"""Which detections of a frame are which of its known objects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.types import Float32Array, Int32Array


class Pairs(NamedTuple):
    """Rows that belong to each other, no row twice; float64 overlaps. By falling overlap."""

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    iou: NDArray[np.float64]


def overlaps(left: Float32Array, right: Float32Array) -> NDArray[np.float64]:
    """Intersection over union of each pair of boxes ``[N, 4]`` and ``[M, 4]`` (left, top, right, bottom), ``[N, M]``.

    Two boxes without area have none.
    """
    first, second = left.astype(np.float64)[:, None], right.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    inner = np.prod(np.maximum(sides, 0), axis=2)
    union = (
        np.prod(first[..., 2:] - first[..., :2], axis=2) + np.prod(second[..., 2:] - second[..., :2], axis=2) - inner
    )
    iou: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return iou


def pair(left: Float32Array, left_class: Int32Array, right: Float32Array, right_class: Int32Array, iou: float) -> Pairs:
    """Pair boxes of the same class that overlap by at least ``iou``, the closest first, each box once.

    Of equal overlaps the one of the lower rows wins. This is how detectors' own validation scripts tell right from
    wrong; COCO instead lets the more confident detection choose first.
    """
    each = overlaps(left, right)
    each[left_class[:, None] != right_class[None]] = -1
    rows, columns = np.nonzero(each >= iou)
    values = each[rows, columns]
    order = np.argsort(-values, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    # Greedy: a pair stands if neither of its rows is taken by one before it.
    taken_left, taken_right = np.zeros(len(left), np.bool_), np.zeros(len(right), np.bool_)
    kept = np.zeros(len(rows), np.bool_)
    for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
        if not taken_left[row] and not taken_right[column]:
            taken_left[row] = taken_right[column] = kept[index] = True
    return Pairs(rows[kept], columns[kept], values[kept])

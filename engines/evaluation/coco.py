"""COCO's measures, by faster-coco-eval, and results in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.classes import NO_CATEGORY
from engines.evaluation.labels import Annotation, Labels
from engines.types import Detections, Int32Array

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers of COCO, in its order: s, m and l are objects below 32 x 32, below 96 x 96, and larger ones."""


class Result(TypedDict):
    """One detection as COCO's results files have it: left, top, width, height in pixels."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True, slots=True)
class CocoScores:
    """What COCO says of results; None where there are no objects that it could be said of.

    Attributes:
        stats: `STATS`, by name.
        by_category: AP and AP50 by the category's name.
    """

    stats: dict[str, float | None]
    by_category: dict[str, tuple[float | None, float | None]]


def coco_results(labels: Labels, detections: Sequence[Detections], category_of_class: Int32Array) -> list[Result]:
    """Write detections, one of each picture, as COCO does: a thousandth of a pixel, and scores to five places.

    What is measured is what stands here, so that others who read the file come to the same numbers. Detections of
    classes that the data set doesn't know are left out.
    """
    ids = [category.id for category in labels.categories]
    results: list[Result] = []
    for picture, found in zip(labels.images, detections, strict=True):
        corners = found.xyxy.astype(np.float64)
        sizes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(3).tolist()
        scores = found.confidence.astype(np.float64).round(5).tolist()
        for box, score, category in zip(sizes, scores, category_of_class[found.class_id].tolist(), strict=True):
            if category != NO_CATEGORY:
                results.append({"image_id": picture.id, "category_id": ids[category], "bbox": box, "score": score})
    return results


def coco_scores(labels: Labels, results: Sequence[Result]) -> CocoScores:
    """Measure results by labels: ten IoUs from 0.5 to 0.95, at most 100 detections an image and category."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_document(labels))
    # It adds fields to the results that it is given.
    found = truth.loadRes([{**result} for result in results])
    measured = COCOeval_faster(truth, found, iouType="bbox")
    measured.run()
    stats = {name: _known(value) for name, value in zip(STATS, measured.all_stats, strict=False)}
    precision = np.asarray(measured.eval["precision"])  # [IoUs, recalls, categories, sizes, numbers of detections]
    by_id = {
        category: (_mean(precision[:, :, index, 0, -1]), _mean(precision[0, :, index, 0, -1]))
        for index, category in enumerate(measured.params.catIds)
    }
    return CocoScores(stats, {category.name: by_id[category.id] for category in labels.categories})


def _document(labels: Labels) -> dict[str, Any]:
    return {
        "images": [{"id": each.id} for each in labels.images],
        "categories": [{"id": each.id, "name": each.name} for each in labels.categories],
        # COCO's code takes an object of id 0 for none.
        "annotations": [_annotation(number, each) for number, each in enumerate(labels.annotations, 1)],
    }


def _annotation(number: int, annotation: Annotation) -> dict[str, Any]:
    width, height = annotation.bbox[2:]
    return {
        "id": number,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "bbox": list(annotation.bbox),
        "area": width * height if annotation.area is None else annotation.area,
        "iscrowd": int(annotation.iscrowd),
    }


def _known(value: float) -> float | None:
    return None if value < 0 else float(value)


def _mean(precision: NDArray[np.float64]) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if len(known) else None

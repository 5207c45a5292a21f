"""How right packages are on a labelled data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import EvaluationError
from engines.evaluation.classes import NO_CATEGORY, category_of_class
from engines.evaluation.coco import CocoScores, Result, coco_results, coco_scores
from engines.evaluation.contenders import Contender
from engines.evaluation.curves import IOU, Curves, Judged, draw_curves
from engines.evaluation.dataset import Dataset
from engines.evaluation.labels import Category, Labels
from engines.evaluation.matching import pair
from engines.evaluation.run import detect
from engines.types import Detections, Int32Array

Progress = Callable[[str, int | None], Callable[[int], None]]
"""Begins to show a task of so many frames, if that is known; what it returns is told of those that are done."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What was measured of one package.

    Attributes:
        device: where it ran.
        scores, curves: two views of ``results``; see `coco_scores` and `draw_curves`.
        unjudged: detections of classes that the data set doesn't know, which were left out.
    """

    label: str
    device: str
    results: list[Result]
    scores: CocoScores
    curves: Curves
    unjudged: int

    @property
    def ap(self) -> float:
        """COCO's AP."""
        return self.scores.stats["AP"] or 0.0


def measure_accuracy(packages: Sequence[Contender], dataset: Dataset, progress: Progress) -> list[Accuracy]:
    """Run each package over all pictures and measure it.

    Raises:
        EvaluationError: the classes of a package don't fit, before any runs; a picture can't be read.
        EngineError: an engine can't be loaded, or failed.
    """
    maps = [fitting(package, dataset.labels.categories) for package in packages]
    return [_measure(package, dataset, classes, progress) for package, classes in zip(packages, maps, strict=True)]


def fitting(package: Contender, categories: Sequence[Category]) -> Int32Array:
    """`category_of_class` of a package; an error names it."""
    try:
        return category_of_class(categories, package.class_names)
    except EvaluationError as error:
        raise EvaluationError(f"model package {package.label}: {error}") from error


def judge(labels: Labels, detections: Sequence[Detections], category_of_class: Int32Array) -> Judged:
    """Tell right from wrong detections, picture by picture, as `pair` does; crowds are no objects here."""
    truths = _objects(labels)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    confidence, right, category = [], [], []
    for picture, found in zip(labels.images, detections, strict=True):
        categories = category_of_class[found.class_id]
        hit = np.zeros(len(found), np.bool_)
        hit[pair(found.xyxy, categories, *truths.get(picture.id, none), IOU).left] = True
        known = categories != NO_CATEGORY
        confidence.append(found.confidence[known].astype(np.float64))
        right.append(hit[known])
        category.append(categories[known])
    return Judged(np.concatenate(confidence), np.concatenate(right), np.concatenate(category))


def _measure(package: Contender, dataset: Dataset, classes: Int32Array, progress: Progress) -> Accuracy:
    labels = dataset.labels
    with closing(package.open()) as engine:
        found = list(detect(engine, dataset.frames(), progress(package.label, len(labels.images))))
        device = engine.info.device
    results = coco_results(labels, found, classes)
    curves = draw_curves(judge(labels, found, classes), _counts(labels))
    unjudged = sum(map(len, found)) - len(results)
    return Accuracy(package.label, device, results, coco_scores(labels, results), curves, unjudged)


def _objects(labels: Labels) -> dict[int, tuple[NDArray[np.float32], Int32Array]]:
    places = {category.id: place for place, category in enumerate(labels.categories)}
    boxes: dict[int, list[tuple[float, float, float, float]]] = {}
    kinds: dict[int, list[int]] = {}
    for each in labels.annotations:
        if not each.iscrowd:
            left, top, width, height = each.bbox
            boxes.setdefault(each.image_id, []).append((left, top, left + width, top + height))
            kinds.setdefault(each.image_id, []).append(places[each.category_id])
    return {image: (np.array(boxes[image], np.float32), np.array(kinds[image], np.int32)) for image in boxes}


def _counts(labels: Labels) -> NDArray[np.intp]:
    places = {category.id: place for place, category in enumerate(labels.categories)}
    real = [places[each.category_id] for each in labels.annotations if not each.iscrowd]
    return np.bincount(real, minlength=len(places))

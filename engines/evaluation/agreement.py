"""How far packages agree with another one, the reference, on frames that nobody has labelled.

What the reference finds at a confidence that counts is taken for the truth. Of the other package, detections of a tenth
of that are looked at too, so that an object whose confidence only slips isn't taken for missing: it counts as faint.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.errors import EvaluationError
from engines.evaluation.accuracy import Progress, fitting
from engines.evaluation.classes import NO_CATEGORY
from engines.evaluation.coco import coco_results, coco_scores
from engines.evaluation.contenders import Contender
from engines.evaluation.frames import Footage
from engines.evaluation.labels import Annotation, Category, Labels, Picture
from engines.evaluation.matching import pair
from engines.evaluation.run import THRESHOLDS, detect
from engines.types import Detections, Int32Array

Float64Array = NDArray[np.float64]

IOU = 0.5
FAINT = 0.1
"""The share of the confidence that counts from which on the other package's detections are looked at.

Those below hardly move an AP, and would fill the memory.
"""


@dataclass(frozen=True, slots=True)
class Pairing:
    """The reference's objects of all frames and what the other package made of them; arrays are ``[pairs]``.

    Attributes:
        category: int32, place among the reference's classes.
        distance: float64, mean over the four sides of a box of how far they are apart, in pixels of the frame.
        farthest: float64, the same of the side that is farthest off.
        reference_score, score: float64, confidences of the two.
        objects: int ``[classes]``, how many the reference found.
        extra: int ``[classes]``, detections at the confidence that counts that are none of the reference's.
    """

    category: Int32Array
    distance: Float64Array
    farthest: Float64Array
    reference_score: Float64Array
    score: Float64Array
    objects: NDArray[np.intp]
    extra: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was measured of one package against the reference.

    Attributes:
        agreement: COCO's AP50 with the reference's objects as the labels: 1 where the same objects come out first.
        strict: the same over the IoUs from 0.5 to 0.95, which boxes must fit closely for.
        by_class: ``agreement`` by class; None for one that the reference hasn't found.
    """

    label: str
    device: str
    reference_device: str
    frames: int
    confidence: float
    class_names: tuple[str, ...]
    agreement: float
    strict: float
    by_class: dict[str, float | None]
    pairing: Pairing


def measure_agreement(
    packages: Sequence[Contender], reference: Contender, footage: Footage, confidence: float, progress: Progress
) -> list[Agreement]:
    """Run the reference and then each package over all frames.

    Args:
        confidence: from which on a detection of the reference is an object.

    Raises:
        EvaluationError: the classes of a package don't fit, before any runs; a frame can't be read; the reference finds
            nothing.
        EngineError: an engine can't be loaded, or failed.
    """
    categories = tuple(Category(id=index, name=name) for index, name in enumerate(reference.class_names, 1))
    maps = [_classes(package, reference, categories) for package in packages]
    truth, device = _run(reference, footage, confidence, progress)
    if not any(map(len, truth)):
        raise EvaluationError(
            f"{reference.label} finds nothing above a confidence of {confidence} in {footage.path}; "
            "lower --confidence or take other frames"
        )
    labels = _labelled(categories, truth)
    compared = []
    for package, classes in zip(packages, maps, strict=True):
        theirs, their_device = _run(package, footage, FAINT * confidence, progress)
        scores = coco_scores(labels, coco_results(labels, theirs, classes))
        compared.append(
            Agreement(
                label=package.label,
                device=their_device,
                reference_device=device,
                frames=len(truth),
                confidence=confidence,
                class_names=reference.class_names,
                agreement=scores.stats["AP50"] or 0.0,
                strict=scores.stats["AP"] or 0.0,
                by_class={name: ap50 for name, (_, ap50) in scores.by_category.items()},
                pairing=pair_all(truth, theirs, classes, confidence, len(categories)),
            )
        )
    return compared


def pair_all(
    truth: Sequence[Detections],
    theirs: Sequence[Detections],
    category_of_class: Int32Array,
    confidence: float,
    categories: int,
) -> Pairing:
    """Pair objects and detections of each frame, as `pair` does, at an IoU of 0.5."""
    parts: list[tuple[Int32Array, Float64Array, Float64Array, Float64Array]] = []
    objects, extra = np.zeros(categories, np.intp), np.zeros(categories, np.intp)
    for mine, other in zip(truth, theirs, strict=True):
        kinds = category_of_class[other.class_id]
        rows, columns, _ = pair(mine.xyxy, mine.class_id, other.xyxy, kinds, IOU)
        apart = np.abs(mine.xyxy[rows].astype(np.float64) - other.xyxy[columns])
        scores = mine.confidence[rows].astype(np.float64), other.confidence[columns].astype(np.float64)
        parts.append((mine.class_id[rows], apart, *scores))
        objects += np.bincount(mine.class_id, minlength=categories)
        alone = (other.confidence >= confidence) & (kinds != NO_CATEGORY)
        alone[columns] = False
        extra += np.bincount(kinds[alone], minlength=categories)
    category, apart, reference_score, score = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Pairing(category, apart.mean(axis=1), apart.max(axis=1, initial=0), reference_score, score, objects, extra)


def _classes(package: Contender, reference: Contender, categories: Sequence[Category]) -> Int32Array:
    # Names may be there twice, as COCO's gaps are in 91 classes: alike lists need no looking up.
    if package.class_names == reference.class_names:
        return np.arange(len(categories), dtype=np.int32)
    return fitting(package, categories)


def _run(package: Contender, footage: Footage, confidence: float, progress: Progress) -> tuple[list[Detections], str]:
    thresholds = replace(THRESHOLDS, confidence=confidence)
    with closing(package.open()) as engine:
        advance = progress(package.label, footage.count)
        return list(detect(engine, footage.frames(), advance, thresholds)), engine.info.device


def _labelled(categories: tuple[Category, ...], truth: Sequence[Detections]) -> Labels:
    """The reference's objects as labels; COCO's measures of boxes don't look at a picture's size."""
    images = tuple(Picture(id=number, file_name="frame", width=1, height=1) for number in range(len(truth)))
    annotations = tuple(
        Annotation(id=0, image_id=number, category_id=categories[kind].id, bbox=(left, top, right - left, bottom - top))
        for number, found in enumerate(truth)
        for (left, top, right, bottom), kind in zip(found.xyxy.tolist(), found.class_id.tolist(), strict=True)
    )
    return Labels(images=images, categories=categories, annotations=annotations)

"""Measurements as plain data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.accuracy import Accuracy
from engines.evaluation.agreement import FAINT, Agreement
from engines.evaluation.curves import GRID, Curves
from engines.evaluation.dataset import Dataset
from engines.evaluation.frames import Footage
from engines.evaluation.run import THRESHOLDS

_SETTINGS = {
    "confidence": THRESHOLDS.confidence,
    "iou": THRESHOLDS.iou,
    "max_detections": THRESHOLDS.max_detections,
    "classes_per_box": 1,
}


def accuracy_report(measured: Sequence[Accuracy], dataset: Dataset) -> dict[str, Any]:
    """What ``evaluation.json`` holds."""
    names = [category.name for category in dataset.labels.categories]
    return {
        "dataset": {
            "annotations": str(dataset.annotations),
            "images": len(dataset.labels.images),
            "objects": sum(not each.iscrowd for each in dataset.labels.annotations),
            "crowds": sum(each.iscrowd for each in dataset.labels.annotations),
            "categories": len(names),
        },
        "detection": _SETTINGS,
        "packages": [_accuracy(each, names) for each in measured],
    }


def curves_report(measured: Sequence[Accuracy]) -> dict[str, Any]:
    """What ``curves.json`` holds: means over the categories, to five places."""
    return {
        "grid": _rounded(GRID),
        "packages": [{"package": each.label, **_lines(each.curves)} for each in measured],
    }


def agreement_report(measured: Sequence[Agreement], reference: str, footage: Footage) -> dict[str, Any]:
    """What ``agreement.json`` holds."""
    return {
        "frames_from": str(footage.path),
        "frames": measured[0].frames,
        "reference": {"package": reference, "device": measured[0].reference_device},
        "confidence": measured[0].confidence,
        "detection": {**_SETTINGS, "confidence": FAINT * measured[0].confidence},
        "packages": [_agreement(each) for each in measured],
    }


def _accuracy(each: Accuracy, names: Sequence[str]) -> dict[str, Any]:
    curves, best = each.curves, each.curves.operating_point
    return {
        "package": each.label,
        "device": each.device,
        "detections": len(each.results),
        "of_unknown_classes": each.unjudged,
        "coco": each.scores.stats,
        "by_class": {name: {"AP": ap, "AP50": ap50} for name, (ap, ap50) in each.scores.by_category.items()},
        "at_best_f1": {
            "confidence": float(GRID[best]),
            "precision": float(curves.precision[:, best].mean()),
            "recall": float(curves.recall[:, best].mean()),
            "f1": float(curves.f1[:, best].mean()),
            "by_class": {
                names[category]: {
                    "precision": float(curves.precision[row, best]),
                    "recall": float(curves.recall[row, best]),
                    "f1": float(curves.f1[row, best]),
                }
                for row, category in enumerate(curves.categories)
            },
        },
        "area_under_pr": float(curves.area.mean()),
    }


def _lines(curves: Curves) -> dict[str, list[float]]:
    return {
        "precision_by_confidence": _rounded(curves.precision.mean(axis=0)),
        "recall_by_confidence": _rounded(curves.recall.mean(axis=0)),
        "f1_by_confidence": _rounded(curves.f1.mean(axis=0)),
        "precision_by_recall": _rounded(curves.precision_at_recall.mean(axis=0)),
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


@dataclass(frozen=True, slots=True)
class Compared:
    """A package beside the reference, in all or in one class; None where nothing was paired.

    Attributes:
        matched: of the reference's objects, those that the package finds at the confidence that counts.
        faint: those that it finds below that.
        missing: those that it doesn't find.
        extra: its detections at the confidence that counts that are none of the reference's objects.
        distance_mean, distance_max: of matched and faint boxes, in pixels; see `Pairing`.
        score_mean, score_max: how far the confidences of matched and faint ones are apart.
    """

    objects: int
    matched: int
    faint: int
    missing: int
    extra: int
    distance_mean: float | None
    distance_max: float | None
    score_mean: float | None
    score_max: float | None


def compare(each: Agreement, place: int | None = None) -> Compared:
    """Sum up one class of the reference, or all of them."""
    pairing = each.pairing
    rows = np.ones(len(pairing.category), np.bool_) if place is None else pairing.category == place
    chosen = slice(None) if place is None else slice(place, place + 1)
    objects, paired = int(pairing.objects[chosen].sum()), int(rows.sum())
    matched = int((pairing.score[rows] >= each.confidence).sum())
    apart = np.abs(pairing.score[rows] - pairing.reference_score[rows])
    return Compared(
        objects=objects,
        matched=matched,
        faint=paired - matched,
        missing=objects - paired,
        extra=int(pairing.extra[chosen].sum()),
        distance_mean=float(pairing.distance[rows].mean()) if paired else None,
        distance_max=float(pairing.farthest[rows].max()) if paired else None,
        score_mean=float(apart.mean()) if paired else None,
        score_max=float(apart.max()) if paired else None,
    )


def _agreement(each: Agreement) -> dict[str, Any]:
    pairing = each.pairing
    return {
        "package": each.label,
        "device": each.device,
        "agreement": each.agreement,
        "agreement_50_95": each.strict,
        **_described(compare(each)),
        "by_class": {
            name: {"agreement": each.by_class[name], **_described(compare(each, place))}
            for place, name in enumerate(each.class_names)
            if pairing.objects[place] or pairing.extra[place]
        },
    }


def _described(compared: Compared) -> dict[str, Any]:
    return {
        "objects": compared.objects,
        "matched": compared.matched,
        "matched_share": compared.matched / compared.objects if compared.objects else None,
        "faint": compared.faint,
        "missing": compared.missing,
        "extra": compared.extra,
        "box_distance_px": _range(compared.distance_mean, compared.distance_max),
        "score_difference": _range(compared.score_mean, compared.score_max),
    }


def _range(mean: float | None, largest: float | None) -> dict[str, float] | None:
    return None if mean is None or largest is None else {"mean": mean, "max": largest}

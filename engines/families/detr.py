"""DETR models: a fixed number of queries, each with a box and a logit for each class, without NMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from engines.errors import PackageError
from engines.families.boxes import from_centres, listed, other_classes
from engines.families.decoder import Objects
from engines.manifest import Manifest, ManifestInput
from engines.types import Float32Array, TensorSpec

_BOX = 4
_COCO_SLOTS = 91


@dataclass(frozen=True, slots=True)
class _Detr:
    """Decodes boxes ``[B, Q, 4]``, centre x, y, width, height as parts of the input, and logits ``[B, Q, S]``.

    A pair of a query and a class is an object: of all pairs, the Q with the highest sigmoids, as in the models' own
    post-processing. Slots from ``classes`` on are no classes.
    """

    boxes: str
    logits: str
    classes: int
    size: Float32Array

    def decode(self, outputs: Mapping[str, Float32Array], floors: Sequence[float]) -> list[Objects]:
        """Decode a batch; see `Decoder.decode`."""
        frames = []
        for boxes, logits, floor in zip(outputs[self.boxes], outputs[self.logits], floors, strict=False):
            scores = _sigmoid(logits).ravel()
            # An infinite logit makes a fine sigmoid, but comes of a model gone wrong.
            pairs = np.flatnonzero((scores >= floor) & np.isfinite(logits.ravel()))
            if len(pairs) > len(boxes):
                pairs = pairs[np.argsort(-scores[pairs], kind="stable")[: len(boxes)]]
            queries, slots = np.divmod(pairs, logits.shape[1])
            named = slots < self.classes
            queries, slots, pairs = queries[named], slots[named], pairs[named]
            frames.append(Objects(from_centres(boxes[queries] * self.size), scores[pairs], slots.astype(np.int32)))
        return frames


class RtDetr(_Detr):
    """RT-DETR and D-FINE without their post-processing: logits of each class, and boxes.

    With it they take a second input, the sizes that frames had, and give boxes in pixels of those: another layout.
    """

    __slots__ = ()

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        seen, classes = listed(outputs), len(manifest.class_names)
        if len(outputs) != 2 or not _fit(outputs):
            raise PackageError(
                "an rtdetr model has two outputs, logits [batch, queries, classes] and boxes [batch, queries, 4], but "
                f"this one has {seen}; export it without its post-processing, which gives labels, boxes and scores"
            )
        boxes = [output for output in outputs if output.shape[2] == _BOX]
        if len(boxes) == 2:  # four classes
            boxes = [output for output in outputs if "box" in output.name.lower()]
        if len(boxes) != 1:
            raise PackageError(
                f"the outputs {seen} don't tell which are the boxes of an rtdetr model; "
                "export them as pred_logits and pred_boxes"
            )
        logits = next(output for output in outputs if output is not boxes[0])
        if "score" in logits.name.lower() or "prob" in logits.name.lower():
            raise PackageError(
                f"an rtdetr model gives logits, but {logits} is named as if a sigmoid were applied; "
                "export what comes before it, as pred_logits"
            )
        if logits.shape[2] != classes:
            raise other_classes(logits, classes)
        return cls(boxes[0].name, logits.name, classes, _size(manifest.input))


class RfDetr(_Detr):
    """RF-DETR: ``dets``, the boxes, and ``labels``, logits of each class and mostly of a background after them."""

    __slots__ = ()

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        by_name, classes = {output.name: output for output in outputs}, len(manifest.class_names)
        if set(by_name) != {"dets", "labels"} or not _fit(outputs) or by_name["dets"].shape[2] != _BOX:
            raise PackageError(
                "an rfdetr model has two outputs, dets [batch, queries, 4] and labels [batch, queries, classes], but "
                f"this one has {listed(outputs)}; export a model for detection, not for segmentation, with those names"
            )
        labels = by_name["labels"]
        slots = labels.shape[2]
        if slots == _COCO_SLOTS != classes:
            raise PackageError(
                f"manifest.json lists {classes} class_names, but {labels} has {_COCO_SLOTS} slots, as models of COCO "
                f"have, whose first is unused; list {_COCO_SLOTS} names, one for each slot, unused ones included"
            )
        if slots not in (classes, classes + 1):
            raise PackageError(
                f"manifest.json lists {classes} class_names, but {labels} has {slots} slots; list one name for each, "
                "in the model's order, and none for the background at the end"
            )
        return cls("dets", "labels", classes, _size(manifest.input))


def _fit(outputs: Sequence[TensorSpec]) -> bool:
    """Whether all are of the same queries."""
    return all(len(output.shape) == 3 for output in outputs) and len({output.shape[1] for output in outputs}) == 1


def _size(size: ManifestInput) -> Float32Array:
    return np.array([size.width, size.height] * 2, np.float32)


def _sigmoid(logits: Float32Array) -> Float32Array:
    with np.errstate(over="ignore"):
        return np.reciprocal(np.exp(-logits) + np.float32(1))

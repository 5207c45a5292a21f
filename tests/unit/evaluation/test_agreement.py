"""Two packages on frames without labels: what one finds is what the other is held to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engines.errors import EvaluationError
from engines.evaluation.agreement import Agreement, measure_agreement, pair_all
from engines.evaluation.contenders import Contender
from engines.evaluation.frames import Footage, Frame
from engines.evaluation.gates import disagreements
from engines.evaluation.reports import compare
from engines.evaluation.studies import study_agreement
from engines.fake import FakeEngine
from engines.types import Detections, Thresholds, UInt8Array
from tests.unit.evaluation.generated import HEIGHT, WIDTH, fake, silent

NAMES = ("bright", "dim")


class Off(FakeEngine):
    """A `FakeEngine` whose boxes and confidences are off by so much, and which may miss the left half."""

    def __init__(self, pixels: float = 0, score: float = 0, blind_left: bool = False) -> None:
        super().__init__(width=WIDTH, height=HEIGHT, class_names=NAMES)
        self._off = pixels, score
        self._blind_left = blind_left

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        """Find, and err."""
        pixels, score = self._off
        found = [
            Detections(each.xyxy + np.float32(pixels), each.confidence - np.float32(score), each.class_id)
            for each in super().infer(frames, thresholds)
        ]
        blind = self._blind_left
        return [Detections.empty() if blind and len(e) and e.xyxy[0, 0] < WIDTH / 2 else e for e in found]


def picture(index: int) -> UInt8Array:
    """A square of 40 pixels on the left or the right, of a confidence of 0.8; every fifth is dark."""
    canvas = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
    if index % 5:
        left = 20 + index if index % 2 else 200 + index
        canvas[50:90, left : left + 40] = 204
    return canvas


def footage(count: int = 20) -> Footage:
    """That many frames, each fifth of them dark."""
    return Footage(Path("made-up"), count, lambda: (Frame(str(x), partial(picture, x)) for x in range(count)))


def off(label: str, pixels: float = 0, score: float = 0, blind_left: bool = False) -> Contender:
    """An `Off` that takes part."""
    return Contender(label, Path(label), NAMES, lambda: Off(pixels, score, blind_left))


def measured(package: Contender, confidence: float = 0.5) -> Agreement:
    """Against one that errs not."""
    (found,) = measure_agreement([package], off("reference"), footage(), confidence, silent)
    return found


def test_a_package_agrees_with_itself() -> None:
    found = measured(off("same"))
    assert (found.agreement, found.strict, found.frames) == (pytest.approx(1), pytest.approx(1), 20)
    whole = compare(found)
    assert (whole.objects, whole.matched, whole.faint, whole.missing, whole.extra) == (16, 16, 0, 0, 0)
    assert (whole.distance_mean, whole.distance_max, whole.score_mean, whole.score_max) == (0, 0, 0, 0)
    assert found.by_class == {"bright": pytest.approx(1), "dim": None}


def test_distances_are_pixels_and_score_differences_are_told() -> None:
    found = measured(off("shifted", pixels=3, score=0.1))
    whole = compare(found)
    assert whole.distance_mean == pytest.approx(3)
    assert whole.distance_max == pytest.approx(3)
    assert whole.score_mean == pytest.approx(0.1, abs=1e-6)
    assert found.agreement == pytest.approx(1)
    assert found.strict < 0.9  # an IoU of 37 * 37 of 40 * 40 + ... is none of 0.8


def test_what_slips_below_the_confidence_is_faint_and_no_loss_of_agreement() -> None:
    found = measured(off("faint", score=0.4))
    whole = compare(found)
    assert (whole.matched, whole.faint, whole.missing, whole.extra) == (0, 16, 0, 0)
    assert found.agreement == pytest.approx(1)


def test_what_is_missed_costs_agreement_and_what_is_far_off_is_extra() -> None:
    blind = compare(measured(off("blind", blind_left=True)))
    assert (blind.matched, blind.missing, blind.extra) == (8, 8, 0)
    assert measured(off("blind", blind_left=True)).agreement == pytest.approx(0.5, abs=0.01)
    away = measured(off("away", pixels=30))
    assert (compare(away).matched, compare(away).missing, compare(away).extra) == (0, 16, 16)
    assert away.agreement == 0
    assert compare(away).distance_mean is None


def test_classes_are_compared_by_name_and_each_on_its_own() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    truth = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 1], np.int32))
    other = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([2, 0, 2], np.int32))
    pairing = pair_all([truth], [other], np.array([1, -1, 0], np.int32), 0.5, 2)
    assert pairing.category.tolist() == [0, 1]
    assert pairing.objects.tolist() == [1, 2]
    assert pairing.extra.tolist() == [1, 0]
    found = replace(measured(off("any")), pairing=pairing, class_names=NAMES)
    assert (compare(found, 1).objects, compare(found, 1).matched, compare(found, 1).missing) == (2, 1, 1)


def test_packages_of_other_classes_and_a_reference_that_finds_nothing_are_refused() -> None:
    with pytest.raises(EvaluationError, match="model package fake: 1 of 2 categories are no class of the package: dim"):
        measured(fake())
    with pytest.raises(EvaluationError, match=r"reference finds nothing above a confidence of 0\.9 in made-up; lower"):
        measured(off("any"), 0.9)


def test_the_gate_names_who_agrees_too_little() -> None:
    good, bad = measured(off("good")), measured(off("bad", blind_left=True))
    assert disagreements([good], 1.0) == []
    assert disagreements([good, bad], 0.99) == [f"agreement of bad is {bad.agreement:.4f}; 0.99 are asked for"]


def test_a_study_leaves_json_and_a_picture_of_each_package(tmp_path: Path) -> None:
    packages = [off("one", 1), off("two/fp16", 2, blind_left=True)]
    study_agreement(packages, off("reference"), footage(), 0.5, tmp_path / "out", "raysight x", silent)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "agreement-one.png",
        "agreement-two-fp16.png",
        "agreement.json",
    ]
    report = json.loads((tmp_path / "out" / "agreement.json").read_bytes())
    assert report["command"] == "raysight x"
    assert report["hardware"]["cores"] >= 1
    assert {"python", "numpy", "onnxruntime"} <= set(report["versions"])
    assert report["reference"] == {"package": "reference", "device": "cpu"}
    first, second = report["packages"]
    assert first["matched_share"] == 1
    assert first["box_distance_px"] == {"mean": pytest.approx(1), "max": pytest.approx(1)}
    assert second["by_class"]["bright"]["missing"] == 8
    assert "dim" not in second["by_class"]

"""The committed figures of tracking quality hold: a change that costs some is seen here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tracking.measure import CASES, Tracked, case, metrics
from benchmarks.tracking.scene import SceneFrame, scene
from engines.types import Detections

BASELINE = json.loads((Path(__file__).parents[3] / "benchmarks/results/tracking.json").read_text())["cases"]

TOLERANCE = 0.02
"""Of each figure: floating point differs between CPUs, and one other match changes what follows."""


@pytest.mark.parametrize("name", [pytest.param("every_frame", marks=pytest.mark.long), "every_third_frame"])
def test_as_good_as_the_committed_baseline(name: str) -> None:
    found = case(CASES[name])
    for figure in ("mota", "idf1", "hota"):
        assert found[figure] == pytest.approx(BASELINE[name][figure], abs=TOLERANCE), figure


def test_the_baseline_has_all_cases() -> None:
    assert BASELINE.keys() == CASES.keys()


def test_who_gives_the_truth_is_perfect_and_who_mixes_two_up_is_not() -> None:
    """The metrics themselves, by hand: two people, ten frames, numbers exchanged after five."""
    boxes = np.array([[0, 0, 10, 20], [50, 0, 60, 20]], np.float32)
    frames = [SceneFrame(at / 25, np.array([0, 1]), boxes, Detections.empty()) for at in range(10)]
    right = [Tracked(np.array([7, 8]), boxes)] * 10
    assert metrics(frames, right) == pytest.approx({"mota": 1.0, "idf1": 1.0, "hota": 1.0, "id_switches": 0})
    mixed = [*right[:5], *[Tracked(np.array([8, 7]), boxes)] * 5]
    # 20 boxes, 2 switches; ids match half of them; association 5 / (10 + 10 - 5) for all.
    expected = {"mota": 0.9, "idf1": 0.5, "hota": (1 / 3) ** 0.5, "id_switches": 2}
    assert metrics(frames, mixed) == pytest.approx(expected)


def test_a_scene_is_the_same_each_time_and_hard() -> None:
    one, again, other = scene(5, 60, 6), scene(5, 60, 6), scene(6, 60, 6)
    assert all(np.array_equal(a.found.xyxy, b.found.xyxy) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a.found.xyxy, b.found.xyxy) for a, b in zip(one, other, strict=True))

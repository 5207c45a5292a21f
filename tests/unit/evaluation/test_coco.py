"""COCO's measures are those of pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engines.evaluation.classes import category_of_class
from engines.evaluation.coco import STATS, coco_results, coco_scores
from engines.evaluation.dataset import open_dataset
from engines.evaluation.labels import parse_labels
from engines.evaluation.studies import study_accuracy
from engines.types import Detections
from tests.unit.evaluation.generated import bright_rectangles, document, erring, fake, silent


def official(labels: dict[str, Any], results: list[Any]) -> COCOeval:
    """What pycocotools measures."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(labels)
        truth.createIndex()
        measured = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return measured


def same(stats: dict[str, float | None], wanted: COCOeval) -> None:
    """All twelve, to a millionth; pycocotools says -1 for none."""
    ours = [-1 if stats[name] is None else stats[name] for name in STATS]
    np.testing.assert_allclose(np.array(ours, float), wanted.stats, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_twelve_numbers_are_those_of_pycocotools(seed: int) -> None:
    labels = document(300, seed)
    results = erring(labels, seed)
    assert any(each["iscrowd"] for each in labels["annotations"])
    empty = {image["id"] for image in labels["images"]} - {each["image_id"] for each in labels["annotations"]}
    assert len(empty) > 30
    assert empty & {each["image_id"] for each in results}
    scores = coco_scores(parse_labels(json.dumps(labels).encode()), results)
    wanted = official(labels, results)
    same(scores.stats, wanted)
    assert 0.2 < (scores.stats["AP"] or 0) < 0.9
    precision = wanted.eval["precision"][:, :, :, 0, -1]
    for place, category in enumerate(labels["categories"]):
        ap, ap50 = scores.by_category[category["name"]]
        assert ap == pytest.approx(precision[:, :, place].mean(), abs=1e-6)
        assert ap50 == pytest.approx(precision[0, :, place].mean(), abs=1e-6)


def test_more_than_a_hundred_detections_count_as_pycocotools_counts_them() -> None:
    labels = document(3, 4)
    results = [{**each, "score": 0.5 + index / 1000} for index in range(130) for each in erring(labels, index)[:6]]
    same(coco_scores(parse_labels(json.dumps(labels).encode()), results).stats, official(labels, results))


def test_what_has_no_objects_has_no_score() -> None:
    labels = document(40, 6)
    labels["annotations"] = [each for each in labels["annotations"] if each["category_id"] == 1 and each["area"] > 9216]
    scores = coco_scores(parse_labels(json.dumps(labels).encode()), erring(labels, 6))
    assert scores.by_category["car"] == (None, None)
    assert scores.stats["APs"] is None
    same(scores.stats, official(labels, erring(labels, 6)))


def test_nothing_found_is_an_ap_of_nought() -> None:
    scores = coco_scores(parse_labels(json.dumps(document(10, 7)).encode()), [])
    assert scores.stats["AP"] == 0.0


def test_an_annotation_of_id_0_can_be_found() -> None:
    labels = document(5, 8)
    perfect = [
        {**{key: each[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
        for each in labels["annotations"]
        if not each["iscrowd"]
    ]
    labels["annotations"] = [{**each, "id": number} for number, each in enumerate(labels["annotations"])]
    assert coco_scores(parse_labels(json.dumps(labels).encode()), perfect).stats["AP"] == pytest.approx(1)


def test_results_have_the_data_sets_ids_and_leave_out_what_it_does_not_know() -> None:
    labels = parse_labels(json.dumps(document(1, 1)).encode())
    found = Detections(
        np.array([[1, 2, 4, 8.25], [0, 0, 9, 9], [5, 5, 6, 7]], np.float32),
        np.array([0.9, 0.8, 0.123456], np.float32),
        np.array([3, 0, 1], np.int32),
    )
    mapped = category_of_class(labels.categories, ("zebra", "car", "stop sign", "person"))
    assert coco_results(labels, [found], mapped) == [
        {"image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 6.25], "score": 0.9},
        {"image_id": 1, "category_id": 3, "bbox": [5.0, 5.0, 1.0, 2.0], "score": 0.12346},
    ]


def test_pictures_run_through_an_engine_score_as_pycocotools_says_of_the_file_that_is_written(tmp_path: Path) -> None:
    dataset = open_dataset(bright_rectangles(tmp_path / "set", 80))
    study_accuracy([fake(max_batch_size=3)], dataset, tmp_path / "out", "raysight", silent)
    labels = json.loads(dataset.annotations.read_bytes())
    results = json.loads((tmp_path / "out" / "results-fake.json").read_bytes())
    (package,) = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())["packages"]
    assert len(results) == 64
    same(package["coco"], official(labels, results))
    assert 0.3 < package["coco"]["AP"] < 0.95

"""A whole evaluation, by packages that ONNX Runtime runs and by the command itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.errors import EvaluationError
from engines.evaluation.accuracy import measure_accuracy
from engines.evaluation.contenders import Contender, contenders, distinct
from engines.evaluation.dataset import open_dataset
from engines.evaluation.gates import ap_drops
from engines.evaluation.output import staged
from engines.evaluation.studies import study_accuracy
from serve_app.cli.app import main
from tests.unit.engines.packages import HEIGHT, WIDTH, fixed_model, manifest, write
from tests.unit.evaluation.generated import bright_rectangles, fake, silent

OBJECTS = np.array([[16, 16, 8, 8], [40, 20, 10, 6]], np.float32)
"""Centre x, centre y, width, height; one of each class."""

PNG = b"\x89PNG\r\n\x1a\n"

Run = Callable[..., tuple[int, str, str]]


def package(folder: Path, name: str, shift: float = 0, classes: tuple[str, ...] = ("first", "second")) -> Path:
    """A package that finds `OBJECTS` in every frame, so many pixels too far to the right, and one that isn't there."""
    boxes = np.concatenate([OBJECTS + np.array([shift, 0, 0, 0]), [[10, 26, 5, 5]]]).astype(np.float32)
    scores = np.array([[0.9, 0, 0.3], [0, 0.8, 0]], np.float32)
    output = np.concatenate([boxes.T, scores])[None].astype(np.float32)
    return write(folder, fixed_model({"output0": output}), manifest(name=name, class_names=list(classes)))


def dataset(folder: Path, images: int = 6) -> Path:
    """Pictures with one of each object, of the model's own size."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    pictures, annotations = [], []
    for image in range(1, images + 1):
        cv2.imwrite(str(folder / "images" / f"{image}.png"), np.full((HEIGHT, WIDTH, 3), 40 * image, np.uint8))
        pictures.append({"id": image, "file_name": f"{image}.png", "width": WIDTH, "height": HEIGHT})
        for kind, (x, y, width, height) in enumerate(OBJECTS.tolist(), 1):
            box = [x - width / 2, y - height / 2, width, height]
            number = len(annotations) + 1
            annotations.append({"id": number, "image_id": image, "category_id": kind, "bbox": box, "iscrowd": 0})
    categories = [{"id": 1, "name": "First"}, {"id": 2, "name": "second"}]
    labels = {"images": pictures, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_mine.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture
def raysight(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line: exit status, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raysight", "engine", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_packages_are_measured_side_by_side(raysight: Run, tmp_path: Path) -> None:
    good, worse = package(tmp_path / "fp32", "good"), package(tmp_path / "fp16", "worse", shift=1)
    out = tmp_path / "results" / "deep"
    code, shown, progress = raysight(good, worse, "--dataset", dataset(tmp_path / "set"), "--output", out)
    assert code == 0
    assert "good" in shown
    assert "1.0000" in shown
    assert "worse" in progress
    files = {path.name for path in out.iterdir()}
    plots = {"precision.png", "recall.png", "f1.png", "pr.png", "ap.png"}
    assert files == {*plots, "evaluation.json", "curves.json", "results-good.json", "results-worse.json"}
    assert all((out / name).read_bytes().startswith(PNG) for name in plots)
    report = json.loads((out / "evaluation.json").read_bytes())
    assert report["dataset"]["objects"] == 12
    assert report["command"].startswith("raysight engine evaluate ")
    assert {"python", "raysight", "onnxruntime"} <= set(report["versions"])
    first, second = report["packages"]
    assert first["coco"]["AP"] == pytest.approx(1)
    # Shifted by one pixel, 8 wide: an IoU of 7/9, right up to 0.75. 10 wide: 9/11, right up to 0.8.
    assert second["by_class"] == {
        "First": {"AP": pytest.approx(0.6), "AP50": pytest.approx(1)},
        "second": {"AP": pytest.approx(0.7), "AP50": pytest.approx(1)},
    }
    # The third box of the first class is wrong, and of a confidence of 0.3; from there precision is read off in a
    # straight line up to 1 at 0.9, the confidence of the next.
    assert 0.6 < first["at_best_f1"]["confidence"] <= 0.9
    assert 0.95 < first["at_best_f1"]["f1"] <= 1
    curves = json.loads((out / "curves.json").read_bytes())
    assert len(curves["packages"][1]["f1_by_confidence"]) == len(curves["grid"]) == 1000
    assert curves["packages"][0]["precision_by_confidence"][100] == pytest.approx((1 / 2 + 1) / 2)


def test_the_gate_exits_with_1_and_says_which(raysight: Run, tmp_path: Path) -> None:
    good, worse = package(tmp_path / "fp32", "good"), package(tmp_path / "fp16", "worse", shift=1)
    same, data = package(tmp_path / "other", "same"), dataset(tmp_path / "set")
    told = raysight(good, same, worse, "--dataset", data, "--output", tmp_path / "a", "--max-ap-drop", 0.002)
    assert told[0] == 1
    assert told[2].splitlines()[-1] == (
        "raysight: AP of worse is 0.6500, 0.3500 below that of good (1.0000); allowed are 0.002"
    )
    assert (tmp_path / "a" / "evaluation.json").exists()
    assert raysight(good, same, "--dataset", data, "--output", tmp_path / "b", "--max-ap-drop", 0)[0] == 0
    assert raysight(worse, good, "--dataset", data, "--output", tmp_path / "c", "--max-ap-drop", 0)[0] == 0
    assert raysight(good, worse, "--dataset", data, "--output", tmp_path / "d", "--max-ap-drop", 0.36)[0] == 0


def test_packages_are_held_to_another_on_pictures_and_on_a_video(
    raysight: Run, tmp_path: Path, street_clip: Path
) -> None:
    good, worse = package(tmp_path / "fp32", "model"), package(tmp_path / "fp16", "model", shift=1)
    pictures = dataset(tmp_path / "set") / "images"
    gate = ("--min-agreement", 0.999)
    code, shown, _ = raysight(worse, "--against", good, "--images", pictures, "--output", tmp_path / "a", *gate)
    assert code == 0
    assert "fp16" in shown  # both manifests say "model"
    report = json.loads((tmp_path / "a" / "agreement.json").read_bytes())
    assert (report["frames"], report["reference"]["package"]) == (6, "fp32")
    assert report["packages"][0]["box_distance_px"] == {"mean": pytest.approx(1 / 3), "max": pytest.approx(1)}
    assert (tmp_path / "a" / "agreement-fp16.png").read_bytes().startswith(PNG)
    far = package(tmp_path / "far", "far", shift=20)
    words = ("--against", good, "--images", street_clip, "--limit", 4, "--output", tmp_path / "b", *gate)
    code, _, err = raysight(far, *words)
    assert code == 1
    assert "raysight: agreement of far is 0.1" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --dataset, or --against and --images"),
        (("--against", "fp32"), "give --dataset, or --against and --images"),
        (
            ("--dataset", "set", "--images", "set/images"),
            "--images can't go with an evaluation by labels; leave it out",
        ),
        (("--dataset", "set", "--confidence", "0.5"), "--confidence can't go with an evaluation by labels"),
        (("--against", "fp32", "--images", "set/images", "--max-ap-drop", "0"), "--max-ap-drop can't go with"),
        (("--dataset", "set", "--max-ap-drop", "0"), "--max-ap-drop compares packages with the first; name at least"),
        (("../here/good", "--dataset", "set"), "model package good is given twice; name each once"),
        (("--against", "./good", "--images", "set/images"), "model package good is given twice; name each once"),
        (("gone", "--dataset", "set"), "model package gone: there is no such folder"),
        (("other", "--dataset", "set"), "model package strange: 1 of 2 categories are no class of the package: second"),
        (("--dataset", "set", "--output", "set"), "output set exists; name a new folder with --output"),
        (("--dataset", "set", "--output", "set/images/1.png"), "output set/images/1.png exists"),
        (("--dataset", "set", "--output", "set/images/1.png/x"), "can't write output set/images/1.png/x (Not a dir"),
        (("--dataset", "broken"), "isn't JSON ("),
        (("--dataset", "cut"), "cut/images/2.png does not decode; replace it"),
        (("--dataset", "set", "--device", "cuda"), "this ONNX Runtime has only"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    raysight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    package(here / "good", "good")
    package(here / "fp32", "reference")
    package(here / "other", "strange", classes=("first", "third"))
    for name in ("set", "broken", "cut"):
        dataset(here / name)
    (here / "broken" / "annotations" / "instances_mine.json").write_text('{"images": [}')
    (here / "cut" / "images" / "2.png").write_bytes((here / "cut" / "images" / "2.png").read_bytes()[:40])
    before = {path for path in here.rglob("*") if "__pycache__" not in path.parts}
    code, out, err = raysight("good", *words)
    assert (code, out) == (2, "")
    # A progress bar may have been there before.
    assert err.splitlines()[-1].startswith("raysight: ")
    assert message in err.splitlines()[-1]
    assert {path for path in here.rglob("*") if "__pycache__" not in path.parts} == before


def test_an_output_folder_may_be_there_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
        assert not any((tmp_path / "out").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "x"


def test_an_engine_that_fails_leaves_no_output(tmp_path: Path) -> None:
    data = open_dataset(bright_rectangles(tmp_path / "set", 4))
    lost = fake()
    broken = Contender("broken", Path("broken"), ("bright",), lambda: _dead(lost.open()))
    with pytest.raises(Exception, match="is closed"):
        study_accuracy([fake(), broken], data, tmp_path / "out", "raysight", silent)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def _dead(engine: Any) -> Any:
    engine.close()
    return engine


def test_all_packages_are_checked_before_the_first_runs(tmp_path: Path) -> None:
    data = open_dataset(bright_rectangles(tmp_path / "set", 4))
    opened: list[str] = []
    first = Contender("first", Path("a"), ("bright",), lambda: opened.append("first"))  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="model package second: 1 of 1 categories are no class"):
        measure_accuracy([first, fake("second", class_names=("dark",))], data, silent)
    assert not opened


def test_labels_tell_packages_apart(tmp_path: Path) -> None:
    one, two = package(tmp_path / "a" / "fp16", "x"), package(tmp_path / "b" / "fp16", "x")
    three = package(tmp_path / "b" / "fp32", "y")
    assert [each.label for each in contenders([one, three], ("cpu",))] == ["x", "y"]
    assert [each.label for each in contenders([two, package(tmp_path / "b" / "c", "x")], ("cpu",))] == ["fp16", "c"]
    assert [each.label for each in distinct(contenders([one, two], ("cpu",)))] == [str(one), str(two)]


def test_equal_aps_pass_any_gate(tmp_path: Path) -> None:
    data = open_dataset(bright_rectangles(tmp_path / "set", 10))
    measured = measure_accuracy([fake("a"), fake("b", max_batch_size=3)], data, silent)
    assert ap_drops(measured, 0) == []
    assert [each.label for each in measured] == ["a", "b"]
    assert measured[0].unjudged == 0


def test_what_is_not_installed_is_named(raysight: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    code, _, err = raysight("any", "--dataset", "any")
    assert code == 2
    assert err == "raysight: faster_coco_eval can't be imported; pip install 'raysight[evaluate]'\n"


def test_help_tells_of_both_ways(raysight: Run) -> None:
    code, shown, _ = raysight("--help")
    assert code == 0
    assert all(option in shown for option in ("--dataset", "--max-ap-drop", "--against", "--min-agreement"))

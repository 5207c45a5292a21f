"""Model packages: what loads, and how the rest is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.errors import PackageError
from engines.models import DEFAULT_PACKAGE
from engines.package import load_package
from tests.unit.engines.packages import (
    HEIGHT,
    WIDTH,
    Shape,
    bright_model,
    constant,
    fixed_model,
    manifest,
    model,
    write,
)


def test_the_shipped_package_loads() -> None:
    package = load_package(DEFAULT_PACKAGE)
    assert package.manifest.name == "nanodet-g-416"
    assert len(set(package.manifest.class_names)) == 80
    assert package.batch is None
    assert package.model_path.is_file()


@pytest.mark.parametrize(("batch", "seen"), [("batch", None), (1, 1)])
def test_batch_is_read_from_the_model(tmp_path: Path, batch: int | str, seen: int | None) -> None:
    assert load_package(write(tmp_path, bright_model(batch), manifest())).batch == seen


def test_output_sizes_that_the_file_leaves_open_are_found_out(tmp_path: Path) -> None:
    open_sizes = bright_model(output=["batch", "rows", "boxes"], images=["batch", 3, "height", "width"])
    package = load_package(write(tmp_path, open_sizes, manifest()))
    assert [output.shape for output in package.outputs] == [(None, 6, 2)]


def test_output_sizes_that_the_file_leaves_open_are_checked(tmp_path: Path) -> None:
    folder = write(tmp_path, bright_model(output=["batch", "rows", "boxes"]), manifest(class_names=["first"]))
    with pytest.raises(PackageError, match="1 class_names"):
        load_package(folder)


def _refusal(folder: Path) -> str:
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (manifest(input__name="pixels"), r"'pixels'.*images float32 \[\?, 3, 32, 64\].*put"),
        (manifest(input__width=96), r"width 96.*images float32 \[\?, 3, 32, 64\].*export"),
        (manifest(class_names=["only"]), r"1 class_names.*\[\?, 6, 2\].*list"),
        (manifest(class_names=["a", "b", "c"]), r"3 class_names.*\[\?, 6, 2\].*list"),
        (manifest(family="ssd"), "'ssd'.*nanodet, rfdetr, rtdetr, yolo, yolo-nms-free, yolov9, yolox"),
        (manifest(family="nanodet"), "cls_s<stride>.*output0.*export"),
        (manifest(colour="bgr"), "colour.*not permitted.*'bgr'.*mend"),
        (manifest(input__std=[1, 0, 1]), "input.std.1.*greater than 0.*mend"),
        (manifest(input__mean=[0, float("nan"), 0]), "input.mean.1.*finite.*mend"),
        (manifest(input__pad=300), "input.pad.*255.*300"),
        ({"name": "x"}, "family.*required"),
        ([], "the whole file"),
    ],
)
def test_manifest_that_does_not_fit(tmp_path: Path, content: dict[str, object], says: str) -> None:
    assert re.search(says, _refusal(write(tmp_path, bright_model(), content)))


@pytest.mark.parametrize("shape", [["batch", 2, 6], ["batch", 2, 7]])
def test_yolo_output_with_boxes_first(tmp_path: Path, shape: Shape) -> None:
    sizes = constant("sizes", np.array([-1, *shape[1:]], np.int64))
    graph = model([helper.make_node("Reshape", ["images", "sizes"], ["output0"])], [sizes], {"output0": shape})
    assert re.search("boxes first.*export", _refusal(write(tmp_path, graph, manifest())))


@pytest.mark.parametrize(
    ("dtype", "batch", "says"),
    [
        (TensorProto.FLOAT16, "batch", "float16.*must be float32"),
        (TensorProto.FLOAT, 4, "fixed batch.*dynamic"),
    ],
)
def test_input_of_another_kind(tmp_path: Path, dtype: int, batch: int | str, says: str) -> None:
    shape: Shape = [batch, 3, HEIGHT, WIDTH]
    graph = model([helper.make_node("Identity", ["images"], ["output0"])], [], {"output0": shape}, shape, dtype)
    assert re.search(says, _refusal(write(tmp_path, graph, manifest())))


def test_yolo_model_with_two_outputs(tmp_path: Path) -> None:
    graph = bright_model()
    graph.graph.node.append(helper.make_node("Identity", ["output0"], ["output1"]))
    graph.graph.output.append(helper.make_tensor_value_info("output1", TensorProto.FLOAT, ["batch", 6, 2]))
    assert re.search("one output.*output0.*output1.*export", _refusal(write(tmp_path, graph, manifest())))


def test_rtdetr_with_its_post_processing(tmp_path: Path) -> None:
    """It asks for the sizes of the frames, and gives boxes in pixels of them."""
    graph = fixed_model({name: np.zeros((1, 300, 4), np.float32) for name in ("labels", "boxes", "scores")})
    folder = write(tmp_path, graph, manifest(family="rtdetr"))
    assert re.search("this one has labels.*without its post-processing", _refusal(folder))
    graph.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    assert re.search("inputs are images.*orig_target_sizes.*export", _refusal(write(tmp_path, graph, manifest())))


def _cut_model(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing; add"),
        (lambda folder: (folder / "manifest.json").unlink(), "can't read manifest.json.*add"),
        (lambda folder: (folder / "manifest.json").write_text("{\n"), "isn't JSON.*line 2.*mend"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\xfd"), "isn't JSON"),
        (_cut_model, "can't load model.onnx.*export"),
    ],
)
def test_files_missing_or_broken(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    folder = write(tmp_path, bright_model(), manifest())
    spoil(folder)
    assert re.search(says, _refusal(folder))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 224, "height": 224}, "width 224"),
        ({"name": "input"}, "'input'.*images"),
    ],
)
def test_shipped_model_with_another_input(tmp_path: Path, change: dict[str, object], says: str) -> None:
    content = json.loads((DEFAULT_PACKAGE / "manifest.json").read_text())
    content["input"].update(change)
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    (tmp_path / "model.onnx").symlink_to(DEFAULT_PACKAGE / "model.onnx")
    assert re.search(says, _refusal(tmp_path))

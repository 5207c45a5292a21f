"""Built packages find what the network does by itself, for every family, and all else is refused in one line."""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.building.build import Order, PlanOrder, Wrap, add_plan, build
from engines.building.describe import Description
from engines.errors import EngineError, PackageError
from engines.manifest import Precision
from engines.models import DEFAULT_PACKAGE
from engines.onnx import OnnxEngine
from engines.package import load_package
from engines.types import Detections, Thresholds, UInt8Array
from serve_app.cli.app import main
from tests.support.media import SHIPPED_CLIP
from tests.unit.engines.networks import (
    CLASSES,
    HEIGHT,
    LAYOUTS,
    TOTAL,
    WIDTH,
    Network,
    add_detr,
    blocky,
    network,
    yolov9,
)
from tests.unit.engines.packages import write

NAMES = ["one", "two", "three"]


class Silent:
    """A watcher that only keeps the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, what: str) -> None:
        self.stages.append(what)

    def started(self, phase: str, parent: str | None, steps: int) -> None: ...

    def stepped(self, phase: str, step: int) -> None: ...

    def finished(self, phase: str) -> None: ...


def _saved(folder: Path, model: onnx.ModelProto, names: list[str] | None = NAMES) -> Path:
    """An export with its class names where Ultralytics' exporter leaves them."""
    if names is not None:
        helper.set_model_props(model, {"names": str(dict(enumerate(names))), "license": "MIT"})
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _built(model: Path, output: Path, family: str, precision: Precision = "fp32", **wrap: int) -> OnnxEngine:
    order = Order(model, output, Wrap(precision, **wrap), Description(family), PlanOrder("never"))
    outcome = build(order, Silent())
    assert (outcome.path, outcome.plan, outcome.no_plan) == (output, None, "as told")
    return OnnxEngine(load_package(output), max_batch_size=4)


def _plain(model: Path, folder: Path, built: OnnxEngine, package: Path) -> OnnxEngine:
    """The engine on the network as it was exported, which its built package describes but for the wrapping."""
    content = json.loads((package / "manifest.json").read_text()) | {"built": None}
    content["input"]["name"] = "images"
    return OnnxEngine(load_package(write(folder, onnx.load(model), content)), max_batch_size=4)


LIMITS = [Thresholds(0.3), Thresholds(0.5, 0.3), Thresholds(0.2, 0.9, max_detections=7)]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_wrapped_network_finds_the_same(tmp_path: Path, layout: str, seed: int) -> None:
    family, model = network(layout, seed)
    path = _saved(tmp_path, model)
    built = _built(path, tmp_path / "built", family)
    plain = _plain(path, tmp_path / "plain", built, tmp_path / "built")
    frames = [blocky(3 * seed + index) for index in range(3)]
    assert built.info.class_names == tuple(NAMES)
    total = 0
    for found, expected in zip(built.infer(frames, LIMITS), plain.infer(frames, LIMITS), strict=True):
        total += len(expected)
        assert found.class_id.tolist() == expected.class_id.tolist()
        np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-4)
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=2e-3)
    assert total > 5


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("layout", ["yolov9 dual", "nanodet", "yolox", "rtdetr"])
def test_operator_sets_old_and_new(tmp_path: Path, layout: str, opset: int) -> None:
    family, model = network(layout, opset=opset)
    path = _saved(tmp_path, model)
    built = _built(path, tmp_path / "built", family, "fp16")
    plain = _plain(path, tmp_path / "plain", built, tmp_path / "built")
    (found,), (expected,) = (engine.infer([blocky(1)], [Thresholds()]) for engine in (built, plain))
    assert _missing(expected, found) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_float16_finds_nearly_the_same(tmp_path: Path, layout: str) -> None:
    family, model = network(layout, 5)
    path = _saved(tmp_path, model)
    full, half = (_built(path, tmp_path / kind, family, kind) for kind in ("fp32", "fp16"))
    frames = [blocky(index) for index in range(4)]
    limits = [Thresholds(0.3, iou=1.0)] * 4
    pairs = list(zip(full.infer(frames, limits), half.infer(frames, limits), strict=True))
    assert sum(len(expected) for expected, _ in pairs) > 5
    for expected, found in pairs:
        assert _missing(expected, found) == []
    weights = [(tmp_path / kind / "model.onnx").stat().st_size for kind in ("fp32", "fp16")]
    assert weights[1] < weights[0]


def _missing(expected: Detections, found: Detections) -> list[int]:
    """Objects well above the threshold without one of nearly the same place, class and confidence."""
    lost = []
    for row in range(len(expected)):
        near = (
            (np.abs(found.xyxy - expected.xyxy[row]).max(axis=1) < 0.5)
            & (np.abs(found.confidence - expected.confidence[row]) < 0.02)
            & (found.class_id == expected.class_id[row])
        )
        lost += [] if near.any() or expected.confidence[row] < 0.37 else [row]
    return lost


def test_only_the_main_branch_is_built(tmp_path: Path) -> None:
    sizes = []
    for branches in (1, 2):
        net = yolov9(branches=branches)
        _built(_saved(tmp_path, net.model()), tmp_path / str(branches), "yolov9")
        sizes.append(len(onnx.load(tmp_path / str(branches) / "model.onnx").graph.node))
    assert sizes[0] == sizes[1]


def test_boxes_are_worked_out_in_float32(tmp_path: Path) -> None:
    """The mean of the bins is a Conv, but not one of the network's weights."""
    _built(_saved(tmp_path, yolov9().model()), tmp_path / "built", "yolov9", "fp16")
    graph = onnx.load(tmp_path / "built" / "model.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    convs = {name: kinds[name] for node in graph.node if node.op_type == "Conv" for name in node.input[1:2]}
    counting = [kind for name, kind in convs.items() if shapes[name] == (1, 16, 1, 1)]
    others = [kind for name, kind in convs.items() if shapes[name] != (1, 16, 1, 1)]
    assert counting == [TensorProto.FLOAT]
    assert set(others) == {TensorProto.FLOAT16}


def test_normalisations_stay_in_float32_and_large_weights_are_clamped(tmp_path: Path) -> None:
    """A norm taken apart, whose squares are beyond float16 by far, and a weight that is too."""
    net = Network()
    write = net.write
    large = net.scaled(net.conv("images", 3, 3), 2000)
    square = write.node("Pow", large, write.constant(np.array([2], np.float32)))
    mean = write.node("ReduceMean", square, axes=[1], keepdims=1)
    raised = write.node("Add", mean, write.constant(np.array([1e3], np.float32)))
    rows = net.rows(5, 6, write.node("Div", large, write.node("Sqrt", raised)))
    net.output(rows, "output0", 5, 6)
    first = next(tensor for tensor in net.graph.initializer if len(tensor.dims) == 1)
    first.CopyFrom(numpy_helper.from_array(np.array([1e6, 0, 0], np.float32), first.name))
    path = _saved(tmp_path, net.model())
    order = Order(path, tmp_path / "built", Wrap("fp16"), Description("yolo-nms-free"), PlanOrder("never"))
    outcome = build(order, Silent())
    assert outcome.conversion is not None
    assert outcome.conversion.clamped == 1


def _street() -> UInt8Array:
    with av.open(str(SHIPPED_CLIP)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="bgr24")
    return np.asarray(cv2.resize(frame, (416, 416)), np.uint8)


def test_the_shipped_model_in_float16_finds_the_people(tmp_path: Path) -> None:
    half = _built(DEFAULT_PACKAGE, tmp_path / "half", "auto", "fp16", max_batch=2)
    assert half.info.max_batch_size == 2
    frame = _street()
    (found,) = half.infer([frame], [Thresholds()])
    (expected,) = OnnxEngine(load_package(DEFAULT_PACKAGE)).infer([frame], [Thresholds()])
    assert (expected.class_id == 0).sum() >= 2
    assert found.class_id.tolist() == expected.class_id.tolist()
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=0.01)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1)


# Refusals, through the command line.


def _refusal(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """The one line that a command says when it refuses, having left everything as it was."""
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["raysight", "engine", "build", *words, "--no-plan"])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert sorted(folder.rglob("*")) == before
    (line,) = said.err.splitlines()
    assert line.startswith("raysight: ")
    return line


def _with_input(model: onnx.ModelProto, *shape: int | str) -> onnx.ModelProto:
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, shape))
    return model


def _two_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["batch", 2]))
    return model


def _of_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    model.opset_import[0].version = version
    return model


def _no_classes() -> onnx.ModelProto:
    net = yolov9(classes=1)
    net.output(net.write.cut(net.graph.output[0].name, 1, 0, 4), "boxes", 4, TOTAL)
    del net.graph.output[:2]
    return net.model()


def _other_output() -> onnx.ModelProto:
    net = yolov9()
    net.output("images", "picture", 3, HEIGHT, WIDTH)
    return net.model()


DUAL = ("--family", "yolov9")


@pytest.mark.parametrize(
    ("make", "words", "says"),
    [
        (lambda: _two_inputs(yolov9().model()), DUAL, r"one input.*images.*orig_target_sizes int64.*export"),
        (lambda: _with_input(yolov9().model(), 4, 3, HEIGHT, WIDTH), DUAL, r"\[4, 3, 64, 96\].*fixed batch.*dynamic"),
        (lambda: _with_input(yolov9().model(), "batch", 4, HEIGHT, WIDTH), DUAL, r"\[\?, 4, 64, 96\].*must be"),
        (lambda: _of_opset(yolov9().model(), 12), DUAL, "opset 12, but 13 to 26.*opset 17"),
        (lambda: _of_opset(yolov9().model(), 99), DUAL, "opset 99, but 13 to 26.*opset 17"),
        (_no_classes, ("--family", "yolo"), "scores 0 classes"),
        (_other_output, (), r"output0 float32.*picture.*fit none of the families.*--family"),
        (lambda: network("yolo")[1], (), r"output0 float32 \[\?, 7, 126\] fit yolo and yolov9.*--family"),
        (lambda: network("yolo")[1], ("--family", "yolox"), r"a yolox model has one output.*\[\?, 7, 126\]"),
        (lambda: network("yolo")[1], ("--family", "yoyo"), "'yoyo', which isn't known; use one of nanodet"),
        (lambda: network("yolo")[1], ("--family", "yolo", "--size", "32x32"), "96x64; leave out --size"),
        (lambda: network("yolo")[1], ("--family", "yolo", "--size", "32"), "'32'; give it as WIDTHxHEIGHT"),
        (
            lambda: _with_input(network("yolo")[1], "batch", 3, "height", "width"),
            ("--family", "yolo"),
            r"of any size; say which.*--size",
        ),
    ],
)
def test_what_can_not_be_built_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], onnx.ModelProto],
    words: tuple[str, ...],
    says: str,
) -> None:
    path = _saved(tmp_path, make())
    line = _refusal(tmp_path, capsys, monkeypatch, str(path), "--output", str(tmp_path / "built"), *words)
    assert re.search(says, line), line
    assert str(path) in line or "--size" in line


@pytest.mark.parametrize(
    ("names", "file", "says"),
    [
        (NAMES[:2], None, r"metadata has 2 class names, but the model scores 3 classes.*--classes"),
        (NAMES, "a\nb\n\nc\nd\n", r"names.txt has 4 class names, but the model scores 3 classes"),
        (NAMES, "\n\n", "holds no class name"),
        (None, None, "doesn't name its 3 classes; give --classes FILE"),
    ],
)
def test_class_names_of_another_number_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    names: list[str] | None,
    file: str | None,
    says: str,
) -> None:
    words = [str(_saved(tmp_path, yolov9().model(), names)), *DUAL, "--output", str(tmp_path / "built")]
    if file is not None:
        (tmp_path / "names.txt").write_text(file)
        words += ["--classes", str(tmp_path / "names.txt")]
    assert re.search(says, _refusal(tmp_path, capsys, monkeypatch, *words))


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({0: "car", 1: "", 2: "bus"}, "no name for class 1"),
        (["car", "bus", " "], "no name for class 2"),
        ({0: "car", 1: "bus", 7: "bicycle"}, "numbers its classes [0, 1, 7]"),
    ],
)
def test_classes_without_a_name_are_refused(tmp_path: Path, named: object, says: str) -> None:
    model = yolov9().model()
    helper.set_model_props(model, {"names": str(named)})
    with pytest.raises(PackageError, match=re.escape(says)):
        _built(_saved(tmp_path, model, None), tmp_path / "built", "yolov9")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def _misplace(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = "here"
    path.write_bytes(model.SerializeToString())


def _outside(folder: Path) -> Path:
    """A model whose weights lie in a file beside it."""
    path = folder / "net.onnx"
    onnx.save_model(
        yolov9().model(),
        path,
        save_as_external_data=True,
        location="net.weights",
        size_threshold=1024,
        convert_attribute=True,
    )
    return path


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: (path.parent / "net.weights").unlink(), "are in net.weights, which is missing; put that file"),
        (lambda path: (path.parent / "net.weights").write_bytes(b"short"), "net.weights, which is cut off"),
        (_misplace, "lie is no number"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "isn't an ONNX model, or is cut off"),
        (lambda path: path.write_bytes(b"not a model at all"), "isn't an ONNX model, or is cut off"),
        (lambda path: path.write_bytes(b""), "has no layers"),
        (lambda path: path.unlink(), "there is no such file"),
    ],
)
def test_broken_files_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], Any],
    says: str,
) -> None:
    path = _outside(tmp_path)
    spoil(path)
    words = (str(path), *DUAL, "--output", str(tmp_path / "built"))
    assert re.search(says, _refusal(tmp_path, capsys, monkeypatch, *words))


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    path = _outside(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    order = Order(
        path, tmp_path / "built", Wrap(), Description("yolov9", classes=tmp_path / "names.txt"), PlanOrder("never")
    )
    build(order, Silent())
    (tmp_path / "net.weights").unlink()
    assert OnnxEngine(load_package(tmp_path / "built")).info.class_names == tuple(NAMES)


def test_a_batch_that_is_fixed_inside_is_found_out(tmp_path: Path) -> None:
    net = yolov9(branches=1)
    last = net.graph.output[0].name
    net.output(net.write.reshape(last, 1, 4 + CLASSES, TOTAL), "fixed", 4 + CLASSES, TOTAL)
    del net.graph.output[0]
    order = Order(_saved(tmp_path, net.model()), tmp_path / "built", Wrap(), Description("yolov9"), PlanOrder("never"))
    with pytest.raises(PackageError, match=r"a batch of 2 .*its batch is fixed inside"):
        build(order, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = yolov9(branches=1).model()
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    path = _saved(tmp_path, model)
    for precision, says in (("fp16", "weights .* no numbers"), ("fp32", "scores that are no numbers")):
        with pytest.raises(PackageError, match=says):
            _built(path, tmp_path / "built", "yolov9", precision)  # type: ignore[arg-type]


def test_what_is_there_is_kept_unless_it_is_a_package_to_be_replaced(tmp_path: Path) -> None:
    path, output = _saved(tmp_path, yolov9().model()), tmp_path / "built"
    _built(path, output, "yolov9")
    (output / "note").write_text("mine")
    order = Order(path, output, Wrap(), Description("yolov9"), PlanOrder("never"))
    with pytest.raises(PackageError, match=r"is there already.*--force"):
        build(order, Silent())
    forced = Order(path, output, Wrap(top_k=5), Description("yolov9"), PlanOrder("never"), force=True)
    build(forced, Silent())
    assert sorted(each.name for each in output.iterdir()) == ["manifest.json", "model.onnx", "plans"]
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    (output / "manifest.json").unlink()
    with pytest.raises(PackageError, match="isn't a model package"):
        build(forced, Silent())
    assert (output / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--output", "{}/built", "--family", "yolo"), "describes the model; leave out"),
        (("--output", "{}/no/such"), "there is no folder"),
        (("--precision", "fp32"), "give --output; without it"),
    ],
)
def test_packages_are_refused_too(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    says: str,
) -> None:
    given = [word.replace("{}", str(tmp_path)) for word in words]
    assert re.search(says, _refusal(tmp_path, capsys, monkeypatch, str(DEFAULT_PACKAGE), *given))


def test_a_package_that_was_not_built_gets_no_plan() -> None:
    with pytest.raises(PackageError, match="was exported; give --output"):
        add_plan(DEFAULT_PACKAGE, PlanOrder(), Silent())


def test_a_full_disk_leaves_the_package_that_was_there(tmp_path: Path) -> None:
    path, output = _saved(tmp_path, yolov9().model()), tmp_path / "built"
    _built(path, output, "yolov9")
    before = (output / "model.onnx").read_bytes()
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, largest[1]))
    try:
        with pytest.raises(EngineError, match=r"can't write .*; make room"):
            build(Order(path, output, Wrap(), Description("yolov9"), PlanOrder("never"), force=True), Silent())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert (output / "model.onnx").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["built", "net.onnx"]


@pytest.mark.parametrize(
    ("layout", "family"), [("yolov9 dual", "yolov9"), ("yolox", "yolox"), ("nanodet", "nanodet"), ("rfdetr", "rfdetr")]
)
def test_a_family_that_only_one_fits_needs_no_name(tmp_path: Path, layout: str, family: str) -> None:
    order = Order(
        _saved(tmp_path, network(layout)[1]), tmp_path / "built", Wrap("fp32"), Description(), PlanOrder("never")
    )
    manifest = build(order, Silent()).manifest
    assert (manifest.family, manifest.name, manifest.licence) == (family, "net", "MIT")


@pytest.mark.parametrize(("classes", "first"), [(80, "person"), (91, "unused 0")])
def test_classes_of_coco_are_known(tmp_path: Path, classes: int, first: str) -> None:
    net = Network()
    add_detr(net, "dets", "labels", classes)
    order = Order(
        _saved(tmp_path, net.model(), None), tmp_path / "built", Wrap("fp32"), Description("rfdetr"), PlanOrder("never")
    )
    names = build(order, Silent()).manifest.class_names
    assert (len(names), names[0], names[-1]) == (classes, first, "toothbrush")
    assert len(set(names)) == classes

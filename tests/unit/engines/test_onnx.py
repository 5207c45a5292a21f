"""The ONNX Runtime engine, on small graphs and on the model that ships."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest

from engines.cores import available_cores
from engines.errors import EngineDead, EngineError, InferenceFailed
from engines.letterbox import Letterbox
from engines.models import DEFAULT_PACKAGE
from engines.onnx import MAX_LANES, Normaliser, OnnxEngine
from engines.package import load_package
from engines.protocol import Engine
from engines.types import Float32Array, Thresholds, UInt8Array
from tests.support.media import SHIPPED_CLIP
from tests.unit.engines.packages import HEIGHT, WIDTH, Shape, bright_model, fixed_model, manifest, write


def _frames(*values: int) -> list[UInt8Array]:
    return [np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in values]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return OnnxEngine(load_package(write(tmp_path, bright_model(), manifest())), max_batch_size=3)


def test_info_is_the_packages(engine: Engine) -> None:
    info = engine.info
    assert (info.name, info.family, info.width, info.height) == ("bright", "yolo", WIDTH, HEIGHT)
    assert (info.colour, info.letterbox, info.pad) == ("rgb", "top_left", 0)
    assert (info.class_names, info.max_batch_size, info.device) == (("first", "second"), 3, "cpu")


def test_each_frame_gets_its_own_answer(engine: Engine) -> None:
    engine.warmup()
    dark, bright, medium = engine.infer(_frames(0, 204, 102), [Thresholds(confidence=0.3)] * 3)
    assert len(dark) == 0
    np.testing.assert_allclose(bright.confidence, [0.8, 0.8], rtol=1e-5)
    np.testing.assert_allclose(medium.confidence, [0.4, 0.4], rtol=1e-5)
    assert bright.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(bright.xyxy, [[12, 12, 20, 20], [35, 17, 45, 23]])


def test_each_frame_has_its_own_thresholds(engine: Engine) -> None:
    limits = [Thresholds(confidence=0.9), Thresholds(confidence=0.5), Thresholds(0.5, max_detections=1)]
    assert [len(found) for found in engine.infer(_frames(204, 204, 204), limits)] == [0, 2, 1]


LOGITS = np.array([[[2, -3], [-3, 1], [-4, -4]]], np.float32)
RELATIVE = np.array([[[0.5, 0.5, 0.5, 0.5]] * 3], np.float32)
CELLS = np.zeros((1, 42, 7), np.float32)
CELLS[0, 9] = [0.5, 0.5, np.log(4), np.log(2), 1, 0.9, 0]
ANCHORED = np.zeros((1, 126, 7), np.float32)
ANCHORED[0, 100] = [32, 16, 32, 16, 0.5, 0.2, 1]
TWO = np.array([[[32, 16, 32, 16, 0.9, 0], [32, 16, 30, 16, 0.8, 0]]], np.float32).transpose(0, 2, 1)
ENDED = np.array([[[16, 8, 48, 24, 0.9, 1], [16, 8, 48, 24, 0.8, 1], [0, 0, 0, 0, 0, 0]]], np.float32)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("family", "outputs", "expected"),
    [
        ("yolo", {"output0": ANCHORED}, {1: [[16, 8, 48, 24]]}),
        ("yolov9", {"output0": TWO * 0, "2498": TWO}, {0: [[16, 8, 48, 24]]}),
        ("yolo-nms-free", {"output0": ENDED}, {1: [[16, 8, 48, 24]] * 2}),
        ("yolox", {"output": CELLS}, {0: [[-4, 4, 28, 20]]}),
        ("rtdetr", {"logits": LOGITS, "pred_boxes": RELATIVE}, {0: [[16, 8, 48, 24]], 1: [[16, 8, 48, 24]]}),
        ("rfdetr", {"dets": RELATIVE, "labels": LOGITS}, {0: [[16, 8, 48, 24]], 1: [[16, 8, 48, 24]]}),
    ],
)
def test_every_family_runs(
    tmp_path: Path, family: str, outputs: dict[str, Float32Array], expected: dict[int, list[list[int]]], declared: bool
) -> None:
    unknown: dict[str, Shape] = {name: ["batch", "rows", "columns"] for name in outputs}
    graph = fixed_model(outputs, None if declared else unknown)
    (found,) = OnnxEngine(load_package(write(tmp_path, graph, manifest(family=family)))).infer(
        _frames(0), [Thresholds()]
    )
    by_class = {index: found.xyxy[found.class_id == index].round(3).tolist() for index in found.class_id.tolist()}
    assert by_class == expected


def test_an_earlier_answer_survives_the_next_batch(engine: Engine) -> None:
    first = engine.infer(_frames(204), [Thresholds()])[0]
    engine.infer(_frames(255), [Thresholds()])
    np.testing.assert_allclose(first.confidence, [0.8, 0.8], rtol=1e-5)


@pytest.mark.parametrize(
    ("batch", "limits"),
    [
        ([np.zeros((HEIGHT, WIDTH, 3), np.float32)], 1),
        ([np.zeros((HEIGHT, WIDTH - 1, 3), np.uint8)], 1),
        ([np.zeros((HEIGHT, WIDTH), np.uint8)], 1),
        ([*_frames(0), np.zeros((HEIGHT, WIDTH), np.uint8)], 2),
        ([], 0),
        (_frames(0, 0, 0, 0), 4),
        (_frames(0, 0), 1),
    ],
)
def test_a_batch_that_does_not_fit_is_the_callers_mistake(engine: Engine, batch: list[UInt8Array], limits: int) -> None:
    with pytest.raises(ValueError, match=r"bright takes .*got"):
        engine.infer(batch, [Thresholds()] * limits)


def test_a_model_with_a_fixed_batch_takes_one_frame(tmp_path: Path) -> None:
    engine = OnnxEngine(load_package(write(tmp_path, bright_model(1), manifest())))
    assert engine.info.max_batch_size == 1
    assert len(engine.infer(_frames(204), [Thresholds()])[0]) == 2


def test_a_failed_batch_costs_only_itself(tmp_path: Path) -> None:
    # Values beyond 1 make this model gather out of bounds.
    package = load_package(write(tmp_path, bright_model(), manifest(input__std=[100, 100, 100])))
    engine = OnnxEngine(package, threads=1)
    with pytest.raises(InferenceFailed, match=r"bright failed on a batch of 1: .*Gather") as caught:
        engine.infer(_frames(255), [Thresholds()])
    assert "\n" not in str(caught.value)
    np.testing.assert_allclose(engine.infer(_frames(80), [Thresholds()])[0].confidence, [0.8, 0.8], rtol=1e-5)


def test_lanes_answer_side_by_side(tmp_path: Path) -> None:
    cores = available_cores()
    package = load_package(write(tmp_path, bright_model(), manifest()))
    engine = OnnxEngine(package, threads=1)
    assert [engine.lanes, OnnxEngine(package, threads=cores).lanes] == [cores, 1]
    assert OnnxEngine(package).lanes <= MAX_LANES
    engine.warmup()

    def confidence(value: int) -> list[float]:
        return [float(engine.infer(_frames(value), [Thresholds(0.1)])[0].confidence[0]) for _ in range(20)]

    values = (51, 102, 153, 204)
    with ThreadPoolExecutor(engine.lanes) as pool:
        found = list(pool.map(confidence, values))
    np.testing.assert_allclose(found, np.array([values] * 20).T / 255, rtol=1e-5)


def test_a_closed_engine_is_dead(engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineDead, match="closed"):
        engine.infer(_frames(0), [Thresholds()])


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs a CPU build")
def test_cuda_without_cuda_says_what_to_install(tmp_path: Path) -> None:
    package = load_package(write(tmp_path, bright_model(), manifest()))
    with pytest.raises(EngineError, match=r"no CUDA.*install onnxruntime-gpu.*device cpu"):
        OnnxEngine(package, device="cuda")


def test_normalising_is_exact_and_keeps_channels_apart() -> None:
    spec = load_package(DEFAULT_PACKAGE).manifest.input
    batch = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3), np.uint8)
    expected = (batch - np.array(spec.mean)) / np.array(spec.std)
    tensor = Normaliser(spec, 4)(list(batch))
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_the_shipped_model_finds_what_is_in_the_clip() -> None:
    engine = OnnxEngine(load_package(DEFAULT_PACKAGE))
    with av.open(str(SHIPPED_CLIP)) as clip:
        frame = next(itertools.islice(clip.decode(video=0), 100, None)).to_ndarray(format="bgr24").astype(np.uint8)
    info = engine.info
    box = Letterbox.fit(frame.shape[1], frame.shape[0], info.width, info.height, info.letterbox, info.pad)
    found = engine.infer([box.apply(frame)], [Thresholds()])[0]
    names = [info.class_names[index] for index in found.class_id]
    boxes = box.undo(found.xyxy)
    # Read off the picture by eye: middles of six people, a parked car, a white van.
    seen = {
        "person": [(357, 237), (393, 217), (503, 185), (526, 187), (601, 198), (231, 77)],
        "car": [(752, 72)],
        "truck": [(686, 72)],
    }
    for name, middles in seen.items():
        of_class = boxes[[each == name for each in names]]
        centres = (of_class[:, :2] + of_class[:, 2:]) / 2
        for middle in middles:
            assert np.abs(centres - middle).max(axis=1).min() < 8, (name, middle)
    engine.close()

"""ONNX Runtime with its inputs and outputs bound to the pipeline's memory; on the CPU, whose addresses are as good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engines.accelerator import Stream
from engines.errors import EngineError, InferenceFailed
from engines.families.wrapped import BATCH, OUTPUTS
from engines.onnx import OnnxEngine
from engines.onnx_cuda import BoundNetwork, open_cuda
from engines.package import ModelPackage, load_package
from engines.pipelined import PipelinedEngine
from engines.types import Thresholds
from tests.support.built import CORNERS, HostAccelerator, HostMemory, built_package, grey
from tests.unit.engines.packages import bright_model, manifest, write


def opener(package: ModelPackage, opened: list[int]) -> Callable[[int], onnxruntime.InferenceSession]:
    def session(batch: int) -> onnxruntime.InferenceSession:
        opened.append(batch)
        options = onnxruntime.SessionOptions()
        options.add_free_dimension_override_by_name(BATCH, batch)
        return onnxruntime.InferenceSession(package.model_path, options, providers=["CPUExecutionProvider"])

    return session


def bound(package: ModelPackage, opened: list[int] | None = None) -> PipelinedEngine:
    accelerator: Any = HostAccelerator()
    session = opener(package, [] if opened is None else opened)

    def load(stream: Stream) -> BoundNetwork:
        return BoundNetwork(session, package, ("cpu", 0), accelerator, stream)

    return PipelinedEngine(package, accelerator, load, 5)


def test_it_finds_what_the_plain_engine_finds(tmp_path: Path) -> None:
    package = built_package(tmp_path)
    engine, plain = bound(package), OnnxEngine(package, threads=1, max_batch_size=5)
    engine.warmup()
    for size in range(1, 6):
        frames = [grey(10 * size + row) for row in range(size)]
        limits = [Thresholds(confidence=0.5)] * size
        for found, wanted, row in zip(
            engine.infer(frames, limits), plain.infer(frames, limits), range(size), strict=True
        ):
            np.testing.assert_array_equal(found.xyxy, wanted.xyxy)
            np.testing.assert_array_equal(found.confidence, wanted.confidence)
            np.testing.assert_array_equal(found.class_id, wanted.class_id)
            np.testing.assert_allclose(found.xyxy, CORNERS[0, :2] + (10 * size + row) / 10, rtol=1e-6)
    engine.close()
    plain.close()


def test_two_batches_under_way_keep_their_own_memory(tmp_path: Path) -> None:
    engine = bound(built_package(tmp_path))
    tickets = [engine.start([grey(value)] * 2, [Thresholds()] * 2) for value in (100, 200)]
    lefts = [[float(frame.xyxy[0, 0]) for frame in engine.finish(ticket)] for ticket in tickets]
    assert lefts == [[10.0, 10.0], [20.0, 20.0]]
    engine.close()


def test_what_onnx_runtime_refuses_is_a_failed_batch(tmp_path: Path) -> None:
    package = built_package(tmp_path)
    accelerator: Any = HostAccelerator()
    session = opener(package, [])
    network = BoundNetwork(lambda batch: session(batch + 1), package, ("cpu", 0), accelerator, accelerator.stream())
    memory: Any = HostMemory(np.zeros(10000, np.uint8))
    with pytest.raises(InferenceFailed, match=r"failed on built, batch 1: [^\n]+$"):
        network.runner(1, memory, dict.fromkeys(OUTPUTS, memory))


def test_each_batch_size_has_a_session_that_knows_no_other(tmp_path: Path) -> None:
    opened: list[int] = []
    engine = bound(built_package(tmp_path), opened)
    engine.warmup()
    for size in (1, 5, 3, 1, 4):
        engine.infer([grey(9)] * size, [Thresholds()] * size)
    assert sorted(opened) == list(engine.buckets)
    engine.close()


def test_a_plain_package_is_told_how_to_become_a_built_one(tmp_path: Path) -> None:
    package = load_package(write(tmp_path, bright_model(), manifest()))
    with pytest.raises(EngineError, match="raysight engine build"):
        open_cuda(package)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs a CPU build")
def test_without_cuda_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="onnxruntime-gpu"):
        open_cuda(built_package(tmp_path))

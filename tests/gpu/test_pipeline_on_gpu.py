"""The pipeline on a real GPU, with ONNX Runtime's CUDA provider and with TensorRT.

Skipped, with the reason, where there is none or a library is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from engines.benchmark import benchmark
from engines.building.build import PlanOrder, Watcher, add_plan
from engines.choose import choose_here, open_engine
from engines.errors import EngineDead, EngineError
from engines.onnx import OnnxEngine
from engines.onnx_cuda import open_cuda
from engines.package import ModelPackage
from engines.pipelined import PipelinedEngine
from engines.trt.opening import lacks_plan
from engines.types import EngineName, Thresholds
from engines.verify import TOLERANCES, generated_frames, leaks, verify
from tests.support.built import built_package, grey

pytestmark = pytest.mark.gpu

MOST = 9
ROUNDS = 200


@pytest.fixture(scope="module", params=["cuda", "tensorrt"])
def name(request: pytest.FixtureRequest) -> EngineName:
    name: EngineName = request.param
    return name


@pytest.fixture(scope="module")
def package(name: EngineName, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A package that this engine can run here, plan included."""
    loaded = built_package(tmp_path_factory.mktemp("built"), max_batch=MOST)
    if name == "tensorrt" and lacks_plan(loaded):
        try:
            add_plan(loaded.path, PlanOrder(), create_autospec(Watcher, instance=True))
        except EngineError as error:
            pytest.skip(f"no plan can be built here: {error}")
    choice = choose_here(loaded, (name,))
    if choice.engine is None:
        pytest.skip(choice.reasons)
    return loaded


def opened(package: ModelPackage, name: EngineName) -> PipelinedEngine:
    engine = open_engine(package, (name,))
    assert isinstance(engine, PipelinedEngine)
    return engine


@pytest.fixture
def engine(package: ModelPackage, name: EngineName) -> Iterator[PipelinedEngine]:
    engine = opened(package, name)
    engine.warmup()
    yield engine
    engine.close()


def test_it_finds_what_the_cpu_finds(package: ModelPackage, engine: PipelinedEngine) -> None:
    reference = OnnxEngine(package, max_batch_size=1)
    rows = dict(verify(engine, reference, generated_frames(engine.info, 16), TOLERANCES["fp32"]))
    assert list(rows) == list(range(1, MOST + 1))
    assert all(difference.agrees and difference.compared for difference in rows.values())
    reference.close()


def test_batches_under_way_keep_their_own_answers(engine: PipelinedEngine) -> None:
    limits = [Thresholds()] * MOST
    waiting = engine.start([grey(0)] * MOST, limits)
    for value in range(1, 256):
        latest = engine.start([grey(value)] * MOST, limits)
        for frame in engine.finish(waiting):
            np.testing.assert_allclose(frame.xyxy[0, 0], (value - 1) / 10, atol=1e-3)
        waiting = latest
    engine.finish(waiting)


def test_slots_give_everything_back(engine: PipelinedEngine) -> None:
    growth = leaks(engine, grey(5), ROUNDS, lambda: None)
    assert not growth.leaks, growth


def test_engines_can_be_made_one_after_the_other(package: ModelPackage, name: EngineName) -> None:
    for _ in range(5):
        engine = opened(package, name)
        (found,) = engine.infer([grey(100)], [Thresholds()])
        assert found.xyxy[0, 0] == pytest.approx(10.0)
        engine.close()
        with pytest.raises(EngineDead):
            engine.infer([grey(1)], [Thresholds()])


def test_more_than_the_gpu_holds_is_an_error_and_no_hang(
    tmp_path: Path, package: ModelPackage, name: EngineName
) -> None:
    if name == "tensorrt":
        pytest.skip("no plan is built for as large a batch")
    with pytest.raises(EngineDead, match=r"MiB of GPU memory could not be had|pinned memory"):
        open_cuda(built_package(tmp_path, max_batch=40_000_000))


def test_it_is_measured_by_batch_size(engine: PipelinedEngine) -> None:
    figures = list(benchmark(engine, [grey(1)], 0.5, 0))
    assert [each.batch for each in figures] == [1, 2, 4, 8, 9]
    assert all(each.fps > 0 and each.p50_ms <= each.p99_ms for each in figures)

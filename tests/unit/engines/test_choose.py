"""Which engine is taken, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.detector.config import DetectorConfig
from deployments.detector.service import load_engine
from engines.choose import Machine, choose, judge, look, open_engine
from engines.errors import EngineError
from engines.models import DEFAULT_PACKAGE
from engines.package import load_package
from engines.trt.device import ComputeCapability, Gpu, local_gpus
from engines.types import PREFERENCE, EngineName
from tests.support.built import built_package

GPU = Gpu(0, "NVIDIA L4", ComputeCapability(8, 9))
EQUIPPED = Machine((GPU,), "", "tensorrt 11.4", "", "", "")
NOTHING = Machine((), "no driver", "", "TensorRT isn't installed", "no pycuda", "no CUDA provider")


without_gpu = pytest.mark.skipif(bool(local_gpus()), reason="there is a GPU here")


@pytest.mark.parametrize(
    ("machine", "plan", "built", "plain"),
    [
        (EQUIPPED, "", "tensorrt", "cuda"),
        (EQUIPPED, "no plan fits", "cuda", "cuda"),
        (Machine((GPU,), "", "tensorrt 11.4", "", "no pycuda", ""), "", "cpu", "cuda"),
        (Machine((GPU,), "", "", "not installed", "", ""), "", "cuda", "cuda"),
        (Machine((GPU,), "", "tensorrt 11.4", "", "", "no provider"), "", "tensorrt", "cpu"),
        (Machine((), "no driver", "tensorrt 11.4", "", "", ""), "", "cpu", "cpu"),
        (NOTHING, "", "cpu", "cpu"),
    ],
)
def test_the_best_that_can_be_used_is_taken(
    tmp_path: Path, machine: Machine, plan: str, built: EngineName, plain: EngineName
) -> None:
    for package, wanted in ((built_package(tmp_path), built), (load_package(DEFAULT_PACKAGE), plain)):
        choice = choose(PREFERENCE, judge(package, machine, lambda: plan))
        assert choice.engine == wanted
        for verdict in choice.verdicts[: PREFERENCE.index(wanted)]:
            assert verdict.obstacle
            assert verdict.obstacle in choice.reasons


def test_libraries_without_a_gpu_are_called_that(tmp_path: Path) -> None:
    machine = Machine((), "no driver", "tensorrt 11.4", "", "", "")
    tensorrt, cuda, _ = judge(built_package(tmp_path), machine, lambda: "")
    assert tensorrt.obstacle == "tensorrt 11.4 is here, but no GPU is: no driver"
    assert cuda.obstacle == "ONNX Runtime has CUDA, but no GPU is here: no driver"


def test_plans_are_looked_for_only_where_they_could_run(tmp_path: Path) -> None:
    def look() -> str:
        raise AssertionError("nobody could run a plan")

    assert judge(built_package(tmp_path), NOTHING, look)[0].obstacle == "TensorRT isn't installed"


def test_what_is_not_allowed_is_not_taken(tmp_path: Path) -> None:
    verdicts = judge(built_package(tmp_path), EQUIPPED, lambda: "")
    assert choose(("cuda", "cpu"), verdicts).engine == "cuda"
    assert choose(("cpu",), verdicts).engine == "cpu"
    assert choose(("tensorrt",), judge(built_package(tmp_path), NOTHING, lambda: "")).engine is None


@without_gpu
def test_this_machine_is_seen_as_it_is() -> None:
    machine = look()
    assert not machine.gpus
    assert "NVIDIA's driver" in machine.no_gpu
    assert bool(machine.tensorrt) != bool(machine.no_tensorrt)


@without_gpu
def test_without_a_gpu_auto_is_the_cpu_and_all_else_is_refused_in_one_line() -> None:
    package = load_package(DEFAULT_PACKAGE)
    engine = open_engine(package)
    assert engine.info.device == "cpu"
    engine.close()
    for name in ("cuda", "tensorrt"):
        with pytest.raises(EngineError, match=rf"^no engine for .*\({name}: [^\n]+\)$"):
            open_engine(package, (name,))


@pytest.mark.parametrize(
    ("engine", "device", "engines"),
    [
        ("auto", "auto", ("tensorrt", "cuda", "cpu")),
        ("auto", "cuda", ("tensorrt", "cuda")),
        ("auto", "cpu", ("cpu",)),
        ("tensorrt", "auto", ("tensorrt",)),
        ("tensorrt", "cuda", ("tensorrt",)),
        ("onnx", "auto", ("cuda", "cpu")),
        ("onnx", "cuda", ("cuda",)),
        ("onnx", "cpu", ("cpu",)),
    ],
)
def test_engine_and_device_of_the_configuration(engine: str, device: str, engines: tuple[str, ...]) -> None:
    config = DetectorConfig.model_validate({"engine": engine, "device": device})
    assert config.engines == engines


def test_tensorrt_on_a_cpu_is_refused() -> None:
    with pytest.raises(ValidationError, match="engine tensorrt needs device cuda or auto"):
        DetectorConfig(engine="tensorrt", device="cpu")


@without_gpu
def test_the_detector_loads_what_its_configuration_allows() -> None:
    engine = load_engine(DetectorConfig(engine="auto", device="auto"))
    assert engine.info.device == "cpu"
    engine.close()
    with pytest.raises(EngineError, match="cuda: "):
        load_engine(DetectorConfig(device="cuda"))

"""What the code asks of TensorRT, pycuda and cuda.bindings exists there: checked without a GPU.

TensorRT for RTX has TensorRT's API and runs here as far as a GPU isn't needed. pycuda can't even be imported without
NVIDIA's driver, and cuda.bindings isn't always installed: those tests run where they can.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest

from engines.accelerator import Accelerator
from engines.errors import EngineError
from engines.models import DEFAULT_PACKAGE
from engines.package import ModelPackage, load_package
from engines.trt import engine as trt_engine
from engines.trt import opening
from engines.trt.device import ComputeCapability, Gpu
from engines.trt.engine import TrtNetwork
from engines.trt.plans import PlanFacts, sha256_of, write_plan
from tests.support.accelerators import FakeAccelerator
from tests.support.built import HEIGHT, TOP_K, WIDTH, built_package

ROOT = Path(__file__).resolve().parents[2]
TRT: Any = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13")

CLASSES = {
    "context": TRT.IExecutionContext,
    "_context": TRT.IExecutionContext,
    "engine": TRT.ICudaEngine,
    "_engine": TRT.ICudaEngine,
    "_runtime": TRT.Runtime,
    "config": TRT.IRuntimeConfig,
}
"""What the variables of engines/trt/engine.py, and its attributes of self, hold."""


def chains(source: str) -> Iterator[tuple[str, ...]]:
    """The names of each dotted expression that begins with a variable: ``a.b.c`` gives ("a", "b", "c")."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and names:
            yield (node.id, *reversed(names))


def unknown(source: str, roots: Mapping[str, Any]) -> set[str]:
    """Dotted names in ``source`` that begin with one of ``roots``, or with self and one of them, and don't exist."""
    found = set()
    for name, *rest in chains(source):
        if name == "self" and rest:
            name, *rest = rest
        value = roots.get(name)
        for part in rest if value is not None else ():
            if not hasattr(value, part):
                found.add(f"{name}.{'.'.join(rest)}")
                break
            value = getattr(value, part)
            if callable(value) and not isinstance(value, type):  # what a call returns is another matter
                break
    return found


def test_all_that_the_engine_uses_of_tensorrt_exists() -> None:
    source = Path(trt_engine.__file__).read_text()
    used = {".".join(chain) for chain in chains(source)}
    assert {"trt.Runtime", "context.infer_shapes", "self._engine.device_memory_size_v2"} <= used
    assert unknown(source, {"trt": TRT, **CLASSES}) == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("trt.BuilderFlag.FP16", "trt.BuilderFlag.FP16"),
        ("self._context.execute_async(1)", "_context.execute_async"),
        ("context.set_binding_shape(0, shape)", "context.set_binding_shape"),
    ],
)
def test_what_tensorrt_has_no_more_is_found(source: str, name: str) -> None:
    assert unknown(source, {"trt": TRT, **CLASSES}) == {name}


def fake_runtime(shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, Any]) -> tuple[Any, Any]:
    """A module like TensorRT whose runtime loads a plan of these tensors, and the context it makes.

    They are specified by the real classes: what those lack can't be called.
    """
    context = create_autospec(TRT.IExecutionContext, instance=True)
    context.set_input_shape.return_value = context.set_tensor_address.return_value = True
    context.execute_async_v3.return_value = True
    context.infer_shapes.return_value = []
    engine = create_autospec(TRT.ICudaEngine, instance=True)
    names = list(shapes)
    engine.num_io_tensors = len(names)
    engine.device_memory_size_v2 = 1000
    engine.get_tensor_name.side_effect = names.__getitem__
    engine.get_tensor_shape.side_effect = shapes.__getitem__
    engine.get_tensor_dtype.side_effect = kinds.__getitem__
    modes = TRT.TensorIOMode
    engine.get_tensor_mode.side_effect = lambda name: modes.INPUT if name == "frames" else modes.OUTPUT
    engine.create_execution_context.return_value = context
    engine.create_runtime_config.return_value = create_autospec(TRT.IRuntimeConfig, instance=True)
    module = create_autospec(TRT)
    for name in ("TensorIOMode", "ExecutionContextAllocationStrategy", "DynamicShapesKernelSpecializationStrategy"):
        setattr(module, name, getattr(TRT, name))
    module.nptype = TRT.nptype
    module.Runtime.return_value.deserialize_cuda_engine.return_value = engine
    return module, context


SHAPES = {
    "frames": (-1, HEIGHT, WIDTH, 3),
    "boxes": (-1, TOP_K, 4),
    "scores": (-1, TOP_K),
    "classes": (-1, TOP_K),
}
KINDS = {
    "frames": TRT.DataType.UINT8,
    "boxes": TRT.DataType.FLOAT,
    "scores": TRT.DataType.FLOAT,
    "classes": TRT.DataType.INT32,
}


def test_a_runner_is_bound_before_it_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Memory, shape and addresses first, then a plain run, and all later ones in the compute stream."""
    accelerator: Any = FakeAccelerator()
    stream = accelerator.stream()
    module, context = fake_runtime(SHAPES, KINDS)
    network = TrtNetwork(module, b"plan", built_package(tmp_path), accelerator, stream, None, "rebuild it")
    outputs = {name: accelerator.memory(4096) for name in ("boxes", "scores", "classes")}
    frames = accelerator.memory(4 * HEIGHT * WIDTH * 3)
    runner = network.runner(4, frames, outputs)
    runner.enqueue()
    assert [record.message for record in caplog.records if "without a CUDA graph" in record.message]  # and it runs
    calls = [(name, args) for name, args, _ in context.mock_calls]
    assert calls[0][0] == "set_device_memory"
    assert calls[0][1][1] == 1000
    assert calls[1] == ("set_input_shape", ("frames", (4, HEIGHT, WIDTH, 3)))
    addresses = {args[0]: args[1] for name, args in calls if name == "set_tensor_address"}
    assert addresses == {"frames": frames.address, **{name: memory.address for name, memory in outputs.items()}}
    names = [name for name, _ in calls]
    assert names.index("infer_shapes") < names.index("execute_async_v3")
    assert context.execute_async_v3.call_args_list[-1].args == (stream.handle,)
    runner.free()
    network.close()


@pytest.mark.parametrize(
    ("shapes", "kinds", "what"),
    [
        ({**SHAPES, "more": (1,)}, KINDS, "it has the tensors boxes, classes, frames, more, scores"),
        ({**SHAPES, "frames": (-1, 3, HEIGHT, WIDTH)}, KINDS, r"frames is uint8 \[-1, 3,"),
        ({**SHAPES, "boxes": (-1, 7, 4)}, KINDS, r"boxes is float32 \[-1, 7, 4\], not float32 \[-1, 3, 4\]"),
        (SHAPES, {**KINDS, "scores": TRT.DataType.HALF}, "scores is float16"),
    ],
)
def test_a_plan_of_another_model_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], kinds: dict[str, Any], what: str
) -> None:
    accelerator: Any = FakeAccelerator()
    module, _ = fake_runtime(shapes, kinds)
    with pytest.raises(EngineError, match=f"{what}.*; rebuild it$"):
        TrtNetwork(module, b"plan", built_package(tmp_path), accelerator, accelerator.stream(), None, "rebuild it")
    assert not +accelerator.held


def test_a_truncated_plan_is_refused_with_the_command_that_rebuilds_it(tmp_path: Path) -> None:
    """By the real runtime, which reads a plan's head without a GPU."""
    accelerator: Any = FakeAccelerator()
    messages = TRT.Logger(TRT.Logger.INTERNAL_ERROR)
    with pytest.raises(EngineError, match=r"truncated, or made for another version or GPU; rebuild it$"):
        TrtNetwork(TRT, b"ftrt", built_package(tmp_path), accelerator, accelerator.stream(), messages, "rebuild it")


ADA = Gpu(0, "NVIDIA L4", ComputeCapability(8, 9))


def write_plan_for(package: ModelPackage, capability: str, content: bytes = b"ftrt") -> None:
    """Put a plan for TensorRT for RTX beside the package."""
    digest = sha256_of(package.model_path)
    write_plan(package.path, content, PlanFacts(digest, "tensorrt_rtx", TRT.__version__, capability, 5, 5), None)


@pytest.fixture
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has a GPU, for which a plan is only chosen."""
    monkeypatch.setattr(opening, "local_gpus", lambda: (ADA,))


@pytest.mark.usefixtures("ada")
def test_the_plan_for_this_machine_is_taken(tmp_path: Path) -> None:
    package = built_package(tmp_path)
    write_plan_for(package, "8.6")
    obstacle = opening.plan_obstacle(package)
    assert "compute capability 8.6" in obstacle
    assert obstacle.endswith(f"raysight engine build {tmp_path}")
    write_plan_for(package, "8.9")
    assert opening.plan_obstacle(package) == ""
    binding, plan = opening.plan_for_here(package)
    assert (binding.trt, plan.facts.compute_capability) == (TRT, "8.9")
    lines = opening.described_plans(package)
    assert sorted(line.rpartition(": ")[2] for line in lines) == ["for this machine", "not for this machine"]
    plan.path.write_bytes(plan.path.read_bytes()[:1])
    assert "cut off" in "".join(opening.described_plans(package))


@pytest.mark.usefixtures("ada")
def test_a_plan_is_built_only_where_it_is_all_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = built_package(tmp_path)
    assert opening.lacks_plan(package)
    write_plan_for(package, "8.9")
    assert not opening.lacks_plan(package)
    write_plan_for(built := built_package(tmp_path / "other"), "8.6")
    assert opening.lacks_plan(built)
    assert not opening.lacks_plan(load_package(DEFAULT_PACKAGE))
    monkeypatch.setattr(opening, "local_gpus", lambda: ())
    assert not opening.lacks_plan(built)
    assert opening.plan_obstacle(built) == opening.NO_GPU


def test_all_that_is_used_of_cuda_bindings_exists() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings isn't installed")
    assert unknown((ROOT / "engines/trt/graph.py").read_text(), {"driver": driver, "_driver": driver}) == set()


def test_all_that_is_used_of_pycuda_exists() -> None:
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("pycuda isn't installed")
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        pytest.skip(f"pycuda can't be imported without NVIDIA's driver: {error}")
    assert unknown((ROOT / "engines/trt/cuda.py").read_text(), {"driver": driver, "_driver": driver}) == set()


def test_the_accelerators_of_the_tests_have_what_the_protocol_asks_for() -> None:
    asked = {name for name in vars(Accelerator) if not name.startswith("_")}
    assert asked <= set(dir(FakeAccelerator()))

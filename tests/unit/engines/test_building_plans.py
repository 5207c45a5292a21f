"""Real plans, built by TensorRT for RTX on a machine without a GPU, and those that don't fit refused."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import onnx
import pytest
from rich.console import Console

from engines.building import target
from engines.errors import EngineError, PackageError
from engines.manifest import Precision
from engines.models import DEFAULT_PACKAGE
from engines.package import load_package
from engines.trt import binding, device, plans
from engines.trt.binding import Absent, Binding
from engines.trt.builder import PlanOptions, build_plan, target_member, timing_cache
from engines.trt.device import ComputeCapability
from engines.trt.plans import PlanFacts, find_plan, plans_of, write_plan
from serve_app.cli.app import main
from serve_app.cli.watching import Bars
from tests.support.waiting import until
from tests.unit.engines.networks import CLASSES, LAYOUTS, network, yolov9

SOME = PlanFacts("0" * 64, "tensorrt", "11.4.0.106", "9.0", 32, 8)


def _rtx() -> Binding:
    found = binding.find("tensorrt_rtx")
    if isinstance(found, Absent):
        pytest.skip(found.reason)
    return found


def _names(folder: Path) -> list[str]:
    (folder / "names.txt").write_text("\n".join(str(index) for index in range(CLASSES)))
    return ["--classes", str(folder / "names.txt")]


def _raysight(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["raysight", "engine", "build", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code


@pytest.mark.parametrize("what", ["the shipped model", "yolov9"])
def test_a_float16_plan_is_built_without_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    rtx, output, words = _rtx(), tmp_path / "built", [str(DEFAULT_PACKAGE)]
    if what == "yolov9":
        (tmp_path / "net.onnx").write_bytes(yolov9(width=32).model().SerializeToString())
        words = [str(tmp_path / "net.onnx"), "--family", "yolov9", *_names(tmp_path)]
    _raysight(monkeypatch, *words, "--output", str(output), "--compute-capability", "8.9", "--precision", "fp16")
    said = capsys.readouterr().out
    assert re.search(r"layers in fp16, \d+ in fp32", said)
    assert f"plan for tensorrt_rtx {rtx.version}, compute capability 8.9" in said
    plan = find_plan(output, "tensorrt_rtx", rtx.version, "8.9")
    assert said.splitlines()[-1].startswith(f"{output}: model.onnx ")
    assert plan.path.name in said.splitlines()[-1]
    assert (plan.facts.max_batch, plan.facts.opt_batch) == (32, 8)
    content = plan.read()
    assert len(content) > (output / "model.onnx").stat().st_size // 2
    # Weights make up most of it: in float16 they take half the room.
    assert what == "yolov9" or len(content) < (DEFAULT_PACKAGE / "model.onnx").stat().st_size
    # Only a GPU can open a plan, but what is none is known as such without one.
    validity, flaws = rtx.trt.Runtime(rtx.trt.Logger(rtx.trt.Logger.INTERNAL_ERROR)).get_engine_validity(b"junk" * 99)
    assert validity == rtx.trt.EngineValidity.INVALID
    assert flaws


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_tensorrt_knows_all_operators_of_every_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, precision: Precision
) -> None:
    rtx = _rtx()
    family, model = network(layout)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    words = [str(tmp_path / "net.onnx"), "--family", family, "--precision", precision, *_names(tmp_path)]
    _raysight(monkeypatch, *words, "--output", str(tmp_path / "built"), "--compute-capability", "12.0", "--plan")
    assert find_plan(tmp_path / "built", "tensorrt_rtx", rtx.version, "12.0").read()


def test_a_package_gets_a_plan_for_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx, output = _rtx(), tmp_path / "built"
    (tmp_path / "net.onnx").write_bytes(yolov9().model().SerializeToString())
    words = [str(tmp_path / "net.onnx"), "--family", "yolov9", *_names(tmp_path), "--output", str(output)]
    _raysight(monkeypatch, *words, "--max-batch", "4", "--no-plan")
    assert plans_of(output) == []
    for capability in ("8.6", "8.9"):
        _raysight(monkeypatch, str(output), "--compute-capability", capability)
    assert {plan.facts.compute_capability for plan in plans_of(output)} == {"8.6", "8.9"}
    assert {plan.facts.max_batch for plan in plans_of(output)} == {4}
    assert find_plan(output, "tensorrt_rtx", rtx.version, "8.6").facts.compute_capability == "8.6"


def _package(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"some model")
    return folder


def _of(folder: Path) -> PlanFacts:
    return PlanFacts(plans.sha256_of(folder / "model.onnx"), "tensorrt", "11.4.0.106", "9.0", 32, 8)


def test_the_plan_that_fits_is_found(tmp_path: Path) -> None:
    facts = _of(_package(tmp_path))
    write_plan(tmp_path, b"the plan", facts, "NVIDIA H100")
    found = find_plan(tmp_path, "tensorrt", "11.4.0.106", "9.0")
    assert (found.read(), found.facts, found.gpu) == (b"the plan", facts, "NVIDIA H100")
    assert [path.suffix for path in sorted((tmp_path / "plans").iterdir())] == [".json", ".plan"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            ("tensorrt_rtx", "11.4.0.106", "9.0"),
            "for tensorrt_rtx 11.4.0.106 and a GPU of .* 9.0, only",
        ),
        (
            ("tensorrt", "11.5", "9.0"),
            "no plan for tensorrt 11.5 .*only tensorrt 11.4.0.106 and .* 9.0;",
        ),
        (("tensorrt", "11.4.0.106", "8.0"), "capability 8.0, only tensorrt 11.4.0.106 and compute capability 9.0;"),
    ],
)
def test_a_plan_that_does_not_match_is_refused(tmp_path: Path, asked: tuple[str, str, str], says: str) -> None:
    write_plan(tmp_path, b"the plan", _of(_package(tmp_path)), None)
    with pytest.raises(PackageError) as caught:
        find_plan(tmp_path, *asked)  # type: ignore[arg-type]
    assert re.search(says, str(caught.value))
    assert str(caught.value).endswith(f"raysight engine build {tmp_path}")


def test_a_plan_of_another_model_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path, b"the plan", _of(_package(tmp_path)), None)
    (tmp_path / "model.onnx").write_bytes(b"another model")
    with pytest.raises(PackageError, match=r"of another model.onnx; build one there: raysight engine build"):
        find_plan(tmp_path, "tensorrt", "11.4.0.106", "9.0")


@pytest.mark.parametrize("content", [b"the pl", b"", b"some other plan", None])
def test_a_plan_that_is_cut_off_or_foreign_is_refused(tmp_path: Path, content: bytes | None) -> None:
    plan = write_plan(tmp_path, b"the plan", _of(_package(tmp_path)), None)
    plan.path.unlink() if content is None else plan.path.write_bytes(content)
    with pytest.raises(PackageError, match=r"(hash differs|can't be read).*raysight engine build"):
        find_plan(tmp_path, "tensorrt", "11.4.0.106", "9.0").read()


@pytest.mark.parametrize("text", ["{", "[]", '{"facts": {}}', json.dumps({"facts": {"runtime": "x"}, "sha256": ""})])
def test_a_plan_without_a_description_is_refused(tmp_path: Path, text: str) -> None:
    plan = write_plan(tmp_path, b"the plan", _of(_package(tmp_path)), None)
    plan.path.with_suffix(".json").write_text(text)
    with pytest.raises(PackageError, match=r"doesn't describe a plan.*raysight engine build"):
        plans_of(tmp_path)


def test_every_fact_makes_another_key() -> None:
    others = [
        PlanFacts("1" * 64, "tensorrt", "11.4.0.106", "9.0", 32, 8),
        PlanFacts("0" * 64, "tensorrt_rtx", "11.4.0.106", "9.0", 32, 8),
        PlanFacts("0" * 64, "tensorrt", "11.4.0.107", "9.0", 32, 8),
        PlanFacts("0" * 64, "tensorrt", "11.4.0.106", "8.9", 32, 8),
        PlanFacts("0" * 64, "tensorrt", "11.4.0.106", "9.0", 16, 8),
        PlanFacts("0" * 64, "tensorrt", "11.4.0.106", "9.0", 32, 4),
    ]
    assert len({SOME.key, *(each.key for each in others)}) == 7


class _Interrupting:
    """A user who presses Ctrl-C as soon as there is something to see."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def started(self, phase: str, parent: str | None, steps: int) -> None:
        self.phases.append(phase)
        if len(self.phases) == 1:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)  # as a terminal does: the thread that waits is woken

    def stepped(self, phase: str, step: int) -> None: ...

    def finished(self, phase: str) -> None: ...


def test_ctrl_c_ends_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx, user = _rtx(), _Interrupting()
    _raysight(monkeypatch, str(DEFAULT_PACKAGE), "--output", str(tmp_path / "built"), "--no-plan")
    package = load_package(tmp_path / "built")
    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx, package, PlanOptions(32, ComputeCapability(8, 9)), user)
    assert user.phases


def test_sigterm_ends_a_build_and_leaves_nothing(tmp_path: Path) -> None:
    _rtx()
    code = "from serve_app.cli.app import main; main()"
    words = (
        "engine",
        "build",
        str(DEFAULT_PACKAGE),
        "--output",
        str(tmp_path / "built"),
        "--compute-capability",
        "8.9",
    )
    with subprocess.Popen((sys.executable, "-c", code, *words), stdout=subprocess.DEVNULL) as building:
        until(lambda: any(tmp_path.iterdir()) or building.poll() is not None)
        building.terminate()
        assert building.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_what_was_measured_is_read_again_unless_it_is_foreign(tmp_path: Path) -> None:
    trt, path = _rtx().trt, tmp_path / "timing.cache"
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    for content in (None, b"something else"):
        if content is not None:
            path.write_bytes(content)
        config = builder.create_builder_config()
        cache = timing_cache(config, path)
        assert bytes(cache.serialize())
        path.write_bytes(cache.serialize())
        assert timing_cache(builder.create_builder_config(), path) is not None


def test_a_build_is_shown_as_it_goes_on() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Bars(console) as bars:
        bars.stage("Building a plan")
        bars.started("Building engine", None, 4)
        bars.started("Timing tactics", "Building engine", 2)
        bars.stepped("Timing tactics", 0)
        assert [task.description for task in bars.tasks] == [
            "Building a plan",
            "  Building engine",
            "    Timing tactics",
        ]
        assert [(task.completed, task.total) for task in bars.tasks][1:] == [(0, 4), (1, 2)]
        bars.finished("Timing tactics")
        bars.finished("Building engine")
        bars.stage("Trying it out")
        assert [task.finished for task in bars.tasks] == [True, False]


# What is there to build with.


def test_without_tensorrt_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert binding.find("tensorrt") == Absent("tensorrt", "tensorrt isn't installed")
    with pytest.raises(EngineError, match=r"tensorrt: tensorrt isn't installed; tensorrt_rtx: .*pip install"):
        binding.load("tensorrt", "tensorrt_rtx")


def test_without_a_gpu_a_plan_is_left_out_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "local_gpus", tuple)
    (tmp_path / "net.onnx").write_bytes(yolov9().model().SerializeToString())
    words = [str(tmp_path / "net.onnx"), "--family", "yolov9", *_names(tmp_path), "--output", str(tmp_path / "built")]
    _raysight(monkeypatch, *words)
    assert "no TensorRT plan: there is no NVIDIA GPU here" in capsys.readouterr().out
    assert list((tmp_path / "built" / "plans").iterdir()) == []
    monkeypatch.setattr(sys, "argv", ["raysight", "engine", "build", *words, "--plan", "--force"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "give --compute-capability" in capsys.readouterr().err


def test_gpus_that_tensorrt_for_rtx_does_not_know_are_refused() -> None:
    with pytest.raises(EngineError, match=r"can't build for compute capability 9.0; it knows 7.5, 8.0, .*12.0"):
        target_member(_rtx(), ComputeCapability(9, 0))
    with pytest.raises(EngineError, match="for the GPU at hand only"):
        target_member(Binding("tensorrt", "11.4.0.106", None), ComputeCapability(9, 0))


@pytest.mark.parametrize("text", ["8", "sm89", "8.9.1", "", "8.x"])
def test_what_is_no_compute_capability_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match=r"give it as 8\.9"):
        ComputeCapability.parse(text)


def test_the_gpus_of_a_machine_without_a_driver_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(device.ctypes, "CDLL", missing)
    assert device.local_gpus() == ()


def test_float16_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 11 does what the types say."""
    _raysight(monkeypatch, str(DEFAULT_PACKAGE), "--output", str(tmp_path / "built"), "--no-plan")
    graph = onnx.load(tmp_path / "built" / "model.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    convs = {kinds[node.input[1]] for node in graph.node if node.op_type == "Conv"}
    assert convs == {onnx.TensorProto.FLOAT16}

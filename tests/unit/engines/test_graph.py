"""CUDA graphs over a stand-in for NVIDIA's driver: what is called in which order, and what a refusal leaves behind."""

from __future__ import annotations

import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from engines.errors import EngineDead
from engines.trt.graph import WARM_RUNS, Graph, GraphRunner, NotCaptured


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class Driver(ModuleType):
    """Notes calls by name; those in ``fails`` return that status. Real signatures: tests/contracts."""

    CUresult = CUresult
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="this thread")

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.calls: list[tuple[Any, ...]] = []
        self.fails: dict[str, CUresult] = {}

    def CUstream(self, handle: int) -> str:
        return f"stream {handle}"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            value = {"cuStreamEndCapture": "graph", "cuGraphInstantiate": "run"}.get(name)
            status = self.fails.get(name, CUresult.CUDA_SUCCESS)
            return (status,) if value is None else (status, value)

        return call

    def enqueue(self) -> None:
        self.calls.append(("the work",))


STREAM: Any = SimpleNamespace(handle=7)
CAPTURED = [
    ("cuStreamBeginCapture", "stream 7", "this thread"),
    ("the work",),
    ("cuStreamEndCapture", "stream 7"),
    ("cuGraphInstantiate", "graph", 0),
    ("cuGraphDestroy", "graph"),
    ("cuGraphUpload", "run", "stream 7"),
]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    bindings = ModuleType("cuda.bindings")
    bindings.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    return driver


def test_work_is_captured_once_and_launched_often(driver: Driver) -> None:
    graph = Graph(STREAM, driver.enqueue)
    assert driver.calls == CAPTURED
    graph.launch()
    graph.launch()
    graph.free()
    launch = ("cuGraphLaunch", "run", "stream 7")
    assert driver.calls[len(CAPTURED) :] == [launch, launch, ("cuGraphExecDestroy", "run")]


@pytest.mark.parametrize("refuses", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_what_cannot_be_captured_leaves_nothing(driver: Driver, refuses: str) -> None:
    driver.fails[refuses] = CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    with pytest.raises(NotCaptured, match="CAPTURE_INVALIDATED"):
        Graph(STREAM, driver.enqueue)
    names = [name for name, *_ in driver.calls]
    assert ("cuGraphDestroy" in names) == (refuses == "cuGraphInstantiate")
    assert ("cuStreamEndCapture" in names) == (refuses != "cuStreamBeginCapture")


def test_work_that_fails_while_it_is_captured_ends_the_capture(driver: Driver) -> None:
    def refuse() -> None:
        raise RuntimeError("not while capturing")

    with pytest.raises(NotCaptured, match="not while capturing"):
        Graph(STREAM, refuse)
    assert driver.calls[-1] == ("cuStreamEndCapture", "stream 7")


def test_a_launch_that_fails_is_the_engines_end(driver: Driver) -> None:
    graph = Graph(STREAM, driver.enqueue)
    driver.fails["cuGraphLaunch"] = CUresult.CUDA_ERROR_LAUNCH_FAILED
    with pytest.raises(EngineDead, match="CUDA_ERROR_LAUNCH_FAILED"):
        graph.launch()


def test_without_cuda_bindings_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(NotCaptured, match=r"cuda\.bindings can't be imported"):
        Graph(STREAM, lambda: None)


def runner(driver: Driver) -> GraphRunner:
    accelerator: Any = SimpleNamespace(synchronise=lambda: driver.calls.append(("all is done",)))
    return GraphRunner(STREAM, accelerator, driver.enqueue, "a model, batch 2")


def test_a_runner_warms_up_before_it_is_captured(driver: Driver) -> None:
    made = runner(driver)
    assert driver.calls == [*[("the work",)] * WARM_RUNS, ("all is done",), *CAPTURED]
    del driver.calls[:]
    made.enqueue()
    made.free()
    assert driver.calls == [("cuGraphLaunch", "run", "stream 7"), ("cuGraphExecDestroy", "run")]


def test_a_runner_that_cannot_be_captured_runs_plainly(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.fails["cuStreamEndCapture"] = CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    made = runner(driver)
    assert "a model, batch 2 runs without a CUDA graph" in caplog.text
    del driver.calls[:]
    made.enqueue()
    made.free()
    assert driver.calls == [("the work",)]

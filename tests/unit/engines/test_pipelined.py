"""The two-slot pipeline: whatever order the device's streams advance in, each batch gets its own answers."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engines.errors import EngineDead, EngineError, InferenceFailed
from engines.families.nms_free import YoloNmsFree
from engines.manifest import Manifest, ManifestInput
from engines.package import ModelPackage
from engines.pipelined import SLOTS, PipelinedEngine, Ticket, buckets
from engines.protocol import PipelinedEngine as Protocol
from engines.types import Detections, TensorSpec, Thresholds
from tests.support.accelerators import FakeAccelerator, FakeNetwork, frame_of, nothing_held

SHAPE = (4, 6, 3)
MOST = 5
MANIFEST = Manifest(
    name="numbers",
    family="yolo-nms-free",
    input=ManifestInput(
        name="frames", width=6, height=4, colour="bgr", mean=(0, 0, 0), std=(1, 1, 1), letterbox="centre", pad=114
    ),
    class_names=("none", "number", "other"),
    licence="none",
    source="made up",
)
PACKAGE = ModelPackage(
    Path("numbers"), MANIFEST, None, (TensorSpec("output", "float32", (None, 1, 6)),), YoloNmsFree("output", 3)
)


class Rig:
    """An engine over a `FakeAccelerator`, and both."""

    def __init__(self, order: Random | None = None, memory_bytes: int = 1 << 30) -> None:
        self.accelerator = FakeAccelerator(order, memory_bytes)
        self.networks: list[FakeNetwork] = []
        self.engine = PipelinedEngine(PACKAGE, self.accelerator, self.load, MOST)  # type: ignore[arg-type]
        (self.network,) = self.networks

    def load(self, stream: object) -> FakeNetwork:
        self.networks.append(FakeNetwork(self.accelerator, stream, SHAPE))  # type: ignore[arg-type]
        return self.networks[-1]

    def start(self, *numbers: int) -> Ticket:
        return self.engine.start([frame_of(number, SHAPE) for number in numbers], [Thresholds()] * len(numbers))

    def infer(self, *numbers: int) -> list[int]:
        return seen(self.engine.finish(self.start(*numbers)))


def seen(found: list[Detections]) -> list[int]:
    """The number in each frame."""
    numbers = []
    for frame in found:
        ((left, top, *_),) = frame.xyxy
        assert frame.class_id == [1]
        numbers.append(int(left) + 256 * int(top))
    return numbers


@given(st.integers(1, 300))
def test_buckets_cover_every_batch_and_waste_less_than_half(most: int) -> None:
    sizes = buckets(most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == most
    for batch in range(1, most + 1):
        assert batch <= next(size for size in sizes if size >= batch) < 2 * batch


class AnyOrder(RuleBasedStateMachine):
    """Batches come, streams advance and results are fetched in any order; what comes back is what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.rig: Rig | None = None
        self.under_way: deque[tuple[Ticket, list[int]]] = deque()
        self.next = 1

    @precondition(lambda self: self.rig is None)
    @rule(seed=st.integers(0, 1000))
    def open(self, seed: int) -> None:
        self.rig = Rig(Random(seed))

    @precondition(lambda self: self.rig is not None and len(self.under_way) < SLOTS)
    @rule(count=st.integers(1, MOST))
    def start(self, count: int) -> None:
        assert self.rig is not None
        numbers = list(range(self.next, self.next + count))
        self.next += count
        self.under_way.append((self.rig.start(*numbers), numbers))

    @precondition(lambda self: len(self.under_way) == SLOTS)
    @rule()
    def refuse_a_third(self) -> None:
        assert self.rig is not None
        with pytest.raises(ValueError, match="under way"):
            self.rig.start(1)

    @precondition(lambda self: self.rig is not None and any(s.may_advance for s in self.rig.accelerator.streams))
    @rule(steps=st.integers(1, 8))
    def advance(self, steps: int) -> None:
        assert self.rig is not None
        for _ in range(steps):
            if any(stream.may_advance for stream in self.rig.accelerator.streams):
                self.rig.accelerator.step()

    @precondition(lambda self: bool(self.under_way))
    @rule()
    def finish(self) -> None:
        assert self.rig is not None
        ticket, numbers = self.under_way.popleft()
        assert seen(self.rig.engine.finish(ticket)) == numbers
        with pytest.raises(ValueError, match="finished already"):
            self.rig.engine.finish(ticket)

    @precondition(lambda self: self.rig is not None and not self.under_way)
    @rule()
    def renew(self) -> None:
        assert self.rig is not None
        held = +self.rig.accelerator.held
        held["runner"] = 0
        self.rig.engine.renew()
        assert {kind: n for kind, n in self.rig.accelerator.held.items() if kind != "runner"} == {
            kind: n for kind, n in held.items() if kind != "runner"
        }

    @precondition(lambda self: self.rig is not None)
    @rule()
    def close(self) -> None:
        self.teardown()

    @invariant()
    def a_ready_batch_needs_no_waiting(self) -> None:
        if self.rig is not None and self.under_way and self.rig.engine.ready(self.under_way[0][0]):
            before = [len(stream.queue) for stream in self.rig.accelerator.streams]
            ticket, numbers = self.under_way.popleft()
            assert seen(self.rig.engine.finish(ticket)) == numbers
            assert [len(stream.queue) for stream in self.rig.accelerator.streams] == before

    def teardown(self) -> None:
        if self.rig is not None:
            with nothing_held(self.rig.accelerator):
                self.rig.engine.close()
            assert self.rig.network.closed
        self.rig = None
        self.under_way.clear()


AnyOrder.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


def test_copies_overlap_with_the_network() -> None:
    """While the first batch is in the network, the second one's frames arrive and it begins as soon as it is free."""
    rig = Rig()
    upload, compute, download = rig.accelerator.streams
    first, second = rig.start(1, 2), rig.start(3)
    while upload.may_advance:
        upload.advance()
    assert not upload.queue  # both have arrived, and nothing of the first has been computed
    assert len(rig.network.runs) == 2
    while compute.may_advance:
        compute.advance()
    assert not compute.queue  # both are computed, and nothing of the first has been fetched
    assert not rig.engine.ready(first)
    while download.may_advance and not rig.engine.ready(first):
        download.advance()
    assert not rig.engine.ready(second)
    assert seen(rig.engine.finish(first)) == [1, 2]
    assert seen(rig.engine.finish(second)) == [3]
    rig.engine.close()


def test_frames_may_be_reused_once_a_batch_is_started() -> None:
    rig = Rig()
    frame = frame_of(7, SHAPE)
    ticket = rig.engine.start([frame], [Thresholds()])
    frame[:] = 255
    assert seen(rig.engine.finish(ticket)) == [7]
    rig.engine.close()


def test_a_batch_runs_in_the_next_larger_bucket() -> None:
    rig = Rig()
    assert [rig.infer(*range(1, count + 1)) for count in range(1, 6)] == [[*range(1, c + 1)] for c in range(1, 6)]
    assert rig.network.runs == [1, 2, 4, 4, 5]
    rig.engine.close()


def test_warming_up_makes_all_that_runs_later() -> None:
    rig = Rig()
    rig.engine.warmup()
    held = rig.accelerator.held.copy()
    assert held["runner"] == SLOTS * len(rig.engine.buckets)
    for count in range(1, MOST + 1):
        rig.infer(*range(count))
        rig.infer(*range(count))
    assert rig.accelerator.held == held
    rig.engine.close()


def test_thresholds_are_each_frames_own() -> None:
    rig = Rig()
    frames = [frame_of(number, SHAPE) for number in (1, 2)]
    found = rig.engine.infer(frames, [Thresholds(confidence=0.95), Thresholds(confidence=0.5)])
    assert [len(frame) for frame in found] == [0, 1]
    rig.engine.close()


def test_it_keeps_the_protocol() -> None:
    rig = Rig()
    assert isinstance(rig.engine, Protocol)
    assert rig.engine.depth == SLOTS
    assert rig.engine.lanes == 1
    assert (rig.engine.info.width, rig.engine.info.height, rig.engine.info.max_batch_size) == (6, 4, MOST)
    with pytest.raises(ValueError, match="uint8"):
        rig.engine.infer([np.zeros((4, 6), np.uint8)], [Thresholds()])
    rig.engine.close()


def test_a_refused_batch_costs_no_slot() -> None:
    rig = Rig()
    under_way = rig.start(9)
    rig.network.refuses = True
    for _ in range(2 * SLOTS):
        with pytest.raises(InferenceFailed):
            rig.start(1, 2)
    rig.network.refuses = False
    assert seen(rig.engine.finish(under_way)) == [9]
    assert rig.infer(4) == [4]
    with nothing_held(rig.accelerator):
        rig.engine.close()


def test_a_broken_device_ends_the_engine_and_never_hangs_it() -> None:
    rig = Rig()
    tickets = [rig.start(1), rig.start(2)]
    rig.accelerator.broken = True
    for ticket in tickets:
        with pytest.raises(EngineDead, match="off the bus"):
            rig.engine.ready(ticket)
        with pytest.raises(EngineDead, match="off the bus"):
            rig.engine.finish(ticket)
    with pytest.raises(EngineDead, match="off the bus"):
        rig.start(3)
    rig.engine.close()


def test_a_batch_that_fails_for_a_broken_device_ends_the_engine() -> None:
    rig = Rig()
    rig.network.refuses = rig.accelerator.broken = True
    with pytest.raises(EngineDead):
        rig.start(1)
    rig.network.refuses = rig.accelerator.broken = False
    with pytest.raises(EngineDead):
        rig.start(1)
    rig.engine.close()


def test_a_closed_engine_says_so() -> None:
    rig = Rig()
    ticket = rig.start(1)
    with nothing_held(rig.accelerator):
        rig.engine.close()
    with pytest.raises(EngineDead, match="is closed"):
        rig.engine.finish(ticket)
    with pytest.raises(EngineDead, match="is closed"):
        rig.start(1)


@pytest.mark.parametrize("memory_bytes", [0, 100, 200, 500, 600, 800])
def test_where_memory_ends_while_it_is_made_nothing_is_left(memory_bytes: int) -> None:
    """A slot needs 360 bytes for frames and 120 for outputs."""
    accelerator = FakeAccelerator(memory_bytes=memory_bytes)
    network = FakeNetwork(accelerator, accelerator.stream(), SHAPE)
    with nothing_held(accelerator), pytest.raises(EngineError, match="out of memory"):
        PipelinedEngine(PACKAGE, accelerator, lambda _: network, MOST)  # type: ignore[arg-type,return-value]
    assert network.closed


def test_where_the_model_does_not_load_nothing_is_left() -> None:
    accelerator = FakeAccelerator()

    def load(_: object) -> FakeNetwork:
        raise EngineError("a foreign plan")

    with nothing_held(accelerator), pytest.raises(EngineError, match="a foreign plan"):
        PipelinedEngine(PACKAGE, accelerator, load, MOST)  # type: ignore[arg-type]

"""An accelerator of NumPy, whose streams advance only as far as somebody makes them: all orders that a GPU may take.

It refuses what a GPU would forgive until it doesn't: a read of memory that something still writes shows as wrong data,
memory that is used after it was freed as an assertion, and what isn't freed is in `FakeAccelerator.held`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engines.accelerator import size_of
from engines.errors import EngineDead, InferenceFailed
from engines.types import UInt8Array


class FakeStream:
    """A queue of things to do, each when its condition holds and those before it are done."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queue: deque[tuple[Callable[[], bool], Callable[[], None]]] = deque()

    def put(self, action: Callable[[], None], condition: Callable[[], bool] = lambda: True) -> None:
        self.queue.append((condition, action))

    def wait_for(self, event: FakeEvent) -> None:
        recorded = event.recorded
        self.put(lambda: None, lambda: event.reached >= recorded)

    @property
    def may_advance(self) -> bool:
        return bool(self.queue) and self.queue[0][0]()

    def advance(self) -> None:
        self.queue.popleft()[1]()


class FakeEvent:
    def __init__(self, accelerator: FakeAccelerator) -> None:
        self._accelerator = accelerator
        self.recorded = self.reached = 0

    def record(self, stream: FakeStream) -> None:
        self.recorded += 1
        number = self.recorded

        def reach() -> None:
            self.reached = number

        stream.put(reach)

    def happened(self) -> bool:
        self._accelerator.check()
        return self.reached == self.recorded

    def wait(self) -> None:
        self._accelerator.run_until(lambda: self.reached == self.recorded)

    def free(self) -> None:
        assert self.reached == self.recorded, "an event that is still to happen was freed"
        self._accelerator.held["event"] -= 1


class FakeMemory:
    """Bytes; as memory of the device, or pinned, in which case ``array`` is what it was asked for as."""

    def __init__(self, accelerator: FakeAccelerator, kind: str, array: NDArray[Any]) -> None:
        self._accelerator, self._kind, self._array = accelerator, kind, array
        self.freed = False
        self.address = id(self)

    @property
    def array(self) -> NDArray[Any]:
        assert not self.freed, "memory was used after it was freed"
        return self._array

    def free(self) -> None:
        assert not self.freed, "memory was freed twice"
        assert not any(stream.queue for stream in self._accelerator.streams), "memory was freed under a running batch"
        self.freed = True
        self._accelerator.held[self._kind] -= 1
        if self._kind == "memory":
            self._accelerator.held["bytes"] -= self._array.nbytes


class FakeAccelerator:
    """An `Accelerator`; ``order`` decides which stream advances when something is waited for."""

    name = "fake:0"

    def __init__(self, order: Random | None = None, memory_bytes: int = 1 << 30) -> None:
        self._order = order or Random(0)
        self._left = memory_bytes
        self.streams: list[FakeStream] = []
        self.held: Counter[str] = Counter()
        self.broken = False
        self.closed = False

    def stream(self) -> FakeStream:
        self.streams.append(FakeStream(len(self.streams)))
        return self.streams[-1]

    def event(self) -> FakeEvent:
        self.held["event"] += 1
        return FakeEvent(self)

    def memory(self, size: int) -> FakeMemory:
        if size > self.free_bytes():
            raise EngineDead("out of memory")
        self.held["memory"] += 1
        self.held["bytes"] += size
        return FakeMemory(self, "memory", np.full(size, 0xA5, np.uint8))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> FakeMemory:
        self.held["pinned"] += 1
        return FakeMemory(self, "pinned", np.zeros(shape, dtype))

    def upload(self, target: FakeMemory, source: NDArray[Any], stream: FakeStream) -> None:
        self.check()

        def copy() -> None:
            data = np.frombuffer(source.tobytes(), np.uint8)
            target.array[: len(data)] = data

        stream.put(copy)

    def download(self, target: NDArray[Any], source: FakeMemory, stream: FakeStream) -> None:
        self.check()

        def copy() -> None:
            target[:] = source.array[: target.nbytes].view(target.dtype).reshape(target.shape)

        stream.put(copy)

    def synchronise(self) -> None:
        self.run_until(lambda: not any(stream.queue for stream in self.streams))

    def free_bytes(self) -> int:
        return self._left - self.held["bytes"]

    def close(self) -> None:
        self.closed = True

    def check(self) -> None:
        if self.broken:
            raise EngineDead("the device fell off the bus")

    def run_until(self, true: Callable[[], bool]) -> None:
        """Advance streams in any order until it holds."""
        self.check()
        while not true():
            self.step()

    def step(self) -> None:
        """Advance one of the streams that may."""
        may = [stream for stream in self.streams if stream.may_advance]
        assert may, "the streams wait for each other"
        self._order.choice(may).advance()


class FakeNetwork:
    """Finds one object a frame: its first pixel's values as left, top and class, with a score of 0.9.

    The output ``output`` is float32 ``[batch, 1, 6]``, as the family ``yolo-nms-free`` has it.
    """

    def __init__(self, accelerator: FakeAccelerator, stream: FakeStream, shape: tuple[int, int, int]) -> None:
        self.accelerator, self.stream, self.shape = accelerator, stream, shape
        self.runs: list[int] = []
        self.refuses = False
        self.closed = False

    def runner(self, batch: int, frames: FakeMemory, outputs: Mapping[str, FakeMemory]) -> FakeRunner:
        self.accelerator.held["runner"] += 1
        return FakeRunner(self, batch, frames, outputs["output"])

    def close(self) -> None:
        assert self.accelerator.broken or not self.accelerator.held["runner"], "closed before its runners"
        self.closed = True


class FakeRunner:
    def __init__(self, network: FakeNetwork, batch: int, frames: FakeMemory, output: FakeMemory) -> None:
        self._network, self._batch, self._frames, self._output = network, batch, frames, output

    def enqueue(self) -> None:
        if self._network.refuses:
            raise InferenceFailed("the network refuses")
        self._network.runs.append(self._batch)
        self._network.stream.put(self._run)

    def _run(self) -> None:
        size = size_of((self._batch, *self._network.shape), np.uint8)
        frames = self._frames.array[:size].reshape(self._batch, *self._network.shape)
        rows = np.zeros((self._batch, 1, 6), np.float32)
        rows[:, 0, :2] = frames[:, 0, 0, :2]
        rows[:, 0, 2:4] = rows[:, 0, :2] + 1
        rows[:, 0, 4] = 0.9
        rows[:, 0, 5] = frames[:, 0, 0, 2]
        data = np.frombuffer(rows.tobytes(), np.uint8)
        self._output.array[: len(data)] = data

    def free(self) -> None:
        self._network.accelerator.held["runner"] -= 1


def frame_of(number: int, shape: tuple[int, int, int]) -> UInt8Array:
    """A frame in which `FakeNetwork` finds the object ``number``, below 65536."""
    frame = np.zeros(shape, np.uint8)
    frame[0, 0] = number % 256, number // 256, 1
    return frame


@contextmanager
def nothing_held(accelerator: FakeAccelerator) -> Iterator[None]:
    """All that was made must be freed by the end, and the device let go of."""
    yield
    assert not +accelerator.held
    assert accelerator.closed

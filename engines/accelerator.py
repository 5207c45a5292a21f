"""What `PipelinedEngine` needs of an accelerator's library and of what runs the network on it.

`engines.trt.cuda` implements the first over pycuda, `engines.trt.engine` and `engines.onnx_cuda` the second. All of it
is made, used and freed by one thread. Every call may raise EngineDead: a device that fails once fails for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Stream(Protocol):
    """Work that the device does in order; what lies in different streams has no order but by events."""

    @property
    def handle(self) -> int:
        """The driver's handle, for other libraries."""
        ...

    def wait_for(self, event: Event) -> None:
        """Let what comes next in this stream begin once ``event``, as last recorded, has happened."""
        ...


class Event(Protocol):
    """A mark in a stream."""

    def record(self, stream: Stream) -> None:
        """Happen when all that is in ``stream`` by now is done."""
        ...

    def happened(self) -> bool:
        """Whether it has, since it was recorded last."""
        ...

    def wait(self) -> None:
        """Return once it has; other threads run meanwhile."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


class Memory(Protocol):
    """A piece of the device's memory."""

    @property
    def address(self) -> int:
        """Its first byte, as the device counts."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


class Pinned(Protocol):
    """Host memory that the device reads and writes by itself."""

    @property
    def array(self) -> NDArray[Any]:
        """The memory, of the shape and type that was asked for."""
        ...

    def free(self) -> None:
        """Give it back; ``array`` and its views must not be touched any more."""
        ...


class Accelerator(Protocol):
    """One device, and the only way to its memory."""

    @property
    def name(self) -> str:
        """For people, such as ``cuda:0 NVIDIA H100``."""
        ...

    def stream(self) -> Stream:
        """A new stream, ordered with no other."""
        ...

    def event(self) -> Event:
        """A new event."""
        ...

    def memory(self, size: int) -> Memory:
        """``size`` bytes; EngineError where there aren't as many."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> Pinned:
        """Pinned memory, zeroed; EngineError where there isn't as much."""
        ...

    def upload(self, target: Memory, source: NDArray[Any], stream: Stream) -> None:
        """Copy pinned ``source`` to the device, in ``stream``."""
        ...

    def download(self, target: NDArray[Any], source: Memory, stream: Stream) -> None:
        """Fill pinned ``target`` from the device, in ``stream``."""
        ...

    def synchronise(self) -> None:
        """Wait for all streams; EngineDead tells that the device can't go on."""
        ...

    def free_bytes(self) -> int:
        """Device memory that nobody uses."""
        ...

    def close(self) -> None:
        """Let go of the device and of the streams; all else that was made here is freed by then."""
        ...


class Runner(Protocol):
    """The network for one batch size on fixed memory."""

    def enqueue(self) -> None:
        """Put one run into the compute stream. InferenceFailed: the library refused."""
        ...

    def free(self) -> None:
        """Give back what belongs to it."""
        ...


class Network(Protocol):
    """A loaded model, which runs in the compute stream that it was loaded with."""

    def runner(self, batch: int, frames: Memory, outputs: Mapping[str, Memory]) -> Runner:
        """Make ready to run ``batch`` frames, uint8 ``[batch, height, width, 3]``, into ``outputs`` by name."""
        ...

    def close(self) -> None:
        """Free the model; its runners are freed by then."""
        ...


def size_of(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Bytes of an array."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize

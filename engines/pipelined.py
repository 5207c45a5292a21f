"""The engine of accelerators: two batches under way, so that copies overlap with the network.

Each batch has a slot: pinned memory that frames are gathered into, device memory of the same size, device and pinned
memory for the outputs, and an event behind each step. The steps lie in three streams, which the device works on at the
same time::

    copies in     | batch 1 |  batch 2     |            | batch 3 |
    network                 | batch 1          | batch 2            | batch 3 ...
    copies out                                 | batch 1 |          | batch 2 |

The network runs for a few batch sizes only, the buckets; a batch takes the next larger one, and the rows that it leaves
over hold whatever lay there and are never copied back. What runs a bucket on a slot is made once, on fixed addresses.

The steps are ordered by events of the device's alone: tests drive this code on an accelerator of NumPy whose streams
advance in any order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engines.accelerator import Accelerator, Memory, Network, Pinned, Runner, Stream, size_of
from engines.batches import check_batch
from engines.errors import EngineDead, InferenceFailed
from engines.package import ModelPackage
from engines.postprocess import detections
from engines.types import Detections, EngineInfo, TensorSpec, Thresholds, UInt8Array

SLOTS = 2
"""Enough for copies to overlap with the network; a third would only let batches wait on the device."""

logger = logging.getLogger(__name__)


def buckets(max_batch_size: int) -> tuple[int, ...]:
    """The batch sizes that the network runs for: powers of two, and the largest batch."""
    powers = (1 << power for power in range(max_batch_size.bit_length()))
    return (*(size for size in powers if size < max_batch_size), max_batch_size)


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch under way.

    Attributes:
        slot: where it lies; None once it is finished.
    """

    slot: _Slot | None
    frames: int
    thresholds: Sequence[Thresholds]


class PipelinedEngine:
    """An `engines.protocol.PipelinedEngine` on an accelerator.

    Args:
        package: a built one, whose network takes uint8 frames.
        load: loads the network for a compute stream.

    Raises:
        EngineError: the device hasn't the memory, or the library refuses the model.
    """

    def __init__(
        self,
        package: ModelPackage,
        accelerator: Accelerator,
        load: Callable[[Stream], Network],
        max_batch_size: int,
    ) -> None:
        self._package = package
        self._accelerator = accelerator
        self._info = package.info(max_batch_size, accelerator.name)
        self._buckets = buckets(max_batch_size)
        self._dead: EngineDead | None = None
        with ExitStack() as undo:
            undo.callback(accelerator.close)
            self._streams = _Streams(accelerator.stream(), accelerator.stream(), accelerator.stream())
            self._network = load(self._streams.compute)
            undo.callback(self._network.close)
            self._slots: list[_Slot] = []
            self._idle: deque[_Slot] = deque()
            undo.callback(self._free_slots)
            for _ in range(SLOTS):
                self._add_slot()
            self._open = undo.pop_all()

    @property
    def lanes(self) -> int:
        """One: all is done by one thread."""
        return 1

    @property
    def depth(self) -> int:
        """Batches that may be under way at once."""
        return SLOTS

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._info

    @property
    def buckets(self) -> tuple[int, ...]:
        """See `engines.protocol.PipelinedEngine.buckets`."""
        return self._buckets

    def warmup(self) -> None:
        """Run each bucket once on each slot, which makes all that they need."""
        blank = np.zeros((self._info.height, self._info.width, 3), np.uint8)
        for size in self._buckets:
            for _ in range(SLOTS):  # they take turns
                self.infer([blank] * size, [Thresholds()] * size)

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        """Find the objects in a batch; see `Engine.infer`."""
        return self.finish(self.start(frames, thresholds))

    def start(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> Ticket:
        """Put a batch on its way; see `engines.protocol.PipelinedEngine.start`."""
        check_batch(frames, thresholds, self._info)
        self._check_alive()
        if not self._idle:
            raise ValueError(f"{self._info.name} has {SLOTS} batches under way; finish one first")
        slot = self._idle.popleft()
        try:
            with self._watched():
                slot.launch(frames, next(size for size in self._buckets if size >= len(frames)), self._streams)
        except InferenceFailed:
            self._idle.append(slot)  # `_watched` has waited for what was under way in it
            raise
        return Ticket(slot, len(frames), thresholds)

    def ready(self, ticket: Ticket) -> bool:
        """Whether `finish` would not have to wait."""
        self._check_alive()
        with self._watched():
            return _slot_of(ticket).returned.happened()

    def wait(self, ticket: Ticket) -> None:
        """See `engines.protocol.PipelinedEngine.wait`."""
        self._check_alive()
        with self._watched():
            _slot_of(ticket).returned.wait()

    def finish(self, ticket: Ticket) -> list[Detections]:
        """Wait for a batch and read its outputs; see `engines.protocol.PipelinedEngine.finish`."""
        self.wait(ticket)
        slot = _slot_of(ticket)
        ticket.slot = None
        try:
            outputs = {name: pinned.array[: ticket.frames] for name, pinned in slot.outputs.items()}
            decoded = self._package.decoder.decode(outputs, [each.confidence for each in ticket.thresholds])
            return [detections(frame, limits) for frame, limits in zip(decoded, ticket.thresholds, strict=True)]
        finally:
            self._idle.append(slot)

    def renew(self) -> None:
        """Free an idle slot with all that belongs to it, and make it anew. Nobody needs it but the search for leaks."""
        self._check_alive()
        with self._watched():
            old = self._idle.popleft()
            self._slots.remove(old)
            old.free()
            self._add_slot()

    def free_bytes(self) -> int:
        """Memory of the device that nobody uses."""
        return self._accelerator.free_bytes()

    def close(self) -> None:
        """Free everything, batches under way included; see `Engine.close`."""
        self._dead = self._dead or EngineDead(f"{self._info.name} is closed; make a new engine")
        try:
            self._open.close()
        except EngineDead as error:  # a broken device gives nothing back: that is for the end of the process
            logger.warning("not all of %s could be freed: %s", self._info.name, error)

    def _add_slot(self) -> None:
        slot = _Slot(self._accelerator, self._network, self._package.outputs, self._info)
        self._slots.append(slot)
        self._idle.append(slot)

    def _free_slots(self) -> None:
        self._accelerator.synchronise()  # nothing reads or writes what is freed
        for slot in self._slots:
            slot.free()
        self._slots.clear()
        self._idle.clear()

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise self._dead

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """A failure that leaves the device unwell is the engine's end."""
        try:
            try:
                yield
            except InferenceFailed:
                self._accelerator.synchronise()
                raise
        except EngineDead as error:
            self._dead = error
            raise


class _Streams(NamedTuple):
    """One for each of the steps."""

    upload: Stream
    compute: Stream
    download: Stream


class _Slot:
    """What one batch needs while it is under way."""

    def __init__(
        self, accelerator: Accelerator, network: Network, outputs: Sequence[TensorSpec], info: EngineInfo
    ) -> None:
        self._accelerator = accelerator
        self._network = network
        self._runners: dict[int, Runner] = {}
        shape = (info.max_batch_size, info.height, info.width, 3)
        with ExitStack() as undo:
            # The device's memory first: a host that is asked for far too much may end the process before it refuses.
            self._device_frames = accelerator.memory(size_of(shape, np.uint8))
            undo.callback(self._device_frames.free)
            self._frames = accelerator.pinned(shape, np.uint8)
            undo.callback(self._frames.free)
            self.outputs: dict[str, Pinned] = {}
            self._device_outputs: dict[str, Memory] = {}
            for output in outputs:
                rows = (info.max_batch_size, *(side or 1 for side in output.shape[1:]))
                self.outputs[output.name] = pinned = accelerator.pinned(rows, output.dtype)
                undo.callback(pinned.free)
                self._device_outputs[output.name] = memory = accelerator.memory(size_of(rows, output.dtype))
                undo.callback(memory.free)
            self._arrived, self._computed, self.returned = events = tuple(accelerator.event() for _ in range(3))
            for event in events:
                undo.callback(event.free)
            undo.callback(self._free_runners)
            self._open = undo.pop_all()

    def launch(self, frames: Sequence[UInt8Array], bucket: int, streams: _Streams) -> None:
        """Gather ``frames`` and put all steps into their streams."""
        runner = self._runners.get(bucket)
        if runner is None:
            runner = self._network.runner(bucket, self._device_frames, self._device_outputs)
            self._runners[bucket] = runner
        count = len(frames)
        rows = self._frames.array[:count]
        for frame, row in zip(frames, rows, strict=True):
            np.copyto(row, frame)
        self._accelerator.upload(self._device_frames, rows, streams.upload)
        self._arrived.record(streams.upload)
        streams.compute.wait_for(self._arrived)
        runner.enqueue()
        self._computed.record(streams.compute)
        streams.download.wait_for(self._computed)
        for name, pinned in self.outputs.items():
            self._accelerator.download(pinned.array[:count], self._device_outputs[name], streams.download)
        self.returned.record(streams.download)

    def free(self) -> None:
        """Give everything back; nothing is under way in it."""
        self._open.close()

    def _free_runners(self) -> None:
        for runner in self._runners.values():
            runner.free()
        self._runners.clear()


def _slot_of(ticket: Ticket) -> _Slot:
    if ticket.slot is None:
        raise ValueError("this batch is finished already")
    return ticket.slot

"""The one protocol that all engines implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from engines.types import Detections, EngineInfo, Thresholds, UInt8Array


class Engine(Protocol):
    """Finds objects in batches of frames.

    An engine with one lane is used by one thread alone, the one that made it: that thread also closes it. One with
    more is called by as many threads at a time.
    """

    @property
    def lanes(self) -> int:
        """Batches that it infers at the same time."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        ...

    def warmup(self) -> None:
        """Run every batch size once, so that the first real frame is as fast as the others."""
        ...

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        """Find the objects in a batch of uint8 ``[height, width, 3]`` frames, in `EngineInfo.colour` order.

        They lie wherever they were made, in memory that is read here for the first time since: an engine that wants
        its batch in one piece copies them itself, with its conversion to the model's type. The caller may reuse them
        afterwards. Returns one `Detections` a frame, in input pixels.

        Raises:
            ValueError: the caller's batch doesn't fit `info`.
            InferenceFailed: this batch failed; the engine can go on.
            EngineDead: the engine can't go on; its replica has to be replaced.
        """
        ...

    def close(self) -> None:
        """Free everything. The engine is unusable afterwards."""
        ...


@runtime_checkable
class PipelinedEngine(Engine, Protocol):
    """An engine of one lane whose thread may start a batch while it is busy with another.

    ``infer`` is ``finish(start(...))``. Batches are finished in the order in which they were started.
    """

    @property
    def depth(self) -> int:
        """Batches that may be under way at once."""
        ...

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that it runs for, from one up; a batch takes as long as the next larger of them."""
        ...

    def start(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> Any:
        """Put a batch on its way and return a ticket for it; the frames may be reused from then on.

        Raises as `infer` does, and ValueError where `depth` batches are under way.
        """
        ...

    def ready(self, ticket: Any) -> bool:
        """Whether `finish` would return without waiting. Raises EngineDead."""
        ...

    def wait(self, ticket: Any) -> None:
        """Return once `finish` would not have to wait; the device is free for the next batch from then on.

        Raises EngineDead.
        """
        ...

    def finish(self, ticket: Any) -> list[Detections]:
        """Wait for a batch, read its detections and return them. Raises InferenceFailed and EngineDead."""
        ...

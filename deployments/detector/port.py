"""What callers of the detector see, whatever carries their frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engines.types import Detections, EngineInfo, Thresholds, UInt8Array


class InvalidFrame(Exception):
    """The detector refused one frame (shape or type); the others of its batch were served."""


@dataclass(frozen=True, slots=True)
class DetectRequest:
    """One frame for the detector.

    Attributes:
        image: uint8 ``[height, width, 3]``, letterboxed to `EngineInfo`'s size, in its channel order.
        thresholds: None takes the detector's own.
        priority: where not all can be served, higher ones are.
        budget_s: from now on; a frame that is older when its turn comes is dropped before it costs engine time.
        rows: the first row that holds some of the picture, and how many do; the others are `EngineInfo.pad` all over,
            and don't travel over TCP. None: all of them. Where ``image`` is I420 it has these rows alone.
    """

    image: UInt8Array
    thresholds: Thresholds | None
    priority: int = 0
    budget_s: float = 1.0
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DetectReply:
    """What the detector found, in pixels of the image it was given.

    Attributes:
        wait_s: from the frame's arrival in the replica to the start of its batch.
        infer_s: the engine's time for the whole batch.
        batch_size: frames in that batch.
    """

    detections: Detections
    wait_s: float
    infer_s: float
    batch_size: int


class PendingReply(Protocol):
    """A frame on its way."""

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once `result` no longer waits: now, or on another thread, where it must be quick."""
        ...

    def result(self, timeout_s: float) -> DetectReply:
        """Wait for the reply.

        Raises:
            InvalidFrame: the frame was refused.
            DetectorUnavailable: no reply in time, or the replica is gone; the request is cancelled.
        """
        ...


class DetectorPort(Protocol):
    """A detector as a stream uses it; safe to call from several threads."""

    def info(self, timeout_s: float) -> EngineInfo:
        """What is loaded. Raises DetectorUnavailable after ``timeout_s``."""
        ...

    def place(self) -> UInt8Array | None:
        """Where the next frame may be made, uint8 ``[height, width, 3]``, so that `submit` copies nothing.

        None where any array will do. Its old pixels are still there; it is the caller's until it is submitted.
        """
        ...

    def submit(self, request: DetectRequest) -> PendingReply:
        """Send a frame and return at once."""
        ...

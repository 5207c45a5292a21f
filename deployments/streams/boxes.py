"""The newest boxes of a stream, for the video branch: a frame's own if they are back in time, else the last."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engines.types import Detections


class BoxBoard:
    """Where the detection branch pins what it found, and the video branch looks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._own: dict[int, Detections] = {}
        self._pending: set[int] = set()
        self._last = Detections.empty()
        self._closed = False

    def expect(self, sequence: int) -> None:
        """The detection branch has the frame: its own boxes may still come."""
        with self._changed:
            self._pending.add(sequence)

    def settle(self, sequence: int, detections: Detections | None) -> None:
        """The frame's boxes, or None where it was dropped and there will be none."""
        with self._changed:
            if sequence in self._pending:
                self._pending.discard(sequence)
                if detections is not None:
                    self._own[sequence] = detections
            if detections is not None:
                self._last = detections
            self._changed.notify_all()

    def take(self, sequence: int, deadline: float, clock: Callable[[], float]) -> Detections:
        """The frame's own boxes, waited for until ``deadline`` on ``clock``, else the last ones."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or sequence not in self._pending, max(0.0, deadline - clock()))
            self._pending.discard(sequence)
            return self._own.pop(sequence, self._last)

    def forget(self, sequence: int) -> None:
        """The video branch gave the frame up."""
        with self._changed:
            self._pending.discard(sequence)
            self._own.pop(sequence, None)

    def clear(self) -> None:
        """Forget all boxes that were found: another model is loaded, and gives their classes other names."""
        with self._changed:
            self._own.clear()
            self._last = Detections.empty()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def of_classes(detections: Detections, wanted: tuple[str, ...] | None, names: tuple[str, ...]) -> Detections:
    """Those whose label is wanted; all where None is."""
    if wanted is None:
        return detections
    keep = [names[class_id] in wanted for class_id in detections.class_id]
    return Detections(detections.xyxy[keep], detections.confidence[keep], detections.class_id[keep])

"""A frame on its way over the link, as the stream waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from deployments.detector.port import DetectReply
from deployments.detector.scheduler import DropReason
from deployments.errors import DetectorUnavailable


class FrameDropped(DetectorUnavailable):
    """The detector is there, but gave this frame up: ``reason`` says why. The next one may fare better."""

    def __init__(self, reason: DropReason, detail: str) -> None:
        super().__init__(f"the detector dropped a frame: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason


class LinkReply:
    """A `PendingReply`."""

    __slots__ = ("_callback", "_lock", "_outcome", "_unsettled")

    def __init__(self) -> None:
        self._unsettled = threading.Lock()  # held until there is an outcome; an Event costs several times as much
        self._unsettled.acquire()
        self._lock = threading.Lock()
        self._outcome: DetectReply | Exception | None = None
        self._callback: Callable[[], None] | None = None

    def settle(self, outcome: DetectReply | Exception) -> None:
        """Say what became of the frame, once."""
        with self._lock:
            self._outcome = outcome
            callback, self._callback = self._callback, None  # it may hold the frame, and through it this reply
            self._unsettled.release()  # here: who learns of the outcome by `when_settled` finds it by `result`
        if callback is not None:
            callback()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once there is an outcome: now, or on the link's thread."""
        with self._lock:
            settled = self._outcome is not None
            if not settled:
                self._callback = callback
        if settled:
            callback()

    def result(self, timeout_s: float) -> DetectReply:
        """Wait for the reply.

        Raises:
            InvalidFrame: the frame was refused.
            FrameDropped: it was dropped, for another reason.
            DetectorUnavailable: no reply in time, or the attachment has ended.
        """
        if not self._unsettled.acquire(timeout=timeout_s):
            raise DetectorUnavailable(f"no reply from the detector within {timeout_s:g} s")
        self._unsettled.release()
        if isinstance(self._outcome, DetectReply):
            return self._outcome
        assert self._outcome is not None
        try:
            raise self._outcome
        finally:
            del self  # the error's traceback holds this call, and this reply the error

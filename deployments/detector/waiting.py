"""Frames that wait in a replica for their batch, by whom they came."""

from __future__ import annotations

import asyncio
import time

from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.scheduler import DropReason
from deployments.detector.service import Outcome
from deployments.errors import DetectorUnavailable
from deployments.link.attachments import LinkFrame
from deployments.link.server import LinkServer
from engines.types import UInt8Array

DIRECT_BUDGET_S = 8.0
"""How long a frame that came through a handle may wait: below the API's own time limit of 10 s."""


class LinkedFrame:
    """A stream's frame; the answer goes back over the link."""

    __slots__ = ("_frame", "_server", "arrived_at", "expires_at", "image", "priority", "request", "rows", "stream")

    def __init__(self, frame: LinkFrame, server: LinkServer) -> None:
        self._frame, self._server = frame, server
        self.stream: str | None = frame.lease
        self.image, self.rows = frame.image, frame.rows
        self.priority = frame.priority
        self.arrived_at, self.expires_at = frame.arrived_at, frame.expires_at
        self.request = DetectRequest(frame.image, frame.thresholds, rows=frame.rows)

    def settle(self, outcome: Outcome) -> None:
        """Answer it with what its batch gave."""
        if isinstance(outcome, DetectReply):
            self._server.reply(self._frame, outcome)
        elif isinstance(outcome, InvalidFrame):
            self._server.drop(self._frame, DropReason.INVALID, str(outcome))
        else:
            self._server.drop(self._frame, DropReason.FAILED, str(outcome))

    def drop(self, reason: DropReason, detail: str) -> None:
        """Answer it with why it was in no batch."""
        self._server.drop(self._frame, reason, detail)


class DirectFrame:
    """A frame that came through a handle; its caller awaits `outcome`. Made on the event loop."""

    __slots__ = ("_loop", "arrived_at", "expires_at", "image", "outcome", "priority", "request", "rows", "stream")

    def __init__(self, request: DetectRequest) -> None:
        self._loop = asyncio.get_running_loop()
        self.stream: str | None = None
        self.image: UInt8Array = request.image
        self.rows = request.rows
        self.priority = 0
        self.arrived_at = time.monotonic()
        self.expires_at = self.arrived_at + DIRECT_BUDGET_S
        self.request = request
        self.outcome: asyncio.Future[DetectReply] = self._loop.create_future()

    def settle(self, outcome: Outcome) -> None:
        """Give the caller what its batch gave."""
        if self.outcome.done():
            return
        if isinstance(outcome, DetectReply):
            self.outcome.set_result(outcome)
        else:
            self.outcome.set_exception(outcome)

    def drop(self, reason: DropReason, detail: str) -> None:
        """Tell the caller why there is no reply."""
        if self.outcome.done():
            return
        invalid = reason is DropReason.INVALID
        text = detail or f"the detector dropped the frame: {reason}"
        self.outcome.set_exception(InvalidFrame(text) if invalid else DetectorUnavailable(text))

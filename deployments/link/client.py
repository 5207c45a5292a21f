"""The stream's end of the link: one attachment to one replica, as a `DetectorPort`.

It lives until either side ends it, the connection breaks or the lease runs out, and never connects again: who
attached decides where to next.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.scheduler import DropReason
from deployments.errors import DetectorUnavailable
from deployments.link import messages
from deployments.link.dial import attach
from deployments.link.grant import Grant, KeyPair
from deployments.link.messages import ByeReason, Drain, Layout, Malformed, Message
from deployments.link.pending import FrameDropped, LinkReply
from deployments.link.pictures import even, layout_of, shapes, to_i420
from engines.types import EngineInfo, UInt8Array

logger = logging.getLogger(__name__)

ALIVE_EVERY_S = 1.0

SILENT_AFTER_S = 5.0
"""A server that wasn't heard for so long is taken for dead; it answers each `Alive`."""

RENEW_AT = 2 / 3
"""Part of a lease after which it is renewed: the rest is time to attach elsewhere."""


class LinkClient:
    """One attachment. `submit` may be called from several threads; all methods may.

    A picture may be packed as `DetectRequest` says, or I420: ``[height * 3 / 2, width]``, BT.601, limited range.
    Without shared memory packed ones are made I420 first, of the rows that aren't padding: 0.25 ms of CPU for half of
    the bytes, or less.
    """

    def __init__(
        self,
        grant: Grant,
        keys: KeyPair,
        *,
        on_drain: Callable[[Drain], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Attach. Raises DetectorUnavailable after at most `ATTACH_TIMEOUT_S`.

        Args:
            keys: those whose public one the grant was given for.
            on_drain: it is time to attach elsewhere; this attachment goes on meanwhile.
            on_lost: it has ended, though not by `close`. Both are called on the link's thread and must be quick.
        """
        attached = attach(grant, keys)
        self._line, self._segment = attached.line, attached.segment
        self.shares_memory = attached.segment is not None
        self._info = grant.info
        self._layouts = shapes(grant.info)
        self._on_drain, self._on_lost = on_drain, on_lost
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._ended: str | None = None
        self._sequence = 0
        self._places = list(range(grant.window))
        self._lent: tuple[int, UInt8Array] | None = None
        self._out: dict[int, tuple[int, LinkReply]] = {}
        self._heard_at = time.monotonic()
        self._leased(attached.lease_s)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def info(self, timeout_s: float) -> EngineInfo:
        """What is loaded; known since the grant, so ``timeout_s`` isn't needed. Raises DetectorUnavailable."""
        self._check()
        return self._info

    def place(self) -> UInt8Array | None:
        """A place to make the next frame in, uint8 ``[height, width, 3]``; `submit` then copies nothing.

        None where there is none, or no memory is shared: any array will do. It is the caller's until it is submitted.
        """
        segment = self._segment
        if segment is None:
            return None
        with self._lock:
            if self._lent is None and self._places and self._ended is None:
                place = self._places.pop()
                self._lent = place, segment.place(place, self._layouts[Layout.PACKED])
            return None if self._lent is None else self._lent[1]

    def submit(self, request: DetectRequest) -> LinkReply:
        """Send a frame and return at once; the image may be used again, unless it is from `place`.

        Raises:
            DetectorUnavailable: the attachment has ended, or all of its frames are out.
        """
        layout, rows = layout_of(request.image, self._layouts, request.rows), request.rows
        if layout is None:
            refused = LinkReply()
            refused.settle(InvalidFrame(f"a frame must be uint8, one of {list(self._layouts.values())}"))
            return refused
        image = request.image
        if layout is Layout.PACKED and Layout.I420 in self._layouts and not self.shares_memory:
            rows = None if rows is None else even(rows, self._info.height)
            layout, image = Layout.I420, to_i420(image, self._info.colour, rows)
        sequence, place, reply, filled = self._take_place(image)
        pixels = () if filled else self._put(place, image)
        slot = None if pixels else place
        of_layout = rows if layout is Layout.I420 else None
        limits, priority, budget_s = request.thresholds, request.priority, request.budget_s
        frame = messages.Frame(sequence, slot, layout, limits, priority, budget_s, of_layout)
        if not self._line.send(frame, *pixels):
            self._end("the connection takes no more frames")
            raise DetectorUnavailable("the attachment to the detector has ended")
        return reply

    def renew(self) -> None:
        """Ask for more time now, which happens by itself at `RENEW_AT`; a refusal comes by ``on_drain``."""
        self._line.send(messages.Renew())

    @property
    def ended(self) -> bool:
        """Whether this attachment is over."""
        return self._ended is not None

    def await_replies(self, deadline: float) -> None:
        """Return once no frame is out any more, or at ``deadline`` on the monotonic clock."""
        with self._settled:
            self._settled.wait_for(lambda: not self._out or self._ended is not None, deadline - time.monotonic())

    def close(self) -> None:
        """Say goodbye and free everything; frames that are out fail. Not from a callback."""
        self._end("closed by this side", tell=False)
        self._thread.join()

    def _check(self) -> None:
        if self._ended is not None:
            raise DetectorUnavailable(f"the attachment to the detector has ended: {self._ended}")

    def _take_place(self, image: UInt8Array) -> tuple[int, int, LinkReply, bool]:
        """Sequence, place and reply of a frame, and whether it lies in its place already."""
        with self._lock:
            self._check()
            lent, filled = self._lent, self._lent is not None and self._lent[1] is image
            if lent is not None and (filled or not self._places):
                self._lent = None
                self._places.append(lent[0])
            if not self._places:
                raise DetectorUnavailable(f"{len(self._out)} frames of this stream are with the detector already")
            self._sequence += 1
            place, reply = self._places.pop(), LinkReply()
            self._out[self._sequence] = place, reply
            return self._sequence, place, reply, filled

    def _put(self, slot: int, image: UInt8Array) -> tuple[UInt8Array, ...]:
        """Write the picture into its slot; where there is none, return what goes inline."""
        segment = self._segment
        if segment is None:
            if self.shares_memory:
                raise DetectorUnavailable("the attachment to the detector has ended")
            return (np.ascontiguousarray(image),)
        np.copyto(segment.place(slot, image.shape), image)
        return ()

    def _end(self, why: str, *, tell: bool = True) -> None:
        with self._lock:
            if self._ended is None:
                self._ended = why
                self._tell = tell
            self._settled.notify_all()
        self._line.wake()

    # The link's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            changed = True
            while self._ended is None:
                broken = changed and self._line.broken()
                self._receive()
                if broken:
                    self._end("the connection broke")
                self._keep_up(time.monotonic())
                due = min(self._renew_at, self._alive_at, self._expires_at)
                changed = self._line.wait(due - time.monotonic())
        except Exception:
            logger.exception("the link's thread failed")
            self._end("the link's thread failed")
        finally:
            self._finish()

    def _receive(self) -> None:
        try:
            while (message := self._line.receive()) is not None:
                self._heard_at = time.monotonic()
                self._handle(message)
        except Malformed as error:
            self._end(f"the server sent what isn't ours: {error}")

    def _handle(self, message: Message) -> None:
        match message:
            case messages.Reply(sequence, wait_s, infer_s, batch_size, detections):
                self._settle(sequence, DetectReply(detections, wait_s, infer_s, batch_size))
            case messages.Drop(sequence, reason, detail):
                invalid = reason is DropReason.INVALID
                self._settle(sequence, InvalidFrame(detail) if invalid else FrameDropped(reason, detail))
            case messages.Renewed(lease_s):
                self._leased(lease_s)
            case messages.Drain():
                self._call(self._on_drain, message)
            case messages.Bye(reason=why):
                self._end(f"the server said goodbye: {why.name.lower()}")
            case _:
                pass  # Alive: that it was heard is all

    def _settle(self, sequence: int, outcome: DetectReply | Exception) -> None:
        with self._lock:
            if sequence not in self._out:
                return
            place, reply = self._out.pop(sequence)
            self._places.append(place)
            self._settled.notify_all()
        reply.settle(outcome)

    def _leased(self, lease_s: float) -> None:
        now = time.monotonic()
        self._expires_at = now + lease_s
        self._renew_at = now + lease_s * RENEW_AT
        self._alive_at = now + ALIVE_EVERY_S

    def _keep_up(self, now: float) -> None:
        if now >= self._renew_at:
            self._renew_at = math.inf  # until the server has answered
            self.renew()
        if now >= self._alive_at:
            self._alive_at = now + ALIVE_EVERY_S
            self._line.send(messages.Alive())
        if now >= self._expires_at:
            self._end("the lease ran out")
        elif now >= self._heard_at + SILENT_AFTER_S:
            self._end("nothing was heard of the server any more")

    def _finish(self) -> None:
        self._line.send(messages.Bye(ByeReason.CLOSED))
        self._line.close()
        with self._lock:
            lost = list(self._out.values())
            self._out.clear()
            self._segment = None
        for _, reply in lost:
            reply.settle(DetectorUnavailable(f"the attachment to the detector has ended: {self._ended}"))
        if self._tell:
            self._call(self._on_lost, self._ended or "")

    def _call(self, callback: Callable[[Any], None], argument: object) -> None:
        try:
            callback(argument)
        except Exception:
            logger.exception("a callback of the link failed")

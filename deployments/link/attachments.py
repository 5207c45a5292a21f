"""Who is attached to a link server, and which of their frames are here; plain state, the caller holds a lock."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field

import numpy as np

from deployments.errors import DetectorUnavailable
from deployments.link.grant import ATTACH_WITHIN_S
from deployments.link.messages import ByeReason, Frame, Layout
from deployments.link.pictures import shape_of
from deployments.link.slots import MappedSegment
from engines.types import Thresholds, UInt8Array

WINDOW = 4
"""Frames of one stream that may be out: two are the rule, and a slow reply mustn't stop the next."""

MAX_ATTACHED = 512
"""Attachments and open grants of one server."""

SILENT_AFTER_S = 5.0
"""Who hasn't been heard for so long is taken for dead; each side says something every second."""


@dataclass(slots=True, eq=False)
class LinkFrame:
    """A frame that came over the link; answer it once, with `LinkServer.reply` or `LinkServer.drop`.

    Attributes:
        lease: the attachment it belongs to; one stream may have two for a moment, when it moves.
        image: uint8, one of `pictures.shapes`, read-only. Where memory is shared it lies in the client's slot,
            which is its own until the answer.
        arrived_at, expires_at: monotonic time.
        rows: as in `DetectRequest`.
    """

    lease: str
    sequence: int
    slot: int | None
    image: UInt8Array
    thresholds: Thresholds | None
    priority: int
    arrived_at: float
    expires_at: float
    rows: tuple[int, int] | None = None

    @property
    def stream(self) -> str:
        """What the scheduler takes turns by."""
        return self.lease


class ProtocolBreach(Exception):
    """A client did what no client of ours does: it is detached."""


class WrongPicture(Exception):
    """A frame's bytes are no picture for this engine: it is dropped, alone."""


@dataclass(slots=True, eq=False)
class Attachment:
    """One client that said hello: its connection, its slots, how many frames it sent, and those not answered yet."""

    lease: str
    stream: str
    key: bytes
    peer: bytes
    connection: int
    segment: MappedSegment | None
    expires_at: float
    heard_at: float
    frames: int = 0
    out: dict[int, LinkFrame] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether `Attachments.end` was called: nothing renews it."""
        return self.expires_at == -math.inf

    def accept(
        self, frame: Frame, pixels: memoryview | None, shapes: dict[Layout, tuple[int, ...]], now: float
    ) -> LinkFrame:
        """Take a frame in. Raises ProtocolBreach, or WrongPicture for one that can only be dropped."""
        self.frames += 1
        taken = frame.slot is not None and any(other.slot == frame.slot for other in self.out.values())
        if taken or len(self.out) >= WINDOW or frame.sequence in self.out:
            raise ProtocolBreach("a frame too many, or in a slot that is in use")
        image = self._image(frame.slot, pixels, shape_of(frame.layout, frame.rows, shapes))
        sequence, slot, _, thresholds, priority, budget_s, rows = frame
        here = LinkFrame(self.lease, sequence, slot, image, thresholds, priority, now, now + budget_s, rows)
        self.out[sequence] = here
        return here

    def settle(self, frame: LinkFrame) -> bool:
        """Its answer is about to leave: whether none has left before."""
        if self.out.get(frame.sequence) is not frame:
            return False
        del self.out[frame.sequence]
        return True

    def _image(self, slot: int | None, pixels: memoryview | None, shape: tuple[int, ...] | None) -> UInt8Array:
        if (slot is None) == (pixels is None):
            raise ProtocolBreach("a frame is either in a slot or in the next part")
        if slot is not None and (self.segment is None or slot >= self.segment.slots):
            raise ProtocolBreach("a slot that isn't there")
        if shape is None:
            raise WrongPicture("this engine takes no I420, as its sides are odd, or none of these rows")
        if pixels is not None:
            if pixels.nbytes != math.prod(shape):
                raise WrongPicture(f"{pixels.nbytes} bytes are no frame of {list(shape)}")
            return np.frombuffer(pixels, np.uint8).reshape(shape)
        assert slot is not None
        assert self.segment is not None
        image = self.segment.read(slot, shape)
        if image is None:
            raise WrongPicture("the slot is too small for it")
        return image


@dataclass(slots=True)
class _Granted:
    stream: str
    key: bytes
    until: float


class Attachments:
    """All grants and attachments of one server."""

    def __init__(self) -> None:
        self._granted: dict[str, _Granted] = {}
        self.by_lease: dict[str, Attachment] = {}
        self.by_peer: dict[bytes, Attachment] = {}

    def __contains__(self, lease: str) -> bool:
        return lease in self._granted or lease in self.by_lease

    def grant(self, stream: str, key: bytes, now: float) -> str:
        """A new lease, for a hello within `ATTACH_WITHIN_S`. Raises DetectorUnavailable where there are too many."""
        if len(self._granted) + len(self.by_lease) >= MAX_ATTACHED:
            raise DetectorUnavailable(f"this replica has {MAX_ATTACHED} streams already")
        lease = secrets.token_hex(16)
        self._granted[lease] = _Granted(stream, key, now + ATTACH_WITHIN_S)
        return lease

    def attach(
        self, lease: str, peer: bytes, connection: int, segment: MappedSegment | None, now: float, lease_s: float
    ) -> Attachment:
        """Use a grant. Raises ProtocolBreach where there is none (any more)."""
        granted = self._granted.get(lease)
        if granted is None or granted.until <= now or peer in self.by_peer:
            raise ProtocolBreach("nothing was granted, or it is used or too old")
        del self._granted[lease]
        attachment = Attachment(lease, granted.stream, granted.key, peer, connection, segment, now + lease_s, now)
        self.by_lease[lease] = self.by_peer[peer] = attachment
        return attachment

    def remove(self, lease: str) -> tuple[bytes, Attachment | None]:
        """Forget a grant or an attachment, one of which is there; returns the client's key, and the attachment."""
        if (granted := self._granted.pop(lease, None)) is not None:
            return granted.key, None
        attachment = self.by_lease.pop(lease)
        del self.by_peer[attachment.peer]
        return attachment.key, attachment

    def end(self, lease: str) -> None:
        """Make it `overdue`."""
        if (granted := self._granted.get(lease)) is not None:
            granted.until = -math.inf
        elif (attachment := self.by_lease.get(lease)) is not None:
            attachment.expires_at = -math.inf

    def at(self, connection: int) -> Attachment | None:
        """The attachment over that connection."""
        return next((a for a in self.by_lease.values() if a.connection == connection), None)

    def overdue(self, now: float) -> dict[str, ByeReason]:
        """The leases to end, and why."""
        due = {lease: ByeReason.EXPIRED for lease, granted in self._granted.items() if granted.until <= now}
        for lease, attachment in self.by_lease.items():
            if attachment.expires_at <= now:
                due[lease] = ByeReason.EXPIRED
            elif attachment.heard_at + SILENT_AFTER_S <= now:
                due[lease] = ByeReason.SILENT
        return due

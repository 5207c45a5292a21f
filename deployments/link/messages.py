"""The messages of the frame link and their limits; `codec` has them as bytes."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from deployments.detector.scheduler import DropReason
from engines.types import Detections, Thresholds

VERSION = 1
MAX_TEXT_BYTES = 500
MAX_SLOTS = 64
MAX_NAME_BYTES = 100
"""Of a replica's name."""

MAX_DETECTIONS = 1000
"""Of one frame; what `DetectorSettings.max_detections` allows."""

DETECTION_BYTES = 24
MAX_MESSAGE_BYTES = 64 + DETECTION_BYTES * MAX_DETECTIONS
"""Of one part without the picture."""

LEASE_BYTES = 16


class Malformed(Exception):
    """Bytes that are no message of the link; the only error that reading them raises."""


class Layout(IntEnum):
    """How a picture's bytes lie."""

    PACKED = 1
    """``[height, width, 3]`` in the engine's channel order."""
    I420 = 2
    """``[height * 3 / 2, width]``: planes Y, U, V; BT.601, limited range."""


class DrainReason(IntEnum):
    """Why a stream should attach elsewhere soon."""

    LEAVING = 1
    """The replica is about to end."""
    REBALANCE = 2
    """The replica has more than its share."""
    EXCHANGE = 3
    """The replica has loaded another model beside the one that this attachment goes to."""


class ByeReason(IntEnum):
    """Why a side ends the attachment now."""

    CLOSED = 1
    EXPIRED = 2
    """The lease ran out, or was ended."""
    SILENT = 3
    """Nothing was heard for too long."""
    REFUSED = 4
    """The other side doesn't follow the protocol, or speaks another version of it."""


class Hello(NamedTuple):
    """Client to server, first: the lease that I was granted, and my slots.

    ``slots`` 0 means that frames come inline; else the memory comes along as a descriptor.
    """

    lease: str
    slots: int
    slot_bytes: int


class Welcome(NamedTuple):
    """The answer: whether the slots are used, and for how long the attachment holds."""

    shared: bool
    lease_s: float


class Frame(NamedTuple):
    """A picture, in slot ``slot`` or, where that is None, in the next part.

    ``budget_s`` is how long from now on it is worth inferring: a span, as the clocks of two hosts differ. ``rows`` are
    those that an I420 picture has, where the others are padding: the first, and how many; both are even.
    """

    sequence: int
    slot: int | None
    layout: Layout
    thresholds: Thresholds | None
    priority: int
    budget_s: float
    rows: tuple[int, int] | None = None


class Reply(NamedTuple):
    """What was found in a frame; see `DetectReply`."""

    sequence: int
    wait_s: float
    infer_s: float
    batch_size: int
    detections: Detections


class Drop(NamedTuple):
    """A frame that won't be inferred."""

    sequence: int
    reason: DropReason
    detail: str


class Alive(NamedTuple):
    """Sent each second by the client and answered alike: nobody who is silent for long is there."""


class Renew(NamedTuple):
    """The client asks for more time; answered by `Renewed` or `Drain`."""


class Renewed(NamedTuple):
    """The lease runs ``lease_s`` from now on."""

    lease_s: float


class Drain(NamedTuple):
    """Attach elsewhere, best to the replica named ``to``; until then all goes on."""

    reason: DrainReason
    to: str = ""


class Bye(NamedTuple):
    """The attachment has ended."""

    reason: ByeReason


Message: TypeAlias = Hello | Welcome | Frame | Reply | Drop | Alive | Renew | Renewed | Drain | Bye

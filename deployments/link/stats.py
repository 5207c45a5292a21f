"""What a link server counts."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.detector.scheduler import DropReason


@dataclass(frozen=True, slots=True)
class LinkStats:
    """``attached`` and ``shared``: attachments now, and those of them with shared memory; else counts since the start.

    Attributes:
        frames: taken in; each was answered by a reply, by a drop, or is still here.
        junk: messages and connections that weren't ours.
        strangers: connections with a key that wasn't let in.
    """

    attached: int
    shared: int
    frames: int
    replies: int
    dropped: dict[DropReason, int]
    junk: int
    strangers: int

"""What a link server counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    def ended(self) -> LinkStats:
        """What is left to count of a server that is closed."""
        return replace(self, attached=0, shared=0)


def together(servers: Sequence[LinkStats]) -> LinkStats:
    """What several servers of one replica count, one after the other or side by side."""
    dropped: Counter[DropReason] = Counter()
    for each in servers:
        dropped.update(each.dropped)
    return LinkStats(
        attached=sum(each.attached for each in servers),
        shared=sum(each.shared for each in servers),
        frames=sum(each.frames for each in servers),
        replies=sum(each.replies for each in servers),
        dropped=dict(dropped),
        junk=sum(each.junk for each in servers),
        strangers=sum(each.strangers for each in servers),
    )

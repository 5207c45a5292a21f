"""Why a stream has no actor that reports, in words for people; pure."""

from __future__ import annotations

HEAD_AWAY = "its actor can't be started: Ray's head does not answer"


def why_unseen(
    *, draining: bool, starting: bool, lack: str | None, store: str | None, head_away: bool, began: bool
) -> str:
    """What the status of such a stream says.

    Args:
        draining: the system is being stopped.
        starting: it has an actor, which never reported.
        lack: what no node has free for that.
        store: what is wrong with the store; None where nothing is.
        head_away: Ray starts nothing now.
        began: it ran before.
    """
    if draining:
        return "the system is being stopped"
    if starting:
        return f"its actor starts, or waits for room: {lack}" if lack else "its actor starts"
    if store is not None:
        return f"its actor can't be started: {store}"
    if head_away:
        return HEAD_AWAY
    return "its actor ended and is started again" if began else "its actor is about to be started"

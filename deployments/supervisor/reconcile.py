"""Desired against observed: what to do about each stream. A pure function, called again and again.

It looks only at the present: whatever happened between two calls, a lost action is simply said again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deployments.streams.hardware import NOTHING, Grant, fits
from deployments.supervisor.registry import Entry

PLACE_PATIENCE_S = 60.0
"""How long an actor with a place on a GPU may wait for a node with room; then it starts without. A crowd of actors that
start at once on a small node takes half of it."""

RENEWED_AT_ONCE = 4
"""Actors with old code, or on a node that is being emptied, that are ended while others of their kind still start: the
rest run on meanwhile."""

START_S = 30.0
"""An actor that has not reported for this long waits for room, and holds up nobody."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stream that users want.

    Attributes:
        not_before: seconds on the monotonic clock; its last actor died, and the next one waits until then.
    """

    entry: Entry
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """An actor that was started for a stream.

    Attributes:
        actor: which one.
        generation: the generation that it follows.
        epoch: which life of its stream it is; 0 where that isn't known.
        alive: False once Ray said that it died.
        stopping: it was told to stop.
        reported: it has ever answered.
        started: seconds on the monotonic clock.
        grant: the places on GPUs that it holds.
        patient: it may wait for a node that has room for it and its places.
        current: it runs the code that is deployed now, or has not told.
        leaving: its node is being emptied.
    """

    actor: str
    stream_id: str
    generation: int
    epoch: int = 0
    alive: bool = True
    stopping: bool = False
    reported: bool = True
    started: float = 0.0
    grant: Grant = NOTHING
    patient: bool = True
    current: bool = True
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Start an actor for this entry."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Update:
    """Tell the actor to follow this entry."""

    actor: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Restart:
    """End the actor, so that another one takes over: with other places, with newer code, or on another node."""

    actor: str
    unplaced: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End an actor that nobody wants: an orphan, or a second one of its stream."""

    actor: str


@dataclass(frozen=True, slots=True)
class Reap:
    """Forget an actor that died."""

    actor: str


Action = Start | Update | Restart | Stop | Reap


def reconcile(desired: Iterable[Wanted], observed: Iterable[Observed], now: float) -> list[Action]:
    """The actions that bring ``observed`` to ``desired``.

    The dead are reaped first and started on the next call; of two actors of a stream the newer life stays, and none is
    started while any other of the stream is alive. Actors with old code, or on a node that drains, are ended a few at a
    time.

    Args:
        now: seconds on the monotonic clock.
    """
    lives: defaultdict[str, list[Observed]] = defaultdict(list)
    for seen in observed:
        lives[seen.stream_id].append(seen)
    wanted = {want.entry.spec.id: want for want in desired}
    renewals = RENEWED_AT_ONCE - sum(_comes_or_goes(seen, now) for found in lives.values() for seen in found)
    actions: list[Action] = [Reap(seen.actor) for found in lives.values() for seen in found if not seen.alive]
    for stream_id, want in wanted.items():
        found = lives.pop(stream_id, [])
        living = sorted((seen for seen in found if seen.alive), key=lambda seen: (seen.epoch, seen.actor))
        if not living:
            actions += [Start(want.entry)] if not found and now >= want.not_before else []
            continue
        *others, newest = living
        actions += _stops(others)
        step = None if newest.stopping else _step(want.entry, newest, now, renewals > 0)
        if step is not None:
            actions.append(step)
            renewals -= isinstance(step, Restart)
    for orphans in lives.values():
        actions += _stops(seen for seen in orphans if seen.alive)
    return actions


def _step(entry: Entry, seen: Observed, now: float, may_renew: bool) -> Action | None:
    unplaced = _is_unplaced(seen, now)
    if unplaced or not fits(entry.spec, seen.grant):
        return Restart(seen.actor, unplaced)
    if (not seen.current or seen.leaving) and may_renew:
        return Restart(seen.actor)
    return Update(seen.actor, entry) if seen.generation != entry.generation else None


def _is_unplaced(seen: Observed, now: float) -> bool:
    """No node has had room for it and its places for so long that it should do without them."""
    waits = seen.patient and seen.grant != NOTHING and not seen.reported
    return waits and now - seen.started > PLACE_PATIENCE_S


def _comes_or_goes(seen: Observed, now: float) -> bool:
    return seen.stopping or not seen.alive or (not seen.reported and now - seen.started < START_S)


def _stops(unwanted: Iterable[Observed]) -> Iterator[Stop]:
    return (Stop(seen.actor) for seen in unwanted if not seen.stopping)

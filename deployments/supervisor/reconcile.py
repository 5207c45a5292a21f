"""What to do so that the running actors become what users want; pure.

Each call looks at everything there is and says what is missing; nothing is remembered between two calls, so a
lost action is simply said again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deployments.streams.hardware import NOTHING, Grant, fits
from deployments.supervisor.registry import Entry


@dataclass(frozen=True, slots=True)
class Observed:
    """An actor that was started for a stream.

    Attributes:
        generation: the generation that it follows.
        alive: False once Ray said that it died.
        stopping: it was told to stop.
        grant: the places on GPUs that it holds.
        unplaced: no node has had room for it and its places for so long that it should do without them.
    """

    generation: int
    alive: bool
    stopping: bool = False
    grant: Grant = NOTHING
    unplaced: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Start an actor for this entry."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Update:
    """Tell the actor to follow this entry."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Stop:
    """End the actor of a stream that nobody wants any more, or that needs one with other places."""

    stream_id: str


@dataclass(frozen=True, slots=True)
class Reap:
    """Forget an actor that died."""

    stream_id: str


Action = Start | Update | Stop | Reap


def reconcile(desired: Iterable[Entry], observed: Mapping[str, Observed]) -> list[Action]:
    """The actions that bring ``observed`` to ``desired``; the dead are reaped first and started on the next call."""
    actions: list[Action] = [Reap(stream_id) for stream_id, seen in observed.items() if not seen.alive]
    wanted = {entry.spec.id: entry for entry in desired}
    for stream_id, entry in wanted.items():
        seen = observed.get(stream_id)
        if seen is None:
            actions.append(Start(entry))
        elif not seen.alive or seen.stopping:
            continue
        elif seen.unplaced or not fits(entry.spec, seen.grant):
            actions.append(Stop(entry.spec.id))
        elif seen.generation != entry.generation:
            actions.append(Update(entry))
    for stream_id, seen in observed.items():
        if stream_id not in wanted and seen.alive and not seen.stopping:
            actions.append(Stop(stream_id))
    return actions

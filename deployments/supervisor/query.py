"""A part of all streams, ready to be sent: of a thousand, an answer with a hundred costs no more than those; pure.

It is JSON already where it leaves the supervisor. Views of a thousand streams as objects take 80 ms to pack and 55 to
unpack; their JSON takes 14 to make, and is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter

from deployments.streams.spec import StreamState, StreamView
from deployments.supervisor.registry import Entry

_VIEWS = TypeAdapter(tuple[StreamView, ...])


@dataclass(frozen=True, slots=True)
class PartQuery:
    """Which streams, by id.

    Attributes:
        after: those with a higher id.
        labels: key and value; a stream has to have all.
        state: in this state only.
    """

    limit: int
    after: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    state: StreamState | None = None


class Part(NamedTuple):
    """What a query found.

    Attributes:
        items: the views by id, as a JSON array, credentials masked.
        last: id of the last one, where there are more.
    """

    items: bytes
    last: str | None


def part_of(entries: Iterable[Entry], view: Callable[[Entry], StreamView], query: PartQuery) -> Part:
    """The streams that fit, `PartQuery.limit` at most."""
    fitting = [entry for entry in entries if _fits(entry, query)]
    fitting.sort(key=lambda entry: entry.spec.id)
    found: list[StreamView] = []
    for entry in fitting:
        shown = view(entry)
        if query.state in (None, shown.status.state):
            if len(found) == query.limit:
                return Part(_VIEWS.dump_json(tuple(found)), found[-1].spec.id)
            found.append(shown)
    return Part(_VIEWS.dump_json(tuple(found)), None)


def _fits(entry: Entry, query: PartQuery) -> bool:
    labels = entry.spec.labels
    return entry.spec.id > query.after and all(labels.get(key) == value for key, value in query.labels)

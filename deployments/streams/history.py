"""What a stream went through: changes of its state and errors, the newest 200.

An actor keeps its own life (`StreamHistory`); the supervisor hears in each report what is new and keeps it over the
lives of actors (`Histories`). It is not stored: it ends with the supervisor's process, and then goes on with what the
living actors still have.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from deployments.streams.spec import LastError, StreamState

KEPT = 200
"""Entries of one stream; an hour of failing tries is a single one."""


class HistoryEntry(BaseModel):
    """One change of a stream's state, or one error; an error that comes again and again is counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int = Field(description="The life of the stream's actor in which it was.")
    number: int = Field(description="Counts the entries of that life, from 1.")
    at: float = Field(description="Unix time, seconds.")
    last_at: float = Field(description="When it came last; `at` where it came once.")
    times: int = Field(default=1, description="How often it came in a row.")
    state: StreamState = Field(description="What the stream was doing from then on.")
    error: LastError | None = Field(default=None, description="What broke; null where nothing did.")
    output: str | None = Field(default=None, description="URL of the output that broke; null where it was the source.")


class StreamHistory:
    """One life of a stream; safe to use from several threads."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._lock = threading.Lock()
        self._entries: OrderedDict[int, HistoryEntry] = OrderedDict()
        self._changed: dict[int, int] = {}
        self._changes = 0
        self._errors: Counter[str] = Counter()

    def add(self, state: StreamState, error: LastError | None, output: str | None = None) -> None:
        """Take note that the stream is in ``state`` now, for ``error`` where there is one, or has an output with it."""
        with self._lock:
            if error is not None:
                self._errors[error.code] += 1
            now = time.time()
            again = None if error is None else self._told(state, error, output)
            if again is not None:
                entry = again.model_copy(update={"times": again.times + 1, "last_at": now, "error": error})
            else:
                number = next(reversed(self._entries), 0) + 1
                entry = HistoryEntry(
                    epoch=self._epoch, number=number, at=now, last_at=now, state=state, error=error, output=output
                )
            self._entries[entry.number] = entry
            self._changes += 1
            self._changed[entry.number] = self._changes
            if len(self._entries) > KEPT:
                del self._changed[self._entries.popitem(last=False)[0]]

    def _told(self, state: StreamState, error: LastError, output: str | None) -> HistoryEntry | None:
        """The entry of the same error since the state last changed: several outputs may fail in turns."""
        for entry in reversed(self._entries.values()):
            before = entry.error
            if before is None or entry.state is not state:
                return None
            if (entry.output, before.code, before.message) == (output, error.code, error.message):
                return entry
        return None

    @property
    def errors(self) -> dict[str, int]:
        """Errors of this life by code, each time that one came."""
        with self._lock:
            return dict(self._errors)

    def since(self, change: int) -> tuple[int, tuple[HistoryEntry, ...]]:
        """Entries that are new, or came again, after so many changes, and how many there are by now."""
        with self._lock:
            fresh = tuple(entry for number, entry in self._entries.items() if self._changed[number] > change)
            return self._changes, fresh


class Histories:
    """The newest `KEPT` entries of every stream, over the lives of their actors; used by one thread."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[tuple[int, int], HistoryEntry]] = {}

    def take(self, stream_id: str, entries: Iterable[HistoryEntry]) -> None:
        """Add what is new, and replace what came again; all of it in any order and as often as it is told."""
        known = self._entries.setdefault(stream_id, {})
        known.update({(entry.epoch, entry.number): entry for entry in entries})
        for key in sorted(known)[: max(0, len(known) - KEPT)]:
            del known[key]

    def of(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        """The entries of a stream, newest first."""
        known = self._entries.get(stream_id, {})
        return tuple(known[key] for key in sorted(known, reverse=True))

    def forget(self, stream_id: str) -> None:
        """The stream is gone."""
        self._entries.pop(stream_id, None)

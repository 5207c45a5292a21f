"""What a store does: small records under a kind and a key, changed by compare-and-set."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from deployments.errors import RaysightError, StoreAway

__all__ = ["Conflict", "Fenced", "Guard", "Record", "Store", "StoreAway"]


class Record(NamedTuple):
    """A stored value.

    Attributes:
        value: what was put.
        version: counts the changes of what it says from 1; never reused, also where it was deleted and made again.
    """

    value: bytes
    version: int


class Guard(NamedTuple):
    """Another record that has to be at a version for a change to be made: looked at in the same transaction."""

    kind: str
    key: str
    version: int


class Conflict(RaysightError):
    """The record is at another version than the caller expected; ``current`` is 0 where there is none."""

    def __init__(self, kind: str, key: str, current: int) -> None:
        super().__init__(kind, key, current)
        self.kind = kind
        self.key = key
        self.current = current

    def __str__(self) -> str:
        return f"{self.kind} {self.key!r} is at version {self.current} in the store: read it again"


class Fenced(RaysightError):
    """The guard's record has changed: who writes was replaced by another, and has to end."""


class Store(Protocol):
    """Synchronous and safe to call from any thread. Everything is durable when a call returns.

    Every method raises StoreAway where the store can't be reached or can't write; a change may then still have been
    made where only the answer was lost, which the next read tells. StoreDown: the store is known not to run.
    """

    def all(self, kind: str) -> dict[str, Record]:
        """Every record of a kind, by key."""
        ...

    def get(self, kind: str, key: str) -> Record | None:
        """One record; None where there is none."""
        ...

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        """Make or replace a record; returns its new version.

        Args:
            expected: the version that it must be at, 0: it must not exist, None: whatever it is.

        Raises:
            Conflict: it is at another version.
            Fenced: ``guard`` is at another version.
        """
        ...

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        """Remove a record; without ``expected``, one that isn't there is none to remove. Raises as `put`."""
        ...

    def kinds(self) -> frozenset[str]:
        """Of which there are records."""
        ...

    def rewrite(self, kind: str, key: str, value: bytes, version: int) -> None:
        """Replace a record's value by another form of the same, without a new version. Raises Conflict."""
        ...

    def tidy(self) -> None:
        """Leave nothing in the files of what was replaced or deleted; what a store does beside other work may take a
        moment longer. Raises StoreAway, also where another process is in the way."""
        ...

    def server(self) -> str:
        """Names the process that serves the store: another one means that the store was down meanwhile."""
        ...

    def close(self) -> None:
        """Let go of connections; nothing is lost."""
        ...

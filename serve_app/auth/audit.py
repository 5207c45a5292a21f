"""The audit log: the newest changes, in a ring of records, so that its size is bounded exactly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from deployments.errors import StoreAway
from deployments.store.protocol import Store
from serve_app.auth.records import AuditEntry
from serve_app.auth.roles import Principal

logger = logging.getLogger(__name__)

KIND = "audit"
AUDIT_LIMIT = 10_000
"""Entries that are kept where nobody says otherwise: some 2 MB."""

_COUNTER = "count"


class AuditLog:
    """Changes in the order in which they were made, by all replicas together.

    The version of one record counts them: putting it gives the next number, and that the place in the ring.

    Args:
        store: None keeps nothing; changes are then in the process's log only, as all are.
        limit: entries that are kept.
        now: Unix time, seconds.
    """

    def __init__(self, store: Store | None, limit: int, now: Callable[[], float]) -> None:
        self._store = store
        self._limit = limit
        self._now = now

    async def add(
        self, who: Principal, action: str, target: str, before: int | None = None, after: int | None = None
    ) -> None:
        """A change that has been made. It stands: where the store is away, the entry is in the process's log alone."""
        at = self._now()
        logger.info("%s (%s) did %s to %s, generation %s to %s", who.id, who.name, action, target, before, after)
        if self._store is None:
            return
        try:
            await asyncio.to_thread(self._put, who, action, target, before, after, at)
        except StoreAway as error:
            logger.error("the change above is not in the audit log: %s", error)

    def _put(self, who: Principal, action: str, target: str, before: int | None, after: int | None, at: float) -> None:
        assert self._store is not None
        number = self._store.put(KIND, _COUNTER, b"", None)
        entry = AuditEntry(
            number=number,
            at=at,
            by=who.id,
            name=who.name,
            action=action,
            target=target,
            from_generation=before,
            to_generation=after,
        )
        self._store.put(KIND, f"{number % self._limit:06d}", entry.model_dump_json().encode(), None)

    async def newest(self, limit: int, before: int | None = None) -> list[AuditEntry]:
        """At most ``limit`` entries, newest first, of those with a number below ``before``. Raises StoreAway."""
        if self._store is None:
            raise StoreAway("no store is configured, so changes are in the log of the process only: set `store`")
        records = await asyncio.to_thread(self._store.all, KIND)
        entries = [AuditEntry.model_validate_json(r.value) for key, r in records.items() if key != _COUNTER]
        # What a larger ring left behind is older than what this one keeps.
        kept = max((entry.number for entry in entries), default=0) - self._limit
        older = [entry for entry in entries if entry.number > kept and (before is None or entry.number < before)]
        return sorted(older, key=lambda entry: entry.number, reverse=True)[:limit]

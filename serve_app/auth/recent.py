"""Records of the store that are held in memory for a few seconds, so that a request costs no read."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from deployments.errors import StoreAway
from deployments.store.protocol import Record, Store
from serve_app.auth.bucket import Bucket, take

logger = logging.getLogger(__name__)

LIFE_S = 5.0
"""How long what was read holds: what another process changes is known after that."""

RETRY_S = 1.0
"""How long a store that was away is left alone."""

PATIENCE_S = 1.0
"""How long a request waits for a slow store before it goes by what is known."""

ANEW_PER_MINUTE = 30
"""How often the store is read anew for what isn't known, ten seconds' worth at once: who sends keys that don't exist
costs no more than that."""

MISSED = 1000
"""So much is remembered of what was looked for in vain: who goes on with a removed key costs no more reads."""

Kept = TypeVar("Kept", bound=BaseModel)


class Recent(Generic[Kept]):
    """All records of one kind, as JSON of one model.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, store: Store, kind: str, model: type[Kept], clock: Callable[[], float]) -> None:
        self._store = store
        self._kind = kind
        self._model = model
        self._clock = clock
        self._known: Mapping[str, Kept] | None = None
        self._read_at = -LIFE_S
        self._tried_at = -RETRY_S
        self._changes = 0
        self._lock = threading.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._anew: Bucket | None = None
        self._missed: OrderedDict[str, float] = OrderedDict()

    async def fresh(self) -> Mapping[str, Kept]:
        """What was read not longer than `LIFE_S` ago, or, while the store is away, what was read last.

        Raises StoreAway where nothing was ever read.
        """
        now = self._clock()
        if now - self._read_at >= LIFE_S and (self._known is None or now - self._tried_at >= RETRY_S):
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._reread())
            await asyncio.wait({self._reading}, timeout=None if self._known is None else PATIENCE_S)
        if self._known is None:
            raise StoreAway(f"no {self._kind} is known while the store is away: try again shortly")
        return self._known

    async def found(self, key: str) -> Kept | None:
        """One record, which another process may have made just now; None where there is none. Raises as `fresh`.

        Where many that aren't there were looked for, or the store is slow, one is found after `LIFE_S` only.
        """
        known, now = await self.fresh(), self._clock()
        if key in known or now - self._missed.get(key, -LIFE_S) < LIFE_S:
            return known.get(key)
        if self._looking is not None and not self._looking.done():
            await asyncio.wait({self._looking}, timeout=PATIENCE_S)  # it may have begun too early to see the record
            if (found := (self._known or known).get(key)) is not None:
                return found
        if self._looking is None or self._looking.done():
            self._anew, wait_s = take(self._anew, ANEW_PER_MINUTE, now)
            if wait_s > 0:
                return None
            self._looking = asyncio.create_task(self._reread())
        await asyncio.wait({self._looking}, timeout=PATIENCE_S)
        found = (self._known or known).get(key)
        if found is None:
            self._missed[key] = now
            self._missed.move_to_end(key)
            if len(self._missed) > MISSED:
                self._missed.popitem(last=False)
        return found

    def read(self) -> Mapping[str, Kept]:
        """What the store has now. Raises StoreAway."""
        while True:
            started, changes = self._clock(), self._changes
            known: dict[str, Kept] = {}
            for key, record in self._store.all(self._kind).items():
                if (kept := self.parsed(key, record)) is not None:
                    known[key] = kept
            with self._lock:
                if changes == self._changes:  # else this process has changed some meanwhile
                    self._known, self._read_at = known, started
                    return known

    def parsed(self, key: str, record: Record) -> Kept | None:
        """What a record says; None where it can't be read."""
        try:
            return self._model.model_validate_json(record.value)
        except ValidationError:
            logger.error("the stored %s %r can't be read and counts for nothing", self._kind, key)
            return None

    def change(self, key: str, record: Kept | None) -> None:
        """What the store has by now, at once for this process."""
        with self._lock:
            self._changes += 1
            if self._known is not None:
                others = {other: known for other, known in self._known.items() if other != key}
                self._known = others if record is None else {**others, key: record}

    async def _reread(self) -> None:
        self._tried_at = self._clock()
        try:
            await asyncio.to_thread(self.read)
        except StoreAway as error:
            logger.warning("each %s is as last read: %s", self._kind, error)

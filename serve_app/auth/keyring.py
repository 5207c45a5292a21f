"""The keys there are: in the store, and for a few seconds in memory, so that a request costs no read."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from pydantic import ValidationError

from deployments.errors import InvalidSpec, StoreAway
from deployments.store.protocol import Conflict, Store
from serve_app.auth.errors import KeyNotFound
from serve_app.auth.records import KeyRecord, KeySpec, KeyView, NewKey
from serve_app.auth.roles import Principal, Role
from serve_app.auth.secret import new_key, read_key

logger = logging.getLogger(__name__)

KIND = "key"
LIFE_S = 5.0
"""How long what was read holds: a key that another process made or removed is known or unknown after that."""

RETRY_S = 1.0
"""How long a store that was away is left alone."""

PATIENCE_S = 1.0
"""How long a request waits for a slow store before it goes by what is known."""

MAX_KEYS = 1000
BOOTSTRAP = "bootstrap"


class Keyring:
    """Keys over a store.

    Args:
        clock: monotonic seconds.
        now: Unix time, seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._known: dict[str, KeyRecord] | None = None
        self._read_at = -LIFE_S
        self._tried_at = -RETRY_S
        self._changes = 0
        self._lock = threading.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def holder(self, text: str) -> Principal | None:
        """Who holds the key ``text``; None where it is none. Raises StoreAway where no key was ever read."""
        key = read_key(text)
        found = None if key is None else (await self._fresh()).get(key.id)
        return found.principal() if key is not None and found is not None and key.fits(found.digest) else None

    async def by_id(self, key_id: str) -> Principal | None:
        """Who holds the key of this id, for whom the key was already compared. Raises as `holder`."""
        found = (await self._fresh()).get(key_id)
        return found.principal() if found is not None else None

    async def list(self) -> list[KeyView]:
        """All keys in the store, oldest first. Raises StoreAway."""
        await asyncio.to_thread(self._read)
        assert self._known is not None
        return sorted((record.view() for record in self._known.values()), key=lambda view: (view.created_at, view.id))

    async def add(self, spec: KeySpec, by: str) -> NewKey:
        """Make a key; its secret is in the answer and nowhere else. Raises StoreAway, InvalidSpec."""
        if len(await self.list()) >= MAX_KEYS:
            raise InvalidSpec("name", f"there are {MAX_KEYS} keys already: remove some first")
        return await asyncio.to_thread(self.put_new, spec, by)

    async def remove(self, key_id: str) -> None:
        """Forget a key, here at once and elsewhere within `LIFE_S`. Raises StoreAway, KeyNotFound."""
        if await asyncio.to_thread(self._store.get, KIND, key_id) is None:
            raise KeyNotFound(f"There is no key {key_id!r}: GET /v1/keys lists them.")
        await asyncio.to_thread(self._store.delete, KIND, key_id, None)
        self._change(key_id, None)

    def put_new(self, spec: KeySpec, by: str, key_id: str | None = None) -> NewKey:
        """As `add`, for programs without an event loop. Raises StoreAway, and Conflict where the id is taken."""
        key = new_key(key_id)
        record = KeyRecord(**spec.model_dump(), id=key.id, created_at=self._now(), created_by=by, digest=key.digest())
        self._store.put(KIND, key.id, record.model_dump_json().encode(), 0)
        self._change(key.id, record)
        return NewKey(**record.view().model_dump(), key=str(key))

    def bootstrap(self) -> NewKey | None:
        """The first admin key; None where there is one already. Raises StoreAway."""
        self._read()
        if any(record.role is Role.ADMIN for record in (self._known or {}).values()):
            return None
        try:
            return self.put_new(KeySpec(name="the first key", role=Role.ADMIN), "start", BOOTSTRAP)
        except Conflict:  # another replica was faster
            return None

    async def _fresh(self) -> dict[str, KeyRecord]:
        """What was read not longer than `LIFE_S` ago, or, while the store is away, what was read last."""
        now = self._clock()
        if now - self._read_at >= LIFE_S and (self._known is None or now - self._tried_at >= RETRY_S):
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._reread())
            await asyncio.wait({self._reading}, timeout=None if self._known is None else PATIENCE_S)
        if self._known is None:
            raise StoreAway("no key is known while the store is away: try again shortly")
        return self._known

    async def _reread(self) -> None:
        self._tried_at = self._clock()
        try:
            await asyncio.to_thread(self._read)
        except StoreAway as error:
            logger.warning("keys are those last read: %s", error)

    def _read(self) -> None:
        while True:
            started, changes = self._clock(), self._changes
            known: dict[str, KeyRecord] = {}
            for key_id, record in self._store.all(KIND).items():
                try:
                    known[key_id] = KeyRecord.model_validate_json(record.value)
                except ValidationError:
                    logger.error("the stored key %r can't be read and opens nothing", key_id)
            with self._lock:
                if changes == self._changes:  # else this process has changed keys meanwhile
                    self._known, self._read_at = known, started
                    return

    def _change(self, key_id: str, record: KeyRecord | None) -> None:
        """What the store has by now, at once for this process."""
        with self._lock:
            self._changes += 1
            if self._known is not None:
                others = {other: known for other, known in self._known.items() if other != key_id}
                self._known = others if record is None else {**others, key_id: record}

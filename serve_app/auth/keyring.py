"""The keys there are: in the store, and for a few seconds in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deployments.errors import InvalidSpec
from deployments.store.protocol import Conflict, Store
from serve_app.auth.errors import KeyNotFound
from serve_app.auth.recent import Recent
from serve_app.auth.records import KeyRecord, KeySpec, KeyView, NewKey
from serve_app.auth.roles import Principal, Role
from serve_app.auth.secret import new_key, read_key

KIND = "key"
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
        self._now = now
        self._recent = Recent(store, KIND, KeyRecord, clock)

    async def holder(self, text: str) -> Principal | None:
        """Who holds the key ``text``; None where it is none. Raises StoreAway where no key was ever read."""
        key = read_key(text)
        found = None if key is None else await self._recent.found(key.id)
        return found.principal() if key is not None and found is not None and key.fits(found.digest) else None

    async def by_id(self, key_id: str) -> Principal | None:
        """Who holds the key of this id, for whom the key was already compared. Raises as `holder`."""
        found = await self._recent.found(key_id)
        return found.principal() if found is not None else None

    async def list(self) -> list[KeyView]:
        """All keys in the store, oldest first. Raises StoreAway."""
        known = await asyncio.to_thread(self._recent.read)
        return sorted((record.view() for record in known.values()), key=lambda view: (view.created_at, view.id))

    async def add(self, spec: KeySpec, by: str) -> NewKey:
        """Make a key; its secret is in the answer and nowhere else. Raises StoreAway, InvalidSpec."""
        if len(await self.list()) >= MAX_KEYS:
            raise InvalidSpec("name", f"there are {MAX_KEYS} keys already: remove some first")
        return await asyncio.to_thread(self.put_new, spec, by)

    async def remove(self, key_id: str) -> None:
        """Forget a key, here at once and elsewhere within `recent.LIFE_S`. Raises StoreAway, KeyNotFound."""
        if await asyncio.to_thread(self._store.get, KIND, key_id) is None:
            raise KeyNotFound(f"There is no key {key_id!r}: GET /v1/keys lists them.")
        await asyncio.to_thread(self._store.delete, KIND, key_id, None)
        self._recent.change(key_id, None)

    def put_new(self, spec: KeySpec, by: str, key_id: str | None = None) -> NewKey:
        """As `add`, for programs without an event loop. Raises StoreAway, and Conflict where the id is taken."""
        key = new_key(key_id)
        record = KeyRecord(**spec.model_dump(), id=key.id, created_at=self._now(), created_by=by, digest=key.digest())
        self._store.put(KIND, key.id, record.model_dump_json().encode(), 0)
        self._recent.change(key.id, record)
        return NewKey(**record.view().model_dump(), key=str(key))

    def bootstrap(self) -> NewKey | None:
        """The first admin key; None where there is one already. Raises StoreAway."""
        if any(record.role is Role.ADMIN for record in self._recent.read().values()):
            return None
        try:
            return self.put_new(KeySpec(name="the first key", role=Role.ADMIN), "start", BOOTSTRAP)
        except Conflict:  # another replica was faster
            return None

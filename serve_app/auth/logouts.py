"""Sessions that ended before their time: kept in the store until then, so that no replica takes them again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from deployments.store.protocol import Conflict, Store
from serve_app.auth.recent import Recent
from serve_app.auth.session import Session

KIND = "logout"

PLACES = 1024
"""Records at most. Callers share them by a hash: a token names whom it likes, so that there is no end of callers."""

KEPT = 32
"""Sessions in a record at most; all records together take 2 MB."""


class Ended(BaseModel):
    """What has ended of the callers of one place.

    Attributes:
        sessions: those that would still hold.
        before: no session holds that began at this time (Unix, seconds) or earlier.
    """

    model_config = ConfigDict(frozen=True)

    sessions: tuple[Session, ...] = ()
    before: float = 0.0

    def covers(self, session: Session) -> bool:
        """Whether the session is over."""
        return session.began_at <= self.before or any(session.id == ended.id for ended in self.sessions)

    def ending(self, session: Session, now: float) -> Ended:
        """The same with one more.

        Of too many, the one that began first gives way, and whatever began before it ends with it: a caller that logs
        out so often loses sessions, and gets none back.
        """
        lasting = [ended for ended in self.sessions if ended.expires_at > now and ended.id != session.id]
        newest = sorted((*lasting, session), key=lambda ended: ended.began_at)
        forgotten, kept = newest[:-KEPT], newest[-KEPT:]
        return Ended(sessions=tuple(kept), before=max([self.before, *(ended.began_at for ended in forgotten)]))


class Logouts:
    """Ends sessions, here at once and in other replicas within `recent.LIFE_S`.

    Args:
        clock: monotonic seconds.
        now: Unix time, seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._recent = Recent(store, KIND, Ended, clock)
        self._turn = asyncio.Lock()

    async def over(self, caller: str, session: Session) -> bool:
        """Whether a session of the caller was ended. Raises StoreAway where that was never known."""
        ended = (await self._recent.fresh()).get(_place(caller))
        return ended is not None and ended.covers(session)

    async def end(self, caller: str, session: Session) -> None:
        """End a session of the caller for good. Raises StoreAway: then it goes on."""
        async with self._turn:  # in the order in which the store has them
            await asyncio.to_thread(self._put, _place(caller), session)

    def _put(self, place: str, session: Session) -> None:
        while True:
            record = self._store.get(KIND, place)
            before = None if record is None else self._recent.parsed(place, record)
            ended = (before or Ended()).ending(session, self._now())
            try:
                self._store.put(KIND, place, ended.model_dump_json().encode(), 0 if record is None else record.version)
            except Conflict:  # another replica has put one of the same place
                continue
            self._recent.change(place, ended)
            return


def _place(caller: str) -> str:
    return str(int.from_bytes(hashlib.sha256(caller.encode()).digest()[:4]) % PLACES)

"""Quotas of callers: requests, and what stays open; over all replicas of the API, where there are several."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from deployments.errors import QuotaExceeded
from serve_app.auth.roles import Principal
from serve_app.auth.tally import REMEMBERED, Tally, TallyAway, Together

AT_ONCE_S = 0.25
"""A replica asks for so long a time's worth of requests together: so that many cost few questions."""

RENEW_S = 10.0
"""How often it is told what is held open here."""


class RequestMeter:
    """Counts requests of each caller.

    Args:
        clock: monotonic seconds.
        together: what all replicas count; None where there is one. While it is away, each counts for itself.
    """

    def __init__(self, clock: Callable[[], float], together: Together | None = None) -> None:
        self._own = Tally(clock)
        self._together = together
        self._granted: OrderedDict[str, int] = OrderedDict()

    async def count(self, who: Principal) -> None:
        """One request. Raises QuotaExceeded."""
        limit = who.allowance.requests_per_minute
        if limit is None:
            return
        wait_s = await self._taken(who.id, limit)
        if wait_s > 0:
            raise QuotaExceeded(f"This key makes at most {limit} requests a minute.", max(1, math.ceil(wait_s)))

    async def _taken(self, caller: str, per_minute: int) -> float:
        """0 where one was taken, else the seconds to wait."""
        if (left := self._granted.pop(caller, 0)) > 0:
            self._keep(caller, left - 1)
            return 0.0
        if self._together is not None:
            with suppress(TallyAway):
                most = max(1, int(per_minute * AT_ONCE_S / 60))
                granted, wait_s = await self._together.take(caller, per_minute, most)
                self._keep(caller, self._granted.pop(caller, 0) + granted - 1)
                return wait_s
        return self._own.take(caller, per_minute, 1)[1]

    def _keep(self, caller: str, granted: int) -> None:
        if granted > 0:
            self._granted[caller] = granted
        if len(self._granted) > REMEMBERED:
            self._granted.popitem(last=False)


class OpenViews:
    """Counts what each caller holds open.

    Args:
        together: as `RequestMeter` has it.
    """

    RETRY_AFTER_S = 5

    def __init__(self, together: Together | None = None) -> None:
        self._together = together
        self._open: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._telling: set[asyncio.Task[bool]] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def enter(self, who: Principal) -> Callable[[], None]:
        """One more; call what it returns, once or more often, when it is closed. Raises QuotaExceeded."""
        limit = who.allowance.event_streams
        self._open[who.id] = held = self._open.get(who.id, 0) + 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._less(who.id)

        try:
            if limit is not None and not (held <= limit and await self._may_hold(who.id, limit)):
                raise QuotaExceeded(f"This key keeps at most {limit} live views open: close one.", self.RETRY_AFTER_S)
        except BaseException:
            leave()
            raise
        return leave

    def held(self, who: Principal) -> int:
        """How many are open here."""
        return self._open.get(who.id, 0)

    def _less(self, caller: str) -> None:
        self._open[caller] -= 1
        limit = self._limits.get(caller)
        if not self._open[caller]:
            del self._open[caller]
            self._limits.pop(caller, None)
        if limit is not None:
            self._telling.add(task := asyncio.create_task(self._tell(caller, limit)))
            task.add_done_callback(self._telling.discard)

    async def _may_hold(self, caller: str, limit: int) -> bool:
        if self._together is None:
            return True
        self._limits[caller] = limit
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        return await self._tell(caller, limit)

    async def _tell(self, caller: str, limit: int) -> bool:
        """With what is open by now, which may be more again; whether that may be."""
        if self._together is not None:
            with suppress(TallyAway):
                return await self._together.hold(caller, self._open.get(caller, 0), limit)
        return True

    async def _renew(self) -> None:
        while self._limits:
            await asyncio.sleep(RENEW_S)
            for caller, limit in list(self._limits.items()):
                await self._tell(caller, limit)

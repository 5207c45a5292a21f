"""One small actor counts for all replicas of the API, and each asks it in passing.

It belongs to the replica that made it and ends with it; whoever finds it gone makes it anew. What was taken before is
forgotten then: for requests that is a full bucket once more, and what is open is told again within `quota.RENEW_S`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from deployments.names import NAMESPACE
from deployments.supervisor.asking import ask_ray
from serve_app.auth.tally import Tally, TallyAway

NAME = "api-quotas"

ANSWER_S = 2.0
"""An answer takes a millisecond."""

logger = logging.getLogger(__name__)


class SharedTally:
    """The actor."""

    def __init__(self) -> None:
        self._tally = Tally(time.monotonic)

    def take(self, caller: str, per_minute: int, most: int) -> tuple[int, float]:
        """As `Tally` does."""
        return self._tally.take(caller, per_minute, most)

    def hold(self, replica: str, caller: str, held: int, limit: int) -> bool:
        """As `Tally` does."""
        return self._tally.hold(replica, caller, held, limit)


class AskTally:
    """`serve_app.auth.tally.Together` of one replica."""

    def __init__(self) -> None:
        self._replica = secrets.token_hex(8)
        self._actor: Any = None
        with suppress(RayError, ValueError):  # else the first to ask makes it, and waits for its process
            self._actor = _shared_tally()

    async def take(self, caller: str, per_minute: int, most: int) -> tuple[int, float]:
        taken: tuple[int, float] = await self._ask("take", caller, per_minute, most)
        return taken

    async def hold(self, caller: str, held: int, limit: int) -> bool:
        allowed: bool = await self._ask("hold", self._replica, caller, held, limit)
        return allowed

    async def _ask(self, method: str, *args: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._actor is None:
                    self._actor = await ask_ray(_shared_tally)
                return await getattr(self._actor, method).remote(*args)
        except (RayError, ValueError, TimeoutError) as error:  # ValueError: it died while it was looked up
            logger.warning("quotas are those of each replica for now: %r", error)
            self._actor = None
            raise TallyAway("the other replicas' counts are not known") from error


def _shared_tally() -> Any:
    remote: Any = ray.remote
    options = remote(SharedTally).options(name=NAME, namespace=NAMESPACE, get_if_exists=True, num_cpus=0)
    return options.remote()

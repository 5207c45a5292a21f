"""How replicas and the supervisor hear of each other's models: each replica asks the supervisor what to do.

A Serve handle reaches one replica of its choice, so replicas come to the supervisor instead, with a call that waits
there until there is something to do. Without a supervisor nothing is asked of them: each runs what its ``args`` name.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from typing import Any

import ray
from ray.exceptions import RayError

from deployments.errors import InvalidSpec
from deployments.models.exchange import ModelExchange
from deployments.models.versions import Order, Refusal, Report, Version
from deployments.names import DEPLOYMENT, NAMESPACE, SUPERVISOR, model_of

FOLLOW_S = 5.0
"""How long a replica's question waits at the supervisor, and thus the age of what is known of a quiet one."""

ANSWER_S = 5.0
"""How long the supervisor may take beyond that."""

ABSENT_S = 1.0
"""How long to wait before looking for the supervisor again."""

WORKING_S = 1.0
"""Between two reports of a replica that loads a package."""

_AWAY = (RayError, ValueError, AttributeError)
"""What a supervisor that is away, unknown or of an older release looks like."""

logger = logging.getLogger(__name__)


class ModelFollower:
    """Tells the supervisor what this replica runs and does as it says, on a thread of its own."""

    def __init__(self, exchange: ModelExchange[Any], report: Callable[[int | None, Refusal | None], Report]) -> None:
        """``report`` describes the replica, given the version that lies ready and the one that was refused."""
        self._exchange, self._report = exchange, report
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="models", daemon=True).start()

    def stop(self) -> None:
        """Take part no more: the replica is about to leave."""
        self._stopping.set()

    def _run(self) -> None:
        supervisor: Any = None
        while not self._stopping.is_set():
            try:
                supervisor = supervisor or ray.get_actor(SUPERVISOR, NAMESPACE)
                order = self._ask(supervisor)
            except _AWAY as error:
                logger.debug("the supervisor does not answer: %r", error)
                supervisor = None
                self._stopping.wait(ABSENT_S)
                continue
            if order is not None and not self._stopping.is_set():
                self._exchange.obey(order)
            self._exchange.await_work(WORKING_S)
        self._exchange.close()

    def _ask(self, supervisor: Any) -> Order | None:
        exchange = self._exchange
        wait_s = 0.0 if exchange.busy else FOLLOW_S
        report = self._report(exchange.ready, exchange.refused)
        order: Order | None = ray.get(supervisor.follow_model.remote(report, wait_s), timeout=wait_s + ANSWER_S)
        return order


def wanted_version(model: str, configured: str) -> Version:
    """What a replica that starts should run: what the model was swapped to, else the configured package."""
    try:
        supervisor: Any = ray.get_actor(SUPERVISOR, NAMESPACE)
        wanted: Version | None = ray.get(supervisor.wanted_model.remote(model, configured), timeout=ANSWER_S)
    except _AWAY:
        wanted = None  # the supervisor will say so later, should it be another one
    return wanted or Version(0, configured)


async def require_model(model: str, known: Collection[str]) -> None:
    """Raises InvalidSpec where a model is not among those ``known``, nor among those that only come up."""
    if model in known:
        return
    names = {*known, *await asyncio.to_thread(_declared_models)}
    if model not in names:
        raise InvalidSpec("detect.model", f"there is no model {model!r}; there are: {', '.join(sorted(names))}")


def _declared_models() -> frozenset[str]:
    """The models that Serve has an application for, running or not."""
    from ray import serve  # not above: the supervisor needs it for streams with a model that is new to it, only

    applications = serve.status().applications
    names = (model_of(name) for name, status in applications.items() if DEPLOYMENT in status.deployments)
    return frozenset(name for name in names if name is not None)

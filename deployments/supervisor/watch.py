"""What operators are told of the whole: which streams should run and don't, whether the store answers, what fits."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Protocol

from deployments.errors import StoreAway, StreamErrorCode
from deployments.streams.spec import StreamState, StreamView
from deployments.supervisor.admission import how_many
from deployments.supervisor.demand import USUAL_FPS, Demand, Kind
from deployments.supervisor.entrance import Survey
from deployments.supervisor.registry import Entry
from deployments.telemetry import SupervisorTelemetry

WATCH_PERIOD_S = 2.0
"""Between two reports; Ray exports them every 10 s."""

_USUAL = Kind("software", "nothing")
"""What ``GET /v1/capacity`` counts as well where it is asked for nothing else."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelRoom:
    """What the replicas of one model manage, what streams ask of it, frames a second, and who else fits.

    Attributes:
        engine_fps: None until each replica was measured.
        further: streams of `USUAL_FPS` that fit beside those that run, by all limits; None where nothing is known.
    """

    model: str
    engine_fps: float | None
    asked_fps: float
    further: int | None


def model_rooms(survey: Survey, models: Iterable[str]) -> tuple[ModelRoom, ...]:
    """For each of ``models`` and those that streams ask for; pure."""
    frame_s, measured = survey.costs.frame_s(_USUAL)
    rooms = []
    for model in sorted({*models, *survey.room.spoken}):
        demand = Demand(model, USUAL_FPS, USUAL_FPS * frame_s, measured)
        known = survey.room.engine_left(model) < inf
        fit = how_many(demand, survey.need, survey.room)
        engine_fps = survey.room.engines[model] if known else None
        rooms.append(ModelRoom(model, engine_fps, survey.room.spoken.get(model, 0.0), fit.total if known else None))
    return tuple(rooms)


def wanted_online(views: Iterable[StreamView]) -> dict[str, bool]:
    """Whether each stream that should run is online; neither those that are paused, nor files that were played."""
    return {view.spec.id: view.status.online for view in views if not view.spec.paused and not _has_ended(view)}


def _has_ended(view: StreamView) -> bool:
    error = view.status.last_error
    played = error is not None and error.code == StreamErrorCode.ENDED
    return view.status.state is StreamState.FAILED and view.spec.source.is_file and played


class _Book(Protocol):
    def __iter__(self) -> Iterator[Entry]: ...

    async def probe(self) -> None: ...


class Watch:
    """Reports for one supervisor; used on its event loop alone."""

    def __init__(self, book: _Book, view: Callable[[Entry], StreamView]) -> None:
        self._book = book
        self._view = view
        self._telemetry = SupervisorTelemetry()
        self._probe: asyncio.Task[None] | None = None
        self._next = 0.0

    def poll(self, survey: Callable[[], Survey], models: Iterable[str]) -> None:
        """Report anew where the last time is long enough ago."""
        now = asyncio.get_running_loop().time()
        if now < self._next:
            return
        self._next = now + WATCH_PERIOD_S
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._look_at_store())
        shown, found = [self._view(entry) for entry in self._book], survey()
        self._telemetry.streams(Counter(view.status.state for view in shown), wanted_online(shown))
        self._telemetry.room(model_rooms(found, models), found.waiting)

    def died(self, stream_id: str) -> None:
        """Count an actor that ended unasked."""
        self._telemetry.died(stream_id)

    async def _look_at_store(self) -> None:
        """On a task of its own: a store that is away takes its time to say so."""
        try:
            await self._book.probe()
        except StoreAway:
            self._telemetry.store(False)
        except Exception:
            logger.exception("the store could not be looked at")
            self._telemetry.store(False)
        else:
            self._telemetry.store(True)

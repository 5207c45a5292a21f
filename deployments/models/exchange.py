"""A replica's part in a swap: makes a version ready on a thread of its own, switches, or lets it go; no Ray."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from deployments.models.versions import Discard, Order, Prepare, Refusal, Switch, Version
from engines.errors import EngineError, one_line

RETRY_S = 30.0
"""After which a refusal is forgotten: a replica that lags behind is then told to try again."""

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """What a version is made into."""

    def close(self) -> None: ...


Made = TypeVar("Made", bound=Closable)


class ModelExchange(Generic[Made]):
    """At most one version lies ready or is being made so. All methods on one thread."""

    def __init__(self, make: Callable[[Version], Made], switch: Callable[[Version, Made], None]) -> None:
        """``make`` loads and tries a version, or raises; it gets a thread of its own. ``switch`` takes it over."""
        self._make, self._switch = make, switch
        self._work: threading.Thread | None = None
        self._ready: tuple[Version, Made] | None = None
        self._refused: tuple[float, Refusal] | None = None

    @property
    def ready(self) -> int | None:
        """Number of the version that lies ready."""
        return None if self.busy or self._ready is None else self._ready[0].number

    @property
    def refused(self) -> Refusal | None:
        """The version that couldn't be made ready, for `RETRY_S`."""
        refused = self._refused
        return None if refused is None or time.monotonic() - refused[0] > RETRY_S else refused[1]

    @property
    def busy(self) -> bool:
        """Whether a version is being made ready."""
        return self._work is not None and self._work.is_alive()

    def await_work(self, timeout_s: float) -> None:
        """Return once nothing is being made ready any more, or after ``timeout_s``."""
        if self._work is not None:
            self._work.join(timeout_s)

    def obey(self, order: Order) -> None:
        """Do as told; while a version is being made ready, that comes first, and the order will come again."""
        if self.busy:
            return
        match order:
            case Prepare(version):
                self._discard()
                self._refused = None
                self._work = threading.Thread(target=self._prepare, args=(version,), name="load", daemon=True)
                self._work.start()
            case Switch(number):
                if self._ready is not None and self._ready[0].number == number:
                    (version, made), self._ready = self._ready, None
                    self._switch(version, made)
            case Discard():
                self._discard()

    def close(self) -> None:
        """Let go of what lies ready."""
        self.await_work(RETRY_S)
        self._discard()

    def _discard(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready[1].close()

    def _prepare(self, version: Version) -> None:
        try:
            self._ready = version, self._make(version)
        except Exception as error:
            if not isinstance(error, EngineError):
                logger.exception("a package failed in a way that raysight did not foresee")
            reason = one_line(error) or type(error).__name__
            logger.warning("%s is not taken: %s", version.package, reason)
            self._refused = time.monotonic(), Refusal(version.number, reason[:500])

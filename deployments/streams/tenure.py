"""Keeps the lease of one life: a thread that reads its term in the store, and says when the right comes or goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deployments.errors import StoreAway, StoreDown
from deployments.store.opening import open_store
from deployments.store.protocol import Store
from deployments.streams.lease import Lease

LEASE = "lease"
"""Kind of the records whose versions are terms, one a stream; the supervisor alone writes them."""

LOOK_S = 1.0
"""How often to look into the store: a life that was succeeded publishes no longer than that where it can be told."""

TICK_S = 0.25
"""How late the end of the right may be acted upon; `WAIT_S` leaves room for it."""

CUT_OFF = "its outputs pause: neither the store nor the supervisor can be reached, so another node may publish it"
BEGINS = "its outputs wait: the store has not yet been asked whether this life of the stream may publish"
WAITS = "its outputs wait: an earlier life of the stream, on a node that fell silent, may publish for some seconds more"
SUCCEEDED = "its outputs ended: another life of the stream has begun"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What a life is told of its right when it begins.

    Attributes:
        store: URL; None where it is a file of one node: there the end of a process is known, and the right is for good.
        term: version of the stream's record in the store that gives this life the right.
        wait_s: as `Lease` has it.
    """

    store: str | None = None
    term: int = 0
    wait_s: float = 0.0

    @property
    def held(self) -> str | None:
        """Why outputs stay closed at first; None where they need not."""
        return BEGINS if self.store is not None else None


class Tenure:
    """The right to publish a stream; safe to use from several threads.

    Args:
        environment: has what `open_store` needs besides the URL.
        hold: called with why the life may not publish, and with None once it may, on a thread of `Tenure`; may block.
    """

    def __init__(
        self, tenancy: Tenancy, stream_id: str, environment: Mapping[str, str], hold: Callable[[str | None], None]
    ) -> None:
        self._store = open_store(tenancy.store, environment) if tenancy.store is not None else None
        self._stream_id = stream_id
        self._term = tenancy.term
        self._hold = hold
        self._told = tenancy.held
        self._lock = threading.Lock()
        self._lease = Lease(tenancy.wait_s)
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._looker = threading.Thread(target=self._look_again, name="look", daemon=True)

    def start(self) -> None:
        """Begin to look; outputs are held from the start until the first good answer."""
        if self._store is not None:
            self._looker.start()
            self._thread.start()

    def vouched(self, stamp: float | None) -> None:
        """The supervisor's word for a `stamp` that it got; None where it has none to give."""
        if stamp is not None:
            with self._lock:
                self._lease.vouched(stamp)

    @property
    def stamp(self) -> float:
        """What the supervisor has to name in its next word."""
        return time.monotonic()

    @property
    def publishes(self) -> bool:
        """Whether this life may publish now."""
        return self.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why it may not, in words; None where it may."""
        with self._lock:
            if self._store is None or self._lease.publishes(time.monotonic()):
                return None
            if self._lease.succeeded:
                return SUCCEEDED
            if not self._lease.begun:
                return BEGINS
            return WAITS if self._lease.waiting else CUT_OFF

    def stop(self) -> None:
        """Look no more; the right stays as it is."""
        self._stopping.set()
        self._woken.set()

    def _run(self) -> None:
        """Apart from the thread that looks: a store that hangs must not hold up the end of the right."""
        while not self._stopping.is_set():
            self._woken.wait(TICK_S)
            self._woken.clear()
            why = self.trouble
            if why != self._told and not self._stopping.is_set():
                logger.log(logging.INFO if why is None else logging.WARNING, "%s", why or "its outputs may publish")
                try:
                    self._hold(why)
                    self._told = why
                except Exception:
                    logger.exception("the outputs could not be %s; that is tried again", "held" if why else "opened")

    def _look_again(self) -> None:
        assert self._store is not None
        while not self._stopping.is_set():
            try:
                self._look(self._store)
            except Exception:
                logger.exception("the lease could not be read; it is read again")
            self._woken.set()
            self._stopping.wait(LOOK_S)
        self._store.close()

    def _look(self, store: Store) -> None:
        asked = time.monotonic()
        try:
            found = store.get(LEASE, self._stream_id)
            server = store.server()  # last: the same one has then been up at both times
        except StoreDown:
            with self._lock:
                self._lease.store_down(asked)
        except StoreAway:
            return
        else:
            with self._lock:
                if found is not None and found.version == self._term:
                    self._lease.read_own(asked, server)
                else:
                    self._lease.read_other()

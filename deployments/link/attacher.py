"""Keeps a stream attached to some replica: attaches, attaches again when that one goes, and swaps in between.

The one place that retries an attachment. On `drain` the new attachment stands before the old one is left, so that
no frame is lost; when an attachment breaks, the next try follows at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from deployments.detector.port import DetectRequest, PendingReply
from deployments.errors import DetectorUnavailable
from deployments.link.client import LinkClient
from deployments.link.grant import Grant, KeyPair
from deployments.link.messages import Drain
from deployments.streams.backoff import Backoff
from engines.types import EngineInfo, UInt8Array

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Between two tries: a replica that comes up is found within a second, and waiting streams cost it next to nothing."""

STEADY_S = 1.0
"""An attachment that stood for less counts as a failed try: a replica may end each one that it grants."""

FAREWELL_S = 1.0
"""How long an attachment that was replaced is kept for the replies that are still out."""

CLOSE_S = 4.0
"""How long `close` waits: the longest that a try which has got its grant may still take, and a farewell."""


class AttachRequest(Protocol):
    """One long-lived request to a replica; `deployments.detector.deployment` has the real one."""

    def grant(self) -> Grant:
        """What the replica answers first. Raises DetectorUnavailable."""
        ...

    def cancel(self) -> None:
        """End the request; the replica frees what the attachment holds."""
        ...


class _Attachment:
    """A request, the client that rests on it once it is granted, and whether it is time to leave."""

    def __init__(self, request: AttachRequest) -> None:
        self.request = request
        self.leaving = threading.Event()
        self.move_to = ""
        self.client: LinkClient | None = None

    def open(self, keys: KeyPair) -> LinkClient:
        """Wait for the grant and connect. Raises DetectorUnavailable."""
        self.client = LinkClient(
            self.request.grant(),
            keys,
            on_drain=self._drained,
            on_lost=lambda why: self.leaving.set(),
        )
        return self.client

    def _drained(self, drain: Drain) -> None:
        self.move_to = drain.to
        self.leaving.set()

    def close(self) -> None:
        try:
            if self.client is not None:
                self.client.close()
            self.request.cancel()
        except Exception:
            logger.exception("an attachment did not end cleanly")


class Attacher:
    """`DetectorPort` over whichever attachment stands now."""

    def __init__(self, open_request: Callable[[bytes, str], AttachRequest]) -> None:
        """Begin to attach.

        ``open_request`` takes this stream's public key, and the name of the replica that it had best attach to; an
        empty one where any will do.
        """
        self._open_request = open_request
        self._keys = KeyPair.make()
        self._changed = threading.Condition()
        self._newest: _Attachment | None = None
        self._current: _Attachment | None = None
        self._client: LinkClient | None = None
        self._told: EngineInfo | None = None
        self._trouble: str | None = None
        self._outdated = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="attach", daemon=True)
        self._thread.start()

    def info(self, timeout_s: float) -> EngineInfo:
        """What is loaded, where there is an attachment that stands. Raises DetectorUnavailable after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._stands(), timeout_s)
            if self._client is None:
                raise DetectorUnavailable(f"no Detector replica could be attached to within {timeout_s:g} s")
            self._told = self._client.info(timeout_s)
            return self._told

    @property
    def trouble(self) -> str | None:
        """Why nothing is attached, in words; None where something is, or nothing has failed yet."""
        return None if self._client is not None else self._trouble

    def reattach(self) -> None:
        """Attach anew, as after a drain: what ``open_request`` asks for has changed.

        Other than then, the old attachment is left even where there is no new one: its answers are not wanted any more.
        """
        with self._changed:
            self._outdated = True
            newest = self._newest
        if newest is not None:
            newest.leaving.set()
            if newest.client is None:
                newest.request.cancel()

    def place(self) -> UInt8Array | None:
        """Where the next frame may be made so that `submit` copies nothing; None where any array will do."""
        client = self._client
        return None if client is None else client.place()

    def submit(self, request: DetectRequest) -> PendingReply:
        """Send a frame and return at once.

        Raises DetectorUnavailable while nothing is attached, and once a replica with another model than `info` told
        is: the frame was made for that one.
        """
        with self._changed:  # so that whoever leaves an attachment knows of all frames that went there
            if self._client is None:
                raise DetectorUnavailable("no Detector replica is attached to")
            if self._told is not None and self._told != self._client.info(0.0):
                raise DetectorUnavailable("another model is loaded now")
            return self._client.submit(request)

    def close(self) -> None:
        """Leave the replica; frames that are out fail."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            newest = self._newest
        if newest is not None:
            newest.leaving.set()
            if newest.client is None:
                newest.request.cancel()  # it may still wait for its grant
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        move_to = ""
        while not self._stopping:
            outdated, self._outdated = self._outdated, False
            attached = self._attach(move_to)
            move_to, began = "", time.monotonic()  # what was named is named once: it may be gone by the next try
            if attached is not None:
                self._replace(attached)
                attached.leaving.wait()  # it drains, has broken, or is wanted no more
                move_to = attached.move_to
            elif outdated:
                self._replace(None)
            self._drop_broken()
            if attached is not None and time.monotonic() - began >= STEADY_S:
                backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, backoff.next_delay())
        self._replace(None)

    def _attach(self, to: str) -> _Attachment | None:
        opening = None
        try:
            opening = _Attachment(self._open_request(self._keys.public, to))
            with self._changed:
                if not self._stopping:
                    self._newest = opening
            if self._newest is opening:
                opening.open(self._keys)
                return opening
        except DetectorUnavailable as error:
            logger.info("not attached yet: %s", error)
            self._trouble = str(error)
        except Exception:
            logger.exception("an unforeseen failure to attach")
        if opening is not None:
            opening.close()
        return None

    def _replace(self, attached: _Attachment | None) -> None:
        with self._changed:
            old, self._current = self._current, attached
            self._client = None if attached is None else attached.client
            self._changed.notify_all()
        if old is None:
            return
        if old.client is not None and not self._stopping:
            old.client.await_replies(time.monotonic() + FAREWELL_S)
        old.close()

    def _stands(self) -> bool:
        return self._client is not None and not self._client.ended

    def _drop_broken(self) -> None:
        if self._client is not None and self._client.ended:
            self._replace(None)

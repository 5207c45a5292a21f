"""The viewers of one stream: how many there are, and that none stays who is not attended to any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from deployments.errors import Overloaded, PlaybackMissing, TooManyViewers
from deployments.streams.media.audience import Audience
from deployments.streams.webrtc.offer import vetted
from deployments.streams.webrtc.settings import PlaybackSettings, SdpAnswer

if TYPE_CHECKING:
    from deployments.streams.webrtc.peer import Peer

logger = logging.getLogger(__name__)

CONNECT_S = 20.0
"""From the answer until the viewer is connected."""

UNATTENDED_S = 30.0
"""How long a viewer stays of whom nobody asks: who let it in asks more often, or is gone."""

LOOK_S = 2.0
"""How often it is looked who has to go."""

ANSWER_S = 10.0
"""For an answer: gathering candidates takes as long as a STUN server that is away."""

CLOSE_S = 2.0
"""For all goodbyes, when the stream ends."""

Result = TypeVar("Result")


@dataclass
class _Session:
    peer: Peer | None
    connect_by: float
    asked_at: float


class Viewers:
    """Owns the connections, on an event loop of its own that begins with the first viewer. Safe to use from threads.

    Args:
        audience: where viewers get their packets.
        raw: where those do who want the source's own.
        allows: whether an address that a viewer names may be sent to.
    """

    def __init__(
        self,
        audience: Audience,
        raw: Audience,
        allows: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._audience = audience
        self._raw = raw
        self._allows = allows
        self._clock = clock
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions: dict[str, _Session] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Viewers, those that are still connecting included."""
        return len(self._sessions)

    def play(self, offer: str, settings: PlaybackSettings, *, copied: bool) -> SdpAnswer:
        """Let a viewer in, who gets the source's own packets where ``copied``.

        Raises:
            InvalidSpec: the offer can't be answered.
            TooManyViewers: the stream has as many as it takes.
            PlaybackMissing: aiortc is not installed.
        """
        return self._on_loop(self._play(vetted(offer, self._allows), settings, copied), ANSWER_S + 1)

    def plays(self, session: str) -> bool:
        """Whether the viewer is still there; asking keeps it from being taken for unattended."""
        found = self._sessions.get(session)
        if found is None:
            return False
        found.asked_at = self._clock()
        return True

    def stop(self, session: str) -> None:
        """Let a viewer go, if it is there."""
        if session in self._sessions:
            self._on_loop(self._end(session), ANSWER_S)

    def close(self) -> None:
        """Let all go, within `CLOSE_S`."""
        if self._sessions:
            with contextlib.suppress(TimeoutError):
                self._on_loop(self._end_all(), CLOSE_S)

    def _on_loop(self, work: Coroutine[Any, Any, Result], timeout_s: float) -> Result:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="webrtc", daemon=True).start()
                asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _play(self, offer: str, settings: PlaybackSettings, copied: bool) -> SdpAnswer:
        try:
            from deployments.streams.webrtc.peer import Peer
        except ImportError:
            raise PlaybackMissing(
                "aiortc is not installed where the stream runs: pip install 'raysight[webrtc]'"
            ) from None
        if len(self._sessions) >= settings.viewers_per_stream:
            raise TooManyViewers(f"All {settings.viewers_per_stream} places of this stream are taken: try again later.")
        session = secrets.token_urlsafe(16)
        now = self._clock()
        self._sessions[session] = place = _Session(None, now + CONNECT_S, now)
        try:
            audience = self._raw if copied else self._audience
            place.peer = Peer(audience, settings.ice_servers, lambda: self._gone(session), copied=copied)
            async with asyncio.timeout(ANSWER_S):
                return SdpAnswer(session, await place.peer.answer(offer))
        except TimeoutError:
            await self._end(session)
            raise Overloaded(f"There was no answer within {ANSWER_S:g} s: check the ICE servers.") from None
        except BaseException:
            await self._end(session)
            raise

    def _gone(self, session: str) -> None:
        """Of a connection that ended; it calls this from within, so that the end has to wait."""
        task = asyncio.get_running_loop().create_task(self._end(session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _end(self, session: str) -> None:
        found = self._sessions.pop(session, None)
        if found is not None and found.peer is not None:
            await found.peer.close()

    async def _end_all(self) -> None:
        await asyncio.gather(*map(self._end, list(self._sessions)), return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock()
            for session, found in list(self._sessions.items()):
                late = now > found.connect_by and (found.peer is None or not found.peer.connected)
                if late or now - found.asked_at > UNATTENDED_S:
                    try:
                        await self._end(session)
                    except Exception:
                        logger.exception("a viewer's connection could not be closed")

"""Who watches by WebRTC through this process: each takes a seat, and keeps it until the viewer is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from deployments.errors import RaysightError, StreamNotFound
from deployments.streams.webrtc.settings import SdpAnswer
from serve_app.api.fanout import Seats
from serve_app.api.ports import Streams
from serve_app.api.problems import NO_PICTURE, Refused

ASK_S = 5.0
"""How often the stream is asked whether a viewer is still there; media does not pass here."""


class Playbacks:
    """Used on the API's event loop."""

    def __init__(self, streams: Streams, seats: Seats) -> None:
        self._streams = streams
        self._seats = seats
        self._attending: dict[str, asyncio.Task[None]] = {}

    async def begin(
        self,
        stream_id: str,
        offer: str,
        copied: bool,
        leave: Callable[[], None],
        allowed: Callable[[], Awaitable[bool]],
    ) -> SdpAnswer:
        """Let a viewer in; ``leave`` is called once it is gone, and it has to go when it is no longer ``allowed``.

        Raises as `serve_app.api.ports.LiveViews.play`; ``leave`` is not called then.
        """
        self._seats.take()
        try:
            answer = await self._streams.play(stream_id, offer, copied)
            if answer is None:
                raise Refused(NO_PICTURE, "The stream does not run now: try again when it is online.")
        except BaseException:
            self._seats.release()
            raise
        task = asyncio.create_task(self._attend(stream_id, answer.session, leave, allowed))
        self._attending[answer.session] = task
        return answer

    async def end(self, stream_id: str, session: str) -> None:
        """Let a viewer go, whichever process let it in. Raises StreamNotFound."""
        await self._streams.stop_playing(stream_id, session)
        if (task := self._attending.get(session)) is not None:
            task.cancel()

    def close(self) -> None:
        """Attend to nobody any more; streams let their viewers go soon after."""
        for task in self._attending.values():
            task.cancel()

    async def _attend(
        self, stream_id: str, session: str, leave: Callable[[], None], allowed: Callable[[], Awaitable[bool]]
    ) -> None:
        try:
            stays = True
            while stays:
                await asyncio.sleep(ASK_S)
                stays = await self._stays(stream_id, session, allowed)
        finally:
            self._attending.pop(session, None)
            self._seats.release()
            leave()

    async def _stays(self, stream_id: str, session: str, allowed: Callable[[], Awaitable[bool]]) -> bool:
        try:
            if not await allowed():
                with contextlib.suppress(RaysightError):
                    await self._streams.stop_playing(stream_id, session)
                return False
            return await self._streams.plays(stream_id, session)
        except StreamNotFound:
            return False
        except RaysightError:  # who could tell is away: the viewer gets its media all the same
            return True

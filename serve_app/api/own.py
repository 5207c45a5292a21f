"""The ports as one caller may use them: its streams only, within its quotas, every change written down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from deployments.errors import RaysightError, SpecConflict, StreamExists, StreamNotFound
from deployments.streams.events import EventBatch
from deployments.streams.history import HistoryEntry
from deployments.streams.recording.shelf import ClipPart
from deployments.streams.recording.spec import Clip
from deployments.streams.spec import StreamSpec, StreamView
from deployments.streams.webrtc.settings import SdpAnswer
from deployments.supervisor.entrance import Survey
from deployments.supervisor.query import Part, PartQuery
from deployments.supervisor.registry import StreamQuota
from serve_app.api.dependencies import Ports
from serve_app.api.ports import JpegPicture, Streams
from serve_app.api.viewers import LiveResponse, Viewers
from serve_app.auth.audit import AuditLog
from serve_app.auth.doors import Doors
from serve_app.auth.errors import Forbidden
from serve_app.auth.quota import OpenViews
from serve_app.auth.roles import Principal, patched_labels

TRIES = 8
"""How often a change is tried while others change the same stream: each has to be decided on what is there."""

RECHECK_S = 10.0
"""How often it is looked whether whoever watches still may."""

Answer = TypeVar("Answer")


class OwnPorts:
    """Makes the ports of each caller; holds what they share."""

    def __init__(self, ports: Ports, viewers: Viewers, doors: Doors | None) -> None:
        self._ports = ports
        self._viewers = viewers
        self._doors = doors
        self._views = doors.views if doors is not None else OpenViews()

    def of(self, who: Principal) -> Ports:
        """The ports as ``who`` may use them."""
        streams = OwnStreams(self._ports.streams, who, self._ports.audit)
        return replace(
            self._ports, streams=streams, viewers=OwnViews(self._viewers, streams, who, self._views, self._doors)
        )


class OwnViews:
    """`serve_app.api.ports.LiveViews` of one caller; they end soon after the caller would no longer get them."""

    def __init__(
        self, viewers: Viewers, streams: Streams, who: Principal, views: OpenViews, doors: Doors | None
    ) -> None:
        self._viewers = viewers
        self._streams = streams
        self._who = who
        self._views = views
        self._doors = doors

    async def detections(self, stream_id: str, after: int | None) -> LiveResponse:
        return await self._opened(stream_id, lambda: self._viewers.detections(stream_id, after))

    async def pictures(self, stream_id: str, fps: float) -> LiveResponse:
        return await self._opened(stream_id, lambda: self._viewers.pictures(stream_id, fps))

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer:
        await self._streams.get(stream_id)
        leave = await self._views.enter(self._who)
        try:
            allowed = partial(self._stays_allowed, stream_id)
            return await self._viewers.playbacks.begin(stream_id, offer, copied, leave, allowed)
        except BaseException:
            leave()
            raise

    async def stop_playing(self, stream_id: str, session: str) -> None:
        await self._streams.get(stream_id)
        await self._viewers.playbacks.end(stream_id, session)

    async def _stays_allowed(self, stream_id: str) -> bool:
        return self._doors is None or await self._allowed(stream_id, self._doors)

    async def _opened(self, stream_id: str, view: Callable[[], Awaitable[LiveResponse]]) -> LiveResponse:
        await self._streams.get(stream_id)
        leave = await self._views.enter(self._who)
        try:
            response = await view()
        except BaseException:
            leave()
            raise
        response.when_closed(leave)
        if self._doors is not None:
            response.end_after(partial(self._until_refused, stream_id, self._doors))
        return response

    async def _until_refused(self, stream_id: str, doors: Doors) -> None:
        allowed = True
        while allowed:
            await asyncio.sleep(RECHECK_S)
            allowed = await self._allowed(stream_id, doors)

    async def _allowed(self, stream_id: str, doors: Doors) -> bool:
        try:
            if not await doors.still_holds(self._who):
                return False
            if self._who.labels:
                await self._streams.get(stream_id)
        except StreamNotFound:
            return False
        except RaysightError:  # store or supervisor are away: what is known holds
            return True
        return True


class OwnStreams:
    """`serve_app.api.ports.Streams` of one caller: streams outside its labels are not there.

    A change is made to the generation that was looked at, so that no change of the labels slips in between.
    """

    def __init__(self, streams: Streams, who: Principal, audit: AuditLog) -> None:
        self._streams = streams
        self._who = who
        self._audit = audit

    async def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> StreamView:
        self._require_scope(spec.labels)
        limit = self._who.allowance.streams
        own = quota if limit is None else StreamQuota(dict(self._who.labels), limit)
        view = await self._streams.create(spec, own)
        await self._note("stream.create", spec.id, None, view.status.generation)
        return view

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        self._require_scope(spec.labels)
        for _ in range(TRIES):
            before = await self._found(spec.id)
            try:
                if before is None and if_generation is None:
                    return await self.create(spec), True
                return await self._replaced(spec, before, if_generation), False
            except StreamExists:
                if await self._found(spec.id) is None:  # of others
                    raise
            except SpecConflict:
                if if_generation is not None:
                    raise
        raise _restless(spec.id)

    async def _replaced(self, spec: StreamSpec, before: StreamView | None, if_generation: int | None) -> StreamView:
        if before is None:
            raise SpecConflict("There is no such stream to replace.")
        seen = before.status.generation
        view, _ = await self._streams.put(spec, seen if if_generation is None else if_generation)
        await self._note("stream.put", spec.id, seen, view.status.generation)
        return view

    async def patch(self, stream_id: str, merge_patch: dict[str, Any], if_generation: int | None) -> StreamView:
        async def patched(before: StreamView, generation: int) -> StreamView:
            self._require_scope(patched_labels(before.spec.labels, merge_patch))
            view = await self._streams.patch(stream_id, merge_patch, generation)
            await self._note("stream.patch", stream_id, before.status.generation, view.status.generation)
            return view

        return await self._changed(stream_id, if_generation, patched)

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        async def deleted(before: StreamView, generation: int) -> None:
            await self._streams.delete(stream_id, generation)
            await self._note("stream.delete", stream_id, before.status.generation, None)

        await self._changed(stream_id, if_generation, deleted)

    async def restart(self, stream_id: str) -> StreamView:
        await self.get(stream_id)
        view = await self._streams.restart(stream_id)
        await self._audit.add(self._who, "stream.restart", stream_id, view.status.generation, view.status.generation)
        return view

    async def get(self, stream_id: str) -> StreamView:
        view = await self._found(stream_id)
        if view is None:
            raise StreamNotFound(f"There is no stream {stream_id!r}: GET /v1/streams lists them.")
        return view

    async def history(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        await self._require_seen(stream_id)
        return await self._streams.history(stream_id)

    async def list(self) -> list[StreamView]:
        return [view for view in await self._streams.list() if self._who.sees(view.spec.labels)]

    async def part(self, query: PartQuery) -> Part:
        return await self._streams.part(replace(query, labels=(*query.labels, *self._who.labels.items())))

    async def survey(self) -> Survey:
        return await self._streams.survey()  # sums over all streams, and no stream of others

    async def drain(self) -> None:
        await self._streams.drain()
        await self._audit.add(self._who, "streams.drain", "all")

    async def events(self, stream_id: str, after: int | None, timeout_s: float) -> EventBatch:
        await self._require_seen(stream_id)
        return await self._streams.events(stream_id, after, timeout_s)

    async def picture(
        self, stream_id: str, annotated: bool, newer_than: int | None, timeout_s: float
    ) -> JpegPicture | None:
        await self._require_seen(stream_id)
        return await self._streams.picture(stream_id, annotated, newer_than, timeout_s)

    async def clips(self, stream_id: str) -> tuple[Clip, ...] | None:
        await self._require_seen(stream_id)
        return await self._streams.clips(stream_id)

    async def clip_part(self, stream_id: str, name: str, kind: str, offset: int) -> ClipPart | None:
        await self._require_seen(stream_id)
        return await self._streams.clip_part(stream_id, name, kind, offset)

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer | None:
        await self._require_seen(stream_id)
        return await self._streams.play(stream_id, offer, copied)

    async def plays(self, stream_id: str, session: str) -> bool:
        await self._require_seen(stream_id)
        return await self._streams.plays(stream_id, session)

    async def stop_playing(self, stream_id: str, session: str) -> None:
        await self._require_seen(stream_id)
        await self._streams.stop_playing(stream_id, session)

    async def _changed(
        self,
        stream_id: str,
        if_generation: int | None,
        change: Callable[[StreamView, int], Awaitable[Answer]],
    ) -> Answer:
        for _ in range(TRIES):
            before = await self.get(stream_id)
            if if_generation not in (None, before.status.generation):
                raise SpecConflict(f"The stream is at generation {before.status.generation}: read it again.")
            try:
                return await change(before, before.status.generation)
            except SpecConflict:
                if if_generation is not None:
                    raise
        raise _restless(stream_id)

    async def _found(self, stream_id: str) -> StreamView | None:
        """The stream; None where there is none, or none that the caller sees."""
        try:
            view = await self._streams.get(stream_id)
        except StreamNotFound:
            return None
        return view if self._who.sees(view.spec.labels) else None

    async def _require_seen(self, stream_id: str) -> None:
        if self._who.labels:
            await self.get(stream_id)

    def _require_scope(self, labels: dict[str, Any]) -> None:
        if not self._who.sees(labels):
            wanted = ", ".join(f"{key}={value}" for key, value in sorted(self._who.labels.items()))
            raise Forbidden(f"This key is for streams with the labels {wanted}: give the stream those.")

    async def _note(self, action: str, stream_id: str, before: int | None, after: int | None) -> None:
        if before != after:
            await self._audit.add(self._who, action, stream_id, before, after)


def _restless(stream_id: str) -> SpecConflict:
    return SpecConflict(f"Others change {stream_id!r} all the time: try again.")

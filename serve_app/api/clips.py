"""Routes to the clips of a stream."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Response
from starlette.responses import StreamingResponse

from deployments.streams.recording.shelf import ClipPart
from deployments.streams.recording.spec import NAME
from serve_app.api.dependencies import StreamIdInPath, UsePorts
from serve_app.api.openapi import answers, problems
from serve_app.api.ports import Streams
from serve_app.api.problems import CLIP_NOT_FOUND, NOT_RUNNING, RANGE_REFUSED, Refused
from serve_app.api.schemas import ClipList

_BINARY = {"type": "string", "format": "binary"}
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
NameInPath = Annotated[str, Path(alias="name", pattern=f"^{NAME}$", description="As the list has it.")]

router = APIRouter(prefix="/v1/streams/{id}/clips", tags=["live"])


@router.get("", summary="List clips", operation_id="listClips", responses=problems(404, 422, 503))
async def list_clips(ports: UsePorts, stream_id: StreamIdInPath) -> ClipList:
    """Clips of the stream that lie on the node where it runs, the newest first."""
    clips = await ports.streams.clips(stream_id)
    if clips is None:
        raise Refused(NOT_RUNNING, "The stream does not run now, and its clips are where it does: try again later.")
    return ClipList(items=clips)


@router.get(
    "/{name}.mp4",
    summary="A clip",
    operation_id="clip",
    response_class=Response,
    responses={
        200: answers("The clip.", "video/mp4", _BINARY),
        206: answers("The part that was asked for.", "video/mp4", _BINARY),
        **problems(404, 416, 422, 503),
    },
)
async def clip(
    ports: UsePorts,
    stream_id: StreamIdInPath,
    name: NameInPath,
    asked: Annotated[str | None, Header(alias="Range", description="One range of bytes; several are ignored.")] = None,
) -> Response:
    """The clip, with the source's own video and sound."""
    total = (await _part(ports.streams, stream_id, name, "mp4", 0)).total
    found = wanted(asked, total)
    if found is None:
        detail = f"The clip has {total} bytes: ask for some of those."
        raise Refused(RANGE_REFUSED, detail, headers={"Content-Range": f"bytes */{total}"})
    start, stop = found
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(stop - start), "Cache-Control": "private, max-age=3600"}
    partial = asked is not None and (start, stop) != (0, total)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    content = _bytes(ports.streams, stream_id, name, start, stop)
    return StreamingResponse(content, 206 if partial else 200, headers=headers, media_type="video/mp4")


@router.get(
    "/{name}.jpg",
    summary="A clip's thumbnail",
    operation_id="clipThumbnail",
    response_class=Response,
    responses={200: answers("The picture.", "image/jpeg", _BINARY), **problems(404, 422, 503)},
)
async def thumbnail(ports: UsePorts, stream_id: StreamIdInPath, name: NameInPath) -> Response:
    """What was seen when the clip was begun, 320 pixels wide, with boxes."""
    part = await _part(ports.streams, stream_id, name, "jpg", 0)
    return Response(part.data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def wanted(asked: str | None, total: int) -> tuple[int, int] | None:
    """First byte and end of what a Range header asks for; all where it can't be read, None where there is no such."""
    found = None if asked is None else _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return 0, total
    if not found[1]:
        return (max(0, total - int(found[2])), total) if int(found[2]) and total else None
    start = int(found[1])
    if found[2] and int(found[2]) < start:
        return 0, total
    stop = min(total, int(found[2]) + 1) if found[2] else total
    return (start, stop) if start < total else None


async def _part(streams: Streams, stream_id: str, name: str, kind: str, offset: int) -> ClipPart:
    part = await streams.clip_part(stream_id, name, kind, offset)
    if part is None:
        raise Refused(CLIP_NOT_FOUND, "There is no such clip where the stream runs, or the stream does not run.")
    return part


async def _bytes(streams: Streams, stream_id: str, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
    while start < stop:
        data = (await _part(streams, stream_id, name, "mp4", start)).data[: stop - start]
        if not data:
            return  # it was removed meanwhile
        start += len(data)
        yield data

"""Routes that show what a stream sees."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from starlette.requests import Request

from serve_app.api.body import require_accept
from serve_app.api.dependencies import StreamIdInPath, UsePorts
from serve_app.api.openapi import answers, problems
from serve_app.api.problems import NO_PICTURE, Refused

SNAPSHOT_WAIT_S = 2.0
_LARGEST = 2**63 - 1
_BINARY = {"type": "string", "format": "binary"}
_EVENTS = (
    "`event: detections`, one per inferred frame, its `id` the frame's sequence; `event: gap` where some were lost; "
    "`event: end` when the stream is deleted."
)

router = APIRouter(prefix="/v1/streams/{id}", tags=["live"])


@router.get(
    "/detections",
    summary="Follow detections",
    operation_id="followDetections",
    response_class=Response,
    responses={200: answers(_EVENTS, "text/event-stream", {"type": "string"}), **problems(404, 406, 422, 503)},
)
async def detections(
    ports: UsePorts,
    request: Request,
    stream_id: StreamIdInPath,
    after: Annotated[int | None, Query(ge=-1, le=_LARGEST, description="Begin after this sequence.")] = None,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=_LARGEST, alias="Last-Event-ID", description="As `after`, and wins over it; browsers send it."),
    ] = None,
) -> Response:
    """Detections as server-sent events, from now on or after a sequence that was already seen."""
    require_accept(request, "text/event-stream")
    return await ports.viewers.detections(stream_id, after if last_event_id is None else last_event_id)


@router.get(
    "/snapshot.jpg",
    summary="Newest picture",
    operation_id="snapshot",
    response_class=Response,
    responses={200: answers("The picture.", "image/jpeg", _BINARY), **problems(404, 406, 422, 503)},
)
async def snapshot(
    ports: UsePorts,
    request: Request,
    stream_id: StreamIdInPath,
    annotated: Annotated[bool, Query(description="Whether boxes and labels are drawn.")] = True,
) -> Response:
    """The newest frame as a JPEG."""
    require_accept(request, "image/jpeg")
    picture = await ports.streams.picture(stream_id, annotated, None, SNAPSHOT_WAIT_S)
    if picture is None:
        state = (await ports.streams.get(stream_id)).status.state
        raise Refused(NO_PICTURE, f"The stream is {state.value} and gave no picture yet: try again when it is online.")
    return Response(picture.jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.get(
    "/live.mjpeg",
    summary="Live video",
    operation_id="liveVideo",
    response_class=Response,
    responses={
        200: answers("Annotated pictures without an end.", "multipart/x-mixed-replace", _BINARY),
        **problems(404, 406, 422, 503),
    },
)
async def live_video(
    ports: UsePorts,
    request: Request,
    stream_id: StreamIdInPath,
    fps: Annotated[float, Query(ge=1, le=60, description="Pictures a second at most.")] = 25,
) -> Response:
    """Annotated video that any browser shows in an `img`; a slow client skips pictures."""
    require_accept(request, "multipart/x-mixed-replace")
    return await ports.viewers.pictures(stream_id, fps)

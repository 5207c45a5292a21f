"""Playback by WebRTC, as the WHEP draft has it: an SDP offer in, the answer out, DELETE to end it.

Candidates are all in offer and answer; one that comes later, by PATCH, gets 405, which the draft allows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from starlette.requests import Request
from starlette.responses import RedirectResponse

from deployments.streams.webrtc.settings import IceServer, PlaybackSettings
from serve_app.api.body import read_body, require_accept, require_type
from serve_app.api.dependencies import StreamIdInPath, UsePorts
from serve_app.api.media_server import FOLDER
from serve_app.api.openapi import answers, problems
from serve_app.api.problems import NOT_COPIED, Refused, field_refused

SDP = "application/sdp"
SDP_LIMIT = 64 * 1024
_WHAT_IT_TAKES = "WebRTC carries H.264 4:2:0 without B-frames, and turns no pictures: leave out `codec=copy`."
_TEXT: dict[str, Any] = {"type": "string"}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {SDP: {"schema": _TEXT}}}}

router = APIRouter(prefix="/v1/streams/{id}/whep", tags=["live"])


@router.post(
    "",
    status_code=201,
    summary="Watch by WebRTC",
    operation_id="play",
    response_class=Response,
    responses={
        201: answers("The SDP answer; `Location` is what to DELETE, `Link` names ICE servers.", SDP, _TEXT),
        307: {"description": "A media server plays it: make the same request at `Location`."},
        **problems(404, 406, 413, 415, 422, 501, 503),
    },
    openapi_extra=_BODY,
)
async def play(
    ports: UsePorts,
    request: Request,
    stream_id: StreamIdInPath,
    codec: Annotated[
        Literal["h264", "copy"], Query(description="`copy`: the source's own video, on which nothing is drawn.")
    ] = "h264",
) -> Response:
    """Video with little delay, for a WHEP player: H.264, annotated unless it is a copy, without sound.

    The RTP time of a picture is the `pts` of its detections, of which the lower 32 bits remain.
    """
    require_accept(request, SDP)
    settings: PlaybackSettings = request.app.state.playback
    if settings.media_server is not None:
        await ports.streams.get(stream_id)
        return RedirectResponse(f"{settings.media_server.rstrip('/')}/{FOLDER}{stream_id}/whep", 307)
    require_type(request, (SDP,))
    try:
        offer = (await read_body(request, SDP_LIMIT)).decode()
    except UnicodeDecodeError:
        raise field_refused("body", "must be SDP, which is UTF-8") from None
    copied = codec == "copy"
    if copied:
        source = (await ports.streams.get(stream_id)).status.source
        if source is not None and not source.webrtc_copy:
            raise Refused(NOT_COPIED, _WHAT_IT_TAKES)
    answer = await ports.viewers.play(stream_id, offer, copied)
    response = Response(answer.sdp, 201, media_type=SDP)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/streams/{stream_id}/whep/{answer.session}"
    response.headers["Cache-Control"] = "no-store"
    for server in settings.ice_servers:
        response.headers.append("Link", link(server))
    return response


@router.delete(
    "/{session}",
    status_code=204,
    summary="Stop watching",
    operation_id="stopPlaying",
    responses=problems(404, 422, 503),
)
async def stop_playing(
    ports: UsePorts,
    stream_id: StreamIdInPath,
    session: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="From the `Location` of the answer.")],
) -> None:
    """End it; also where it has ended already."""
    await ports.viewers.stop_playing(stream_id, session)


def link(server: IceServer) -> str:
    """An ICE server as the draft tells players of it."""
    parts = [f"<{server.url}>", 'rel="ice-server"']
    if server.username is not None:
        parts.append(f"username={_quoted(server.username)}")
    if server.credential is not None:
        parts += [f"credential={_quoted(server.credential)}", 'credential-type="password"']
    return "; ".join(parts)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

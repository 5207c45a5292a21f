"""The question of a media server whether a client may publish or watch: MediaMTX's `authMethod: http`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from serve_app.api.body import read_object, validated
from serve_app.api.openapi import MEDIA_EXAMPLE, json_body, problems
from serve_app.api.schemas import MediaRequest
from serve_app.auth.doors import Credentials, Doors
from serve_app.auth.errors import Forbidden, Unauthorized
from serve_app.auth.roles import ANYONE, Role

FOLDER = "whep/"
"""Before a stream's id in the paths of the media server, so that what the path of a request begins with tells a proxy
in front where it belongs."""

router = APIRouter(prefix="/v1", tags=["access"])


@router.post(
    "/media/authorize",
    status_code=204,
    summary="May a client of the media server",
    operation_id="authorizeMedia",
    responses=problems(400, 401, 403, 404, 413, 415, 422, 429, 503),
    openapi_extra=json_body("MediaRequest", MEDIA_EXAMPLE),
)
async def authorize(request: Request) -> None:
    """204 where the key that the client sent is a viewer's and it reads, or an operator's and it publishes.

    The key has to see the stream. Every connection is asked about once, when it begins.
    """
    wanted = validated(MediaRequest, await read_object(request))
    roles = {"read": Role.VIEWER, "publish": Role.OPERATOR}
    if wanted.action not in roles:
        raise Forbidden("Streams are read and published, and nothing else.")
    doors: Doors | None = request.app.state.doors
    who = ANYONE
    if doors is not None:
        key = wanted.token or wanted.password
        if not key:
            raise Unauthorized("Send a key as a bearer token, or as the password.")
        who = await doors.admit(Credentials(authorization=f"Bearer {key}"), roles[wanted.action])
    if not wanted.path.startswith(FOLDER):
        raise Forbidden(f"The path is {FOLDER} and the id of a stream.")
    await request.app.state.own.of(who).streams.get(wanted.path.removeprefix(FOLDER))

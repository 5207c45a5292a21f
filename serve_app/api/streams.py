"""Routes that create, show, change and end streams."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.requests import Request

from deployments.errors import SpecConflict, StreamExists
from deployments.streams.spec import StreamSpec, StreamState, StreamView
from deployments.supervisor.query import PartQuery
from serve_app.api.body import read_object, validated
from serve_app.api.conditions import create_only, etag, required_generation
from serve_app.api.dependencies import IfMatch, StreamIdInPath, UsePorts
from serve_app.api.openapi import PATCH_EXAMPLE, STREAM_EXAMPLE, json_body, problems
from serve_app.api.ports import Streams
from serve_app.api.problems import field_refused
from serve_app.api.schemas import HistoryPage, StreamPage

_TRIES = 8
"""Ids picked before giving up; each has two more random digits than the one before."""

router = APIRouter(prefix="/v1/streams", tags=["streams"])


@router.get("", summary="List streams", operation_id="listStreams", response_model=StreamPage, responses=problems(422))
async def list_streams(
    ports: UsePorts,
    label: Annotated[list[str], Query(default_factory=list, description="key=value; repeat it to ask for several.")],
    state: Annotated[StreamState | None, Query(description="Only streams in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Streams in one answer at most.")] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the part before.")] = None,
) -> Response:
    """Streams by id, with spec and status. Filters are joined by and."""
    after = "" if cursor is None else _id_in(cursor)
    found = await ports.streams.part(PartQuery(limit, after, tuple(_label(text) for text in label), state))
    next_cursor = None if found.last is None else _cursor(found.last)
    page = b'{"items":%b,"next_cursor":%b}' % (found.items, json.dumps(next_cursor).encode())
    return Response(page, media_type="application/json")


@router.post(
    "",
    status_code=201,
    summary="Create a stream",
    operation_id="createStream",
    responses=problems(400, 403, 409, 413, 415, 422),
    openapi_extra=json_body("StreamBody", {"id": "gate-3", **STREAM_EXAMPLE}),
)
async def create_stream(ports: UsePorts, request: Request, response: Response) -> StreamView:
    """Create a stream. Without an `id` the server picks one; `Location` says where the stream is."""
    body = await read_object(request)
    view = await (_create_named(ports.streams, body) if "id" not in body else ports.streams.create(_spec(body)))
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/streams/{view.spec.id}"
    return _tagged(response, view)


@router.put(
    "/{id}",
    summary="Create or replace a stream",
    operation_id="putStream",
    responses={201: {"model": StreamView, "description": "Created"}, **problems(400, 403, 409, 412, 413, 415, 422)},
    openapi_extra=json_body("StreamBody", STREAM_EXAMPLE),
)
async def put_stream(
    ports: UsePorts,
    request: Request,
    response: Response,
    stream_id: StreamIdInPath,
    if_match: IfMatch = None,
    if_none_match: Annotated[str | None, Header(description="* to create only; 412 where the id is taken.")] = None,
) -> StreamView:
    """Create or replace a stream; sending the same again changes nothing.

    Credentials that the body leaves out are kept while scheme, host and port of the URL stay the same.
    """
    body = await read_object(request)
    _require_same_id(body, stream_id)
    spec = _spec({**body, "id": stream_id})
    if create_only(if_none_match):
        try:
            view, created = await ports.streams.create(spec), True
        except StreamExists:
            raise SpecConflict("The id is taken: leave out If-None-Match to replace the stream.") from None
    else:
        generation = await required_generation(ports.streams, stream_id, if_match)
        view, created = await ports.streams.put(spec, generation)
    response.status_code = 201 if created else 200
    return _tagged(response, view)


@router.get("/{id}", summary="Show a stream", operation_id="getStream", responses=problems(404, 422))
async def get_stream(ports: UsePorts, response: Response, stream_id: StreamIdInPath) -> StreamView:
    """Spec and status of a stream. The `ETag` is the spec's generation, for `If-Match`."""
    return _tagged(response, await ports.streams.get(stream_id))


@router.get(
    "/{id}/history", summary="What a stream went through", operation_id="getHistory", responses=problems(404, 422)
)
async def get_history(ports: UsePorts, stream_id: StreamIdInPath) -> HistoryPage:
    """Changes of state and errors, newest first: the last 200, over all lives of the stream's actor."""
    return HistoryPage(items=await ports.streams.history(stream_id))


@router.patch(
    "/{id}",
    summary="Change a stream",
    operation_id="patchStream",
    responses=problems(400, 403, 404, 412, 413, 415, 422),
    openapi_extra=json_body("StreamPatch", PATCH_EXAMPLE, "application/merge-patch+json"),
)
async def patch_stream(
    ports: UsePorts, request: Request, response: Response, stream_id: StreamIdInPath, if_match: IfMatch = None
) -> StreamView:
    """Apply a JSON merge patch (RFC 7396) to the spec; `application/json` is taken as one too."""
    body = await read_object(request)
    _require_same_id(body, stream_id)
    generation = await required_generation(ports.streams, stream_id, if_match)
    return _tagged(response, await ports.streams.patch(stream_id, body, generation))


@router.delete(
    "/{id}",
    status_code=204,
    summary="Delete a stream",
    operation_id="deleteStream",
    responses=problems(400, 404, 412, 422),
)
async def delete_stream(ports: UsePorts, stream_id: StreamIdInPath, if_match: IfMatch = None) -> None:
    """Stop and forget a stream; answers once it has stopped, or 10 s later at most."""
    generation = await required_generation(ports.streams, stream_id, if_match)
    await ports.streams.delete(stream_id, generation)


@router.post("/{id}/restart", summary="Restart a stream", operation_id="restartStream", responses=problems(404, 422))
async def restart_stream(ports: UsePorts, response: Response, stream_id: StreamIdInPath) -> StreamView:
    """Reconnect the source now, also where the stream has failed or waits for its next try."""
    return _tagged(response, await ports.streams.restart(stream_id))


def _spec(body: dict[str, Any]) -> StreamSpec:
    return validated(StreamSpec, body)


async def _create_named(streams: Streams, body: dict[str, Any]) -> StreamView:
    for size in range(2, 2 + _TRIES):
        try:
            return await streams.create(_spec({**body, "id": f"stream-{secrets.token_hex(size)}"}))
        except StreamExists:
            continue
    raise StreamExists("No free id was found: send one.")


def _require_same_id(body: dict[str, Any], stream_id: str) -> None:
    if body.get("id", stream_id) != stream_id:
        raise field_refused("id", "must be the id in the path, or be left out")


def _tagged(response: Response, view: StreamView) -> StreamView:
    response.headers["ETag"] = etag(view.status.generation)
    return view


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise field_refused("label", "must be key=value")
    return key, value


def _cursor(stream_id: str) -> str:
    return base64.urlsafe_b64encode(stream_id.encode()).decode().rstrip("=")


def _id_in(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        raise field_refused("cursor", "must be a next_cursor that an answer gave") from None

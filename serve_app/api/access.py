"""Routes about who may call: keys, sessions of browsers, the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from starlette.requests import Request

from serve_app.api.body import read_object, validated
from serve_app.api.dependencies import UsePorts, UsePrincipal
from serve_app.api.openapi import KEY_EXAMPLE, LOGIN_EXAMPLE, json_body, problems
from serve_app.api.problems import DOORS_OPEN, Refused
from serve_app.api.schemas import AuditPage, KeyList, Login, Me
from serve_app.auth.doors import Doors
from serve_app.auth.records import KeySpec, NewKey
from serve_app.auth.session import COOKIE, CSRF_COOKIE

router = APIRouter(prefix="/v1", tags=["access"])


@router.get("/keys", summary="List keys", operation_id="listKeys", responses=problems(409, 503))
async def list_keys(request: Request) -> KeyList:
    """All keys, without their secrets."""
    return KeyList(items=tuple(await _doors(request).keys.list()))


@router.post(
    "/keys",
    status_code=201,
    summary="Make a key",
    operation_id="createKey",
    responses=problems(400, 409, 413, 415, 422, 503),
    openapi_extra=json_body("KeySpec", KEY_EXAMPLE),
)
async def create_key(ports: UsePorts, who: UsePrincipal, request: Request, response: Response) -> NewKey:
    """Make a key. Its secret is in this answer and is never shown again; what is kept of it is a hash."""
    keys = _doors(request).keys
    made = await keys.add(validated(KeySpec, await read_object(request)), who.id)
    await ports.audit.add(who, "key.create", made.id)
    response.headers["Cache-Control"] = "no-store"
    return made


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    summary="Remove a key",
    operation_id="deleteKey",
    responses=problems(404, 409, 422, 503),
)
async def delete_key(
    ports: UsePorts,
    who: UsePrincipal,
    request: Request,
    key_id: Annotated[str, Path(pattern=r"^[a-z0-9]{1,32}$", description="As `GET /v1/keys` names it.")],
) -> None:
    """Remove a key; it opens nothing any more, in other replicas of the API from 5 s later on."""
    await _doors(request).keys.remove(key_id)
    await ports.audit.add(who, "key.delete", key_id)


@router.get("/me", summary="Who calls", operation_id="whoAmI")
async def who_am_i(who: UsePrincipal, response: Response) -> Me:
    """What the caller is called and may do."""
    response.headers["Cache-Control"] = "no-store"
    return Me(name=who.name, role=who.role, labels=dict(who.labels))


@router.get("/audit", summary="Audit log", operation_id="listAudit", responses=problems(422, 503))
async def list_audit(
    ports: UsePorts,
    limit: Annotated[int, Query(ge=1, le=1000, description="Changes in one answer at most.")] = 100,
    cursor: Annotated[int | None, Query(ge=1, le=2**62, description="`next_cursor` of the part before.")] = None,
) -> AuditPage:
    """Who changed what and when, newest first. The oldest changes are forgotten, see `audit_limit`."""
    found = await ports.audit.newest(limit + 1, cursor)
    page = found[:limit]
    return AuditPage(items=tuple(page), next_cursor=page[-1].number if len(found) > limit else None)


@router.post(
    "/login",
    status_code=204,
    summary="Log in",
    operation_id="login",
    responses=problems(400, 401, 409, 413, 415, 422, 429, 503),
    openapi_extra=json_body("Login", LOGIN_EXAMPLE),
)
async def login(request: Request, response: Response) -> None:
    """Begin a browser's session: two cookies, of which one holds what to send as `X-CSRF-Token` with each change."""
    begun = await _doors(request).login(validated(Login, await read_object(request)).key.strip())
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    for name, value, hidden in ((COOKIE, begun.cookie, True), (CSRF_COOKIE, begun.csrf, False)):
        response.set_cookie(
            name, value, max_age=begun.seconds, httponly=hidden, secure=secure, samesite="strict", path=_path(request)
        )
    response.headers["Cache-Control"] = "no-store"


@router.post("/logout", status_code=204, summary="Log out", operation_id="logout", responses=problems(503))
async def logout(who: UsePrincipal, request: Request, response: Response) -> None:
    """End a browser's session for good, in other replicas of the API from 5 s later on; its cookies are taken back.

    Where that can't be stored, the session goes on.
    """
    doors: Doors | None = request.app.state.doors
    if doors is not None:
        await doors.logout(who)
    for name in (COOKIE, CSRF_COOKIE):
        response.delete_cookie(name, samesite="strict", path=_path(request))


def _doors(request: Request) -> Doors:
    doors: Doors | None = request.app.state.doors
    if doors is None:
        raise Refused(DOORS_OPEN, "Nobody is asked for a key here: set `auth: keys` in the API's args.")
    return doors


def _path(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/"

"""ASGI middleware that asks everybody who they are: the one place through which all requests go."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import RaysightError
from serve_app.api.pages import login_page
from serve_app.api.problems import problem_response, refusal_of
from serve_app.auth.doors import Credentials, Doors
from serve_app.auth.errors import Unauthorized
from serve_app.auth.roles import ANYONE, Principal
from serve_app.auth.routes import PAGES, READING, needed
from serve_app.auth.session import COOKIE, CSRF_HEADER


class Doorkeeper:
    """Lets a request in, with ``scope["state"]["principal"]`` set, or answers 401, 403 or 429 itself.

    Args:
        doors: None where nobody is asked.
    """

    def __init__(self, app: ASGIApp, doors: Doors | None) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none, and none could slip in unasked
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            try:
                who = await self._admitted(scope)
            except RaysightError as error:
                await _refusal(scope, error)(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = who
        await self._app(scope, receive, send)

    async def _admitted(self, scope: Scope) -> Principal:
        role = needed(scope["method"], _path(scope))
        if self._doors is None or role is None:
            return ANYONE
        return await self._doors.admit(credentials(scope), role)


def credentials(scope: Scope) -> Credentials:
    """What a request carries."""
    headers = Headers(scope=scope)
    return Credentials(
        authorization=headers.get("authorization"),
        cookie=HTTPConnection(scope).cookies.get(COOKIE),
        csrf=headers.get(CSRF_HEADER),
        changes=scope["method"] not in READING,
    )


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _refusal(scope: Scope, error: RaysightError) -> Response:
    page = (scope["method"], _path(scope)) in PAGES and "text/html" in Headers(scope=scope).get("accept", "")
    if page and isinstance(error, Unauthorized):
        return login_page()
    return problem_response(scope, refusal_of(error))

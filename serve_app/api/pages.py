"""The web page and the API's reference, served from the package: nothing comes from another address."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_NAMED = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/login": ("login.html", "text/html"),
    "/web/app.css": ("app.css", "text/css"),
    "/web/login.js": ("login.js", "text/javascript"),
}
"""Pages, and what the login page is made of."""

_TYPES = {".css": "text/css", ".js": "text/javascript"}


class _Page:
    """One file, asked for again at each visit but sent only when it changed."""

    def __init__(self, name: str, media_type: str) -> None:
        self._content = files("serve_app.web").joinpath(name).read_bytes()
        self._media_type = media_type
        self._headers = {
            "ETag": f'"{hashlib.sha256(self._content).hexdigest()[:16]}"',
            "Cache-Control": "no-cache",
        }

    async def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._headers["ETag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, media_type=self._media_type, headers=self._headers)


def login_page() -> Response:
    """The login page in place of another, which the browser loads again once it is logged in."""
    content = files("serve_app.web").joinpath("login.html").read_bytes()
    headers = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
    return Response(content, 401, headers, media_type="text/html")


def pages_router() -> APIRouter:
    """Routes of the files that ship."""
    router = APIRouter()
    for path, (name, media_type) in _NAMED.items():
        router.add_api_route(path, _Page(name, media_type).__call__, include_in_schema=False)
    parts = {
        file.name: _Page(file.name, _TYPES[suffix])
        for file in files("serve_app.web").iterdir()
        if (suffix := PurePath(file.name).suffix) in _TYPES
    }

    async def part(request: Request, name: str) -> Response:
        if name not in parts:
            raise HTTPException(404)
        return await parts[name](request)

    router.add_api_route("/web/{name}", part, include_in_schema=False)
    return router

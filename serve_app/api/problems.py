"""Errors as RFC 9457 problems: one table from exceptions to status and stable code.

Below ``/v2`` they have the form of the Open Inference Protocol instead, whatever raised them.

No problem ever repeats what a client sent: a URL in it may hold credentials. Field paths and messages go through
`redact`, pydantic's ``input`` and ``ctx`` are left out, and ``instance`` is the path without its query.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import (
    DetectorUnavailable,
    ForbiddenAddress,
    ForbiddenPackage,
    InvalidSpec,
    ModelNotFound,
    NoCapacity,
    Overloaded,
    PackageRefused,
    PlaybackMissing,
    QuotaExceeded,
    RaysightError,
    SpecConflict,
    StoreAway,
    StoreDown,
    StreamError,
    StreamErrorCode,
    StreamExists,
    StreamNotFound,
    SupervisorUnavailable,
    SwapInProgress,
    TooManyViewers,
    said,
)
from deployments.streams.urls import redact
from serve_app.auth.errors import Forbidden, KeyNotFound, Unauthorized

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_LONGEST = 300
_RETRY_AFTER = {"Retry-After": "2"}


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    model_config = ConfigDict(frozen=True)

    field: str = Field(description="Dotted path into the body, or the name of a parameter.")
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="urn:raysight:problem: and the code.")
    title: str
    status: int
    code: str = Field(description="Stable; for programs.")
    detail: str = Field(description="What happened and what to do, for people.")
    instance: str = Field(description="The path of the request, without its query.")
    errors: tuple[FieldProblem, ...] | None = Field(default=None, description="With 422: what is wrong, by field.")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem."""

    status: int
    code: str
    title: str


INVALID_REQUEST = Kind(422, "invalid_request", "A field can't be used")
INTERNAL = Kind(500, "internal", "Internal error")
MALFORMED_JSON = Kind(400, "malformed_json", "The body is not JSON")
BAD_HEADER = Kind(400, "bad_header", "A header can't be used")
FOREIGN_ORIGIN = Kind(403, "foreign_origin", "Another site asked for this")
FORBIDDEN_ADDRESS = Kind(403, "forbidden_address", "The address is not allowed")
NOT_ACCEPTABLE = Kind(406, "not_acceptable", "Nothing that the client accepts")
PRECONDITION_FAILED = Kind(412, "precondition_failed", "The stream changed meanwhile")
BODY_TOO_LARGE = Kind(413, "body_too_large", "The body is too large")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported_media_type", "The body's type is not supported")
WRONG_HOST = Kind(421, "wrong_host", "Not a name of this server")
DOORS_OPEN = Kind(409, "doors_open", "Nobody is asked for a key")
CLIP_NOT_FOUND = Kind(404, "clip_not_found", "No such clip")
RANGE_REFUSED = Kind(416, "range_not_satisfiable", "Not a range of the file")
NOT_RUNNING = Kind(503, "stream_not_running", "The stream does not run now")
NO_PICTURE = Kind(503, "no_picture", "There is no picture yet")
NOT_COPIED = Kind(422, "codec_unsupported", "WebRTC can't carry the video as it is")
TOO_MANY_VIEWERS = Kind(503, "too_many_viewers", "Too many viewers")

RAISED: Mapping[type[RaysightError], Kind] = {
    InvalidSpec: INVALID_REQUEST,
    StreamNotFound: Kind(404, "stream_not_found", "No such stream"),
    StreamExists: Kind(409, "stream_exists", "The id is taken"),
    SpecConflict: PRECONDITION_FAILED,
    ForbiddenAddress: FORBIDDEN_ADDRESS,
    ModelNotFound: Kind(404, "model_not_found", "No such model"),
    SwapInProgress: Kind(409, "swap_in_progress", "The model is being swapped"),
    ForbiddenPackage: Kind(403, "forbidden_package", "The package is not allowed"),
    PackageRefused: Kind(422, "package_refused", "The package can't be used"),
    QuotaExceeded: Kind(429, "quota_exceeded", "More than the key allows"),
    NoCapacity: Kind(409, "no_capacity", "No room for the stream"),
    TooManyViewers: TOO_MANY_VIEWERS,
    PlaybackMissing: Kind(501, "playback_missing", "WebRTC can't be played here"),
    Overloaded: Kind(503, "overloaded", "Too much at once"),
    DetectorUnavailable: Kind(503, "detector_unavailable", "The detector is not there"),
    StoreAway: Kind(503, "store_unavailable", "Nothing can be changed now"),
    StoreDown: Kind(503, "store_unavailable", "Nothing can be changed now"),
    SupervisorUnavailable: Kind(503, "supervisor_unavailable", "Streams can't be changed or listed now"),
}
"""Status and code of each error that the ports raise; `StreamError` has its own, see `source_kind`."""

_OF_CALLERS: Mapping[type[RaysightError], Kind] = {
    Unauthorized: Kind(401, "unauthorized", "Nobody known"),
    Forbidden: Kind(403, "forbidden", "Not allowed"),
    KeyNotFound: Kind(404, "key_not_found", "No such key"),
}
"""The same of `serve_app.auth`."""

_BY_STATUS: Mapping[int, Kind] = {
    404: Kind(404, "route_not_found", "No such path"),
    405: Kind(405, "method_not_allowed", "The path has no such method"),
}
_SAID: Mapping[int, str] = {
    404: "There is nothing at this path; /docs lists what there is.",
    405: "The path exists but not with this method; the Allow header names those it has.",
}
_WORDS: Mapping[str, str] = {
    "extra_forbidden": "unknown field; check its spelling or leave it out",
    "missing": "required",
}


class Refused(Exception):
    """A request that the API itself turns down."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers


def source_kind(error: StreamError) -> Kind:
    """422 where the request has to change, 502 where trying again can help, 403 where policy forbids it."""
    if error.code is StreamErrorCode.FORBIDDEN_ADDRESS:
        return FORBIDDEN_ADDRESS
    return Kind(502 if error.retryable else 422, error.code.value, "The source can't be opened")


def refusal_of(error: RaysightError) -> Refused:
    """What a client is told of an error; raises it where nobody foresaw it."""
    if isinstance(error, StreamError):
        return Refused(source_kind(error), str(error))
    kind = next((kind for raised, kind in {**RAISED, **_OF_CALLERS}.items() if isinstance(error, raised)), None)
    if kind is None:
        raise error
    fields = (
        [FieldProblem(field=_shown(error.field), message=_shown(error.message))]
        if isinstance(error, InvalidSpec)
        else []
    )
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, QuotaExceeded):
        headers["Retry-After"] = str(error.retry_after_s)
    return Refused(kind, str(error) or kind.title, fields, headers)


def field_refused(field: str, message: str) -> Refused:
    """A 422 about one field."""
    return Refused(INVALID_REQUEST, f"{field}: {message}", [FieldProblem(field=field, message=message)])


def fields_refused(errors: Sequence[Any], skip: int = 0) -> Refused:
    """A 422 from pydantic's errors; ``skip`` leading parts of each place are left out."""
    fields = tuple(_field_problem(error, skip) for error in errors)
    first = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return Refused(INVALID_REQUEST, f"{first.field}: {first.message}{more}", fields)


def validation_refused(error: ValidationError) -> Refused:
    """A 422 from a model's validation, without what was sent."""
    return fields_refused(error.errors(include_url=False, include_context=False, include_input=False))


def _field_problem(error: Mapping[str, Any], skip: int) -> FieldProblem:
    place = ".".join(str(part) for part in error["loc"][skip:]) or "body"
    message = _WORDS.get(error["type"]) or said(error)
    return FieldProblem(field=_shown(place), message=_shown(message))


def _shown(text: str) -> str:
    clean = redact(text)
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + "…"


def problem_response(scope: Scope, refused: Refused) -> Response:
    """The response that tells a client of a problem."""
    kind = refused.kind
    headers = dict(refused.headers or {}) | (_RETRY_AFTER if kind.status == 503 else {})
    if _is_inference(scope):
        return JSONResponse({"error": _shown(refused.detail)}, kind.status, headers=headers)
    problem = Problem(
        type=f"urn:raysight:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        code=kind.code,
        detail=_shown(refused.detail),
        instance=quote(_shown(scope.get("root_path", "") + scope["path"].removeprefix(scope.get("root_path", "")))),
        errors=refused.errors or None,
    )
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True), kind.status, headers={"Content-Type": MEDIA_TYPE, **headers}
    )


def _is_inference(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == "/v2" or path.startswith("/v2/")


def add_handlers(app: FastAPI) -> None:
    """Make a problem of whatever a route raises."""
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(RaysightError, _on_raysight_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameter)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem_response(request.scope, error)


async def _on_raysight_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RaysightError)
    return problem_response(request.scope, refusal_of(error))


async def _on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(request.scope, fields_refused(error.errors(), skip=1))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    kind = _BY_STATUS.get(status, Kind(status, f"http_{status}", "The request was refused"))
    return problem_response(request.scope, Refused(kind, _SAID.get(status, kind.title), headers=error.headers))


class UnexpectedErrors:
    """ASGI middleware: an error that nobody foresaw is logged once, without secrets, and told as a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noticing(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noticing)
        except Exception as error:  # noqa: BLE001 (the last resort: nothing above handles it without a stack trace)
            text = redact("".join(traceback.format_exception(error)))
            logger.error("unexpected error in %s %s\n%s", scope["method"], _shown(scope["path"]), text)
            if not started:
                detail = "Something broke inside the server; its log says what. Trying again may help."
                await problem_response(scope, Refused(INTERNAL, detail))(scope, receive, send)

"""Reading what a client sent: bounded while it arrives, JSON checked against a model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import Request

from serve_app.api.problems import (
    BODY_TOO_LARGE,
    MALFORMED_JSON,
    NOT_ACCEPTABLE,
    UNSUPPORTED_MEDIA_TYPE,
    Refused,
    field_refused,
    validation_refused,
)

JSON_LIMIT = 256 * 1024
_JSON_TYPES = ("application/json", "application/merge-patch+json")

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be longer than ``limit`` bytes."""
    too_large = Refused(BODY_TOO_LARGE, f"Send at most {limit} bytes.", headers={"Connection": "close"})
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > limit):
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def require_type(request: Request, allowed: Collection[str]) -> None:
    """Refuse a body of another media type."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent not in allowed:
        raise Refused(UNSUPPORTED_MEDIA_TYPE, f"Set Content-Type to one of: {', '.join(allowed)}.")


def require_accept(request: Request, offered: str) -> None:
    """Refuse a client that says it can't read what the route answers with."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    family = offered.partition("/")[0] + "/*"
    if not {"", "*/*", family, offered} & set(accepted):
        raise Refused(NOT_ACCEPTABLE, f"The answer is {offered}: accept that or */*.")


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    require_type(request, _JSON_TYPES)
    data = await read_body(request, JSON_LIMIT)
    try:
        parsed = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        # The parser's message names a place only; the text itself may hold credentials.
        raise Refused(MALFORMED_JSON, f"Send a JSON object: {error}.") from None
    if not isinstance(parsed, dict):
        raise field_refused("body", "must be a JSON object")
    return parsed


def validated(model: type[Model], data: dict[str, Any]) -> Model:
    """``data`` as a model, or a 422 that names the fields; strict, so that ``"false"`` is no boolean."""
    try:
        # Strict as JSON is: an array is a tuple there, which strict Python values would refuse.
        return model.model_validate_json(to_json(data), strict=True)
    except ValidationError as error:
        raise validation_refused(error) from None

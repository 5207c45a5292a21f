"""The description of the API that it serves itself at /openapi.json."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from deployments.streams.spec import SourceSpec, StreamSpec
from serve_app.api.problems import MEDIA_TYPE, Problem
from serve_app.api.schemas import Login, MediaRequest, ModelSwap
from serve_app.auth.records import KeySpec
from serve_app.auth.routes import needed
from serve_app.auth.session import COOKIE

_REF = "#/components/schemas/{model}"
_MEANINGS = {
    400: "The body is not JSON, or a header can't be read.",
    401: "Nobody known: send a key or token.",
    403: "The address or folder is not allowed, or the role or the labels of the key don't allow this.",
    404: "There is no stream, model or key of this name.",
    406: "The client does not accept what this answers with.",
    409: "The id is taken, there is no room, a swap is under way, or there are no keys since nobody is asked.",
    412: "The stream changed meanwhile: read it again.",
    413: "The body is too large.",
    415: "The body's media type is not supported.",
    416: "The range begins behind the end of the file.",
    422: "A field can't be used; `errors` names it.",
    429: "More than the key allows; try again after `Retry-After` seconds.",
    501: "What it takes is not installed.",
    502: "The source can't be opened now; trying again can help.",
    503: "What is asked for is not there now; try again after `Retry-After` seconds.",
}
_OF_INFERENCE = {
    400: "A tensor, its shape or a parameter can't be used.",
    404: "There is no such model or version.",
}
_SOURCE = {"url": "rtsp://user:pass@10.0.0.7/ch1"}
STREAM_EXAMPLE: dict[str, Any] = {"source": _SOURCE, "labels": {"site": "north"}}
PATCH_EXAMPLE: dict[str, Any] = {"paused": True, "detect": {"confidence": 0.5}}
MODEL_EXAMPLE: dict[str, Any] = {"package": "street-2"}
KEY_EXAMPLE: dict[str, Any] = {"name": "gatehouse", "role": "viewer", "labels": {"site": "north"}}
LOGIN_EXAMPLE: dict[str, Any] = {"key": "rsk_..."}
MEDIA_EXAMPLE: dict[str, Any] = {"action": "read", "path": "whep/gate-3", "token": "rsk_..."}
PROBE_EXAMPLE: dict[str, Any] = _SOURCE

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """The problem responses of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def json_body(model: str, example: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    """A route's body, which the route reads itself so that it is bounded and its errors hold no secrets."""
    content = {media_type: {"schema": {"$ref": _REF.format(model=model)}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def image_body() -> dict[str, Any]:
    """A body that is an image."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": {"image/jpeg": schema, "image/png": schema}}}


def inference_errors(*statuses: int) -> Responses:
    """The errors of a route of the inference protocol, in that protocol's form."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model="InferenceError")}}}
    return {
        status: {"description": _OF_INFERENCE.get(status) or _MEANINGS[status], "content": content}
        for status in statuses
    }


def inference_body() -> dict[str, Any]:
    """A body as the inference protocol has it."""
    content = {
        "application/json": {"schema": {"type": "object", "additionalProperties": True}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    return {"requestBody": {"required": True, "content": content}}


def answers(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A successful response that is not JSON."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description with the bodies that routes read themselves."""
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (SourceSpec, StreamSpec, Problem, ModelSwap, KeySpec, Login, MediaRequest):
        schema = model.model_json_schema(ref_template=_REF, mode="validation")
        name = f"{model.__name__}Input" if model in (SourceSpec, StreamSpec) else model.__name__
        schemas.update({key: value for key, value in schema.pop("$defs", {}).items() if key not in schemas})
        schemas[name] = schema
    schemas["InferenceError"] = {
        "title": "InferenceError",
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
        "description": "An error as the Open Inference Protocol has it.",
    }
    for path, calls in document["paths"].items():
        if path.startswith("/v2"):
            for call in calls.values():
                call["responses"].pop("422", None)  # FastAPI adds it to every route with a parameter
    _with_doors(document)
    return _with_bodies(document, schemas)


def _with_doors(document: dict[str, Any]) -> None:
    """What each call asks for of its caller, and how it turns others away, where the doors are closed."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key, `rsk_...`, or a JWT."},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": COOKIE,
            "description": "Of a browser that has logged in; changes send `X-CSRF-Token` as well.",
        },
    }
    for path, calls in document["paths"].items():
        errors = inference_errors if path.startswith("/v2") else problems
        for method, call in calls.items():
            role = needed(method.upper(), path)
            if role is None:
                call["security"] = []
                continue
            call["security"] = [{"bearer": []}, {"session": []}]
            call["description"] = f"{call['description']}\n\nRole: {role}."
            for status, response in errors(401, 403, 429, 503).items():
                call["responses"].setdefault(str(status), response)


def _with_bodies(document: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    spec = schemas.pop("StreamSpecInput")
    schemas["StreamBody"] = {
        **spec,
        "title": "StreamBody",
        "required": ["source"],
        "description": "One stream as its user wants it; the id may be left out.",
    }
    schemas["StreamPatch"] = {
        "title": "StreamPatch",
        "type": "object",
        "additionalProperties": True,
        "description": "A JSON merge patch (RFC 7396) of StreamBody: null takes a field back to its default.",
    }
    schemas["ProbeBody"] = {**schemas.pop("SourceSpecInput"), "title": "ProbeBody"}
    for schema in schemas.values():
        schema.get("properties", {}).get("credentials", {}).update({"writeOnly": True})
    return document

"""Which role each route asks for, in one place. What is not here asks for an admin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from serve_app.auth.roles import Role

OPEN = frozenset(
    {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("POST", "/v1/login"),
        ("POST", "/v1/media/authorize"),  # carries the key of somebody else in its body
        # What the login page is made of.
        ("GET", "/login"),
        ("GET", "/web/app.css"),
        ("GET", "/web/login.js"),
    }
)
"""Asked for by anybody; they tell nothing of the streams."""

PAGES = frozenset({("GET", "/"), ("GET", "/docs")})
"""Answered with the login page, and 401 all the same, where nobody is logged in."""

ROLES: Mapping[tuple[str, str], Role] = {
    ("GET", "/"): Role.VIEWER,
    ("GET", "/docs"): Role.VIEWER,
    ("GET", "/openapi.json"): Role.VIEWER,
    ("GET", "/web/{name}"): Role.VIEWER,
    ("GET", "/v1/streams"): Role.VIEWER,
    ("POST", "/v1/streams"): Role.OPERATOR,
    ("GET", "/v1/streams/{id}"): Role.VIEWER,
    ("PUT", "/v1/streams/{id}"): Role.OPERATOR,
    ("PATCH", "/v1/streams/{id}"): Role.OPERATOR,
    ("DELETE", "/v1/streams/{id}"): Role.OPERATOR,
    ("POST", "/v1/streams/{id}/restart"): Role.OPERATOR,
    ("GET", "/v1/streams/{id}/history"): Role.VIEWER,
    ("GET", "/v1/streams/{id}/detections"): Role.VIEWER,
    ("GET", "/v1/streams/{id}/snapshot.jpg"): Role.VIEWER,
    ("GET", "/v1/streams/{id}/live.mjpeg"): Role.VIEWER,
    ("GET", "/v1/streams/{id}/clips"): Role.VIEWER,
    ("GET", "/v1/streams/{id}/clips/{name}.mp4"): Role.VIEWER,
    ("GET", "/v1/streams/{id}/clips/{name}.jpg"): Role.VIEWER,
    ("POST", "/v1/streams/{id}/whep"): Role.VIEWER,
    ("DELETE", "/v1/streams/{id}/whep/{session}"): Role.VIEWER,
    ("POST", "/v1/detect"): Role.OPERATOR,
    ("POST", "/v1/probe"): Role.OPERATOR,
    ("GET", "/v1/export"): Role.VIEWER,
    ("POST", "/v1/drain"): Role.ADMIN,
    ("GET", "/v1/models"): Role.VIEWER,
    ("GET", "/v1/models/{name}"): Role.VIEWER,
    ("PUT", "/v1/models/{name}"): Role.ADMIN,
    ("GET", "/v1/capacity"): Role.VIEWER,
    ("GET", "/v1/me"): Role.VIEWER,
    ("GET", "/v1/keys"): Role.ADMIN,
    ("POST", "/v1/keys"): Role.ADMIN,
    ("DELETE", "/v1/keys/{key_id}"): Role.ADMIN,
    ("GET", "/v1/audit"): Role.ADMIN,
    ("POST", "/v1/logout"): Role.VIEWER,
    ("GET", "/v2"): Role.VIEWER,
    ("GET", "/v2/health/live"): Role.VIEWER,
    ("GET", "/v2/health/ready"): Role.VIEWER,
    ("GET", "/v2/models/{name}"): Role.VIEWER,
    ("GET", "/v2/models/{name}/ready"): Role.VIEWER,
    ("GET", "/v2/models/{name}/config"): Role.VIEWER,
    ("POST", "/v2/models/{name}/infer"): Role.OPERATOR,
    ("GET", "/v2/models/{name}/versions/{version}"): Role.VIEWER,
    ("GET", "/v2/models/{name}/versions/{version}/ready"): Role.VIEWER,
    ("GET", "/v2/models/{name}/versions/{version}/config"): Role.VIEWER,
    ("POST", "/v2/models/{name}/versions/{version}/infer"): Role.OPERATOR,
}

RPC_ROLES: Mapping[str, Role] = {
    "ServerLive": Role.VIEWER,
    "ServerReady": Role.VIEWER,
    "ModelReady": Role.VIEWER,
    "ServerMetadata": Role.VIEWER,
    "ModelMetadata": Role.VIEWER,
    "ModelConfig": Role.VIEWER,
    "ModelInfer": Role.OPERATOR,
}
"""The same for methods of the inference protocol over gRPC."""

READING = frozenset({"GET", "HEAD", "OPTIONS"})


def needed(method: str, path: str) -> Role | None:
    """The role that a request asks for; None where anybody may make it.

    ``path`` is a path as it is requested, without the part that a proxy adds, or the template of a route.
    """
    method = "GET" if method == "HEAD" else method
    if (method, path) in OPEN:
        return None
    if (role := ROLES.get((method, path))) is not None:
        return role
    return next(
        (ROLES[method, template] for template in _TEMPLATES.get(method, ()) if _fits(template, path)), Role.ADMIN
    )


_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    method: tuple(template for other, template in ROLES if other == method and "{" in template) for method, _ in ROLES
}


def _fits(template: str, path: str) -> bool:
    return _pattern(template).fullmatch(path) is not None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", template)
    return re.compile("[^/]+".join(re.escape(part) for part in parts))

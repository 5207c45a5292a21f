"""How routes reach the ports, and the parameters that several of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Path, Query
from starlette.requests import Request

from deployments.streams.spec import ModelName, StreamId
from serve_app.api.ports import Detector, LiveViews, Media, Streams
from serve_app.api.v2.inference import Inference
from serve_app.auth.audit import AuditLog
from serve_app.auth.roles import Principal


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that routes work with, as whoever calls may use it."""

    streams: Streams
    detector: Detector
    media: Media
    viewers: LiveViews
    inference: Inference
    audit: AuditLog


def _principal(request: Request) -> Principal:
    who: Principal = request.state.principal
    return who


def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.own.of(_principal(request))
    return ports


UsePrincipal = Annotated[Principal, Depends(_principal)]
UsePorts = Annotated[Ports, Depends(_ports)]
StreamIdInPath = Annotated[
    StreamId,
    Path(alias="id", description="Small letters, digits and inner hyphens, 63 at most.", examples=["gate-3"]),
]
IfMatch = Annotated[
    str | None, Header(description="The ETag that the change is based on, or * for any; 412 where it is another.")
]
ModelInPath = Annotated[
    ModelName, Path(alias="name", description="As `GET /v1/models` names it.", examples=["default"])
]
ModelInQuery = Annotated[ModelName, Query(alias="model", description="One of `GET /v1/models`.")]

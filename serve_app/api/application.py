"""`create_api`: the REST API and the web page over the ports of `serve_app.api.ports`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from deployments.streams.webrtc.settings import PlaybackSettings
from serve_app.api import access, clips, detect, fleet, inference_v2, live, media_server, models, streams, system, whep
from serve_app.api.dependencies import Ports
from serve_app.api.doors import Doorkeeper
from serve_app.api.openapi import describe
from serve_app.api.own import OwnPorts
from serve_app.api.pages import pages_router
from serve_app.api.ports import Detector, Media, Streams
from serve_app.api.problems import UnexpectedErrors, add_handlers
from serve_app.api.security import LOOPBACK_HOSTS, Guard
from serve_app.api.v2.inference import Inference
from serve_app.api.viewers import Viewers
from serve_app.auth.audit import AuditLog
from serve_app.auth.doors import Doors

VIEWER_LIMIT = 500

_DESCRIPTION = (
    "Live video in, objects found in every frame, detections and annotated video out. Every error is a problem "
    "(RFC 9457) with a stable `code`, or below `/v2` as that protocol has it. "
    "Credentials in a URL are taken in and never shown again."
)
_TAGS = [
    {"name": "streams", "description": "What is watched."},
    {"name": "live", "description": "What streams see."},
    {"name": "detection", "description": "Looking at something once."},
    {"name": "inference protocol", "description": "The Open Inference Protocol, version 2."},
    {"name": "access", "description": "Keys, sessions of browsers, the audit log."},
    {"name": "system", "description": "Models, capacity, health."},
]


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = describe(self)
        return self.openapi_schema


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.viewers.close()


def create_api(
    streams_port: Streams,
    detector: Detector,
    media: Media,
    *,
    version: str,
    allowed_hosts: Collection[str] | None = LOOPBACK_HOSTS,
    viewer_limit: int = VIEWER_LIMIT,
    doors: Doors | None = None,
    audit: AuditLog | None = None,
    playback: PlaybackSettings | None = None,
) -> FastAPI:
    """The application that any ASGI server can run.

    Args:
        version: of raysight, as the description of the API states it.
        allowed_hosts: names by which the server may be called, without a port; None for any, which is safe only
            where a proxy in front checks them or the server is meant to be reached from everywhere.
        viewer_limit: clients that follow detections or video at once, in this process.
        doors: who is let in; None lets anybody do everything, which is safe only on the loopback.
        audit: where changes are written down; None: in the process's log.
        playback: how players of WebRTC are answered.
    """
    app = _Api(
        title="raysight",
        version=version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    inference = Inference(detector, media, version)
    viewers = Viewers(streams_port, viewer_limit)
    written = audit or AuditLog(None, 1, time.time)
    app.state.ports = Ports(streams_port, detector, media, viewers, inference, written)
    app.state.viewers = viewers
    app.state.doors = doors
    app.state.playback = playback or PlaybackSettings()
    app.state.own = OwnPorts(app.state.ports, viewers, doors)
    parts = (streams, fleet, live, whep, clips, detect, inference_v2, models, access, media_server, system)
    for router in (*(part.router for part in parts), pages_router()):
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Doorkeeper, doors=doors)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(Guard, allowed_hosts=allowed_hosts)
    return app

"""A raysight server as a fleet's file sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_app.client.errors import ServerRefused
from serve_app.client.server import Server


class FleetOf:
    """The streams of a server. Every method raises ServerAway, ServerRefused."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def export(self) -> dict[str, dict[str, Any]]:
        """All specs by id."""
        specs: dict[str, dict[str, Any]] = self._server.ask("GET", "/v1/export")["streams"]
        return specs

    def put(self, stream_id: str, body: Mapping[str, Any]) -> bool:
        """Create or replace a stream; whether that changed anything."""
        before = self._generation(stream_id)
        after = self._server.ask("PUT", f"/v1/streams/{stream_id}", body)
        return bool(before != after["status"]["generation"])

    def delete(self, stream_id: str) -> None:
        """Delete a stream; one that isn't there is fine."""
        try:
            self._server.ask("DELETE", f"/v1/streams/{stream_id}")
        except ServerRefused as error:
            if error.status != 404:
                raise

    def _generation(self, stream_id: str) -> int | None:
        try:
            found = self._server.ask("GET", f"/v1/streams/{stream_id}")
        except ServerRefused as error:
            if error.status != 404:
                raise
            return None
        return int(found["status"]["generation"])

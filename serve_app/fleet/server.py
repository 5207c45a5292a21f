"""A raysight server, as the command line sees it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from serve_app.fleet.errors import FleetError

TIMEOUT_S = 30.0


class Server:
    """Calls of the API.

    Args:
        key: sent as ``Authorization: Bearer``.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def export(self) -> dict[str, dict[str, Any]]:
        """All specs by id. Raises FleetError."""
        found = self._ask("GET", "/v1/export")
        specs: dict[str, dict[str, Any]] = found["streams"]
        return specs

    def put(self, stream_id: str, body: Mapping[str, Any]) -> bool:
        """Create or replace a stream; whether that changed anything. Raises FleetError."""
        before = self._generation(stream_id)
        after = self._ask("PUT", f"/v1/streams/{stream_id}", body)
        return bool(before != after["status"]["generation"])

    def delete(self, stream_id: str) -> None:
        """Delete a stream; one that isn't there is fine. Raises FleetError."""
        self._ask("DELETE", f"/v1/streams/{stream_id}", missing_ok=True)

    def _generation(self, stream_id: str) -> int | None:
        found = self._ask("GET", f"/v1/streams/{stream_id}", missing_ok=True)
        return int(found["status"]["generation"]) if found is not None else None

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing_ok: bool = False) -> Any:
        headers = {**self._headers, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        try:
            request = urllib.request.Request(self._url + path, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            if missing_ok and error.code == 404:
                return None
            raise FleetError(_problem(error)) from None
        except (OSError, ValueError) as error:
            raise FleetError(f"{self._url} does not answer: {error}") from None
        return json.loads(text) if text else None


def _problem(error: urllib.error.HTTPError) -> str:
    try:
        found = json.loads(error.read())
        return f"{found['code']}: {found['detail']}"
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code} {error.reason}"

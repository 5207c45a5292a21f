"""Calls of the API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlencode

from deployments.errors import RaysightError
from serve_app.client.errors import ServerAway, ServerRefused

TIMEOUT_S = 30.0
LARGEST_PART = 1000
"""Streams that the API gives in one answer at most."""
_OF_KEYS = ("unauthorized", "forbidden")
"""Problems that another key solves."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key elsewhere."""

    def redirect_request(self, *args: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


class Server:
    """One server, and the key that it is called with.

    Args:
        key: sent as ``Authorization: Bearer``. One that can't be raises RaysightError.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        if key is not None and not (key.isascii() and key.isprintable()):
            raise RaysightError("the key has signs that none of the server's keys has: give it as it was printed")
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """What an answer says as JSON; None where it is empty. Raises ServerAway, ServerRefused."""
        data = json.dumps(body).encode() if body is not None else None
        return self._read(method, path, data, "application/json", timeout_s)

    def send(self, path: str, data: bytes, content_type: str, *, timeout_s: float = TIMEOUT_S) -> Any:
        """POST something that is no JSON. Raises ServerAway, ServerRefused."""
        return self._read("POST", path, data, content_type, timeout_s)

    def open(self, path: str, headers: Mapping[str, str], timeout_s: float) -> HTTPResponse:
        """An answer without an end; ``timeout_s`` is the longest silence. Raises ServerAway, ServerRefused."""
        try:
            request = urllib.request.Request(self.url + path, headers={**self._headers, **headers})
            response: HTTPResponse = _OPENER.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            raise refusal(error) from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._away(error) from None
        return response

    def streams(self, state: str | None = None, labels: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """All streams by id, however many parts they take. Raises ServerAway, ServerRefused."""
        query = [("limit", str(LARGEST_PART)), *(("label", label) for label in labels)]
        query += [("state", state)] if state is not None else []
        cursor: list[tuple[str, str]] = []
        while True:
            page = self.ask("GET", f"/v1/streams?{urlencode([*query, *cursor])}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = [("cursor", page["next_cursor"])]

    def _read(self, method: str, path: str, data: bytes | None, content_type: str, timeout_s: float) -> Any:
        headers = {**self._headers, "Content-Type": content_type, "Accept": "application/json"}
        try:
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            with _OPENER.open(request, timeout=timeout_s) as response:
                text = response.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise refusal(error) from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> ServerAway:
        if isinstance(error, json.JSONDecodeError):
            return ServerAway(f"what answers at {self.url} is no raysight: name the server by --server")
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return ServerAway(
            f"{self.url} does not answer: {reason}. Name the server by --server or RAYSIGHT_SERVER, such as "
            "http://127.0.0.1:8000, or start one here with `raysight up`"
        )


def refusal(error: urllib.error.HTTPError) -> ServerRefused:
    """What a problem says, with every field that it names."""
    try:
        found = json.loads(error.read())
        code, detail = str(found["code"]), str(found["detail"])
        further = [f"{field['field']}: {field['message']}" for field in found.get("errors", ())[1:]]
    except (ValueError, LookupError, TypeError, AttributeError, OSError, HTTPException):
        return ServerRefused(error.code, "", f"HTTP {error.code} {error.reason}")
    hint = " Give such a key by RAYSIGHT_KEY or --key." if code in _OF_KEYS else ""
    return ServerRefused(error.code, code, "; ".join([f"{code}: {detail}{hint}", *further]))

"""One POST for each event, over one connection that is kept."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from base64 import b64encode
from contextlib import suppress
from urllib.parse import quote, urlsplit

from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.sender import TIMEOUT_S, Dial, SinkDown, SinkFailed, SinkRefused
from deployments.streams.sinks.signing import SIGNATURE, TIMESTAMP, signature
from deployments.streams.sinks.spec import SinkSpec
from deployments.streams.urls import join_credentials

MAX_ANSWER_BYTES = 65_536
"""Of an answer's body, which nobody reads: one that is longer ends the connection."""

AGAIN = frozenset({408, 425, 429})
"""Of the 4xx those that say to try again: timeout, too early, too many requests (RFC 9110, 8470, 6585)."""


_IN_URLS = "/%:@!$&'()*+,;=~"
"""What stands in a path as it is; in a query ``?`` as well."""

_GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
"""What a connection gives that the server ended."""


def _broken(error: Exception) -> SinkFailed:
    return SinkFailed(f"the connection broke: {type(error).__name__}")


class WebhookSender:
    """`Sender` to an HTTP server. A redirect is not followed: it would lead past what was checked."""

    def __init__(self, spec: SinkSpec, dial: Dial) -> None:
        self._dial = dial
        self._secret = spec.credentials.secret if spec.credentials is not None else None
        whole = urlsplit(join_credentials(spec.url, spec.credentials))
        self._url = spec.url
        self._tls = ssl.create_default_context() if whole.scheme == "https" else None
        self._port = whole.port or (443 if self._tls is not None else 80)
        self._host = whole.hostname or ""
        query = f"?{quote(whole.query, safe=_IN_URLS + '?')}" if whole.query else ""
        self._target = quote(whole.path or "/", safe=_IN_URLS) + query
        self._headers = {"Content-Type": "application/json", "User-Agent": "raysight"}
        names = spec.credentials
        if names is not None and names.username is not None:
            password = names.password.get_secret_value() if names.password is not None else ""
            pair = f"{names.username.get_secret_value()}:{password}".encode()
            self._headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def send(self, letter: Letter) -> None:
        kept = self._connection
        try:
            self._post(kept or self._connected(), letter)
        except _GONE as error:
            self.close()
            if kept is None:
                raise _broken(error) from None
            try:  # a server may end an idle connection at any time: that says nothing about it
                self._post(self._connected(), letter)
            except _GONE as again:
                self.close()
                raise _broken(again) from None

    def _post(self, connection: http.client.HTTPConnection, letter: Letter) -> None:
        headers = {**self._headers, "Idempotency-Key": letter.key, **self._signed(letter)}
        try:
            connection.request("POST", self._target, letter.body, headers)
            answer = connection.getresponse()
            rest = answer.read(MAX_ANSWER_BYTES + 1)
        except TimeoutError:
            self.close()
            raise SinkFailed(f"the server gave no answer for {TIMEOUT_S:g} s") from None
        except _GONE:
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _broken(error) from None
        if answer.will_close or len(rest) > MAX_ANSWER_BYTES:
            self.close()
        if answer.status in AGAIN or answer.status >= 500:
            raise SinkFailed(f"the server answered {answer.status}")
        if not 200 <= answer.status < 300:
            raise SinkRefused(f"the server answered {answer.status}")

    def interrupt(self) -> None:
        found = self._socket
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        try:
            plain = self._dial(self._url, self._port)
            plain.settimeout(TIMEOUT_S)
            made = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self._host)
        except ssl.SSLError as error:
            raise SinkDown(f"TLS failed: {error.reason or 'no handshake'}") from None
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.auto_open = 0  # it would connect by itself, past the policy
        connection.sock = made
        if self._tls is not None:
            connection.default_port = 443  # which the Host header leaves out
        self._connection, self._socket = connection, made
        return connection

    def _signed(self, letter: Letter) -> dict[str, str]:
        if self._secret is None:
            return {}
        now = str(int(time.time()))
        return {TIMESTAMP: now, SIGNATURE: signature(self._secret.get_secret_value(), now, letter.body)}

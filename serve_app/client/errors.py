"""What goes wrong between the command line and a server."""

from __future__ import annotations

from deployments.errors import RaysightError, StreamErrorCode

_OF_SOURCES = frozenset(StreamErrorCode)


class ServerAway(RaysightError):
    """Nobody answers at the address, or it is no raysight."""


class ServerRefused(RaysightError):
    """The server answered with a problem.

    Attributes:
        status: of HTTP.
        code: of the problem; empty where the answer was none.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def blames_the_request(self) -> bool:
        """Whether the request has to change; otherwise what was asked about isn't well, or the server isn't."""
        return self.status < 500 and self.code not in _OF_SOURCES

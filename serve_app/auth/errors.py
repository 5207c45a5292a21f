"""Why a caller is turned away; `serve_app.api.problems` gives each its status."""

from __future__ import annotations

from deployments.errors import RaysightError


class Unauthorized(RaysightError):
    """Nobody known: no key or token, or one that does not hold."""


class Forbidden(RaysightError):
    """Somebody known, who may not do this."""


class QuotaExceeded(RaysightError):
    """More than the key allows; ``retry_after_s`` is when it may be tried again, in whole seconds from 1."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class KeyNotFound(RaysightError):
    """No key of that id."""

"""Why a caller is turned away; `serve_app.api.problems` gives each its status."""

from __future__ import annotations

from deployments.errors import RaysightError


class Unauthorized(RaysightError):
    """Nobody known: no key or token, or one that does not hold."""


class Forbidden(RaysightError):
    """Somebody known, who may not do this."""


class KeyNotFound(RaysightError):
    """No key of that id."""

"""What goes wrong around a fleet's file."""

from __future__ import annotations

from deployments.errors import RaysightError


class FleetError(RaysightError):
    """The file can't be used; the message says what to do."""

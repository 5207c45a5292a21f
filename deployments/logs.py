"""Logging of a process that runs one stream: every line names it, and none shows a credential."""

from __future__ import annotations

import logging

from deployments.streams.urls import redact

REPEAT_PERIOD_S = 10.0
"""A line of code logs once in this time: often enough to see that something goes on failing."""


class RedactingFormatter(logging.Formatter):
    """Puts the stream's id before the message and takes secrets out of the whole line, traceback included."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"%(levelname)s stream={stream_id} %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class RepeatFilter(logging.Filter):
    """Lets each line of code log once in ``period_s``: what fails may fail again with every frame."""

    def __init__(self, period_s: float) -> None:
        super().__init__()
        self._period_s = period_s
        self._logged: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        if record.created < self._logged.get(place, float("-inf")) + self._period_s:
            return False
        self._logged[place] = record.created
        return True


def configure_logging(stream_id: str) -> None:
    """Log what raysight's own modules say to standard error, which Ray collects."""
    handler = logging.StreamHandler()
    handler.addFilter(RepeatFilter(REPEAT_PERIOD_S))
    handler.setFormatter(RedactingFormatter(stream_id))
    logger = logging.getLogger("deployments")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)

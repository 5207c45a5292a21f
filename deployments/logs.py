"""Logging of raysight's processes: every line of a stream's names it, and none shows a credential.

With ``RAY_LOGGING_CONFIG_ENCODING=JSON`` in Ray's environment, a setting of Ray's own, each line is a JSON object, by
Ray's names where it has some, with ``stream``, ``node``, ``generation`` and ``error_code`` where they are known.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from deployments.streams.urls import redact

REPEAT_PERIOD_S = 10.0
"""A line of code logs once in this time: often enough to see that something goes on failing."""

ENCODING = "RAY_LOGGING_CONFIG_ENCODING"

LOGGERS = ("deployments", "engines")

FIELDS = ("stream", "state", "error_code")
"""What a single line may add, by ``extra``."""

Context = dict[str, str | int]
"""What all lines of a process say besides their message; it may change."""


class RedactingFormatter(logging.Formatter):
    """Puts the stream's id before the message and takes secrets out of the whole line, traceback included."""

    def __init__(self, context: Mapping[str, str | int]) -> None:
        stream = f" stream={context['stream']}" if "stream" in context else ""
        super().__init__(f"%(levelname)s{stream} %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, without secrets; times are UTC."""

    def __init__(self, context: Mapping[str, str | int]) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "asctime": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "levelname": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
            **self._context,
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            said["exc_text"] = self.formatException(record.exc_info)
        # Before they are quoted: a URL ends where a line does.
        return json.dumps({name: redact(each) if isinstance(each, str) else each for name, each in said.items()})


class RepeatFilter(logging.Filter):
    """Lets each line of code log once in ``period_s``: what fails may fail again with every frame.

    A line that tells of states does so for each of them.
    """

    def __init__(self, period_s: float) -> None:
        super().__init__()
        self._period_s = period_s
        self._logged: dict[tuple[str, int, str | None], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno, getattr(record, "state", None))
        if record.created < self._logged.get(place, float("-inf")) + self._period_s:
            return False
        self._logged[place] = record.created
        return True


def configure_logging(context: Context, environ: Mapping[str, str] = os.environ) -> None:
    """Log what raysight's own modules say to standard error, which Ray collects; a later ``context`` is followed."""
    handler = logging.StreamHandler()
    handler.addFilter(RepeatFilter(REPEAT_PERIOD_S))
    formatter = JsonFormatter if environ.get(ENCODING) == "JSON" else RedactingFormatter
    handler.setFormatter(formatter(context))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)

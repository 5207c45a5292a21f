"""What TensorRT has to say, in raysight's log, and its last errors for the messages that users get."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

_log = logging.getLogger(__name__)

_KEPT = 4


class Complaints:
    """The last errors of one TensorRT logger. ``logger`` is the ``trt.ILogger`` to hand to TensorRT."""

    def __init__(self, trt: Any) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT)
        self.logger = _logger(trt, self._errors)

    def summary(self) -> str:
        """One line."""
        return "; ".join(dict.fromkeys(self._errors)) or "TensorRT gives no reason"


def _logger(trt: Any, errors: deque[str]) -> Any:
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level, line = levels[severity], " ".join(message.split())
            if level == logging.ERROR:
                errors.append(line)
                # Whoever catches the exception reports it.
                level = logging.INFO
            _log.log(level, "%s", line)

    return Logger()

"""Log lines name their stream, show no secret and don't repeat themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from deployments.logs import REPEAT_PERIOD_S, RedactingFormatter, RepeatFilter, configure_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    logger = logging.getLogger("deployments")
    before = (logger.handlers, logger.propagate, logger.level)
    yield
    logger.handlers, logger.propagate, _ = before
    logger.setLevel(before[2])


def test_a_line_names_its_stream_and_hides_secrets_also_in_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging({"stream": "gate"}, {})
    try:
        raise OSError("rtsp://user:s3cret@camera/1 is gone")
    except OSError:
        logging.getLogger("deployments.streams").exception("no luck with %s", "rtsp://cam/1?token=s3cret")
    text = capsys.readouterr().err
    assert text.startswith("ERROR stream=gate deployments.streams: no luck with rtsp://cam/1?token=***\n")
    assert "OSError: rtsp://***@camera/1 is gone" in text
    assert "s3cret" not in text


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging({"stream": "gate"}, {})
    configure_logging({"stream": "gate"}, {})
    logging.getLogger("deployments.streams").warning("hello")
    assert capsys.readouterr().err.count("hello") == 1


def record(line: int, at: float) -> logging.LogRecord:
    made = logging.LogRecord("deployments", logging.ERROR, "pipeline.py", line, "again", (), None)
    made.created = at
    return made


def test_what_fails_with_every_frame_is_logged_now_and_then() -> None:
    once = RepeatFilter(REPEAT_PERIOD_S)
    logged = [number / 25 for number in range(25 * 60) if once.filter(record(7, number / 25))]
    assert logged == [REPEAT_PERIOD_S * times for times in range(6)]


def test_one_failure_hides_no_other() -> None:
    once = RepeatFilter(REPEAT_PERIOD_S)
    assert once.filter(record(7, 0.0))
    assert once.filter(record(8, 0.1))
    assert not once.filter(record(7, 0.2))
    assert "stream=gate" in RedactingFormatter({"stream": "gate"}).format(record(7, 0.0))


def test_json_lines_name_stream_node_generation_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    context: dict[str, str | int] = {"stream": "gate", "node": "n1", "generation": 3}
    configure_logging(context, {"RAY_LOGGING_CONFIG_ENCODING": "JSON"})
    log = logging.getLogger("deployments.streams")
    log.info("online", extra={"state": "online"})
    context["generation"] = 4
    try:
        raise OSError("rtsp://user:s3cret@camera/1\nis gone")
    except OSError:
        log.exception("no luck with %s", "rtsp://cam/1?token=s3cret", extra={"error_code": "timeout"})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["stream"], first["node"], first["generation"], first["state"]) == ("gate", "n1", 3, "online")
    assert (first["levelname"], first["message"], first["name"]) == ("INFO", "online", "deployments.streams")
    assert datetime.fromisoformat(first["asctime"]).tzinfo is not None
    assert "error_code" not in first
    assert (second["generation"], second["error_code"]) == (4, "timeout")
    assert second["message"] == "no luck with rtsp://cam/1?token=***"
    assert "OSError: rtsp://***@camera/1\nis gone" in second["exc_text"]


def test_lines_are_text_unless_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging({"node": "n1"}, {"RAY_LOGGING_CONFIG_ENCODING": "TEXT"})
    logging.getLogger("deployments.supervisor").warning("hello")
    assert capsys.readouterr().err == "WARNING deployments.supervisor: hello\n"


def test_each_state_is_logged_though_one_line_of_code_tells_of_all() -> None:
    once = RepeatFilter(REPEAT_PERIOD_S)
    lines = [record(7, at / 10) for at in range(4)]
    for line, state in zip(lines, ("connecting", "online", "connecting", "reconnecting"), strict=True):
        line.state = state
    assert [bool(once.filter(line)) for line in lines] == [True, True, False, True]

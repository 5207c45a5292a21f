"""What is told of a stream without an actor that reports: the nearest obstacle, and only one."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.supervisor.reason import HEAD_AWAY, why_unseen

NOTHING: dict[str, Any] = {
    "draining": False,
    "starting": False,
    "lack": None,
    "store": None,
    "head_away": False,
    "began": False,
}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({}, "about to be started"),
        ({"began": True}, "ended and is started again"),
        ({"head_away": True, "began": True}, HEAD_AWAY),
        ({"store": "Redis is down", "head_away": True}, "can't be started: Redis is down"),
        ({"starting": True, "store": "Redis is down"}, "its actor starts"),
        ({"starting": True, "lack": "no node has 4 CPUs free"}, "waits for room: no node has 4 CPUs free"),
        ({"draining": True, "starting": True}, "the system is being stopped"),
    ],
)
def test_the_reason(case: dict[str, Any], words: str) -> None:
    assert why_unseen(**{**NOTHING, **case}).endswith(words)

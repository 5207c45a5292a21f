"""An engine of some thirty frames a second, and who may use it: told beforehand, waited for, and let in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system.test_main_job import online
from tests.support.cluster import Raysight, run_raysight, wait_until

ENGINE = {"width": 64, "height": 48, "fixed_ms": 0, "per_frame_ms": 30, "max_batch_size": 1}


@pytest.fixture(scope="module")
def raysight(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Raysight]:
    detector = {"engine": "fake", "fake": ENGINE}
    args = {"streams": {"admission": "pending"}}
    yield from run_raysight(tmp_path_factory.mktemp("admission"), street_clip, detector, api_args=args)


def pattern(fps: int, priority: int = 0) -> dict[str, Any]:
    return {"source": {"url": f"testsrc://?fps={fps}&size=160x120"}, "priority": priority}


def capacity(raysight: Raysight, **asked: Any) -> dict[str, Any]:
    answer: dict[str, Any] = raysight.api.get("/v1/capacity", params=asked).raise_for_status().json()
    return answer


@pytest.mark.long
@pytest.mark.timeout(180)
def test_streams_wait_for_an_engine_and_are_let_in_by_priority(raysight: Raysight) -> None:
    wait_until(lambda: raysight.api.get("/v1/capacity").json().get("engine_fps") is not None)
    before = capacity(raysight, fps=20, add=2)
    assert (before["free"], before["limit"], before["add_fits"], before["admission"]) == (1, "engine", False, "pending")

    raysight.put("first", pattern(20))
    raysight.wait("first", online)
    raysight.put("older", pattern(20))
    raysight.put("urgent", pattern(20, priority=5))
    for name in ("older", "urgent"):
        waits = raysight.wait(name, lambda status: status["last_error"] is not None)
        assert (waits["state"], waits["epoch"], waits["last_error"]["code"]) == ("pending", 0, "no_capacity")
    reason = raysight.wait("urgent", lambda status: "spoken for" in (status["reason"] or ""))["reason"]
    assert re.search(r"manages 3\d frames a second and (19|20|21) are spoken for", reason), reason
    wait_until(lambda: capacity(raysight, fps=20)["waiting"] == 2)

    raysight.api.delete("/v1/streams/first").raise_for_status()
    raysight.wait("urgent", online)
    assert raysight.status("older")["epoch"] == 0
    raysight.api.patch("/v1/streams/older", json={"detect": {"max_fps": 5}}).raise_for_status()
    raysight.wait("older", online)
    wait_until(lambda: any(node["cpus_used"] for node in capacity(raysight)["nodes"]))

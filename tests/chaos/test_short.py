"""The chaos suite in the small: three faults of it in every run of the tests, and every fault where there is time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.journal import Journal
from tests.chaos.run import run

QUICK = ("stream actor killed", "supervisor killed", "RTSP server restarted")
WARM_UP_S = 5.0

PATIENCE = 4.0
"""The suite's limits are for a machine that does nothing else, where a process of Ray starts in 2 to 3 s. Machines that
run tests are often shared, and starts take 7 s there; what the limits are on a quiet one, docs/reliability.md tells."""


def judged(tmp_path: Path, seed: int, minutes: float, only: tuple[str, ...], warm_up_s: float) -> None:
    """Run the suite; fails with what broke, and the log beside it."""
    journal = Journal()
    run(seed, minutes, journal, "sqlite", only, warm_up_s, PATIENCE)
    journal.write(tmp_path / "chaos.json", seed)
    result = json.loads((tmp_path / "chaos.json").read_text())
    assert result["faults"], "no fault was done"
    assert journal.passed, (tmp_path / "chaos.log").read_text()


@pytest.mark.timeout(240)
def test_three_faults(tmp_path: Path) -> None:
    judged(tmp_path, 1, 0.75, QUICK, WARM_UP_S)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_fault_of_one_node(tmp_path: Path) -> None:
    judged(tmp_path, 2, 3.5, (), 15.0)

"""Damaged media costs its own stream at most: nothing crashes, hangs or leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KNOWN = {"played", "stopped", "ended", "invalid_data", "codec_unsupported", "timeout", "stalled", "not_found"}


def run(seed: int, count: int, folder: Path, limit_s: float) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.media", str(seed), str(count), str(folder)],
        capture_output=True,
        timeout=limit_s,
        check=False,
    )
    tried = child.stderr.decode(errors="replace").split()
    assert child.returncode == 0, f"seed {seed}: ended with {child.returncode} after {tried[-30:]}"
    report = json.loads(child.stdout)
    print(report)
    assert sum(report["outcomes"].values()) == count
    assert set(report["outcomes"]) <= KNOWN
    assert len(report["outcomes"]) > 2, "the files are all alike"
    assert report["longest_s"] < 12  # the two limits of opening and reading, and some
    assert report["after"]["threads"] == 0
    assert report["after"]["fds"] <= report["before"]["fds"]
    assert report["after"]["rss_mb"] - report["before"]["rss_mb"] < 60 + 0.1 * count
    assert report["peak_mb"] < 1500


@pytest.mark.timeout(400)
def test_five_hundred_damaged_files(tmp_path: Path) -> None:
    run(2026, 500, tmp_path, 380)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_three_thousand_more(tmp_path: Path) -> None:
    run(5, 3000, tmp_path, 580)

"""Cores by affinity and by quota, in folders made like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.cores import available_cores

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000\n", ALL),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("199000 100000\n", 1),
        ("20000000 100000\n", ALL),
        ("nonsense", ALL),
        (None, ALL),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, cpu_max: str | None, cores: int) -> None:
    if cpu_max is not None:
        (tmp_path / "cpu.max").write_text(cpu_max)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [(-1, ALL), (100_000, 1), (150_000, 1), (20_000_000, ALL)])
def test_a_quota_of_version_1(tmp_path: Path, quota: int, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == cores


def test_two_cores_of_a_quota_count_where_there_are_two(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert available_cores(tmp_path) == min(2, ALL)

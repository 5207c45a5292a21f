"""Which allocator processes are told to use."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.allocator import allocator

LOOK = "import ctypes; ctypes.CDLL(None).mallctl"
"""Fails in a process that does not use jemalloc."""

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("jemalloc") is None, reason="Debian's libjemalloc2 is not installed"
)


def test_a_process_uses_it() -> None:
    told = allocator({})
    ended = subprocess.run([sys.executable, "-c", LOOK], env={**os.environ, **told}, stderr=-1, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""  # a setting that it does not know it would name


def test_what_people_chose_stays(tmp_path: Path) -> None:
    told = allocator({"LD_PRELOAD": f"{tmp_path}/else.so", "MALLOC_CONF": "narenas:8"})
    assert told["LD_PRELOAD"].startswith(f"{tmp_path}/else.so ")
    assert told["MALLOC_CONF"] == "narenas:8"
    assert allocator(told) == {}

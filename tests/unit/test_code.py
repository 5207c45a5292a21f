"""A process knows which sources it loaded, whatever becomes of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from deployments import code

SAY = """
import {first}
with open("deployments/added.py", "a") as file:
    file.write("more")
from deployments.code import CODE_VERSION
print(CODE_VERSION)
"""


def said(folder: Path, first: str) -> str:
    """What a new process says after the sources have changed under it; ``first`` is what it has loaded before."""
    run = subprocess.run(
        [sys.executable, "-c", SAY.format(first=first)], cwd=folder, capture_output=True, check=True, text=True
    )
    return run.stdout.strip()


def test_a_version_is_that_of_the_sources_that_were_loaded(tmp_path: Path) -> None:
    (tmp_path / "deployments").mkdir()
    for name in ("__init__.py", "code.py"):
        shutil.copy(Path(code.__file__).with_name(name), tmp_path / "deployments")
    changed_once = said(tmp_path, "deployments")
    early = said(tmp_path, "deployments.code")  # has loaded that, before it changes again
    assert early == changed_once
    assert said(tmp_path, "deployments.code") != early
    assert len(early.partition("+")[2]) == 12

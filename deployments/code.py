"""Which code a process runs: two of them agree where they loaded the same sources."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("deployments", "engines")


def _version() -> str:
    digest = sha256()
    for path in sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    try:
        release = version("raysight")
    except PackageNotFoundError:
        release = "0"
    return f"{release}+{digest.hexdigest()[:12]}"


CODE_VERSION = _version()
"""The package's version and a hash of its sources, as they were when this process began to load them: they may change
while it runs, and Ray may give a process that has loaded the old ones something new to do."""

"""The model packages that ship."""

from __future__ import annotations

from pathlib import Path

DEFAULT_PACKAGE: Path = Path(__file__).parent / "nanodet-g-416"

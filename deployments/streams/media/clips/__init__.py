"""Footage that ships: see NOTICE for where it comes from."""

from pathlib import Path

CLIPS = Path(__file__).parent
"""Folder of the shipped clips."""

"""The clips of one stream on disk: beside each its thumbnail and what is known of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from deployments.streams.policy import CLIPS, UrlPolicy
from deployments.streams.recording.spec import NAME, Clip

PART_BYTES = 1 << 20
"""What is read at once of a clip."""

KINDS = ("mp4", "jpg")
_NAME = re.compile(NAME)
_WRITING = "writing"


@dataclass(frozen=True, slots=True)
class ClipPart:
    """Some bytes of a file, and how many there are in all."""

    data: bytes
    total: int


class Shelf:
    """Safe to use from several threads: a file appears when it is complete."""

    def __init__(self, policy: UrlPolicy, stream_id: str) -> None:
        self._folder = policy.output_root / CLIPS / stream_id

    def new(self, name: str) -> Path:
        """Where to write a clip until `keep`; what an earlier life left there goes. Raises OSError."""
        folder = self._folder / _WRITING
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink(missing_ok=True)
        return folder / f"{name}.mp4"

    def keep(self, written: Path, clip: Clip, thumbnail: bytes | None) -> None:
        """Take a clip that is complete. Raises OSError."""
        files = [written, written.with_suffix(".json")]
        files[-1].write_text(clip.model_dump_json())
        if thumbnail is not None:
            files.insert(0, written.with_suffix(".jpg"))
            files[0].write_bytes(thumbnail)
        for file in files:  # all are written by then: a full disk leaves none of them behind
            file.replace(self._folder / f"{clip.name}{file.suffix}")

    def clips(self) -> tuple[Clip, ...]:
        """All there are, the newest first."""
        found = []
        for path in self._folder.glob("*.json"):
            try:
                found.append(Clip.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError):
                continue  # it was removed meanwhile, or is none of ours
        return tuple(sorted(found, key=lambda clip: (clip.started_at, clip.name), reverse=True))

    def part(self, name: str, kind: str, offset: int) -> ClipPart | None:
        """Up to `PART_BYTES` of a clip (``mp4``) or its thumbnail (``jpg``); None where there is none."""
        if not _NAME.fullmatch(name) or kind not in KINDS:
            return None
        try:
            with (self._folder / f"{name}.{kind}").open("rb") as file:
                total = os.fstat(file.fileno()).st_size
                file.seek(min(max(0, offset), total))
                return ClipPart(file.read(PART_BYTES), total)
        except OSError:
            return None

    def tidy(self, now: float, keep_s: float, keep_bytes: int) -> None:
        """Remove what is too old, or too much."""
        for name in expired(self.clips(), now, keep_s, keep_bytes):
            for kind in ("json", *KINDS):
                (self._folder / f"{name}.{kind}").unlink(missing_ok=True)


def expired(newest_first: Iterable[Clip], now: float, keep_s: float, keep_bytes: int) -> list[str]:
    """The names of clips that have to go: those that ended too long ago, and the oldest where all are too large."""
    gone, held = [], 0
    for clip in newest_first:
        held += clip.size_bytes
        if held > keep_bytes or clip.started_at + clip.seconds < now - keep_s:
            gone.append(clip.name)
    return gone

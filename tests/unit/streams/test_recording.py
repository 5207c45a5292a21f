"""The ring of packets, what of the clips goes, and the ranges of a file; the rest is in integration/test_recording."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.packets import EncodedPacket
from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.ring import Ring, ticks
from deployments.streams.recording.shelf import Shelf, expired
from deployments.streams.recording.spec import Clip
from serve_app.api.clips import wanted

TIME_BASE = Fraction(1, 90_000)
FRAME = 3600


def packet(number: int, *, key: bool, size: int = 10, audio: bool = False, template: object = "a") -> EncodedPacket:
    at = number * FRAME
    return EncodedPacket(bytes(size), at, at, FRAME, TIME_BASE, key, "sound" if audio else template, audio)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 400)), max_size=120), st.floats(0, 2))
def test_a_ring_reaches_back_as_far_as_it_should_and_no_further_than_it_must(
    kinds: list[tuple[bool, bool, int]], seconds: float
) -> None:
    ring, limit = Ring(max_bytes=5000), 5000
    added: list[EncodedPacket] = []
    for number, (key, audio, size) in enumerate(kinds):
        added.append(packet(number, key=key or audio, size=size, audio=audio))
        ring.add(added[-1], seconds)
        held = ring.since(-1)
        assert ring.size <= limit
        if not held:
            continue
        assert held[0].key_frame
        assert not held[0].audio
        assert held == added[len(added) - len(held) :]  # without a gap, up to the newest
        later_keys = [one.pts for one in held[1:] if one.key_frame and not one.audio]
        assert not later_keys or later_keys[0] > added[-1].pts - ticks(seconds, TIME_BASE)
        at = held[len(held) // 2].pts
        part = ring.since(at)
        assert part[0].pts <= at
        assert not [one for one in part[1:] if one.key_frame and not one.audio and one.pts <= at]


def test_other_video_begins_a_ring_anew() -> None:
    ring = Ring()
    for number in range(5):
        ring.add(packet(number, key=number == 0), 10)
    ring.add(packet(5, key=True, template="b"), 10)
    assert [one.pts for one in ring.since(0)] == [5 * FRAME]
    assert (ring.video, ring.audio) == ("b", None)
    ring.clear()
    assert (ring.since(0), ring.size) == ([], 0)


def clip(number: int, size: int = 10) -> Clip:
    return Clip(
        name=f"20260101T000000-{number}",
        started_at=float(number),
        seconds=1.0,
        size_bytes=size,
        label="person",
        key=f"gate/{number}",
    )


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(0, 1000), st.integers(0, 40), st.integers(0, 40))
def test_what_stays_is_the_newest_within_age_and_size(sizes: list[int], most: int, now: int, keep_s: int) -> None:
    clips = [clip(number, size) for number, size in enumerate(sizes)][::-1]
    gone = expired(clips, float(now), float(keep_s), most)
    stay = [one for one in clips if one.name not in gone]
    assert sum(one.size_bytes for one in stay) <= most
    assert all(one.started_at + one.seconds >= now - keep_s for one in stay)
    young = [one for one in clips if one.started_at + one.seconds >= now - keep_s]
    assert stay == young[: len(stay)]


def test_a_shelf_shows_what_is_complete_and_nothing_else(tmp_path: Path) -> None:
    shelf = Shelf(UrlPolicy(media_root=tmp_path, output_root=tmp_path), "gate")
    assert shelf.clips() == ()
    for number in (1, 2):
        written = shelf.new(clip(number).name)
        written.write_bytes(bytes([number]) * 10)
        assert len(shelf.clips()) == number - 1
        shelf.keep(written, clip(number), b"jpeg" if number == 1 else None)
    (tmp_path / "clips" / "gate" / "junk.json").write_text("{")
    assert [one.key for one in shelf.clips()] == ["gate/2", "gate/1"]
    part = shelf.part(clip(1).name, "mp4", 4)
    assert part is not None
    assert (part.data, part.total) == (b"\x01" * 6, 10)
    assert shelf.part(clip(2).name, "jpg", 0) is None
    assert shelf.part("../gate/20260101T000000-1", "mp4", 0) is None
    assert shelf.part(clip(1).name, "json", 0) is None
    shelf.tidy(2.0, 100.0, 15)
    assert [one.key for one in shelf.clips()] == ["gate/2"]
    assert shelf.part(clip(1).name, "jpg", 0) is None


@given(st.integers(0, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none())
def test_a_range_is_that_of_the_file(total: int, first: int | None, last: int | None) -> None:
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    found = wanted(text, total)
    content = list(range(total))
    if first is None and last is None:
        assert found == (0, total)
    elif first is None:
        assert found == (None if not last or not total else (max(0, total - last), total))
    elif last is not None and last < first:
        assert found == (0, total)
    else:
        expected = content[first : None if last is None else last + 1]
        assert (content[slice(*found)] if found else []) == expected


def test_what_is_no_range_means_all() -> None:
    assert [wanted(text, 9) for text in (None, "", "bytes=", "items=0-1", "bytes=0-1,3-4")] == [(0, 9)] * 5


@pytest.mark.parametrize("kind", ["json", "jpg"])
def test_a_clip_that_can_not_be_kept_whole_is_not_kept_in_part(tmp_path: Path, kind: str) -> None:
    """What no record names would never be tidied."""
    shelf = Shelf(UrlPolicy(media_root=tmp_path, output_root=tmp_path), "gate")
    written = shelf.new(clip(1).name)
    written.write_bytes(b"video")
    written.with_suffix(f".{kind}").mkdir()  # in place of a disk that is full
    with pytest.raises(OSError, match="directory"):
        shelf.keep(written, clip(1), b"jpeg")
    assert [path.name for path in (tmp_path / "clips" / "gate").iterdir()] == ["writing"]

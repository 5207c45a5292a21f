"""Shared slots: sealed, of the size that was told, and gone with the last mapping."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments.link.slots import MappedSegment, NotShared, Segment

SIZE = 5000


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment(3, SIZE)
    yield made
    made.hide()


def mapped_from(segment: Segment) -> MappedSegment:
    return MappedSegment(segment.descriptor, segment.slots, segment.slot_bytes, max_slot_bytes=SIZE)


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:raysight-link")


def test_what_is_written_is_read(segment: Segment) -> None:
    mapped = mapped_from(segment)
    segment.hide()
    images = [np.full((50, 100), n, np.uint8) for n in range(3)]
    for slot, image in enumerate(images):
        segment.place(slot, image.shape)[:] = image
    for slot, image in enumerate(images):
        read = mapped.read(slot, (50, 100))
        assert read is not None
        np.testing.assert_array_equal(read, image)
        assert not read.flags.writeable


def test_there_is_no_picture_outside_the_slots(segment: Segment) -> None:
    mapped = mapped_from(segment)
    assert mapped.read(3, (1,)) is None
    assert mapped.read(2, (SIZE + 1,)) is None


def test_nothing_stays_mapped() -> None:
    before, descriptors = mappings(), len(os.listdir("/proc/self/fd"))
    segment = Segment(3, SIZE)
    mapped = mapped_from(segment)
    image = mapped.read(0, (10,))
    segment.hide()
    assert mappings() == before + 2
    del segment, mapped
    assert mappings() == before + 1  # the picture is still being read
    assert image is not None
    del image
    assert mappings() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_hidden_segment_can_not_be_handed_over(segment: Segment) -> None:
    segment.hide()
    with pytest.raises(ValueError, match="hidden"):
        mapped_from(segment)


@pytest.mark.parametrize(("slots", "slot_bytes"), [(64, SIZE), (3, SIZE * 2), (1, SIZE)])
def test_the_size_must_be_the_one_that_was_told(segment: Segment, slots: int, slot_bytes: int) -> None:
    with pytest.raises(NotShared):
        MappedSegment(segment.descriptor, slots, slot_bytes, max_slot_bytes=SIZE * 2)


def test_slots_larger_than_any_frame_are_refused(segment: Segment) -> None:
    with pytest.raises(NotShared, match="larger than any frame"):
        MappedSegment(segment.descriptor, 3, SIZE, max_slot_bytes=SIZE - 1)


def test_what_could_shrink_is_refused() -> None:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    with pytest.raises(NotShared, match="sealed"):
        MappedSegment(fd, 1, 10, max_slot_bytes=SIZE)
    os.close(fd)


def test_pipes_and_files_are_refused(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    os.ftruncate(file, 4096)
    for fd in (reader, writer, file):
        with pytest.raises(NotShared):
            MappedSegment(fd, 1, 10, max_slot_bytes=SIZE)
        os.close(fd)

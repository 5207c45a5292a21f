"""The server's state of its clients: grants are used once, windows and slots are kept, the silent are ended."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.errors import DetectorUnavailable
from deployments.link.attachments import (
    MAX_ATTACHED,
    SILENT_AFTER_S,
    WINDOW,
    Attachment,
    Attachments,
    ProtocolBreach,
    WrongPicture,
)
from deployments.link.grant import ATTACH_WITHIN_S
from deployments.link.messages import ByeReason, Frame, Layout
from deployments.link.slots import MappedSegment, Segment

SHAPES = {Layout.PACKED: (2, 4, 3), Layout.I420: (3, 4)}
PIXELS = memoryview(bytes(range(24)))


def frame(sequence: int, slot: int | None = None, layout: Layout = Layout.PACKED) -> Frame:
    return Frame(sequence, slot, layout, None, 0, 1.0)


@pytest.fixture
def attachments() -> Attachments:
    return Attachments()


@pytest.fixture
def inline(attachments: Attachments) -> Attachment:
    return attachments.attach(attachments.grant("s", b"key", 0), b"peer", 7, None, 0, 30)


@pytest.fixture
def shared(attachments: Attachments) -> Attachment:
    segment = Segment(WINDOW, 24)
    mapped = MappedSegment(segment.descriptor, WINDOW, 24, max_slot_bytes=24)
    segment.hide()
    return attachments.attach(attachments.grant("s", b"key", 0), b"peer", 7, mapped, 0, 30)


def test_a_grant_is_used_once(attachments: Attachments) -> None:
    lease = attachments.grant("s", b"key", 0)
    attachments.attach(lease, b"peer", 7, None, 1, 30)
    with pytest.raises(ProtocolBreach):
        attachments.attach(lease, b"other", 8, None, 1, 30)


def test_a_grant_grows_old(attachments: Attachments) -> None:
    lease = attachments.grant("s", b"key", 0)
    with pytest.raises(ProtocolBreach):
        attachments.attach(lease, b"peer", 7, None, ATTACH_WITHIN_S, 30)
    assert attachments.overdue(ATTACH_WITHIN_S) == {lease: ByeReason.EXPIRED}
    assert attachments.remove(lease) == (b"key", None)
    assert lease not in attachments


def test_one_connection_holds_one_attachment(attachments: Attachments, inline: Attachment) -> None:
    with pytest.raises(ProtocolBreach):
        attachments.attach(attachments.grant("s", b"key", 0), inline.peer, 7, None, 0, 30)


def test_there_is_a_largest_number(attachments: Attachments) -> None:
    for _ in range(MAX_ATTACHED):
        attachments.grant("s", b"key", 0)
    with pytest.raises(DetectorUnavailable):
        attachments.grant("s", b"key", 0)


def test_the_silent_and_the_expired_are_overdue(attachments: Attachments, inline: Attachment) -> None:
    assert attachments.overdue(SILENT_AFTER_S - 0.1) == {}
    assert attachments.overdue(SILENT_AFTER_S) == {inline.lease: ByeReason.SILENT}
    inline.heard_at = 30
    assert attachments.overdue(30) == {inline.lease: ByeReason.EXPIRED}
    inline.expires_at = 60
    assert attachments.overdue(30) == {}
    attachments.end(inline.lease)
    assert attachments.overdue(30) == {inline.lease: ByeReason.EXPIRED}
    assert attachments.remove(inline.lease) == (b"key", inline)
    assert attachments.at(7) is None


def test_inline_pictures_are_taken_by_their_size(inline: Attachment) -> None:
    here = inline.accept(frame(1), PIXELS, SHAPES, 5.0)
    np.testing.assert_array_equal(here.image, np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    assert (here.arrived_at, here.expires_at, here.stream) == (5.0, 6.0, inline.lease)
    assert inline.accept(frame(2, layout=Layout.I420), PIXELS[:12], SHAPES, 5.0).image.shape == (3, 4)


def test_of_an_i420_picture_only_some_rows_may_come(inline: Attachment) -> None:
    tall = {Layout.PACKED: (8, 4, 3), Layout.I420: (12, 4)}
    here = inline.accept(frame(1, layout=Layout.I420)._replace(rows=(2, 4)), PIXELS, tall, 0)
    assert (here.image.shape, here.rows) == ((6, 4), (2, 4))
    for rows in ((2, 8), (1, 4), (0, 3)):
        with pytest.raises(WrongPicture, match="rows"):
            inline.accept(frame(2, layout=Layout.I420)._replace(rows=rows), PIXELS, tall, 0)


def test_a_frame_is_settled_once(inline: Attachment) -> None:
    here = inline.accept(frame(1), PIXELS, SHAPES, 0)
    assert inline.settle(here)
    assert not inline.settle(here)
    again = inline.accept(frame(1), PIXELS, SHAPES, 0)
    assert not inline.settle(here)
    assert inline.settle(again)


@pytest.mark.parametrize(("layout", "size"), [(Layout.PACKED, 23), (Layout.I420, 24), (Layout.I420, 0)])
def test_a_wrong_picture_is_not_taken(inline: Attachment, layout: Layout, size: int) -> None:
    with pytest.raises(WrongPicture):
        inline.accept(frame(1, layout=layout), PIXELS[:size], SHAPES, 0)
    assert not inline.out


def test_a_layout_that_the_engine_does_not_have_is_not_taken(inline: Attachment) -> None:
    with pytest.raises(WrongPicture, match="I420"):
        inline.accept(frame(1, layout=Layout.I420), PIXELS[:12], {Layout.PACKED: (2, 4, 3)}, 0)


def test_no_more_than_the_window_is_out(inline: Attachment) -> None:
    for sequence in range(WINDOW):
        inline.accept(frame(sequence), PIXELS, SHAPES, 0)
    with pytest.raises(ProtocolBreach):
        inline.accept(frame(WINDOW), PIXELS, SHAPES, 0)


def test_a_slot_is_taken_until_its_frame_is_settled(shared: Attachment) -> None:
    here = shared.accept(frame(1, slot=2), None, SHAPES, 0)
    with pytest.raises(ProtocolBreach):
        shared.accept(frame(2, slot=2), None, SHAPES, 0)
    shared.settle(here)
    shared.accept(frame(2, slot=2), None, SHAPES, 0)


def test_a_slot_smaller_than_the_picture_holds_none(shared: Attachment) -> None:
    with pytest.raises(WrongPicture):
        shared.accept(frame(1, slot=0), None, {Layout.PACKED: (2, 5, 3)}, 0)


@pytest.mark.parametrize(
    ("slot", "pixels"), [(WINDOW, None), (None, None), (0, PIXELS)], ids=["no such slot", "nothing", "both"]
)
def test_a_frame_is_in_a_slot_or_inline(shared: Attachment, slot: int | None, pixels: memoryview | None) -> None:
    with pytest.raises(ProtocolBreach):
        shared.accept(frame(1, slot=slot), pixels, SHAPES, 0)


def test_who_shares_nothing_has_no_slots(inline: Attachment) -> None:
    with pytest.raises(ProtocolBreach):
        inline.accept(frame(1, slot=0), None, SHAPES, 0)

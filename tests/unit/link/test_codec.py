"""Messages as bytes: what is sent arrives, and nothing else gets through."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deployments.detector.scheduler import DropReason
from deployments.link.codec import decode, encode
from deployments.link.messages import (
    MAX_DETECTIONS,
    MAX_MESSAGE_BYTES,
    MAX_NAME_BYTES,
    MAX_SLOTS,
    MAX_TEXT_BYTES,
    Alive,
    Bye,
    ByeReason,
    Drain,
    DrainReason,
    Drop,
    Frame,
    Hello,
    Layout,
    Malformed,
    Message,
    Renew,
    Renewed,
    Reply,
    Welcome,
)
from engines.types import Detections, Thresholds

U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
SPAN = st.floats(0, 86_400)
THRESHOLDS = st.builds(Thresholds, st.floats(0, 1), st.floats(0, 1), st.integers(0, MAX_DETECTIONS))
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello, st.binary(min_size=16, max_size=16).map(bytes.hex), st.integers(0, MAX_SLOTS), st.integers(1, 1 << 31)
    ),
    st.builds(Welcome, st.booleans(), SPAN),
    st.builds(
        Frame,
        U64,
        st.none() | st.integers(0, MAX_SLOTS - 1),
        st.sampled_from(Layout),
        st.none() | THRESHOLDS,
        st.integers(-(1 << 15), (1 << 15) - 1),
        SPAN,
        st.none() | st.tuples(U16, st.integers(1, (1 << 16) - 1)),
    ),
    st.builds(Drop, U64, st.sampled_from(DropReason), st.text("aé", max_size=MAX_TEXT_BYTES // 2)),
    st.builds(Renewed, SPAN),
    st.builds(Drain, st.sampled_from(DrainReason), st.text("aé", max_size=MAX_NAME_BYTES // 2)),
    st.builds(Bye, st.sampled_from(ByeReason)),
    st.builds(Alive),
    st.builds(Renew),
)


@given(MESSAGES)
def test_what_is_sent_arrives(message: Message) -> None:
    data = encode(message)
    assert len(data) <= MAX_MESSAGE_BYTES
    assert decode(data) == message
    assert type(decode(data)) is type(message)


@given(st.integers(0, MAX_DETECTIONS), U64, SPAN, SPAN, U16, st.data())
def test_detections_arrive_as_they_were(
    count: int, sequence: int, wait_s: float, infer_s: float, batch: int, data: st.DataObject
) -> None:
    sent = Detections(
        data.draw(arrays.arrays(np.float32, (count, 4), fill=st.just(1.5))),
        data.draw(arrays.arrays(np.float32, count, fill=st.just(0.5))),
        data.draw(arrays.arrays(np.int32, count, fill=st.just(7))),
    )
    reply = decode(encode(Reply(sequence, wait_s, infer_s, batch, sent)))
    assert isinstance(reply, Reply)
    assert reply[:4] == (sequence, wait_s, infer_s, batch)
    np.testing.assert_array_equal(reply.detections.xyxy, sent.xyxy)
    np.testing.assert_array_equal(reply.detections.confidence, sent.confidence)
    np.testing.assert_array_equal(reply.detections.class_id, sent.class_id)


def test_more_detections_than_fit_are_not_sent() -> None:
    count = MAX_DETECTIONS + 1
    many = Detections(np.zeros((count, 4), np.float32), np.zeros(count, np.float32), np.zeros(count, np.int32))
    with pytest.raises(Malformed):
        encode(Reply(1, 0, 0, 1, many))


@given(st.binary(max_size=200) | st.builds(lambda kind, rest: bytes([1, kind]) + rest, st.integers(0, 9), st.binary()))
def test_junk_is_malformed_or_a_message(data: bytes) -> None:
    try:
        message = decode(data)
    except Malformed:
        return
    assert decode(encode(message)) is not None


@given(MESSAGES, st.data())
def test_a_changed_or_cut_message_is_malformed_or_a_message(message: Message, data: st.DataObject) -> None:
    whole = bytearray(encode(message))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    for junk in (bytes(whole), bytes(whole[: data.draw(st.integers(0, len(whole)))]), bytes(whole) + b"\0"):
        with contextlib.suppress(Malformed):
            decode(junk)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x02" + encode(Alive())[1:],
        b"\x01\xff",
        b"x" * (MAX_MESSAGE_BYTES + 1),
        encode(Drop(1, DropReason.STALE, "")) + b"x" * (MAX_TEXT_BYTES + 1),
        encode(Renewed(1.0))[:2] + struct.pack("<d", float("nan")),
        encode(Renewed(1.0))[:2] + struct.pack("<d", -1.0),
        encode(Alive()) + b"\0",
    ],
)
def test_what_breaks_a_rule_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


def test_a_long_detail_is_cut() -> None:
    cut = decode(encode(Drop(1, DropReason.INVALID, "é" * MAX_TEXT_BYTES)))
    assert isinstance(cut, Drop)
    assert len(cut.detail.encode()) <= MAX_TEXT_BYTES + 2

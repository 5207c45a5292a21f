"""Where the bytes of an RTSP connection are still RTSP, and where they are no longer."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deployments.streams.media.rtsp_forward import Answers, NoRtsp

SETUP = b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n\r\n"
KNOWN = st.tuples(st.sampled_from((2, 3)), st.binary(max_size=60))
UNKNOWN = st.tuples(st.integers(0, 255), st.binary(max_size=60).map(lambda data: b"\x80" + data))
FRAMES = st.lists(st.one_of(KNOWN, UNKNOWN), max_size=8)


def frame(channel: int, payload: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(payload).to_bytes(2, "big") + payload


def set_up() -> Answers:
    answers = Answers(str, lambda named: "")
    assert answers.rewritten(SETUP) == SETUP
    return answers


@given(FRAMES, st.lists(st.integers(1, 40), max_size=30))
def test_packets_pass_as_they_are_in_pieces_of_any_size(frames: list[tuple[int, bytes]], sizes: list[int]) -> None:
    sent = b"".join(frame(*one) for one in frames) + SETUP + frame(2, b"\x80more")
    answers, passed, at = set_up(), b"", 0
    for size in [*sizes, len(sent)]:
        passed += answers.rewritten(sent[at : at + size])
        at += size
    assert passed == sent


@given(FRAMES, st.binary(min_size=30, max_size=200))
def test_garbage_between_packets_ends_the_connection_at_its_first_bytes(
    frames: list[tuple[int, bytes]], garbage: bytes
) -> None:
    assume(garbage[0] not in b"$\r\n_" and not chr(garbage[0]).isupper())
    answers = set_up()
    answers.rewritten(b"".join(frame(*one) for one in frames))
    with pytest.raises(NoRtsp):
        answers.rewritten(garbage[:1])


@pytest.mark.parametrize(
    "garbage",
    [
        b"$\x09\x20\x00\x17",  # a packet by chance: of no channel that there is, and no RTP
        b"$\xff\xff\xff\x00",
        b"\r\n\x80",
        b"RTSQ/1.0 200 OK\n",
        b"RTSP\x00",
        b"GET",
        b"A" * 21,
    ],
)
def test_what_looks_like_rtsp_at_first_is_looked_at_more_closely(garbage: bytes) -> None:
    answers = set_up()
    if garbage == b"GET":  # may still become GET_PARAMETER
        assert answers.rewritten(garbage) == b""
        garbage = b" / HTTP/1.1\r\n\r\n"
    with pytest.raises(NoRtsp):
        answers.rewritten(garbage)


def test_where_no_channels_were_agreed_on_rtp_passes() -> None:
    """Some servers name none; FFmpeg then takes those that it asked for."""
    answers = Answers(str, lambda named: "")
    assert answers.rewritten(frame(0, b"\x80\x60")) == frame(0, b"\x80\x60")
    assert answers.rewritten(frame(0, b"")) == frame(0, b"")

"""What is made of a source's packets for outputs that get them as they are."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.items import VideoPacket
from deployments.streams.media.passthrough import CARRIES, MAX_SHIFT_S, Passthrough, parameter_sets
from deployments.streams.media.sink import target_of

TIME_BASE = Fraction(1, 90_000)
FRAME = 3600


def template(codec: str = "mjpeg", width: int = 64) -> Any:
    stream: Any = av.open("-", "w", format="null").add_stream(codec, 25)
    stream.width, stream.height, stream.pix_fmt = width, 48, "yuvj420p"
    return stream


A_CAMERA, THE_SAME, ANOTHER = template(), template(), template(width=128)


def read(number: int, dts: int, delay: int, key: bool, of: Any = A_CAMERA) -> VideoPacket:
    packet: Any = av.Packet(number.to_bytes(2, "big"))
    packet.is_keyframe = key
    return VideoPacket(packet, dts + delay, dts, TIME_BASE, of)


@given(
    st.lists(
        st.tuples(
            st.integers(-2 * FRAME, 4 * FRAME), st.integers(0, 3).map(lambda frames: frames * FRAME), st.booleans()
        ),
        max_size=40,
    )
)
def test_times_rise_and_what_can_not_be_decoded_is_left_out(steps: list[tuple[int, int, bool]]) -> None:
    given_packets, at = [], 0
    for number, (step, delay, key) in enumerate(steps):
        at += step
        given_packets.append(read(number, at, delay, key))
    found = list(Passthrough().packets(given_packets))
    assert all(after.dts > before.dts for before, after in pairwise(found))
    assert all(packet.pts >= packet.dts for packet in found)
    assert all(packet.key_frame for packet in found[:1])
    numbers = [int.from_bytes(packet.data, "big") for packet in found]
    for before, (after, packet) in zip([-1, *numbers], zip(numbers, found, strict=True), strict=False):
        assert after == before + 1 or packet.key_frame, "after a packet that was left out comes a key frame"
    for number, packet in zip(numbers, found, strict=True):
        late = packet.pts - given_packets[number].pts
        assert packet.key_frame or 0 <= late <= MAX_SHIFT_S / TIME_BASE


def test_in_good_order_all_stays_as_it_is() -> None:
    order = [(0, 2), (1, 4), (2, 0), (3, 0), (4, 1)]
    packets = [read(n, n * FRAME, delay * FRAME, n == 0) for n, delay in order]
    found = list(Passthrough().packets(packets))
    assert [(one.pts, one.dts, one.key_frame) for one in found] == [
        (packet.pts, packet.dts, bool(packet.packet.is_keyframe)) for packet in packets
    ]


def test_after_a_leap_of_the_clock_the_video_goes_on_with_its_next_key_frame() -> None:
    """The packet behind it has been read before the picture, by which the leap is known."""
    leapt = [read(3, 3 * FRAME + 60 * 90_000, 0, False)]
    before_it = [read(n, n * FRAME, 0, n == 0) for n in range(3)]
    packets = [*before_it, *leapt, *(read(n, n * FRAME, 0, n == 8) for n in range(4, 12))]
    found = list(Passthrough().packets(packets))
    assert [int.from_bytes(one.data, "big") for one in found] == [0, 1, 2, 3, 8, 9, 10, 11]
    before, after = found[:4], found[4:]
    assert len({id(one.template) for one in before}) == len({id(one.template) for one in after}) == 1
    assert [one.dts for one in after] == [n * FRAME for n in range(8, 12)]


def test_the_same_video_keeps_its_template_and_other_video_has_another() -> None:
    passing = Passthrough()
    kinds = [A_CAMERA, THE_SAME, ANOTHER, A_CAMERA]
    found = [next(passing.packets([read(n, n * FRAME, 0, True, of)])).template for n, of in enumerate(kinds)]
    assert found[0] is found[1]
    assert found[2] is ANOTHER
    assert found[3] is A_CAMERA
    passing.pause()
    assert not list(passing.packets([read(9, 9 * FRAME, 0, False)]))


def test_parameter_sets_are_found_where_they_are_in_the_packet() -> None:
    data = b"\0\0\0\1\x67sps\0\0\0\1\x68pps\0\0\1\x67sps\0\0\1\x65slice"
    assert parameter_sets(data, "h264", b"") == b"\x67sps\x68pps"
    assert parameter_sets(data, "h264", b"\x01 as in MP4") == b""
    assert parameter_sets(b"\0\0\1\x42\x01s\0\0\1\x02\x01x", "hevc", b"") == b"\x42\x01s"
    assert parameter_sets(data, "mjpeg", b"") == b""


def test_of_every_kind_of_output_it_is_known_what_it_carries() -> None:
    urls = ("rtsp://a/b", "rtmp://a/b", "srt://a:1", "whip+https://a/b", "/a.mp4", "/a.m3u8")
    assert {target_of(url).format for url in urls} == set(CARRIES)

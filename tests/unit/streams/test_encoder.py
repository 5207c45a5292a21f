from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import psutil
import pytest
from av.video.reformatter import ColorRange

from deployments.streams.media.encoder import H264Encoder, nvenc_options
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.picture import AvPicture
from tests.support.media import WITHOUT_GPU

TIME_BASE = Fraction(1, 90000)
RED, GREEN, BLUE = (0, 0, 200), (0, 180, 0), (220, 40, 0)


def picture(bgr: Any, pix_fmt: str = "yuv420p", matrix: int = 1, full: bool = False) -> AvPicture:
    """``bgr`` as a picture with the H.273 ``matrix`` (1 or 6) stated."""
    colour_range = ColorRange.JPEG if full else ColorRange.MPEG
    frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(bgr), format="bgr24")
    if pix_fmt != "bgr24":
        frame = frame.reformat(format=pix_fmt, dst_colorspace=1 if matrix == 1 else 5, dst_color_range=colour_range)
        frame.colorspace = matrix
        frame.color_range = colour_range
    return AvPicture(frame)


def scene(width: int, height: int, step: int = 0) -> Any:
    """Smooth and moving."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = [128 + 100 * np.sin((x * a + y * b + 8 * step) / 40) for a, b in ((1, 0), (0, 1), (1, 1))]
    return np.stack(channels, axis=2).astype(np.uint8)


def patches() -> Any:
    image = np.zeros((96, 192, 3), np.uint8)
    for index, colour in enumerate((RED, GREEN, BLUE)):
        image[:, index * 64 : (index + 1) * 64] = colour
    return image


def encoder(first: AvPicture, **changes: Any) -> H264Encoder:
    return H264Encoder(
        first, **{"time_base": TIME_BASE, "fps": Fraction(25), "bitrate": 4_000_000, "gop_s": 2.0, **changes}
    )


def decoded(packets: Sequence[EncodedPacket]) -> Iterator[Any]:
    decoder: Any = av.CodecContext.create("h264", "r")
    for packet in packets:
        coded = av.Packet(packet.data)
        coded.pts, coded.dts, coded.time_base = packet.pts, packet.dts, packet.time_base
        yield from decoder.decode(coded)
    yield from decoder.decode(None)


def test_every_picture_gives_one_packet_at_once_with_its_own_pts_even_at_an_uneven_rate() -> None:
    pictures = [picture(scene(320, 240, step)) for step in range(40)]
    gaps = np.random.default_rng(0).integers(1, 20000, 40)
    times = [int(t) for t in 2**33 + np.cumsum(gaps)]
    h264 = encoder(pictures[0])
    packets = []
    for pts, one in zip(times, pictures, strict=True):
        made = h264.encode(one, pts)
        assert [(packet.pts, packet.dts) for packet in made] == [(pts, pts)]
        packets += made
    assert h264.flush() == []
    frames = list(decoded(packets))
    assert [frame.pts for frame in frames] == times
    for original, frame in zip(pictures, frames, strict=True):
        error = np.square(original.planes().y.astype(float) - AvPicture(frame).planes().y).mean()
        assert 10 * np.log10(255**2 / max(error, 1e-9)) > 36


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize(
    ("pix_fmt", "full"),
    [
        ("yuv420p", False),
        ("yuv420p", True),
        ("yuvj420p", True),
        ("nv12", False),
        ("nv12", True),
        ("p010le", False),
        ("yuv422p", False),
        ("yuvj422p", True),
        ("yuv444p", False),
        ("yuv420p10le", False),
        ("yuv422p10le", True),
        ("bgr24", False),
    ],
)
def test_colours_survive_in_every_format_matrix_and_range(pix_fmt: str, full: bool, matrix: int) -> None:
    source = picture(patches(), pix_fmt, matrix, full)
    h264 = encoder(source)
    (frame,) = decoded(h264.encode(source, 0))
    if pix_fmt != "bgr24":
        assert int(frame.colorspace) == matrix
    assert frame.format.name in {"yuv420p", "yuvj420p"}
    assert (frame.color_range == ColorRange.JPEG) == full
    shown = AvPicture(frame).to_array(192, 96)
    for index, colour in enumerate((RED, GREEN, BLUE)):
        seen = shown[24:72, index * 64 + 16 : index * 64 + 48].reshape(-1, 3).mean(axis=0)
        assert np.abs(seen - colour).max() < 6, (index, seen)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "p010le", "yuv422p10le"])
def test_odd_sizes_lose_a_column_and_a_row_and_are_not_scaled(pix_fmt: str) -> None:
    source = picture(scene(161, 121), pix_fmt)
    (frame,) = decoded(encoder(source).encode(source, 0))
    assert (frame.width, frame.height) == (160, 120)
    expected = source.to_array(161, 121)[:120, :160].astype(int)
    assert np.abs(expected - AvPicture(frame).to_array(160, 120)).mean() < 4


def test_key_frames_come_by_time_and_on_demand_and_a_decoder_can_start_at_each() -> None:
    one = picture(scene(160, 120))
    h264 = encoder(one, gop_s=1.0)
    packets = [h264.encode(one, i * 9000, key_frame=i == 13)[0] for i in range(30)]
    assert [i for i, packet in enumerate(packets) if packet.key_frame] == [0, 10, 13, 23]
    assert len(list(decoded(packets[13:]))) == 17
    assert h264.extradata in packets[13].data


def test_types_left_by_a_decoder_do_not_become_key_frames() -> None:
    one = picture(scene(160, 120))
    intra = next(iter(decoded(encoder(one).encode(one, 0))))
    h264 = encoder(one)
    assert [h264.encode(AvPicture(intra), pts)[0].key_frame for pts in (0, 1000)] == [True, False]


def test_the_bitrate_caps_noise_and_a_still_scene_takes_far_less() -> None:
    rng = np.random.default_rng(1)
    noise = [picture(rng.integers(0, 255, (240, 320, 3), np.uint8)) for _ in range(10)]
    h264 = encoder(noise[0], bitrate=500_000)
    sizes = [len(h264.encode(noise[i % 10], i * 3600)[0].data) for i in range(100)]
    assert sum(sizes[25:]) * 8 / 3 < 500_000 * 1.15
    quiet = picture(scene(320, 240))
    still = encoder(quiet, bitrate=500_000)
    sizes = [len(still.encode(quiet, i * 3600)[0].data) for i in range(100)]
    assert sum(sizes[50:]) * 8 / 2 < 100_000


def test_other_sizes_and_colours_need_another_encoder_and_time_must_grow() -> None:
    h264 = encoder(picture(scene(160, 120)))
    assert h264.takes(picture(scene(161, 121)))
    assert not h264.takes(picture(scene(320, 240)))
    assert not h264.takes(picture(scene(160, 120), full=True))
    h264.encode(picture(scene(160, 120)), 7)
    with pytest.raises(ValueError, match="must grow"):
        h264.encode(picture(scene(160, 120)), 7)
    h264.close()


def test_nvenc_knows_every_option_that_it_is_given() -> None:
    known = av.CodecContext.create("h264_nvenc", "w").supported_options
    options = {option.name: option for option in (*known.generic, *known.private)}
    for name, value in nvenc_options(4_000_000, 1).items():
        option = options[name]
        choices = {choice.name for choice in option.choices}
        assert value in choices or option.min <= float(value) <= option.max, (name, value, choices)


@WITHOUT_GPU
def test_without_a_gpu_nvenc_says_so_when_it_is_opened() -> None:
    with pytest.raises(av.FFmpegError):
        encoder(picture(scene(160, 120)), device=0)


def test_a_closed_encoder_leaves_nothing_to_the_collector_of_cycles() -> None:
    """Each has more than ten megabytes at 720p, and a viewer who comes and goes makes one."""
    large = picture(scene(1280, 720))

    def used() -> None:
        encoder = H264Encoder(large, time_base=TIME_BASE, fps=Fraction(25), bitrate=1_000_000, gop_s=1)
        encoder.encode(large, 0)
        encoder.close()

    process = psutil.Process()
    gc.disable()
    try:
        for _ in range(2):
            used()
        before = process.memory_info().rss
        for _ in range(10):
            used()
        assert process.memory_info().rss - before < 40 * 2**20
    finally:
        gc.enable()

"""Places on a GPU that is not there: FFmpeg is really asked for it, and software takes over."""

from __future__ import annotations

import logging
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import pytest

from deployments.errors import StreamError
from deployments.streams.media.encoder import H264Encoder
from deployments.streams.media.gpu import Nvdec, Nvenc, decoder_name
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceSpec
from tests.support.media import WITHOUT_GPU, frame, make_clip


@pytest.fixture
def policy(tmp_path: Path) -> UrlPolicy:
    make_clip(tmp_path / "clip.mp4", frames=10)
    return UrlPolicy(media_root=tmp_path, output_root=tmp_path)


def source(hwaccel: str, **changes: object) -> SourceSpec:
    return SourceSpec.model_validate({"url": "file:clip.mp4", "realtime": False, "hwaccel": hwaccel, **changes})


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@WITHOUT_GPU
def test_software_takes_over_with_one_line_for_all_connections(
    policy: UrlPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    nvdec, timeline = Nvdec(), Timeline()
    for _ in range(3):
        with open_source(source("auto", loop=True), policy, timeline, nvdec=nvdec) as opened:
            assert (opened.info.codec, opened.info.decoder) == ("h264", "h264")
            assert len(list(islice(opened.items(), 25))) == 25  # over two ends of the clip
    (line,) = warnings(caplog)
    assert line.startswith("decodes in software: NVDEC can't be used (PermissionError): ")


@WITHOUT_GPU
def test_a_stream_that_needs_the_gpu_fails_by_name(policy: UrlPolicy, caplog: pytest.LogCaptureFixture) -> None:
    nvdec = Nvdec()
    for _ in range(2):
        with pytest.raises(StreamError) as caught:
            open_source(source("cuda"), policy, Timeline(), nvdec=nvdec)
        assert (caught.value.code, caught.value.retryable) == ("hwaccel_unavailable", True)
        assert "\n" not in str(caught.value)
        assert "driver" in str(caught.value)
    assert not warnings(caplog), "the error says it"


def test_a_source_that_wants_no_gpu_never_asks_for_one(policy: UrlPolicy, caplog: pytest.LogCaptureFixture) -> None:
    with open_source(source("none"), policy, Timeline(), nvdec=Nvdec()) as opened:
        assert opened.info.decoder == "h264"
    assert not warnings(caplog)


@WITHOUT_GPU
def test_a_missing_file_is_still_a_missing_file(policy: UrlPolicy) -> None:
    with pytest.raises(StreamError) as caught:
        open_source(source("auto", url="file:other.mp4"), policy, Timeline(), nvdec=Nvdec())
    assert caught.value.code == "not_found"


def test_a_video_that_the_gpu_refuses_is_decoded_in_software_unless_that_is_no_choice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nvdec = Nvdec()
    for _ in range(2):
        nvdec.refused("rtsp://user:secret@a/1", "h264", "yuv422p", required=False)
    assert warnings(caplog) == ["decodes in software: NVDEC can't decode this video (h264, yuv422p)"]
    assert nvdec.accel("rtsp://a/1", required=False) is None
    with pytest.raises(StreamError, match=r"rtsp://a: .*h264, yuv422p.*auto") as caught:
        nvdec.refused("rtsp://user:secret@a/1", "h264", "yuv422p", required=True)
    assert caught.value.code == "hwaccel_unavailable"


@pytest.mark.parametrize(
    ("pixel_format", "accelerated", "name"),
    [
        ("nv12", True, "hevc (cuda)"),
        ("p010le", True, "hevc (cuda)"),
        ("yuv420p", True, "hevc"),
        ("nv12", False, "hevc"),
    ],
)
def test_the_picture_shows_who_decoded_it(pixel_format: str, accelerated: bool, name: str) -> None:
    assert decoder_name("hevc", pixel_format, accelerated=accelerated) == name


@WITHOUT_GPU
def test_nvenc_that_fails_once_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    nvenc = Nvenc()
    picture = AvPicture(frame(0, 320, 240))
    how = {"time_base": Fraction(1, 90_000), "fps": Fraction(25), "bitrate": 1_000_000, "gop_s": 2.0}
    assert [nvenc.encoder(picture, **how) for _ in range(3)] == [None] * 3  # type: ignore[arg-type]
    assert warnings(caplog) == ["encodes in software: NVENC can't be used (PermissionError)"]
    with pytest.raises(av.FFmpegError):
        H264Encoder(picture, **how, device=0)  # type: ignore[arg-type]

"""FFmpeg's errors by type, and never a credential in a message."""

from __future__ import annotations

import errno

import av
import pytest
from av import error as averror
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import StreamErrorCode
from deployments.streams.media.errors import Phase, place, translate

URL = "rtsp://user:s3cret@10.0.0.7:8554/ch1?token=s3cret"
ERRNOS = {name: getattr(errno, name) for name in dir(errno) if name.startswith("E")}


def raised(code: int) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the question
        averror.err_check(-code, URL)
    return caught.value


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (b"\xf8401", "auth_failed"),
        (b"\xf8403", "auth_failed"),
        (b"\xf8404", "not_found"),
        (b"\xf8400", "invalid_data"),
        (b"\xf85XX", "connection_refused"),
        (b"\xf8DEC", "codec_unsupported"),
        (b"PAWE", "codec_unsupported"),
        (b"INDA", "invalid_data"),
        (b"\xf8DEM", "invalid_data"),
        (b"EXIT", "timeout"),
        (b"EOF ", "invalid_data"),
    ],
)
def test_ffmpegs_own_errors(tag: bytes, expected: str) -> None:
    error = raised(averror.tag_to_code(tag))
    translated = translate(error, URL, "open")
    assert translated.code == expected
    assert "s3cret" not in str(translated)


@pytest.mark.parametrize(
    ("code", "phase", "expected"),
    [
        (errno.ECONNREFUSED, "open", "connection_refused"),
        (errno.ECONNRESET, "open", "connection_refused"),
        (errno.ECONNRESET, "read", "ended"),
        (errno.EPIPE, "read", "ended"),
        (errno.ETIMEDOUT, "open", "timeout"),
        (errno.EHOSTUNREACH, "open", "connection_refused"),
        (errno.EIO, "open", "connection_refused"),
        (errno.ENOENT, "open", "not_found"),
        (errno.EACCES, "open", "not_found"),
        (errno.EINVAL, "open", "invalid_data"),
    ],
)
def test_errors_of_the_system(code: int, phase: Phase, expected: str) -> None:
    assert translate(raised(code), URL, phase).code == expected


def test_the_same_error_means_something_else_while_reading() -> None:
    assert translate(raised(averror.tag_to_code(b"EXIT")), URL, "read").code == "stalled"
    assert translate(raised(averror.tag_to_code(b"EOF ")), URL, "read").code == "ended"


@given(code=st.sampled_from(sorted(ERRNOS.values())), phase=st.sampled_from(["open", "read"]))
def test_every_error_has_a_code_and_one_line_without_secrets(code: int, phase: Phase) -> None:
    try:
        averror.err_check(-code, URL)
    except (av.FFmpegError, OSError, ValueError) as error:
        translated = translate(error, URL, phase)
    assert translated.code in StreamErrorCode
    assert "s3cret" not in translated.message
    assert "ch1" not in translated.message
    assert "\n" not in translated.message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, "rtsp://10.0.0.7:8554"),
        ("http://[::1]:80/x", "http://[::1]:80"),
        ("file:a.mp4", "file source"),
        ("http://u:p@h:99999/", "source"),
    ],
)
def test_the_place_is_scheme_and_host_only(url: str, expected: str) -> None:
    assert place(url) == expected

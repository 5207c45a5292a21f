"""What FFmpeg raises, as a `StreamError` whose message is safe to show.

Exceptions of PyAV hold the whole URL with its credentials in their text, so that none of it is used: the type
decides, and the message is written here.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import av
from av import error as averror
from av import logging as avlogging

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.urls import redact

Phase = Literal["open", "read"]
Code = StreamErrorCode

_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], StreamErrorCode, str], ...] = (
    (
        (averror.HTTPUnauthorizedError, averror.HTTPForbiddenError),
        Code.AUTH_FAILED,
        "The server refuses the user name or password: set the credentials anew.",
    ),
    ((averror.HTTPNotFoundError,), Code.NOT_FOUND, "The server knows no such path: check the URL."),
    ((averror.HTTPServerError, averror.HTTPTooManyRequestsError), Code.CONNECTION_REFUSED, "The server is overloaded."),
    ((averror.HTTPError, averror.HTTPClientError), Code.INVALID_DATA, "The server does not take the request."),
    ((FileNotFoundError, IsADirectoryError, NotADirectoryError), Code.NOT_FOUND, "There is no such file or device."),
    ((PermissionError,), Code.NOT_FOUND, "The file or device can't be read: check its permissions."),
    (
        (averror.DecoderNotFoundError, averror.PatchWelcomeError, averror.ExperimentalError, NotImplementedError),
        Code.CODEC_UNSUPPORTED,
        "No decoder for this video: set the camera to H.264, HEVC or MJPEG.",
    ),
    ((EOFError,), Code.ENDED, "The source ended."),
    ((ConnectionRefusedError,), Code.CONNECTION_REFUSED, "Nothing listens at this address: check host and port."),
    ((ConnectionError,), Code.CONNECTION_REFUSED, "The connection was cut."),
    ((TimeoutError,), Code.TIMEOUT, "No answer in time: check that the host can be reached."),
    (
        (averror.DemuxerNotFoundError, averror.InvalidDataError, averror.ArgumentError, ValueError),
        Code.INVALID_DATA,
        "This is no video that can be read: the data is damaged or of an unknown format.",
    ),
    (
        (averror.ProtocolNotFoundError,),
        Code.CODEC_UNSUPPORTED,
        "The installed FFmpeg lacks this protocol (PyAV's wheels have no SRT): use RTSP, or PyAV built with it.",
    ),
    ((OSError,), Code.CONNECTION_REFUSED, "The connection failed or was redirected: give the final address."),
)
"""The first row that fits decides; the types of PyAV are also those of Python where there is one."""


def silence() -> None:
    """Switch off FFmpeg's own log, which prints URLs with their credentials."""
    avlogging.set_level(None)
    avlogging.set_libav_level(avlogging.PANIC)


def translate(error: BaseException, url: str, phase: Phase) -> StreamError:
    """The `StreamError` for what PyAV raised while it opened or read ``url``."""
    where = place(url)
    if isinstance(error, StreamError):
        return StreamError(error.code, redact(error.message))
    if isinstance(error, averror.ExitError):
        return stalled(url) if phase == "read" else timed_out(url)
    if phase == "open" and isinstance(error, EOFError):
        return StreamError(Code.INVALID_DATA, f"{where}: It is empty or closed before any video came.")
    if phase == "read" and isinstance(error, ConnectionError):
        return StreamError(Code.ENDED, f"{where}: the connection was cut.")
    for types, code, message in _BY_TYPE:
        if isinstance(error, types):
            if code is Code.CONNECTION_REFUSED and url.lower().startswith("file:"):
                return StreamError(Code.INVALID_DATA, f"{where}: The file can't be read on: it is damaged.")
            return StreamError(code, f"{where}: {message}")
    kind = type(error).__name__
    return StreamError(Code.INVALID_DATA, f"{where}: FFmpeg gave up ({kind}): check the source with a player.")


def timed_out(url: str) -> StreamError:
    """No connection, or no first picture, in time."""
    return StreamError(Code.TIMEOUT, f"{place(url)}: No answer in time: check that the host can be reached.")


def stalled(url: str) -> StreamError:
    """A connection stands but no video comes."""
    return StreamError(Code.STALLED, f"{place(url)}: No video came in time: check the camera.")


def no_picture(url: str) -> StreamError:
    """Video comes, but no picture can be made of it."""
    message = f"{place(url)}: Packets come, but no picture: check the camera's codec and its key frame interval."
    return StreamError(Code.INVALID_DATA, message)


def frozen(url: str) -> StreamError:
    """Pictures come that all bear the same time."""
    return StreamError(Code.STALLED, f"{place(url)}: Pictures come, but their time stands still: restart the camera.")


def garbled(url: str) -> StreamError:
    """A server's connection brings what is no RTSP."""
    return StreamError(Code.INVALID_DATA, f"{place(url)}: What comes is no RTSP: check the port, and the network.")


def tls_failed(url: str) -> StreamError:
    """A server that takes the connection but not the handshake."""
    return StreamError(Code.TLS_FAILED, f"{place(url)}: No TLS there: check the port, or use the scheme without it.")


def ended(url: str) -> StreamError:
    """The source closed, or the file is over."""
    return StreamError(Code.ENDED, f"{place(url)}: The source ended.")


def place(url: str) -> str:
    """Scheme and host of a URL: as much of it as belongs into a message."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "source"
    if not parts.hostname:
        return f"{parts.scheme or 'file'} source"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"


ReadError = (av.FFmpegError, OSError, ValueError)
"""What opening, reading and decoding may raise for reasons that lie in the source."""

NOT_A_FORMAT = (averror.ArgumentError, averror.InvalidDataError)
"""What opening raises for data of no format that may be opened: the first of them for a known one."""

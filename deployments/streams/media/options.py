"""How FFmpeg opens each scheme: with no more protocols and formats than it needs, and without delay.

What refers to other addresses, such as a playlist or a redirect, can't leave the protocols of its own scheme, and goes
through `deployments.streams.media.egress` or `rtsp_forward` only.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.streams.spec import SourceSpec

_CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,live_flv,asf,ogg,h264,hevc,mjpeg"
_STREAMED = f"{_CONTAINERS},mpjpeg,aac,mp3,ac3,eac3,webvtt"
"""Formats that may be opened directly. Not among them are those that refer to other addresses or files (hls, concat,
sdp, image2) and those that take any text for a picture (tty)."""

_PLAYED = f"{_STREAMED},hls"
"""What a playlist may lead to: itself, other playlists, and segments."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The protocols and formats that a scheme may use; ``forced`` is the format where there is no choice."""

    protocols: str
    formats: str | None = None
    forced: str | None = None


KINDS = {
    "rtsp": Kind("rtsp,tcp", forced="rtsp"),
    "rtsps": Kind("rtsp,tcp", forced="rtsp"),
    "rtmp": Kind("rtmp,tcp", _CONTAINERS),
    "rtmps": Kind("rtmps,tcp,tls,httpproxy", _CONTAINERS),
    "srt": Kind("srt,udp", _CONTAINERS),
    "http": Kind("http,https,tcp,tls,crypto,httpproxy", _STREAMED),
    "https": Kind("https,http,tcp,tls,crypto,httpproxy", _STREAMED),
    "file": Kind("file", _CONTAINERS),
    "v4l2": Kind("file", forced="v4l2"),
}

PLAYLIST = "hls"

_PROBE = {"probesize": "1000000", "analyzeduration": "1000000", "fpsprobesize": "2"}
"""Bytes, microseconds and frames that are looked at at most before the streams count as known: an RTSP camera is open
after 0.3 s, where twenty frames for the rate would take a second. What was looked at is not thrown away
(``fflags=nobuffer`` would), or the first key frame would be lost, and with it the seconds until the next."""


def options(spec: SourceSpec, scheme: str, timeouts: tuple[float, float]) -> dict[str, str]:
    """FFmpeg's options for a source; ``timeouts`` are those of opening and reading, in seconds."""
    kind = KINDS[scheme]
    chosen = {"protocol_whitelist": kind.protocols}
    if kind.formats is not None:
        chosen["format_whitelist"] = kind.formats
    micros = str(round(max(timeouts) * 1_000_000))
    if scheme in ("rtsp", "rtsps"):
        chosen |= {"rtsp_transport": spec.transport, "timeout": micros}
        if spec.transport == "tcp":
            chosen |= {"max_delay": "0", "reorder_queue_size": "0"}
        else:
            chosen["protocol_whitelist"] += ",rtp,srtp,udp"
    elif scheme in ("http", "https"):
        chosen |= {"max_redirects": "5", "rw_timeout": micros}
    elif scheme in ("rtmp", "rtmps", "srt"):
        chosen["rw_timeout"] = micros  # "timeout" would make RTMP listen
    if scheme not in ("file", "http", "https"):
        chosen |= _PROBE
    return chosen


def playlist_options(chosen: dict[str, str]) -> dict[str, str]:
    """`options` of a source that turned out to be a playlist."""
    return {**chosen, "format_whitelist": _PLAYED}

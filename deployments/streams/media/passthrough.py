"""The source's own video for outputs: its packets as they are, with times that containers take."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import av

from deployments.streams.media.errors import ReadError
from deployments.streams.media.items import VideoPacket
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.reader import kept

_MOST = frozenset({"h264", "hevc", "av1", "vp9"})
CARRIES = {
    "rtsp": _MOST | {"vp8", "mjpeg", "mpeg4", "mpeg2video", "mpeg1video"},
    "whip": frozenset({"h264"}),
    "flv": _MOST,
    "mpegts": frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"}),
    "hls": frozenset({"h264", "hevc"}),
    "mp4": _MOST | {"mjpeg", "mpeg4", "mpeg2video", "mpeg1video"},
}
"""Codecs that players find in a container, by its name in FFmpeg, which would also write what nobody can read."""

MAX_SHIFT_S = 0.01
"""By which a picture is shown late where the times before left no room: two packets of one time, for instance."""

MAX_LEAD_S = 5
"""By which a key frame may come before the last packet. A clock that leaps shows in packets before it does in pictures;
outputs connect anew then, as none of what follows would come after what they have."""

_SETS = {"h264": (0x1F, 0, frozenset({7, 8})), "hevc": (0x3F, 1, frozenset({32, 33, 34}))}
"""Of a NAL unit: the mask and shift of its type, and the types that are parameter sets."""


class Passthrough:
    """Makes the packets of outputs; used by the thread that decodes.

    ``template`` of what it gives stays the same object while the video does: also over a reconnect, so that outputs
    go on. The times at which packets are sent rise: one that comes with times before them is left out, and all after
    it up to a key frame.
    """

    def __init__(self) -> None:
        self._template: Any = None
        self._of: Any = None  # the source's template that it stands for
        self._sets = b""
        self._last_dts: int | None = None
        self._in_gap = True

    def pause(self) -> None:
        """Nobody takes packets for now: those that follow begin with a key frame."""
        self._in_gap = True

    def packets(self, read: Sequence[VideoPacket]) -> Iterator[EncodedPacket]:
        """Those of ``read`` that an output can take."""
        for one in read:
            packet = one.packet
            key = bool(packet.is_keyframe)
            if key and self._last_dts is not None and self._last_dts - one.dts > MAX_LEAD_S / one.time_base:
                self._last_dts = self._template = self._of = None
            dts = one.dts if self._last_dts is None else max(one.dts, self._last_dts + 1)
            if not key and (self._in_gap or dts - one.pts > MAX_SHIFT_S / one.time_base):
                self._in_gap = True
                continue
            self._in_gap = False
            self._last_dts = dts
            data = bytes(packet)
            self._follow(one.template, data if key else None)
            duration = round((packet.duration or 0) * packet.time_base / one.time_base) if packet.time_base else 0
            yield EncodedPacket(
                data=data,
                pts=max(one.pts, dts),
                dts=dts,
                duration=duration,
                time_base=one.time_base,
                key_frame=key,
                template=self._template,
            )

    def _follow(self, template: Any, key_frame: bytes | None) -> None:
        """Take up what another connection, or the parameter sets in a key frame, say of the video."""
        if template is not self._of:
            if self._template is None or _parameters(template) != _parameters(self._of):
                self._template, self._sets = template, b""
            self._of = template
        if key_frame is None:
            return
        codec = template.codec_context.name
        sets = parameter_sets(key_frame, codec, bytes(template.codec_context.extradata or b""))
        if sets and sets != self._sets:
            if self._sets or not template.codec_context.extradata:
                self._template = _read_from(key_frame, codec) or self._template
            self._sets = sets


def parameter_sets(data: bytes, codec: str, extradata: bytes) -> bytes:
    """Those in a packet of H.264 or HEVC, each once; empty where they stand apart, as in MP4, or there are none."""
    if codec not in _SETS or extradata[:1] == b"\x01":
        return b""
    mask, shift, types = _SETS[codec]
    units = (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:])
    return b"".join(dict.fromkeys(unit for unit in units if unit and (unit[0] >> shift) & mask in types))


def _parameters(template: Any) -> tuple[Any, ...]:
    context = template.codec_context
    return context.name, context.width, context.height, bytes(context.extradata or b"")


def _read_from(key_frame: bytes, codec: str) -> Any:
    """A template of what the packet's own parameter sets say; None where they say nothing."""
    try:
        with av.open(io.BytesIO(key_frame), "r", format=codec) as container:
            video = container.streams.best("video")
            return None if video is None else kept(video)
    except ReadError:
        return None

"""The source's own packets as WebRTC sends them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import av

from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.passthrough import parameter_sets


class AnnexB:
    """Brings packets of H.264 from any container into Annex B form, with parameter sets before each key frame."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._extradata = bytes(stream.codec_context.extradata or b"")
        prefixed = self._extradata[:1] == b"\x01"  # lengths before the units, as MP4 and FLV have it
        self._filter = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream) if prefixed else None

    def data(self, data: bytes, pts: int, *, key_frame: bool) -> bytes:
        """The data of the next packet."""
        if self._filter is not None:
            packet: Any = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = self._stream, pts, pts, key_frame
            return b"".join(bytes(one) for one in self._filter.filter(packet))
        if key_frame and not parameter_sets(data, "h264", b""):
            return self._extradata + data
        return data


class Copies:
    """Makes of the packets of one source what one viewer can be sent."""

    def __init__(self) -> None:
        self._template: Any = None
        self._form: AnnexB | None = None
        self._last_pts: int | None = None

    def of(self, packet: EncodedPacket) -> EncodedPacket:
        """The next packet. Raises ValueError where it is no H.264, or B-frames came."""
        if packet.template is not self._template:
            if packet.template.codec_context.name != "h264":
                raise ValueError(packet.template)
            self._template, self._form = packet.template, AnnexB(packet.template)
        if self._last_pts is not None and packet.pts <= self._last_pts:
            raise ValueError(packet.pts)
        self._last_pts = packet.pts
        assert self._form is not None
        return replace(packet, data=self._form.data(packet.data, packet.pts, key_frame=packet.key_frame))

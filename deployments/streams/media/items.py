"""What a source of live video gives: its items and the interface that every kind of source has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import av

from deployments.streams.media.picture import AvPicture
from deployments.streams.spec import SourceInfo

Packet: TypeAlias = "av.Packet[av.stream.Stream]"
"""In quotes, for the class is generic only to the type checker."""


@dataclass(frozen=True, slots=True)
class VideoPacket:
    """One packet of encoded video as the source sent it, on the timeline of the pictures.

    Attributes:
        packet: the source's own, for its data and whether it is a key frame.
        pts, dts: in ``time_base`` units.
        template: stream with the parameters of the connection; it outlives the source.
    """

    packet: Packet
    pts: int
    dts: int
    time_base: Fraction
    template: Any


@dataclass(frozen=True, slots=True)
class VideoItem:
    """One decoded picture.

    Attributes:
        picture: upright; may share buffers with the decoder, so draw only on its `writable` copy.
        pts: strictly rising, in ``time_base`` units.
        captured_at: Unix time in seconds at which it was decoded (for a paced file: at which it was due).
        decoded_at: the same instant of ``time.monotonic()``.
        decode_s: seconds that decoding took, without waiting for the packet.
        stretch: of `Timeline`; another one than that of the item before where the source began anew.
        packets: what was read for it: its own packet, and those before it that gave no picture. None of a source
            that is not decoded.
    """

    picture: AvPicture
    pts: int
    time_base: Fraction
    captured_at: float
    decoded_at: float
    decode_s: float = 0.0
    stretch: int = 0
    packets: tuple[VideoPacket, ...] = ()


@dataclass(frozen=True, slots=True)
class AudioItem:
    """One packet of encoded audio, on the timeline of the video.

    Attributes:
        packet: owns its data and belongs to no stream; its pts, dts and time base are set to those given here.
    """

    packet: Packet
    pts: int
    time_base: Fraction


class Source(Protocol):
    """An open source. `interrupt` may be called from any thread, all else from one."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def audio(self) -> av.AudioStream | None:
        """A template of the audio stream for `add_stream_from_template`; it outlives the source."""
        ...

    @property
    def undecodable(self) -> int:
        """Packets that could not be decoded and were skipped."""
        ...

    def items(self) -> Iterator[VideoItem | AudioItem]:
        """Ends after `interrupt`; every other end is a `StreamError`."""
        ...

    def interrupt(self) -> None:
        """Make `items` end now, also where it waits."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

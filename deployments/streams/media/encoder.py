"""H.264 for live video: every picture in gives exactly one packet out, at once.

Measured with x264 on one thread (CPU milliseconds a frame, 768x576 and 1080p, at equal crf): ultrafast 1.3 and 6.4,
superfast 2.5 and 11.8 at 15 % fewer bits, veryfast 3.3 and 17.7 at 35 % fewer. CPU is what runs out first where many
streams share a machine, so it is ultrafast. On a GPU, NVENC takes the CPU out of it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.picture import AvPicture

PRESET = "ultrafast"
CRF = "23"
"""x264's own default of constant quality."""

_NO_AUTOMATIC_KEY_FRAMES = 1 << 30
"""x264's "infinite" GOP: key frames are placed by time here, as frames of a camera come at no constant rate."""

X264 = "libx264"
NVENC = "h264_nvenc"

_NVENC_OPTIONS = {
    "preset": "p3",
    "tune": "ull",
    "zerolatency": "1",
    "delay": "0",  # packets to hold back: as many as there are surfaces, by default
    "bf": "0",
    "rc-lookahead": "0",
    "rc": "vbr",
    "cq": CRF,
    "forced-idr": "1",
}
"""No picture waits for a later one; constant quality under a cap, as with x264."""

_NVENC_GOP = 1 << 16
"""Frames, more than come in the 30 s that a GOP takes at most."""

_PIXELS_A_THREAD = 1920 * 1088
_MAX_THREADS = 4
_KEPT_FORMATS = {X264: frozenset({"yuv420p", "yuvj420p", "nv12"}), NVENC: frozenset({"yuv420p", "nv12"})}
"""What each takes as it is and every player can show; all else becomes 4:2:0 with 8 bits."""

_DEFAULT_FPS = Fraction(25)
"""Where the source states no rate. It only steers x264's rate control; the timestamps are the source's."""


class H264Encoder:
    """One encoder; used by one thread at a time.

    Constant quality (crf) with ``bitrate`` as its cap over any one second (VBV): a quiet scene, the normal case for a
    fixed camera, takes a fraction of the bits, and a busy one does not swamp the network. Parameter sets are sent with
    every key frame, so that receivers can join, and stand in `extradata` for containers that want them in front.
    H.264 with 4:2:0 has no odd sizes: the last column or row of such a picture is cut off. Colour matrix, primaries,
    transfer and range are those of ``first``, the picture that fixes size and format; see `takes`.

    Args:
        time_base: unit of the timestamps given to `encode`.
        fps: frames a second as the source states it, if it does.
        bitrate: bits a second.
        gop_s: seconds from one key frame to the next.
        device: the CUDA device whose NVENC encodes; None for x264.

    Attributes:
        codec: FFmpeg's name of the encoder, `X264` or `NVENC`.

    Raises:
        av.FFmpegError: it can't encode this, for instance because the picture is too large, or there is no NVENC.
    """

    def __init__(
        self,
        first: AvPicture,
        *,
        time_base: Fraction,
        fps: Fraction | None,
        bitrate: int,
        gop_s: float,
        device: int | None = None,
    ) -> None:
        self.codec = X264 if device is None else NVENC
        self._form = _form(first, self.codec)
        self._time_base = time_base
        self._gop = gop_s / time_base
        self._duration = round(1 / (fps or _DEFAULT_FPS) / time_base)
        self._last_pts: int | None = None
        self._last_key: int | None = None
        # A stream of the null muxer, not a bare codec context: other containers take it as their template.
        container = av.open("-", "w", format="null")
        self.template: Any = _stream(container, self.codec, self._form, time_base, fps or _DEFAULT_FPS)
        settings = _x264(self._form, bitrate) if device is None else _nvenc(bitrate, device)
        for name, value in settings.items():
            setattr(self.template.codec_context, name, value)
        container.start_encoding()
        self._context: Any = self.template.codec_context

    @property
    def extradata(self) -> bytes:
        """SPS and PPS in Annex B form."""
        return bytes(self._context.extradata)

    def takes(self, picture: AvPicture) -> bool:
        """Whether ``picture`` has the size and colours of this encoder; other pictures need a new one."""
        return _form(picture, self.codec) == self._form

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._context is None

    def encode(self, picture: AvPicture, pts: int, *, key_frame: bool = False) -> list[EncodedPacket]:
        """Encode one picture; always one packet with the same ``pts``.

        Raises:
            ValueError: ``pts`` does not grow.
        """
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"pts {pts} after {self._last_pts}: timestamps must grow.")
        self._last_pts = pts
        frame: Any = self._prepared(picture)
        frame.pts, frame.time_base = pts, self._time_base
        if key_frame or self._last_key is None or pts - self._last_key >= self._gop:
            self._last_key = pts
            frame.pict_type = PictureType.I
        else:
            # The decoder left the type that the picture had in the source, which x264 would follow.
            frame.pict_type = PictureType.NONE
        return [self._packet(packet) for packet in self._context.encode(frame)]

    def flush(self) -> list[EncodedPacket]:
        """End the stream; what the encoder still held: without delay, nothing. `encode` no more after it."""
        return [self._packet(packet) for packet in self._context.encode(None)]

    def close(self) -> None:
        """Free what encodes. ``template`` stays usable for the outputs that still send earlier packets."""
        try:
            self.flush()
        finally:
            self._context = None
            self.template.container.close()  # or it goes with the collector of cycles, and 12 MiB of 720p with it

    def _packet(self, packet: Any) -> EncodedPacket:
        data = bytes(packet)
        if self.codec == NVENC and packet.is_keyframe:
            data = self.extradata + data  # it repeats them only where they don't stand in front
        return EncodedPacket(
            data=data,
            pts=int(packet.pts),
            dts=int(packet.dts),
            duration=self._duration,
            time_base=self._time_base,
            key_frame=bool(packet.is_keyframe),
            template=self.template,
        )

    def _prepared(self, picture: AvPicture) -> av.VideoFrame:
        width, height, target = self._form[:3]
        frame = picture.frame
        if frame.format.name != target:
            frame = _converted(picture, target)
        if (frame.width, frame.height) != (width, height):
            frame = _cropped(frame, width, height)
        return frame


def _stream(
    container: Any, codec: str, form: tuple[Any, ...], time_base: Fraction, fps: Fraction
) -> av.video.stream.VideoStream:
    width, height, pix_fmt, colour_range, matrix, primaries, transfer = form
    stream: Any = container.add_stream(codec, fps, width=width, height=height, pix_fmt=pix_fmt)
    context = stream.codec_context
    context.time_base = stream.time_base = time_base
    context.color_range, context.colorspace = colour_range, matrix
    context.color_primaries, context.color_trc = primaries, transfer
    context.flags |= Flags.global_header
    return stream  # type: ignore[no-any-return]


def _x264(form: tuple[Any, ...], bitrate: int) -> dict[str, Any]:
    """Settings of the codec context."""
    width, height = form[:2]
    options = {"preset": PRESET, "tune": "zerolatency", "crf": CRF, "maxrate": str(bitrate), "bufsize": str(bitrate)}
    return {
        # Slices: threads that each take a part of the picture add no delay; frame threads add one frame each.
        "thread_count": min(_MAX_THREADS, -(-width * height // _PIXELS_A_THREAD)),
        "gop_size": _NO_AUTOMATIC_KEY_FRAMES,
        "options": {**options, "forced-idr": "1", "x264-params": "repeat-headers=1"},
    }


def _nvenc(bitrate: int, device: int) -> dict[str, Any]:
    """Settings of the codec context; without a bit rate, or the quality would not be constant."""
    return {"gop_size": _NVENC_GOP, "bit_rate": 0, "options": nvenc_options(bitrate, device)}


def nvenc_options(bitrate: int, device: int) -> dict[str, str]:
    """FFmpeg's options of ``h264_nvenc`` on a CUDA device; ``bitrate`` is the cap, in bits a second."""
    return {**_NVENC_OPTIONS, "gpu": str(device), "maxrate": str(bitrate), "bufsize": str(bitrate)}


def _form(picture: AvPicture, codec: str) -> tuple[int, int, str, int, int, int, int]:
    """Width, height, pixel format, range, matrix, primaries and transfer that a picture has once prepared."""
    frame = picture.frame
    name = frame.format.name
    kept = _KEPT_FORMATS[codec]
    target = name if name in kept else "yuvj420p" if name.startswith("yuvj") and "yuvj420p" in kept else "yuv420p"
    full = target == "yuvj420p" or (frame.color_range == ColorRange.JPEG and not frame.format.is_rgb)
    matrix = _rgb_matrix(frame)[0] if frame.format.is_rgb else int(frame.colorspace)
    colour_range = int(ColorRange.JPEG) if full else int(frame.color_range) if not frame.format.is_rgb else 1
    return (
        frame.width & ~1,
        frame.height & ~1,
        target,
        colour_range,
        matrix,
        picture.primaries,
        picture.transfer,
    )


def _rgb_matrix(frame: av.VideoFrame) -> tuple[int, Colorspace]:
    """H.273 and swscale numbers of the matrix for a source without one: by height, as players guess it."""
    return (1, Colorspace.ITU709) if frame.height >= 720 else (6, Colorspace.ITU601)


def _converted(picture: AvPicture, target: str) -> av.VideoFrame:
    """In 4:2:0 with 8 bits; matrix and range stay as they are."""
    frame = picture.frame
    if frame.format.is_rgb:
        return picture.converted(format=target, dst_colorspace=_rgb_matrix(frame)[1], dst_color_range=ColorRange.MPEG)
    full = target == "yuvj420p" or frame.color_range == ColorRange.JPEG
    unchanged = ColorRange.JPEG if full else ColorRange.MPEG
    return picture.converted(format=target, src_color_range=unchanged, dst_color_range=unchanged)


def _cropped(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """The top left ``width`` x ``height`` pixels; scaling by one pixel would blur the whole picture."""
    cut = av.VideoFrame(width, height, frame.format.name)
    whole, part = AvPicture(frame).planes(), AvPicture(cut).planes()
    for source, target in ((whole.y, part.y), (whole.u, part.u), (whole.v, part.v)):
        np.copyto(target, source[: target.shape[0], : target.shape[1]])
    return cut

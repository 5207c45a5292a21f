"""A stream's places on NVDEC and NVENC, through FFmpeg: each is used while it works, and software after that.

FFmpeg loads the driver's libraries when they are first asked for, so nothing here costs anything without a place.
"""

from __future__ import annotations

import logging
from fractions import Fraction

import av
from av.codec.hwaccel import HWAccel

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.media.encoder import H264Encoder
from deployments.streams.media.errors import ReadError, place
from deployments.streams.media.picture import AvPicture

logger = logging.getLogger(__name__)

_DOWNLOADED = frozenset({"nv12", "p010le", "p016le"})
"""What pictures of NVDEC are in system memory, with 8, 10 and 12 bits; no software decoder gives these. (HEVC in 4:4:4
comes as planes, and is taken for decoded in software.)"""

_PROBED = av.Codec("h264", "r")

DEVICE_S = 15.0
"""What the first CUDA context of a process may take, before the source counts as late: a driver that nobody used has to
wake all of a node's GPUs first."""


class Nvdec:
    """A stream's place on NVDEC, over all its connections.

    FFmpeg's own decoders run with the pictures made on the GPU, and copied back to system memory. Once that has
    failed, the stream is decoded in software for as long as its process lives, unless it can't do without.

    Args:
        device: index of the CUDA device.
    """

    def __init__(self, device: int = 0) -> None:
        self._device = device
        self._tried: HWAccel | None = None
        self._given_up = False

    @property
    def delay_s(self) -> float:
        """What `accel` may add to the time in which a source is opened."""
        return 0.0 if self._given_up or self._tried is not None else DEVICE_S

    def accel(self, url: str, *, required: bool) -> HWAccel | None:
        """What `av.open` takes as ``hwaccel``; None for software. ``url`` is for messages only.

        PyAV would fail to open the source, and blame it, where there is no GPU; so the device is tried by itself first.

        Raises:
            StreamError: `HWACCEL_UNAVAILABLE`, it is ``required`` and there is no device.
        """
        if self._given_up and not required:
            return None
        return self._new() if self._tried is not None or self._works(url, required=required) else None

    def lost(self) -> bool:
        """Whether the device that worked has gone since: asked where a source can't be opened, which may be why."""
        return self._fault() is not None

    def give_up(self, why: str) -> None:
        """Decode in software from the next connection on."""
        if not self._given_up:
            logger.warning("decodes in software: %s", why)
        self._given_up, self._tried = True, None

    def refused(self, url: str, codec: str, pixel_format: str, *, required: bool) -> None:
        """The decoder fell back to software by itself: the GPU can't decode this video.

        Raises:
            StreamError: `HWACCEL_UNAVAILABLE`, it is ``required``.
        """
        why = f"NVDEC can't decode this video ({codec}, {pixel_format})"
        if required:
            raise StreamError(
                StreamErrorCode.HWACCEL_UNAVAILABLE, f"{place(url)}: {why}: set source.hwaccel to auto or none."
            )
        self.give_up(why)

    def _works(self, url: str, *, required: bool) -> bool:
        fault = self._fault()
        if fault is not None:
            why = f"NVDEC can't be used ({fault}): check NVIDIA's driver, and a container's capability 'video'"
            if required:
                message = f"{place(url)}: {why}; or set source.hwaccel to auto or none."
                raise StreamError(StreamErrorCode.HWACCEL_UNAVAILABLE, message)
            self.give_up(why)
        return fault is None

    def _fault(self) -> str | None:
        """What making a CUDA device raises; None where it can be made, and then it is kept for the next connection."""
        self._tried = None
        try:
            self._tried = self._new().create(_PROBED)
        except (*ReadError, NotImplementedError) as error:
            return type(error).__name__
        return None

    def _new(self) -> HWAccel:
        """On the process's primary context, which all connections share: each would else make one of its own."""
        return HWAccel("cuda", str(self._device), options={"primary_ctx": "1"})


def decoder_name(codec: str, pixel_format: str, *, accelerated: bool) -> str:
    """How a status names the decoder that gave a picture; ``accelerated``: it was opened with a GPU."""
    return f"{codec} (cuda)" if accelerated and pixel_format in _DOWNLOADED else codec


class Nvenc:
    """A stream's place on NVENC, which is one encoder; all others of the stream, and all after a failure, are x264.

    Args:
        device: index of the CUDA device.
    """

    def __init__(self, device: int = 0) -> None:
        self._device = device
        self._holder: H264Encoder | None = None
        self._given_up = False

    def encoder(
        self, first: AvPicture, *, time_base: Fraction, fps: Fraction | None, bitrate: int, gop_s: float
    ) -> H264Encoder | None:
        """An encoder on the GPU; None where there is no place or none can be opened."""
        if self._given_up or (self._holder is not None and not self._holder.closed):
            return None
        try:
            self._holder = H264Encoder(
                first, time_base=time_base, fps=fps, bitrate=bitrate, gop_s=gop_s, device=self._device
            )
        except ReadError as error:
            self.give_up(error)
            return None
        return self._holder

    def give_up(self, error: Exception) -> None:
        """Encode with x264 from now on."""
        self._given_up, self._holder = True, None
        logger.warning("encodes in software: NVENC can't be used (%s)", type(error).__name__)

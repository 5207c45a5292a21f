"""One connection of a source: the URL policy held at the moment of connecting, whatever FFmpeg would do by itself.

==============  ======================================================================================================
http(s), rtmps  FFmpeg connects through `egress`, which checks each host and dials the address that it checked;
                redirects, playlists, keys and segments included; TLS keeps the host's name
rtsp(s)         FFmpeg connects to `rtsp_forward`, which does the same, and follows redirects itself
rtmp, srt       FFmpeg gets a literal address that was checked; both know no redirects
file            the file is opened here, checked once open, and read by FFmpeg by its descriptor
==============  ======================================================================================================
"""

from __future__ import annotations

import errno
import os
import ssl
import time
from typing import Any

import av
from av.container import InputContainer

from deployments.errors import ForbiddenAddress, StreamError, StreamErrorCode
from deployments.streams.media import errors, handshake, options
from deployments.streams.media.egress import Egress
from deployments.streams.media.gpu import Nvdec
from deployments.streams.media.literal import literal, rtmp_options
from deployments.streams.media.rtsp_forward import RtspForward
from deployments.streams.policy import UrlPolicy, open_inside
from deployments.streams.spec import SourceSpec
from deployments.streams.urls import join_credentials

MAX_PIXELS = 8192 * 8192
"""Of a picture: twice what 8K has; larger ones, which a few bytes can claim, are refused before any memory is taken."""

_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""A title in Latin-1 is no reason to refuse a clip; from PyAV 19 on that goes without saying."""


class Connection:
    """Opens a source, for a file again at each round; `close` ends what stands behind it.

    Attributes:
        refusal: the first refusal of an address that the source led to, None so far.
        garbled: set once an RTSP server sent what is none, None so far.
    """

    def __init__(self, spec: SourceSpec, policy: UrlPolicy, timeouts: tuple[float, float], nvdec: Nvdec | None) -> None:
        self._spec = spec
        self._policy = policy
        self._timeouts = timeouts
        self._nvdec = nvdec
        self._scheme = spec.url.partition(":")[0].lower()
        url = join_credentials(spec.url, spec.credentials)
        self._egress = Egress(policy.addresses, max(timeouts), max(timeouts))
        self._forward = RtspForward(url, policy.addresses, timeouts[0]) if self._scheme in ("rtsp", "rtsps") else None

    @property
    def refusal(self) -> ForbiddenAddress | None:
        return self._egress.refusal or (self._forward.refusal if self._forward is not None else None)

    @property
    def garbled(self) -> StreamError | None:
        return self._forward.garbled if self._forward is not None else None

    def close(self) -> None:
        """End the ways out."""
        self._egress.close()
        if self._forward is not None:
            self._forward.close()

    def opened(self) -> InputContainer:
        """The container; raises `RaysightError` and `errors.ReadError`."""
        url = self._policy.check_source(join_credentials(self._spec.url, self._spec.credentials))
        settings = options.options(self._spec, self._scheme, self._timeouts)
        accel = self._nvdec.accel(url, required=self._spec.hwaccel == "cuda") if self._nvdec is not None else None
        how: dict[str, Any] = {"timeout": self._timeouts, "hwaccel": accel, **_LENIENT}
        began = time.monotonic()
        try:
            return self._way(url, settings, how)
        except errors.ReadError as error:
            if self.refusal is not None:
                raise self.refusal from None
            if accel is not None and self._nvdec is not None and self._nvdec.lost():
                return self.opened()
            self._explain(error, url, began)
            if self._scheme not in ("http", "https") or not isinstance(error, errors.NOT_A_FORMAT):
                raise
        return self._playlist(url, settings, how)

    def _way(self, url: str, settings: dict[str, str], how: dict[str, Any]) -> InputContainer:
        forced = options.KINDS[self._scheme].forced
        if self._forward is not None:
            url = self._forward.open()
        elif self._scheme in ("http", "https", "rtmps"):
            settings["http_proxy"] = self._egress.open()
        elif self._scheme in ("rtmp", "srt"):
            settings |= rtmp_options(url) if self._scheme == "rtmp" else {}
            url = literal(url, self._policy.addresses(url))
        elif self._scheme == "file":
            return self._file(url, settings, how)
        return _opened(url, forced, settings, how)

    def _file(self, path: str, settings: dict[str, str], how: dict[str, Any]) -> InputContainer:
        descriptor = open_inside(self._policy.media_root, path)
        try:
            return _opened(f"/proc/self/fd/{descriptor}", None, settings, how)
        finally:
            os.close(descriptor)  # FFmpeg has its own

    def _explain(self, error: BaseException, url: str, began: float) -> None:
        """Raise what the failure really was, where FFmpeg's own error does not tell."""
        if self.garbled is not None:
            raise self.garbled from None
        if self._egress.failure is not None:
            raise self._egress.failure from None
        if isinstance(error, ssl.SSLError):
            raise errors.tls_failed(self._spec.url) from None
        if time.monotonic() - began >= self._timeouts[0]:
            raise errors.timed_out(url) from None  # RTSP calls an answer that never came "invalid data"
        lost = isinstance(error, OSError) and error.errno == errno.EIO
        if lost and handshake.fails(url, self._policy.addresses):
            raise errors.tls_failed(url) from None

    def _playlist(self, url: str, settings: dict[str, str], how: dict[str, Any]) -> InputContainer:
        """Open what was none of the plain formats; raises what opening anything does where it is no playlist either."""
        try:
            return _opened(url, options.PLAYLIST, options.playlist_options(settings), how)
        except errors.ReadError:
            if self.refusal is not None:
                raise self.refusal from None
            raise


def _opened(url: str, form: str | None, settings: dict[str, str], how: dict[str, Any]) -> InputContainer:
    chosen = {**settings, "max_pixels": str(MAX_PIXELS)}
    container: InputContainer = av.open(url, "r", format=form, options=chosen, **how)
    for stream in container.streams.video:
        if stream.codec_context is None:
            continue
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            container.close()
            message = f"{errors.place(url)}: The picture is too large: {MAX_PIXELS // 1_000_000} megapixels at most."
            raise StreamError(StreamErrorCode.CODEC_UNSUPPORTED, message)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # of those that come later
    return container

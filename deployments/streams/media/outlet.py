"""How an output is dialled: the URL policy held at the moment of connecting.

rtsp, rtmp and srt get the literal address that was checked (FFmpeg follows no redirect where it publishes); rtsps and
rtmps keep the host's name, for TLS, and go through an `Egress`, which dials the address that it checked; so does the
signalling of WHIP, whose server names the addresses that media goes to: `webrtc.publish` checks those. A file is
written by the descriptor of its folder, which is checked once open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.media.egress import Egress
from deployments.streams.media.literal import literal
from deployments.streams.policy import UrlPolicy, open_folder

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Way:
    """What to open: a URL or the path of a file, the proxy for TLS where it needs one, the descriptor of its folder.

    The path goes by the descriptor's number; whoever asked for the way closes it. ``private``: whether what the
    server names may lie in private ranges.
    """

    url: str
    proxy: str | None = None
    folder: int | None = None
    private: bool = True

    def close(self) -> None:
        """Give the folder back."""
        if self.folder is not None:
            os.close(self.folder)


class Outlets:
    """The ways out of one stream; those through a proxy stand until the process ends."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy
        # An output has nothing to send while its source is away; its connection ends with the relay.
        self._egress = Egress(self._addresses, TIMEOUT_S, idle_s=None)

    def way(self, url: str) -> Way:
        """How to open an output now; raises as `UrlPolicy.check_output` does."""
        checked = self._policy.check_output(url)
        scheme = url.partition(":")[0].lower()
        if scheme == "file":
            return self._file(Path(checked))
        if scheme in ("whip+http", "whip+https"):
            return Way(checked, self._egress.open(), private=self._policy.allow_private)
        if scheme in ("rtsps", "rtmps"):
            return Way(checked, self._egress.open())
        return Way(literal(checked, self._addresses(url)))

    def _file(self, path: Path) -> Way:
        try:
            folder = open_folder(self._policy.output_root, str(path.parent))
        except OSError as error:
            message = f"The file can't be made ({error.strerror}): check the folder of the output."
            raise StreamError(StreamErrorCode.NOT_FOUND, message) from None
        return Way(f"/proc/self/fd/{folder}/{path.name}", folder=folder)

    def _addresses(self, url: str) -> list[str]:
        return self._policy.addresses(url, field="output.url")

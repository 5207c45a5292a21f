"""How an output is dialled: the URL policy held at the moment of connecting.

rtsp, rtmp and srt get the literal address that was checked (FFmpeg follows no redirect where it publishes); rtsps and
rtmps keep the host's name, for TLS, and go through an `Egress`, which dials the address that it checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.streams.media.egress import Egress
from deployments.streams.media.literal import literal
from deployments.streams.policy import UrlPolicy

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Way:
    """What to open: a URL or the path of a file, and the proxy for TLS where it needs one."""

    url: str
    proxy: str | None = None


class Outlets:
    """The ways out of one stream; those through a proxy stand until the process ends."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy
        self._egress = Egress(self._addresses, TIMEOUT_S)

    def way(self, url: str) -> Way:
        """How to open an output now; raises as `UrlPolicy.check_output` does."""
        checked = self._policy.check_output(url)
        scheme = url.partition(":")[0].lower()
        if scheme == "file":
            return Way(checked)
        if scheme in ("rtsps", "rtmps"):
            return Way(checked, self._egress.open())
        return Way(literal(checked, self._addresses(url)[0]))

    def _addresses(self, url: str) -> list[str]:
        return self._policy.addresses(url, field="output.url")

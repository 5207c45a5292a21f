"""Opens the sources and outputs of one stream; see `deployments.streams.runner.Media`."""

from __future__ import annotations

from collections.abc import Callable

from deployments.streams.hardware import Grant
from deployments.streams.media.audience import Audience
from deployments.streams.media.gpu import Nvdec, Nvenc
from deployments.streams.media.items import Source
from deployments.streams.media.outlet import Outlets
from deployments.streams.media.publisher import Publisher
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import LastError, OutputSpec, SourceSpec


class MediaOpener:
    """Keeps the stream's timeline, so that timestamps go on rising over reconnects, and its places on a GPU.

    Args:
        device: the CUDA device on which ``grant`` is used.
        audience: those who watch the stream live, if any may.
        raw: those who want the source's packets as they are, if any may.
    """

    def __init__(
        self,
        policy: UrlPolicy,
        grant: Grant,
        device: int,
        audience: Audience | None = None,
        raw: Audience | None = None,
    ) -> None:
        self._policy = policy
        self._nvdec = Nvdec(device) if grant.nvdec else None
        self._nvenc = Nvenc(device) if grant.nvenc else None
        self._timeline = Timeline()
        self._audience = audience
        self._raw = raw
        self._outlets = Outlets(policy)

    def open_source(self, spec: SourceSpec, on_opening: Callable[[Source], None]) -> Source:
        """``on_opening`` gets it while it still opens. Raises StreamError, ForbiddenAddress, InvalidSpec."""
        return open_source(spec, self._policy, self._timeline, on_opening=on_opening, nvdec=self._nvdec)

    def open_publisher(
        self, outputs: tuple[OutputSpec, ...], source: Source, on_error: Callable[[str, LastError], None]
    ) -> Publisher:
        """A publisher for what ``source`` turned out to be; it connects in the background."""
        rules = (
            self._timeline.time_base,
            source.audio,
            self._outlets.way,
            self._nvenc,
            on_error,
            self._audience,
            self._raw,
        )
        return Publisher(outputs, source.info, *rules)

"""Opens the sources and outputs of one stream; see `deployments.streams.runner.Media`."""

from __future__ import annotations

from collections.abc import Callable

from deployments.streams.media.items import Source
from deployments.streams.media.publisher import Publisher
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import OutputSpec, SourceSpec


class MediaOpener:
    """Keeps the stream's timeline, so that timestamps go on rising over reconnects."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy
        self._timeline = Timeline()

    def open_source(self, spec: SourceSpec, on_opening: Callable[[Source], None]) -> Source:
        """``on_opening`` gets it while it still opens. Raises StreamError, ForbiddenAddress, InvalidSpec."""
        return open_source(spec, self._policy, self._timeline, on_opening=on_opening)

    def open_publisher(self, outputs: tuple[OutputSpec, ...], source: Source) -> Publisher:
        """A publisher for what ``source`` turned out to be; it connects in the background."""
        return Publisher(outputs, source.info, self._timeline.time_base, source.audio, self._policy.check_output)

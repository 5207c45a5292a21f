"""What a stream needs of the code that reads and writes media; `deployments.streams.media` has the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any, Protocol

from deployments.streams.frame import Picture
from deployments.streams.recording.spec import RecordingStatus
from deployments.streams.sinks.spec import SinkStatus
from deployments.streams.spec import LastError, OutputSpec, OutputStatus, SourceInfo, SourceSpec, StreamSpec


class VideoItem(Protocol):
    """A decoded frame as a source hands it over."""

    picture: Picture
    pts: int
    time_base: Fraction
    captured_at: float
    decoded_at: float
    decode_s: float
    stretch: int
    packets: tuple[Any, ...]


class Source(Protocol):
    """An open source; another thread may interrupt it, which ends its items."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def audio(self) -> Any: ...

    def items(self) -> Iterator[Any]: ...

    def interrupt(self) -> None: ...


class Publisher(Protocol):
    """Encodes once for each distinct setting and feeds the outputs; safe to call from several threads."""

    @property
    def active(self) -> bool: ...

    @property
    def wants_annotated(self) -> bool: ...

    @property
    def wants_slate(self) -> bool: ...

    def write(
        self,
        pts: int,
        plain: Picture | None,
        annotated: Picture | None,
        on_sent: Callable[[float], None] | None = None,
    ) -> int: ...

    def write_slate(self, pts: int, picture: Picture) -> int: ...

    def write_packets(self, packets: tuple[Any, ...]) -> None: ...

    def write_audio(self, item: Any) -> None: ...

    def update(self, outputs: tuple[OutputSpec, ...]) -> None: ...

    def statuses(self) -> tuple[OutputStatus, ...]: ...

    def close(self) -> None: ...


class EventSinks(Protocol):
    """Where events are sent; nothing here waits for a server but `close`, for so long at most."""

    def offer(self, sequence: int, event: bytes, in_zones: tuple[bytes, ...]) -> None: ...

    def update(self, spec: StreamSpec) -> None: ...

    def statuses(self) -> tuple[SinkStatus, ...]: ...

    def close(self, timeout_s: float) -> None: ...


class Recording(Protocol):
    """Who makes clips; nothing here waits but `close`, for so long at most."""

    def offer(self, sequence: int, event: bytes, in_zones: tuple[bytes, ...]) -> None: ...

    def update(self, spec: StreamSpec) -> None: ...

    def status(self) -> RecordingStatus | None: ...

    def close(self, timeout_s: float) -> None: ...


class Media(Protocol):
    """Opens sources and publishers."""

    def open_source(self, spec: SourceSpec, on_opening: Callable[[Any], None]) -> AbstractContextManager[Source]:
        """``on_opening`` gets the source, to be interrupted, while it is still opening."""
        ...

    def open_publisher(
        self, outputs: tuple[OutputSpec, ...], source: Any, on_error: Callable[[str, LastError], None]
    ) -> Publisher:
        """``on_error`` gets the URL of an output that broke, and how; it may come from any thread."""
        ...

"""Whole streams in this process, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from deployments.streams.media.opener import MediaOpener
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import StreamSpec
from tests.support.detectors import LocalDetector, fake_engine


class Run(Protocol):
    """Starts a stream; ``further`` goes to `StreamRunner`."""

    def __call__(self, spec: StreamSpec, media: MediaOpener, **further: Any) -> StreamRunner: ...


@contextmanager
def running() -> Iterator[Run]:
    """Streams that are started here, each with a `FakeEngine` of its own, end with the block."""
    started: list[tuple[StreamRunner, LocalDetector]] = []

    def run(spec: StreamSpec, media: MediaOpener, **further: Any) -> StreamRunner:
        detector = LocalDetector(fake_engine(side=320))
        common: dict[str, Any] = {"epoch": 1, "first_sequence": 0, "node": "here"}
        runner = StreamRunner(spec, 1, detector, media, observe=lambda stage, seconds: None, **common, **further)
        started.append((runner, detector))
        runner.start()
        return runner

    try:
        yield run
    finally:
        for runner, detector in started:
            runner.stop(20)
            detector.close()

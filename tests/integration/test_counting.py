"""People on the shipped clip, found by the shipped model, counted as they cross a line: the whole path in one process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from deployments.detector.config import DetectorConfig
from deployments.errors import StreamError
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.pipeline import Pipeline
from deployments.streams.policy import UrlPolicy
from engines.choose import open_engine
from engines.package import load_package
from tests.support.detectors import LocalDetector
from tests.support.streams import spec
from tests.support.waiting import until

LINE = {"name": "line", "kind": "line", "points": [[0.72, 0.42], [0.72, 0.72]], "classes": ["person"]}
"""Upright, across the right half of the path; who walks to the picture's left goes to its right side."""


class ShippedDetector(LocalDetector):
    """The model that ships, on the CPU."""

    def __init__(self) -> None:
        super().__init__(open_engine(load_package(DetectorConfig().package), ("cpu",), 2))

    def close(self) -> None:
        for service in self._services:
            service.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_people_are_counted_as_they_cross_a_line(street_clip: Path, tmp_path: Path) -> None:
    detector = ShippedDetector()
    wanted = spec(
        source={"url": f"file:{street_clip.name}", "realtime": False},
        detect={"max_fps": 12.5, "classes": ["person"]},
        track={},
        zones=[LINE],
    )
    pipeline = Pipeline(wanted, detector, first_sequence=0, observe=lambda stage, seconds: None)
    policy = UrlPolicy(media_root=street_clip.parent, output_root=tmp_path)
    pipeline.start()
    try:
        until(lambda: pipeline.annotator.names != (), 60)
        with open_source(wanted.source, policy, Timeline()) as source, pytest.raises(StreamError, match="ended"):
            pipeline.decode(source)
        until(lambda: (counts := pipeline.ledger.snapshot()).in_flight == counts.queued == 0, 60)
        assert pipeline.ledger.snapshot().inferred == 398
        (line,) = pipeline.follower.zones
        told = [json.loads(event) for events in pipeline.events.wait(-1, 0).in_zones.values() for event in events]
    finally:
        pipeline.stop(20)
        detector.close()
    crossed = {way: counts.get("person", 0) for way, counts in line.crossed.items()}
    assert Counter(event["direction"] for event in told) == Counter(crossed)
    print(crossed)

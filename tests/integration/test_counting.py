"""People on the shipped clip, found by the shipped model, counted as they cross a line: all in one process."""

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

BY_HAND = {
    "left_to_right": (12, 45, 53, 138, 156, 227, 252, 260, 455, 510, 605, 635, 673, 725, 745),
    "right_to_left": (124, 172, 187, 360, 376, 470, 495, 610, 728, 735, 775),
}
"""Frames in which people cross the line, counted by eye: on the picture that its pixels make over time, and on those
nine frames before and after each crossing."""

NEAR = 25
"""Frames within which a crossing that was counted is one that was seen."""


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
    nameless = pipeline.annotator
    pipeline.start()
    try:
        until(lambda: pipeline.annotator is not nameless, 60)
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
    for way, frames in BY_HAND.items():
        counted = [event["sequence"] for event in told if event["direction"] == way]
        missed = [frame for frame in frames if not any(abs(frame - other) <= NEAR for other in counted)]
        assert len(missed) <= 1, (way, counted)
        assert abs(len(counted) - len(frames)) <= 2, (way, counted)

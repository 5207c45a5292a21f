"""Clips around events, over a whole stream in this process: real media, a fake engine, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from deployments.streams.hardware import NOTHING
from deployments.streams.media.audience import Audience
from deployments.streams.media.opener import MediaOpener
from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.recorder import Recorder
from deployments.streams.recording.shelf import Shelf
from deployments.streams.recording.spec import RecordingStatus
from deployments.streams.recording.thumbnail import thumbnail
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import StreamSpec, VideoCounts
from tests.support.live_http import LiveHttp, Part, units
from tests.support.media import make_clip
from tests.support.running import running
from tests.support.waiting import until

Start = Callable[..., StreamRunner]
SEEN = range(75, 100)
"""The frames, 25 a second, on which there is something to find."""


def draw(number: int, width: int, height: int) -> av.VideoFrame:
    picture = av.VideoFrame(width, height, "yuv420p")
    for index, plane in enumerate(picture.planes):
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        samples[:] = 30 + number % 8 if index == 0 else 128
        if index == 0 and number in SEEN:
            samples[height // 4 : height // 2, width // 4 : width // 2] = 220
    return picture


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    policy = UrlPolicy(media_root=tmp_path, output_root=tmp_path)
    with running() as run:

        def start(source: dict[str, Any], record: dict[str, Any]) -> StreamRunner:
            spec = StreamSpec.model_validate({"id": "gate", "source": source, "record": record})
            raw = Audience()
            media = MediaOpener(policy, NOTHING, 0, None, raw)
            return run(
                spec, media, recording=lambda pipeline: Recorder(spec, policy, raw, partial(thumbnail, pipeline))
            )

        yield start


def shelf(folder: Path) -> Shelf:
    return Shelf(UrlPolicy(media_root=folder, output_root=folder), "gate")


def recording(runner: StreamRunner) -> RecordingStatus:
    status = runner.status().recording
    assert status is not None
    return status


def test_an_event_leaves_a_clip_of_what_was_before_and_after_it(start: Start, tmp_path: Path) -> None:
    with LiveHttp(lambda: units(Part(400), draw=draw)) as camera:
        runner = start({"url": camera.url}, {"before_s": 1, "after_s": 1, "classes": ["bright"]})
        until(lambda: recording(runner).clips == 1, 40)
        assert recording(runner).state == "waiting"
        assert runner.status().video == VideoCounts()
    (clip,) = shelf(tmp_path).clips()
    assert clip.label == "bright"
    assert clip.key.startswith("gate/")
    path = tmp_path / "clips" / "gate" / f"{clip.name}.mp4"
    assert path.stat().st_size == clip.size_bytes
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = list(container.decode(video=0))
    assert frames[0].key_frame
    assert not any(frame.is_corrupt for frame in frames)
    bright = [number for number, frame in enumerate(frames) if frame.to_ndarray(format="gray").max() > 150]
    assert len(bright) == len(SEEN)
    assert 25 <= bright[0] <= 25 + 12 + 2  # a second, and up to a GOP
    assert 20 <= len(frames) - 1 - bright[-1] <= 27
    assert clip.seconds == pytest.approx(len(frames) / 25, abs=0.2)
    picture = cv2.imread(str(path.with_suffix(".jpg")))
    assert picture is not None
    assert picture.shape[:2] == (240, 320)
    assert not list((tmp_path / "clips" / "gate" / "writing").iterdir())


def test_what_goes_on_is_continued_in_a_further_clip(start: Start, tmp_path: Path) -> None:
    make_clip(tmp_path / "always.mp4", frames=250)  # there is something on every picture
    runner = start({"url": "file:always.mp4", "loop": True}, {"before_s": 0, "after_s": 1, "longest_s": 2})
    until(lambda: recording(runner).clips >= 2, 40)
    runner.stop(20)
    clips = shelf(tmp_path).clips()
    assert len(clips) == recording(runner).clips
    earlier, later = clips[-1], clips[-2]
    assert earlier.seconds == pytest.approx(2, abs=0.6)
    assert later.started_at - (earlier.started_at + earlier.seconds) < 0.1  # nothing is missing in between


def test_events_that_do_not_count_leave_none_and_a_foreign_codec_is_told(start: Start, tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", frames=50)
    runner = start({"url": "file:plain.mp4", "loop": True}, {"classes": ["unheard-of"]})
    until(lambda: runner.status().frames.inferred > 30)
    assert recording(runner) == RecordingStatus()
    runner.stop(20)
    make_clip(tmp_path / "motion.mkv", codec="mjpeg", frames=50)
    runner = start({"url": "file:motion.mkv", "loop": True}, {})
    until(lambda: recording(runner).state == "failing")
    assert "the source sends mjpeg" in (recording(runner).last_error or "")
    assert shelf(tmp_path).clips() == ()

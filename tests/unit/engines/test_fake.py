"""The fake engine: its answers, its time, its failures."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.errors import EngineDead, InferenceFailed
from engines.fake import FakeEngine
from engines.protocol import Engine
from engines.types import Thresholds, UInt8Array

LIMITS = Thresholds()


def _frame(left: int, top: int, right: int, bottom: int, value: int = 255) -> UInt8Array:
    frame = np.full((48, 64, 3), 20, np.uint8)
    frame[top:bottom, left:right, 1] = value
    return frame


def _engine(fixed_ms: float = 0, per_frame_ms: float = 0) -> FakeEngine:
    return FakeEngine(fixed_ms, per_frame_ms, max_batch_size=4, width=64, height=48)


def test_each_frame_gets_the_box_of_its_bright_area() -> None:
    engine: Engine = _engine()
    engine.warmup()
    batch = [_frame(3, 5, 20, 30), _frame(63, 47, 64, 48, 204), _frame(0, 0, 0, 0)]
    first, second, dark = engine.infer(batch, [LIMITS] * 3)
    assert first.xyxy.tolist() == [[3, 5, 20, 30]]
    assert second.xyxy.tolist() == [[63, 47, 64, 48]]
    np.testing.assert_allclose(second.confidence, [0.8])
    assert first.class_id.tolist() == [0]
    assert len(dark) == 0


def test_thresholds_count() -> None:
    batch = [_frame(3, 5, 20, 30, 204)] * 3
    limits = [Thresholds(confidence=0.7), Thresholds(confidence=0.9), Thresholds(max_detections=0)]
    assert [len(found) for found in _engine().infer(batch, limits)] == [1, 0, 0]


def test_a_batch_takes_at_least_its_time() -> None:
    engine = _engine(fixed_ms=10, per_frame_ms=5)
    batch = [_frame(3, 5, 20, 30)] * 3
    began = time.monotonic()
    engine.infer(batch, [LIMITS] * 3)
    assert time.monotonic() - began >= 0.025


def test_a_batch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 1 to 4 frames, got 5"):
        _engine().infer([_frame(3, 5, 20, 30)] * 5, [LIMITS] * 5)
    with pytest.raises(ValueError, match=r"takes uint8 \[48, 64, 3\], got uint8 \[48, 63, 3\]"):
        _engine().infer([_frame(3, 5, 20, 30)[:, 1:]], [LIMITS])


def test_fail_next_fails_so_many_batches() -> None:
    engine = _engine()
    batch = [_frame(3, 5, 20, 30)]
    engine.fail_next(2)
    for _ in range(2):
        with pytest.raises(InferenceFailed):
            engine.infer(batch, [LIMITS])
    assert len(engine.infer(batch, [LIMITS])[0]) == 1


def test_death_and_closing_last() -> None:
    died, closed = _engine(), _engine()
    died.die()
    closed.close()
    for engine, reason in ((died, "told to die"), (closed, "closed")):
        for _ in range(2):
            with pytest.raises(EngineDead, match=reason):
                engine.infer([_frame(3, 5, 20, 30)], [LIMITS])


@pytest.mark.parametrize(("release", "outcome"), [("resume", "1"), ("die", "dead"), ("close", "dead")])
def test_a_hang_lasts_until_it_is_ended(release: str, outcome: str) -> None:
    engine = _engine()
    engine.hang()
    outcomes: list[str] = []

    def run() -> None:
        try:
            outcomes.append(str(len(engine.infer([_frame(3, 5, 20, 30)], [LIMITS])[0])))
        except EngineDead:
            outcomes.append("dead")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(0.05)
    assert outcomes == []
    getattr(engine, release)()
    thread.join(10)
    assert outcomes == [outcome]


def test_it_hangs_while_there_is_a_file_of_that_name(tmp_path: Path) -> None:
    engine = FakeEngine(hang_while=tmp_path / "hang")
    image = np.zeros((1, 416, 416, 3), np.uint8)
    (tmp_path / "hang").touch()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(engine.infer, image, [Thresholds()])
        with pytest.raises(TimeoutError):
            hanging.result(0.1)
        (tmp_path / "hang").unlink()
        assert len(hanging.result(10)[0]) == 0

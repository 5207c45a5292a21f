"""Comparing engines, finding what leaks, and timing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.benchmark import benchmark, sizes
from engines.errors import EngineError
from engines.fake import FakeEngine
from engines.onnx import OnnxEngine
from engines.types import Detections, EngineInfo
from engines.verify import Difference, Growth, Tolerance, compare, frames_of, generated_frames, leaks, verify
from tests.support.accelerators import FakeNetwork
from tests.support.built import built_package
from tests.unit.engines.test_pipelined import Rig

TOLERANCE = Tolerance(1.0, 0.01)


def objects(*rows: tuple[float, float, float, int]) -> Detections:
    """Boxes of 10 x 10 at left, top, with a confidence and a class."""
    boxes = np.array([[left, top, left + 10, top + 10] for left, top, _, _ in rows], np.float32).reshape(-1, 4)
    confidence = np.array([row[2] for row in rows], np.float32)
    return Detections(boxes, confidence, np.array([row[3] for row in rows], np.int32))


ROWS = st.lists(
    st.tuples(st.integers(0, 20).map(float), st.integers(0, 20).map(float), st.floats(0.3, 1.0), st.integers(0, 2)),
    max_size=8,
)


@given(ROWS, st.randoms())
def test_what_is_found_in_another_order_is_the_same(rows: list[tuple[float, float, float, int]], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    difference = compare(objects(*rows), objects(*shuffled), TOLERANCE, 0.2)
    assert difference.agrees
    assert difference.compared == len(rows)


@given(ROWS, ROWS)
def test_each_object_is_counted_once(
    left: list[tuple[float, float, float, int]], right: list[tuple[float, float, float, int]]
) -> None:
    difference = compare(objects(*left), objects(*right), TOLERANCE, 0.2)
    assert difference.compared + difference.missed == len(left)
    assert difference.compared + difference.extra == len(right)
    assert difference.box <= TOLERANCE.box
    assert difference.score <= TOLERANCE.score


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ((5.5, 5, 0.9, 1), Difference(1, 0.5, 0.0)),
        ((5, 5, 0.895, 1), Difference(1, 0.0, 0.005)),
        ((7, 5, 0.9, 1), Difference(missed=1, extra=1)),
        ((5, 5, 0.8, 1), Difference(missed=1, extra=1)),
        ((5, 5, 0.9, 2), Difference(1, tied=1)),
    ],
)
def test_what_counts_as_the_same_object(found: tuple[float, float, float, int], difference: Difference) -> None:
    seen = compare(objects((5, 5, 0.9, 1)), objects(found), TOLERANCE, 0.2)
    assert (seen.compared, seen.missed, seen.extra) == (difference.compared, difference.missed, difference.extra)
    assert seen.tied == difference.tied
    assert (seen.box, seen.score) == pytest.approx((difference.box, difference.score), abs=1e-6)


@pytest.mark.parametrize(("tied", "agrees"), [(0, True), (2, True), (3, False)])
def test_rounding_may_decide_between_two_classes_but_not_often(tied: int, agrees: bool) -> None:
    assert Difference(compared=100, tied=tied).agrees is agrees


def test_a_box_of_the_same_class_comes_before_a_closer_one_of_another() -> None:
    difference = compare(objects((5, 5, 0.9, 1)), objects((5.5, 5, 0.9, 1), (5, 5, 0.9, 2)), TOLERANCE, 0.2)
    assert (difference.compared, difference.tied, difference.extra, difference.box) == (1, 0, 1, 0.5)


def test_what_lies_at_the_threshold_may_be_on_either_side_of_it() -> None:
    assert compare(objects((5, 5, 0.204, 1)), objects((5, 5, 0.196, 1)), TOLERANCE, 0.2).agrees
    assert compare(objects((5, 5, 0.195, 1)), objects(), TOLERANCE, 0.2).agrees
    assert not compare(objects((5, 5, 0.205, 1)), objects(), TOLERANCE, 0.2).agrees


class Shifted(FakeEngine):
    """Finds everything one pixel further on in the last frame of batches of three."""

    def infer(self, frames: Any, thresholds: Any) -> list[Detections]:
        found = super().infer(frames, thresholds)
        if len(frames) == 3:
            found[-1] = Detections(found[-1].xyxy + 1, found[-1].confidence, found[-1].class_id)
        return found


def test_a_batch_size_that_differs_is_named() -> None:
    frames = [np.zeros((20, 30, 3), np.uint8) for _ in range(5)]
    for number, frame in enumerate(frames):
        frame[number, number] = 255
    engine, reference = (kind(max_batch_size=4, width=30, height=20) for kind in (Shifted, FakeEngine))
    rows = dict(verify(engine, reference, frames, Tolerance(0.5, 0.01)))
    assert list(rows) == [1, 2, 3, 4]
    assert [size for size, difference in rows.items() if not difference.agrees] == [3]
    assert rows[3] == Difference(2, 0.0, 0.0, 1, 1)
    assert rows[4] == Difference(4)


def test_a_pipelined_engine_is_compared_with_batches_under_way() -> None:
    rig = Rig()
    frames = [np.full((4, 6, 3), 1, np.uint8) for _ in range(3)]
    rows = list(verify(rig.engine, rig.engine, frames, TOLERANCE))
    assert [size for size, _ in rows] == [1, 2, 3, 4, 5]
    assert all(difference == Difference(size) for size, difference in rows)
    rig.engine.close()


def test_slots_that_give_everything_back_do_not_leak() -> None:
    rig = Rig()
    rounds: list[None] = []
    growth = leaks(rig.engine, np.zeros((4, 6, 3), np.uint8), 30, lambda: rounds.append(None))
    assert growth.device_bytes == 0
    assert growth.files == 0
    assert not growth.leaks
    assert len(rounds) == 30
    rig.engine.close()


def test_device_memory_that_is_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    made = FakeNetwork.runner

    def keep(self: FakeNetwork, *args: Any) -> Any:
        self.accelerator.memory(1 << 20)
        return made(self, *args)

    monkeypatch.setattr(FakeNetwork, "runner", keep)
    growth = leaks(rig.engine, np.zeros((4, 6, 3), np.uint8), 30, lambda: None)
    assert growth.device_bytes == 30 << 20
    assert growth.leaks


@pytest.mark.parametrize(
    ("growth", "is_leak"),
    [
        (Growth(0, 0, 0), False),
        (Growth(1 << 20, 1 << 20, -1), False),
        (Growth(0, 0, 1), True),
        (Growth(17 << 20, 0, 0), True),
        (Growth(0, 17 << 20, 0), True),
    ],
)
def test_what_counts_as_a_leak(growth: Growth, is_leak: bool) -> None:
    assert growth.leaks == is_leak


INFO = EngineInfo("any", "any", 64, 48, "rgb", ("a",), 1, "cpu")


def test_generated_frames_are_the_same_each_time_and_differ_from_each_other() -> None:
    frames = generated_frames(INFO, 4)
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    for one, again in zip(frames, generated_frames(INFO, 4), strict=True):
        np.testing.assert_array_equal(one, again)
    assert len({frame.tobytes() for frame in frames}) == 4


def test_pictures_are_letterboxed_in_the_engines_colours(tmp_path: Path) -> None:
    picture = np.zeros((48, 32, 3), np.uint8)
    picture[:] = 10, 20, 30
    cv2.imwrite(str(tmp_path / "b.png"), picture)
    (tmp_path / "notes.txt").write_text("no picture")
    (frame,) = frames_of(tmp_path, INFO)
    assert frame.shape == (48, 64, 3)
    assert frame[0, 0].tolist() == [114, 114, 114]
    assert frame[24, 32].tolist() == [30, 20, 10]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no pictures"):
        frames_of(tmp_path, INFO)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(EngineError, match=r"torn\.png can't be read"):
        frames_of(tmp_path, INFO)
    with pytest.raises(EngineError, match="can't read the folder"):
        frames_of(tmp_path / "gone", INFO)


def test_an_engine_is_as_fast_as_it_plays() -> None:
    engine = FakeEngine(fixed_ms=4, per_frame_ms=2, max_batch_size=3, width=16, height=8)
    figures = list(benchmark(engine, [np.zeros((8, 16, 3), np.uint8)], 0.1, None))
    assert [each.batch for each in figures] == list(sizes(3)) == [1, 2, 3]
    for each in figures:
        least_ms = 4 + 2 * each.batch
        assert least_ms <= each.p50_ms <= each.p95_ms <= each.p99_ms
        assert each.fps <= 1000 * each.batch / least_ms
        assert each.utilisation_of == "cpu"
        assert 0 <= each.utilisation <= 100


@pytest.mark.parametrize(("fps", "fit"), [(25.0, (1, 0, 0)), (24.9, (0, 0, 0)), (599.9, (23, 19, 9))])
def test_streams_that_fit_are_whole(fps: float, fit: tuple[int, int, int]) -> None:
    engine = FakeEngine(width=16, height=8, max_batch_size=1)
    (figures,) = benchmark(engine, [np.zeros((8, 16, 3), np.uint8)], 0.01, None)
    assert tuple(type(figures)(1, 1, 1, 1, fps, 0, "cpu").streams(rate) for rate in (25, 30, 60)) == fit


def test_batches_under_way_overlap_while_frames_a_second_are_measured() -> None:
    rig = Rig()
    most: list[int] = []
    launch = rig.engine.start

    def start(*args: Any) -> Any:
        ticket = launch(*args)
        most.append(sum(slot not in rig.engine._idle for slot in rig.engine._slots))
        return ticket

    rig.engine.start = start  # type: ignore[method-assign]
    list(benchmark(rig.engine, [np.zeros((4, 6, 3), np.uint8)], 0.02, None))
    assert max(most) == rig.engine.depth
    rig.engine.close()


def test_a_real_engine_agrees_with_itself(tmp_path: Path) -> None:
    package = built_package(tmp_path)
    engine, reference = OnnxEngine(package, max_batch_size=4), OnnxEngine(package, max_batch_size=1)
    rows = dict(verify(engine, reference, generated_frames(engine.info, 6), TOLERANCE))
    assert all(difference.agrees and difference.compared for difference in rows.values())
    engine.close()
    reference.close()

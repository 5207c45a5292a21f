"""Frames go through an engine in order, in batches, and boxes come back in the frames' own pixels."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import EvaluationError, InferenceFailed
from engines.evaluation.frames import Frame, open_footage, read_picture
from engines.evaluation.run import THRESHOLDS, detect
from engines.fake import FakeEngine
from engines.types import Detections, Thresholds, UInt8Array


class Watched(FakeEngine):
    """A `FakeEngine` that remembers how it was called."""

    def __init__(self, max_batch_size: int, lanes: int = 1) -> None:
        super().__init__(max_batch_size=max_batch_size, width=80, height=60, lanes=lanes)
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.thresholds: set[Thresholds] = set()

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        """Remember, and find."""
        self.batches.append(len(frames))
        self.threads.add(threading.get_ident())
        self.thresholds.update(thresholds)
        return super().infer(frames, thresholds)


def picture(index: int, width: int = 160, height: int = 120) -> UInt8Array:
    """Dark, with a bright square at a place that tells the index."""
    canvas = np.full((height, width, 3), 10, np.uint8)
    canvas[20:60, 2 * index : 2 * index + 40] = 200
    return canvas


def frames(count: int) -> list[Frame]:
    """That many of them."""
    return [Frame(f"{index}", partial(picture, index)) for index in range(count)]


@pytest.mark.parametrize(("size", "lanes"), [(1, 1), (4, 1), (4, 3), (32, 1), (1, 2)])
def test_frames_come_back_in_order_and_in_their_own_pixels(size: int, lanes: int) -> None:
    engine = Watched(size, lanes)
    done: list[int] = []
    found = list(detect(engine, frames(23), done.append))
    assert [each.xyxy.tolist() for each in found] == [[[2 * x, 20, 2 * x + 40, 60]] for x in range(23)]
    assert sorted(engine.batches, reverse=True) == [size] * (23 // size) + ([23 % size] if 23 % size else [])
    assert sum(done) == 23
    assert engine.thresholds == {THRESHOLDS}


def test_an_engine_with_one_lane_is_called_by_the_thread_that_made_it() -> None:
    engine = Watched(4)
    list(detect(engine, frames(9), lambda _: None))
    assert engine.threads == {threading.get_ident()}


def test_frames_of_another_shape_are_letterboxed() -> None:
    tall = np.full((400, 100, 3), 10, np.uint8)
    tall[100:200, 20:80] = 220
    (found,) = detect(Watched(2), [Frame("tall", lambda: tall)], lambda _: None)
    np.testing.assert_allclose(found.xyxy, [[20, 100, 80, 200]], atol=400 / 60)
    assert found.xyxy[0, 3] <= 400


def test_few_frames_are_read_ahead() -> None:
    """However many there are: a video would fill the memory otherwise."""
    begun: list[int] = []

    def endless() -> object:
        for index in range(10_000):
            begun.append(index)
            yield Frame(f"{index}", partial(picture, 1))

    answers = detect(Watched(4), endless(), lambda _: None)  # type: ignore[arg-type]
    next(answers)
    assert len(begun) <= 12
    answers.close()  # type: ignore[attr-defined]


def test_the_engine_gets_its_order_of_channels() -> None:
    seen: list[UInt8Array] = []

    class Rgb(FakeEngine):
        @property
        def info(self):  # type: ignore[no-untyped-def]
            from dataclasses import replace

            return replace(super().info, colour="rgb")

        def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
            seen.extend(frames)
            return super().infer(frames, thresholds)

    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 250  # BGR
    list(detect(Rgb(width=16, height=16), [Frame("red", lambda: red)], lambda _: None))
    assert seen[0][0, 0].tolist() == [250, 0, 0]


def test_what_fails_ends_the_run() -> None:
    engine = Watched(2)
    engine.fail_next()
    with pytest.raises(InferenceFailed):
        list(detect(engine, frames(5), lambda _: None))

    def damaged() -> UInt8Array:
        raise EvaluationError("3.png does not decode; replace it")

    with pytest.raises(EvaluationError, match=r"3\.png"):
        list(detect(Watched(2, lanes=2), [*frames(3), Frame("3", damaged), *frames(9)], lambda _: None))


def test_a_folder_gives_its_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.PNG"):
        cv2.imwrite(str(tmp_path / name), picture(1))
    (tmp_path / "notes.txt").write_text("no picture")
    footage = open_footage(tmp_path)
    assert footage.count == 3
    assert [frame.name for frame in footage.frames()] == ["a.jpg", "b.png", "c.PNG"]
    assert [frame.name for frame in open_footage(tmp_path, 2).frames()] == ["a.jpg", "b.png"]
    assert next(footage.frames()).read().shape == (120, 160, 3)


def test_a_video_gives_its_frames_each_time_anew(street_clip: Path) -> None:
    footage = open_footage(street_clip, 5)
    assert footage.count == 5
    first = [frame.read() for frame in footage.frames()]
    second = [frame.read() for frame in footage.frames()]
    assert [frame.shape for frame in first] == [(576, 768, 3)] * 5
    assert not np.array_equal(first[0], first[4])
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert open_footage(street_clip).count == 796


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "doesn't exist; name a folder"),
        (lambda path: path.mkdir(), "has no images"),
        (lambda path: path.write_text("no video"), "no frame that OpenCV can decode"),
        (lambda path: (path.mkdir(), (path / "a.png").write_text("x")), "a.png is no image that OpenCV knows"),
    ],
)
def test_what_gives_no_frames_is_refused(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "it")  # type: ignore[operator]
    with pytest.raises(EvaluationError, match=message):
        open_footage(tmp_path / "it")


def test_a_picture_of_another_size_or_that_is_gone_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(1))
    with pytest.raises(EvaluationError, match=r"a\.png is 160x120, but its labels are of 120x160"):
        read_picture(tmp_path / "a.png", (120, 160))
    with pytest.raises(EvaluationError, match=r"can't read .*b\.png \(No such file"):
        read_picture(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kept", [0, 20, 0.5, 0.9])
def test_a_picture_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    """Half a JPEG would be measured as a picture that is grey below."""
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    with pytest.raises(EvaluationError, match=r"a\.\w+ does not decode; replace it"):
        read_picture(path)

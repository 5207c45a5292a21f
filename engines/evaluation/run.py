"""An engine over many frames: reading ahead, letterboxing, batches, boxes back in the frames' own pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from engines.cores import available_cores
from engines.evaluation.frames import Frame
from engines.letterbox import Letterbox
from engines.protocol import Engine
from engines.types import Detections, EngineInfo, Thresholds, UInt8Array

_In = TypeVar("_In")
_Out = TypeVar("_Out")

THRESHOLDS = Thresholds(confidence=0.001, iou=0.7, max_detections=300)
"""As detectors are commonly evaluated: all but the least likely boxes count, since AP ranks them by confidence."""


class Prepared(NamedTuple):
    """A frame in the model's input, and where it lies there."""

    canvas: UInt8Array
    letterbox: Letterbox


def detect(
    engine: Engine,
    frames: Iterable[Frame],
    advance: Callable[[int], None],
    thresholds: Thresholds = THRESHOLDS,
) -> Iterator[Detections]:
    """Find the objects of each frame, in order, in the frame's own pixels.

    Frames are read and letterboxed ahead, at most two rounds of batches, on as many threads as there are cores. An
    engine with one lane is called by the thread that asks for the results, which must be the one that made it.

    Args:
        advance: is told the number of frames after each batch.

    Raises:
        EvaluationError: a frame can't be read.
        InferenceFailed, EngineDead: the engine failed; see `Engine.infer`.
    """
    info = engine.info

    def infer(batch: list[Prepared]) -> list[Detections]:
        found = engine.infer([frame.canvas for frame in batch], [thresholds] * len(batch))
        return [_restore(each, frame.letterbox) for each, frame in zip(found, batch, strict=True)]

    with ExitStack() as stack:
        readers = stack.enter_context(ThreadPoolExecutor(available_cores(), "read"))
        rounds = 2 * info.max_batch_size * engine.lanes
        prepared = _ahead(readers, lambda frame: prepare(frame.read(), info), frames, rounds)
        batches = _batches(prepared, info.max_batch_size)
        if engine.lanes == 1:
            answers: Iterator[list[Detections]] = map(infer, batches)
        else:
            lanes = stack.enter_context(ThreadPoolExecutor(engine.lanes, "lane"))
            answers = _ahead(lanes, infer, batches, engine.lanes)
        for answer in answers:
            yield from answer
            advance(len(answer))


def prepare(picture: UInt8Array, info: EngineInfo) -> Prepared:
    """Letterbox a BGR picture, and bring it into the engine's order of channels."""
    height, width = picture.shape[:2]
    letterbox = Letterbox.fit(width, height, info.width, info.height, info.letterbox, info.pad)
    canvas = letterbox.apply(picture)
    if info.colour == "rgb":
        canvas = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB), np.uint8)
    return Prepared(canvas, letterbox)


def _restore(found: Detections, letterbox: Letterbox) -> Detections:
    return Detections(letterbox.undo(found.xyxy), found.confidence, found.class_id)


def _ahead(pool: Executor, work: Callable[[_In], _Out], items: Iterable[_In], depth: int) -> Iterator[_Out]:
    """Results in order, with at most ``depth`` items begun and not yet asked for."""
    source, begun = iter(items), deque[Future[_Out]]()
    try:
        while True:
            begun.extend(pool.submit(work, item) for item in islice(source, depth - len(begun)))
            if not begun:
                return
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()


def _batches(items: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch

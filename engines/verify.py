"""Whether an engine finds what ONNX Runtime finds on the CPU, and gives back all the memory that it takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from engines.errors import EngineError
from engines.letterbox import Letterbox
from engines.pipelined import PipelinedEngine
from engines.protocol import Engine
from engines.types import Detections, EngineInfo, Thresholds, UInt8Array

CONFIDENCE = 0.1
"""Objects below this are not compared: low enough for generated frames to have some."""

SETTLE_ROUNDS = 20
"""Rounds before memory is measured for the first time: allocators keep what they were given once."""

MAX_GROWTH_BYTES = 16 << 20
"""Of the process and of the device, over all rounds: less than one slot of 32 frames of 640x640, which takes 39 MB."""

MOST_TIED = 0.02
"""Part of the objects that may come out as another class, with the score that they should have: where a box's two best
classes are as good as equal, rounding decides. Generated frames have many such boxes."""

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two engines may be apart.

    Attributes:
        box: pixels of the input, for each side of a box.
        score: of the confidence.
    """

    box: float
    score: float


TOLERANCES = {"fp32": Tolerance(0.5, 0.005), "fp16": Tolerance(2.0, 0.02)}
"""By precision. GPUs multiply float32 as TF32, whose 10 bits of mantissa float16 has too, but adds up in float32; in
float16 coordinates above 512 lie half a pixel apart, and what is worked out from them a little more."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What two engines found in the same frames.

    Attributes:
        compared: pairs of objects that belong together.
        box, score: the largest difference among them, in pixels and in confidence.
        missed: objects that only the reference has.
        extra: objects that only the other one has.
        tied: objects that both have, each as another class.
    """

    compared: int = 0
    box: float = 0.0
    score: float = 0.0
    missed: int = 0
    extra: int = 0
    tied: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.compared + other.compared,
            max(self.box, other.box),
            max(self.score, other.score),
            self.missed + other.missed,
            self.extra + other.extra,
            self.tied + other.tied,
        )

    @property
    def agrees(self) -> bool:
        """Whether each object has its counterpart, nearly always of the same class."""
        return not self.missed and not self.extra and self.tied <= MOST_TIED * self.compared


def compare(reference: Detections, found: Detections, tolerance: Tolerance, confidence: float) -> Difference:
    """Pair the objects of one frame: every side and the score within ``tolerance``, those of one class first, the
    closest of them before the others.

    Both must have been found with a threshold of ``confidence`` less the tolerance, so that an object just above it in
    one and just below in the other has its counterpart; those without one count only from ``confidence`` on.
    """
    box_apart = np.abs(reference.xyxy[:, None] - found.xyxy[None]).max(axis=2, initial=0.0)
    score_apart = np.abs(reference.confidence[:, None] - found.confidence[None])
    fits = (box_apart <= tolerance.box) & (score_apart <= tolerance.score)
    other_class = reference.class_id[:, None] != found.class_id[None]
    left, right = (np.ones(len(side), np.bool_) for side in (reference, found))
    box, score, tied = 0.0, 0.0, 0
    pairs = np.argwhere(fits)
    for row, column in pairs[np.lexsort((box_apart[fits], other_class[fits]))]:
        if left[row] and right[column]:
            left[row] = right[column] = False
            box = max(box, float(box_apart[row, column]))
            score = max(score, float(score_apart[row, column]))
            tied += int(other_class[row, column])
    missed = int((left & (reference.confidence >= confidence)).sum())
    extra = int((right & (found.confidence >= confidence)).sum())
    return Difference(int((~left).sum()), box, score, missed, extra, tied)


def generated_frames(info: EngineInfo, count: int, seed: int = 0) -> list[UInt8Array]:
    """Smooth backgrounds with shapes on them, some of which models take for objects; the same for the same seed."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        frame = cv2.resize(coarse, (info.width, info.height), interpolation=cv2.INTER_CUBIC)
        for _ in range(12):
            centre = random.integers(0, (info.width, info.height)).tolist()
            axes = random.integers(4, max(5, min(info.width, info.height) // 4), 2).tolist()
            colour = random.integers(0, 256, 3).tolist()
            cv2.ellipse(frame, centre, axes, float(random.integers(0, 180)), 0, 360, colour, -1)
        noise = random.integers(0, 24, frame.shape, np.uint8)
        frames.append(cv2.add(frame, noise).astype(np.uint8))
    return frames


def frames_of(folder: Path, info: EngineInfo) -> list[UInt8Array]:
    """The pictures in ``folder``, letterboxed for the engine. EngineError: there are none, or one can't be read."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    except OSError as error:
        raise EngineError(f"can't read the folder {folder} ({error.strerror}); name one with pictures") from error
    if not paths:
        raise EngineError(f"{folder} has no pictures ({', '.join(PICTURES)}); name a folder with some")
    return [_letterboxed(path, info) for path in paths]


def _letterboxed(path: Path, info: EngineInfo) -> UInt8Array:
    picture: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise EngineError(f"{path} can't be read as a picture; take it out of the folder")
    if info.colour == "rgb":
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    return Letterbox.fit(width, height, info.width, info.height, info.letterbox, info.pad).apply(picture)


def infer_all(
    engine: Engine, batches: Sequence[Sequence[UInt8Array]], thresholds: Thresholds
) -> Iterator[list[Detections]]:
    """What the engine finds in each batch, with as many under way as it can have."""
    if not isinstance(engine, PipelinedEngine):
        yield from (engine.infer(batch, [thresholds] * len(batch)) for batch in batches)
        return
    under_way: deque[Any] = deque()
    for batch in batches:
        if len(under_way) == engine.depth:
            yield engine.finish(under_way.popleft())
        under_way.append(engine.start(batch, [thresholds] * len(batch)))
    while under_way:
        yield engine.finish(under_way.popleft())


def verify(
    engine: Engine, reference: Engine, frames: Sequence[UInt8Array], tolerance: Tolerance
) -> Iterator[tuple[int, Difference]]:
    """Run batches of 1 up to the engine's most, and yield how each size differs from the reference's frame by frame.

    Each size starts at another frame, so that every row of a batch holds different frames. Nothing is suppressed: which
    of two boxes of nearly the same score stays says nothing of the engine, and would look like one missed, one extra.
    """
    thresholds = Thresholds(confidence=CONFIDENCE - tolerance.score, iou=1.0)
    known = [reference.infer([frame], [thresholds])[0] for frame in frames]
    sizes = range(1, engine.info.max_batch_size + 1)
    picked = [[(size + row) % len(frames) for row in range(size)] for size in sizes]
    batches = [[frames[number] for number in numbers] for numbers in picked]
    for size, numbers, found in zip(sizes, picked, infer_all(engine, batches, thresholds), strict=True):
        difference = Difference()
        for number, detections in zip(numbers, found, strict=True):
            difference += compare(known[number], detections, tolerance, CONFIDENCE)
        yield size, difference


@dataclass(frozen=True, slots=True)
class Growth:
    """What is used more than before: bytes of the device and of the process, and open files."""

    device_bytes: int
    process_bytes: int
    files: int

    @property
    def leaks(self) -> bool:
        """Whether that is more than allocators explain."""
        return max(self.device_bytes, self.process_bytes) > MAX_GROWTH_BYTES or self.files > 0


def leaks(engine: PipelinedEngine, frame: UInt8Array, rounds: int, step: Callable[[], None]) -> Growth:
    """Free each slot and make it anew, run a batch in it, ``rounds`` times; ``step`` is called after each."""
    process = psutil.Process()
    used: tuple[int, int, int] = (0, 0, 0)
    for number in range(SETTLE_ROUNDS + rounds):
        if number == SETTLE_ROUNDS:
            used = -engine.free_bytes(), process.memory_info().rss, process.num_fds()
        engine.renew()
        for _ in range(engine.depth):  # the slots take turns
            engine.infer([frame], [Thresholds()])
        if number >= SETTLE_ROUNDS:
            step()
    return Growth(-engine.free_bytes() - used[0], process.memory_info().rss - used[1], process.num_fds() - used[2])

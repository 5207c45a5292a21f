"""A seeded scene: people who walk through a picture, what a detector would find of them, and who is who.

What makes tracking hard is in it on purpose: who walks behind somebody is found with low confidence or not at all,
some boxes are missed and all are a little off, and some are found where nobody is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.types import Detections

WIDTH, HEIGHT = 1280, 720
FPS = 25.0

NOISE = 0.02
"""Standard deviation of a box's sides, in parts of its height."""

MISSED = 0.05
"""Share of the boxes in plain sight that the detector misses."""

HIDDEN_FROM = 0.5
"""Share of a box behind nearer ones from which on it is mostly missed."""

HIDDEN_MISSED = 0.8

UNSEEN_FROM = 0.8
"""Share of a box behind nearer ones from which on nobody can say that somebody is there: it is not in the truth."""

FALSE_A_FRAME = 0.15
"""Boxes a frame where nobody is, on average; each is there for one frame."""


@dataclass(frozen=True, slots=True)
class SceneFrame:
    """One frame: the truth, and what is found.

    Attributes:
        at: seconds from the scene's beginning.
        ids: int64 ``[N]``, who is in the picture.
        boxes: float32 ``[N, 4]``, where; left, top, right, bottom in pixels, clipped to the picture.
        found: the detections, by falling confidence.
    """

    at: float
    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    found: Detections


def scene(seed: int, frames: int, people: int) -> list[SceneFrame]:
    """``people`` walkers over ``frames`` frames of `FPS` a second; equal for equal arguments."""
    rng = np.random.default_rng(seed)
    paths = [_path(rng, frames) for _ in range(people)]
    return [_frame(rng, number, paths) for number in range(frames)]


def _path(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Foot point and height of one walker in each frame, ``[frames, 3]``; NaN before the first step."""
    begins = int(rng.integers(0, max(1, frames * 2 // 3)))
    steps = np.arange(frames - begins) / FPS
    to_right = rng.random() < 0.5
    feet = rng.uniform(0.35, 0.95) * HEIGHT
    height = 0.12 * HEIGHT + 0.35 * feet
    speed = height * rng.uniform(0.5, 0.9) * (1 if to_right else -1)
    stops_at, stops_for = rng.uniform(1, 8), rng.choice([0.0, 0.0, rng.uniform(1, 4)])
    walked = np.where(steps < stops_at, steps, np.maximum(stops_at, steps - stops_for))
    sway = rng.uniform(0.01, 0.04) * height * np.sin(2 * np.pi * (steps * rng.uniform(0.1, 0.4) + rng.random()))
    path = np.full((frames, 3), np.nan)
    path[begins:, 0] = (-0.3 * height if to_right else WIDTH + 0.3 * height) + speed * walked
    path[begins:, 1] = feet + sway
    path[begins:, 2] = height
    return path


def _frame(rng: np.random.Generator, number: int, paths: list[NDArray[np.float64]]) -> SceneFrame:
    states = np.array([path[number] for path in paths])
    x, feet, height = states.T
    whole = np.stack([x - 0.2 * height, feet - height, x + 0.2 * height, feet], axis=1)
    boxes = np.clip(whole, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    with np.errstate(invalid="ignore"):
        seen = _area(boxes) > 0.4 * _area(whole)
    ids, boxes, feet = np.flatnonzero(seen), boxes[seen], feet[seen]
    hidden = np.array([_hidden(boxes, feet, one) for one in range(len(ids))], np.float64)
    found, true = _find(rng, boxes, hidden), hidden < UNSEEN_FROM
    return SceneFrame(number / FPS, ids[true], boxes[true].astype(np.float32), found)


def _find(rng: np.random.Generator, boxes: NDArray[np.float64], hidden: NDArray[np.float64]) -> Detections:
    count = len(boxes)
    chance = np.where(hidden >= HIDDEN_FROM, HIDDEN_MISSED, MISSED)
    kept = rng.random(count) >= chance
    heights = boxes[:, 3] - boxes[:, 1] if count else np.zeros(0)
    noisy = boxes + rng.normal(0, NOISE, boxes.shape) * heights[:, None] if count else np.zeros((0, 4))
    confidence = np.clip(rng.normal(0.68, 0.1, count) - 0.6 * hidden, 0.05, 0.99) if count else np.zeros(0)
    number = int(rng.poisson(FALSE_A_FRAME))
    size = rng.uniform(0.1, 0.3, number) * HEIGHT
    left, top = rng.uniform(0, WIDTH - size, number), rng.uniform(0, HEIGHT - size, number)
    wrong = np.stack([left, top, left + 0.4 * size, top + size], axis=1)
    xyxy = np.concatenate([noisy[kept], wrong])
    scores = np.concatenate([confidence[kept], rng.uniform(0.2, 0.6, number)])
    order = np.argsort(-scores)
    return Detections(xyxy[order].astype(np.float32), scores[order].astype(np.float32), np.zeros(len(order), np.int32))


def _hidden(boxes: NDArray[np.float64], feet: NDArray[np.float64], one: int) -> float:
    """The largest share of a box behind one that stands nearer."""
    nearer = boxes[feet > feet[one]]
    if not len(nearer):
        return 0.0
    common = np.concatenate([np.maximum(nearer[:, :2], boxes[one, :2]), np.minimum(nearer[:, 2:], boxes[one, 2:])], 1)
    return float((_area(common) / _area(boxes[one : one + 1])).max())


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    return sides

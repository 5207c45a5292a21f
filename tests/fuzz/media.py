"""Opens damaged media through the path that sources take: ``python -m tests.fuzz.media SEED COUNT FOLDER``.

Prints one JSON object with what became of them, and what the process held before and after.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import resource
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from deployments.errors import RaysightError
from deployments.streams.media.clips import CLIPS
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceSpec
from tests.support.media import make_clip

MAX_ITEMS = 60
SUFFIXES = (".mp4", ".mkv", ".ts", ".avi", ".flv", ".h264", ".mjpg", ".webm", ".m3u8")
WARM_UP = 15


def originals(folder: Path) -> list[bytes]:
    """Whole files of several containers and codecs, the shipped clip's beginning among them."""
    made = []
    for codec, suffixes in {
        "h264": ("mp4", "mkv", "ts", "flv", "avi"),
        "hevc": ("mp4", "mkv"),
        "mjpeg": ("avi", "mp4"),
    }.items():
        for suffix in suffixes:
            audio = suffix != "avi"
            made.append(make_clip(folder / f"{codec}.{suffix}", codec=codec, frames=12, audio=audio).read_bytes())
    return [*made, next(CLIPS.glob("*.mp4")).read_bytes()[:400_000]]


def damaged(wholes: list[bytes], chance: random.Random) -> bytes:
    """One file with one kind of damage."""
    data = bytearray(chance.choice(wholes))
    match chance.randrange(6):
        case 0:  # bits flipped anywhere
            for _ in range(chance.choice((1, 10, 200))):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 1:  # bits flipped in the headers
            for _ in range(chance.choice((1, 5, 30))):
                data[chance.randrange(min(len(data), 1500))] ^= 1 << chance.randrange(8)
        case 2:
            del data[chance.randrange(len(data)) :]
        case 3:  # spliced
            other = chance.choice(wholes)
            data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]
        case 4:  # absurd sizes
            _absurd(data, chance)
        case _:  # a stretch of noise
            at = chance.randrange(len(data))
            data[at : at + 4000] = chance.randbytes(min(4000, len(data) - at))
    return bytes(data)


def _absurd(data: bytearray, chance: random.Random) -> None:
    """Sizes of pictures, boxes and tables set to what no file has."""
    at = [found.start() for found in re.finditer(rb"tkhd|avc1|hvc1|stsz|stco|stsc|mdat|strf|avih|moov|trun", data)]
    huge = chance.choice((0xFFFFFFFF, 0x7FFFFFFF, 0xFFFF0000, 0x40000000))
    for place in chance.sample(at, min(len(at), 2)) or [chance.randrange(len(data) - 64)]:
        offset = place + chance.choice((-4, 8, 12, 24, 28, 32, 80))
        if 0 <= offset <= len(data) - 4:
            struct.pack_into(">I", data, offset, huge)


def tried(path: Path, policy: UrlPolicy) -> str:
    """What became of opening and playing one file."""
    try:
        spec = SourceSpec(url=f"file:{path.name}", realtime=False)
        with open_source(spec, policy, Timeline(), open_timeout_s=5, read_timeout_s=5) as source:
            for number, _ in enumerate(source.items()):
                if number >= MAX_ITEMS:
                    return "played"
        return "stopped"
    except RaysightError as error:
        return str(getattr(error, "code", type(error).__name__))


def held() -> dict[str, float]:
    """What this process holds now, after what is on its way out has gone."""
    gc.collect()
    process = psutil.Process()
    deadline = time.monotonic() + 6
    for thread in _readers():
        thread.join(max(0.0, deadline - time.monotonic()))
    return {"fds": process.num_fds(), "threads": len(_readers()), "rss_mb": process.memory_info().rss / 1e6}


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("source-reader", "egress"))]


def main(seed: int, count: int, folder: Path) -> None:
    """Try ``count`` files made from ``seed``."""
    chance = random.Random(seed)
    wholes = originals(folder)
    policy = UrlPolicy(media_root=folder, output_root=folder)
    outcomes: Counter[str] = Counter()
    longest, before = 0.0, held()
    for number in range(WARM_UP + count):
        path = folder / f"{number}{chance.choice(SUFFIXES)}"
        path.write_bytes(damaged(wholes, chance))
        print(number, file=sys.stderr, flush=True)
        began = time.monotonic()
        outcome = tried(path, policy)
        longest = max(longest, time.monotonic() - began)
        os.unlink(path)
        if number == WARM_UP - 1:
            before = held()
        elif number >= WARM_UP:
            outcomes[outcome] += 1
    report = {"outcomes": outcomes, "longest_s": longest, "before": before, "after": held()}
    report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

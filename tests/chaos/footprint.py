"""What the whole system holds: threads, descriptors, shared memory, actors, resident memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TOLERANCE = 0.05
"""Of the resident memory, by the issue; the same for threads and descriptors, of which libraries keep pools."""

_SHARED = re.compile(r"^\S+ \S+ \S+ (\S+) (\d+)\s+(?:/dev/shm/|/memfd:)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of all processes of a system but those that Ray keeps idle for later.

    Attributes:
        shared: pieces of shared memory that they map.
        actors: how many processes of actors there are, by title.
        rss_mb: MiB, shared pages counted in each process.
        by_title: resident MiB by title.
    """

    threads: int
    descriptors: int
    shared: int
    actors: Counter[str]
    rss_mb: float
    by_title: dict[str, float] = field(default_factory=dict)


def footprint(pid: int) -> Footprint:
    """Of the process ``pid`` and its descendants."""
    threads = descriptors = 0
    rss = 0.0
    shared: set[tuple[str, str]] = set()
    actors: Counter[str] = Counter()
    by_title: dict[str, float] = {}
    for process in family(pid):
        try:
            title = title_of(process)
            with process.oneshot():
                mb = process.memory_info().rss / 2**20
                count = process.num_threads()
            open_now = process.num_fds()
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except (psutil.Error, OSError):
            continue
        threads, descriptors, rss = threads + count, descriptors + open_now, rss + mb
        shared |= set(_SHARED.findall(maps))
        by_title[title] = by_title.get(title, 0.0) + mb
        if title.startswith("ray::"):
            actors[title] += 1
    return Footprint(threads, descriptors, len(shared), actors, rss, by_title)


def family(pid: int) -> Iterable[psutil.Process]:
    """A process and its descendants, without Ray's idle workers."""
    head = psutil.Process(pid)
    for process in [head, *head.children(recursive=True)]:
        try:
            if process.status() != psutil.STATUS_ZOMBIE and not title_of(process).startswith("ray::IDLE"):
                yield process
        except psutil.Error:
            continue


def title_of(process: psutil.Process) -> str:
    """``ray::StreamActor`` of any call, or the last part of the program's path."""
    words = process.cmdline()
    if words and words[0].startswith("ray::"):
        return words[0].split()[0].partition(".")[0]
    return Path(words[0]).name if words else process.name()


def growth(before: Footprint, after: Footprint) -> dict[str, str]:
    """Which invariants of `journal.INVARIANTS` the later one breaks, with both figures in words."""
    found = {}
    pairs = {"threads": (before.threads, after.threads), "descriptors": (before.descriptors, after.descriptors)}
    for name, (was, is_now) in {**pairs, "rss": (before.rss_mb, after.rss_mb)}.items():
        if is_now > was * (1 + TOLERANCE):
            found[name] = f"{was:.0f} before, {is_now:.0f} after"
    if after.shared > before.shared:
        found["shared_memory"] = f"{before.shared} pieces before, {after.shared} after"
    if after.actors != before.actors:
        more, fewer = after.actors - before.actors, before.actors - after.actors
        found["actors"] = f"more than before: {dict(more)}, fewer: {dict(fewer)}"
    if "rss" in found:
        titles = before.by_title.keys() | after.by_title.keys()
        changes = {t: round(after.by_title.get(t, 0) - before.by_title.get(t, 0)) for t in titles}
        found["rss"] += f" MiB; by process: { {t: c for t, c in sorted(changes.items()) if abs(c) > 4} }"
    return found

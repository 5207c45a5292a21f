"""Lets the Unix time of one process step while it runs; imported by every Python process with this folder in its path.

The offset in seconds is in the file named by the process's id in the folder ``CHAOS_CLOCKS``; no file, no offset.
Monotonic clocks stay true, as they do on a machine whose clock is set. libfaketime 0.9.10 would do so from outside and
for C as well, but makes ``clock_nanosleep`` fail with EINVAL as soon as the monotonic clock is left true; the newer one
of the package libfaketime 3.0.1 does not, and hangs before a process begins that has jemalloc.
"""

from __future__ import annotations

import os
import time

_true_time, _true_time_ns = time.time, time.time_ns
_folder = os.environ.get("CHAOS_CLOCKS")


def _offset_s() -> int:
    path = f"{_folder}/{os.getpid()}"
    try:
        os.stat(path)
        with open(path) as file:
            return int(file.read() or 0)
    except OSError:
        return 0


def _time() -> float:
    return _true_time() + _offset_s()


def _time_ns() -> int:
    return _true_time_ns() + _offset_s() * 10**9


if _folder is not None:
    time.time, time.time_ns = _time, _time_ns

"""jemalloc for all processes of a system, where it is installed: with glibc's malloc their memory grows for hours.

docs/reliability.md has the measurement. The dynamic linker takes it up, so it has to be in the environment in which a
process starts.
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Mapping
from functools import cache

SETTINGS = "narenas:2,tcache:false,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0"
"""Few pools for some sixty threads a process, most of them asleep, and none of a thread's own: what one frees another
takes, and it goes back after a second. Pools by thread fill for an hour as gRPC's and Ray's threads take turns."""


def allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that make processes use jemalloc; none where there is none, or the environment names it already."""
    before = environment.get("LD_PRELOAD", "")
    library = _library()
    if library is None or "jemalloc" in before:
        return {}
    return {
        "LD_PRELOAD": f"{before} {library}".strip(),
        "MALLOC_CONF": environment.get("MALLOC_CONF", SETTINGS),
    }


@cache
def _library() -> str | None:
    return ctypes.util.find_library("jemalloc")

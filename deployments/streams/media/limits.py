"""Ends a child process that decodes foreign data before it can take the node's memory with it."""

from __future__ import annotations

import resource

MEMORY_BYTES = 2 << 30
"""Address space of a child: a 50-megapixel image or an 8K stream needs less than half of it."""


def limit_memory() -> None:
    """Bound this process; allocations beyond fail in it alone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold credentials

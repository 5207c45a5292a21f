"""Of a player's offer: what is let through to the code that connects."""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_CANDIDATES = 16
"""Addresses to which checks are sent at most: an offer makes this machine send to them."""

_CANDIDATE = re.compile(r"a=candidate:\S+ \d+ \S+ \d+ (\S+) \d+ typ ")


def vetted(sdp: str, allows: Callable[[str], bool]) -> str:
    """The offer without candidates that ``allows`` refuses, and without its claim that there are no others.

    Names (mDNS) are left out too. Who is reached by none of the candidates shows its address by its own first check,
    which is waited for.
    """
    kept, candidates = [], 0
    for line in sdp.splitlines():
        if line.startswith("a=candidate:"):
            found = _CANDIDATE.match(line)
            if found is None or candidates >= MAX_CANDIDATES or not allows(found[1]):
                continue
            candidates += 1
        if line != "a=end-of-candidates":
            kept.append(line)
    return "\r\n".join(kept) + "\r\n"

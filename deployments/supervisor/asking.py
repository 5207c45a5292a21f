"""Questions to Ray that hang while its head is away: on threads of their own, so that they hold up neither the event
loop nor the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

THREADS = 8
"""As many questions may hang; further ones wait for them."""

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(THREADS, "ask-ray")


async def ask_ray(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``question``; whoever gives up waiting leaves its thread to it."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(question, *args, **kwargs))

"""Many clients of live views in a process of their own, so that they don't hold up the one that measures.

Reads URLs from stdin, a line each, up to an empty line; prints ``watching`` once every client has received something,
and the fewest bytes that one got after stdin has closed.
"""

from __future__ import annotations

import asyncio
import sys

import httpx


async def watch(urls: list[str]) -> int:
    """Follow all URLs until stdin closes; the fewest bytes of one."""
    received = dict.fromkeys(range(len(urls)), 0)
    first = [asyncio.Event() for _ in urls]

    async def follow(number: int, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", urls[number]) as response:
            async for chunk in response.aiter_raw():
                received[number] += len(chunk)
                first[number].set()

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=len(urls))) as client:
        tasks = [asyncio.create_task(follow(number, client)) for number in range(len(urls))]
        await asyncio.gather(*(event.wait() for event in first))
        print("watching", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return min(received.values())


if __name__ == "__main__":
    print(asyncio.run(watch(list(iter(lambda: sys.stdin.readline().strip(), "")))))

"""A store with many streams in it, by the supervisor's own book."""

from __future__ import annotations

import os
from typing import Any

from deployments.store.opening import open_store
from deployments.streams.spec import StreamSpec
from deployments.supervisor.book import StreamBook


async def fill(url: str, streams: int) -> None:
    """Have the store hold ``cam-0`` and on."""
    book = StreamBook(open_store(url, os.environ))
    await book.open({"benchmark": True})
    for number in range(streams):
        await book.create(StreamSpec.model_validate({"id": f"cam-{number}", **spec_of(number)}))
    book.close()


def spec_of(number: int) -> dict[str, Any]:
    """What is sent of one stream, without its id."""
    url = f"rtsp://10.0.{number // 250}.{number % 250 + 1}/live"
    return {"source": {"url": url}, "labels": {"site": "north"}}

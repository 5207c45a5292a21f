"""Conditional requests: a stream's generation is its ETag."""

from __future__ import annotations

import re

from deployments.errors import SpecConflict, StreamNotFound
from serve_app.api.ports import Streams
from serve_app.api.problems import BAD_HEADER, Refused

_TAG = re.compile(r'"(\d{1,18})"')


def etag(generation: int) -> str:
    """The ETag of a generation."""
    return f'"{generation}"'


async def required_generation(streams: Streams, stream_id: str, if_match: str | None) -> int | None:
    """The generation that ``If-Match`` asks for; ``*`` means the one there is.

    Raises:
        SpecConflict: ``*`` and there is no stream.
        Refused: the header can't be read.
    """
    if if_match is None:
        return None
    if if_match.strip() == "*":
        try:
            return (await streams.get(stream_id)).status.generation
        except StreamNotFound:
            raise SpecConflict("If-Match asks for a stream that exists; there is none of this id.") from None
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise Refused(BAD_HEADER, 'Send If-Match as an ETag that a response gave, such as "3", or as *.')
    return int(found[1])


def create_only(if_none_match: str | None) -> bool:
    """Whether ``If-None-Match`` forbids replacing. Raises Refused where it says anything but ``*``."""
    if if_none_match is None:
        return False
    if if_none_match.strip() != "*":
        raise Refused(BAD_HEADER, "If-None-Match takes * only: create, never replace.")
    return True

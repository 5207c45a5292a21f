"""The specs that users want, each with a generation that rises with every change; plain Python, one owner.

Credentials are write-only: a change that names none keeps the stored ones, but only while scheme, host and port
stay the same, so that nobody can send them elsewhere.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from deployments.errors import InvalidSpec, QuotaExceeded, SpecConflict, StreamExists, StreamNotFound, said
from deployments.streams.addressed import Addressed
from deployments.streams.spec import StreamSpec
from deployments.streams.urls import same_server

QUOTA_RETRY_S = 60

Part = TypeVar("Part", bound=Addressed)


@dataclass(frozen=True, slots=True)
class Entry:
    """A spec and how often it was changed."""

    spec: StreamSpec
    generation: int


class StreamQuota(NamedTuple):
    """How many streams with the labels there may be for a caller to add another."""

    labels: Mapping[str, str]
    streams: int

    def require(self, specs: Iterable[StreamSpec]) -> None:
        """Raises QuotaExceeded where there are as many."""
        if sum(self.labels.items() <= spec.labels.items() for spec in specs) >= self.streams:
            why = f"This key may see {self.streams} streams and sees as many: delete one."
            raise QuotaExceeded(why, QUOTA_RETRY_S)


class StreamRegistry:
    """What users want, by stream id.

    Args:
        gone: last generations of streams that were deleted: one that is made again goes on above, so that nobody who
            read the old one changes the new.
    """

    def __init__(self, gone: Mapping[str, int] = MappingProxyType({})) -> None:
        self._gone = gone
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, stream_id: str) -> Entry:
        """Raises StreamNotFound."""
        try:
            return self._entries[stream_id]
        except KeyError:
            raise StreamNotFound(f"there is no stream {stream_id!r}") from None

    def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> Entry:
        """Raises StreamExists, QuotaExceeded."""
        if spec.id in self._entries:
            raise StreamExists(f"there is a stream {spec.id!r} already: PUT replaces it, PATCH changes it")
        if quota is not None:
            quota.require(entry.spec for entry in self)
        return self._made(spec)

    def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[Entry, bool]:
        """Create or replace; the flag says whether it was created. Raises SpecConflict."""
        old = self._entries.get(spec.id)
        require_generation(spec.id, old, if_generation)
        if old is None:
            return self._made(spec), True
        kept = _keep_credentials(old.spec, spec)
        if kept == old.spec:
            return old, False
        return self._store(kept, old.generation + 1), False

    def merged(self, stream_id: str, merge_patch: Mapping[str, Any]) -> StreamSpec:
        """The spec with a JSON merge patch (RFC 7396) applied, not stored yet. Raises StreamNotFound, InvalidSpec."""
        old = self.get(stream_id)
        if merge_patch.get("id", stream_id) != stream_id:
            raise InvalidSpec("id", "the id of a stream can't be changed: make a new stream and delete this one")
        merged = _merge(old.spec.model_dump(mode="json"), merge_patch)
        try:
            return StreamSpec.model_validate(merged)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise InvalidSpec(".".join(map(str, first["loc"])), said(first)) from None

    def adopt(self, entry: Entry) -> None:
        """Take an entry over as it is."""
        self._entries[entry.spec.id] = entry

    def remove(self, stream_id: str, if_generation: int | None) -> None:
        """Raises StreamNotFound, SpecConflict."""
        require_generation(stream_id, self.get(stream_id), if_generation)
        del self._entries[stream_id]

    def _made(self, spec: StreamSpec) -> Entry:
        return self._store(spec, self._gone.get(spec.id, 0) + 1)

    def _store(self, spec: StreamSpec, generation: int) -> Entry:
        entry = Entry(spec, generation)
        self._entries[spec.id] = entry
        return entry


def require_generation(stream_id: str, entry: Entry | None, wanted: int | None) -> None:
    """``wanted`` 0 means that the stream must not exist yet. Raises SpecConflict."""
    found = entry.generation if entry is not None else 0
    if wanted is not None and wanted != found:
        raise SpecConflict(f"stream {stream_id!r} is at generation {found}, not {wanted}: read it again")


def _keep_credentials(old: StreamSpec, new: StreamSpec) -> StreamSpec:
    kept = {
        "source": _with_kept(new.source, old.source),
        "outputs": _each_with_kept(new.outputs, old.outputs),
        "sinks": _each_with_kept(new.sinks, old.sinks),
    }
    return new.model_copy(update=kept)


def _each_with_kept(new: Sequence[Part], old: Sequence[Part]) -> tuple[Part, ...]:
    """One takes after the old one with its URL, else after one on its server; none lends its credentials twice."""
    left = list(old)
    twins: dict[int, Part] = {}
    for alike in (operator.eq, same_server):
        for place, part in enumerate(new):
            twin = next((other for other in left if place not in twins and alike(other.url, part.url)), None)
            if twin is not None:
                left.remove(twin)
                twins[place] = twin
    return tuple(_with_kept(part, twins.get(place)) for place, part in enumerate(new))


def _with_kept(new: Part, old: Part | None) -> Part:
    if old is None or old.credentials is None or new.credentials is not None or not same_server(old.url, new.url):
        return new
    return new.model_copy(update={"credentials": old.credentials})


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged

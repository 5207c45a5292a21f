"""What users want, kept in the store: a change is in the store before it is anywhere else.

The supervisor alone writes here, each time under the guard of its epoch: one that was replaced can write nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from deployments.errors import SpecConflict, StoreAway, StoreDown, StreamNotFound, SupervisorUnavailable
from deployments.store.protocol import Conflict, Fenced, Guard, Store
from deployments.streams.hardware import Grant
from deployments.streams.lease import WAIT_S
from deployments.streams.spec import StreamSpec
from deployments.streams.tenure import LEASE, Tenancy
from deployments.supervisor.records import Kept, pack, unpack
from deployments.supervisor.registry import Entry, StreamQuota, StreamRegistry, require_generation

STREAM, SUPERVISOR = "stream", "supervisor"
"""Kinds of records."""

EPOCH = "epoch"
"""Key of the record that each supervisor changes when it takes over: the others write under its version no more."""

SEQUENCE_BLOCK = 1_000_000
"""Numbers of frames that are reserved at a time; more are when half of them are used. At 60 frames a second a stream
may thus run for more than two hours while the store is away, and its successor still begins above all it used."""

TURN_TIMEOUT_S = 5.0
"""Longest wait of a change for those before it: a store that hangs delays each by seconds."""

GONE_KEPT = 10_000
"""Deleted streams whose generations are remembered, until this supervisor ends: longer than any call takes."""

STORE_THREADS = 2
"""One for the change whose turn it is, one for what is read beside it."""

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def _nothing(spec: StreamSpec) -> None:
    """Nothing more is required."""


class Reign(NamedTuple):
    """What a supervisor holds once it has taken over.

    Attributes:
        epoch: above that of every supervisor before it, also where the store is a new one: it counts milliseconds.
        guard: true in the store until another takes over.
        record: what stands there.
    """

    epoch: int
    guard: Guard
    record: bytes = b""


def take_over(store: Store, owner: Mapping[str, Any], now: float | None = None) -> Reign:
    """Begin a new epoch, which ends all before it; ``owner`` is noted for people. Raises StoreAway.

    Args:
        now: Unix time, seconds. A clock that was set back is no harm while the store is the same.
    """
    clock = int((time.time() if now is None else now) * 1000)
    while True:
        found = store.get(SUPERVISOR, EPOCH)
        last = json.loads(found.value)["epoch"] if found is not None else 0
        epoch = max(clock, last + 1)
        value = json.dumps({**owner, "epoch": epoch}).encode()
        try:
            version = store.put(SUPERVISOR, EPOCH, value, found.version if found is not None else 0)
        except Conflict:
            continue
        return Reign(epoch, Guard(SUPERVISOR, EPOCH, version), value)


class StreamBook:
    """Every stream that users want, and how far each got; all of it survives everything.

    Changes raise what `StreamRegistry` does, StoreAway where they can't be stored (nothing has changed then), and
    SupervisorUnavailable once another supervisor took over; ``fenced`` is true from then on.

    Args:
        shared: URL by which the lives of streams reach the store; None where it is a file of one node.
    """

    def __init__(self, store: Store, shared: str | None = None) -> None:
        self._store = store
        self._shared = shared
        self._kept: dict[str, Kept] = {}
        self._gone: dict[str, int] = {}  # by id, the oldest first: generations of what was deleted
        self._turn = asyncio.Lock()
        self._reign = Reign(0, Guard(SUPERVISOR, EPOCH, 0))
        self._unsure: set[str] = set()
        self._late = False  # whether a change that was refused may still reach the store
        self._threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self.leased: set[str] = set()
        """Streams that a life has, or had, the right to publish."""
        self.fenced = False

    async def open(self, owner: Mapping[str, Any]) -> None:
        """Take over and read everything. Raises StoreAway."""
        reign = await self._in_thread(take_over, self._store, owner)
        records = await self._in_thread(self._store.all, STREAM)
        self.leased = set(await self._in_thread(self._store.all, LEASE))
        self._reign = reign
        self._kept.clear()
        for stream_id, record in records.items():
            try:
                self._kept[stream_id] = unpack(record.value)
            except ValueError as error:
                what = "stream %s can't be read from the store, register it again: %s"
                logger.error(what, stream_id, error, extra={"stream": stream_id})

    @property
    def epoch(self) -> int:
        """Of this supervisor; the highest there ever was, until `fenced`."""
        return self._reign.epoch

    def __iter__(self) -> Iterator[Entry]:
        return iter([kept.entry for kept in self._kept.values()])

    def get(self, stream_id: str) -> Entry:
        """Raises StreamNotFound."""
        if stream_id not in self._kept:
            raise StreamNotFound(f"there is no stream {stream_id!r}")
        return self._kept[stream_id].entry

    def kept(self, stream_id: str) -> Kept | None:
        """All that is known of a stream; None where nobody wants it."""
        return self._kept.get(stream_id)

    def is_still(self, kept: Kept) -> bool:
        """Whether it is that stream, and not another that was made under its name since."""
        now = self._kept.get(kept.entry.spec.id)
        return now is not None and now.accepted_at == kept.accepted_at

    async def create(
        self, spec: StreamSpec, quota: StreamQuota | None = None, require: Callable[[StreamSpec], None] = _nothing
    ) -> Entry:
        """Raises StreamExists, QuotaExceeded, and what ``require`` does, which no other change comes after."""
        async with self._change():
            require(spec)
            entry = self._registry().create(spec, quota)
            await self._write(Kept(entry, accepted_at=time.time()))
        return entry

    async def put(
        self, spec: StreamSpec, if_generation: int | None, require: Callable[[StreamSpec], None] = _nothing
    ) -> tuple[Entry, bool]:
        """Create or replace; the flag says whether it was created. Raises SpecConflict, and what ``require`` does."""
        async with self._change():
            require(spec)
            entry, created = self._registry().put(spec, if_generation)
            old = self._kept.get(spec.id)
            if old is None or old.entry != entry:
                new = Kept(entry, accepted_at=time.time()) if old is None else replace(old, entry=entry)
                await self._write(new)
        return entry, created

    async def patch(
        self,
        stream_id: str,
        merge_patch: Mapping[str, Any],
        if_generation: int | None,
        check: Callable[[StreamSpec], Awaitable[None]],
    ) -> Entry:
        """Merge, ``check`` and store; what another change overtook during the check is merged again.

        Raises StreamNotFound, InvalidSpec, SpecConflict where ``if_generation`` is another, and what ``check`` does.
        """
        while True:
            registry = self._registry()
            found = registry.get(stream_id)
            require_generation(stream_id, found, if_generation)
            spec = registry.merged(stream_id, merge_patch)
            await check(spec)
            try:
                return (await self.put(spec, found.generation))[0]
            except SpecConflict:
                continue

    async def remove(self, stream_id: str, if_generation: int | None) -> None:
        """Raises StreamNotFound, SpecConflict."""
        async with self._change():
            self._registry().remove(stream_id, if_generation)
            await self._stored(stream_id, self._store.delete, STREAM, stream_id, None)
            self._gone.pop(stream_id, None)
            self._gone[stream_id] = self._kept.pop(stream_id).entry.generation
            if len(self._gone) > GONE_KEPT:
                del self._gone[next(iter(self._gone))]

    async def begin(self, stream_id: str, grant: Grant, seen: int) -> Kept:
        """Note that another life of a stream begins; its first frame gets the number ``reserved - SEQUENCE_BLOCK``.

        Args:
            seen: the number after the last frame that was heard of.

        Raises StreamNotFound where it was deleted meanwhile.
        """
        async with self._change():
            self.get(stream_id)
            old = self._kept[stream_id]
            # Above what it reserved, its frames may have gone on unseen: as long as the store was away.
            first = old.reserved if seen <= old.reserved else seen + SEQUENCE_BLOCK
            new = replace(old, epoch=old.epoch + 1, reserved=first + SEQUENCE_BLOCK, grant=grant)
            await self._write(new)
        return new

    async def tenancy(self, stream_id: str, *, haunted: bool) -> Tenancy:
        """Give the right to publish a stream to its life that begins next, and take it from all before.

        Args:
            haunted: an earlier life may still publish.

        Raises StreamNotFound, StoreAway.
        """
        if self._shared is None:
            return Tenancy()
        async with self._change():
            self.get(stream_id)
            term: int = await self._stored(stream_id, self._store.put, LEASE, stream_id, b"", None)
            self.leased.add(stream_id)
        return Tenancy(self._shared, term, WAIT_S if haunted else 0.0)

    async def release(self, stream_id: str) -> None:
        """All lives of the stream are known to have ended. Raises StoreAway."""
        async with self._change():
            await self._stored(stream_id, self._store.delete, LEASE, stream_id, None)
            self.leased.discard(stream_id)

    async def extend(self, stream_id: str, seen: int) -> None:
        """Reserve more numbers where a stream has used half of its own."""
        kept = self._kept.get(stream_id)
        if kept is None or seen <= kept.reserved - SEQUENCE_BLOCK // 2:
            return
        async with self._change():
            if (now := self._kept.get(stream_id)) is not None:
                await self._write(replace(now, reserved=max(now.reserved, seen + SEQUENCE_BLOCK)))

    async def settle(self) -> None:
        """Write again what a store that went away may have taken in half: what was refused must not come back.

        What nobody wants any more is nobody's to publish.
        """
        for stream_id in self.leased - self._kept.keys():
            await self.release(stream_id)
        for stream_id in list(self._unsure):
            async with self._change():
                kept = self._kept.get(stream_id)
                if kept is not None:
                    await self._write(kept)
                else:
                    await self._stored(stream_id, self._store.delete, STREAM, stream_id, None)

    async def probe(self) -> None:
        """Read something. Raises StoreAway."""
        await self._in_thread(self._store.get, SUPERVISOR, EPOCH)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()
        self._threads.shutdown(wait=False)

    def _registry(self) -> StreamRegistry:
        """A copy to try a change on: it counts once it is stored."""
        registry = StreamRegistry(self._gone)
        for kept in self._kept.values():
            registry.adopt(kept.entry)
        return registry

    async def _write(self, kept: Kept) -> None:
        stream_id = kept.entry.spec.id
        await self._stored(stream_id, self._store.put, STREAM, stream_id, pack(kept), None)
        self._kept[stream_id] = kept

    async def _stored(self, stream_id: str, change: Callable[..., Any], *args: Any) -> Any:
        """Make a change under the guard, which is its last argument."""
        self._unsure.add(stream_id)
        try:
            if self._late:
                await self._renew_guard()
            done = await self._in_thread(change, *args, self._reign.guard)
        except StoreDown:
            raise
        except StoreAway:
            self._late = True
            raise
        except Fenced as error:
            self.fenced = True
            raise SupervisorUnavailable(f"another supervisor has taken over: {error}") from None
        self._unsure.discard(stream_id)
        return done

    async def _renew_guard(self) -> None:
        """Have what was sent to the store and not answered come to nothing, should the network still bring it.

        A request whose answer did not come in time is refused to the caller, while TCP goes on delivering it: it would
        come into force behind changes that were made since.
        """
        epoch, guard, record = self._reign
        try:
            version = await self._in_thread(self._store.put, guard.kind, guard.key, record, guard.version)
        except Conflict:
            found = await self._in_thread(self._store.get, guard.kind, guard.key)
            if found is None or json.loads(found.value)["epoch"] != epoch:
                raise Fenced("another supervisor has begun an epoch") from None
            version = found.version  # by a renewal of ours whose answer was lost
        self._reign = self._reign._replace(guard=guard._replace(version=version))
        self._late = False

    async def _in_thread(self, function: Callable[..., Result], *args: Any) -> Result:
        """In threads of the store's own: names that can't be looked up may take all others."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change at a time, in the order in which they came."""
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise StoreAway(f"the store took longer than {TURN_TIMEOUT_S:g} s for changes before this one") from None
        try:
            yield
        finally:
            self._turn.release()

"""What users want outlives everything: stored before it counts, fenced, and never half."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import (
    NoCapacity,
    QuotaExceeded,
    SpecConflict,
    StoreAway,
    StreamExists,
    StreamNotFound,
    SupervisorUnavailable,
)
from deployments.store.protocol import Fenced, Guard, Record
from deployments.store.sqlite import SqliteStore
from deployments.streams.hardware import NOTHING, Grant
from deployments.streams.spec import StreamSpec
from deployments.supervisor import book as book_module
from deployments.supervisor.book import SEQUENCE_BLOCK, STREAM, StreamBook, take_over
from deployments.supervisor.records import Kept, pack, unpack
from deployments.supervisor.registry import Entry, StreamQuota

Answer = TypeVar("Answer")


def spec(stream_id: str = "gate", **changes: Any) -> StreamSpec:
    return StreamSpec.model_validate({"id": stream_id, "source": {"url": "rtsp://camera/1"}, **changes})


class Late(SqliteStore):
    """Takes no change of a stream while ``slow``, and makes it nevertheless in `deliver`, as a network may that was cut
    when the change was under way."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.slow = False
        self._under_way: list[Callable[[], Any]] = []

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        return int(self._now_or_late(kind, lambda: SqliteStore.put(self, kind, key, value, expected, guard)))

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        self._now_or_late(kind, lambda: SqliteStore.delete(self, kind, key, expected, guard))

    def _now_or_late(self, kind: str, change: Callable[[], Any]) -> Any:
        if self.slow and kind == STREAM:
            self._under_way.append(change)
            raise StoreAway("no answer")
        return change()

    def deliver(self) -> int:
        """How many of them the store refuses."""
        refused = 0
        for change in self._under_way:
            try:
                change()
            except Fenced:
                refused += 1
        return refused


class Failing(SqliteStore):
    """A store that can be told to break a change before it is made, or after it, when only the answer is lost."""

    before = after = False

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        if self.before and kind == STREAM:
            raise StoreAway("the disk is full")
        version = super().put(kind, key, value, expected, guard)
        if self.after and kind == STREAM:
            raise StoreAway("the answer was lost")
        return version

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        if self.before:
            raise StoreAway("the disk is full")
        super().delete(kind, key, expected, guard)
        if self.after:
            raise StoreAway("the answer was lost")


@pytest.fixture
def store(tmp_path: Path) -> Failing:
    return Failing(tmp_path / "registry.db")


def run(awaited: Coroutine[Any, Any, Answer]) -> Answer:
    return asyncio.run(awaited)


def opened(store: SqliteStore) -> StreamBook:
    book = StreamBook(store)
    run(book.open({"test": True}))
    return book


def test_every_change_is_found_by_the_next_supervisor(store: Failing) -> None:
    book = opened(store)
    source = {"url": "rtsp://user:pa%40ss@camera/1?token=t0k"}
    run(book.create(spec(source=source, outputs=[{"url": "rtmp://media/live/key"}])))
    run(book.put(spec("yard"), None))
    run(book.patch("gate", {"paused": True}, 1, accept))
    run(book.put(spec("gone"), None))
    run(book.remove("gone", 1))
    again = opened(store)
    assert list(again) == list(book)
    assert {entry.spec.id: entry.generation for entry in again} == {"gate": 2, "yard": 1}
    kept = again.get("gate").spec.source.credentials
    assert kept is not None
    assert kept.password is not None
    assert kept.password.get_secret_value() == "pa@ss"
    assert kept == book.get("gate").spec.source.credentials
    assert again.get("gate").spec.outputs[0].credentials == book.get("gate").spec.outputs[0].credentials


def test_a_refused_change_that_reaches_the_store_late_changes_nothing(tmp_path: Path) -> None:
    book = opened(store := Late(tmp_path / "registry.db"))
    for stream_id in ("kept", "same"):
        run(book.create(spec(stream_id)))
    store.slow = True
    for refused in (
        lambda: book.create(spec("refused")),
        lambda: book.remove("kept", None),
        lambda: book.put(spec("same", paused=True), None),
    ):
        with pytest.raises(StoreAway):
            run(refused())
    store.slow = False
    run(book.create(spec("other")))
    assert store.deliver() == 3
    for found in (book, opened(store)):
        assert {entry.spec.id: entry.spec.paused for entry in found} == {"kept": False, "same": False, "other": False}


def test_after_a_store_that_was_away_a_supervisor_still_finds_that_another_took_over(tmp_path: Path) -> None:
    book = opened(store := Late(tmp_path / "registry.db"))
    store.slow = True
    with pytest.raises(StoreAway):
        run(book.create(spec()))
    store.slow = False
    opened(SqliteStore(tmp_path / "registry.db"))
    with pytest.raises(SupervisorUnavailable):
        run(book.create(spec()))
    assert book.fenced


def test_who_read_a_deleted_stream_changes_none_that_was_made_under_its_name(store: Failing) -> None:
    book = opened(store)
    old = run(book.create(spec(labels={"site": "north"})))
    kept = book.kept("gate")
    assert kept is not None
    assert book.is_still(kept)
    run(book.remove("gate", None))
    assert not book.is_still(kept)
    new = run(book.create(spec(labels={"site": "south"})))
    assert new.generation > old.generation
    assert not book.is_still(kept)
    with pytest.raises(SpecConflict):
        run(book.patch("gate", {"paused": True}, old.generation, accept))


def test_what_is_required_of_a_new_stream_is_asked_with_no_other_change_between(store: Failing) -> None:
    """As the room is: two that come at once must not both have the last of it."""

    def room_for_one(new: StreamSpec) -> None:
        if len(list(book)):
            raise NoCapacity("there is no room")

    async def at_once() -> list[Any]:
        two = (book.create(spec("one"), None, room_for_one), book.put(spec("two"), None, room_for_one))
        return await asyncio.gather(*two, return_exceptions=True)

    book = opened(store)
    assert [isinstance(answer, NoCapacity) for answer in run(at_once())] == [False, True]
    assert [entry.spec.id for entry in book] == ["one"]


async def accept(checked: StreamSpec) -> None:
    pass


def test_streams_that_come_at_once_are_counted(store: Failing) -> None:
    """As through several replicas of the API, each before another is stored; those without the labels don't count."""
    north, quota = {"site": "north"}, StreamQuota({"site": "north"}, 3)
    book = opened(store)

    async def made() -> list[Any]:
        await asyncio.gather(*(book.create(spec(f"south-{n}"), None) for n in range(4)))
        tried = (book.create(spec(f"north-{n}", labels={**north, "floor": str(n)}), quota) for n in range(12))
        return await asyncio.gather(*tried, return_exceptions=True)

    outcomes = run(made())
    assert [type(outcome) for outcome in outcomes].count(QuotaExceeded) == 9
    assert len([name for name in store.all(STREAM) if name.startswith("north")]) == 3
    run(book.create(spec("another", labels=north)))
    with pytest.raises(StreamExists):
        run(book.create(spec("another", labels=north), quota))


def test_what_can_not_be_stored_is_not_accepted(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))
    store.before = True
    for change in (
        lambda: book.create(spec("yard")),
        lambda: book.put(spec(paused=True), None),
        lambda: book.patch("gate", {"paused": True}, None, accept),
        lambda: book.remove("gate", None),
        lambda: book.begin("gate", NOTHING, 0),
    ):
        with pytest.raises(StoreAway):
            run(change())
        assert list(book) == [Entry(spec(), 1)]
    store.before = False
    assert run(book.put(spec(paused=True), 1))[0].generation == 2


def test_what_was_refused_though_it_was_stored_does_not_come_back(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))
    store.after = True
    for change in (lambda: book.create(spec("yard")), lambda: book.remove("gate", None)):
        with pytest.raises(StoreAway):
            run(change())
    assert set(store.all(STREAM)) == {"yard"}
    store.after = False
    run(book.settle())
    assert list(opened(store)) == [Entry(spec(), 1)]


def test_who_was_replaced_writes_nothing_any_more(store: Failing) -> None:
    old = opened(store)
    run(old.create(spec()))
    new = opened(store)
    assert new.epoch > old.epoch
    run(new.put(spec(paused=True), 1))
    before = store.all(STREAM)
    for change in (
        lambda: old.create(spec("yard")),
        lambda: old.put(spec(labels={"a": "b"}), None),
        lambda: old.remove("gate", None),
        lambda: old.begin("gate", NOTHING, 0),
    ):
        with pytest.raises(SupervisorUnavailable, match="taken over"):
            run(change())
    assert old.fenced
    assert not new.fenced
    assert store.all(STREAM) == before


def test_an_epoch_is_above_all_before_it_also_in_another_store_or_by_a_clock_that_was_set_back(
    store: Failing, tmp_path: Path
) -> None:
    epochs = [take_over(store, {}, now).epoch for now in (1000.0, 2000.0, 500.0, 500.0)]
    assert epochs == sorted(set(epochs))
    assert take_over(Failing(tmp_path / "new.db"), {}, 2001.0).epoch > epochs[-1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.booleans(), st.booleans()), max_size=8))
def test_numbers_of_frames_never_go_back(lives: list[tuple[int, bool, bool]]) -> None:
    """However many frames a life decodes, seen or not, and whichever supervisor begins the next."""
    book = opened(store := MemoryStore())
    run(book.create(spec()))
    highest = -1
    seen = 0
    for frames, reported, new_supervisor in lives:
        began = run(book.begin("gate", NOTHING, seen))
        first = began.reserved - SEQUENCE_BLOCK
        assert first > highest
        # What is not reported stays within what a life has reserved: more than two hours at 60 frames a second.
        step = SEQUENCE_BLOCK // 3
        for decoded in range(0, frames, step):
            if reported:
                run(book.extend("gate", first + decoded))
        unseen = frames if reported else min(frames, SEQUENCE_BLOCK - 1)
        highest, seen = first + unseen, (first + unseen) if reported else 0
        if new_supervisor:
            book, seen = opened(store), 0


def test_a_life_that_outran_its_numbers_while_the_store_was_away_has_a_successor_above_it(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))
    began = run(book.begin("gate", Grant(nvdec=True), 0))
    assert (began.epoch, began.reserved, began.grant) == (1, SEQUENCE_BLOCK, Grant(nvdec=True))
    seen = 5 * SEQUENCE_BLOCK
    assert run(book.begin("gate", NOTHING, seen)).reserved - SEQUENCE_BLOCK > seen


def test_a_deleted_stream_begins_no_life(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))
    run(book.remove("gate", None))
    with pytest.raises(StreamNotFound):
        run(book.begin("gate", NOTHING, 0))
    run(book.extend("gate", 10**9))
    assert store.all(STREAM) == {}
    run(book.create(spec()))
    with pytest.raises(StreamExists):
        run(book.create(spec()))


def test_a_record_that_can_not_be_read_is_left_alone(store: Failing, caplog: pytest.LogCaptureFixture) -> None:
    store.put(STREAM, "broken", b'{"spec": {}}', None)
    store.put(STREAM, "junk", b"\xff", None)
    book = opened(store)
    assert list(book) == []
    assert "stream broken" in caplog.text
    assert set(store.all(STREAM)) == {"broken", "junk"}


def test_a_patch_that_is_overtaken_while_it_is_checked_is_merged_again(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))
    meanwhile = iter([{"a": "1"}, {"a": "2", "b": "1"}])

    async def overtaken(checked: StreamSpec) -> None:
        for labels in meanwhile:
            await book.put(spec(labels=labels), None)
            return

    entry = run(book.patch("gate", {"labels": {"c": "3"}}, None, overtaken))
    assert entry == book.get("gate") == Entry(spec(labels={"a": "2", "b": "1", "c": "3"}), 4)


def test_a_patch_of_one_generation_is_refused_once_that_is_gone(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))

    async def overtaken(checked: StreamSpec) -> None:
        await book.put(spec(paused=True), None)

    with pytest.raises(SpecConflict, match="generation 2"):
        run(book.patch("gate", {"labels": {"c": "3"}}, 1, overtaken))
    assert book.get("gate") == Entry(spec(paused=True), 2)


def test_a_patch_does_not_bring_a_deleted_stream_back(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))

    async def deleted(checked: StreamSpec) -> None:
        await book.remove("gate", None)

    with pytest.raises(StreamNotFound):
        run(book.patch("gate", {"paused": True}, None, deleted))
    assert list(book) == []


def test_changes_at_once_all_count(store: Failing) -> None:
    book = opened(store)
    run(book.create(spec()))

    async def crowd() -> None:
        await asyncio.gather(
            *(book.patch("gate", {"labels": {f"label-{n}": "set"}}, None, accept) for n in range(8)),
            *(book.create(spec(f"cam-{n}")) for n in range(8)),
        )

    run(crowd())
    by_id = {entry.spec.id: entry for entry in book}
    assert {entry.spec.id: entry for entry in opened(store)} == by_id
    assert len(by_id) == 9
    assert len(book.get("gate").spec.labels) == 8


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 10**12), st.booleans(), st.booleans())
def test_a_record_is_read_as_it_was_written(generation: int, epoch: int, reserved: int, dec: bool, enc: bool) -> None:
    source = {"url": "rtsp://u:%2Fp@camera/user=a_password=b_channel=1.sdp?token=x&n=1"}
    outputs = [{"url": "srt://media:9000?passphrase=long-enough"}, {"url": "file:a.mp4"}]
    sinks = [{"url": "https://u:p@hooks/x?token=t", "credentials": {"secret": "s" * 16}}, {"url": "file:a.jsonl"}]
    kept = Kept(Entry(spec(source=source, outputs=outputs, sinks=sinks), generation), epoch, reserved, Grant(dec, enc))
    assert unpack(pack(kept)) == kept


def test_a_store_that_hangs_delays_a_change_by_so_much_only(store: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "TURN_TIMEOUT_S", 0.05)
    book = opened(store)
    hangs, entered = threading.Event(), threading.Event()
    put = store.put

    def slow(*args: Any) -> int:
        entered.set()
        assert hangs.wait(20)
        return put(*args)

    monkeypatch.setattr(store, "put", slow)

    async def crowd() -> None:
        first = asyncio.create_task(book.create(spec()))
        await asyncio.to_thread(entered.wait, 20)
        with pytest.raises(StoreAway, match="longer than"):
            await book.create(spec("yard"))
        assert list(book) == []  # the first is not stored yet
        hangs.set()
        await first

    run(crowd())
    assert [entry.spec.id for entry in book] == ["gate"]


class MemoryStore(SqliteStore):
    """As quick as property tests need it."""

    def __init__(self) -> None:
        super().__init__(Path("unused"))
        self._records: dict[tuple[str, str], Record] = {}

    def all(self, kind: str) -> dict[str, Record]:
        return {key: record for (of, key), record in self._records.items() if of == kind}

    def get(self, kind: str, key: str) -> Record | None:
        return self._records.get((kind, key))

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        old = self._records.get((kind, key))
        self._records[kind, key] = Record(value, old.version + 1 if old else 1)
        return self._records[kind, key].version

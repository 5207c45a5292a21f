"""What waits for a sink, in memory and on disk, and files that rotate: nothing is lost but what is counted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.streams.sinks.backlog import Backlog, Spill
from deployments.streams.sinks.dead_letters import NAME, DeadLetters, read_letters
from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.rotating import RotatingFile


def letter(number: int) -> Letter:
    return Letter.of({"stream_id": "gate", "sequence": number}, "detection")


def numbers(found: list[Letter]) -> list[int]:
    return [int(one.key.partition("/")[2]) for one in found]


def taken(backlog: Backlog, most: int) -> list[Letter]:
    found = []
    while len(found) < most and len(backlog):
        one = backlog.take()
        assert one is not None
        found.append(one)
    return found


ACTIONS = st.lists(st.one_of(st.just("put"), st.integers(1, 6)), max_size=60)


@given(ACTIONS, st.integers(1, 5))
def test_without_a_spill_the_oldest_go_and_are_counted(actions: list[str | int], size: int) -> None:
    backlog, model, out, wanted, put, lost = Backlog(size), [], [], [], 0, 0
    for action in actions:
        if isinstance(action, int):
            out += numbers(taken(backlog, action))
            wanted += model[:action]
            del model[:action]
            continue
        backlog.put(letter(put))
        model.append(put)
        put += 1
        if len(model) > size:
            model.pop(0)
            lost += 1
    assert out == wanted
    assert (len(backlog), backlog.dropped) == (len(model), lost)


@settings(max_examples=40)
@given(ACTIONS, st.integers(1, 4), st.booleans())
def test_a_spill_keeps_all_in_order_over_lives(actions: list[str | int], size: int, in_hand: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spill.jsonl"
        backlog, out, put = Backlog(size, Spill(path, 1_000_000)), [], 0
        for action in actions:
            if isinstance(action, int):
                out += numbers(taken(backlog, action))
            else:
                backlog.put(letter(put))
                put += 1
        unsent = backlog.take() if in_hand and len(backlog) else None
        backlog.leave(unsent)
        assert backlog.dropped == 0
        left = Backlog(size, Spill(path, 1_000_000))
        assert out + numbers(taken(left, put)) == list(range(put))


def test_a_full_spill_loses_the_newest_counted(tmp_path: Path) -> None:
    line = len(letter(0).body) + 1
    backlog = Backlog(1, Spill(tmp_path / "spill", 3 * line))
    for number in range(9):
        backlog.put(letter(number))
    assert (len(backlog), backlog.dropped) == (4, 5)
    assert numbers(taken(backlog, 9)) == [0, 1, 2, 3]
    backlog.put(letter(9))  # the file is empty again
    assert numbers(taken(backlog, 9)) == [9]


def test_half_a_line_of_a_life_that_was_killed_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spill"
    path.write_bytes(letter(1).body + b"\nno event\n" + letter(2).body + b"\n" + letter(3).body[:9])
    backlog = Backlog(1, Spill(path, 1_000_000))
    backlog.put(letter(4))
    assert numbers(taken(backlog, 9)) == [1, 2, 4]


def test_a_file_belongs_to_one_life_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "spill"
    first = Backlog(1, Spill(path, 1_000_000))
    first.put(letter(1))
    with pytest.raises(BlockingIOError):
        Spill(path, 1_000_000)
    first.leave(None)
    assert numbers(taken(Backlog(1, Spill(path, 1_000_000)), 9)) == [1]


def test_what_waits_ends_with_the_backlog(tmp_path: Path) -> None:
    backlog = Backlog(5)
    backlog.put(letter(1))
    backlog.put(letter(2))
    backlog.close()
    assert backlog.take() == letter(1)
    backlog.leave(letter(1))
    assert backlog.dropped == 2
    assert backlog.take() is None


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)), st.integers(1, 90), st.integers(1, 3))
def test_rotation_keeps_whole_lines_in_order_within_its_bounds(lines: list[bytes], most: int, keep: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sub" / "events.jsonl"
        file = RotatingFile(path, most, keep)
        for line in lines:
            file.append(line)
        files = [path.with_name(f"events.{number}.jsonl") for number in range(keep, 0, -1)] + [path]
        parts = [one.read_bytes() for one in files if one.exists()]
        kept = b"".join(parts).split(b"\n")[:-1]
        assert kept == lines[len(lines) - len(kept) :]
        assert all(len(part) <= most or part.count(b"\n") == 1 for part in parts)
        assert len(list(path.parent.iterdir())) <= keep + 1 if lines else True
        assert len(kept) == len(lines) or len(parts) == keep + 1


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        RotatingFile(tmp_path / "events.jsonl", 100, 1).append(b"{}")


def test_dead_letters_are_read_back(tmp_path: Path) -> None:
    dead = DeadLetters(tmp_path)
    dead.add("https://hooks.example/x", "the server answered 410", letter(1))
    dead.add("https://hooks.example/x", "the server answered 410", letter(2))
    lines = (tmp_path / NAME).read_bytes().splitlines()
    assert list(read_letters(lines)) == [letter(1), letter(2)]
    assert list(read_letters([letter(3).body, b""])) == [letter(3)]  # as a file sink writes them
    with pytest.raises(ValueError, match="line 2"):
        list(read_letters([letter(3).body, b"nonsense"]))

"""Swaps as replicas see them: tried by all, then wanted of all, also of those that come later."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import DetectorUnavailable, ModelNotFound, SwapInProgress
from deployments.models.board import HEARD_S, ModelBoard, Verdict
from deployments.models.versions import Discard, Order, Prepare, Refusal, Report, Switch, Version
from engines.types import EngineInfo

INFO = EngineInfo("small", "yolo", 64, 32, "rgb", ("a", "b"), 8, "cpu")
NOW = 1000.0


@dataclass
class Replica:
    """What a replica remembers, and does when it is told to."""

    name: str
    bad: frozenset[str] = frozenset()
    configured: str = "/old"
    model: str = "default"
    running: Version = field(default_factory=lambda: Version(0, "/old"))
    ready: Version | None = None
    refused: Refusal | None = None

    def report(self) -> Report:
        ready = None if self.ready is None else self.ready.number
        return Report(self.model, self.name, "node", self.configured, self.running, INFO, 100.0, ready, self.refused)

    def turn(self, board: ModelBoard, now: float = NOW) -> Order | None:
        """Report, and do what comes back."""
        board.hear(self.report(), now)
        order = board.order(self.report())
        match order:
            case Prepare(version):
                self.ready = self.refused = None
                if version.package in self.bad:
                    self.refused = Refusal(version.number, f"{version.package} is bad")
                else:
                    self.ready = version
            case Switch(number):
                assert self.ready is not None
                assert self.ready.number == number
                self.running, self.ready = self.ready, None
            case Discard():
                self.ready = None
        return order


def test_nobody_switches_before_all_are_ready_and_then_all_do() -> None:
    board, one, two = ModelBoard(), Replica("one"), Replica("two")
    assert (one.turn(board), two.turn(board)) == (None, None)
    version = board.begin("default", "/new", NOW, 7)
    assert one.turn(board) == Prepare(version)
    assert one.turn(board) is None
    assert board.verdict("default", version, NOW) is Verdict.WAIT
    assert two.turn(board) == Prepare(version)
    assert two.turn(board) is None
    assert board.verdict("default", version, NOW) is Verdict.READY
    board.commit("default", version)
    assert not board.switched("default", version, NOW)
    assert (one.turn(board), two.turn(board)) == (Switch(7), Switch(7))
    assert (one.turn(board), two.turn(board)) == (None, None)
    assert board.switched("default", version, NOW)
    assert board.state("default", NOW).package == "/new"


def test_one_refusal_ends_a_trial_and_what_was_ready_is_let_go() -> None:
    board, one, two = ModelBoard(), Replica("one"), Replica("two", bad=frozenset({"/new"}))
    one.turn(board), two.turn(board)
    version = board.begin("default", "/new", NOW, 7)
    for replica in (one, two, one, two):
        replica.turn(board)
    assert board.verdict("default", version, NOW) == Refusal(7, "/new is bad")
    board.abandon("default", version)
    assert one.turn(board) == Discard()
    assert two.turn(board) is None
    assert (one.running, two.running) == (Version(0, "/old"), Version(0, "/old"))
    assert board.wanted("default", "/old") is None
    assert board.begin("default", "/new", NOW, 7).number > 0


def swapped() -> tuple[ModelBoard, Replica]:
    board, one = ModelBoard(), Replica("one")
    one.turn(board)
    version = board.begin("default", "/new", NOW, 7)
    one.turn(board), one.turn(board)
    board.commit("default", version)
    one.turn(board), one.turn(board)
    return board, one


def test_a_replica_that_starts_later_is_told_at_once_and_one_that_missed_it_catches_up() -> None:
    board, _ = swapped()
    assert board.wanted("default", "/old") == Version(7, "/new")
    late = Replica("late")
    orders = [late.turn(board) for _ in range(3)]
    assert orders == [Prepare(Version(7, "/new")), Switch(7), None]


def test_a_board_that_begins_anew_learns_what_is_wanted_from_the_replicas() -> None:
    _, one = swapped()
    board, late = ModelBoard(), Replica("late")
    assert late.turn(board) is None
    assert one.turn(board) is None
    assert late.turn(board) == Prepare(Version(7, "/new"))
    assert board.begin("default", "/newer", NOW, 3).number == 8


def test_a_redeployment_with_another_package_wins_and_the_old_replicas_are_left_alone() -> None:
    board, one = swapped()
    redeployed = Replica("redeployed", configured="/other", running=Version(0, "/other"))
    assert board.wanted("default", "/other") is None
    assert redeployed.turn(board) is None
    assert one.turn(board) is None
    assert board.state("default", NOW).package == "/other"
    version = board.begin("default", "/new", NOW, 9)
    assert one.turn(board) is None
    assert redeployed.turn(board) == Prepare(version)


def test_a_replica_that_is_gone_holds_nothing_up() -> None:
    board, one, two = ModelBoard(), Replica("one"), Replica("two")
    one.turn(board), two.turn(board)
    version = board.begin("default", "/new", NOW, 7)
    one.turn(board), one.turn(board)
    later = NOW + HEARD_S
    assert board.verdict("default", version, later) is Verdict.GONE
    one.turn(board, later)
    assert board.verdict("default", version, later) is Verdict.READY
    with pytest.raises(SwapInProgress):
        board.begin("default", "/newer", later, 8)


def test_models_are_apart() -> None:
    board, one, fast = ModelBoard(), Replica("one"), Replica("quick", model="fast")
    one.turn(board), fast.turn(board)
    board.begin("fast", "/new", NOW, 7)
    assert one.turn(board) is None
    assert isinstance(fast.turn(board), Prepare)
    assert [state.name for state in board.states(NOW)] == ["default", "fast"]
    assert board.states(NOW + HEARD_S) == ()
    with pytest.raises(ModelNotFound, match="there are: default, fast"):
        board.begin("other", "/new", NOW, 7)
    with pytest.raises(DetectorUnavailable):
        board.begin("default", "/new", NOW + HEARD_S, 7)


@given(
    st.lists(st.sampled_from(["/new", "/bad", "/newer"]), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=10, max_size=60),
)
def test_in_whatever_order_replicas_report_all_end_with_the_last_good_package(
    packages: list[str], turns: list[int]
) -> None:
    board = ModelBoard()
    replicas = [Replica(str(index), bad=frozenset({"/bad"} if index == 2 else ())) for index in range(4)]
    replicas[0].turn(board)
    wanted = "/old"
    for package in packages:
        version = board.begin("default", package, NOW, 1)
        for turn in turns:
            replicas[turn].turn(board)
        for _ in range(2):
            for replica in replicas:
                replica.turn(board)
        assert {replica.running.package for replica in replicas} <= {"/old", "/new", "/newer"}
        if board.verdict("default", version, NOW) is Verdict.READY:
            board.commit("default", version)
            wanted = package
        board.abandon("default", version)
        assert (wanted == package) == (package != "/bad")
    for _ in range(3):
        for replica in replicas:
            replica.turn(board)
    assert {replica.running.package for replica in replicas} == {wanted}
    assert all(replica.ready is None for replica in replicas)

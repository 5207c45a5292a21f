"""When a node counts as lost."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from deployments.supervisor.heartbeat.silence import GAP_S, LOST_S, SUSPECT_S, Silence

NODES = ("near", "far")
STEP_S = 0.5

NEAR = 1e-6
"""So near to a limit a sum of steps may lie on either side of it."""


def listening(until: float, *, since: float = 0.0) -> Silence:
    """Awake twice a second."""
    silence = Silence()
    for step in range(int((until - since) / STEP_S) + 1):
        silence.listen(since + step * STEP_S)
        silence.suspects(NODES, since + step * STEP_S)
    return silence


def test_a_node_is_knocked_at_when_it_falls_silent_and_lost_after_three_seconds() -> None:
    silence = listening(10.0)
    silence.heard("near", 10.0)
    silence.heard("far", 10.0 - SUSPECT_S)
    assert silence.suspects(NODES, 10.0) == ["far"]
    assert silence.lost(NODES, 10.0) == []
    silence.heard("near", 12.0)
    assert silence.lost(NODES, 10.0 - SUSPECT_S + LOST_S) == ["far"]


def test_a_node_of_which_nobody_heard_yet_has_its_time() -> None:
    silence = listening(10.0)
    assert silence.lost(("new",), 10.0) == []
    assert silence.lost(("new",), 10.0 + LOST_S) == ["new"]


def test_who_slept_blames_nobody_else() -> None:
    silence = listening(10.0)
    for node in NODES:
        silence.heard(node, 10.0)
    silence.listen(20.0)
    assert silence.lost(NODES, 20.0 + LOST_S - 0.1) == []
    assert silence.lost(NODES, 20.0 + LOST_S) == list(NODES)


@given(st.lists(st.floats(0.01, GAP_S - NEAR), min_size=1, max_size=40), st.floats(0.0, 2 * LOST_S))
def test_lost_is_who_was_silent_for_so_long_whoever_else_answers(steps: list[float], age: float) -> None:
    silence = Silence()
    now = 0.0
    silence.listen(now)
    for step in steps:
        now += step
        silence.listen(now)
        silence.heard("near", now)
    assume(abs(age - LOST_S) > NEAR)
    silence.heard("far", now - min(age, now))
    assert silence.lost(NODES, now) == (["far"] if now - max(0.0, now - age) >= LOST_S else [])

"""How long an engine has stood still while frames wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deployments.detector.health import Standstill


def test_an_engine_that_answers_nothing_while_frames_wait_stands_still() -> None:
    looks = Standstill()
    assert [looks.seconds(at, 3, 0.5) for at in (1.0, 3.0, 5.0)] == [0.0, 2.0, 4.0]


def test_a_frame_that_comes_after_a_long_rest_is_no_standstill() -> None:
    looks = Standstill()
    assert [looks.seconds(at, 0, 0.5) for at in (1.0, 100.0)] == [0.0, 0.0]
    assert looks.seconds(200.0, 1, 0.5) == 0.0
    assert looks.seconds(202.0, 1, 201.0) == 0.0
    assert looks.seconds(204.0, 1, 201.0) == 2.0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_it_is_the_time_since_frames_waited_and_the_engine_moved(seen: list[tuple[int, bool]]) -> None:
    looks, free_at, since = Standstill(), 0.0, None
    for now, (waiting, moved) in enumerate(seen, 1):
        free_at = now - 0.5 if moved else free_at
        since = (now if since is None or moved else since) if waiting else None
        assert looks.seconds(float(now), waiting, free_at) == (0.0 if since is None else now - since)

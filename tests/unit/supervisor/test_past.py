"""What earlier lives of a stream left behind."""

from __future__ import annotations

from deployments.supervisor.past import Past


def test_each_death_makes_the_next_life_wait_longer_until_it_was_healthy_for_long() -> None:
    past = Past()
    assert past.not_before("gate") == 0.0
    waits = []
    for number in range(12):
        past.died("gate", now=100.0 * number)
        waits.append(past.not_before("gate") - 100.0 * number)
    assert max(waits[:2]) <= 1.0
    assert 10 < waits[-1] <= 30
    past.healthy("gate", 5000.0)
    past.healthy("gate", 5100.0)
    past.died("gate", 6000.0)
    assert past.not_before("gate") - 6000.0 <= 0.5
    assert past.not_before("yard") == 0.0


def test_what_was_seen_never_goes_back_and_a_restart_waits_for_nothing() -> None:
    past = Past()
    past.ended("gate", 70)
    past.ended("gate", 0)  # it never reported
    past.died("gate", 100.0)
    past.unplaced.add("gate")
    past.try_now("gate")
    assert (past.not_before("gate"), past.seen("gate"), past.unplaced) == (0.0, 70, set())
    past.hand_on("gate", b"tracks")
    past.hand_on("gate", None)  # a life that has none leaves what is there
    assert past.carried == {"gate": b"tracks"}
    past.forget("gate")
    assert (past.seen("gate"), past.carried) == (0, {})

"""The router between this machine and a camera cuts, slows or loses what passes."""

from __future__ import annotations

import random

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import GATE, Fleet
from tests.chaos.network import Network, unavailable

SLOW_BITS = 32_000
"""A second: a tenth or less of what the stream takes."""

LOSS_PERCENT = 20


def cut(fleet: Fleet, rng: random.Random) -> Outcome:
    """Nothing passes, and nobody is told."""
    router = _network(fleet)
    router.in_router("ip", "link", "set", "south", "down")
    try:
        last(rng.uniform(2, 10))
    finally:
        router.in_router("ip", "link", "set", "south", "up")
    return Outcome(frozenset({GATE}))


def slow(fleet: Fleet, rng: random.Random) -> Outcome:
    """A token bucket on the way from the camera (tc-tbf)."""
    router = _network(fleet)
    bucket = ("rate", f"{SLOW_BITS}bit", "burst", "4kb", "latency", "400ms")
    router.in_router("tc", "qdisc", "add", "dev", "north", "root", "tbf", *bucket)
    try:
        last(rng.uniform(4, 10))
    finally:
        router.in_router("tc", "qdisc", "del", "dev", "north", "root")
    return Outcome(frozenset({GATE}))


def lose(fleet: Fleet, rng: random.Random) -> Outcome:
    """One packet of five, of both directions."""
    router = _network(fleet)
    router.in_router("nft", "add table ip chaos")
    try:
        router.in_router("nft", "add chain ip chaos way { type filter hook forward priority 0 ; }")
        router.in_router("nft", f"add rule ip chaos way numgen random mod 100 < {LOSS_PERCENT} drop")
        last(rng.uniform(4, 8))
    finally:
        router.in_router("nft", "delete table ip chaos")
    return Outcome(frozenset({GATE}))


def _network(fleet: Fleet) -> Network:
    assert fleet.network is not None
    return fleet.network


def _unavailable(fleet: Fleet) -> str | None:
    return None if fleet.network is not None else unavailable()


FAULTS = (
    Fault("network cut", cut, _unavailable),
    Fault("network slowed", slow, _unavailable),
    Fault(f"{LOSS_PERCENT} % of packets lost", lose, _unavailable),
)

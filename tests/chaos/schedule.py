"""When which fault strikes: a pure function of the seed, the length and the faults that can be done here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SLOT_S = 15.0
"""From one fault to the next: most last for 3 to 6 s, and a stream has 5 s (10 s after a node) to be back."""

EARLIEST_SHARE = 0.2
"""A fault strikes within the first fifth of its slot, so that faults don't come in step with anything periodic."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault.

    Attributes:
        at_s: seconds after the beginning; a fault before it that takes longer delays it.
        fault: its name.
        seed: of the choices within it, such as which process is struck and for how long.
    """

    at_s: float
    fault: str
    seed: int


def schedule(seed: int, minutes: float, faults: Sequence[str]) -> tuple[Planned, ...]:
    """As many faults as fit into ``minutes``, one a slot; every one has its turn before any comes again.

    The same arguments give the same schedule on every machine (`random.Random` seeded by an integer).
    """
    if not faults:
        return ()
    rng = random.Random(seed)
    planned: list[Planned] = []
    turn: list[str] = []
    for slot in range(int(minutes * 60 // SLOT_S)):
        if not turn:
            turn = sorted(faults)
            rng.shuffle(turn)
        at_s = slot * SLOT_S + rng.uniform(0, EARLIEST_SHARE * SLOT_S)
        planned.append(Planned(at_s, turn.pop(), rng.getrandbits(32)))
    return tuple(planned)

"""Who may publish a stream: the pure part. Never two actors at a time, whatever is late, cut off or away.

The right lies in the store: a record of each stream whose version is the *term* of the life that may publish it. The
supervisor writes it before that life begins. A holder is renewed by whatever shows that nobody had succeeded it at a
time: it reads its own term, the supervisor says so, or the store is known to be down, when nobody can begin a term.
It stops `HOLD_S` after that time. A successor that can't know whether its predecessor has ended waits `WAIT_S`, in
which the store has to be up without a break: in one, its predecessor may have gone on.

The supervisor says so by naming, in its call for the report, a time of the holder's own clock that it got with an
earlier report: so a call that is long under way gives no more. It does so only where, after that report came, Ray has
said that the supervisor's own node lives: until Ray gives that up it starts no other supervisor.

What this does not cover: a life that is deleted while its node is lost, and made again under the same name after the
supervisor restarted, all within `HOLD_S`, does not wait. A process that is stopped as a whole (SIGSTOP) notices the end
of its right once it runs again; what its relay still holds goes out.
"""

from __future__ import annotations

HOLD_S = 7.0
"""How long a holder goes on after it was last renewed."""

WAIT_S = 12.0
"""How long a successor waits. The holder's outputs have the rest, 5 s, to close."""

NEVER = float("-inf")


class Lease:
    """The right of one life of a stream; not safe to use from several threads.

    All times are seconds on the monotonic clock of the life's own process.

    Args:
        wait_s: 0 where all earlier lives are known to have ended, else `WAIT_S`.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._waiting = wait_s > 0
        self._until = NEVER
        self._renewed = NEVER
        self._server: str | None = None
        self.succeeded = False
        """Another life has begun, or nobody wants the stream: for good."""

    @property
    def waiting(self) -> bool:
        """Whether an earlier life may still publish."""
        return self._waiting

    @property
    def begun(self) -> bool:
        """Whether it was ever renewed."""
        return self._renewed > NEVER

    def publishes(self, now: float) -> bool:
        """Whether this life may publish at ``now``."""
        return not self.succeeded and not self._waiting and now < self._renewed + HOLD_S

    def read_own(self, asked: float, server: str) -> None:
        """The store had this life's term.

        Args:
            asked: when the question was sent.
            server: names the store's process: another one means that the store was down meanwhile.
        """
        self._renew(asked)
        if not self._waiting:
            return
        if server != self._server:
            self._server, self._until = server, asked + self._wait_s
        elif asked >= self._until:
            self._waiting = False

    def read_other(self) -> None:
        """The store had another term, or none."""
        self.succeeded = True

    def vouched(self, stamp: float) -> None:
        """The supervisor says that it has begun no other life, and was not replaced, after it was told of ``stamp``."""
        self._renew(stamp)

    def store_down(self, asked: float) -> None:
        """Its host answers that no store runs there: nobody succeeds. A right that was lost does not come back so."""
        if self.publishes(asked):
            self._renew(asked)

    def _renew(self, at: float) -> None:
        self._renewed = max(self._renewed, at)

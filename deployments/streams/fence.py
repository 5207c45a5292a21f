"""Who may give orders: the newest supervisor that was heard of."""

from __future__ import annotations

import threading

from deployments.store.protocol import Fenced


class Fence:
    """Lets in calls of the newest epoch, and of none before it."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._lock = threading.Lock()

    def admit(self, epoch: int) -> None:
        """Raises Fenced where a newer supervisor has called already."""
        with self._lock:
            if epoch < self._epoch:
                raise Fenced(f"supervisor {epoch} was replaced by supervisor {self._epoch}")
            self._epoch = epoch

"""Only the newest supervisor gives orders."""

from __future__ import annotations

import pytest

from deployments.store.protocol import Fenced
from deployments.streams.fence import Fence


def test_an_older_supervisor_is_refused_once_a_newer_one_called() -> None:
    fence = Fence(3)
    fence.admit(3)
    fence.admit(5)
    fence.admit(5)
    with pytest.raises(Fenced, match="supervisor 4 was replaced by supervisor 5"):
        fence.admit(4)
    fence.admit(6)

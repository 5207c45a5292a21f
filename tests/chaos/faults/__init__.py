"""What can be done to a running fleet, a function for each fault; `ALL` has them by name."""

from __future__ import annotations

from tests.chaos.faults import churn, clock, gcs, network, node, processes, proxied, source, store
from tests.chaos.faults.fault import Fault, Outcome

ALL: dict[str, Fault] = {
    fault.name: fault
    for module in (processes, source, network, proxied, store, clock, churn, node, gcs)
    for fault in module.FAULTS
}

__all__ = ["ALL", "Fault", "Outcome"]

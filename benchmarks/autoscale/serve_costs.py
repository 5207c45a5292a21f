"""What Serve itself costs by the number of replicas, as far as one process can tell: the real code of Ray 2.60.

Two things happen in its controller, one process for the whole cluster: the policy is asked ten times a second, and
whenever a replica comes or goes, all replicas are listed to every handle, each of which reads the whole list. There is
a handle in each node's attach broker. What is not seen here: the controller's own bookkeeping of each replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ray import cloudpickle
from ray.serve._private.common import (
    DeploymentID,
    DeploymentTargetInfo,
    ReplicaID,
    RunningReplicaInfo,
    TimeStampedValue,
)
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from benchmarks.autoscale.cpu import cpu_s
from deployments.detector.autoscaling import ATTACHED_FPS, COUNTED, ENGINE_FPS, FramesPolicy
from deployments.names import APPLICATION, DEPLOYMENT

_ID = DeploymentID(DEPLOYMENT, APPLICATION)
MOST_REPLICAS = 2000


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """Milliseconds of CPU of one decision, and of one list of all replicas, packed and unpacked, with its size."""
    pack: Any = cloudpickle.dumps
    decisions, packed, unpacked, lengths = [], [], [], []
    for size in sizes:
        serve = Controller(size)
        decisions.append(round(cpu_s(partial(serve.decide, 100.0 * size, 200.0, 0.0)) * 1e3, 3))
        info = DeploymentTargetInfo(True, [_running(n) for n in range(size)])
        data = pack(info)
        packed.append(round(cpu_s(partial(pack, info)) * 1e3, 3))
        unpacked.append(round(cpu_s(partial(cloudpickle.loads, data)) * 1e3, 3))
        lengths.append(len(data))
    return {
        "replicas": list(sizes),
        "decision_cpu_ms": decisions,
        "list_packed_cpu_ms": packed,
        "list_unpacked_cpu_ms": unpacked,
        "list_bytes": lengths,
    }


def _running(number: int) -> RunningReplicaInfo:
    replica = ReplicaID(f"{number:08x}", _ID)
    return RunningReplicaInfo(replica, f"{number:056x}", "10.0.0.1", None, replica.to_full_id_str(), 512)


class Controller:
    """Serve's wrapping of `FramesPolicy`, with its delays and bounds, and what replicas told of themselves."""

    def __init__(self, replicas: int = 1, utilisation: float = 0.8, most: int = MOST_REPLICAS) -> None:
        self.replicas = self.target = replicas
        self._now = 0.0
        self._ids = [ReplicaID(str(number), _ID) for number in range(most)]
        self._state: dict[str, Any] = {}
        self._config = AutoscalingConfig(min_replicas=1, max_replicas=most)
        policy: Any = FramesPolicy(utilisation, clock=lambda: self._now)
        self._ask = _apply_autoscaling_config(policy)

    def decide(self, attached_fps: float, engine_fps: float, now: float) -> int:
        """How many replicas there should be, at Unix time ``now``, which Serve takes from its own clock."""
        self._now = now
        ids = self._ids[: self.replicas]
        told = {ATTACHED_FPS: attached_fps, ENGINE_FPS: engine_fps, COUNTED: float(self.replicas)}
        series = {name: (TimeStampedValue(now, value),) for name, value in told.items()}
        metrics: Any = {name: dict.fromkeys(ids, samples) for name, samples in series.items()}
        context = AutoscalingContext(
            deployment_id=_ID,
            deployment_name=_ID.name,
            app_name=_ID.app_name,
            current_num_replicas=self.replicas,
            target_num_replicas=self.target,
            running_replicas=ids,
            total_num_requests=0.0,
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics=metrics,
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now,
            config=self._config,
        )
        self.target, self._state = self._ask(context)
        return self.target

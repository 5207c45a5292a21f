"""A second Ray node, as `ray.cluster_utils.Cluster` adds one: ``python -m tests.chaos.ray_node GCS_PORT``.

``ray start`` refuses a second node where the first is told that there is no cluster, which is what keeps Ray on the
loopback. Reads standard input and ends with it.
"""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray._private.parameter import RayParams

CPUS = 8
STORE_BYTES = 150 * 2**20

if __name__ == "__main__":
    node = Node(
        RayParams(
            gcs_address=f"127.0.0.1:{sys.argv[1]}",
            node_ip_address="127.0.0.1",
            num_cpus=CPUS,
            num_gpus=0,
            object_store_memory=STORE_BYTES,
            min_worker_port=0,
            max_worker_port=0,
            node_manager_port=0,
            include_log_monitor=False,  # type: ignore[arg-type]  # as Ray itself passes it
        ),
        head=False,
    )
    print("up", flush=True)
    sys.stdin.read()
    node.kill_all_processes()

"""A further Ray node: ``python -m tests.support.ray_node GCS_ADDRESS OWN_ADDRESS CPUS``, as `ray.cluster_utils.Cluster`
adds one.

``ray start`` refuses a second node where the first is told that there is no cluster, which is what keeps Ray on the
loopback. Says ``up``, reads standard input and ends with it.
"""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray._private.parameter import RayParams

STORE_BYTES = 100 * 2**20

if __name__ == "__main__":
    gcs, own, cpus = sys.argv[1:]
    node = Node(
        RayParams(
            gcs_address=gcs,
            node_ip_address=own,
            num_cpus=int(cpus),
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

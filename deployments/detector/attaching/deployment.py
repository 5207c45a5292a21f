"""Which replica an attachment goes to; in a module of its own, since every process with a handle loads it."""

import random

from ray.serve.request_router import LocalityMixin, PendingRequest, RequestRouter, RunningReplica


class AttachRouter(LocalityMixin, RequestRouter):
    """Serve's power of two choices, but an attachment that names a replica goes there if it can, else to one on its own
    node: there frames travel by shared memory. Replicas send on what is more than their share.

    Not a subclass of Serve's own: that one may give a replica which was chosen for one request to another.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """What to try, in order; of each group the replica with the fewest requests."""
        to = pending_request.kwargs.get("to") if pending_request is not None else None
        named = [replica for replica in candidate_replicas if replica.replica_id.unique_id == to]
        beside = [replica for replica in candidate_replicas if to is not None and replica.node_id == self._self_node_id]
        return [named, *(random.sample(group, min(2, len(group))) for group in (beside, candidate_replicas))]

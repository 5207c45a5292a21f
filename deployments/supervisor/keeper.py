"""What the supervisor has to find again after its own death, in the key-value store of Ray's control service.

It lies in that service's memory, credentials included, as do the arguments of every actor: in the same domain of trust,
and gone when Ray ends. Nothing but the supervisor writes here, each record before its change is answered.
"""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass

from ray.experimental import internal_kv

from deployments.names import NAMESPACE
from deployments.streams.hardware import NOTHING, Grant
from deployments.supervisor.registry import Entry

PREFIX = "stream:"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A stream that users want, and the last life that was begun for it.

    Attributes:
        epoch: lives of its actor so far.
        sequence: number of that life's first frame.
        grant: the places on GPUs that were asked for.
    """

    entry: Entry
    epoch: int = 0
    sequence: int = 0
    grant: Grant = NOTHING


def keep(kept: Kept) -> None:
    """Store, or replace."""
    record = pickle.dumps(kept)  # JSON leaves out the credentials
    internal_kv._internal_kv_put(PREFIX + kept.entry.spec.id, record, overwrite=True, namespace=NAMESPACE)


def forget(stream_id: str) -> None:
    """Remove; one that is not there is none to remove."""
    internal_kv._internal_kv_del(PREFIX + stream_id, namespace=NAMESPACE)


def recall() -> dict[str, Kept]:
    """All that is kept, by stream id."""
    found: dict[str, Kept] = {}
    for key in internal_kv._internal_kv_list(PREFIX, namespace=NAMESPACE):
        record = internal_kv._internal_kv_get(key, namespace=NAMESPACE)
        try:
            kept: Kept = pickle.loads(record)
        except Exception:
            logger.exception("the record of %r can't be read: register the stream again", key)
        else:
            found[kept.entry.spec.id] = kept
    return found

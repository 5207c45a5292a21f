"""Places for pictures in memory that client and server share, with no name that could outlive them.

The client makes the memory with ``memfd_create`` and hands its descriptor over on the Unix socket; the server maps it
for reading. So there is nothing to unlink: the kernel frees the memory with the last mapping, however either side
ends, ``kill -9`` included. It needs no ``/dev/shm``, which is 64 MB in many containers, and no resource tracker
knows of it. That both see the same memory needs no proof either: a descriptor can be passed within one kernel only.

The segment is sealed against shrinking, and the server refuses one that isn't: otherwise a client could end the
server with SIGBUS. A slot belongs to one frame from the moment it is taken until the server has answered that frame;
a segment belongs to one attachment and is never used again.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os

import numpy as np

from engines.types import UInt8Array

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class NotShared(Exception):
    """The other side's segment isn't what was announced."""


class Segment:
    """The client's side: slots of ``slot_bytes`` each, on pages of their own.

    Memory is used when first written, and freed with the last reference to the segment and the server's mapping.
    """

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.slots, self.slot_bytes = slots, slot_bytes
        size = _segment_bytes(slots, slot_bytes)
        self._descriptor: int | None = os.memfd_create("raysight-link", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._descriptor, size)
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(self._descriptor, size)
        except OSError:
            self.hide()
            raise

    @property
    def descriptor(self) -> int:
        """What the other side maps; until `hide`."""
        if self._descriptor is None:
            raise ValueError("this segment is hidden already")
        return self._descriptor

    def hide(self) -> None:
        """Close the descriptor; what is mapped stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def place(self, slot: int, shape: tuple[int, ...]) -> UInt8Array:
        """A slot as a picture of at most ``slot_bytes``, to write into."""
        size, offset = math.prod(shape), _slot_offset(slot, self.slot_bytes)
        return np.frombuffer(self._memory, np.uint8, size, offset).reshape(shape)


class MappedSegment:
    """The server's side: read-only. Pictures taken from it keep the mapping alive, so nothing needs closing."""

    def __init__(self, descriptor: int, slots: int, slot_bytes: int, *, max_slot_bytes: int) -> None:
        """Map the segment behind ``descriptor``, which may be closed then. Raises NotShared."""
        if slot_bytes > max_slot_bytes:
            raise NotShared(f"slots of {slot_bytes} bytes are larger than any frame")
        self.slots = slots
        self._slot_bytes = slot_bytes
        self._memory = _map(descriptor, _segment_bytes(slots, slot_bytes))

    def read(self, slot: int, shape: tuple[int, ...]) -> UInt8Array | None:
        """The picture in a slot, not copied; None where a picture of that shape can't be there."""
        size = math.prod(shape)
        if slot >= self.slots or size > self._slot_bytes:
            return None
        return np.frombuffer(self._memory, np.uint8, size, _slot_offset(slot, self._slot_bytes)).reshape(shape)


def _map(descriptor: int, size: int) -> mmap.mmap:
    try:
        if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK or os.fstat(descriptor).st_size != size:
            raise NotShared("the segment isn't sealed, or has another size")
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise NotShared("what came is no segment") from error


def _slot_offset(slot: int, slot_bytes: int) -> int:
    pages = -(-slot_bytes // mmap.PAGESIZE)
    return mmap.PAGESIZE * slot * pages


def _segment_bytes(slots: int, slot_bytes: int) -> int:
    return _slot_offset(slots, slot_bytes)

"""The link's messages as bytes: one for the version, one for the kind, then fields in little-endian order.

A picture that isn't in shared memory follows its `Frame` as a second part, so that it is never copied together with
it. Whatever bytes come in, `decode` returns a message or raises `Malformed`: the other side may be of another
version, or not ours at all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from deployments.detector.scheduler import DropReason
from deployments.link.messages import (
    DETECTION_BYTES,
    LEASE_BYTES,
    MAX_DETECTIONS,
    MAX_MESSAGE_BYTES,
    MAX_NAME_BYTES,
    MAX_SLOTS,
    MAX_TEXT_BYTES,
    VERSION,
    Alive,
    Bye,
    ByeReason,
    Drain,
    DrainReason,
    Drop,
    Frame,
    Hello,
    Layout,
    Malformed,
    Message,
    Renew,
    Renewed,
    Reply,
    Welcome,
)
from engines.types import Detections, Thresholds

_INLINE = 0xFFFF

_DROPS = {
    1: DropReason.SUPERSEDED,
    2: DropReason.STALE,
    3: DropReason.INVALID,
    4: DropReason.OVERLOADED,
    5: DropReason.GONE,
    6: DropReason.FAILED,
}
_DROP_CODES = {reason: code for code, reason in _DROPS.items()}

_HEAD = struct.Struct("<BB")
_HELLO = struct.Struct(f"<BB{LEASE_BYTES}sHI")
_WELCOME = struct.Struct("<BBBd")
_FRAME = struct.Struct("<BBQHBhdBddIHH")
_REPLY = struct.Struct("<BBQddH")
_DROP = struct.Struct("<BBQB")
_SPAN = struct.Struct("<BBd")
_REASON = struct.Struct("<BBB")

_KINDS: tuple[type[Message], ...] = (Hello, Welcome, Frame, Reply, Drop, Alive, Renew, Renewed, Drain, Bye)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}


def encode(message: Message) -> bytes:
    """A message as bytes. Raises Malformed where it carries too much."""
    return _PACK[type(message)](message, VERSION, _CODES[type(message)])


def decode(data: bytes) -> Message:
    """The message that ``data`` is. Raises Malformed, and nothing else, where it is none."""
    if not _HEAD.size <= len(data) <= MAX_MESSAGE_BYTES:
        raise Malformed(f"{len(data)} bytes are no message")
    version, code = data[0], data[1]
    if version != VERSION or code >= len(_KINDS):
        raise Malformed(f"version {version}, kind {code}: this side speaks version {VERSION}")
    try:
        return _UNPACK[code](data)
    except (struct.error, ValueError, KeyError) as error:
        raise Malformed(f"not a {_KINDS[code].__name__}") from error


def _span(value: float, most: float = 86_400.0) -> float:
    if not 0.0 <= value <= most:
        raise Malformed(f"{value} is no span of time")
    return value


def _hello(data: bytes) -> Hello:
    _, _, lease, slots, slot_bytes = _HELLO.unpack(data)
    hello = Hello(lease.hex(), slots, slot_bytes)
    if hello.slots > MAX_SLOTS or (hello.slots and not hello.slot_bytes):
        raise Malformed("impossible slots")
    return hello


def _welcome(data: bytes) -> Welcome:
    _, _, shared, lease_s = _WELCOME.unpack(data)
    if shared > 1:
        raise Malformed("an impossible welcome")
    return Welcome(bool(shared), _span(lease_s))


def _pack_frame(message: Frame, *head: int) -> bytes:
    sequence, slot, layout, thresholds, priority, budget_s, rows = message
    place = _INLINE if slot is None else slot
    limits = (
        (0, 0.0, 0.0, 0)
        if thresholds is None
        else (
            1,
            thresholds.confidence,
            thresholds.iou,
            thresholds.max_detections,
        )
    )
    return _FRAME.pack(*head, sequence, place, layout, priority, budget_s, *limits, *(rows or (0, 0)))


def _frame(data: bytes) -> Frame:
    _, _, sequence, place, layout, priority, budget_s, given, confidence, iou, most, top, rows = _FRAME.unpack(data)
    if given > 1 or not 0.0 <= confidence <= 1.0 or not 0.0 <= iou <= 1.0 or MAX_SLOTS <= place < _INLINE:
        raise Malformed("a frame with impossible values")
    thresholds = Thresholds(confidence, iou, min(most, MAX_DETECTIONS)) if given else None
    slot = None if place == _INLINE else place
    return Frame(
        sequence, slot, Layout(layout), thresholds, priority, _span(budget_s), (top, rows) if top or rows else None
    )


def _pack_reply(message: Reply, *head: int) -> bytes:
    sequence, wait_s, infer_s, batch_size, detections = message
    return _REPLY.pack(*head, sequence, wait_s, infer_s, batch_size) + _pack_detections(detections)


def _reply(data: bytes) -> Reply:
    _, _, sequence, wait_s, infer_s, batch_size = _REPLY.unpack_from(data)
    return Reply(sequence, _span(wait_s), _span(infer_s), batch_size, _detections(data, _REPLY.size))


def _pack_detections(detections: Detections) -> bytes:
    """All boxes, then all confidences (float32), then all classes (int32)."""
    if len(detections) > MAX_DETECTIONS:
        raise Malformed(f"{len(detections)} detections are more than {MAX_DETECTIONS}")
    columns = ((detections.xyxy, "<f4"), (detections.confidence, "<f4"), (detections.class_id, "<i4"))
    return b"".join(column.astype(dtype, copy=False).tobytes() for column, dtype in columns)


def _detections(data: bytes, start: int) -> Detections:
    count, rest = divmod(len(data) - start, DETECTION_BYTES)
    if rest or count > MAX_DETECTIONS:
        raise Malformed("no whole number of detections")
    xyxy = np.frombuffer(data, "<f4", 4 * count, start).reshape(count, 4)
    confidence = np.frombuffer(data, "<f4", count, start + 16 * count)
    return Detections(xyxy, confidence, np.frombuffer(data, "<i4", count, start + 20 * count))


def _pack_drop(message: Drop, *head: int) -> bytes:
    detail = message.detail.encode(errors="replace")[:MAX_TEXT_BYTES]
    return _DROP.pack(*head, message.sequence, _DROP_CODES[message.reason]) + detail


def _drop(data: bytes) -> Drop:
    _, _, sequence, reason = _DROP.unpack_from(data)
    detail = data[_DROP.size :]
    if len(detail) > MAX_TEXT_BYTES:
        raise Malformed("a long-winded drop")
    return Drop(sequence, _DROPS[reason], detail.decode(errors="replace"))


def _pack_drain(message: Drain, *head: int) -> bytes:
    to = message.to.encode()
    if len(to) > MAX_NAME_BYTES:
        raise Malformed("a long-winded drain")
    return _REASON.pack(*head, message.reason) + to


def _drain(data: bytes) -> Drain:
    _, _, reason = _REASON.unpack_from(data)
    to = data[_REASON.size :]
    if len(to) > MAX_NAME_BYTES:
        raise Malformed("a long-winded drain")
    return Drain(DrainReason(reason), to.decode())


def _nothing(kind: type[Alive] | type[Renew]) -> Callable[[bytes], Message]:
    def unpack(data: bytes) -> Message:
        _HEAD.unpack(data)
        return kind()

    return unpack


_PACK: dict[type[Message], Callable[..., bytes]] = {
    Hello: lambda message, *head: _HELLO.pack(*head, bytes.fromhex(message.lease), message.slots, message.slot_bytes),
    Welcome: lambda message, *head: _WELCOME.pack(*head, *message),
    Frame: _pack_frame,
    Reply: _pack_reply,
    Drop: _pack_drop,
    Alive: lambda _, *head: _HEAD.pack(*head),
    Renew: lambda _, *head: _HEAD.pack(*head),
    Renewed: lambda message, *head: _SPAN.pack(*head, message.lease_s),
    Drain: _pack_drain,
    Bye: lambda message, *head: _REASON.pack(*head, message.reason),
}

_UNPACK: tuple[Callable[[bytes], Message], ...] = (
    _hello,
    _welcome,
    _frame,
    _reply,
    _drop,
    _nothing(Alive),
    _nothing(Renew),
    lambda data: Renewed(_span(_SPAN.unpack(data)[2])),
    _drain,
    lambda data: Bye(ByeReason(_REASON.unpack(data)[2])),
)

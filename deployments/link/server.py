"""The replica's end of the link: frames in from all attached streams, detections out, on one thread of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from zmq.utils import z85

from deployments.detector.port import DetectReply
from deployments.detector.scheduler import DropReason
from deployments.errors import DetectorUnavailable
from deployments.link import messages
from deployments.link.attachments import WINDOW, Attachment, Attachments, LinkFrame, ProtocolBreach, WrongPicture
from deployments.link.codec import decode
from deployments.link.grant import Grant
from deployments.link.listener import Listener
from deployments.link.local import Incoming
from deployments.link.messages import ByeReason, DrainReason, Malformed, Message
from deployments.link.pictures import shapes
from deployments.link.slots import MappedSegment, NotShared
from deployments.link.stats import LinkStats
from engines.types import EngineInfo

logger = logging.getLogger(__name__)

LEASE_S = 30.0
LEASE_JITTER = 0.2
"""Part of a lease by which it is shorter or longer, so that streams which attached together don't renew together."""

_CHECK_S = 0.25
"""Between two looks at leases and at who is silent."""

_GOODBYE_S = 0.2
"""How long a server that closes waits for its clients to hang up."""

_BURST = 256
"""Messages taken before keys, leases and connections are looked at again."""


class LinkServer:
    """Serves the frames of all attached streams.

    ``on_frame`` gets each frame and ``on_gone`` each lease that has ended, used or not; both on the link's thread, so
    they must be quick. ``elsewhere`` is asked there, when a lease is to be renewed, for the name of the replica that
    its stream should attach to instead; None: it stays.
    All methods may be called from any thread.
    """

    def __init__(
        self,
        info: EngineInfo,
        *,
        host: str,
        on_frame: Callable[[LinkFrame], None],
        on_gone: Callable[[str], None],
        elsewhere: Callable[[str], str | None],
        lease_s: float = LEASE_S,
    ) -> None:
        """Listen at once, on a free port of ``host``: this machine's address as streams on other nodes see it."""
        self._info = info
        self._shapes = shapes(info)
        self._on_frame, self._on_gone, self._elsewhere = on_frame, on_gone, elsewhere
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._attachments = Attachments()
        self._counts: Counter[str] = Counter()
        self._drops: Counter[DropReason] = Counter()
        self._drain: messages.Drain | None = None
        self._closing = False
        self._check_at = 0.0
        self._listener = Listener(host, info.width * info.height * 3)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def grant(self, stream: str, client_key: bytes) -> Grant:
        """Leave for the owner of a public key (Z85) to attach. A later grant for the same key replaces the first.

        Raises:
            DetectorUnavailable: while draining, or when full.
        """
        key, listener = z85.decode(client_key), self._listener
        with self._lock:
            if self._drain is not None:
                raise DetectorUnavailable("this replica takes no more streams")
            lease = self._attachments.grant(stream, key, time.monotonic())
        listener.gate.allow(key, lease)
        return Grant(lease, listener.local, listener.tcp, listener.key, self._info, WINDOW)

    def reply(self, frame: LinkFrame, reply: DetectReply) -> bool:
        """Answer a frame; False where its client is gone. Its slot may be overwritten from now on."""
        if len(reply.detections) > messages.MAX_DETECTIONS:
            return self.drop(frame, DropReason.FAILED, f"more than {messages.MAX_DETECTIONS} detections")
        answer = messages.Reply(frame.sequence, reply.wait_s, reply.infer_s, reply.batch_size, reply.detections)
        return self._answer(frame, answer, None)

    def drop(self, frame: LinkFrame, reason: DropReason, detail: str = "") -> bool:
        """Answer a frame with why it got no detections; False where its client is gone."""
        return self._answer(frame, messages.Drop(frame.sequence, reason, detail), reason)

    def end(self, lease: str) -> None:
        """End a grant or an attachment whose stream is known to be gone."""
        with self._lock:
            self._attachments.end(lease)
            self._check_at = 0.0
        self._listener.wake()

    def drain(self, reason: DrainReason = DrainReason.LEAVING, to: str = "") -> None:
        """Tell all streams at once to attach elsewhere, best to ``to``, and take no more; those here are served on."""
        with self._lock:
            drain = self._drain = messages.Drain(reason, to)
            peers = list(self._attachments.by_peer)
        for peer in peers:
            self._send(peer, drain)

    def stats(self) -> LinkStats:
        """What happened so far."""
        with self._lock:
            here = self._attachments.by_lease.values()
            return LinkStats(
                attached=len(here),
                shared=sum(attachment.segment is not None for attachment in here),
                frames=self._counts["frames"],
                replies=self._counts["replies"],
                dropped=dict(self._drops),
                junk=self._counts["junk"] + self._listener.junk,
                strangers=self._listener.strangers,
            )

    def offered(self) -> dict[str, int]:
        """Frames that each attachment has sent so far, by lease."""
        with self._lock:
            return {lease: attachment.frames for lease, attachment in self._attachments.by_lease.items()}

    def streams(self) -> dict[str, str]:
        """Whose each attachment is, by lease."""
        with self._lock:
            return {lease: attachment.stream for lease, attachment in self._attachments.by_lease.items()}

    @property
    def running(self) -> bool:
        """False once closed or broken: a replica whose link is broken must be replaced."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Say goodbye to all and stop; frames that are still here are never answered."""
        self._closing = True
        self._listener.wake()
        self._thread.join()

    def _answer(self, frame: LinkFrame, answer: messages.Reply | messages.Drop, reason: DropReason | None) -> bool:
        with self._lock:
            attachment = self._attachments.by_lease.get(frame.lease)
            if attachment is None or not attachment.settle(frame):
                return False
            if reason is None:
                self._counts["replies"] += 1
            else:
                self._drops[reason] += 1
        return self._send(attachment.peer, answer)

    def _send(self, peer: bytes, message: Message) -> bool:
        if self._listener.send(peer, message):
            return True
        with self._lock:
            attachment = self._attachments.by_peer.get(peer)
            if attachment is not None:  # it left, or takes nothing any more: a lost reply would keep its slot for ever
                self._attachments.end(attachment.lease)
                self._check_at = 0.0
        self._listener.wake()
        return False

    # The link's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            changed = True
            while not self._closing:
                leaving = self._broken() if changed else []
                now = time.monotonic()
                if now >= self._check_at:
                    self._check_at = now + _CHECK_S
                    self._end_overdue(now)
                drained = self._receive()
                for lease in leaving:  # only now: what it sent before it left has been taken in
                    self._detach(lease, None)
                changed = self._listener.wait(_CHECK_S if drained else 0.0)
            self._say_goodbye()
        except Exception:
            logger.exception("the link's thread failed: this replica serves no streams any more")
        finally:
            self._listener.close()

    def _say_goodbye(self) -> None:
        """End all attachments, and let the clients hang up: closing first, ZeroMQ may drop what was sent last."""
        standing = {attachment.connection for attachment in self._attachments.by_lease.values()}
        for lease in list(self._attachments.by_lease):
            self._detach(lease, ByeReason.CLOSED)
        deadline = time.monotonic() + _GOODBYE_S
        while standing and (left := deadline - time.monotonic()) > 0:
            self._listener.wait(left)
            standing.difference_update(self._listener.broken())
            while self._listener.receive() is not None:
                pass  # what comes now is too late

    def _receive(self) -> bool:
        """Take in what is there; False if it was so much that there may be more."""
        for _ in range(_BURST):
            incoming = self._listener.receive()
            if incoming is None:
                return True
            try:
                self._handle(incoming)
            except (Malformed, ProtocolBreach) as error:
                self._refuse(incoming, error)
            finally:
                incoming.close()
        return False

    def _handle(self, incoming: Incoming) -> None:
        now = time.monotonic()
        message = decode(incoming.data)
        if isinstance(message, messages.Hello):
            self._hello(incoming, message, now)
            return
        peer = incoming.peer
        attachment = self._attachments.by_peer.get(peer)
        if attachment is None:
            raise ProtocolBreach("not attached")
        attachment.heard_at = now
        match message:
            case messages.Frame():
                self._frame(attachment, message, incoming.pixels, now)
            case messages.Alive():
                self._send(peer, message)
            case messages.Renew():
                self._renew(attachment, now)
            case messages.Bye():
                self._detach(attachment.lease, None)
            case _:
                raise ProtocolBreach(f"a client sends no {type(message).__name__}")

    def _hello(self, incoming: Incoming, hello: messages.Hello, now: float) -> None:
        for broken in self._broken():  # first: this connection may have got the descriptor of one that has ended
            self._detach(broken, None)
        if incoming.lease not in (None, hello.lease):
            raise ProtocolBreach("this key was let in for another lease")
        if hello.lease not in self._attachments:
            raise ProtocolBreach("no such lease was granted")
        segment = None
        if hello.slots:
            try:
                segment = self._map(incoming, hello)
            except NotShared as error:
                logger.warning("%s: this stream has to come over TCP", error)
                self._send(incoming.peer, messages.Welcome(False, 0.0))
                self._listener.end(incoming.peer)
                return
        lease_s = self._lease()
        with self._lock:
            self._attachments.attach(hello.lease, incoming.peer, incoming.connection, segment, now, lease_s)
        self._send(incoming.peer, messages.Welcome(segment is not None, lease_s))
        if self._drain is not None:  # granted before, so it hasn't been told yet
            self._send(incoming.peer, self._drain)

    def _map(self, incoming: Incoming, hello: messages.Hello) -> MappedSegment:
        if incoming.descriptor is None:
            raise NotShared("no memory came along")
        largest = self._info.width * self._info.height * 3
        return MappedSegment(incoming.descriptor, hello.slots, hello.slot_bytes, max_slot_bytes=largest)

    def _frame(self, attachment: Attachment, frame: messages.Frame, pixels: memoryview | None, now: float) -> None:
        try:
            with self._lock:
                here = attachment.accept(frame, pixels, self._shapes, now)
                self._counts["frames"] += 1
        except WrongPicture as wrong:
            with self._lock:
                self._counts["frames"] += 1
                self._drops[DropReason.INVALID] += 1
            self._send(attachment.peer, messages.Drop(frame.sequence, DropReason.INVALID, str(wrong)))
            return
        try:
            self._on_frame(here)
        except Exception:
            logger.exception("a frame could not be taken in")
            self.drop(here, DropReason.FAILED)

    def _renew(self, attachment: Attachment, now: float) -> None:
        if self._drain is not None:
            self._send(attachment.peer, self._drain)
            return
        if (to := self._elsewhere(attachment.lease)) is not None:
            self._send(attachment.peer, messages.Drain(DrainReason.REBALANCE, to))
            return
        lease_s = self._lease()
        with self._lock:
            if attachment.ended:
                return
            attachment.expires_at = now + lease_s
        self._send(attachment.peer, messages.Renewed(lease_s))

    def _lease(self) -> float:
        return self._lease_s * random.uniform(1 - LEASE_JITTER, 1 + LEASE_JITTER)

    def _refuse(self, incoming: Incoming, error: Exception) -> None:
        peer = incoming.peer
        with self._lock:
            self._counts["junk"] += 1
            attachment = self._attachments.by_peer.get(peer)
        if attachment is not None:
            what = "stream %s is detached: %s"
            logger.warning(what, attachment.stream, error, extra={"stream": attachment.stream})
            self._detach(attachment.lease, ByeReason.REFUSED)
        else:
            self._send(peer, messages.Bye(ByeReason.REFUSED))
            self._listener.end(peer)

    def _broken(self) -> list[str]:
        ended = (self._attachments.at(connection) for connection in self._listener.broken())
        return [attachment.lease for attachment in ended if attachment is not None]

    def _end_overdue(self, now: float) -> None:
        with self._lock:
            overdue = self._attachments.overdue(now)
        self._listener.end_silent(now)
        for lease, reason in overdue.items():
            self._detach(lease, reason)

    def _detach(self, lease: str, reason: ByeReason | None) -> None:
        with self._lock:
            if lease not in self._attachments:
                return
            key, attachment = self._attachments.remove(lease)
            if attachment is not None and attachment.out:
                self._drops[DropReason.GONE] += len(attachment.out)
                attachment.out.clear()
        self._listener.gate.forbid(key, lease)
        if attachment is not None:
            if reason is not None:
                self._send(attachment.peer, messages.Bye(reason))
            self._listener.end(attachment.peer)
        try:
            self._on_gone(lease)
        except Exception:
            logger.exception("the end of an attachment was not taken note of")

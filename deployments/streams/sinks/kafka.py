"""Writes to a topic of Kafka, idempotently: sent once all in-sync replicas have it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import uuid
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

from kafka import KafkaProducer
from kafka.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net import KafkaConnectionManager, KafkaNetSocket
from kafka.net.compat import KafkaNetClient
from kafka.net.selector import NetworkSelector

from deployments.errors import RaysightError
from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.sender import TIMEOUT_S, Dial, SinkDown, SinkFailed, SinkRefused
from deployments.streams.sinks.spec import SinkSpec

PORT = 9092

PROTOCOL = (2, 3)
"""The newest whose messages are spoken: brokers from there to 4.x know them. Without a limit the library begins with a
question that librdkafka's mock cluster, with which the tests work, does not answer."""

LOOK_AGAIN_S = 0.25
"""While the topic's partitions are waited for, a call of the library ends that often, so that it can be broken off."""

CLOSING_S = 0.3

_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError)
_LOCKED_OUT = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)


class _Dialled(KafkaNetSocket):  # type: ignore[misc]
    """Connects by the `Dial` of a sender, to the server of the URL and to those that it names.

    The library picks this class, and in it the sender, by a proxy's URL.
    """

    SCHEMES = ("raysight",)
    senders: ClassVar[dict[str, KafkaSender]] = {}

    def __init__(self, proxy_url: str) -> None:
        self._sender = self.senders.get(urlsplit(proxy_url).netloc)

    def dns_lookup(self, host: str, port: int, raise_error: bool = False) -> list[Any]:
        """One address, which `connect` looks up and checks."""
        return [(socket.AF_UNSPEC, socket.SOCK_STREAM, 0, "", (host, port))]

    async def connect(self, net: Any, addrinfo: Any, socket_options: Any = (), timeout_at: Any = None) -> socket.socket:
        """Connected to one broker. Raises OSError."""
        if self._sender is None:
            raise OSError("the sender was closed")
        made = self._sender.dialled(*addrinfo[4])
        made.setblocking(False)
        return made


class _Telling(KafkaConnectionManager):  # type: ignore[misc]
    """Tells its sender of connections that could not be made, instead of its log alone."""

    sender: KafkaSender

    def get_connection(self, *args: Any, **more: Any) -> Any:
        """As ever."""
        made = super().get_connection(*args, **more)
        made.init_future.add_errback(self.sender.failed)
        return made


class KafkaSender:
    """`Sender` to one topic, with the stream's id as the key. A producer that failed is replaced by a new one."""

    def __init__(self, spec: SinkSpec, stream_id: str, dial: Dial) -> None:
        self._spec, self._dial = spec, dial
        self._stream_id, self._topic = stream_id, spec.kafka_topic
        self._parts = urlsplit(spec.url)
        self._tls = ssl.create_default_context() if self._parts.scheme.lower() == "kafkas" else None
        self._name = uuid.uuid4().hex
        self._changed = threading.Condition()
        self._interrupted = False
        self._away: str | None = None
        self._producer: Any = None

    def send(self, letter: Letter) -> None:
        self._away = None
        deadline = time.monotonic() + TIMEOUT_S
        try:
            sending = self._sending(letter, deadline)
            sending.add_both(self._news)
            with self._changed:
                self._changed.wait_for(lambda: sending.is_done or self._broken, deadline - time.monotonic())
            if sending.is_done:
                sending.get(timeout=0)
                return
            self._raise_unsent()
        except _REFUSALS as error:
            raise SinkRefused(f"Kafka: {error}") from None
        except KafkaTimeoutError:
            self._raise_unsent()
        except KafkaError as error:
            self.close()
            if isinstance(error, KafkaConnectionError):
                raise SinkDown(f"the connection to the broker broke: {error}") from None
            raise SinkFailed(f"Kafka: {error}") from None

    def dialled(self, host: str, port: int) -> socket.socket:
        """A connection to a broker; for the library's thread. Raises OSError."""
        try:
            return self._dial(f"{self._parts.scheme}://{_bracketed(host)}:{port}", port)
        except RaysightError as error:
            raise OSError(str(error)) from None

    def failed(self, error: Exception) -> None:
        """A connection could not be made; for the library's thread."""
        what = "does not let us in" if isinstance(error, _LOCKED_OUT) else "can't be reached"
        with self._changed:
            self._away = self._away or f"the broker {what}: {error}"  # the first says most
            self._changed.notify_all()

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None:
        producer, self._producer = self._producer, None
        _Dialled.senders.pop(self._name, None)
        if producer is not None:
            producer._sender.force_close()  # `close` would wait for what can't be sent
            with suppress(KafkaError):
                producer.close(CLOSING_S)

    @property
    def _broken(self) -> bool:
        return self._interrupted or self._away is not None

    def _news(self, outcome: Any) -> None:
        with self._changed:
            self._changed.notify_all()

    def _raise_unsent(self) -> None:
        self.close()
        if self._broken:
            raise SinkDown(self._away or "broken off")
        raise SinkFailed(f"the broker did not acknowledge within {TIMEOUT_S:g} s")

    def _sending(self, letter: Letter, deadline: float) -> Any:
        """The library's future for a letter. Raises KafkaError."""
        producer = self._producer or self._connected()
        sequence = letter.key.split("/")[1]
        headers = [(name, value.encode()) for name, value in (("key", letter.key), ("type", letter.type))]
        while True:
            try:
                return producer.send(
                    self._topic,
                    key=self._stream_id.encode(),
                    value=letter.body,
                    headers=[*headers, ("sequence", sequence.encode())],
                )
            except KafkaTimeoutError:  # the topic's partitions are not known yet
                if self._broken or time.monotonic() > deadline:
                    raise

    def _connected(self) -> Any:
        self._require_reachable()
        _Dialled.senders[self._name] = self
        secrets, tls = self._spec.credentials, self._tls is not None
        proof: dict[str, str] = {}
        if secrets is not None and secrets.username is not None:
            password = secrets.password.get_secret_value() if secrets.password is not None else ""
            proof = {"sasl_mechanism": self._spec.sasl, "sasl_plain_password": password}
            proof["sasl_plain_username"] = secrets.username.get_secret_value()
        self._producer = KafkaProducer(
            bootstrap_servers=f"{_bracketed(self._parts.hostname or '')}:{self._parts.port or PORT}",
            client_id="raysight",
            kafka_client=self._client,
            api_version=PROTOCOL,
            proxy_url=f"raysight://{self._name}",
            security_protocol=("SASL_" if proof else "") + ("SSL" if tls else "PLAINTEXT"),
            ssl_context=self._tls,
            **proof,
            acks="all",
            enable_idempotence=True,
            max_block_ms=round(LOOK_AGAIN_S * 1e3),
            request_timeout_ms=round(TIMEOUT_S * 1e3),
            delivery_timeout_ms=round(2 * TIMEOUT_S * 1e3),  # `send` gives up before
        )
        return self._producer

    def _client(self, **config: Any) -> Any:
        net = NetworkSelector(**config)
        manager = _Telling(net, **config)
        manager.sender = self
        return KafkaNetClient(net, manager)

    def _require_reachable(self) -> None:
        """Raises SinkDown: the library would try for long, and tell its log alone why."""
        try:
            made = self._dial(self._spec.url, self._parts.port or PORT)
            with made:
                made.settimeout(TIMEOUT_S)
                if self._tls is not None:
                    self._tls.wrap_socket(made, server_hostname=self._parts.hostname).close()
        except ssl.SSLError as error:
            raise SinkDown(f"TLS failed: {error.reason or 'no handshake'}") from None
        except (OSError, RaysightError) as error:
            raise SinkDown(f"the broker can't be reached: {error}") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

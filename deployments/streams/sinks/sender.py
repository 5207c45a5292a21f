"""What sends letters to one server, of whatever kind, and how that can fail."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from deployments.streams.media.loopback import connected
from deployments.streams.policy import UrlPolicy
from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.spec import SinkSpec

TIMEOUT_S = 10.0
"""For connecting, and for each wait for an answer."""

Dial = Callable[[str, int], socket.socket]
"""Connects to the host of a URL, on this port; raises OSError, `RaysightError` where that is forbidden or unknown."""


class SinkDown(Exception):
    """The server can't be reached or doesn't let us in: the event did not get there."""


class SinkFailed(Exception):
    """The server failed on this event, or gave no answer: another try may help."""


class SinkRefused(Exception):
    """The server will never take this event."""


class Sender(Protocol):
    """One connection at a time, made when it is needed; for one thread, but for `interrupt`."""

    def send(self, letter: Letter) -> None:
        """Return once the server has it. Raises SinkDown, SinkFailed, SinkRefused; also `RaysightError`, OSError."""
        ...

    def interrupt(self) -> None:
        """Break off a `send`, from any thread."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def dial_by(policy: UrlPolicy) -> Dial:
    """Connects to the very addresses that the policy allowed at that moment."""
    return lambda url, port: connected(policy.addresses(url, field="sink.url"), port, TIMEOUT_S)


def open_sender(spec: SinkSpec, stream_id: str, dial: Dial, path: Callable[[str], str]) -> Sender:
    """For a spec; ``path`` gives that of a ``file:`` URL. Raises SinkDown where a library is missing."""
    kind = spec.kind  # each library is loaded only where it is used: streams are many
    if kind == "webhook":
        from deployments.streams.sinks.webhook import WebhookSender

        return WebhookSender(spec, dial)
    if kind == "redis":
        from deployments.streams.sinks.redis import RedisSender

        return RedisSender(spec, stream_id, dial)
    if kind == "mqtt":
        try:
            from deployments.streams.sinks.mqtt import MqttSender
        except ModuleNotFoundError:
            raise SinkDown("MQTT needs a library that is not installed: pip install 'raysight[sinks]'") from None
        return MqttSender(spec, stream_id, dial)
    if kind == "kafka":
        try:
            from deployments.streams.sinks.kafka import KafkaSender
        except ModuleNotFoundError:
            raise SinkDown("Kafka needs a library that is not installed: pip install 'raysight[sinks]'") from None
        return KafkaSender(spec, stream_id, dial)
    from deployments.streams.sinks.files import FileSender

    return FileSender(spec, lambda: Path(path(spec.url)))

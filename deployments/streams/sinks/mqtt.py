"""Publishes to an MQTT broker with QoS 1: sent once the broker has acknowledged it."""

from __future__ import annotations

import socket
import threading
import uuid
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client
from paho.mqtt.enums import CallbackAPIVersion

from deployments.errors import RaysightError
from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.sender import TIMEOUT_S, Dial, SinkDown, SinkFailed
from deployments.streams.sinks.spec import SinkSpec

KEEPALIVE_S = 30


class _Dialled(Client):
    """Takes its socket from ``dial``; TLS keeps the host's name."""

    def dial_by(self, dial: Dial, url: str) -> None:
        """Say how, before it connects."""
        self._dial, self._url = dial, url

    def _create_socket_connection(self) -> socket.socket:
        return self._dial(self._url, self._port)


class MqttSender:
    """`Sender` to one topic. A connection that broke is replaced by a new one: the worker is who tries again."""

    def __init__(self, spec: SinkSpec, stream_id: str, dial: Dial) -> None:
        self._spec = spec
        self._dial = dial
        self._topic = spec.topic(stream_id)
        self._parts = urlsplit(spec.url)
        self._client: _Dialled | None = None
        self._changed = threading.Condition()
        self._connected: bool | None = None
        self._refusal = ""
        self._acknowledged = -1

    def send(self, letter: Letter) -> None:
        client = self._client or self._connect()
        info = client.publish(self._topic, letter.body, qos=1)
        with self._changed:
            self._changed.wait_for(lambda: self._acknowledged == info.mid or not self._connected, TIMEOUT_S)
            done, lost = self._acknowledged == info.mid, not self._connected
        if done:
            return
        self.close()
        if lost or info.rc != MQTT_ERR_SUCCESS:
            raise SinkDown("the connection to the broker broke")
        raise SinkFailed(f"the broker did not acknowledge within {TIMEOUT_S:g} s")

    def interrupt(self) -> None:
        with self._changed:
            self._connected = False
            self._changed.notify_all()

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> _Dialled:
        tls = self._parts.scheme.lower() == "mqtts"
        client = _Dialled(
            CallbackAPIVersion.VERSION2, client_id=f"raysight-{uuid.uuid4().hex[:12]}", reconnect_on_failure=False
        )
        secrets = self._spec.credentials
        if secrets is not None and secrets.username is not None:
            password = secrets.password.get_secret_value() if secrets.password is not None else None
            client.username_pw_set(secrets.username.get_secret_value(), password)
        if tls:
            client.tls_set()
        client.dial_by(self._dial, self._spec.url)
        client.on_connect, client.on_disconnect, client.on_publish = (
            self._on_connect,
            self._on_disconnect,
            self._on_sent,
        )
        self._connected, self._refusal, self._acknowledged = None, "", -1
        try:
            client.connect(self._parts.hostname or "", self._parts.port or (8883 if tls else 1883), KEEPALIVE_S)
        except (OSError, ValueError, RaysightError) as error:
            raise SinkDown(f"the broker can't be reached: {error}") from None
        client.loop_start()
        self._client = client
        with self._changed:
            self._changed.wait_for(lambda: self._connected is not None, TIMEOUT_S)
            connected, refusal = self._connected, self._refusal
        if not connected:
            self.close()
            raise SinkDown(f"the broker does not let us in: {refusal or 'no answer'}")
        return client

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._connected, self._refusal = not reason.is_failure, str(reason)
            self._changed.notify_all()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            if client is self._client or self._client is None:
                self._connected = False
                self._changed.notify_all()

    def _on_sent(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._acknowledged = number
            self._changed.notify_all()

"""What a user wants of a sink, and how it is doing."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from deployments.streams.addressed import Addressed, Strict

MAX_SINKS = 8
STREAM_ID = "{stream_id}"
"""Stands for the stream's id in a sink's URL."""

DEFAULT_TOPIC = f"raysight/{STREAM_ID}"
DEFAULT_KEY = f"raysight:{STREAM_ID}"
KAFKA_TOPIC = "raysight"
"""One for all streams: a stream's id is the key, which keeps its events in order."""

Kind = Literal["webhook", "mqtt", "redis", "kafka", "file"]
EventType = Literal["detection", "zone"]

_KINDS: dict[str, Kind] = {
    "http": "webhook",
    "https": "webhook",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
    "redis": "redis",
    "rediss": "redis",
    "kafka": "kafka",
    "kafkas": "kafka",
    "file": "file",
}
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SASL = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class SinkSpec(Addressed):
    """Where events go, and which.

    `http(s)`, `mqtt(s)://host/topic`, `redis(s)://host/db?stream=key`, `kafka(s)://host/topic?sasl=scram-sha-512`,
    `file:x.jsonl`. ``{stream_id}`` in the URL stands for the stream's id.
    """

    events: tuple[EventType, ...] = Field(
        default=("detection", "zone"), min_length=1, description="What is found on a frame, what happens in zones."
    )
    classes: tuple[str, ...] | None = Field(default=None, description="Labels to send; null: all.")
    confidence: float | None = Field(default=None, ge=0.0, le=1.0, description="Least confidence of what is sent.")
    zones: tuple[str, ...] | None = Field(
        default=None,
        description="Only what happens in these zones, and objects whose foot point is in them; null: all.",
    )
    queue: int = Field(default=1000, ge=1, le=100_000, description="Events that may wait in memory.")
    when_full: Literal["drop_oldest", "spill"] = Field(
        default="drop_oldest", description="Lose the oldest, counted, or keep further ones on disk."
    )
    spill_mb: int = Field(
        default=64, ge=1, le=10_000, description="Megabytes of events on disk; further ones are lost, counted."
    )
    attempts: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Times that a server may fail on an event before that is a dead letter; one that can't be reached "
        "is tried for ever.",
    )
    rotate_mb: int = Field(default=64, ge=1, le=10_000, description="Files only: megabytes before another is begun.")
    keep: int = Field(default=8, ge=1, le=1000, description="Files only: how many full ones are kept.")
    max_len: int = Field(
        default=100_000, ge=1, description="Redis only: entries that the stream is trimmed to, about (MAXLEN ~)."
    )

    @field_validator("url")
    @classmethod
    def _of_a_kind(cls, url: str) -> str:
        if url.partition(":")[0].lower() not in _KINDS:
            raise ValueError(f"unknown scheme; known are {', '.join(_KINDS)}")
        kind, path = _KINDS[url.partition(":")[0].lower()], urlsplit(url).path.lstrip("/")
        if kind == "mqtt" and "+" in unquote(path):
            raise ValueError("nobody can publish to a topic with a wildcard: leave + out")
        if kind == "redis" and not (path.isdecimal() or not path):
            raise ValueError("the path is the number of the database; the stream's key is ?stream=KEY")
        if kind == "kafka":
            _check_kafka(path, urlsplit(url).query)
        return url

    @model_validator(mode="after")
    def _secret_of_webhooks(self) -> SinkSpec:
        if self.kind != "webhook" and self.credentials is not None and self.credentials.secret is not None:
            raise ValueError("only a webhook is signed: leave `credentials.secret` out")
        return self

    @property
    def kind(self) -> Kind:
        """What it is sent to."""
        return _KINDS[self.url.partition(":")[0].lower()]

    def of(self, stream_id: str) -> SinkSpec:
        """The same for one stream."""
        return self.model_copy(update={"url": self.url.replace(STREAM_ID, stream_id)})

    def topic(self, stream_id: str) -> str:
        """MQTT: the topic."""
        return unquote(urlsplit(self.url).path.lstrip("/")) or DEFAULT_TOPIC.replace(STREAM_ID, stream_id)

    def key(self, stream_id: str) -> str:
        """Redis: the key of the stream."""
        return parse_qs(urlsplit(self.url).query).get("stream", [DEFAULT_KEY.replace(STREAM_ID, stream_id)])[0]

    @property
    def kafka_topic(self) -> str:
        """Kafka: the topic."""
        return urlsplit(self.url).path.lstrip("/") or KAFKA_TOPIC

    @property
    def sasl(self) -> str:
        """Kafka: how it is proven who we are, where `credentials` has a user name."""
        return parse_qs(urlsplit(self.url).query).get("sasl", ["PLAIN"])[0].upper()


def _check_kafka(path: str, query: str) -> None:
    if path and _TOPIC.fullmatch(path.replace(STREAM_ID, "x")) is None:
        raise ValueError("a topic has letters, digits, dots, _ and - only, 249 at most")
    found = parse_qs(query, keep_blank_values=True)
    if set(found) - {"sasl"} or any(word.upper() not in _SASL for word in found.get("sasl", ())):
        raise ValueError(f"after ? may come sasl={', '.join(_SASL).lower()}")


class SinkError(Strict):
    """What went wrong with a sink last."""

    message: str
    at: float = Field(description="Unix time, seconds.")


class SinkStatus(Strict):
    """How one sink is doing; since its stream's process or the sink was last started or changed."""

    kind: Kind
    url: str
    state: Literal["idle", "online", "retrying"] = Field(
        description="`idle`: nothing was sent yet; `retrying`: the last try failed."
    )
    queued: int = Field(default=0, description="Events that wait, in memory and on disk.")
    sent: int = Field(default=0, description="Events that the server took.")
    dropped: int = Field(default=0, description="Events that were lost, as there was no room to wait.")
    dead_letters: int = Field(default=0, description="Events that the server refused, kept on disk to be sent again.")
    last_error: SinkError | None = None

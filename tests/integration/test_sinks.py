"""Events of a running pipeline reach real servers, which fail, hang, go away and come back."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from deployments.errors import ForbiddenAddress
from deployments.streams.backoff import Backoff
from deployments.streams.pipeline import Pipeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.runner import StreamRunner
from deployments.streams.sinks import fanout, webhook
from deployments.streams.sinks.backlog import Backlog
from deployments.streams.sinks.dead_letters import DeadLetters
from deployments.streams.sinks.fanout import Sinks
from deployments.streams.sinks.kafka import KafkaSender
from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.sender import SinkDown, SinkRefused
from deployments.streams.sinks.spec import SinkSpec, SinkStatus
from deployments.streams.sinks.worker import Worker, end
from deployments.streams.spec import SourceSpec
from serve_app.cli.app import app
from tests.support.detectors import LocalDetector
from tests.support.failing_http import FailingHttp
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_gate import KafkaGate
from tests.support.mosquitto import Mosquitto
from tests.support.redis_server import RedisServer
from tests.support.streams import HandFedSource, RecordingPublisher, item, spec
from tests.support.waiting import until

SECRET = "a key of sixteen or more"


def quick() -> Backoff:
    return Backoff(initial_s=0.01, cap_s=0.05)


class Rig:
    """A pipeline with its sinks, fed by hand."""

    def __init__(
        self, folder: Path, *sinks: dict[str, Any], private: bool = True, of_all: tuple[Any, ...] = ()
    ) -> None:
        self.folder = folder
        self.policy = UrlPolicy(media_root=folder, output_root=folder, allow_private=private)
        self.spec = spec(sinks=sinks)
        self.of_all = tuple(SinkSpec.model_validate(one) for one in of_all)
        self.sinks = Sinks(self.spec, self.of_all, self.policy, quick)
        self.detector = LocalDetector()
        self.pipeline = Pipeline(self.spec, self.detector, first_sequence=0, observe=lambda stage, seconds: None)
        self.pipeline.events.subscribe(self.sinks.offer)
        self.pipeline.start()
        self.source = HandFedSource()
        self.decoder = threading.Thread(target=lambda: self.pipeline.decode(self.source), daemon=True)
        self.decoder.start()
        self.fed = 0

    def feed(self, count: int) -> None:
        """Frames with one object each, every one inferred."""
        for _ in range(count):
            self.source.feed(item(self.fed))
            self.fed += 1
            until(lambda: self.pipeline.ledger.snapshot().inferred == self.fed)

    @property
    def statuses(self) -> tuple[SinkStatus, ...]:
        return self.sinks.statuses()

    @property
    def status(self) -> SinkStatus:
        return self.statuses[0]

    def sent(self, count: int) -> None:
        until(lambda: self.status.sent >= count)

    def failed(self) -> None:
        until(lambda: self.status.state == "retrying")

    def close(self) -> None:
        self.source.interrupt()
        self.pipeline.stop()
        self.sinks.close(2.0)
        self.detector.close()


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Any]:
    made: list[Rig] = []

    def make(*sinks: dict[str, Any], **how: Any) -> Rig:
        made.append(Rig(tmp_path, *sinks, **how))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def keys(events: list[dict[str, Any]]) -> list[str]:
    return [event["key"] for event in events]


def gate(*numbers: int) -> list[str]:
    return [f"gate/{number}" for number in numbers]


# Webhooks -----------------------------------------------------------------------------------------------------


def test_a_webhook_gets_each_event_in_order_signed_over_one_connection(rigs: Any) -> None:
    with FailingHttp() as server:
        rig = rigs(
            {"url": f"http://user:word@localhost:{server.port}/events?token=abc", "credentials": {"secret": SECRET}}
        )
        rig.feed(5)
        rig.sent(5)
        assert keys([one.event for one in server.received]) == gate(*range(5))
        assert server.connections == 1
        for one in server.received:
            signed = one.headers["Raysight-Timestamp"].encode() + b"." + one.body
            digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
            assert one.headers["Raysight-Signature"] == f"sha256={digest}"
            assert one.headers["Idempotency-Key"] == one.event["key"]
            assert one.headers["Authorization"] == "Basic dXNlcjp3b3Jk"
            assert one.path == "/events?token=abc"
        assert rig.status.url == f"http://localhost:{server.port}/events"
        assert (rig.status.state, rig.status.dropped, rig.status.dead_letters) == ("online", 0, 0)


def test_the_documented_receiver_tells_genuine_events_from_others(rigs: Any) -> None:
    document = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if "def genuine" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    with FailingHttp() as server:
        rig = rigs({"url": server.url, "credentials": {"secret": SECRET}})
        rig.feed(1)
        rig.sent(1)
        (one,) = server.received
    assert names["genuine"](SECRET, one.headers, one.body)
    assert not names["genuine"](SECRET, one.headers, one.body + b" ")
    assert not names["genuine"]("another key of this length", one.headers, one.body)
    old = {**one.headers, "Raysight-Timestamp": str(int(one.headers["Raysight-Timestamp"]) - 1000)}
    assert not names["genuine"](SECRET, old, one.body)


def test_what_a_webhook_fails_on_is_tried_again_and_nothing_overtakes_it(
    rigs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.1)
    with FailingHttp() as server:
        server.script.extend([500, "close", 503, 429, "hang", 204, 500])
        rig = rigs({"url": server.url})
        rig.feed(3)
        rig.sent(3)
        assert keys([one.event for one in server.accepted]) == gate(0, 1, 2)
        assert keys([one.event for one in server.received]) == gate(0, 0, 0, 0, 0, 0, 1, 1, 2)
        assert rig.status.dead_letters == rig.status.dropped == 0


def test_a_connection_that_the_server_ended_while_idle_is_no_failure(rigs: Any) -> None:
    with FailingHttp() as server:
        server.script.extend(["stale"] * 3)
        rig = rigs({"url": server.url, "attempts": 1})
        for number in range(1, 6):
            rig.feed(1)
            rig.sent(number)
            until(lambda: server.ended >= min(number, 3))  # noqa: B023
        assert keys([one.event for one in server.accepted]) == gate(*range(5))
        assert (rig.status.last_error, rig.status.dead_letters, server.connections) == (None, 0, 4)


def test_what_a_webhook_refuses_is_a_dead_letter_and_can_be_sent_again(
    rigs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FailingHttp() as server:
        server.script.extend([410, 204, 302, 500, 500])
        rig = rigs({"url": server.url, "attempts": 2})
        rig.feed(5)
        rig.sent(2)
        until(lambda: rig.status.dead_letters == 3)
        refused = [one.body for one in server.received if one.answered in (410, 302)]
        file = tmp_path / "sinks" / "gate" / "dead-letters.jsonl"
        assert [json.loads(line)["error"] for line in file.read_text().splitlines()] == [
            "the server answered 410",
            "the server answered 302",
            "the server answered 500, 2 times",
        ]
        del server.received[:]
        monkeypatch.chdir(tmp_path)
        command = ["events", "replay", str(file), "--url", server.url]
        done = CliRunner().invoke(app, command, env={"RAYSIGHT_SINK_SECRET": SECRET})
        assert done.exit_code == 0, done.output
        assert "3 sent, 0 refused" in done.output
        assert keys([one.event for one in server.accepted]) == gate(0, 2, 3)
        assert [one.body for one in server.accepted[:2]] == refused
        assert all("Raysight-Signature" in one.headers for one in server.accepted)
        server.script.extend([204, 410, 204])
        done = CliRunner().invoke(app, command)
        assert "2 sent, 1 refused" in done.output
        assert done.exit_code == 1
        server.script.extend([204, 500])
        failed = CliRunner().invoke(app, command)
        assert str(failed.exception) == "1 sent, then: the server answered 500; go on with --skip 1"
        assert CliRunner().invoke(app, [*command, "--skip", "1"]).output == "2 sent, 0 refused\n"


def test_what_a_server_misses_while_it_is_away_it_gets_when_it_is_back(rigs: Any) -> None:
    server = FailingHttp()
    rig = rigs({"url": server.url, "attempts": 1})
    rig.feed(4)
    rig.failed()
    assert "refused" in rig.status.last_error.message
    with server:
        rig.sent(4)
        assert keys([one.event for one in server.accepted]) == gate(0, 1, 2, 3)
        assert rig.status.dead_letters == rig.status.dropped == 0


def test_a_sink_that_hangs_slows_neither_detection_nor_its_neighbour(rigs: Any) -> None:
    with FailingHttp(always="hang") as stuck, FailingHttp() as well:
        rig = rigs({"url": stuck.url, "queue": 10}, {"url": well.url})
        rig.feed(25)  # returns only once all are inferred
        until(lambda: rig.statuses[1].sent == 25)
        slow, good = rig.statuses
        assert (good.dropped, len(well.accepted)) == (0, 25)
        assert slow.sent == 0
        assert slow.dropped + slow.queued + 1 == 25  # the one is on its way
        assert slow.queued == 10
        assert rig.pipeline.ledger.snapshot().dropped.model_dump() == dict.fromkeys(
            ("superseded", "max_fps", "stale", "no_detector", "invalid"), 0
        )


def test_what_was_spilled_is_sent_by_the_next_life(rigs: Any, tmp_path: Path) -> None:
    server = FailingHttp()
    sink = {"url": server.url, "queue": 3, "when_full": "spill"}
    rig = rigs(sink)
    rig.feed(10)
    until(lambda: rig.status.queued == 9)
    rig.sinks.close(1.0)
    assert rig.status.dropped == 0
    with server:
        later = rigs(sink)
        later.sent(10)
        assert keys([one.event for one in server.accepted]) == gate(*range(10))


def test_what_was_spilled_outlives_a_change_of_the_sink(rigs: Any) -> None:
    server = FailingHttp()
    sink = {"url": server.url, "queue": 3, "when_full": "spill"}
    rig = rigs(sink)
    rig.feed(6)
    until(lambda: rig.status.queued == 5)
    rig.sinks.update(spec(sinks=[{**sink, "attempts": 3}]))
    rig.feed(2)
    with server:
        rig.sent(8)
        assert keys([one.event for one in server.accepted]) == gate(*range(8))


def test_a_query_may_have_any_letters(rigs: Any) -> None:
    with FailingHttp() as server:
        rig = rigs({"url": f"{server.url}?site=Z\u00fcrich&floor=2?"})
        rig.feed(1)
        rig.sent(1)
        assert server.received[0].path == "/events?site=Z%C3%BCrich&floor=2?"


def test_nothing_is_left_on_disk_of_a_sink_that_is_taken_out(rigs: Any) -> None:
    rig = rigs({"url": FailingHttp().url, "queue": 3, "when_full": "spill"})
    rig.feed(6)
    until(lambda: rig.status.queued == 5)
    (spill,) = (rig.folder / "sinks" / "gate").glob("spill-*.jsonl")
    assert stat.S_IMODE(spill.stat().st_mode) == 0o640
    rig.sinks.update(spec(sinks=[]))
    assert list(spill.parent.glob("spill-*")) == []


def test_a_spill_that_another_has_still_is_taken_once_it_is_free(rigs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker before hangs, and lets go of its file later than its successor begins."""
    monkeypatch.setattr(fanout, "SPILL_AGAIN_S", 0.1)
    server = FailingHttp()
    sink = {"url": server.url, "queue": 3, "when_full": "spill"}
    rig = rigs(sink)
    rig.feed(6)
    until(lambda: rig.status.queued == 5)
    rig.sinks.close(1.0)
    (file,) = (rig.folder / "sinks" / "gate").glob("spill-*.jsonl")
    with file.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        later = rigs({**sink, "queue": 100})
        later.feed(2)
        until(lambda: later.status.queued == 1)

    def taken() -> bool:
        later.feed(1)
        return file.read_bytes().count(b"\n") > 6

    until(taken)
    with server:
        later.sent(6 + later.fed)
        assert keys([one.event for one in server.accepted]) == gate(0, *range(6), *range(1, later.fed))
    assert later.status.dropped == 0


def test_a_change_of_the_spec_takes_effect_on_sinks_alone(rigs: Any) -> None:
    with FailingHttp() as first, FailingHttp() as second:
        rig = rigs({"url": first.url}, of_all=({"url": f"{second.url}/{{stream_id}}"},))
        rig.feed(2)
        until(lambda: [one.sent for one in rig.statuses] == [2, 2])
        rig.sinks.update(rig.spec.model_copy(update={"sinks": ()}))
        rig.feed(2)
        until(lambda: rig.status.sent == 4)
        assert [len(first.received), len(second.received)] == [2, 4]
        assert {one.path for one in second.received} == {"/events/gate"}


# Where sinks may go -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https", "mqtt", "mqtts", "redis", "rediss", "kafka", "kafkas"])
def test_no_sink_reaches_what_the_policy_forbids(rigs: Any, scheme: str) -> None:
    with FailingHttp() as server:
        rig = rigs({"url": f"{scheme}://localhost:{server.port}/0"}, private=False)
        rig.feed(1)
        rig.failed()
        assert "private address" in rig.status.last_error.message
        assert server.connections == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"), "DNS:localhost")


def self_signed(folder: Path, names: str) -> tuple[Path, Path]:
    """A certificate for these names, and its key."""
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-addext", f"subjectAltName={names}", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*made, *files], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def over_tls(kind: str, folder: Path, cert: Path, key: Path) -> tuple[AbstractContextManager[Any], str]:
    if kind == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server = FailingHttp(tls=context)
        return server, server.url
    files = f"{cert}", f"{key}"
    if kind == "mqtts":
        broker = Mosquitto(folder, settings=(f"certfile {files[0]}", f"keyfile {files[1]}"))
        return broker, f"mqtts://localhost:{broker.port}"
    tls = ("--tls-cert-file", files[0], "--tls-key-file", files[1], "--tls-auth-clients", "no")
    redis = RedisServer(folder, tls=(*tls, "--tls-ca-cert-file", files[0]))
    return redis, f"rediss://localhost:{redis.port}"


@pytest.mark.parametrize("kind", ["https", "mqtts", "rediss"])
def test_tls_checks_the_name_in_the_certificate(
    rigs: Any, tmp_path: Path, certificate: tuple[Path, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = over_tls(kind, tmp_path / "server", *certificate)
    with server:
        stranger = rigs({"url": url})
        stranger.feed(1)
        stranger.failed()  # nobody has vouched for it
        assert "certificate" in stranger.status.last_error.message.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        trusting = rigs({"url": url}, {"url": url.replace("localhost", "127.0.0.1")})
        trusting.feed(1)
        trusting.sent(1)
        until(lambda: trusting.statuses[1].state == "retrying")
        assert trusting.statuses[1].sent == 0


# Redis --------------------------------------------------------------------------------------------------------


def test_redis_has_every_event_after_its_restart(rigs: Any, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", password="word")
    with server:
        rig = rigs({"url": f"{server.url}/1?stream=seen:{{stream_id}}"})
        rig.feed(3)
        rig.sent(3)
        server.stop()
        rig.feed(3)
        rig.failed()
        server.start()
        rig.sent(6)
        client = server.client()
        client.select(1)
        entries = [fields for _, fields in client.xrange("seen:gate")]
        client.close()
        found = [entry[b"key"].decode() for entry in entries]
        assert list(dict.fromkeys(found)) == gate(*range(6))
        assert json.loads(entries[0][b"event"])["detections"][0]["box"]
        assert entries[0][b"type"] == b"detection"
        assert rig.status.dropped == rig.status.dead_letters == 0


def test_redis_trims_the_stream_and_says_what_is_wrong(rigs: Any, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", settings=("--stream-node-max-entries", "2")) as server:
        client = server.client()
        client.set("text", "no stream")
        rig = rigs({"url": server.url, "max_len": 4}, {"url": f"{server.url}/0?stream=text", "attempts": 1})
        rig.feed(12)
        rig.sent(12)
        assert 4 <= client.xlen("raysight:gate") <= 6
        client.close()
        until(lambda: rig.statuses[1].dead_letters == 12)
        assert "WRONGTYPE" in rig.statuses[1].last_error.message


# MQTT ---------------------------------------------------------------------------------------------------------


class Subscriber:
    """Keeps its session at the broker while it is away."""

    def __init__(self, topic: str) -> None:
        self.found: list[dict[str, Any]] = []
        self.ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="reader", clean_session=False)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda _, __, message: self.found.append(json.loads(message.payload))

    def __enter__(self) -> Subscriber:
        return self

    def connect(self, port: int) -> None:
        self.ready.clear()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __exit__(self, *exception: object) -> None:
        self.leave()


def test_mqtt_delivers_every_event_over_a_restart_of_the_broker(rigs: Any, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber("cameras/+/events") as reader:
        reader.connect(broker.port)
        rig = rigs({"url": f"mqtt://localhost:{broker.port}/cameras/{{stream_id}}/events"})
        rig.feed(3)
        rig.sent(3)
        until(lambda: len(reader.found) == 3)
        reader.leave()
        broker.stop()
        rig.feed(3)
        rig.failed()
        broker.start()
        rig.sent(6)
        reader.connect(broker.port)
        until(lambda: len(reader.found) >= 6)
        assert list(dict.fromkeys(keys(reader.found))) == gate(*range(6))
        assert rig.status.dropped == rig.status.dead_letters == 0


def test_mqtt_waits_until_the_broker_lets_it_in(rigs: Any, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "user", "right"], check=True, capture_output=True)
    with Mosquitto(tmp_path / "broker", settings=(f"password_file {passwords}",), anonymous=False) as broker:
        rig = rigs(
            {"url": f"mqtt://user:wrong@localhost:{broker.port}"},
            {"url": f"mqtt://user:right@localhost:{broker.port}/x"},
        )
        rig.feed(2)
        until(lambda: rig.statuses[1].sent == 2)
        rig.failed()
        assert "authorized" in rig.status.last_error.message.lower()
        assert rig.status.dead_letters == rig.status.dropped == 0


# Kafka --------------------------------------------------------------------------------------------------------


def letter(number: int, **more: Any) -> Letter:
    return Letter.of({"stream_id": "gate", "sequence": number, "detections": [], **more}, "detection")


def kafka(url: str, gate: KafkaGate) -> KafkaSender:
    return KafkaSender(SinkSpec.model_validate({"url": url}), "gate", gate.dial)


def test_kafka_has_every_event_in_order_under_the_streams_key(rigs: Any) -> None:
    with KafkaBroker() as broker:
        rig = rigs(
            {"url": f"kafka://localhost:{broker.port}"}, {"url": f"kafka://localhost:{broker.port}/{{stream_id}}.x"}
        )
        rig.feed(5)
        until(lambda: [one.sent for one in rig.statuses] == [5, 5])
        for topic in ("raysight", "gate.x"):
            found = broker.read(topic, 5)
            assert [json.loads(value)["key"] for _, value, _ in found] == gate(*range(5))
            assert {key for key, _, _ in found} == {"gate"}
            assert [headers for _, _, headers in found] == [
                {"key": f"gate/{number}", "type": "detection", "sequence": str(number)} for number in range(5)
            ]
        assert rig.status.url == f"kafka://localhost:{broker.port}"
        assert rig.status.dropped == rig.status.dead_letters == 0


def test_a_dead_broker_slows_no_detection_and_what_has_no_room_is_counted(rigs: Any) -> None:
    with KafkaBroker() as broker:
        url = f"kafka://localhost:{broker.port}"
        rig = rigs({"url": url, "queue": 10}, {"url": f"{url}/x", "queue": 3, "when_full": "spill"})
        rig.feed(2)
        until(lambda: [one.sent for one in rig.statuses] == [2, 2])
        broker.stop()
        rig.feed(25)  # returns only once all are inferred
        until(lambda: all(one.state == "retrying" for one in rig.statuses))
        until(lambda: [one.dropped + one.queued + 1 for one in rig.statuses] == [25, 25])  # the one is on its way
        dropping, spilling = rig.statuses
        assert (dropping.queued, spilling.dropped) == (10, 0)
        assert "can't be reached" in dropping.last_error.message
        assert rig.pipeline.ledger.snapshot().inferred == 27


def test_what_kafka_misses_while_it_is_away_it_gets_when_it_is_back(tmp_path: Path) -> None:
    with KafkaBroker() as broker, KafkaGate(broker) as entrance:
        spec = SinkSpec.model_validate({"url": "kafka://localhost/seen", "attempts": 1})
        backlog = Backlog(100, None)
        worker = Worker(spec, lambda: KafkaSender(spec, "gate", entrance.dial), backlog, DeadLetters(tmp_path), quick)
        for number in range(3):
            backlog.put(letter(number))
        until(lambda: worker.status().sent == 3)
        broker.stop()
        for number in range(3, 6):
            backlog.put(letter(number))
        until(lambda: worker.status().state == "retrying")
        broker.start()  # elsewhere and empty: the entrance leads there
        until(lambda: worker.status().sent == 6)
        entrance.cut()
        backlog.put(letter(6))
        until(lambda: worker.status().sent == 7)
        found = [json.loads(value)["key"] for _, value, _ in broker.read("seen", 4)]
        assert found == gate(3, 4, 5, 6)
        assert worker.status().dead_letters == 0
        end([worker], 1.0)


def test_kafka_is_spoken_to_over_tls_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tls").mkdir()
    certificate, key = self_signed(tmp_path / "tls", "DNS:localhost,IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with KafkaBroker() as broker, KafkaGate(broker, password="w:rd", tls=context) as entrance:
        with pytest.raises(SinkDown, match="CERTIFICATE_VERIFY_FAILED"):
            kafka("kafkas://me:w%3Ard@localhost", entrance).send(letter(0))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(SinkDown, match="TLS failed"):
            kafka("kafkas://me:w%3Ard@elsewhere.example", entrance).send(letter(0))
        wrong = kafka("kafkas://me:wrong@localhost", entrance)
        with pytest.raises(SinkDown, match=r"does not let us in.*wrong"):
            wrong.send(letter(0))
        right = kafka("kafkas://me:w%3Ard@localhost/seen?sasl=plain", entrance)
        right.send(letter(1))
        right.send(letter(2))
        assert [json.loads(value)["key"] for _, value, _ in broker.read("seen", 2)] == gate(1, 2)
        right.close()


def test_kafka_leads_to_no_broker_that_the_policy_forbids() -> None:
    with KafkaBroker() as broker, KafkaGate(broker) as entrance:

        def dial(url: str, port: int) -> socket.socket:
            if urlsplit(url).hostname != "allowed.example":
                raise ForbiddenAddress("The sink's host leads to a private address, which streams may not reach.")
            return entrance.dial(url, port)

        sender = KafkaSender(SinkSpec.model_validate({"url": "kafka://allowed.example"}), "gate", dial)
        with pytest.raises(SinkDown, match="private address"):  # that which the broker says it has
            sender.send(letter(0))
        sender.close()


def test_kafka_refuses_what_is_too_large() -> None:
    with KafkaBroker() as broker, KafkaGate(broker) as entrance:
        sender = kafka("kafka://localhost", entrance)
        with pytest.raises(SinkRefused, match="larger than the maximum"):
            sender.send(letter(0, more="x" * 2**21))
        sender.send(letter(1))
        sender.close()


def test_a_kafka_that_hangs_is_left_at_once_when_the_stream_ends(rigs: Any) -> None:
    with KafkaBroker() as broker:
        rig = rigs({"url": f"kafka://localhost:{broker.port}", "queue": 3, "when_full": "spill"})
        rig.feed(1)
        rig.sent(1)
        broker.signal(signal.SIGSTOP)
        try:
            rig.feed(4)
            until(lambda: rig.status.queued == 3)
            rig.sinks.close(0.1)
            (spill,) = (rig.folder / "sinks" / "gate").glob("spill-*.jsonl")
            assert keys([json.loads(line) for line in spill.read_text().splitlines()]) == gate(1, 2, 3, 4)
        finally:
            broker.signal(signal.SIGCONT)


@pytest.mark.parametrize(("kind", "library"), [("mqtt", "paho.mqtt.client"), ("kafka", "kafka")])
def test_without_its_library_a_sink_says_how_to_get_it(
    rigs: Any, monkeypatch: pytest.MonkeyPatch, kind: str, library: str
) -> None:
    monkeypatch.delitem(sys.modules, f"deployments.streams.sinks.{kind}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    rig = rigs({"url": f"{kind}://localhost/x"})
    rig.feed(1)
    rig.failed()
    assert "pip install 'raysight[sinks]'" in rig.status.last_error.message


# Files --------------------------------------------------------------------------------------------------------


def test_a_file_gets_a_line_for_each_event_and_needs_no_server(rigs: Any, tmp_path: Path) -> None:
    rig = rigs(of_all=({"url": "file:events/{stream_id}.jsonl"},))
    rig.feed(6)
    rig.sent(6)
    lines = (tmp_path / "events" / "gate.jsonl").read_text().splitlines()
    assert keys([json.loads(line) for line in lines]) == gate(*range(6))


def test_what_happens_in_zones_is_sent_beside_what_is_found(rigs: Any, tmp_path: Path) -> None:
    rig = rigs({"url": "file:gate.jsonl"})
    at = {"stream_id": "gate", "sequence": 7}
    found = {**at, "width": 64, "height": 48, "detections": [{"label": "x", "confidence": 1.0, "box": [0, 0, 8, 8]}]}
    happened = [{**at, "event": event, "zone": "door", "tracker_id": 1, "label": "x"} for event in ("enter", "dwell")]
    rig.sinks.offer(7, json.dumps(found).encode(), tuple(json.dumps(one).encode() for one in happened))
    rig.sent(3)
    lines = [json.loads(line) for line in (tmp_path / "gate.jsonl").read_text().splitlines()]
    assert keys(lines) == ["gate/7", "gate/7/0", "gate/7/1"]
    assert [line["type"] for line in lines] == ["detection", "zone", "zone"]


# Servers that hang --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "timeout_s"), [("mqtt", 0.1), ("redis", 0.1), ("kafka", 1.0)])
def test_a_server_that_hangs_gets_everything_once_it_goes_on(
    rigs: Any, tmp_path: Path, kind: str, timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"deployments.streams.sinks.{kind}.TIMEOUT_S", timeout_s)
    servers: dict[str, Any] = {"mqtt": Mosquitto, "redis": RedisServer}
    with servers[kind](tmp_path / "server") if kind in servers else KafkaBroker() as server:
        rig = rigs({"url": f"{kind}://localhost:{server.port}", "attempts": 1000})
        rig.feed(1)
        rig.sent(1)
        server.signal(signal.SIGSTOP)
        try:
            rig.feed(5)
            rig.failed()
            assert rig.status.queued >= 4
        finally:
            server.signal(signal.SIGCONT)
        rig.sent(6)
        assert rig.status.dropped == rig.status.dead_letters == 0


# A stream -----------------------------------------------------------------------------------------------------


class OneSource:
    """Opens the same source each time."""

    def __init__(self) -> None:
        self.source = HandFedSource()

    def open_source(self, spec: SourceSpec, on_opening: Any) -> HandFedSource:
        return self.source

    def open_publisher(self, outputs: Any, source: Any, on_error: Any) -> RecordingPublisher:
        return RecordingPublisher(outputs)


def test_a_stream_tells_of_its_sinks_and_follows_a_change_without_reconnecting(tmp_path: Path) -> None:
    first, second = {"url": "file:one.jsonl"}, {"url": "file:two.jsonl"}
    policy = UrlPolicy(media_root=tmp_path, output_root=tmp_path)
    wanted, media, detector = spec(sinks=[first]), OneSource(), LocalDetector()
    runner = StreamRunner(
        wanted,
        1,
        detector,
        media,
        epoch=1,
        first_sequence=0,
        node="node-1",
        observe=lambda stage, seconds: None,
        sinks=Sinks(wanted, (), policy),
    )
    runner.start()
    try:
        media.source.feed(item(0))
        until(lambda: [one.sent for one in runner.status().sinks] == [1])
        runner.apply(spec(sinks=[first, second]), 2)
        media.source.feed(item(1))
        until(lambda: [one.sent for one in runner.status().sinks] == [2, 1])
        assert not media.source.interrupted.is_set()
        media.source.feed(item(2))
        until(lambda: runner.status().frames.inferred == 3)
    finally:
        runner.stop(5.0)
        detector.close()
    assert [(one.kind, one.url, one.sent, one.queued) for one in runner.status().sinks] == [
        ("file", "file:one.jsonl", 3, 0),
        ("file", "file:two.jsonl", 2, 0),
    ]


def test_of_one_url_the_streams_own_sink_is_used(rigs: Any, tmp_path: Path) -> None:
    rig = rigs({"url": "file:gate.jsonl", "events": ["zone"]}, of_all=({"url": "file:{stream_id}.jsonl"},))
    rig.feed(1)
    assert [one.url for one in rig.statuses] == ["file:gate.jsonl"]
    rig.sinks.close(1.0)
    assert rig.status.sent == 0

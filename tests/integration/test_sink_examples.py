"""What docs/sinks.md shows of each sink, as it stands there, with real servers on other ports."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve_app.local import free_port
from tests.contracts.test_readme import blocks, requests
from tests.integration.test_sinks import Rig
from tests.support.kafka_broker import KafkaBroker
from tests.support.mosquitto import Mosquitto
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "sinks.md"
COUNT = 3


class Example:
    """A section of the document.

    Attributes:
        sink: the one that it adds.
        watching: the command that shows events.
    """

    def __init__(self, title: str) -> None:
        (section,) = (part for part in DOCUMENT.read_text().split("\n## ") if part.startswith(f"{title}\n"))
        (patch,) = requests(section)
        assert patch.body is not None
        (self.sink,) = json.loads(patch.body)["sinks"]
        (self.watching,) = (block.strip() for block in blocks(section, "sh") if not block.startswith("curl"))
        self.python = next(blocks(section, "python"), "")

    def at(self, documented: int, port: int) -> Example:
        """The same, on another port."""
        assert str(documented) in self.watching + self.python
        self.sink["url"] = re.sub(rf":{documented}\b", f":{port}", self.sink["url"])
        self.watching = re.sub(rf"\b{documented}\b", str(port), self.watching)
        self.python = re.sub(rf"\b{documented}\b", str(port), self.python)
        return self


@contextmanager
def watched(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command of the document, which speaks of the stream `street`; that of tests is `gate`."""
    words = ["sh", "-c", f"exec {command.replace('street', 'gate')}"]
    started = subprocess.Popen(words, cwd=folder, stdout=-1, text=True)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGKILL)
        started.communicate()


def shown(watching: subprocess.Popen[str]) -> list[str]:
    """Keys of the events that the command prints, as they come; one may come twice."""
    found: list[str] = []
    assert watching.stdout is not None
    for line in watching.stdout:
        found += [key for key in re.findall(r"gate/\d+", line)[:1] if key not in found]
        if len(found) == COUNT:
            return found
    raise AssertionError(f"the command ended after {found}")


def fed(example: Example, folder: Path) -> closing[Rig]:
    """A stream with the sink, which has sent everything. What filters leave out is tested elsewhere."""
    root = folder / "recordings"
    root.mkdir(exist_ok=True)
    rig = Rig(root, {name: value for name, value in example.sink.items() if name not in ("classes", "confidence")})
    rig.feed(COUNT)
    rig.sent(COUNT)
    return closing(rig)


KEYS = [f"gate/{number}" for number in range(COUNT)]


def test_a_webhook_s_receiver_prints_what_is_genuine(tmp_path: Path) -> None:
    port = free_port()
    example = Example("Webhook").at(9999, port)
    (tmp_path / "receiver.py").write_text(example.python)
    with watched(example.watching, tmp_path) as watching, fed(example, tmp_path):
        assert shown(watching) == KEYS


def test_mosquitto_sub_shows_what_is_published(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", settings=("log_type all", "log_dest stderr")) as broker:
        example = Example("MQTT").at(1883, broker.port)
        with watched(example.watching, tmp_path) as watching:
            until(lambda: "Sending SUBACK" in (tmp_path / "broker" / "mosquitto.log").read_text())
            with fed(example, tmp_path):
                assert shown(watching) == KEYS


def test_redis_cli_shows_the_stream(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        example = Example("Redis").at(6379, server.port)
        with fed(example, tmp_path):
            said = subprocess.run(
                ["sh", "-c", example.watching.replace("street", "gate")], capture_output=True, text=True, timeout=30
            ).stdout
    assert list(dict.fromkeys(re.findall(r"^gate/\d+$", said, re.MULTILINE))) == KEYS


def test_tail_shows_the_lines_of_a_file(tmp_path: Path) -> None:
    example = Example("JSON Lines")
    with watched(example.watching, tmp_path) as watching, fed(example, tmp_path):
        assert shown(watching) == KEYS


def test_kcat_shows_the_topic(tmp_path: Path) -> None:
    with KafkaBroker() as broker:
        example = Example("Kafka").at(9092, broker.port)
        with fed(example, tmp_path), watched(example.watching, tmp_path) as watching:
            assert shown(watching) == KEYS


@pytest.mark.parametrize("name", ["README.md", "docs/api.md"])
def test_the_examples_are_found(name: str) -> None:
    assert "sinks.md" in (DOCUMENT.parents[1] / name).read_text()


def test_a_section_that_lacks_its_command_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad: Any = tmp_path / "bad.md"
    bad.write_text(
        "# x\n\n## MQTT\n\n```sh\ncurl http://localhost:8000/v1/streams/a -X PATCH -d '{\"sinks\": [{}]}'\n```\n"
    )
    monkeypatch.setattr("tests.integration.test_sink_examples.DOCUMENT", bad)
    with pytest.raises(ValueError, match="unpack"):
        Example("MQTT")

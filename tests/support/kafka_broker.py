"""A broker that speaks Kafka's protocol: the mock cluster of librdkafka, in a process of its own.

It takes idempotent producers and consumers, and keeps what they write in memory, until it ends.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition

READ_S = 10.0


@dataclass
class KafkaBroker:
    """Start, stop and start again, each time on another port and empty. A context manager."""

    port: int = 0
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it takes connections."""
        command = [sys.executable, "-m", "tests.support.kafka_broker"]
        self._process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """End it, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def signal(self, number: int) -> None:
        """Such as SIGSTOP: connections are taken then, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(number)

    def read(self, topic: str, count: int) -> list[tuple[str, bytes, dict[str, str]]]:
        """The first so many messages of all partitions: key, value and headers."""
        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "test"})
        try:
            partitions = consumer.list_topics(topic, timeout=READ_S).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            found = []
            for message in consumer.consume(count, READ_S):
                assert message.error() is None, message.error()
                headers = {name: value.decode() for name, value in message.headers() or ()}
                found.append(((message.key() or b"").decode(), message.value() or b"", headers))
            return found
        finally:
            consumer.close()


def main() -> None:
    """Print the port, and run until standard input ends."""
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=READ_S).brokers.values()
    print(broker.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

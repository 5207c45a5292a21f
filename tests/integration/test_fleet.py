"""A fleet in a file: ``raysight streams`` against a server whose streams lie in a real store."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from deployments.errors import InvalidSpec, StreamNotFound
from deployments.names import DEFAULT_MODEL
from deployments.store.sqlite import SqliteStore
from deployments.streams.spec import StreamSpec, StreamStatus, StreamView
from deployments.supervisor.book import StreamBook
from deployments.supervisor.registry import Entry, StreamQuota
from serve_app.api.application import create_api
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams

CAMERA = {"source": {"url": "rtsp://viewer:s3cr3t@10.0.0.7/ch1"}, "labels": {"site": "north"}}


class StoredStreams(MemoryStreams):
    """The registry as it is, without actors."""

    def __init__(self, book: StreamBook) -> None:
        super().__init__()
        self.book = book

    async def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> StreamView:
        if spec.detect.model != DEFAULT_MODEL:  # as the supervisor does
            raise InvalidSpec("detect.model", "There is no such model.")
        return _view(await self.book.create(spec, quota))

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        entry, created = await self.book.put(spec, if_generation)
        return _view(entry), created

    async def get(self, stream_id: str) -> StreamView:
        return _view(self.book.get(stream_id))

    async def list(self) -> list[StreamView]:
        return [_view(entry) for entry in self.book]

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        await self.book.remove(stream_id, if_generation)


def _view(entry: Entry) -> StreamView:
    return StreamView(spec=entry.spec, status=StreamStatus(generation=entry.generation))


class Site:
    """A server, and the command line that looks at it."""

    def __init__(self, book: StreamBook, folder: Path) -> None:
        self.book = book
        self._folder = folder
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = create_api(StoredStreams(book), MemoryDetector(), MemoryMedia(), version="0")
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([self._socket])))
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """What the command says, on either output."""
        command = [sys.executable, "-c", "from serve_app.cli.app import main; main()", "streams", *arguments]
        done = subprocess.run(
            [*command, "--url", self._url],
            capture_output=True,
            text=True,
            timeout=60,
            env={"COLUMNS": "160", **environment},
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "s3cr3t" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def apply(self, fleet: dict[str, Any], *arguments: str, status: int = 0, **environment: str) -> str:
        file = self._folder / "fleet.yaml"
        file.write_text(yaml.safe_dump({"streams": fleet}))
        return self.run("apply", str(file), *arguments, status=status, **environment)

    def password(self, stream_id: str) -> str | None:
        found = self.book.get(stream_id).spec.source.credentials
        return found.password.get_secret_value() if found is not None and found.password is not None else None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    book = StreamBook(SqliteStore(tmp_path / "registry.db"))
    asyncio.run(book.open({"test": True}))
    found = Site(book, tmp_path)
    yield found
    found.stop()


def add(site: Site, stream_id: str, spec: dict[str, Any]) -> None:
    asyncio.run(site.book.put(StreamSpec.model_validate({**spec, "id": stream_id}), None))


def exported(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(site.run("export"))["streams"]
    return found


def test_what_was_exported_is_applied_to_an_empty_server(site: Site) -> None:
    add(site, "gate", {**CAMERA, "outputs": [{"url": "rtmp://media/live/s3cr3t"}, {"url": "file:gate.mp4"}]})
    add(site, "yard", {"source": {"url": "testsrc://"}, "detect": {"confidence": 0.5}})
    fleet = exported(site)
    assert fleet["yard"] == {"source": {"url": "testsrc://"}, "detect": {"confidence": 0.5}}
    assert fleet["gate"]["source"]["credentials"] == {"ref": "gate-source"}
    assert [output.get("credentials") for output in fleet["gate"]["outputs"]] == [{"ref": "gate-output-0"}, None]
    before = {entry.spec.id: entry.spec for entry in site.book}
    for name in before:
        asyncio.run(site.book.remove(name, None))
    known = {
        "RAYSIGHT_CREDENTIALS_GATE_SOURCE": "viewer:s3cr3t",
        "RAYSIGHT_CREDENTIALS_GATE_OUTPUT_0": '{"path": "/live/s3cr3t"}',
    }
    said = site.apply(fleet, **known)
    assert "2 created" in said
    assert {entry.spec.id: entry.spec for entry in site.book} == before
    again = site.apply(fleet, **known)
    assert "0 created, 0 changed, 0 deleted, 2 unchanged" in again
    assert exported(site) == fleet


def test_each_difference_is_shown_and_a_dry_run_changes_nothing(site: Site) -> None:
    add(site, "gate", CAMERA)
    add(site, "old", {"source": {"url": "testsrc://"}})
    fleet = {
        "gate": {**exported(site)["gate"], "detect": {"confidence": 0.5}, "labels": {"site": "south"}},
        "new": {"source": {"url": "testsrc://"}},
    }
    before = list(site.book)
    for arguments, deleted in (((), 0), (("--prune",), 1)):
        said = site.apply(fleet, "--dry-run", *arguments)
        assert "detect.confidence: default -> 0.5" in said
        assert "labels.site: north -> south" in said
        assert f"1 created, 1 changed, {deleted} deleted, 0 unchanged" in said
        assert list(site.book) == before
    site.apply(fleet)
    assert {entry.spec.id for entry in site.book} == {"gate", "new", "old"}
    assert site.password("gate") == "s3cr3t"  # kept, as nobody gave another
    assert site.book.get("gate").spec.detect.confidence == 0.5
    site.apply(fleet, "--prune")
    assert {entry.spec.id for entry in site.book} == {"gate", "new"}


def test_credentials_come_from_a_file_and_a_change_of_them_is_one(site: Site, tmp_path: Path) -> None:
    add(site, "gate", CAMERA)
    fleet = exported(site)
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text(yaml.safe_dump({"gate-source": {"username": "viewer", "password": "an0ther"}}))
    said = site.apply(fleet, "--secrets", str(secrets))
    assert "credentials" in said
    assert "1 changed" in said
    assert "an0ther" not in said
    assert site.password("gate") == "an0ther"


def test_sinks_keep_what_nobody_gave_and_are_as_they_were_exported(site: Site) -> None:
    webhook = {"url": "https://hooks.example/events", "credentials": {"secret": "s3cr3t of 16 and more"}}
    add(site, "gate", {"source": {"url": "testsrc://"}, "sinks": [webhook]})
    fleet = exported(site)
    assert fleet["gate"]["sinks"][0]["credentials"] == {"ref": "gate-sink-0"}
    assert "1 unchanged" in site.apply(fleet, "--dry-run")
    fleet["gate"]["labels"] = {"site": "north"}
    assert "1 changed" in site.apply(fleet)
    (sink,) = site.book.get("gate").spec.sinks
    assert sink.credentials is not None
    fleet["gate"]["sinks"][0]["url"] = "https://others.example/events"
    assert "RAYSIGHT_CREDENTIALS_GATE_SINK_0" in site.apply(fleet, status=2)


def test_names_may_be_merged_into_several_streams(site: Site, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("""
streams:
  a: &a {source: {url: "testsrc://"}, priority: 1}
  b: &b {<<: *a, priority: 2}
  c: {<<: *b, priority: 3}
""")
    assert "3 created" in site.run("apply", str(tmp_path / "fleet.yaml"))
    assert [site.book.get(stream_id).spec.priority for stream_id in "abc"] == [1, 2, 3]


def test_what_the_server_refuses_is_not_counted_as_done(site: Site) -> None:
    fleet = {"a": {"source": {"url": "file:a.mp4"}}, "b": {"source": {"url": "testsrc://"}, "detect": {"model": "no"}}}
    said = site.apply(fleet, status=1)
    assert "1 created, 0 changed, 0 deleted, 0 unchanged, 1 refused" in said


def test_what_can_not_be_done_is_said_in_a_line(site: Site, tmp_path: Path) -> None:
    fleet: dict[str, Any] = {"gate": {"source": {"url": "rtsp://10.0.0.7/1", "credentials": {"ref": "gate-source"}}}}
    said = site.apply(fleet, status=2)
    assert "RAYSIGHT_CREDENTIALS_GATE_SOURCE" in said
    assert said.count("\n") == 1
    assert "stream gate: detect.colour" in site.apply(
        {"gate": {"source": {"url": "testsrc://"}, "detect": {"colour": "red"}}}, status=2
    )
    (tmp_path / "fleet.yaml").write_text("streams: [")
    assert "no YAML" in site.run("apply", str(tmp_path / "fleet.yaml"), status=2)
    (tmp_path / "fleet.yaml").write_bytes(b"\xff\xfe")
    assert "no text" in site.run("apply", str(tmp_path / "fleet.yaml"), status=2)
    assert "stream a: outputs" in site.apply({"a": {"source": {"url": "testsrc://"}, "outputs": 5}}, status=2)
    (tmp_path / "fleet.yaml").write_text("streams: {a: {source: {url: 'testsrc://'}, labels: {2026-01-01: x}}}")
    assert "must be texts" in site.run("apply", str(tmp_path / "fleet.yaml"), status=2)
    (tmp_path / "fleet.yaml").write_text(
        "streams:\n  a: {source: {url: 'testsrc://'}}\n  a: {source: {url: 'testsrc://'}}\n"
    )
    assert "line 3: 'a' is there twice" in site.run("apply", "--prune", str(tmp_path / "fleet.yaml"), status=2)
    assert "stream a: `id` says 'b'" in site.apply({"a": {"id": "b", "source": {"url": "testsrc://"}}}, status=2)
    assert "can't be written" in site.run("export", str(tmp_path / "no" / "fleet.yaml"), status=2)
    with pytest.raises(StreamNotFound):
        site.book.get("gate")
    site.stop()
    assert "does not answer" in site.run("export", status=3)

"""`raysight` against an API that listens: what is printed, what is changed, and the exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deployments.errors import DetectorUnavailable, StreamError, StreamErrorCode
from deployments.streams.spec import LastError, StreamState
from serve_app.api.application import create_api
from serve_app.cli.app import main
from serve_app.local import free_port
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams
from tests.support.closed_api import ClosedApi, CountingStore
from tests.support.served import Served

Capture = pytest.CaptureFixture[str]


class Site:
    """A server, what lies behind it, and the command line that looks at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capture: Capture) -> None:
        self.streams, self.detector, self.media = MemoryStreams(), MemoryDetector(), MemoryMedia()
        self.served = Served(create_api(self.streams, self.detector, self.media, version="1.2.3"))
        self._monkeypatch, self._capture = monkeypatch, capture

    def run(self, *words: str | Path, status: int = 0) -> str:
        """What a command says on standard output, or, where it fails, on both."""
        self._monkeypatch.setattr(sys, "argv", ["raysight", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capture.readouterr()
        assert (ended.value.code or 0) == status, said.out + said.err
        return said.out if status == 0 else said.out + said.err

    def json(self, *words: str | Path, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", status=status))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        code = "from serve_app.cli.app import main; main()"
        return subprocess.Popen([sys.executable, "-c", code, *words], stdout=-1, stderr=-1, text=True, env=os.environ)

    def publish(self, stream_id: str, *numbers: int) -> None:
        for number in numbers:
            self.served.run(self.streams.publish(stream_id, number))

    def state(self, stream_id: str, state: StreamState, **more: Any) -> None:
        self.served.run(self.streams.set_status(stream_id, state=state, **more))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Iterator[Site]:
    found = Site(monkeypatch, capsys)
    with found.served:
        monkeypatch.setenv("RAYSIGHT_SERVER", found.served.url)
        monkeypatch.setenv("RAYSIGHT_STATE", str(tmp_path / "none"))
        monkeypatch.setenv("COLUMNS", "200")
        yield found


# Streams ------------------------------------------------------------------------------------------------------


def test_a_stream_is_added_shown_paused_resumed_restarted_and_deleted(site: Site) -> None:
    words = ("--id", "gate", "--label", "site=north", "--class", "person", "--class", "car", "--max-fps", "5")
    assert site.run("streams", "add", "rtsp://viewer:s3cr3t@10.0.0.7/ch1", *words, "--track") == "gate is added\n"
    (view,) = site.json("streams", "list")["items"]
    assert view["spec"]["labels"] == {"site": "north"}
    assert (view["spec"]["detect"]["classes"], view["spec"]["detect"]["max_fps"]) == (["person", "car"], 5)
    assert view["spec"]["track"] is not None
    assert "s3cr3t" not in json.dumps(view)
    stored = site.streams.streams["gate"].view.spec.source.credentials
    assert stored is not None
    assert stored.password is not None
    assert stored.password.get_secret_value() == "s3cr3t"
    shown = site.run("streams", "show", "gate")
    assert "rtsp://10.0.0.7/ch1" in shown
    assert "site=north" in shown
    assert site.run("streams", "pause", "gate") == "gate is to pause\n"
    assert site.json("streams", "resume", "gate")["items"][0]["spec"]["paused"] is False
    assert site.run("streams", "restart", "gate") == "gate reconnects\n"
    assert site.json("streams", "rm", "gate") == {"deleted": ["gate"]}
    assert site.json("streams", "list") == {"items": []}


def test_the_release_is_said(site: Site) -> None:
    assert re.fullmatch(r"raysight \d+\.\d+\.\d+\S*\n", site.run("--version"))


def test_options_win_over_a_spec_in_a_file(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("detect: {confidence: 0.7, iou: 0.4}\nlabels: {site: north}\nvideo_delay_ms: 50\n")
    monkeypatch.setenv("RAYSIGHT_SOURCE_CREDENTIALS", "viewer:s3cr3t")
    words = (
        "--spec",
        file,
        "--confidence",
        "0.5",
        "--label",
        "floor=2",
        "--output",
        "file:a.mp4",
        "--sink",
        "mqtt://b",
    )
    (view,) = site.json("streams", "add", "rtsp://10.0.0.7/1", *words)["items"]
    spec = view["spec"]
    assert (spec["detect"]["confidence"], spec["detect"]["iou"], spec["video_delay_ms"]) == (0.5, 0.4, 50)
    assert spec["labels"] == {"site": "north", "floor": "2"}
    assert [spec["outputs"][0]["url"], spec["sinks"][0]["url"]] == ["file:a.mp4", "mqtt://b"]
    stored = site.streams.streams[spec["id"]].view.spec.source.credentials
    assert stored is not None
    assert stored.username is not None
    assert stored.username.get_secret_value() == "viewer"
    for spec in (b"[", b"\xff\xfe", b"labels: &a [*a]"):
        file.write_bytes(spec)
        assert "neither YAML nor JSON" in site.run("streams", "add", "testsrc://", "--spec", file, status=2)
    file.write_text("source: [1]")
    assert "source has to be a mapping" in site.run("streams", "add", "testsrc://", "--spec", file, status=2)
    file.write_text("labels: {since: 2026-01-01}")
    (view,) = site.json("streams", "add", "testsrc://", "--spec", file)["items"]
    assert view["spec"]["labels"] == {"since": "2026-01-01"}


def test_a_list_is_whole_however_many_there_are_and_filtered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.client.server.LARGEST_PART", 2)
    for number in range(5):
        site.run("streams", "add", "testsrc://", "--id", f"s{number}", "--label", f"odd={number % 2}")
    site.state("s3", StreamState.ONLINE)
    assert [view["spec"]["id"] for view in site.json("streams", "list")["items"]] == ["s0", "s1", "s2", "s3", "s4"]
    odd = site.json("streams", "list", "--label", "odd=1")["items"]
    assert [view["spec"]["id"] for view in odd] == ["s1", "s3"]
    lines = site.run("streams", "list", "--state", "online").splitlines()
    assert [line.split()[:2] for line in lines] == [["stream", "state"], ["s3", "online"]]
    assert "state:" in site.run("streams", "list", "--state", "asleep", status=2)


def test_a_failed_stream_is_shown_with_its_reason_and_status_1(site: Site) -> None:
    site.run("streams", "add", "testsrc://", "--id", "gate")
    error = LastError(code=StreamErrorCode.AUTH_FAILED, message="Wrong password.", at=1.0, retryable=False)
    site.state("gate", StreamState.FAILED, last_error=error)
    assert "auth_failed: Wrong password." in site.run("streams", "show", "gate", status=1)
    assert "auth_failed: Wrong password." in site.run("streams", "list")
    assert site.json("streams", "show", "gate", status=1)["status"]["state"] == "failed"


def test_watch_tells_each_change_and_ends_when_it_comes(site: Site) -> None:
    site.run("streams", "add", "testsrc://", "--id", "gate")
    watching = site.start("streams", "watch", "gate", "--every", "0.1", "--until", "online", "--timeout", "60")
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[1:] == ["gate", "pending"]
    site.state("gate", StreamState.CONNECTING)
    assert watching.stdout.readline().split()[1:] == ["gate", "connecting"]
    site.state("gate", StreamState.ONLINE)
    assert watching.communicate(timeout=30)[0].split()[1:] == ["gate", "online"]
    assert watching.returncode == 0
    looks = site.run("streams", "watch", "--timeout", "0", "--json").splitlines()
    assert [json.loads(look)["status"]["state"] for look in looks] == ["online"]
    assert "online" in site.run("streams", "watch", "--until", "paused", "--timeout", "0", status=1)


# Events -------------------------------------------------------------------------------------------------------


def test_events_go_on_behind_what_was_seen_when_the_server_comes_back(site: Site) -> None:
    site.run("streams", "add", "testsrc://", "--id", "gate")
    following = site.start("events", "gate", "--follow", "--after", "-1", "--json")
    assert following.stdout is not None
    site.publish("gate", 1, 2)
    assert [json.loads(following.stdout.readline())["sequence"] for _ in range(2)] == [1, 2]
    site.served.stop()
    site.publish("gate", 3)
    site.served.start()
    site.publish("gate", 4)
    found = [json.loads(following.stdout.readline()) for _ in range(2)]
    assert [(one["type"], one["sequence"]) for one in found] == [("detections", 3), ("detections", 4)]
    assert found[0]["detections"] == [{"label": "person"}]
    site.run("streams", "rm", "gate")
    rest, errors = following.communicate(timeout=30)
    assert json.loads(rest) == {"type": "end", "stream_id": "gate", "reason": "deleted"}
    assert following.returncode == 0
    assert "gate: " in errors
    assert "again in" in errors


def test_events_of_all_streams_come_together(site: Site) -> None:
    for stream_id in ("gate", "yard"):
        site.run("streams", "add", "testsrc://", "--id", stream_id)
    following = site.start("events", "--follow", "--json")
    assert following.stdout is not None
    site.served.run(site.streams.until_waiting(2))
    site.publish("gate", 1)
    site.publish("yard", 7)
    found = [json.loads(following.stdout.readline())["stream_id"] for _ in range(2)]
    site.run("streams", "add", "testsrc://", "--id", "later")
    site.served.run(site.streams.until_waiting(3))
    site.publish("later", 1)
    found.append(json.loads(following.stdout.readline())["stream_id"])
    assert sorted(found) == ["gate", "later", "yard"]
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=30) == ("", "")
    assert following.returncode == 0


def test_what_happens_in_zones_is_told_in_words(site: Site) -> None:
    site.run("streams", "add", "testsrc://", "--id", "gate")
    happened = {"stream_id": "gate", "sequence": 3, "captured_at": 1767225600.04, "event": "cross", "zone": "door"}
    happened |= {"tracker_id": 17, "label": "person", "direction": "left_to_right"}
    site.served.run(site.streams.publish("gate", 3, in_zones=(json.dumps(happened).encode(),)))
    said = site.run("events", "gate", "--after", "-1")
    assert said == "00:00:00.040  gate #3  door: person #17 cross (direction left_to_right)\n"
    assert "stream_not_found" in site.run("events", "nobody", status=2)
    assert "name it" in site.run("events", "--follow", "--after", "3", status=2)


# Looking ------------------------------------------------------------------------------------------------------


def test_probe_says_what_a_source_is_or_why_not(site: Site) -> None:
    assert site.run("probe", "rtsp://10.0.0.7/1") == "h264, 1280x720, 25 frames a second\n"
    assert site.json("probe", "testsrc://")["width"] == 1280
    site.media.error = StreamError(StreamErrorCode.CONNECTION_REFUSED, "Nothing listens at this address.")
    assert "connection_refused: Nothing listens" in site.run("probe", "rtsp://10.0.0.7/1", status=1)
    site.media.error = StreamError(StreamErrorCode.AUTH_FAILED, "Wrong password.")
    assert "auth_failed" in site.run("probe", "rtsp://10.0.0.7/1", status=1)


def test_detect_prints_objects_and_draws_them(site: Site, tmp_path: Path) -> None:
    image, drawn = tmp_path / "grey.png", tmp_path / "drawn.png"
    cv2.imwrite(str(image), np.full((120, 160, 3), 90, np.uint8))
    said = site.run("detect", image, "--output", drawn, "--confidence", "0.5")
    assert said.splitlines()[1].split() == ["person", "0.90", "0", "0", "80", "120"]
    assert said.splitlines()[-1] == "1 objects in 4 ms"
    assert site.detector.thresholds is not None
    assert site.detector.thresholds.confidence == 0.5
    before, after = cv2.imread(str(image)), cv2.imread(str(drawn))
    assert before is not None
    assert after is not None
    changed = np.argwhere((before != after).any(axis=2))
    assert changed[:, 1].max() in range(79, 90)  # the box and its label, in the left half
    assert site.json("detect", image)["detections"][0]["label"] == "person"
    assert "can't be written" in site.run("detect", image, "--output", tmp_path / "no" / "drawn.png", status=2)
    image.write_bytes(b"GIF89a")
    assert "neither JPEG nor PNG" in site.run("detect", image, status=2)


def test_status_shows_the_whole_and_whether_it_is_well(site: Site) -> None:
    for number, state in enumerate((StreamState.ONLINE, StreamState.ONLINE, StreamState.PAUSED)):
        site.run("streams", "add", "testsrc://", "--id", f"s{number}")
        site.state(f"s{number}", state)
    found = site.json("status")
    assert (found["version"], found["ready"], found["reason"]) == ("1.2.3", True, None)
    assert found["streams"] == {"total": 3, "by_state": {"online": 2, "paused": 1}}
    assert [model["name"] for model in found["models"]] == ["default", "fast"]
    assert found["capacity"]["fits"] == 14
    said = site.run("status")
    assert f"raysight 1.2.3 at {site.served.url}: ready" in said
    assert "streams: 3, 2 online, 1 paused" in said
    site.state("s0", StreamState.FAILED)
    assert "1 failed" in site.run("status", status=1)
    site.detector.available = False
    assert "not ready: detector_unavailable" in site.run("status", status=1)


# What goes wrong, and looks ------------------------------------------------------------------------------------


def test_each_kind_of_failure_has_its_exit_status_and_one_line(site: Site) -> None:
    assert "HTTP" not in (said := site.run("streams", "show", "nobody", status=2))
    assert said.startswith("raysight: stream_not_found: There is no stream 'nobody'")
    site.run("streams", "add", "testsrc://", "--id", "gate")
    assert "stream_exists" in site.run("streams", "add", "testsrc://", "--id", "gate", status=2)
    said = site.run("streams", "add", "testsrc://", "--id", "a", "--confidence", "7", "--max-fps", "-1", status=2)
    assert "detect.confidence" in said
    assert "detect.max_fps" in said
    assert "KEY=VALUE" in site.run("streams", "add", "testsrc://", "--label", "x", status=2)
    assert "invalid_request: id" in site.run("events", "no body", status=2)
    said = site.run("streams", "list", "--key", "rsk_1\n", status=2)
    assert "the key has signs" in said
    assert "rsk_1" not in said
    site.streams.failure = DetectorUnavailable("No detector answered.")
    said = site.run("streams", "add", "testsrc://", "--id", "b", status=1)
    assert said == "raysight: detector_unavailable: No detector answered.\n"
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert "raysight up" in site.run("streams", "list", "--server", nowhere, status=3)
    assert "does not answer" in site.run("events", "gate", "--follow", "--server", nowhere, status=3)
    assert "does not answer" in site.run("status", "--url", "ftp://nowhere", status=3)


def test_a_closed_server_is_talked_to_with_a_key(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from deployments.store.sqlite import SqliteStore

    store = CountingStore(SqliteStore(tmp_path / "registry.db"))
    with asyncio.Runner() as runner:
        closed = ClosedApi(runner, store)
        key = closed.key("viewer")
        with Served(closed.app) as served:
            monkeypatch.setenv("RAYSIGHT_SERVER", served.url)
            assert "RAYSIGHT_KEY or --key" in site.run("streams", "list", status=2)
            assert site.json("streams", "list", "--key", key) == {"items": []}
            monkeypatch.setenv("RAYSIGHT_KEY", key)
            assert site.json("status")["ready"]
            assert "yours is viewer" in site.run("streams", "add", "testsrc://", status=2)
    store.close()


def test_colour_is_for_terminals_and_for_those_who_want_it(site: Site) -> None:
    site.run("streams", "add", "testsrc://", "--id", "gate")
    site.state("gate", StreamState.ONLINE)
    assert "\x1b" not in site.run("streams", "list")
    code = "from serve_app.cli.app import main; main()"
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        master, slave = os.openpty()
        command = [sys.executable, "-c", code, "streams", "list"]
        environment = {**os.environ, "TERM": "xterm", **environment}
        subprocess.run(command, stdout=slave, env=environment, check=True, timeout=60)
        os.close(slave)
        shown = os.read(master, 65536).decode()
        os.close(master)
        assert "online" in shown
        assert ("\x1b[32m" in shown) == coloured


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("raysight streams show g", {"gate", "garden"}),
        ("raysight streams rm gate ya", {"yard"}),
        ("raysight events ga", {"gate", "garden"}),
        ("raysight events show y", {"yard"}),
        ("raysight streams pa", {"pause"}),
    ],
)
def test_the_shell_completes_commands_and_ids(site: Site, typed: str, offered: set[str]) -> None:
    for stream_id in ("gate", "garden", "yard"):
        site.run("streams", "add", "testsrc://", "--id", stream_id)
    environment = {**os.environ, "_RAYSIGHT_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    environment["COMP_CWORD"] = str(typed.count(" "))
    code = "import sys; sys.argv[0] = 'raysight'; from serve_app.cli.app import app; app(prog_name='raysight')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == offered, done.stderr

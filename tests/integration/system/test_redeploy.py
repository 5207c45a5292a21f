"""New code is deployed while streams run: each goes on in one actor, with that code, and counts on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from serve_app.local import LocalCluster, Ports, free_port
from tests.support.cluster import CONFIG, Raysight, wait_until

PATTERN = "deployments/streams/media/test_pattern.py"
STREAMS = ("a", "b", "c")
NEW = "of release 2"


@dataclass(frozen=True)
class Site:
    """A system that runs a copy of the sources, which a test may change."""

    raysight: Raysight
    source: Path

    def release(self, number: int) -> None:
        """Deploy what the copy has now: the changed environment has Serve start new processes for it."""
        self.raysight.cluster.deploy(released(self.raysight.config, number))


def released(config: dict[str, Any], number: int) -> dict[str, Any]:
    environment = {"env_vars": {"RELEASE": str(number)}}
    return {**config, "applications": [{**each, "runtime_env": environment} for each in config["applications"]]}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    source = tmp_path / "source"
    for package in ("serve_app", "deployments", "engines"):
        shutil.copytree(CONFIG.parent / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(source)  # where Ray's processes look for modules first
    config = yaml.safe_load(CONFIG.read_text())
    config["applications"][1]["args"] = {"output_root": str(tmp_path / "out")}
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(released(config, 1)))
    with LocalCluster(path, Ports(free_port(), free_port())) as cluster, httpx.Client(timeout=30) as api:
        api.base_url = cluster.api_url
        yield Site(Raysight(cluster, api, tmp_path, tmp_path / "out", config), source)


class Follower:
    """Follows the detections of a stream through all that happens; a context manager."""

    def __init__(self, raysight: Raysight, stream_id: str) -> None:
        self._url = f"{raysight.cluster.api_url}/v1/streams/{stream_id}/detections"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: list[int] = []

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            try:
                self._follow()
            except httpx.HTTPError:  # the API is being replaced too
                continue

    def _follow(self) -> None:
        since = {"after": self.seen[-1]} if self.seen else {}
        with httpx.stream("GET", self._url, params=since, timeout=20) as events:
            for line in events.iter_lines():
                if line.startswith("id: "):
                    self.seen.append(int(line[4:]))
                if self._over.is_set():
                    return


@pytest.mark.long
@pytest.mark.timeout(300)
def test_streams_go_on_with_the_new_code_in_one_actor_each(site: Site) -> None:
    raysight = site.raysight
    for name in STREAMS:
        output = {"outputs": [{"url": f"file:{name}.mp4"}]}
        raysight.put(name, {"source": {"url": "testsrc://?fps=5&size=320x240"}, **output})
    old = {name: raysight.wait(name, lambda s: s["frames"]["inferred"] > 5) for name in STREAMS}
    assert {status["source"]["codec"] for status in old.values()} == {"rawvideo"}
    wait_until(lambda: len(raysight.relays()) == len(STREAMS))
    replaced = raysight.processes("ray::StreamActor") + raysight.processes("ray::Supervisor")
    brokers = raysight.processes("ray::AttachBroker")
    assert (len(replaced), len(brokers)) == (len(STREAMS) + 1, 1)

    changed = site.source / PATTERN
    changed.write_text(changed.read_text().replace('codec="rawvideo"', f'codec="{NEW}"'))
    with Follower(raysight, "a") as follower:
        wait_until(lambda: len(follower.seen) > 5)
        site.release(2)
        wait_until(lambda: all(runs_new_code(raysight, name) for name in STREAMS), 90)
        at = len(follower.seen)
        wait_until(lambda: len(follower.seen) > at + 5)
    assert all(one < after for one, after in pairwise(follower.seen)), "a number came twice, or went back"
    for name in STREAMS:
        assert raysight.status(name)["epoch"] == old[name]["epoch"] + 1, "it was started anew more than once"

    assert psutil.wait_procs(replaced, 20)[1] == []
    assert len(raysight.processes("ray::StreamActor")) == len(STREAMS)
    assert len(raysight.processes("ray::Supervisor")) == 1
    assert set(raysight.processes("ray::AttachBroker")) - set(brokers), "the old one attaches streams of new code"
    wait_until(lambda: len(raysight.relays()) == len(STREAMS))


def runs_new_code(raysight: Raysight, stream_id: str) -> bool:
    """Whether it infers with it; the API may be away for a moment."""
    answer = raysight.api.get(f"/v1/streams/{stream_id}")
    status = answer.json()["status"] if answer.status_code == 200 else {"source": None}
    return (status["source"] or {}).get("codec") == NEW and status["frames"]["inferred"] > 5

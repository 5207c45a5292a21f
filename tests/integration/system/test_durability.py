"""Nothing accepted is forgotten: the store goes away, another supervisor takes over, everything is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from cryptography.fernet import Fernet

from deployments.store.redis import RedisStore
from deployments.store.sealed import KEY_VARIABLE
from deployments.supervisor.book import take_over
from serve_app.local import LocalCluster, Ports, free_port
from tests.support.cluster import CONFIG, Raysight, wait_until
from tests.support.redis_server import RedisServer
from tests.support.rtsp_server import RtspServer

CLIP = {"source": {"url": "file:street.mp4", "loop": True}, "labels": {"site": "north"}}


@dataclass(frozen=True)
class Site:
    """What outlives a cluster: its store, its folders, its configuration."""

    redis: RedisServer
    config: Path
    folder: Path

    def cluster(self) -> LocalCluster:
        """A cluster that is not started yet."""
        return LocalCluster(self.config, Ports(free_port(), free_port()), store=self.redis.url)

    def raysight(self, cluster: LocalCluster, api: httpx.Client) -> Raysight:
        """For what tests ask."""
        return Raysight(cluster, api, self.folder / "media", self.folder / "out", yaml.safe_load(CONFIG.read_text()))


@pytest.fixture
def site(tmp_path: Path, street_clip: Path) -> Iterator[Site]:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "street.mp4").write_bytes(street_clip.read_bytes())
    config = yaml.safe_load(CONFIG.read_text())
    config["applications"][1]["args"] = {
        "media_root": str(tmp_path / "media"),
        "output_root": str(tmp_path / "out"),
    }
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    with RedisServer(tmp_path / "redis") as redis:
        yield Site(redis, path, tmp_path)


def kill_all(cluster: LocalCluster) -> None:
    """As a power cut does it."""
    head = psutil.Process(cluster.pid)
    family = [*head.children(recursive=True), head]
    for process in family:
        process.suspend()  # nobody may tidy up after another's death
    for process in family:
        process.kill()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_no_stream_is_lost_whatever_dies(site: Site, camera: RtspServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.cluster() as cluster, httpx.Client(base_url=cluster.api_url, timeout=30) as api:
        raysight = site.raysight(cluster, api)
        raysight.put("clip", CLIP)
        raysight.put("camera", {"source": {"url": camera.url("street")}})
        api.patch("/v1/streams/camera", json={"detect": {"confidence": 0.5}}).raise_for_status()
        before = {name: raysight.wait(name, lambda s: s["frames"]["inferred"] > 5) for name in ("clip", "camera")}
        the_store_goes_away_and_comes_back(site, raysight)
        newest = {name: raysight.events(name, 1)[0]["sequence"] for name in before}
        another_supervisor_takes_over(site, raysight)
        kill_all(cluster)
    monkeypatch.setenv(KEY_VARIABLE, Fernet.generate_key().decode())
    with site.cluster() as cluster, httpx.Client(base_url=cluster.api_url, timeout=30) as api:
        raysight = site.raysight(cluster, api)
        for name, old in before.items():
            found = raysight.wait(name, lambda s: s["frames"]["inferred"] > 5)
            assert found["epoch"] == old["epoch"] + 1
            assert raysight.events(name, 1)[0]["sequence"] > newest[name]
        assert raysight.view("clip")["spec"]["labels"] == {"site": "north"}
        assert raysight.view("camera")["spec"]["detect"]["confidence"] == 0.5
        assert raysight.status("camera")["generation"] == 2
        wait_until(lambda: not in_clear_text(site), 30)  # nobody has changed the streams
        another_store_is_deployed_and_the_first_one_again(site, raysight)


def in_clear_text(site: Site) -> list[str]:
    store = RedisStore(site.redis.url)
    records = [record for kind in store.kinds() for record in store.all(kind).values()]
    assert records
    return [record.value.decode() for record in records if record.value and not record.value.startswith(b"sealed:")]


def the_store_goes_away_and_comes_back(site: Site, raysight: Raysight) -> None:
    inferred = raysight.status("clip")["frames"]["inferred"]
    site.redis.stop()
    for method, path, body in (
        ("PUT", "/v1/streams/late", CLIP),
        ("PATCH", "/v1/streams/clip", {"paused": True}),
        ("DELETE", "/v1/streams/clip", None),
    ):
        answer = raysight.api.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
    raysight.wait("clip", lambda s: s["state"] == "online" and s["frames"]["inferred"] > inferred + 10)
    site.redis.start()
    wait_until(lambda: raysight.api.patch("/v1/streams/clip", json={"priority": 1}).status_code == 200, 10)
    assert ids(raysight) == ["camera", "clip"]


def another_supervisor_takes_over(site: Site, raysight: Raysight) -> None:
    (replaced,) = raysight.processes("ray::Supervisor")
    with closing(raysight.follow("clip")) as events:
        next(events)
        take_over(RedisStore(site.redis.url), {"test": True})
        with httpx.Client(base_url=raysight.cluster.api_url, timeout=30) as api:
            answer = api.patch("/v1/streams/clip", json={"priority": 2})
        assert (answer.status_code, answer.json()["code"]) == (503, "supervisor_unavailable"), answer.text
        assert psutil.wait_procs([replaced], timeout=20)[1] == []
        ended_at = time.time()
        assert next(event for event in events if event["captured_at"] > ended_at)  # it runs on, and is still watched
    assert raysight.processes("ray::Supervisor") == []


def another_store_is_deployed_and_the_first_one_again(site: Site, raysight: Raysight) -> None:
    """The supervisor is replaced; actors that the other store knows nothing of are found and ended."""
    epoch = raysight.status("clip")["epoch"]
    deploy(site, raysight, f"{site.redis.url}?prefix=other", [])
    deploy(site, raysight, site.redis.url, ["camera", "clip"])
    raysight.wait("clip", lambda s: s["state"] == "online" and s["epoch"] > epoch)


def deploy(site: Site, raysight: Raysight, url: str, listed: list[str]) -> None:
    """Return once the store at ``url`` is used, and just its streams have actors."""
    config = yaml.safe_load(site.config.read_text())
    config["applications"][1]["args"]["store"] = url
    raysight.cluster.deploy(config)
    wait_until(lambda: ids(raysight) == listed, 30)
    wait_until(lambda: len(raysight.processes("ray::StreamActor")) == len(listed), 30)


def ids(raysight: Raysight) -> list[str] | None:
    """Of all streams; None while the supervisor is away."""
    answer = raysight.api.get("/v1/streams")
    return [item["spec"]["id"] for item in answer.json()["items"]] if answer.status_code == 200 else None

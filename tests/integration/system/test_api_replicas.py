"""Two replicas of the API over one Redis: keys, sessions and quotas are those of one system."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
import yaml

from serve_app.auth.bucket import capacity
from serve_app.auth.config import SECRET_VARIABLE
from serve_app.auth.recent import LIFE_S, PATIENCE_S
from serve_app.local import LocalCluster, Ports, free_port
from tests.support.cluster import CONFIG, wait_until
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.long

FIRST_KEY = re.compile(r"the first admin key, shown this once: (rsk_bootstrap_[0-9a-f]{64})")
REPLICAS = "serve/replica_raysight_Ingress_*.log"
SLACK_S = 3.0
"""For requests of a busy machine."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A system that asks for keys and says which replica answered."""
    folder = tmp_path_factory.mktemp("replicas")
    with RedisServer(folder / "redis") as redis, pytest.MonkeyPatch.context() as patch:
        config = yaml.safe_load(CONFIG.read_text())
        config["logging_config"] = {"enable_access_log": True}
        config["applications"][1]["args"] = {
            "auth": "keys",
            "num_replicas": 2,
            "output_root": str(folder / "out"),
            "store": redis.url,
        }
        path = folder / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        patch.setenv(SECRET_VARIABLE, "of tests, the same for both replicas")
        with LocalCluster(path, Ports(free_port(), free_port())) as running:
            wait_until(lambda: counts_together(running))
            yield running


def counts_together(cluster: LocalCluster) -> bool:
    """Whether what counts quotas for both replicas has started: until then each counts for itself."""
    try:
        family = psutil.Process(cluster.pid).children(recursive=True)
        return any("ray::SharedTally" in " ".join(process.cmdline()) for process in family)
    except psutil.Error:  # one ended meanwhile
        return False


def logs(cluster: LocalCluster, pattern: str) -> dict[str, str]:
    """By name, each once: `session_latest` is a link."""
    found = cluster.logs.glob(pattern)
    return {log.name: log.read_text(errors="replace") for log in found if log.is_file()}


@pytest.fixture(scope="module")
def admin(cluster: LocalCluster) -> Iterator[httpx.Client]:
    """Calls with the first key, of which the replicas make one."""

    def first() -> set[str]:
        return {key for text in logs(cluster, "**/*").values() for key in FIRST_KEY.findall(text)}

    wait_until(lambda: bool(first()), 10)
    (key,) = first()
    with client(cluster, key) as calls:
        yield calls


def client(cluster: LocalCluster, key: str) -> httpx.Client:
    return httpx.Client(base_url=cluster.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def made(admin: httpx.Client, **spec: Any) -> dict[str, Any]:
    answer = admin.post("/v1/keys", json={"name": "test", "role": "operator", **spec})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def answered(cluster: LocalCluster, status: int) -> Counter[str]:
    """How often each replica has answered so."""
    line = re.compile(rf"GET \S+ {status} ")
    return Counter({name: len(line.findall(text)) for name, text in logs(cluster, REPLICAS).items()})


def asked_of_both(cluster: LocalCluster, asking: httpx.Client, status: int) -> None:
    """Have both replicas answer so, and no other."""
    before = answered(cluster, status)
    counts = Counter(asking.get("/v1/streams").status_code for _ in range(40))
    assert counts == {status: 40}
    wait_until(lambda: (answered(cluster, status) - before).total() >= 40, 20)
    assert len(answered(cluster, status) - before) == 2, "one replica answered all"


def refused_from_then_on(cluster: LocalCluster, asking: httpx.Client) -> None:
    """Both replicas turn away what they took until now, within the time that is promised."""
    since, pause = time.monotonic(), threading.Event()
    last_taken = 0.0
    while (asked := time.monotonic() - since) < LIFE_S + PATIENCE_S + SLACK_S:
        if asking.get("/v1/streams").status_code == 200:
            last_taken = asked
        pause.wait(0.05)
    assert last_taken < LIFE_S + 2 * PATIENCE_S
    asked_of_both(cluster, asking, 401)


def test_a_key_opens_at_both_replicas_at_once_and_at_neither_once_it_is_removed(
    cluster: LocalCluster, admin: httpx.Client
) -> None:
    with client(cluster, made(admin)["key"]) as early:
        asked_of_both(cluster, early, 200)  # they have read the keys just now
    key = made(admin)
    with client(cluster, key["key"]) as asking:
        asked_of_both(cluster, asking, 200)
        assert admin.delete(f"/v1/keys/{key['id']}").status_code == 204
        refused_from_then_on(cluster, asking)


def test_a_session_is_taken_by_both_replicas_and_by_neither_once_it_is_logged_out(
    cluster: LocalCluster, admin: httpx.Client
) -> None:
    key = made(admin)["key"]
    with httpx.Client(base_url=cluster.api_url, timeout=30) as browser, client(cluster, key) as program:
        assert browser.post("/v1/login", json={"key": key}).status_code == 204
        copied = dict(browser.cookies)
        asked_of_both(cluster, browser, 200)
        token = {"X-CSRF-Token": copied["raysight_csrf"]}
        assert browser.post("/v1/logout", headers=token).status_code == 204
        with httpx.Client(base_url=cluster.api_url, timeout=30, cookies=copied) as thief:
            refused_from_then_on(cluster, thief)
        asked_of_both(cluster, program, 200)


def test_a_quota_of_streams_holds_for_both_replicas_together(cluster: LocalCluster, admin: httpx.Client) -> None:
    key = made(admin, labels={"site": "north"}, quotas={"streams": 3})["key"]
    body = {"source": {"url": "testsrc://"}, "labels": {"site": "north"}, "paused": True}
    with client(cluster, key) as asking, ThreadPoolExecutor(16) as threads:
        asked_of_both(cluster, asking, 200)
        answers = list(threads.map(lambda _: asking.post("/v1/streams", json=body), range(32)))
        assert Counter(answer.status_code for answer in answers) == {201: 3, 429: 29}
        listed = asking.get("/v1/streams").json()["items"]
        assert len(listed) == 3
        for item in listed:
            assert asking.delete(f"/v1/streams/{item['spec']['id']}").status_code == 204


def test_a_quota_of_requests_holds_for_both_replicas_together(cluster: LocalCluster, admin: httpx.Client) -> None:
    key = made(admin, quotas={"requests_per_minute": 60})["key"]
    with client(cluster, key) as asking, ThreadPoolExecutor(16) as threads:
        since = time.monotonic()
        answers = Counter(threads.map(lambda _: asking.get("/v1/streams").status_code, range(96)))
        allowed = capacity(60) + (time.monotonic() - since)
        assert answers.keys() == {200, 429}
        assert capacity(60) <= answers[200] <= allowed


def test_a_quota_of_live_views_holds_for_both_replicas_together(cluster: LocalCluster, admin: httpx.Client) -> None:
    spec = {"source": {"url": "testsrc://?fps=5&size=320x240"}}
    assert admin.put("/v1/streams/seen", json=spec).status_code == 201
    key = made(admin, quotas={"event_streams": 2})["key"]
    with client(cluster, key) as asking, ThreadPoolExecutor(8) as threads:

        def opened(_: int = 0) -> httpx.Response:
            request = asking.build_request("GET", "/v1/streams/seen/detections")
            return asking.send(request, stream=True)

        def opens_again() -> bool:
            answer = opened()
            answer.close()
            return answer.status_code == 200

        answers = list(threads.map(opened, range(12)))
        assert Counter(answer.status_code for answer in answers) == {200: 2, 429: 10}
        assert not opens_again()
        for answer in answers:
            answer.close()
        wait_until(opens_again, 20)
    assert admin.delete("/v1/streams/seen").status_code == 204

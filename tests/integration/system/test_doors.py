"""Closed doors on a running system: the first key, HTTP, gRPC, a browser; and what may not be left open."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as over_grpc
from playwright.sync_api import Page
from tritonclient.utils import InferenceServerException

from serve_app.local import StartError, free_port
from tests.support.browser import browsing
from tests.support.cluster import Raysight, run_raysight, wait_until

FIRST_KEY = re.compile(r"the first admin key, shown this once: (rsk_bootstrap_[0-9a-f]{64})")


def logged_keys(served: Raysight) -> list[str]:
    """Keys that processes of the cluster have printed."""
    logs = served.cluster.logs.glob("**/*")
    return [key for log in logs if log.is_file() for key in FIRST_KEY.findall(log.read_text(errors="replace"))]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, street_clip: Path, grpc_port: int) -> Iterator[Raysight]:
    """A system that asks everybody for a key."""
    folder = tmp_path_factory.mktemp("doors")
    args = {"auth": "keys", "store": f"sqlite://{folder / 'registry.db'}"}
    yield from run_raysight(folder, street_clip, grpc_port=grpc_port, api_args=args)


@pytest.fixture(scope="module")
def admin(closed: Raysight) -> Iterator[httpx.Client]:
    """Calls with the first key."""
    wait_until(lambda: bool(logged_keys(closed)), 10)
    (key,) = set(logged_keys(closed))
    with httpx.Client(base_url=closed.cluster.api_url, headers=bearer(key), timeout=30) as client:
        yield client


def made(admin: httpx.Client, **spec: object) -> str:
    """A new key."""
    response = admin.post("/v1/keys", json={"name": "test", **spec})
    assert response.status_code == 201, response.text
    key: str = response.json()["key"]
    return key


def test_nobody_enters_without_a_key(closed: Raysight) -> None:
    for path in ("/v1/streams", "/v2", "/docs", "/openapi.json", "/v1/streams/x/live.mjpeg", "/v1/keys"):
        response = closed.api.get(path)
        assert (response.status_code, response.json()["code" if path != "/v2" else "error"] != "") == (401, True)
    assert closed.api.get("/healthz").json() == {"status": "ok"}
    wait_until(lambda: closed.api.get("/readyz").json() == {"status": "ready"})


def test_nobody_else_on_the_machine_can_read_the_logs(closed: Raysight, admin: httpx.Client) -> None:
    private = closed.cluster.folder
    assert logged_keys(closed) != []
    assert closed.cluster.logs.is_relative_to(private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_key_for_one_site(closed: Raysight, admin: httpx.Client) -> None:
    source = {"source": {"url": "testsrc://?fps=10&size=320x240"}}
    for stream_id, site in (("north-1", "north"), ("south-1", "south")):
        assert admin.put(f"/v1/streams/{stream_id}", json={**source, "labels": {"site": site}}).status_code == 201
    key = made(admin, role="operator", labels={"site": "north"}, quotas={"streams": 2})
    with httpx.Client(base_url=closed.cluster.api_url, headers=bearer(key), timeout=30) as north:
        assert [view["spec"]["id"] for view in north.get("/v1/streams").json()["items"]] == ["north-1"]
        assert north.get("/v1/streams/south-1").status_code == 404
        assert north.patch("/v1/streams/north-1", json={"labels": {"site": "south"}}).status_code == 403
        assert north.patch("/v1/streams/north-1", json={"paused": True}).status_code == 200
        assert north.delete("/v1/streams/south-1").status_code == 404
        assert north.put("/v1/models/default", json={"package": "x"}).status_code == 403
        with north.stream("GET", "/v1/streams/north-1/detections") as events:
            assert events.status_code == 200
            assert next(events.iter_lines()).startswith("retry")
    log = admin.get("/v1/audit").json()["items"]
    assert [(e["action"], e["target"], e["from_generation"], e["to_generation"]) for e in log][:4] == [
        ("stream.patch", "north-1", 1, 2),
        ("key.create", key.split("_")[1], None, None),
        ("stream.create", "south-1", None, 1),
        ("stream.create", "north-1", None, 1),
    ]
    assert log[0]["by"] == f"key:{key.split('_')[1]}"


def test_grpc_asks_too(admin: httpx.Client, closed: Raysight, grpc_port: int) -> None:
    viewer, operator = made(admin, role="viewer"), made(admin, role="operator")
    image = over_grpc.InferInput("image", [1], "BYTES")
    with over_grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        for headers in (None, {"authorization": "Bearer no-key"}):
            with pytest.raises(InferenceServerException) as refused:
                client.get_server_metadata(headers=headers)
            assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
        assert client.get_server_metadata(headers={"authorization": f"Bearer {viewer}"}).name == "raysight"
        with pytest.raises(InferenceServerException) as refused:
            client.infer("default", [image], headers={"authorization": f"Bearer {viewer}"})
        assert refused.value.status() == "StatusCode.PERMISSION_DENIED"
        with pytest.raises(InferenceServerException) as refused:  # let in, but there is no data
            client.infer("default", [image], headers={"authorization": f"Bearer {operator}"})
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_the_page_logs_in_and_out(admin: httpx.Client, closed: Raysight) -> None:
    key = made(admin, role="operator")
    admin.put("/v1/streams/seen", json={"source": {"url": "testsrc://?fps=10&size=320x240"}})
    with browsing() as page:
        page.goto(f"{closed.cluster.api_url}/")
        log_in(page, "rsk_nobody")
        page.locator("#login-message.bad").wait_for()
        log_in(page, key)
        # Only a page with the session's cookie sees the stream, its picture included.
        page.get_by_role("img", name="Newest picture of seen").wait_for()
        page.get_by_role("link", name="seen").click()
        page.get_by_role("button", name="Pause").click()
        wait_until(lambda: admin.get("/v1/streams/seen").json()["spec"]["paused"])
        assert "raysight_session" not in page.evaluate("document.cookie")
        copied = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        assert httpx.get(f"{closed.cluster.api_url}/v1/streams", cookies=copied).status_code == 200
        page.get_by_role("button", name="Log out").click()
        page.locator("#login").wait_for()
        assert httpx.get(f"{closed.cluster.api_url}/v1/streams", cookies=copied).status_code == 401


def log_in(page: Page, key: str) -> None:
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.long
def test_an_open_api_is_refused_to_others(tmp_path: Path, closed: Raysight) -> None:
    config = {**closed.config, "applications": [dict(one) for one in closed.config["applications"]]}
    config["applications"][1] = {**config["applications"][1], "args": {"grpc_from": "anywhere"}}
    with pytest.raises(StartError, match=r"`grpc_from: anywhere` would open the API.*Set `auth: keys`"):
        closed.cluster.deploy(config)


@pytest.mark.long
def test_replicas_without_a_common_secret_are_refused_before_they_start(closed: Raysight) -> None:
    config = {**closed.config, "applications": [dict(one) for one in closed.config["applications"]]}
    config["applications"][1]["args"] = {**config["applications"][1]["args"], "num_replicas": 2}
    with pytest.raises(StartError, match="several replicas of the API need one secret") as refused:
        closed.cluster.deploy(config)
    assert "retries" not in str(refused.value)

"""Calm under failure: bad input loses nothing, broken sources heal, killed processes come back."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.streams.urls import split_credentials
from tests.integration.system.test_main_job import assert_ledgers, online
from tests.support.cluster import Raysight, wait_until
from tests.support.rtsp_server import RtspServer

GOOD = {"source": {"url": "testsrc://?fps=10&size=320x240"}}


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("gopher://example.org/x", 422, "invalid_request"),
        ("file:../../etc/passwd", 403, "forbidden_address"),
        ("file:/etc/passwd", None, "not_found"),
        ("http://169.254.169.254/latest/meta-data", 403, "forbidden_address"),
        ("rtsp://[fe80::1]/x", 403, "forbidden_address"),
        ("rtsp://127.0.0.1:9/none", None, "connection_refused"),
        ("file:missing.mp4", None, "not_found"),
        ("file:text.mp4", None, "invalid_data"),
        ("file:empty.mp4", None, "invalid_data"),
    ],
)
def test_a_bad_source_is_refused_or_fails_by_name(raysight: Raysight, url: str, status: int | None, code: str) -> None:
    (raysight.media_root / "text.mp4").write_text("this is no video\n" * 100)
    (raysight.media_root / "empty.mp4").write_bytes(b"")
    response = raysight.api.put("/v1/streams/bad", json={"source": {"url": url}})
    if status is not None:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == code
        return
    assert response.status_code == 201, response.text
    found = raysight.wait("bad", lambda s: s["last_error"] is not None)
    assert found["last_error"]["code"] == code
    assert found["state"] in ("failed", "reconnecting")
    assert found["last_error"]["message"].count("\n") == 0


def test_a_truncated_clip_plays_what_there_is(raysight: Raysight, street_clip: Path) -> None:
    data = street_clip.read_bytes()
    (raysight.media_root / "cut.mp4").write_bytes(data[: len(data) // 6])
    raysight.put("cut", {"source": {"url": "file:cut.mp4"}})
    status = raysight.wait("cut", lambda s: s["last_error"] is not None)
    assert status["last_error"]["code"] in ("invalid_data", "ended")
    assert_ledgers(status)


def test_bad_requests_get_problems_and_lose_nothing(raysight: Raysight) -> None:
    raysight.put("good", GOOD)
    epoch = raysight.wait("good", online)["epoch"]
    api = raysight.api
    json_type = {"content-type": "application/json"}
    answers: list[tuple[httpx.Response, int]] = [
        (api.put("/v1/streams/x", content=b'{"source":', headers=json_type), 400),
        (api.put("/v1/streams/x", json={"source": {"url": "testsrc://"}, "colour": "red"}), 422),
        (api.put("/v1/streams/X_y", json=GOOD), 422),
        (api.put("/v1/streams/x", json={"source": {"url": "testsrc://?fps=9999"}}), 422),
        (api.post("/v1/streams", json={**GOOD, "id": "good"}), 409),
        (api.post("/v1/detect", content=b"", headers={"content-type": "image/jpeg"}), 422),
        (api.post("/v1/detect", content=b"not a picture", headers={"content-type": "image/png"}), 422),
        (api.post("/v1/detect", content=bytes(200_000_000), headers={"content-type": "image/jpeg"}), 413),
        (api.get("/v1/streams/none"), 404),
    ]
    for response, status in answers:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"]
    assert "colour" in answers[1][0].text
    assert raysight.wait("good", online)["epoch"] == epoch


def test_wrong_credentials_wait_for_a_change_of_the_spec(raysight: Raysight, camera: RtspServer) -> None:
    raysight.put("gate", {"source": {"url": camera.url("street", "viewer:wrong-w0rd")}})
    failed = raysight.wait("gate", lambda s: s["state"] == "failed")
    assert (failed["last_error"]["code"], failed["last_error"]["retryable"]) == ("auth_failed", False)
    raysight.put("gate", {"source": {"url": camera.url("street")}})
    raysight.wait("gate", online)


@pytest.mark.timeout(180)
def test_credentials_appear_nowhere(raysight: Raysight, camera: RtspServer) -> None:
    secret = "s3cr3t-Pa55"
    clean, _ = split_credentials(camera.url("street"))
    output = {"url": f"rtsp://writer:{secret}@127.0.0.1:9/none"}
    raysight.put("gate", {"source": {"url": camera.url("street")}, "outputs": [output]})
    raysight.put("bad", {"source": {"url": f"rtsp://viewer:{secret}-wrong@127.0.0.1:{camera.port}/street"}})
    raysight.put("token", {"source": {"url": f"http://127.0.0.1:9/live.m3u8?token={secret}&quality=hd"}})
    raysight.wait("gate", online)
    raysight.wait("bad", lambda s: s["last_error"] is not None)
    raysight.wait("token", lambda s: s["last_error"] is not None)
    raysight.wait("gate", lambda s: s["outputs"][0]["last_error"] is not None)
    assert raysight.view("gate")["spec"]["source"]["url"] == clean
    shown = [raysight.api.get(path).text for path in ("/v1/streams", "/v1/streams/gate", "/v1/streams/bad", "/")]
    shown.append(raysight.api.post("/v1/probe", json={"url": f"rtsp://a:{secret}@127.0.0.1:9/x"}).text)
    shown.append(raysight.api.put("/v1/streams/x", json={"source": {"url": f"foo://a:{secret}@host/x"}}).text)
    shown.append(str(raysight.events("gate", 5)))
    shown.append(httpx.get(f"http://127.0.0.1:{raysight.cluster.metrics_port}/metrics").text)
    for text in shown:
        assert secret not in text
    for log in raysight.cluster.folder.rglob("*"):
        if log.is_file() and log.suffix in (".log", ".out", ".err", ".json", ".txt"):
            assert secret not in log.read_text(errors="replace"), log


def history(raysight: Raysight, stream_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = raysight.api.get(f"/v1/streams/{stream_id}/history").json()["items"]
    return items


@pytest.mark.timeout(180)
def test_a_camera_that_goes_away_comes_back(raysight: Raysight, street_clip: Path) -> None:
    with RtspServer(clips={"street": street_clip}) as server:
        raysight.put("gate", {"source": {"url": server.url("street")}})
        before = raysight.wait("gate", online)
        sequence = raysight.events("gate", 1)[0]["sequence"]
        server.kill()
        down = raysight.wait("gate", lambda s: s["state"] == "reconnecting")
        assert down["last_error"]["retryable"]
        server.start()
        after = raysight.wait("gate", lambda s: online(s) and s["frames"]["inferred"] > down["frames"]["inferred"])
        assert after["epoch"] == before["epoch"]
        assert raysight.events("gate", 1)[0]["sequence"] > sequence
        assert_ledgers(after)
        wait_until(lambda: history(raysight, "gate")[0]["state"] == "online")
        went = history(raysight, "gate")
        assert [entry["state"] for entry in reversed(went) if not entry["error"]] == ["connecting", "online", "online"]
        assert all(entry["state"] == "reconnecting" for entry in went if entry["error"])


@pytest.mark.timeout(180)
def test_a_killed_stream_actor_is_replaced_and_its_sequence_goes_on(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    before = raysight.wait("street", online)
    sequence = raysight.events("street", 1)[0]["sequence"]
    (actor,) = raysight.processes("ray::StreamActor")
    actor.kill()
    after = raysight.wait("street", lambda s: online(s) and s["epoch"] > before["epoch"])
    assert raysight.events("street", 1)[0]["sequence"] > sequence
    assert_ledgers(after)
    newest_first = [(after["epoch"], "online"), (after["epoch"], "connecting"), (before["epoch"], "online")]
    wait_until(lambda: [(e["epoch"], e["state"]) for e in history(raysight, "street")[:3]] == newest_first)


@pytest.mark.timeout(180)
def test_a_killed_supervisor_finds_its_streams_again(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}, "labels": {"site": "north"}})
    before = raysight.wait("street", online)
    (supervisor,) = raysight.processes("ray::Supervisor")
    supervisor.kill()
    psutil.wait_procs([supervisor], timeout=10)
    answer = raysight.api.get("/v1/streams", timeout=30)  # who only reads waits for the next one
    assert answer.status_code == 200, answer.text
    assert [item["spec"]["labels"] for item in answer.json()["items"]] == [{"site": "north"}]
    after = raysight.wait("street", lambda s: s["frames"]["inferred"] > before["frames"]["inferred"])
    assert (after["epoch"], after["restarts"]) == (before["epoch"], 0)
    raysight.put("second", GOOD)
    raysight.wait("second", online)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_streams_that_wait_say_for_what_and_survive_the_supervisor(raysight: Raysight, camera: RtspServer) -> None:
    raysight.put("placed", GOOD)
    epoch = raysight.wait("placed", online)["epoch"]
    detector, api = raysight.config["applications"]
    greedy = {**api, "args": {**api["args"], "streams": {"stream_num_cpus": 999}}}
    try:
        raysight.cluster.deploy({**raysight.config, "applications": [detector, greedy]})
        raysight.put("crowd", GOOD)
        lack = "no node has 999 CPUs free: see streams.stream_num_cpus"
        raysight.wait("crowd", lambda s: s["state"] == "pending" and lack in s["reason"])
        raysight.put("no-gpu", {"source": {"url": camera.url("street"), "hwaccel": "cuda"}})
        raysight.put("no-gpu", {"source": {"url": camera.url("street"), "hwaccel": "cuda"}, "labels": {"site": "a"}})
    finally:
        raysight.cluster.deploy(raysight.config)
    (supervisor,) = raysight.processes("ray::Supervisor")
    supervisor.kill()
    psutil.wait_procs([supervisor], timeout=10)

    def listed() -> bool:
        answer = raysight.api.get("/v1/streams", timeout=10)
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200 and [
            (item["spec"]["id"], item["status"]["generation"]) for item in answer.json()["items"]
        ] == [("crowd", 1), ("no-gpu", 2), ("placed", 1)]

    wait_until(listed, timeout_s=20)
    assert raysight.status("placed")["epoch"] == epoch
    started = time.monotonic()
    assert raysight.api.delete("/v1/streams/crowd").status_code == 204
    assert time.monotonic() - started < 5  # nothing runs that would have to end
    raysight.api.patch("/v1/streams/no-gpu", json={"source": {"hwaccel": "none"}}).raise_for_status()
    raysight.wait("no-gpu", online)  # with the password that was kept


MAKE_ACTOR = """
import ray
from pathlib import Path
from deployments.streams.actor import stream_actor_class
from deployments.streams.hardware import NOTHING
from deployments.streams.tenure import Tenancy
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceSpec, StreamSpec

ray.init(address={address!r}, log_to_driver=False)
policy = UrlPolicy(media_root=Path("/tmp"), output_root=Path("/tmp"), allow_private=True)
spec = StreamSpec(id="orphan", source=SourceSpec(url="testsrc://"))
create = stream_actor_class("orphan", 0.03, 200 * 1024**2, NOTHING)
actor = create.remote(0, spec, 1, policy, 1, 0, NOTHING, (), Tenancy())
"""

ORPHAN = (
    MAKE_ACTOR
    + """
try:
    print(ray.get(actor.report.remote(0, 0)).status.state)
except ray.exceptions.ActorDiedError:
    print("found and ended before it was up")
"""
)

TAKEN_BACK = (
    MAKE_ACTOR
    + """
while True:
    calls = [actor.events.remote(None, 0.0) for _ in range(2)]
    ray.cancel(calls[1])  # the actor is not up yet: Serve does this for viewers who leave
    try:
        ray.get([calls[0], actor.events.remote(None, 0.0)], timeout=15)
        break
    except ray.exceptions.ActorDiedError:  # nobody wants it: it was found and ended meanwhile
        actor = create.remote(0, spec, 1, policy, 1, 0, NOTHING, (), Tenancy())
"""
)


@pytest.mark.timeout(120)
def test_an_actor_that_nobody_wants_is_found_and_ended(raysight: Raysight) -> None:
    raysight.put("good", GOOD)
    raysight.wait("good", online)
    in_cluster(raysight, ORPHAN)
    wait_until(lambda: len(raysight.processes("ray::StreamActor")) == 1, timeout_s=30)
    assert raysight.status("good")["online"]


@pytest.mark.timeout(120)
def test_a_call_that_is_taken_back_holds_up_no_others(raysight: Raysight) -> None:
    """Ray numbers the calls of each caller; for one that never comes an actor that keeps the order waits 30 s."""
    in_cluster(raysight, TAKEN_BACK)


def in_cluster(raysight: Raysight, script: str) -> None:
    """Run a program that joins the cluster; it has to succeed."""
    source = script.format(address=f"127.0.0.1:{raysight.cluster.gcs_port}")
    program, environment = [sys.executable, "-c", source], raysight.cluster.environment()
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_parallel_patches_all_count(raysight: Raysight) -> None:
    raysight.put("good", GOOD)
    with ThreadPoolExecutor(8) as threads:
        patches = [{"labels": {f"label-{number}": "set"}} for number in range(8)]
        answers = list(threads.map(lambda patch: raysight.api.patch("/v1/streams/good", json=patch), patches))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(raysight.view("good")["spec"]["labels"]) == 8


@pytest.mark.timeout(180)
def test_video_goes_on_while_the_detector_is_away(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    raysight.wait("street", online)
    (replica,) = raysight.processes("ray::ServeReplica:detector:Detector")
    replica.kill()
    away = raysight.wait("street", lambda s: s["frames"]["dropped"]["no_detector"] > 0)
    back = raysight.wait("street", lambda s: s["frames"]["inferred"] > away["frames"]["inferred"] + 20)
    assert back["epoch"] == away["epoch"]
    assert back["frames"]["video_dropped"] == 0
    assert_ledgers(back)


@pytest.mark.timeout(180)
def test_thresholds_change_without_a_restart_of_the_detector(raysight: Raysight, street_clip: Path) -> None:
    (replica,) = raysight.processes("ray::ServeReplica:detector:Detector")
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    raysight.wait("street", online)
    picture = raysight.api.get("/v1/streams/street/snapshot.jpg?annotated=false").content

    def found() -> int:
        answer = raysight.api.post("/v1/detect", content=picture, headers={"content-type": "image/jpeg"})
        return len(answer.json()["detections"])

    assert found() > 3
    detector, api = raysight.config["applications"]
    strict = {**detector, "deployments": [{"name": "Detector", "user_config": {"confidence": 0.99}}]}
    try:
        raysight.cluster.deploy({**raysight.config, "applications": [strict, api]})
        assert found() == 0
    finally:
        raysight.cluster.deploy(raysight.config)
    assert [p.pid for p in raysight.processes("ray::ServeReplica:detector:Detector")] == [replica.pid]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_thirty_streams_at_once(raysight: Raysight) -> None:
    ids = [f"cam-{number:02d}" for number in range(30)]
    statuses = []

    def put(stream_id: str) -> None:
        spec = {"source": {"url": "testsrc://?fps=5&size=320x240"}}
        statuses.append(raysight.api.put(f"/v1/streams/{stream_id}", json=spec).status_code)

    threads = [threading.Thread(target=put, args=(stream_id,)) for stream_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 30
    for stream_id in ids:
        assert_ledgers(raysight.wait(stream_id, online, timeout_s=600))
    listed = raysight.api.get("/v1/streams").json()["items"]
    assert [item["spec"]["id"] for item in listed] == ids


def test_only_loopback_is_listened_on(raysight: Raysight) -> None:
    """All but Serve's gRPC between replicas, which Ray binds to every interface and closes with the token."""
    family = {p.pid: p for p in psutil.Process(raysight.cluster.pid).children(recursive=True)}
    open_to_all = [
        (family[c.pid], c.laddr.port)
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
        and c.pid in family
        and c.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    ]
    for process, port in open_to_all:
        assert " ".join(process.cmdline()).startswith("ray::ServeReplica:"), process
        assert_closed_by_token(port)


def assert_closed_by_token(port: int) -> None:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_rays_dashboard_gives_way_to_the_streams(raysight: Raysight) -> None:
    modules = [
        process
        for process in psutil.Process(raysight.cluster.pid).children(recursive=True)
        if process.name().startswith("ray-dashboard")
    ]
    assert modules
    own = raysight.replicas()[0].nice()
    for process in modules:
        for thread in process.threads():
            assert os.getpriority(os.PRIO_PROCESS, thread.id) > own


def test_all_processes_give_memory_back(raysight: Raysight) -> None:
    if ctypes.util.find_library("jemalloc") is None:
        pytest.skip("Debian's libjemalloc2 is not installed")
    raysight.put("placed", GOOD)
    raysight.wait("placed", online)
    for process in raysight.processes("ray::"):
        with suppress(psutil.NoSuchProcess):  # one that waited for work, and ended
            assert any("jemalloc" in place.path for place in process.memory_maps()), process

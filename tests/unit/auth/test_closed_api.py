"""The API with closed doors: keys, scope, quotas, sessions, the audit log, and a store that goes away."""

from __future__ import annotations

import asyncio
import json
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from deployments.store.protocol import Guard
from serve_app.api import own, playbacks
from serve_app.auth.config import AuthArgs, close_doors
from serve_app.auth.doors import Credentials
from serve_app.auth.keyring import Keyring
from serve_app.auth.recent import LIFE_S
from serve_app.auth.roles import Role
from tests.support.closed_api import BASE, ClosedApi, CountingStore, problem
from tests.support.waiting import until_so

NORTH = {"site": "north"}
SOUTH = {"site": "south"}


@pytest.fixture
def north(closed: ClosedApi) -> str:
    """A key for one site, where there are streams of two."""
    operator = closed.key("operator")
    assert closed.put("north-1", operator, labels={**NORTH, "floor": "2"}).status_code == 201
    assert closed.put("south-1", operator, labels=SOUTH).status_code == 201
    return closed.key("operator", labels=NORTH)


def test_a_key_is_shown_once_and_kept_as_a_hash(closed: ClosedApi, store: CountingStore) -> None:
    admin = closed.key("admin")
    closed.clock.now += 1
    answer = closed.call("POST", "/v1/keys", admin, json={"name": "gatehouse", "role": "viewer", "labels": NORTH})
    made = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert closed.call("GET", "/v1/streams", made["key"]).status_code == 200
    listed = closed.call("GET", "/v1/keys", admin)
    assert [item["name"] for item in listed.json()["items"]] == ["the admin", "gatehouse"]
    secret = made["key"].rpartition("_")[2]
    stored = b"".join(record.value for kind in ("key", "audit") for record in store.inner.all(kind).values())
    assert secret not in listed.text
    assert secret.encode() not in stored
    assert "digest" not in listed.text + answer.text
    assert closed.call("DELETE", f"/v1/keys/{made['id']}", admin).status_code == 204
    problem(closed.call("GET", "/v1/streams", made["key"]), 401, "unauthorized")
    problem(closed.call("DELETE", f"/v1/keys/{made['id']}", admin), 404, "key_not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": "a", "role": "root"}, "role"),
        ({"name": "a\n", "role": "viewer"}, "name"),
        ({"name": "a", "role": "admin", "labels": NORTH}, "body"),
        ({"name": "a", "role": "viewer", "quotas": {"streams": -1}}, "quotas.streams"),
        ({"name": "a", "role": "viewer", "digest": "0" * 64}, "digest"),
    ],
)
def test_keys_that_cannot_be(closed: ClosedApi, body: dict[str, Any], field: str) -> None:
    told = problem(closed.call("POST", "/v1/keys", closed.key("admin"), json=body), 422, "invalid_request")
    assert told["errors"][0]["field"] == field


def test_a_scope_hides_other_streams(closed: ClosedApi, north: str) -> None:
    assert [view["spec"]["id"] for view in closed.call("GET", "/v1/streams", north).json()["items"]] == ["north-1"]
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/restart"),
        ("GET", "/snapshot.jpg"),
        ("GET", "/detections"),
        ("GET", "/live.mjpeg"),
    ):
        body = {"json": {"paused": True}} if method == "PATCH" else {}
        for stream_id in ("south-1", "nowhere"):
            told = problem(
                closed.call(method, f"/v1/streams/{stream_id}{path}", north, **body), 404, "stream_not_found"
            )
            assert told["detail"] == f"There is no stream '{stream_id}': GET /v1/streams lists them."
    assert not closed.streams.streams["south-1"].view.spec.paused


def test_an_export_and_a_drain_know_the_scope(closed: ClosedApi, north: str) -> None:
    assert list(closed.call("GET", "/v1/export", north).json()["streams"]) == ["north-1"]
    problem(closed.call("POST", "/v1/drain", north), 403, "forbidden")


def test_nothing_is_made_or_moved_outside_of_a_scope(closed: ClosedApi, north: str) -> None:
    for labels in ({}, SOUTH, {"site": "North"}):
        problem(closed.put("new", north, labels=labels), 403, "forbidden")
        body = {"id": "new", "source": {"url": "testsrc://"}, "labels": labels}
        problem(closed.call("POST", "/v1/streams", north, json=body), 403, "forbidden")
        problem(closed.put("north-1", north, labels=labels), 403, "forbidden")
    for change in ({"labels": SOUTH}, {"labels": None}, {"labels": {"site": None}}, {"labels": {"site": 5}}):
        problem(closed.call("PATCH", "/v1/streams/north-1", north, json=change), 403, "forbidden")
    problem(closed.put("south-1", north, labels=NORTH), 409, "stream_exists")
    assert closed.streams.streams["north-1"].view.spec.labels == {**NORTH, "floor": "2"}
    assert closed.streams.streams["south-1"].view.spec.labels == SOUTH
    assert closed.put("new", north, labels={**NORTH, "a": "b"}).status_code == 201
    assert closed.call("PATCH", "/v1/streams/new", north, json={"labels": {"a": None}}).status_code == 200
    assert closed.call("DELETE", "/v1/streams/new", north).status_code == 204


def test_no_change_slips_in_between(closed: ClosedApi, north: str) -> None:
    """Somebody else takes the stream out of the scope after it was looked at and before it is changed."""
    streams, inner = closed.streams, closed.streams.patch
    tried: list[int | None] = []

    async def late(stream_id: str, merge_patch: dict[str, Any], if_generation: int | None) -> Any:
        if not tried:
            await inner(stream_id, {"labels": SOUTH}, None)
        tried.append(if_generation)
        return await inner(stream_id, merge_patch, if_generation)

    streams.patch = late  # type: ignore[method-assign]
    problem(closed.call("PATCH", "/v1/streams/north-1", north, json={"paused": True}), 404, "stream_not_found")
    assert tried == [1]
    assert not streams.streams["north-1"].view.spec.paused


def test_if_match_still_decides(closed: ClosedApi) -> None:
    operator = closed.key("operator")
    problem(
        closed.call("PATCH", "/v1/streams/a", operator, json={}, headers={"If-Match": '"1"'}), 404, "stream_not_found"
    )
    body = {"json": {"source": {"url": "testsrc://"}}, "headers": {"If-Match": '"1"'}}
    problem(closed.call("PUT", "/v1/streams/a", operator, **body), 412, "precondition_failed")
    closed.put("a", operator)
    assert closed.call("PUT", "/v1/streams/a", operator, **body).status_code == 200
    closed.put("a", operator, paused=True)
    problem(closed.call("PUT", "/v1/streams/a", operator, **body), 412, "precondition_failed")
    problem(closed.call("DELETE", "/v1/streams/a", operator, headers={"If-Match": '"1"'}), 412, "precondition_failed")


def test_streams_of_a_key_are_counted(closed: ClosedApi, north: str) -> None:
    key = closed.key("operator", labels=NORTH, quotas={"streams": 2})
    assert closed.put("north-2", key, labels=NORTH).status_code == 201
    answer = closed.put("north-3", key, labels=NORTH)
    problem(answer, 429, "quota_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert closed.put("north-2", key, labels=NORTH, paused=True).status_code == 200
    assert closed.call("DELETE", "/v1/streams/north-1", key).status_code == 204
    assert closed.put("north-3", key, labels=NORTH).status_code == 201


def test_requests_of_a_key_are_counted(closed: ClosedApi) -> None:
    key = closed.key("viewer", quotas={"requests_per_minute": 12})
    assert [closed.call("GET", "/v1/streams", key).status_code for _ in range(3)] == [200, 200, 429]
    answer = closed.call("GET", "/v1/streams", key)
    problem(answer, 429, "quota_exceeded")
    assert answer.headers["retry-after"] == "5"
    assert closed.call("GET", "/v2", key).json()["error"]
    closed.clock.now += 5
    assert closed.call("GET", "/v1/streams", key).status_code == 200


class View:
    """A live view whose end the test decides on."""

    def __init__(
        self, closed: ClosedApi, path: str, key: str | None = None, cookies: dict[str, str] | None = None
    ) -> None:
        pairs = "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())
        carried = (b"cookie", pairs.encode()) if key is None else (b"authorization", f"Bearer {key}".encode())
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"host", b"localhost"), carried],
            "scheme": "http", "http_version": "1.1", "root_path": "", "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self.task = asyncio.create_task(closed.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status.set_result(message["status"])


def test_open_views_of_a_key_are_counted(closed: ClosedApi, north: str) -> None:
    key = closed.key("viewer", quotas={"event_streams": 1})

    async def views() -> None:
        async with asyncio.timeout(10):
            first = View(closed, "/v1/streams/north-1/detections", key)
            assert await first.status == 200
            assert await View(closed, "/v1/streams/north-1/live.mjpeg", key).status == 429
            first.gone.set()
            await first.task
            second = View(closed, "/v1/streams/north-1/live.mjpeg", key)
            assert await second.status == 200
            second.gone.set()
            await second.task

    closed.runner.run(views())


@pytest.mark.parametrize("what", ["key", "labels"])
@pytest.mark.parametrize("view", ["detections", "live.mjpeg"])
def test_a_view_ends_when_it_would_be_refused(
    closed: ClosedApi, north: str, monkeypatch: pytest.MonkeyPatch, what: str, view: str
) -> None:
    monkeypatch.setattr(own, "RECHECK_S", 0.01)
    operator = closed.key("operator")

    async def watched() -> None:
        async with asyncio.timeout(10):
            one = View(closed, f"/v1/streams/north-1/{view}", north)
            other = View(closed, f"/v1/streams/north-1/{view}", operator)
            assert (await one.status, await other.status) == (200, 200)
            if what == "key":
                await closed.keys.remove(north.split("_")[1])
            else:
                await closed.streams.patch("north-1", {"labels": SOUTH}, None)
            await one.task
            assert not other.task.done()
            other.gone.set()
            await other.task

    closed.runner.run(watched())


def logged_in(closed: ClosedApi, key: str, **request: Any) -> dict[str, Any]:
    answer = closed.call("POST", "/v1/login", json={"key": key}, **request)
    assert (answer.status_code, answer.content) == (204, b"")
    jar: SimpleCookie = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        jar.load(header)
    return dict(jar)


def session_of(closed: ClosedApi, key: str) -> dict[str, str]:
    """The cookies of a new one."""
    return {name: morsel.value for name, morsel in logged_in(closed, key).items()}


def test_a_browser_logs_in(closed: ClosedApi, north: str) -> None:
    jar = logged_in(closed, north)
    session, csrf = jar["raysight_session"], jar["raysight_csrf"]
    assert (session["httponly"], csrf["httponly"]) == (True, "")
    assert {session["samesite"], csrf["samesite"]} == {"strict"}
    assert (session["secure"], session["path"], session["max-age"]) == ("", "/", "3600")
    cookies = {name: morsel.value for name, morsel in jar.items()}
    assert len(closed.call("GET", "/v1/streams", cookies=cookies).json()["items"]) == 1
    change: dict[str, Any] = {"json": {"paused": True}, "cookies": cookies}
    problem(closed.call("PATCH", "/v1/streams/north-1", **change), 403, "forbidden")
    for token in ("x", session.value, "é".encode("latin-1")):
        wrong = {"headers": {"X-CSRF-Token": token}}
        problem(closed.call("PATCH", "/v1/streams/north-1", **change, **wrong), 403, "forbidden")
    right = {"headers": {"X-CSRF-Token": csrf.value}}
    assert closed.call("PATCH", "/v1/streams/north-1", **change, **right).status_code == 200
    closed.clock.now += 3600
    problem(closed.call("GET", "/v1/streams", cookies=cookies), 401, "unauthorized")


def test_a_session_ends_with_its_key(closed: ClosedApi) -> None:
    key = closed.key("viewer")
    cookies = session_of(closed, key)
    assert closed.call("GET", "/v1/streams", cookies=cookies).status_code == 200
    assert closed.call("DELETE", f"/v1/keys/{key.split('_')[1]}", closed.key("admin")).status_code == 204
    problem(closed.call("GET", "/v1/streams", cookies=cookies), 401, "unauthorized")


def test_a_session_ends_with_its_key_though_another_gets_its_id(closed: ClosedApi) -> None:
    """As the first key of a start does, where there is no admin's key any more."""
    first = closed.keys.bootstrap()
    assert first is not None
    cookies = session_of(closed, first.key)
    assert closed.call("GET", "/v1/keys", cookies=cookies).status_code == 200
    closed.runner.run(closed.keys.remove(first.id))
    closed.clock.now += 1
    again = closed.keys.bootstrap()
    assert again is not None
    assert again.id == first.id
    problem(closed.call("GET", "/v1/keys", cookies=cookies), 401, "unauthorized")
    assert closed.call("GET", "/v1/keys", cookies=session_of(closed, again.key)).status_code == 200


def test_everybody_is_told_who_they_are(closed: ClosedApi) -> None:
    north = closed.key("operator", labels={"site": "north"})
    expected = {"name": "the operator", "role": "operator", "labels": {"site": "north"}}
    assert closed.call("GET", "/v1/me", north).json() == expected
    problem(closed.call("GET", "/v1/me"), 401, "unauthorized")


def test_cookies_are_secure_behind_tls(closed: ClosedApi) -> None:
    key = closed.key("viewer")
    for request in ({"base_url": "https://localhost"}, {"headers": {"X-Forwarded-Proto": "https"}}):
        assert all(morsel["secure"] for morsel in logged_in(closed, key, **request).values())


def logged_out(closed: ClosedApi, cookies: dict[str, str]) -> httpx.Response:
    return closed.call("POST", "/v1/logout", cookies=cookies, headers={"X-CSRF-Token": cookies["raysight_csrf"]})


def test_logging_out_takes_the_cookies_back(closed: ClosedApi) -> None:
    cookies = session_of(closed, closed.key("viewer"))
    problem(closed.call("POST", "/v1/logout", cookies=cookies), 403, "forbidden")
    answer = logged_out(closed, cookies)
    assert answer.status_code == 204
    assert all("Max-Age=0" in header for header in answer.headers.get_list("set-cookie"))
    assert len(answer.headers.get_list("set-cookie")) == 2


def test_logging_out_ends_the_session_wherever_its_cookie_was_copied_to(
    closed: ClosedApi, store: CountingStore
) -> None:
    """In other replicas, and after a start of everything; other sessions of the key go on."""
    key, other = closed.key("viewer"), ClosedApi(closed.runner, store)
    ended, going_on = session_of(closed, key), session_of(closed, key)
    assert other.call("GET", "/v1/streams", cookies=ended).status_code == 200
    assert logged_out(closed, ended).status_code == 204
    problem(closed.call("GET", "/v1/streams", cookies=ended), 401, "unauthorized")
    problem(logged_out(closed, ended), 401, "unauthorized")
    other.clock.now += LIFE_S
    for replica in (other, ClosedApi(closed.runner, store)):
        problem(replica.call("GET", "/v1/streams", cookies=ended), 401, "unauthorized")
        assert replica.call("GET", "/v1/streams", cookies=going_on).status_code == 200
        assert replica.call("GET", "/v1/streams", key).status_code == 200
    assert other.call("GET", "/v1/streams", cookies=session_of(other, key)).status_code == 200


def test_logouts_of_two_replicas_at_once_all_count(
    closed: ClosedApi, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, put = closed.key("viewer"), store.put
    first, second = session_of(closed, key), session_of(closed, key)

    def late(kind: str, name: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        """Another replica is faster."""
        monkeypatch.undo()
        with asyncio.Runner() as elsewhere:
            assert logged_out(ClosedApi(elsewhere, store), second).status_code == 204
        return put(kind, name, value, expected, guard)

    monkeypatch.setattr(store, "put", late)
    assert logged_out(closed, first).status_code == 204
    closed.clock.now += LIFE_S
    for cookies in (first, second):
        problem(closed.call("GET", "/v1/streams", cookies=cookies), 401, "unauthorized")


def test_logging_out_takes_the_store(closed: ClosedApi, store: CountingStore) -> None:
    cookies = session_of(closed, closed.key("viewer"))
    assert closed.call("GET", "/v1/streams", cookies=cookies).status_code == 200
    store.away = True
    answer = logged_out(closed, cookies)
    problem(answer, 503, "store_unavailable")
    assert "set-cookie" not in answer.headers
    closed.clock.now += LIFE_S
    assert closed.call("GET", "/v1/streams", cookies=cookies).status_code == 200
    store.away = False
    assert logged_out(closed, cookies).status_code == 204
    store.away = True
    closed.clock.now += LIFE_S
    problem(closed.call("GET", "/v1/streams", cookies=cookies), 401, "unauthorized")


def test_a_damaged_record_of_logouts_is_replaced(closed: ClosedApi, store: CountingStore) -> None:
    cookies = session_of(closed, closed.key("viewer"))
    assert logged_out(closed, cookies).status_code == 204
    (place,) = store.inner.all("logout")
    store.inner.put("logout", place, b"{", None)
    closed.clock.now += LIFE_S
    assert logged_out(closed, cookies).status_code == 204
    problem(closed.call("GET", "/v1/streams", cookies=cookies), 401, "unauthorized")


def test_a_view_ends_with_its_session(closed: ClosedApi, north: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "RECHECK_S", 0.01)
    ended, going_on = session_of(closed, north), session_of(closed, north)

    async def watched() -> None:
        async with asyncio.timeout(10):
            views = [View(closed, "/v1/streams/north-1/detections", cookies=cookies) for cookies in (ended, going_on)]
            assert [await view.status for view in views] == [200, 200]
            who = await closed.doors.admit(Credentials(cookie=ended["raysight_session"], changes=False), Role.VIEWER)
            await closed.doors.logout(who)
            await views[0].task
            assert not views[1].task.done()
            views[1].gone.set()
            await views[1].task

    closed.runner.run(watched())


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_the_login_page_until_then(closed: ClosedApi, path: str) -> None:
    answer = closed.call("GET", path, headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert 'id="login"' in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert closed.call("GET", "/web/login.js").status_code == 200
    cookies = session_of(closed, closed.key("viewer"))
    assert 'id="login"' not in closed.call("GET", path, cookies=cookies).text


def test_a_wrong_login(closed: ClosedApi) -> None:
    problem(closed.call("POST", "/v1/login", json={"key": "rsk_a_b"}), 401, "unauthorized")
    problem(closed.call("POST", "/v1/login", json={}), 422, "invalid_request")
    problem(closed.call("GET", "/v1/streams", headers={"Authorization": "Basic YTpi"}), 401, "unauthorized")


def test_what_was_changed_is_written_down(closed: ClosedApi) -> None:
    operator, admin = closed.key("operator"), closed.key("admin")
    closed.put("a", operator)
    closed.put("a", operator)  # the same again is no change
    closed.put("a", operator, paused=True)
    closed.call("PATCH", "/v1/streams/a", operator, json={"source": {"url": "rtsp://u:hunter2@h/"}})
    closed.call("POST", "/v1/streams/a/restart", operator)
    closed.call("DELETE", "/v1/streams/a", operator)
    closed.call("PUT", "/v1/models/fast", admin, json={"package": "other"})
    problem(closed.put("a", closed.key("viewer")), 403, "forbidden")
    answer = closed.call("GET", "/v1/audit", admin)
    told = [(e["action"], e["target"], e["from_generation"], e["to_generation"]) for e in answer.json()["items"]]
    assert told == [
        ("model.swap", "fast", None, None),
        ("stream.delete", "a", 3, None),
        ("stream.restart", "a", 3, 3),
        ("stream.patch", "a", 2, 3),
        ("stream.put", "a", 1, 2),
        ("stream.create", "a", None, 1),
    ]
    assert {e["name"] for e in answer.json()["items"]} == {"the operator", "the admin"}
    assert "hunter2" not in answer.text
    page = closed.call("GET", "/v1/audit?limit=4", admin).json()
    rest = closed.call("GET", f"/v1/audit?limit=4&cursor={page['next_cursor']}", admin).json()
    assert (len(page["items"]), len(rest["items"]), rest["next_cursor"]) == (4, 2, None)


def test_the_audit_log_is_bounded(closed: ClosedApi, store: CountingStore) -> None:
    operator = closed.key("operator")
    for number in range(60):
        closed.put("a", operator, priority=number % 2)
    entries = closed.call("GET", "/v1/audit?limit=1000", closed.key("admin")).json()["items"]
    assert [entry["number"] for entry in entries] == list(range(60, 10, -1))
    assert len(store.inner.all("audit")) == 51  # and the count


def test_a_request_costs_no_read(closed: ClosedApi, store: CountingStore) -> None:
    key = closed.key("viewer")
    closed.call("GET", "/v1/streams", key)
    before = store.reads
    for _ in range(40):
        closed.clock.now += LIFE_S / 50
        closed.call("GET", "/v1/streams", key)
    assert store.reads == before
    closed.clock.now += LIFE_S / 5
    closed.call("GET", "/v1/streams", key)
    assert store.reads == before + 1


def test_keys_that_there_are_not_cost_few_reads(closed: ClosedApi, store: CountingStore) -> None:
    closed.call("GET", "/v1/streams", closed.key("viewer"))
    before = store.reads
    for number in range(100):
        closed.clock.now += 0.01
        assert closed.call("GET", "/v1/streams", f"rsk_{number}_" + "0" * 64).status_code == 401
    assert 0 < store.reads - before <= 5


def test_a_program_that_goes_on_with_a_removed_key_keeps_no_new_one_out(
    closed: ClosedApi, store: CountingStore
) -> None:
    other, removed = ClosedApi(closed.runner, store), closed.key("viewer")
    closed.runner.run(closed.keys.remove(removed.split("_")[1]))
    assert other.call("GET", "/v1/streams", removed).status_code == 401
    before = store.reads
    for _ in range(50):
        other.clock.now += 0.01
        assert other.call("GET", "/v1/streams", removed).status_code == 401
    assert store.reads == before
    assert other.call("GET", "/v1/streams", closed.key("viewer")).status_code == 200


def test_a_new_key_that_comes_many_times_at_once_opens_each_time(closed: ClosedApi, store: CountingStore) -> None:
    other = ClosedApi(closed.runner, store)
    assert other.call("GET", "/v1/streams", closed.key("viewer")).status_code == 200
    headers, before = {"Authorization": f"Bearer {closed.key('viewer')}"}, store.reads

    async def asked() -> set[int]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(other.app), base_url=BASE, headers=headers
        ) as client:
            answers = await asyncio.gather(*(client.get("/v1/streams") for _ in range(40)))
            return {answer.status_code for answer in answers}

    assert closed.runner.run(asked()) == {200}
    assert store.reads == before + 1


def test_a_request_of_a_browser_costs_no_read(closed: ClosedApi, store: CountingStore) -> None:
    cookies = session_of(closed, closed.key("viewer"))
    closed.call("GET", "/v1/streams", cookies=cookies)
    before = store.reads
    for _ in range(20):
        closed.call("GET", "/v1/streams", cookies=cookies)
    assert store.reads == before
    closed.clock.now += LIFE_S
    closed.call("GET", "/v1/streams", cookies=cookies)
    assert store.reads == before + 2  # the keys, and the sessions that have ended


def test_another_process_knows_a_removed_key_after_a_while(closed: ClosedApi, store: CountingStore) -> None:
    other = ClosedApi(closed.runner, store)
    old = closed.key("viewer")
    assert other.call("GET", "/v1/streams", old).status_code == 200
    closed.runner.run(closed.keys.remove(old.split("_")[1]))
    assert closed.call("GET", "/v1/streams", old).status_code == 401
    assert other.call("GET", "/v1/streams", old).status_code == 200
    other.clock.now += LIFE_S
    assert other.call("GET", "/v1/streams", old).status_code == 401


def test_another_process_knows_a_new_key_at_once(closed: ClosedApi, store: CountingStore) -> None:
    other = ClosedApi(closed.runner, store)
    assert other.call("GET", "/v1/streams", closed.key("viewer")).status_code == 200
    key = closed.key("viewer")
    assert other.call("GET", "/v1/streams", cookies=session_of(closed, key)).status_code == 200
    assert other.call("GET", "/v1/streams", key).status_code == 200
    store.away = True
    assert other.call("GET", "/v1/streams", "rsk_nobody_" + "0" * 64).status_code == 401
    assert other.call("GET", "/v1/streams", key).status_code == 200


def test_known_keys_outlive_the_store(closed: ClosedApi, store: CountingStore) -> None:
    admin, operator = closed.key("admin"), closed.key("operator")
    closed.call("GET", "/v1/streams", operator)
    store.away = True
    closed.clock.now += 3600
    assert closed.call("GET", "/v1/streams", operator).status_code == 200
    for call in (
        ("GET", "/v1/keys", {}),
        ("POST", "/v1/keys", {"json": {"name": "a", "role": "viewer"}}),
        ("DELETE", f"/v1/keys/{operator.split('_')[1]}", {}),
        ("GET", "/v1/audit", {}),
    ):
        answer = closed.call(call[0], call[1], admin, **call[2])
        problem(answer, 503, "store_unavailable")
        assert "retry-after" in answer.headers
    store.away = False
    closed.clock.now += 3600
    assert closed.call("GET", "/v1/keys", admin).status_code == 200


def test_nobody_is_known_without_the_store(closed: ClosedApi, store: CountingStore) -> None:
    store.away = True
    problem(closed.call("GET", "/v1/streams", "rsk_nobody_" + "0" * 64), 503, "store_unavailable")
    assert closed.call("GET", "/healthz").status_code == 200


def test_the_first_key_is_made_once(closed: ClosedApi, store: CountingStore) -> None:
    first = closed.keys.bootstrap()
    assert first is not None
    assert first.role is Role.ADMIN
    assert Keyring(store, closed.clock, closed.clock).bootstrap() is None
    assert closed.call("GET", "/v1/keys", first.key).status_code == 200
    closed.runner.run(closed.keys.remove(first.id))
    again = closed.keys.bootstrap()
    assert again is not None
    assert again.key != first.key


def test_the_first_key_is_shown_once_and_not_where_somebody_else_makes_it(
    store: CountingStore, capsys: pytest.CaptureFixture[str]
) -> None:
    close_doors(AuthArgs(auth="keys", first_key=False), store, replicas=1)
    assert store.all("key") == {}
    assert capsys.readouterr().err == ""
    store.away = True
    assert close_doors(AuthArgs(auth="keys"), store, replicas=1) is not None
    store.away = False
    for shown in (1, 0):
        close_doors(AuthArgs(auth="keys"), store, replicas=1)
        assert capsys.readouterr().err.count("the first admin key, shown this once: rsk_bootstrap_") == shown


def test_a_damaged_record_opens_nothing(closed: ClosedApi, store: CountingStore) -> None:
    key = closed.key("viewer")
    store.inner.put("key", "broken", json.dumps({"id": "broken"}).encode(), None)
    assert closed.call("GET", "/v1/streams", key).status_code == 200
    listed = closed.call("GET", "/v1/keys", closed.key("admin")).json()["items"]
    assert {item["name"] for item in listed} == {"the viewer", "the admin"}


def test_watching_by_webrtc_counts_as_a_view_and_ends_with_the_key(
    closed: ClosedApi, north: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playbacks, "ASK_S", 0.01)
    path = "/v1/streams/north-1/whep"
    offer: dict[str, Any] = {"content": "an offer", "headers": {"Content-Type": "application/sdp"}}
    key = closed.key("viewer", labels=NORTH, quotas={"event_streams": 1})
    problem(closed.call("POST", path, None, **offer), 401, "unauthorized")
    problem(closed.call("POST", path, closed.key("viewer", labels=SOUTH), **offer), 404, "stream_not_found")
    assert closed.call("POST", path, key, **offer).status_code == 201
    problem(closed.call("POST", path, key, **offer), 429, "quota_exceeded")
    assert closed.streams.playing == {"viewer-0": True}
    closed.runner.run(closed.keys.remove(key.split("_")[1]))
    seats = closed.app.state.viewers.seats
    closed.runner.run(until_so(lambda: not closed.streams.playing["viewer-0"] and not seats.taken))

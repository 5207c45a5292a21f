"""Every route of the application asks who is there, also one that nobody has thought of here."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import iter_route_contexts

from serve_app.api.application import create_api
from serve_app.api.v2.messages import METHODS
from serve_app.auth.roles import Role
from serve_app.auth.routes import OPEN, ROLES, RPC_ROLES, needed
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams
from tests.support.closed_api import ClosedApi


def routes() -> list[tuple[str, str]]:
    """Method and path of every route that the application has, pages included."""
    app = create_api(MemoryStreams(), MemoryDetector(), MemoryMedia(), version="0")
    found = []
    for route in iter_route_contexts(app.routes):
        assert route.path is not None, "a mount would need a rule of its own"
        assert route.methods, route.path
        found += [(method, route.path) for method in sorted(route.methods)]
    return found


ROUTES = routes()


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "x", path)


def test_the_walk_sees_all() -> None:
    assert len(ROUTES) > 40
    assert {("GET", "/docs"), ("HEAD", "/openapi.json"), ("POST", "/v1/keys")} <= set(ROUTES)


def test_the_table_has_no_route_that_is_gone() -> None:
    assert OPEN | set(ROLES) == {(method, path) for method, path in ROUTES if method != "HEAD"}
    assert set(RPC_ROLES) == set(METHODS)


def test_routes_ask_for_a_key_and_for_the_role(closed: ClosedApi) -> None:
    keys = {role: closed.key(role.value) for role in Role}
    for method, path in ROUTES:
        role = needed(method, path)
        if role is None:
            assert (method, path) in OPEN
            continue
        assert needed(method, filled(path)) is role, path
        for credentials in (None, "rsk_x", "rsk_nobody_" + "0" * 64):
            response = closed.call(method, filled(path), credentials)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), (method, path)
        for smaller in (other for other in Role if not other.covers(role)):
            assert closed.call(method, filled(path), keys[smaller]).status_code == 403, (method, path)
        if path.endswith(("detections", "live.mjpeg")):
            continue  # they are there only where the stream is, and then they don't end
        assert closed.call(method, filled(path), keys[role]).status_code not in (401, 403), (method, path)


def test_a_route_that_nobody_declared_is_for_admins(closed: ClosedApi) -> None:
    @closed.app.get("/v1/forgotten")
    async def forgotten() -> str:
        return "something secret"

    assert closed.call("GET", "/v1/forgotten").status_code == 401
    assert closed.call("GET", "/v1/forgotten", closed.key("operator")).status_code == 403
    assert closed.call("GET", "/v1/forgotten", closed.key("admin")).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/v1", "/v1/streams/", "//v1/streams", "/V1/streams", "/healthz/", "/healthz/x", "/v1/streams/a/b/c"],
)
def test_other_paths_tell_nothing(closed: ClosedApi, path: str) -> None:
    assert closed.call("GET", path).status_code == 401
    assert closed.call("TRACE", path).status_code == 401


def test_what_is_open_tells_nothing(closed: ClosedApi) -> None:
    closed.put("secret-place", closed.key("operator"))
    assert closed.call("GET", "/healthz").json() == {"status": "ok"}
    assert closed.call("GET", "/readyz").json() == {"status": "ready"}
    assert all("secret-place" not in closed.call(method, path).text for method, path in OPEN)

"""The pages come whole from the server itself, and other sites are kept out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import serve_app.web
from serve_app.api.application import create_api
from tests.unit.serve_app.conftest import Api
from tests.unit.serve_app.test_streams import BODY, problem

WEB = Path(serve_app.web.__file__).parent
PAGES = ("/", "/docs", "/login", *(f"/web/{file.name}" for file in WEB.iterdir() if file.suffix in {".js", ".css"}))


@pytest.mark.parametrize("path", PAGES)
def test_pages_use_no_other_address(api: Api, path: str) -> None:
    page = api.call("GET", path)
    assert page.status_code == 200
    outside = set(re.findall(r"https?://[^\s'\"]+", page.text)) - {"http://www.w3.org/2000/svg"}
    assert not outside
    assert "innerHTML" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    again = api.call("GET", path, headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_everything_that_a_page_loads_is_there(api: Api, path: str) -> None:
    for loaded in re.findall(r'(?:src|href)="([^"#:]+)"', api.call("GET", path).text):
        assert api.call("GET", f"/{loaded.removeprefix('./')}").status_code == 200, loaded


@pytest.mark.parametrize("script", sorted(WEB.glob("*.js")), ids=lambda file: file.name)
def test_scripts_import_what_ships(api: Api, script: Path) -> None:
    for loaded in re.findall(r'^(?:import|export) .* from "(.*)";$', script.read_text(), re.MULTILINE):
        assert api.call("GET", f"/web/{loaded.removeprefix('./')}").status_code == 200, loaded


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "__init__.py", "..%2Fauth%2Fsecret.py"])
def test_no_other_file_is_given_out(api: Api, name: str) -> None:
    problem(api.call("GET", f"/web/{name}"), 404, "route_not_found")


def test_pages_hold_no_script_and_no_style_of_their_own(api: Api) -> None:
    """The Content-Security-Policy would keep the browser from using them."""
    for page in WEB.glob("*.html"):
        assert not re.search(r"<style|<script(?! type=\"module\" src=)|\son\w+=|\sstyle=", page.read_text()), page.name


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[", "::1"]
)
def test_foreign_hosts_are_refused(api: Api, host: str) -> None:
    problem(api.call("GET", "/v1/streams", headers={"Host": host}), 421, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]"])
def test_names_of_the_loopback(api: Api, host: str) -> None:
    assert api.call("GET", "/v1/streams", headers={"Host": host}).status_code == 200


def test_any_host_where_the_server_is_open(api: Api) -> None:
    api.app = create_api(api.streams, api.detector, api.media, version="0", allowed_hosts=None)
    assert api.call("GET", "/healthz", headers={"Host": "cameras.example"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9", "http://[", "file://"])
def test_changes_asked_for_by_another_site(api: Api, origin: str) -> None:
    response = api.call("PUT", "/v1/streams/a", json=BODY, headers={"Origin": origin})
    problem(response, 403, "foreign_origin")
    assert not api.streams.streams


def test_changes_asked_for_by_the_own_page(api: Api) -> None:
    response = api.call("PUT", "/v1/streams/a", json=BODY, headers={"Origin": "http://localhost:8000"})
    assert response.status_code == 201
    assert not [name for name in response.headers if name.startswith("access-control")]

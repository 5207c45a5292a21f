"""What the page offers to whom, where everybody is asked for a key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from deployments.store.sqlite import SqliteStore
from serve_app.auth.doors import Doors
from serve_app.auth.keyring import Keyring
from serve_app.auth.logouts import Logouts
from serve_app.auth.records import KeySpec
from serve_app.auth.session import SessionSigner
from tests.support.browser import chromium, watched_page
from tests.support.closed_api import SECRET
from tests.support.page_site import page_site

expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, tmp_path: Path, role: str) -> Iterator[Page]:
    """Logged in with a key of the role; there is one stream, gate."""
    store = SqliteStore(tmp_path / "registry.db")
    keys = Keyring(store, time.monotonic, time.time)
    key = keys.put_new(KeySpec.model_validate({"name": "gatehouse", "role": role}), "test").key
    doors = Doors(keys, Logouts(store, time.monotonic, time.time), None, SessionSigner(SECRET), 3600)
    with page_site(doors) as site, watched_page(browser, site.url) as page:
        site.add("gate")
        page.goto(site.url)
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#who")).to_have_text(f"gatehouse ({role})")
        expect(page.locator(".tile")).to_have_count(1)
        yield page
    store.close()


@pytest.mark.parametrize("role", ["viewer"])
def test_a_viewer_is_offered_what_there_is_to_see(page: Page) -> None:
    add = page.get_by_role("link", name="Add")
    expect(add).to_have_count(0)
    page.get_by_role("link", name="gate").click()
    expect(page.get_by_text("Changing it needs the role operator; yours is viewer.")).to_be_visible()
    expect(page.locator(".view img")).to_be_visible()
    expect(page.get_by_role("link", name="Edit")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    expect(page.get_by_text("Nothing is counted yet.")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    for view in ("#/add", "#/streams/gate/edit", "#/streams/gate/zones"):
        page.evaluate("(view) => { location.hash = view; }", view)
        expect(page.get_by_role("heading", name="Only to look at", level=1)).to_be_focused()
        expect(page.get_by_text("Changing streams needs the role operator; yours is viewer.")).to_be_visible()
        page.evaluate("location.hash = '#/'")
        expect(page.get_by_role("heading", name="Streams", level=1)).to_be_focused()
    assert Axe().run(page).violations_count == 0


@pytest.mark.parametrize("role", ["operator"])
def test_an_operator_changes_streams_but_no_models(page: Page) -> None:
    expect(page.get_by_role("link", name="Add a stream")).to_be_visible()
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_text("This needs the role admin; yours is operator.")).to_be_visible()
    expect(page.get_by_role("button", name="Swap")).to_have_count(0)
    page.evaluate("location.hash = '#/streams/gate'")
    expect(page.get_by_role("link", name="Edit")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


@pytest.mark.parametrize("role", ["admin"])
def test_an_admin_swaps_models(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("button", name="Swap")).to_be_visible()

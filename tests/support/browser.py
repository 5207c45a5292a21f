"""The system's Chromium, headless, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

TIMEOUT_MS = 30_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile; ends with the block."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None, "install the package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # Root can't have a sandbox.
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def browsing(width: int = 1280, height: int = 800) -> Iterator[Page]:
    """One page of a browser of its own."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(TIMEOUT_MS)
        yield page


@contextmanager
def watched_page(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    """A page that throws nothing, breaks no rule of the Content-Security-Policy and asks nobody else for anything."""
    with browser.new_context(**context) as opened:
        page = opened.new_page()
        page.set_default_timeout(15_000)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else wrong.append(asked.url))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        yield page
    # Answers that are problems are what some tests are about; the browser tells of each on its console.
    assert [text for text in wrong if "Failed to load resource" not in text] == []

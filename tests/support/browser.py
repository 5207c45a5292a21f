"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from tests.support.cluster import wait_until

ANSWER_TIMEOUT_S = 20.0


class ScriptError(Exception):
    """The page threw, or went away meanwhile."""


class Browser:
    """One page."""

    def __init__(self, runner: asyncio.Runner, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._runner = runner
        self._socket = socket
        self._number = 0

    def open(self, url: str) -> None:
        """Go there; returns before it is loaded."""
        self._runner.run(self._ask("Page.navigate", url=url))

    def run(self, script: str) -> Any:
        """The value of an expression in the page, promises awaited. Raises ScriptError."""
        told = self._runner.run(self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True))
        if "error" in told or "exceptionDetails" in told["result"]:
            raise ScriptError(str(told))
        return told["result"]["result"].get("value")

    def picture(self, width: int, height: int) -> bytes:
        """A PNG of the page in a window of that size."""
        self._runner.run(
            self._ask(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
        )
        told = self._runner.run(self._ask("Page.captureScreenshot", format="png"))
        return base64.b64decode(told["result"]["data"])

    def until(self, script: str, timeout_s: float = 30.0) -> None:
        """Return once the expression holds; a page that is just loading has none yet."""

        def holds() -> bool:
            try:
                return self.run(f"document.readyState === 'complete' && ({script})") is True
            except ScriptError:
                return False

        wait_until(holds, timeout_s)

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while True:
                told: dict[str, Any] = await self._socket.receive_json()
                if told.get("id") == self._number:
                    return told


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with an empty profile; ends with the block."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None, "install the package chromium"
    folder = Path(tempfile.mkdtemp(prefix="browser-"))
    process = subprocess.Popen(
        [
            program,
            "--headless=new",
            "--no-sandbox",  # which root can't have
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = folder / "DevToolsActivePort"
        wait_until(lambda: told.exists() and len(told.read_text().splitlines()) == 2, 30)
        targets = httpx.get(f"http://127.0.0.1:{told.read_text().splitlines()[0]}/json/list", timeout=10).json()
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        with asyncio.Runner() as runner:
            session, socket = runner.run(_connected(address))
            try:
                yield Browser(runner, socket)
            finally:
                runner.run(session.close())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


async def _connected(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    return session, await session.ws_connect(address, max_msg_size=0)

"""An ASGI application that listens on the loopback, and can go away and come back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

import uvicorn

Answer = TypeVar("Answer")


class Served:
    """A context manager; the application lives in one event loop, on a thread of its own, whoever connects."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def run(self, task: Coroutine[Any, Any, Answer]) -> Answer:
        """What a coroutine gives in the application's loop."""
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(20)

    def start(self) -> None:
        """Listen, on the same port as before."""
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        config = uvicorn.Config(self._app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)

        async def serve(server: uvicorn.Server) -> None:
            self._serving = asyncio.create_task(server.serve([listening]))

        self.run(serve(self._server))

    def stop(self) -> None:
        """Go away, with all connections."""
        server, serving = self._server, self._serving
        if server is None or serving is None:
            return

        async def end() -> None:
            server.should_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await serving

        self.run(end())
        self._server = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.run(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""A WHIP server on loopback, over aiortc, that decodes what is published to it; a process of its own in the tests."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription


class Receiver:
    """Takes offers with the right token; says on standard output what happens, a line of JSON for each thing."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._connections: list[RTCPeerConnection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def post(self, request: web.Request) -> web.Response:
        """An offer."""
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.Response(status=401)
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.append(connection)
        connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._watch(track))))
        await connection.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        headers = {"Location": f"/sessions/{len(self._connections)}"}
        answer = connection.localDescription.sdp
        return web.Response(status=201, text=answer, content_type="application/sdp", headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        """The publisher's goodbye."""
        say(event="deleted")
        return web.Response()

    async def drop(self, request: web.Request) -> web.Response:
        """For tests: end the newest connection."""
        await self._connections[-1].close()
        return web.Response()

    async def ask(self, request: web.Request) -> web.Response:
        """For tests: want a key frame."""
        receiver: RTCRtpReceiver = self._connections[-1].getReceivers()[0]
        (source,) = receiver.getSynchronizationSources()
        await receiver._send_rtcp_pli(source.source)
        return web.Response()

    async def _watch(self, track: Any) -> None:
        while True:
            frame = await track.recv()
            say(event="frame", size=[frame.width, frame.height], key=bool(frame.key_frame))


def say(**what: Any) -> None:
    """One line."""
    print(json.dumps(what), flush=True)


async def main(token: str) -> None:
    """Serve for ever."""
    receiver, app = Receiver(token), web.Application()
    app.router.add_post("/whip/gate", receiver.post)
    app.router.add_delete("/sessions/{number}", receiver.delete)
    app.router.add_post("/drop", receiver.drop)
    app.router.add_post("/ask", receiver.ask)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    say(event="listening", port=site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

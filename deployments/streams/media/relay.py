"""A process that sends one output's packets to where they go: ``python -m deployments.streams.media.relay``.

PyAV holds the interpreter's lock while it connects an output, writes the header and the trailer, and offers no time
limit for any of them: a server that takes the connection and then says nothing stops every thread of the process.
So the connection lives in a process of its own, which `sink.Sink` can kill.

Standard input brings one line of JSON (`Target`, credentials included, which is why it is no argument), and then the
packets as NUT, FFmpeg's container that keeps any codec and time base. Standard output takes one line of JSON for each
event: ``{"event": "open", "left_out": str | null}`` and ``{"event": "error", "code": str, "message": str}``; and from
`deployments.streams.webrtc.publish`, which is started in its place for WHIP, ``{"event": "key"}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from fractions import Fraction
from typing import Any

import av
from av import error as averror

from deployments.errors import StreamErrorCode
from deployments.streams.media import errors
from deployments.streams.media.sink import SHOWN_AFTER

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

_NO_PROBING = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}
"""The header holds all parameters; FFmpeg would otherwise wait for seconds of each stream. 32 bytes is the least."""

_MESSAGES = {
    StreamErrorCode.AUTH_FAILED: "The server refuses the user name or password: set the credentials anew.",
    StreamErrorCode.NOT_FOUND: "There is no such path, or it can't be written: check the URL and its folder.",
    StreamErrorCode.CONNECTION_REFUSED: "The connection failed: check that the server runs and takes this stream.",
    StreamErrorCode.TIMEOUT: "No answer in time: check that the host can be reached.",
    StreamErrorCode.TLS_FAILED: "No secure connection could be made: check the server's certificate.",
    StreamErrorCode.CODEC_UNSUPPORTED: "No output of this kind is possible here: choose another protocol.",
    StreamErrorCode.INVALID_DATA: "The server or the container does not take this: check that it accepts the codec.",
    StreamErrorCode.ENDED: "The receiver cut the connection.",
    StreamErrorCode.FORBIDDEN_ADDRESS: "The server redirects to where this output may not go: give the final address.",
}


def main() -> int:
    """Relay until standard input ends; the exit status is 0 where all was written."""
    target = begin()
    phase: errors.Phase = "open"
    try:
        with incoming() as packets:
            output, streams, left_out = _opened(target, packets)
            tell({"event": "open", "left_out": left_out})
            phase = "read"
            _relay(packets, output, streams)
            output.close()
    except errors.ReadError as error:
        tell({"event": "error", **_described(error, target["url"], phase)})
        return 1
    return 0


def begin() -> dict[str, Any]:
    """The target, once this process ends with its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphan keeps on sending
    errors.silence()
    target: dict[str, Any] = json.loads(_first_line())
    return target


def incoming() -> Any:
    """The packets that come behind the target."""
    return av.open("pipe:0", format="nut", options=_NO_PROBING)


def taken_apart(packet: Any) -> tuple[bytes, Fraction]:
    """The data of a packet that came, and the seconds from when it is sent until it is shown."""
    data = bytes(packet)
    return data[: -SHOWN_AFTER.size], Fraction(SHOWN_AFTER.unpack(data[-SHOWN_AFTER.size :])[0], 1_000_000_000)


def _first_line() -> bytes:
    """One byte at a time: what follows belongs to FFmpeg."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"\n", b""):
        line += byte
    return bytes(line)


def _opened(target: dict[str, Any], packets: Any) -> tuple[Any, dict[int, Any], str | None]:
    """The output with its header written, its streams by index of the input, and why sound is left out."""
    try:
        return (*_attempt(target, packets.streams), None)
    except ValueError:
        if not packets.streams.audio:
            raise
    # PyAV says so by ValueError before it opens anything.
    output, streams = _attempt(target, packets.streams.video)
    codec = packets.streams.audio[0].codec_context.name
    return output, streams, f"Sound is left out: {target['format']} can't carry {codec}; set the camera to AAC."


def _attempt(target: dict[str, Any], sources: Any) -> tuple[Any, dict[int, Any]]:
    output = av.open(target["url"], "w", format=target["format"], options=target["options"])
    streams = {}
    for source in sources:
        # Opaque: the parameters as they are, without an encoder of the same name.
        stream = output.add_stream_from_template(source, opaque=True)
        streams[source.index] = stream
    output.start_encoding()
    return output, streams


def _relay(packets: Any, output: Any, streams: dict[int, Any]) -> None:
    last: dict[int, int] = {}
    for packet in packets.demux():
        stream = streams.get(packet.stream_index)
        if stream is None or packet.pts is None:
            continue
        before, after = Fraction(packet.time_base), Fraction(stream.time_base)
        index = packet.stream_index
        data, shown_after = taken_apart(packet)
        # A coarser time base, such as FLV's milliseconds, can make two timestamps one, which muxers refuse.
        dts = max(round(packet.pts * before / after), last.get(index, -(1 << 62)) + 1)
        last[index] = dts
        copy: Any = av.Packet(data)
        copy.stream, copy.time_base = stream, stream.time_base
        copy.pts, copy.dts = dts + max(0, round(shown_after / after)), dts
        copy.duration = round((packet.duration or 0) * before / after)
        copy.is_keyframe = packet.is_keyframe
        output.mux_one(copy)


def _described(error: BaseException, url: str, phase: errors.Phase) -> dict[str, str]:
    if isinstance(error, averror.ProtocolNotFoundError | averror.MuxerNotFoundError):
        code = StreamErrorCode.CODEC_UNSUPPORTED
    else:
        code = errors.translate(error, url, phase).code
    return {"code": code.value, "message": f"{errors.place(url)}: {_MESSAGES[code]}"}


def tell(event: dict[str, Any]) -> None:
    """Report an event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

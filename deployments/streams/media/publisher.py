"""All outputs of one stream: pictures are encoded once for all outputs that want the same, and for nobody never."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from deployments.streams.frame import Picture
from deployments.streams.media.audience import Audience
from deployments.streams.media.encoder import X264, H264Encoder
from deployments.streams.media.errors import ReadError
from deployments.streams.media.gpu import Nvenc
from deployments.streams.media.items import AudioItem, VideoPacket
from deployments.streams.media.outlet import Way
from deployments.streams.media.output import Output, close_all
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.passthrough import Passthrough
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.reader import kept
from deployments.streams.spec import LastError, OutputSpec, OutputStatus, SourceInfo


class _Wish(NamedTuple):
    """What outputs must agree on to share an encoder."""

    bitrate: int
    gop_s: float
    annotate: bool
    slate: bool


_FOR_VIEWERS = _Wish(bitrate=4_000_000, gop_s=2.0, annotate=True, slate=False)
"""Where no output has boxes drawn; as `OutputSpec` has it by default."""


def _wish(spec: OutputSpec) -> _Wish | None:
    """None for the source's own packets."""
    return _Wish(spec.bitrate, spec.gop_s, spec.annotate, spec.slate) if spec.codec != "copy" else None


class _Group:
    """Outputs that share an encoder."""

    def __init__(self) -> None:
        self.encoder: H264Encoder | None = None
        self.key_wanted = threading.Event()
        self.outputs: list[Output] = []
        self.shows_slate = False
        self._last_pts: int | None = None

    def takes(self, pts: int) -> bool:
        """Whether a picture of this time comes after all before, as containers want it; it then counts as taken."""
        if self._last_pts is not None and pts <= self._last_pts:
            return False
        self._last_pts = pts
        return True

    @property
    def wanted(self) -> bool:
        """Whether any output takes pictures still."""
        return any(not output.failed for output in self.outputs)


class Publisher:
    """Encodes and sends one stream's video. Safe to use from several threads.

    When pictures change their size or colours, a new encoder starts with a key frame and every output is made anew:
    network connections reconnect, an MP4 file is ended and goes on in a further one (see `Output`).

    Args:
        outputs: where to; may be empty.
        info: what the source is, for its rate.
        time_base: unit of the timestamps given to `write`.
        audio_template: the source's stream whose packets `write_audio` brings, None for none. Its parameters are
            copied here, so that the source may be closed.
        resolve: checks a URL and gives the way to open it; raises `RaysightError`.
        nvenc: the stream's place on the GPU, None for none.
        on_error: gets the URL of an output that broke, and how, on that one's thread.
        audience: the stream's viewers, for whom it encodes while there are some.
        raw: who wants the source's packets as they are.
    """

    def __init__(
        self,
        outputs: Sequence[OutputSpec],
        info: SourceInfo,
        time_base: Fraction,
        audio_template: Any | None,
        resolve: Callable[[str], Way],
        nvenc: Nvenc | None = None,
        on_error: Callable[[str, LastError], None] = lambda url, error: None,
        audience: Audience | None = None,
        raw: Audience | None = None,
    ) -> None:
        self._audience = audience or Audience()
        self._audience.when_empty(self._release)
        self._raw = raw or Audience()
        self._passthrough = Passthrough()
        self._nvenc = nvenc
        self._on_error = on_error
        self._fps = None if info.fps is None else Fraction(info.fps).limit_denominator(1001)
        self._time_base = time_base
        self._audio = None if audio_template is None else kept(audio_template)
        self._resolve = resolve
        self._groups: dict[_Wish, _Group] = {}
        self._outputs: tuple[Output, ...] = ()
        self._encoding = threading.Lock()
        self._updating = threading.Lock()
        self.update(outputs)

    @property
    def active(self) -> bool:
        """Whether there is anybody to encode for: a viewer, or an output that has not failed for good."""
        return self._audience.wanted or any(_encodes(output) for output in self._outputs)

    @property
    def wants_annotated(self) -> bool:
        """Whether a viewer or any output shows boxes, so that they are worth drawing."""
        return self._audience.wanted or any(output.spec.annotate and not output.failed for output in self._outputs)

    @property
    def wants_slate(self) -> bool:
        """Whether any output shows a slate while the source is away."""
        return any(output.spec.slate and not output.failed for output in self._outputs)

    def write(
        self,
        pts: int,
        plain: Picture | None,
        annotated: Picture | None,
        on_sent: Callable[[float], None] | None = None,
    ) -> int:
        """Encode and send one frame; takes as long as encoding does, whatever the outputs do.

        An output whose own kind of picture is None gets the other one: a frame without boxes is better than none.
        Frames whose ``pts`` does not grow are left out, as no container takes them. Each output calls ``on_sent`` once
        it has sent the frame, on its own thread, with the monotonic time at which the frame was encoded. The answer
        is how often it was encoded.

        Raises:
            av.FFmpegError: the picture can't be encoded.
        """
        with self._encoding:
            if self._audience.wanted:
                self._groups.setdefault(self._watched, _Group())
            pictures = {wish: (annotated or plain) if wish.annotate else (plain or annotated) for wish in self._groups}
            return self._write(pts, pictures, slate=False, on_sent=on_sent)

    def write_slate(self, pts: int, picture: Picture) -> int:
        """As `write`, to the outputs alone that want a slate. It begins with a key frame, and so does what follows it.

        Raises:
            av.FFmpegError: the picture can't be encoded.
        """
        with self._encoding:
            return self._write(pts, {wish: picture for wish in self._groups if wish.slate}, slate=True)

    def _write(
        self,
        pts: int,
        pictures: Mapping[_Wish, Picture | None],
        *,
        slate: bool,
        on_sent: Callable[[float], None] | None = None,
    ) -> int:
        failure: Exception | None = None
        encoded = 0
        watched = self._watched if self._audience.wanted else None
        for wish, picture in pictures.items():
            group = self._groups[wish]
            if picture is None or not (group.wanted or wish == watched) or not group.takes(pts):
                continue
            if (wish == watched and self._audience.key_frame_due()) or group.shows_slate != slate:
                group.key_wanted.set()
            group.shows_slate = slate
            try:
                packets = self._encode(wish, group, _of_av(picture), pts)
            except ReadError as error:
                failure = failure or error
                for output in group.outputs:
                    output.unencodable(_why_unencodable(picture))
                continue
            encoded += 1
            if on_sent is not None:
                packets = [replace(packet, on_sent=partial(on_sent, time.monotonic())) for packet in packets]
            self._hand_out(packets, group, watched=wish == watched)
        if failure is not None:
            raise failure
        return encoded

    def _hand_out(self, packets: Sequence[EncodedPacket], group: _Group, *, watched: bool) -> None:
        for packet in packets:
            for output in group.outputs:
                output.offer(packet)
            if watched:
                self._audience.offer(packet)

    def write_packets(self, packets: Sequence[VideoPacket]) -> None:
        """Send packets of the source's video as they are, to the outputs that want them so."""
        copies = [output for output in self._outputs if output.spec.codec == "copy" and not output.failed]
        if not copies and not self._raw.wanted:
            self._passthrough.pause()
            return
        for packet in self._passthrough.packets(packets):
            for output in copies:
                output.offer(packet)
            self._raw.offer(packet)

    def write_audio(self, item: AudioItem) -> None:
        """Send one packet of the source's sound as it is."""
        packet = item.packet
        if self._audio is None:
            return
        encoded = EncodedPacket(
            data=bytes(packet),
            pts=item.pts,
            dts=item.pts if packet.dts is None else packet.dts,
            duration=int(packet.duration or 0),
            time_base=item.time_base,
            key_frame=True,
            template=self._audio,
            audio=True,
        )
        for output in self._outputs:
            output.offer(encoded)
        self._raw.offer(encoded)

    def statuses(self) -> tuple[OutputStatus, ...]:
        """How the outputs are doing, in the order of their specs."""
        encoders: dict[_Wish | None, Any] = {wish: group.encoder for wish, group in list(self._groups.items())}
        return tuple(_status(output, encoders.get(_wish(output.spec))) for output in self._outputs)

    def update(self, outputs: Sequence[OutputSpec]) -> None:
        """Change the outputs; those whose spec stays the same go on untouched. Takes at most `CLOSE_S`."""
        with self._updating:
            leaving = list(self._outputs)
            places: list[Output | None] = []
            for spec in outputs:
                same = next((output for output in leaving if output.spec == spec), None)
                places.append(same)
                if same is not None:
                    leaving.remove(same)
            try:
                self._regroup([output for output in places if output is not None])
            finally:
                close_all(leaving)  # before the new ones start, which may go to the same place
            self._regroup([place or self._made(spec) for place, spec in zip(places, outputs, strict=True)])

    def close(self) -> None:
        """End all outputs at the same time, within `CLOSE_S`."""
        self.update(())

    def _made(self, spec: OutputSpec) -> Output:
        wish, wants = _wish(spec), _wants_nothing
        if wish is not None:
            with self._encoding:
                wants = self._groups.setdefault(wish, _Group()).key_wanted.set
        return Output(
            spec,
            audio=self._audio,
            resolve=self._resolve,
            want_key_frame=wants,
            on_error=partial(self._on_error, spec.url),
        )

    def _regroup(self, outputs: Sequence[Output]) -> None:
        with self._encoding:
            self._outputs = tuple(outputs)
            for wish, group in list(self._groups.items()):
                group.outputs = [output for output in outputs if _wish(output.spec) == wish]
                if not group.outputs:
                    del self._groups[wish]
                    if group.encoder is not None:
                        group.encoder.close()

    @property
    def _watched(self) -> _Wish:
        """What viewers get: the video that is encoded anyway for an output with boxes, if there is one."""
        wishes = (wish for wish, group in self._groups.items() if wish.annotate and group.wanted)
        return next(wishes, _FOR_VIEWERS)

    def _release(self) -> None:
        """The last viewer has left."""
        with self._encoding:
            group = self._groups.get(_FOR_VIEWERS)
            if group is not None and not group.outputs:
                del self._groups[_FOR_VIEWERS]
                if group.encoder is not None:
                    group.encoder.close()

    def _encode(self, wish: _Wish, group: _Group, picture: AvPicture, pts: int) -> list[EncodedPacket]:
        if group.encoder is not None and not group.encoder.takes(picture):
            group.encoder.close()
            group.encoder = None
        if group.encoder is None:
            group.encoder = self._opened(wish, picture)
        key_frame = group.key_wanted.is_set()
        group.key_wanted.clear()
        try:
            return group.encoder.encode(picture, pts, key_frame=key_frame)
        except ReadError as error:
            if self._nvenc is None or group.encoder.codec == X264:
                raise
            self._nvenc.give_up(error)
            group.encoder = self._opened(wish, picture)
            return group.encoder.encode(picture, pts)

    def _opened(self, wish: _Wish, picture: AvPicture) -> H264Encoder:
        how: Any = {
            "time_base": self._time_base,
            "fps": self._fps,
            "bitrate": wish.bitrate,
            "gop_s": wish.gop_s,
        }
        encoder = self._nvenc.encoder(picture, **how) if self._nvenc is not None else None
        return encoder or H264Encoder(picture, **how)


def _why_unencodable(picture: Picture) -> str:
    return f"Pictures of {picture.width}x{picture.height} can't be encoded as H.264: set the source to another size."


def _wants_nothing() -> None:
    """The source's key frames come when they come."""


def _encodes(output: Output) -> bool:
    return output.spec.codec != "copy" and not output.failed


def _status(output: Output, encoder: H264Encoder | None) -> OutputStatus:
    return output.status().model_copy(update={"encoder": encoder.codec if encoder is not None else None})


def _of_av(picture: Picture) -> AvPicture:
    if not isinstance(picture, AvPicture):
        raise TypeError(f"A picture that was decoded by PyAV is needed, not {type(picture).__name__}.")
    return picture

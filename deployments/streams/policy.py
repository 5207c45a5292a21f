"""Which addresses sources and outputs may reach, so that the API can't be used to look into the network or the disk.

Link-local, metadata, multicast and unspecified addresses are always refused; loopback and private ranges are where
cameras live and are refused only with ``allow_private=False``. A host name is refused when any address it resolves to
is. What a name resolves to may change between this check and the connection, so that whoever connects asks for the
addresses and takes one of those (`deployments.streams.media`), and opens files with `open_inside`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict

from deployments.errors import ForbiddenAddress, InvalidSpec, StreamError, StreamErrorCode
from deployments.streams.spec import StreamSpec

Address = IPv4Address | IPv6Address
Resolver = Callable[[str], list[str]]

NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt")
SOURCE_SCHEMES = (*NETWORK_SCHEMES, "http", "https", "file", "v4l2", "testsrc")
OUTPUT_SCHEMES = (*NETWORK_SCHEMES, "whip+http", "whip+https", "file")
OUTPUT_SUFFIXES = (".mp4", ".m3u8")
SINK_SCHEMES = ("http", "https", "mqtt", "mqtts", "redis", "rediss", "kafka", "kafkas", "file")
SINK_SUFFIX = ".jsonl"
SINK_STATE = "sinks"
"""Folder below the output root where events wait that could not be sent."""

CLIPS = "clips"
"""Folder below the output root that has a folder of clips for each stream."""

METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, GCP, OpenStack
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # GCP
    )
)
"""Where clouds serve credentials to their machines, by each cloud's documentation."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_DEVICE = re.compile(r"/dev/video\d{1,3}")


def resolve(host: str) -> list[str]:
    """All addresses of a host name, as the system's resolver gives them."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise StreamError(
            StreamErrorCode.CONNECTION_REFUSED, f"The host name {host!r} can't be resolved: check it and the DNS."
        ) from None
    return [str(entry[4][0]) for entry in found]


class UrlPolicy(BaseModel):
    """What sources and outputs may open.

    Attributes:
        media_root: the folder that ``file:`` sources are read from.
        output_root: the folder that ``file:`` outputs are written to.
        allow_private: whether loopback and private networks may be reached.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    media_root: Path
    output_root: Path
    allow_private: bool = True

    def check_source(self, url: str, *, resolver: Resolver | None = None) -> str:
        """The URL or path to open for a source.

        Raises:
            InvalidSpec: the URL can't be a source.
            ForbiddenAddress: it leads where sources may not go.
            StreamError: the file or device does not exist, or the host name can't be resolved.
        """
        field = "source.url"
        scheme = _scheme(url, SOURCE_SCHEMES, field)
        if scheme == "file":
            path = _inside(self.media_root, url, field)
            if not path.is_file():
                raise StreamError(StreamErrorCode.NOT_FOUND, "No such file under the media root: check the path.")
            return str(path)
        if scheme == "v4l2":
            return _device(url, field)
        if scheme != "testsrc":
            self._check_host(_split(url, field), field, resolver or resolve)
        return url

    def check_output(self, url: str, *, resolver: Resolver | None = None) -> str:
        """The URL or path to open for an output; raises as `check_source` does. The file need not exist."""
        field = "output.url"
        scheme = _scheme(url, OUTPUT_SCHEMES, field)
        if scheme == "file":
            path = self._written(url, field)
            if path.suffix.lower() not in OUTPUT_SUFFIXES:
                raise InvalidSpec(field, f"A file output ends in {' or '.join(OUTPUT_SUFFIXES)}.")
            return str(path)
        self._check_host(_split(url, field), field, resolver or resolve)
        return url

    def check_sink(self, url: str, *, resolver: Resolver | None = None) -> str:
        """The URL or path to open for a sink of events; raises as `check_source` does. The file need not exist."""
        field = "sink.url"
        if _scheme(url, SINK_SCHEMES, field) != "file":
            self._check_host(_split(url, field), field, resolver or resolve)
            return url
        path = self._written(url, field)
        if path.suffix != SINK_SUFFIX:
            raise InvalidSpec(field, f"A file of events ends in {SINK_SUFFIX}.")
        return str(path)

    def _written(self, url: str, field: str) -> Path:
        path = _inside(self.output_root, url, field)
        for own, what in ((SINK_STATE, "events that wait"), (CLIPS, "clips, which every stream has its own of")):
            if path.is_relative_to(self.output_root.resolve() / own):
                raise InvalidSpec(field, f"The folder {own} is for {what}: take another.")
        return path

    def addresses(self, url: str, *, resolver: Resolver | None = None, field: str = "source.url") -> list[str]:
        """Those to connect to for a URL, all of them allowed, each once; raises as `check_source`."""
        found = self._check_host(_split(url, field), field, resolver or resolve)
        return list(dict.fromkeys(map(str, found)))

    def allows(self, address: str) -> bool:
        """Whether something may be sent to an address; False also for what is none."""
        found = _literal(address)
        return found is not None and self._refusal(found) is None

    def _check_host(self, parts: SplitResult, field: str, resolver: Resolver) -> list[Address]:
        host = parts.hostname
        if not host:
            raise InvalidSpec(field, f"A {parts.scheme} URL needs a host.")
        addresses = [spelled] if (spelled := _literal(host)) else [_parse(found) for found in resolver(host)]
        for address in addresses:
            if (why := self._refusal(address)) is not None:
                raise ForbiddenAddress(f"The {_part(field)}'s host leads to {why}, which streams may not reach.")
        return addresses

    def _refusal(self, address: Address) -> str | None:
        address = _embedded(address)
        if address in METADATA_ADDRESSES:
            return "a cloud metadata address"
        if address.is_link_local:
            return "a link-local address"
        if address.is_multicast:
            return "a multicast address"
        if address.is_unspecified or address in ipaddress.IPv4Network("0.0.0.0/8"):
            return "an unspecified address"
        if not self.allow_private and (not address.is_global or getattr(address, "is_site_local", False)):
            return "a private address"
        return None


def checks(policy: UrlPolicy, spec: StreamSpec) -> list[tuple[Callable[[str], str], str]]:
    """Each URL of a spec, and what refuses it where it is forbidden."""
    return [
        (policy.check_source, spec.source.url),
        *((policy.check_output, output.url) for output in spec.outputs),
        *((policy.check_sink, sink.url) for sink in spec.sinks),
    ]


def _scheme(url: str, known: tuple[str, ...], field: str) -> str:
    if _UNSAFE.search(url):
        raise InvalidSpec(field, "Spaces, control characters and backslashes must be percent-encoded.")
    scheme, colon, _ = url.partition(":")
    if not colon or scheme.lower() not in known:
        raise InvalidSpec(field, f"Unknown scheme; known are {', '.join(known)}.")
    return scheme.lower()


def _split(url: str, field: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidSpec(field, "The host or port can't be read.") from None
    return parts


def _inside(root: Path, url: str, field: str) -> Path:
    """The resolved path of a ``file:`` URL, which must stay under ``root``."""
    given = url.partition(":")[2]
    if given.startswith("//") and not given.startswith("///"):
        raise InvalidSpec(field, "A file URL has no host: write file:clip.mp4 for clip.mp4 under the root.")
    relative = unquote(given).lstrip("/")
    if not relative or "\0" in relative:
        raise InvalidSpec(field, "A file URL needs a path.")
    try:
        base = root.resolve()
        path = (base / relative).resolve()
    except (OSError, RuntimeError):
        raise StreamError(StreamErrorCode.NOT_FOUND, "The path can't be followed: check it.") from None
    if not path.is_relative_to(base):
        raise ForbiddenAddress(f"The {_part(field)}'s path leads out of the configured root.")
    return path


def open_inside(root: Path, path: str) -> int:
    """A descriptor to read the file at ``path``, which a check has found under ``root``; the caller closes it.

    Where a folder or the file was made a link since, what was really opened decides.

    Raises:
        ForbiddenAddress: it is not under ``root``.
        StreamError: it is no plain file.
        OSError: it can't be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would block
    try:
        _check_opened(root, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StreamError(StreamErrorCode.NOT_FOUND, "No such file under the media root: check the path.")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_folder(root: Path, path: str) -> int:
    """A descriptor of the folder at ``path``, to write in; raises as `open_inside`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        _check_opened(root, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_opened(root: Path, descriptor: int) -> None:
    opened = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    if not opened.is_relative_to(root.resolve()):
        raise ForbiddenAddress("The path leads out of the configured root.")


def _part(field: str) -> str:
    """Which part of a spec a field is of, for people: ``source`` of ``source.url``."""
    return field.partition(".")[0]


def _device(url: str, field: str) -> str:
    path = "/" + url.partition(":")[2].lstrip("/")
    if not _DEVICE.fullmatch(path):
        raise InvalidSpec(field, "A capture device is written v4l2:/dev/video0.")
    if not Path(path).exists():
        raise StreamError(StreamErrorCode.NOT_FOUND, f"There is no device {path} on this node.")
    return path


def _literal(host: str) -> Address | None:
    """The address that libc reads ``host`` as, None for a name; decimal, hex and octal IPv4 count as addresses."""
    try:
        return _parse(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(unquote(host)))
    except (OSError, UnicodeError):
        return None


def _parse(text: str) -> Address:
    return ipaddress.ip_address(text)


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for (mapped, 6to4, NAT64, compatible), else itself."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return inner
    plain = IPv6Address(int(address))  # without a zone, which network membership doesn't take
    if plain in _NAT64 or (plain in _IPV4_COMPATIBLE and int(plain) > 0xFFFF):
        return IPv4Address(int(plain) & 0xFFFFFFFF)
    return plain

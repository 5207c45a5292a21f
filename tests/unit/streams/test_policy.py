"""The URL policy: what is refused however it is spelled, and what is let through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import ForbiddenAddress, InvalidSpec, StreamError, StreamErrorCode
from deployments.streams.policy import OUTPUT_SCHEMES, SOURCE_SCHEMES, UrlPolicy


@pytest.fixture
def policy(tmp_path: Path) -> UrlPolicy:
    media, output = tmp_path / "media", tmp_path / "output"
    media.mkdir()
    output.mkdir()
    (media / "clip.mp4").write_bytes(b"x")
    (tmp_path / "secret.mp4").write_bytes(b"x")
    return UrlPolicy(media_root=media, output_root=output)


def no_resolver(host: str) -> list[str]:
    raise AssertionError(f"{host} is an address and needs no look-up")


@pytest.mark.parametrize("url", ["file:clip.mp4", "file:/clip.mp4", "file:///clip.mp4", "FILE:./clip.mp4"])
def test_every_spelling_of_a_file_is_under_the_root(policy: UrlPolicy, url: str) -> None:
    assert policy.check_source(url) == str((policy.media_root / "clip.mp4").resolve())


@pytest.mark.parametrize(
    "url",
    [
        "file:../secret.mp4",
        "file:///../secret.mp4",
        "file:a/../../secret.mp4",
        "file:%2e%2e/secret.mp4",
        "file:link.mp4",
    ],
)
def test_no_path_leads_out_of_the_root(policy: UrlPolicy, tmp_path: Path, url: str) -> None:
    (policy.media_root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(ForbiddenAddress):
        policy.check_source(url)


@given(path=st.text(alphabet="abc./%2eE~", max_size=30))
def test_any_path_is_inside_or_refused(path: str) -> None:
    policy = UrlPolicy(media_root=Path("/nonexistent/media"), output_root=Path("/nonexistent/output"))
    try:
        opened = policy.check_output(f"file:{path}.mp4")
    except (ForbiddenAddress, InvalidSpec):
        return
    assert Path(opened).is_relative_to("/nonexistent/output")


@pytest.mark.parametrize("url", ["file:none.mp4", "file:."])
def test_a_missing_file_is_not_found(policy: UrlPolicy, url: str) -> None:
    with pytest.raises(StreamError) as caught:
        policy.check_source(url)
    assert caught.value.code is StreamErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.1.1",
        "2852039166",  # 169.254.169.254 in decimal
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "0xa9.254.0251.254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.250",
        "0.0.0.0",
        "0",
        "[::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[ff02::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[::169.254.169.254]",
    ],
)
def test_forbidden_addresses_in_every_spelling(policy: UrlPolicy, host: str) -> None:
    for scheme in ("http", "rtsp", "srt"):
        with pytest.raises(ForbiddenAddress):
            policy.check_source(f"{scheme}://user:secret@{host}:8554/x", resolver=no_resolver)
    with pytest.raises(ForbiddenAddress):
        policy.check_output(f"rtmp://{host}/x", resolver=no_resolver)


def test_a_name_is_refused_for_any_of_its_addresses(policy: UrlPolicy) -> None:
    with pytest.raises(ForbiddenAddress):
        policy.check_source("rtsp://camera/x", resolver=lambda host: ["10.0.0.7", "169.254.169.254"])
    assert policy.check_source("rtsp://camera/x", resolver=lambda host: ["10.0.0.7"]) == "rtsp://camera/x"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.7", "192.168.1.2", "[::1]", "[fd12::1]", "[fec0::1]", "2130706433"]
)
def test_private_addresses_are_a_matter_of_the_setting(policy: UrlPolicy, host: str) -> None:
    url = f"rtsp://{host}/x"
    assert policy.check_source(url, resolver=no_resolver) == url
    with pytest.raises(ForbiddenAddress):
        policy.model_copy(update={"allow_private": False}).check_source(url, resolver=no_resolver)


def test_an_unknown_scheme_names_the_known_ones(policy: UrlPolicy) -> None:
    with pytest.raises(InvalidSpec) as source:
        policy.check_source("ftp://host/x")
    assert all(scheme in source.value.message for scheme in SOURCE_SCHEMES)
    with pytest.raises(InvalidSpec) as output:
        policy.check_output("http://host/x")
    assert all(scheme in output.value.message for scheme in OUTPUT_SCHEMES)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp:///x",
        "rtsp://",
        "rtsp://:554/x",
        "rtsp://host:99999/x",
        "rtsp://[::1/x",
        "clip.mp4",
        "concat:a|b",
        "http://ok\\@169.254.169.254/",
        "http://ho\tst/",
        "rtmp://host/app swfVfy=1",
        "file://host/clip.mp4",
        "file:",
        "v4l2:/etc/passwd",
    ],
)
def test_what_cannot_be_a_source(policy: UrlPolicy, url: str) -> None:
    with pytest.raises(InvalidSpec):
        policy.check_source(url, resolver=lambda host: ["10.0.0.1"])


def test_a_missing_device_is_not_found(policy: UrlPolicy) -> None:
    with pytest.raises(StreamError) as caught:
        policy.check_source("v4l2:/dev/video987")
    assert caught.value.code is StreamErrorCode.NOT_FOUND


def test_outputs_to_files(policy: UrlPolicy) -> None:
    assert policy.check_output("file:a/b.mp4") == str(policy.output_root.resolve() / "a/b.mp4")
    assert policy.check_output("file:///live.m3u8").endswith("/live.m3u8")
    for url in ("file:script.sh", "file:clips/yard/1.mp4", "file:a/../clips/1.m3u8", "file:sinks/yard/1.mp4"):
        with pytest.raises(InvalidSpec):
            policy.check_output(url)


def test_sinks(policy: UrlPolicy) -> None:
    assert policy.check_sink("file:a/b.jsonl") == str(policy.output_root.resolve() / "a/b.jsonl")
    for url in (
        "file:a.mp4",
        "file:sinks/gate/x.jsonl",
        "file:a/../sinks/x.jsonl",
        "file:clips/x/y.jsonl",
        "rtmp://media/live",
        "mqtt:///x",
    ):
        with pytest.raises(InvalidSpec):
            policy.check_sink(url, resolver=no_resolver)
    for url in ("file:../a.jsonl", "https://169.254.169.254/x", "mqtt://[::ffff:169.254.169.254]/x", "redis://0.0.0.0"):
        with pytest.raises(ForbiddenAddress):
            policy.check_sink(url, resolver=no_resolver)


def test_messages_hold_no_credentials(policy: UrlPolicy) -> None:
    for url in ("rtsp://user:s3cret@169.254.1.1/x?token=s3cret", "ftp://user:s3cret@host/", "rtsp://user:s3cret@/x"):
        with pytest.raises((ForbiddenAddress, InvalidSpec)) as caught:
            policy.check_source(url, resolver=no_resolver)
        assert "s3cret" not in str(caught.value)

"""Secrets of URLs: split off, joined again, never shown."""

from __future__ import annotations

import string
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from deployments.streams.urls import (
    SECRET_PARAMETER,
    Credentials,
    join_credentials,
    redact,
    same_server,
    split_credentials,
)

hosts = st.sampled_from(["camera", "cam.example.org:554", "10.0.0.5", "[::1]", "[fe80::1]:8554", "CAM:554"])
schemes = st.sampled_from(["rtsp", "rtsps", "rtmp", "srt", "http", "https"])
secrets = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
secret_names = st.sampled_from(["token", "passphrase", "pwd", "apiKey", "X-Auth", "sig", "client_secret"])
words = st.text(string.ascii_letters + string.digits + "-._~", max_size=8)
open_parameters = st.lists(
    st.tuples(words, words).filter(lambda pair: pair[0] and not SECRET_PARAMETER.search(pair[0])).map("=".join),
    max_size=3,
)


def plain(credentials: Credentials | None) -> tuple[str | None, str | None, dict[str, str]]:
    assert credentials is not None
    name, password = (
        None if secret is None else secret.get_secret_value() for secret in (credentials.username, credentials.password)
    )
    return name, password, {key: value.get_secret_value() for key, value in credentials.query.items()}


@given(
    schemes,
    hosts,
    words,
    secrets,
    st.none() | secrets,
    st.dictionaries(secret_names, secrets, max_size=3),
    open_parameters,
)
def test_split_takes_every_secret_out_and_join_puts_it_back(
    scheme: str,
    host: str,
    path: str,
    username: str,
    password: str | None,
    query: dict[str, str],
    shown: list[str],
) -> None:
    user_info = quote(username, safe="") + ("" if password is None else ":" + quote(password, safe=""))
    hidden = [f"{name}={quote_plus(value)}" for name, value in query.items()]
    url = f"{scheme}://{user_info}@{host}/{path}" + ("?" if shown + hidden else "") + "&".join([*hidden, *shown])
    clean, credentials = split_credentials(url)
    assert clean == f"{scheme}://{host}/{path}" + ("?" if shown else "") + "&".join(shown)
    assert plain(credentials) == (username, password, query)
    joined = join_credentials(clean, credentials)
    assert split_credentials(joined) == (clean, credentials)
    assert sorted(joined.partition("?")[2].split("&")) == sorted(url.partition("?")[2].split("&"))
    assert joined.partition("?")[0] == url.partition("?")[0]


@pytest.mark.parametrize(
    ("url", "clean", "expected"),
    [
        ("rtsp://user:p@ss@camera/1", "rtsp://camera/1", ("user", "p@ss", {})),
        ("rtsp://user:p%40s%2Fs@camera/1", "rtsp://camera/1", ("user", "p@s/s", {})),
        ("rtsp://user@camera", "rtsp://camera", ("user", None, {})),
        ("rtsp://:word@camera", "rtsp://camera", ("", "word", {})),
        ("rtsp://user:@camera", "rtsp://camera", ("user", "", {})),
        ("rtsp://u:p@[2001:db8::1]:554/x", "rtsp://[2001:db8::1]:554/x", ("u", "p", {})),
        (
            "srt://h:9000?mode=caller&passphrase=a+b%26c",
            "srt://h:9000?mode=caller",
            (None, None, {"passphrase": "a b&c"}),
        ),
        ("http://h/x?a=%2F&flag&token=t&b=+", "http://h/x?a=%2F&flag&b=+", (None, None, {"token": "t"})),
        ("http://h/x?%74oken=t", "http://h/x", (None, None, {"token": "t"})),
        ("http://h/x?token=", "http://h/x", (None, None, {"token": ""})),
    ],
)
def test_what_is_a_secret(url: str, clean: str, expected: tuple[str | None, str | None, dict[str, str]]) -> None:
    shown, credentials = split_credentials(url)
    assert shown == clean
    assert plain(credentials) == expected


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera/1",
        "rtsp://[::1]:554/a@b",
        "http://h/x?a=%2F&flag&b=+",
        "file:clip.mp4",
        "testsrc://?fps=30&size=1280x720",
        "v4l2:/dev/video0",
        "no url at all",
    ],
)
def test_without_secrets_a_url_stays_as_it_is(url: str) -> None:
    assert split_credentials(url) == (url, None)
    assert join_credentials(url, None) == url


@pytest.mark.parametrize(
    "url", ["rtsp://user:se/cret@camera/1", "rtsp://user:se?cret@h", "rtsp://u:se#cret@h", "rtsp://[se"]
)
def test_a_url_whose_secrets_cannot_be_told_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is what is looked at
        split_credentials(url)
    assert "se" not in str(caught.value).replace("user", "")


def test_a_password_alone_is_joined_too() -> None:
    credentials = Credentials(password=SecretStr("a:b@c"))
    assert join_credentials("rtsp://camera/1", credentials) == "rtsp://:a%3Ab%40c@camera/1"


# Free text ------------------------------------------------------------------------------------------------------------

marked = st.text(string.ascii_letters + string.digits + ":@!$'()*+,;~-._%\"", max_size=10).map(lambda s: f"S{s}S3CRET")
around = st.sampled_from(
    ["", "Error opening input '", "[rtsp @ 0x55d0] method DESCRIBE failed for ", '{"url":"', "a, b: "]
)
after = st.sampled_from(
    ["", "': Server returned 401 Unauthorized", ": Connection refused", '"}', ", rtsp://other/2 too"]
)


@given(around, schemes, marked, hosts, words, secret_names, marked, after)
@example("", "rtsp", "p@ssS3CRET", "camera", "", "token", "a@bS3CRET", "")
def test_no_text_keeps_a_secret(
    before: str, scheme: str, password: str, host: str, path: str, name: str, value: str, end: str
) -> None:
    assume("://" not in password)
    text = f"{before}{scheme}://admin:{password}@{host}/{path}?channel=1&{name}={value}{end}"
    assert "S3CRET" not in redact(text)
    assert before in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://u:p@ss@cam:554/1: timed out", "rtsp://***@cam:554/1: timed out"),
        ("rtsp://u@cam/1", "rtsp://***@cam/1"),
        ("tcp://1.2.3.4:554?timeout=0 failed", "tcp://1.2.3.4:554?timeout=0 failed"),
        ("rtsp://cam1/a,rtsp://u:p@cam2/b", "rtsp://cam1/a,rtsp://***@cam2/b"),
        ("rtsp://u:se/cret@cam/1 failed", "rtsp://*** failed"),
        ("srt://h:1?mode=x&passphrase=a'b&z=1", "srt://h:1?mode=x&passphrase=***&z=1"),
        ("[rtsp @ 0x7f] no @ secret: here", "[rtsp @ 0x7f] no @ secret: here"),
        ("rtsp://cam/a@2x", "rtsp://cam/a@2x"),
        ("rtsp://@cam/1 and rtsp://:@cam/2", "rtsp://***@cam/1 and rtsp://***@cam/2"),
    ],
)
def test_text_stays_readable(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(st.text(max_size=200))
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


# The same server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("rtsp://camera/1", "rtsp://camera/2?x=1", True),
        ("rtsp://camera/1", "RTSP://CAMERA/1", True),
        ("rtsp://u:p@camera/1", "rtsp://camera/1", True),
        ("rtsp://camera:554/1", "rtsp://camera:8554/1", False),
        ("rtsp://camera/1", "rtsps://camera/1", False),
        ("rtsp://camera/1", "rtsp://camera.evil/1", False),
        ("rtsp://camera/1", "rtsp://camera@evil/1", False),
        ("rtsp://camera:99999/1", "rtsp://camera:99999/1", False),
        ("rtsp://[bad/1", "rtsp://[bad/1", False),
    ],
)
def test_same_server(left: str, right: str, same: bool) -> None:
    assert same_server(left, right) is same_server(right, left) is same


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://h:8/user=admin&password=s3cret&channel=1", "rtsp://h:8/user=admin&password=***&channel=1"),
        ("http://h/v?loginuse=a&loginpas=s3cret&p=s3cret&jwt=s3cret", "http://h/v?loginuse=a"),
        ("rtmp://h/live/s3cret", "rtmp://h/live/***"),
        ("rtmp://h/live", "rtmp://h/live"),
    ],
)
def test_secrets_in_paths_and_odd_parameters_are_hidden_and_come_back(url: str, shown: str) -> None:
    clean, credentials = split_credentials(url)
    assert clean == shown
    assert "s3cret" not in f"{clean} {credentials}"
    assert join_credentials(clean, credentials) == url


def test_a_fragment_is_cut_off() -> None:
    assert split_credentials("rtsp://h/x#s3cret") == ("rtsp://h/x", None)


def test_the_secrets_of_one_path_are_never_put_into_another() -> None:
    credentials = split_credentials("rtsp://h/password=s3cret/1")[1]
    assert join_credentials("rtsp://h/2", credentials) == "rtsp://h/2"


XMEYE = "rtsp://h/user=admin_password=s3cret_channel=1_stream=0.sdp"
odd_secrets = st.text(string.ascii_letters + string.digits + "_-.~!*", min_size=1, max_size=8).map(lambda s: f"S3C{s}T")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (XMEYE, "rtsp://h/user=admin_password=***_channel=1_stream=0.sdp"),
        ("rtsp://h/user=a_b_password=s3cret_x", "rtsp://h/user=a_b_password=***"),
        ("http://h/?usr=a&psw=s3cret", "http://h/?usr=a"),
        ("http://h/?pw=s3cret", "http://h/"),
        ("http://h/?a=1;token=s3cret", "http://h/?a=1;token=***"),
        ("http://h/?token=s3cret;a=1&b=2", "http://h/?token=***;a=1&b=2"),
        ("http://h/?user=a_password=s3cret_channel=2", "http://h/?user=a_password=***_channel=2"),
        ("srt://h:8890?mode=caller&streamid=publish:cam:user:s3cret", "srt://h:8890?mode=caller"),
    ],
)
def test_cameras_write_parameters_in_many_ways(url: str, shown: str) -> None:
    clean, credentials = split_credentials(url)
    assert clean == shown
    assert "s3cret" not in f"{clean} {credentials}"
    assert unquote(join_credentials(clean, credentials)) == url
    assert split_credentials(clean)[0] == clean
    assert "s3cret" not in redact(f"Error opening {url}: refused")


@given(
    st.sampled_from(["/", "?", "/x?q=1;", "/user=a&", "/user=a_", "?user=a_b_", "/live/1?x=2_"]),
    st.sampled_from(["password", "pwd", "user_pass", "token", "loginpas", "pw", "psw"]),
    odd_secrets,
    st.sampled_from(["", "_channel=1", "_channel=1_stream=0.sdp", ";a=b", "&a=b"]),
)
def test_what_is_hidden_comes_back_as_it_was_written(before: str, name: str, secret: str, after: str) -> None:
    url = f"rtsp://camera{before}{name}={secret}{after}"
    clean, credentials = split_credentials(url)
    assert secret not in f"{clean} {credentials}"
    joined = unquote(join_credentials(clean, credentials))
    if credentials is not None and credentials.query:  # goes to the end
        assert sorted(joined.partition("?")[2].split("&")) == sorted(url.partition("?")[2].split("&"))
    else:
        assert joined == url
    assert secret not in redact(f"{url}: refused")


def test_the_hidden_parameters_of_one_query_are_never_put_into_another() -> None:
    credentials = split_credentials("http://h/?a=1;token=s3cret")[1]
    assert join_credentials("http://h/?a=2;token=***", credentials) == "http://h/?a=2;token=***"

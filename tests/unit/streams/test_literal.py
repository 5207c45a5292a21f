"""URLs by literal address: the rest of them stays, and an RTMP server still hears the host's name."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.literal import literal, rtmp_options


@given(
    st.sampled_from(["", "user:p%40ss@", "user@"]),
    st.none() | st.integers(1, 65535),
    st.sampled_from(["", "/", "/a/b?c=d&e=%2F"]),
    st.ip_addresses(),
)
def test_only_the_host_changes(user_info: str, port: int | None, rest: str, address: object) -> None:
    url = f"srt://{user_info}camera.example{'' if port is None else f':{port}'}{rest}"
    before, after = urlsplit(url), urlsplit(literal(url, [str(address)]))
    assert after.hostname == str(address)
    assert (after.username, after.password, after.port) == (before.username, before.password, before.port)
    assert (after.scheme, after.path, after.query) == (before.scheme, before.path, before.query)


@pytest.mark.parametrize(
    ("path", "app"),
    [("/live", "live"), ("/live/key", "live"), ("/live/one/key", "live/one"), ("/live/mp4:a/b", "live")],
)
def test_an_rtmp_server_hears_the_name_and_no_credentials(path: str, app: str) -> None:
    options = rtmp_options(f"rtmp://user:secret@media.example:1936{path}")
    assert options == {"rtmp_tcurl": f"rtmp://media.example:1936/{app}"}

"""What is Redis' own: passwords, TLS, weaker settings, a server that goes and comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployments.store.opening import PASSWORD_VARIABLE, open_store, warnings_of
from deployments.store.protocol import Record, StoreAway
from deployments.store.redis import RedisStore
from tests.support.redis_server import RedisServer


def test_it_is_away_while_its_server_is_and_has_everything_afterwards(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        store = RedisStore(server.url)
        store.put("stream", "gate", b"one", 0)
        server.stop()
        for _ in range(2):
            with pytest.raises(StoreAway, match=r"127\.0\.0\.1"):
                store.put("stream", "gate", b"lost", 1)
        server.start()
        assert store.get("stream", "gate") == Record(b"one", 1)
        assert store.put("stream", "gate", b"two", 1) == 2
        store.close()


def test_two_prefixes_are_two_stores(redis_server: RedisServer) -> None:
    one, other = RedisStore(redis_server.url + "?prefix=one"), RedisStore(redis_server.url + "?prefix=other")
    one.put("stream", "gate", b"", 0)
    assert other.all("stream") == {}
    assert redis_server.client().exists("{one}:stream")
    assert not redis_server.client().exists("{other}:stream")
    one.close()
    other.close()


def test_a_password_comes_from_the_url_or_the_environment(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="s3cret") as server:
        open_store(server.url, {}).put("stream", "gate", b"", 0)
        bare = f"redis://127.0.0.1:{server.port}"
        assert "gate" in open_store(bare, {PASSWORD_VARIABLE: "s3cret"}).all("stream")
        with pytest.raises(StoreAway) as refused:
            open_store(bare, {PASSWORD_VARIABLE: "wr0ng"}).all("stream")
        assert "wr0ng" not in str(refused.value)


def test_tls_is_spoken_with_who_the_authority_knows_only(tmp_path: Path) -> None:
    cert, key = tmp_path / "redis.crt", tmp_path / "redis.key"
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *name]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with RedisServer(tmp_path / "data", tls=files) as server:
        store = open_store(f"{server.url}?ssl_ca_certs={cert}", {})
        assert store.put("stream", "gate", b"one", 0) == 1
        store.close()
        with pytest.raises(StoreAway):
            open_store(server.url, {}).all("stream")


def test_weaker_settings_are_told_in_one_line(tmp_path: Path, redis_server: RedisServer) -> None:
    weak = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru")
    with RedisServer(tmp_path, settings=weak) as server:
        (line,) = (line for line in warnings_of(server.url, {}) if "Redis" in line)
    assert "`appendfsync always`" in line
    assert "`maxmemory-policy noeviction`" in line
    assert "appendonly" not in line
    assert "\n" not in line
    assert not [line for line in warnings_of(redis_server.url, {}) if "Redis" in line]


def test_a_full_redis_is_a_store_that_is_away(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        store = RedisStore(server.url)
        store.put("stream", "gate", b"one", 0)
        server.client().config_set("maxmemory", 1)
        with pytest.raises(StoreAway):
            store.put("stream", "gate", b"two", 1)
        assert store.get("stream", "gate") == Record(b"one", 1)
        store.close()

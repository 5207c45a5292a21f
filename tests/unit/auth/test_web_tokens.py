"""JWTs, signed with real keys, against a provider that publishes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import ValidationError

from serve_app.auth.config import AuthArgs
from serve_app.auth.doors import Credentials
from serve_app.auth.errors import Unauthorized
from serve_app.auth.roles import Role
from serve_app.auth.web_tokens import MIN_REFRESH_S, REFRESH_S, JwtConfig, WebTokens
from tests.support.closed_api import Clock, ClosedApi, CountingStore, problem

KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
FAR = 4_000_000_000
CLAIMS = {"iss": "https://id.example", "aud": "raysight", "sub": "ada", "exp": FAR, "roles": ["operator", "cook"]}
CONFIG = JwtConfig(jwks_url="https://id.example/jwks", issuer="https://id.example", audience="raysight")


def published(*names: str) -> dict[str, Any]:
    """The JWKS of these keys."""
    keys = []
    for name in names:
        algorithm = jwt.get_algorithm_by_name(ALGORITHMS[name])
        keys.append({**json.loads(algorithm.to_jwk(KEYS[name].public_key())), "kid": name, "use": "sig"})
    return {"keys": keys}


def signed(name: str = "rsa", algorithm: str | None = None, kid: str | None = None, **claims: Any) -> str:
    body = {key: value for key, value in {**CLAIMS, **claims}.items() if value is not None}
    return jwt.encode(body, KEYS[name], algorithm or ALGORITHMS[name], headers={"kid": kid or name})


class Provider:
    """Publishes keys and counts who asks."""

    def __init__(self) -> None:
        self.document: Any = published("rsa", "ec", "ed")
        self.asked = 0
        self.away = False

    def __call__(self, url: str) -> Any:
        assert url == CONFIG.jwks_url
        self.asked += 1
        if self.away:
            raise OSError("no route to host")
        return self.document


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(provider: Provider, clock: Clock) -> WebTokens:
    return WebTokens(CONFIG, clock, provider)


@pytest.mark.parametrize("name", KEYS)
def test_a_token_names_its_bearer(tokens: WebTokens, name: str) -> None:
    who = asyncio.run(tokens.holder(signed(name)))
    assert (who.id, who.name, who.role, dict(who.labels), who.expires_at) == ("jwt:ada", "ada", Role.OPERATOR, {}, FAR)


@pytest.mark.parametrize(
    "token",
    [
        signed(iss="https://evil.example"),
        signed(aud="another"),
        signed(exp=1),
        signed(nbf=FAR),
        signed(exp=None),
        signed(sub=None),
        signed(roles=None),
        signed(roles=["Admin", "root"]),
        signed(roles={"admin": True}),
        signed("ec", kid="rsa"),
        signed("rsa", kid="ec"),
        signed("rsa", kid="unknown"),
        signed("rsa", algorithm="RS512"),
        jwt.encode(CLAIMS, "x" * 64, "HS256", headers={"kid": "rsa"}),
        jwt.encode(CLAIMS, None, "none", headers={"kid": "rsa"}),
        signed()[:-8] + "AAAAAAAA",
        "a.b.c",
        "",
    ],
)
def test_tokens_that_do_not_hold(tokens: WebTokens, token: str) -> None:
    with pytest.raises(Unauthorized):
        asyncio.run(tokens.holder(token))


def test_the_published_key_signs_nothing(tokens: WebTokens) -> None:
    """A token whose HMAC was made with the public key, which everybody has."""
    import base64
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = KEYS["rsa"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    text = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part({**CLAIMS, 'roles': ['admin']})}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, text.encode(), "sha256")).decode().rstrip("=")
    with pytest.raises(Unauthorized):
        asyncio.run(tokens.holder(f"{text}.{mac}"))


def test_the_provider_is_asked_seldom(tokens: WebTokens, provider: Provider, clock: Clock) -> None:
    async def ask(*kids: str) -> None:
        for kid in kids:
            with pytest.raises(Unauthorized):
                await tokens.holder(signed(kid=kid))

    asyncio.run(tokens.holder(signed()))
    asyncio.run(ask(*(f"made-up-{number}" for number in range(20))))
    assert provider.asked == 1
    clock.now += MIN_REFRESH_S
    asyncio.run(ask("made-up-again", "and-again"))
    assert provider.asked == 2
    provider.away = True
    clock.now += REFRESH_S
    asyncio.run(tokens.holder(signed()))  # those known go on
    assert provider.asked == 3
    provider.away, provider.document = False, published("ec")
    clock.now += MIN_REFRESH_S
    asyncio.run(ask("rsa"))  # taken back by the provider


def test_roles_and_labels_lie_where_the_provider_puts_them(provider: Provider, clock: Clock) -> None:
    config = CONFIG.model_copy(update={"roles_claim": "realm.roles", "labels_claim": "raysight"})
    tokens = WebTokens(config, clock, provider)
    north = {"raysight": {"site": "north"}}
    who = asyncio.run(tokens.holder(signed(realm={"roles": "viewer"}, **north)))
    assert (who.role, dict(who.labels)) == (Role.VIEWER, {"site": "north"})
    who = asyncio.run(tokens.holder(signed(realm={"roles": ["viewer", "admin"]}, **north)))
    assert (who.role, dict(who.labels)) == (Role.ADMIN, {})
    for labels in ({}, {"raysight": {}}, {"raysight": "site"}, {"raysight": {"site": 5}}):
        with pytest.raises(Unauthorized):
            asyncio.run(tokens.holder(signed(realm={"roles": ["viewer"]}, **labels)))


@pytest.mark.parametrize(
    "args",
    [
        {"auth": "jwt"},
        {"auth": "keys", "jwt": CONFIG.model_dump()},
        {"auth": "jwt", "jwt": {**CONFIG.model_dump(), "algorithms": ["HS256"]}},
        {"auth": "jwt", "jwt": {**CONFIG.model_dump(), "algorithms": ["none"]}},
        {"auth": "jwt", "jwt": {**CONFIG.model_dump(), "jwks_url": "http://id.example/jwks"}},
        {"auth": "jwt", "jwt": {**CONFIG.model_dump(), "jwks_url": "file:///etc/jwks"}},
        {"auth": "on"},
    ],
)
def test_arguments_that_would_open_a_gap(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AuthArgs.model_validate(args)


def test_off_is_what_yaml_says() -> None:
    assert [AuthArgs.model_validate({"auth": value}).auth for value in (False, "off")] == ["off", "off"]


@pytest.fixture
def api(store: CountingStore, tokens: WebTokens) -> Iterator[ClosedApi]:
    with asyncio.Runner() as runner:
        yield ClosedApi(runner, store, tokens)


def test_the_api_takes_keys_and_tokens(api: ClosedApi) -> None:
    assert api.put("a", signed()).status_code == 201
    assert api.put("b", api.key("operator")).status_code == 201
    assert api.call("GET", "/v1/audit", signed()).status_code == 403
    entries = api.call("GET", "/v1/audit", signed(roles="admin")).json()["items"]
    assert [entry["by"].partition(":")[0] for entry in entries] == ["key", "jwt"]
    problem(api.call("GET", "/v1/streams", signed(exp=1)), 401, "unauthorized")


def test_a_session_is_no_longer_than_its_token(api: ClosedApi) -> None:
    api.clock.now = FAR - 600
    answer = api.call("POST", "/v1/login", json={"key": signed()})
    assert answer.status_code == 204
    assert "Max-Age=600" in answer.headers["set-cookie"]
    cookies = {"raysight_session": answer.headers["set-cookie"].partition("=")[2].partition(";")[0]}
    assert api.call("GET", "/v1/streams", cookies=cookies).status_code == 200
    who = api.runner.run(api.doors.admit(Credentials(cookie=cookies["raysight_session"], changes=False), Role.VIEWER))
    assert api.runner.run(api.doors.still_holds(who))
    api.clock.now = FAR
    assert not api.runner.run(api.doors.still_holds(who))
    problem(api.call("GET", "/v1/streams", cookies=cookies), 401, "unauthorized")


def test_logging_out_ends_the_session_of_a_token(api: ClosedApi) -> None:
    def session() -> Credentials:
        answer = api.call("POST", "/v1/login", json={"key": signed()})
        return Credentials(cookie=answer.headers["set-cookie"].partition("=")[2].partition(";")[0], changes=False)

    ended, going_on = session(), session()
    who = api.runner.run(api.doors.admit(ended, Role.VIEWER))
    api.runner.run(api.doors.logout(who))
    with pytest.raises(Unauthorized, match="log in again"):
        api.runner.run(api.doors.admit(ended, Role.VIEWER))
    assert not api.runner.run(api.doors.still_holds(who))
    assert api.runner.run(api.doors.admit(going_on, Role.VIEWER)).id == who.id
    assert api.call("GET", "/v1/streams", signed()).status_code == 200

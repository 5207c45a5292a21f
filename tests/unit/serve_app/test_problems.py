"""Whatever a client sends, it gets an answer that says what to do, and the server stays well."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployments.errors import (
    DetectorUnavailable,
    ForbiddenAddress,
    InvalidSpec,
    Overloaded,
    RaysightError,
    SpecConflict,
    StreamError,
    StreamErrorCode,
    StreamExists,
    StreamNotFound,
)
from serve_app.api.problems import RAISED
from tests.unit.serve_app.conftest import Api
from tests.unit.serve_app.test_streams import BODY, problem

JSON = {"Content-Type": "application/json"}


def _kinds(error: type[RaysightError]) -> set[type[RaysightError]]:
    return {error, *(kind for below in error.__subclasses__() for kind in _kinds(below))}


def test_every_error_has_a_code() -> None:
    shared = {kind for kind in _kinds(RaysightError) if kind.__module__ == "deployments.errors"}
    assert shared - {RaysightError, StreamError} == set(RAISED)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidSpec("url", "Unknown scheme."), 422, "invalid_request"),
        (StreamNotFound("There is no such stream."), 404, "stream_not_found"),
        (StreamExists("Taken."), 409, "stream_exists"),
        (SpecConflict("Changed."), 412, "precondition_failed"),
        (ForbiddenAddress("The host leads to a metadata address."), 403, "forbidden_address"),
        (Overloaded("Too many probes."), 503, "overloaded"),
        (DetectorUnavailable("Nobody answered."), 503, "detector_unavailable"),
        *(
            (StreamError(code, "It broke."), 502, code.value)
            for code in StreamErrorCode
            if StreamError(code, "").retryable
        ),
        (StreamError(StreamErrorCode.AUTH_FAILED, "Wrong password."), 422, "auth_failed"),
        (StreamError(StreamErrorCode.NOT_FOUND, "No such path."), 422, "not_found"),
        (StreamError(StreamErrorCode.TLS_FAILED, "Bad certificate."), 422, "tls_failed"),
        (StreamError(StreamErrorCode.CODEC_UNSUPPORTED, "Codec."), 422, "codec_unsupported"),
        (StreamError(StreamErrorCode.FORBIDDEN_ADDRESS, "No."), 403, "forbidden_address"),
    ],
)
def test_errors_of_the_ports(api: Api, error: RaysightError, status: int, code: str) -> None:
    api.media.error = error
    told = problem(api.call("POST", "/v1/probe", json={"url": "rtsp://h/"}), status, code)
    assert told["instance"] == "/v1/probe"
    assert str(error) in told["detail"]


def test_unexpected_errors_say_nothing_and_are_logged_once(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.streams.failure = RuntimeError("broken beside rtsp://u:hunter2@h/")
    told = problem(api.put("a"), 500, "internal")
    assert "broken" not in json.dumps(told)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "broken" in errors[0].getMessage()
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{]", b"\xff\xfe", b"nul", b'{"a": NaN}', b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"', b"\0"],
)
def test_malformed_json(api: Api, content: bytes) -> None:
    problem(api.call("PUT", "/v1/streams/a", content=content, headers=JSON), 400, "malformed_json")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ("text", "body"),
        (None, "body"),
        ({}, "source"),
        ({"source": None}, "source"),
        ({"source": {}}, "source.url"),
        ({"source": {"url": ""}}, "source.url"),
        ({"source": {"url": 5}}, "source.url"),
        ({"source": {"url": "x" * 5000}}, "source.url"),
        ({**BODY, "colour": 1}, "colour"),
        ({**BODY, "detect": {"confidense": 0.3}}, "detect.confidense"),
        ({**BODY, "detect": {"confidence": "0.3"}}, "detect.confidence"),
        ({**BODY, "detect": {"confidence": 2}}, "detect.confidence"),
        ({**BODY, "paused": "no"}, "paused"),
        ({**BODY, "video_delay_ms": 10**30}, "video_delay_ms"),
        ({**BODY, "outputs": [{"url": "rtsp://h/"}, {"url": "rtsp://h/", "codec": "vp9"}]}, "outputs.1.codec"),
        ({**BODY, "outputs": [{"url": "rtsp://h/"}] * 9}, "outputs"),
        ({**BODY, "labels": {"a": 1}}, "labels.a"),
    ],
)
def test_bodies_that_do_not_fit(api: Api, body: Any, field: str) -> None:
    response = api.call("PUT", "/v1/streams/a", content=json.dumps(body), headers=JSON)
    told = problem(response, 422, "invalid_request")
    assert told["errors"][0]["field"] == field


def test_unknown_fields_are_named_as_such(api: Api) -> None:
    told = problem(api.put("a", colour="red"), 422, "invalid_request")
    assert told["errors"] == [{"field": "colour", "message": "unknown field; check its spelling or leave it out"}]


@pytest.mark.parametrize(
    "stream_id", ["A", "-a", "a-", "a_b", "a" * 64, "a" * 10_000, "%00", "a%00", "%E2%82%AC", "a%0A"]
)
def test_ids_that_cannot_be(api: Api, stream_id: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        told = problem(api.call(method, f"/v1/streams/{stream_id}", headers=JSON), 422, "invalid_request")
        assert told["errors"][0]["field"] == "id"
        assert len(told["instance"]) < 2000


def test_a_body_beyond_the_limit_is_refused_while_it_arrives(api: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * 2**20

    headers = {"Content-Type": "image/jpeg"}
    problem(api.call("POST", "/v1/detect", content=endless(), headers=headers), 413, "body_too_large")
    stated = api.call("POST", "/v1/detect", content=b"x" * (21 * 2**20), headers=headers)
    problem(stated, 413, "body_too_large")
    problem(api.call("PUT", "/v1/streams/a", content=b" " * 2**19, headers=JSON), 413, "body_too_large")


def test_bodies_of_another_type(api: Api) -> None:
    problem(api.call("PUT", "/v1/streams/a", data={"a": "b"}), 415, "unsupported_media_type")
    problem(api.call("POST", "/v1/detect", json={}), 415, "unsupported_media_type")


def test_routes_that_are_not_there(api: Api) -> None:
    for path in ("/v1", "/v3/streams", "/web/../pyproject.toml", "/v1/streams/", "/favicon.ico"):
        problem(api.call("GET", path), 404, "route_not_found")
    refused = api.call("DELETE", "/v1/streams")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]


def test_clients_that_accept_something_else(api: Api) -> None:
    api.put("a")
    for path in ("detections", "snapshot.jpg", "live.mjpeg"):
        response = api.call("GET", f"/v1/streams/a/{path}", headers={"Accept": "application/xml"})
        problem(response, 406, "not_acceptable")

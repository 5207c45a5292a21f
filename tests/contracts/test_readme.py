"""What the documents tell people to do can be done: links, make targets, requests and paths exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import ValidationError
from typer.main import get_command

from deployments.streams.spec import SourceSpec, StreamSpec
from serve_app.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = json.loads(Path(__file__).with_name("openapi.json").read_text())
MAKEFILE = ROOT / "Makefile"

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"/v1/[\w{}./-]*\w")


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    return [
        path
        for path in sorted(ROOT.rglob("*.md"))
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]


def blocks(text: str, *languages: str) -> Iterator[str]:
    """Fenced code of these languages."""
    yield from (match["code"] for match in _FENCE.finditer(text) if match["language"] in languages)


def broken_links(document: Path) -> list[str]:
    """Relative links that lead to no file, or to no heading in it."""
    found = []
    for target in _LINK.findall(_FENCE.sub("", document.read_text())):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        file = document.parent / unquote(parts.path) if parts.path else document
        if not file.exists() or (parts.fragment and parts.fragment not in _anchors(file)):
            found.append(target)
    return found


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def unknown_targets(text: str, makefile: str) -> set[str]:
    """Targets that ``text`` runs, in code, and that ``makefile`` lacks."""
    code = [*(match["code"] for match in _FENCE.finditer(text)), *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))]
    named = {target for piece in code for target in re.findall(r"(?:^|[\s;&])make ([a-z][a-z0-9-]*)", piece)}
    return named - set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))


def commands(block: str) -> Iterator[list[str]]:
    """The words of each command; a quoted string or a backslash may carry one over several lines."""
    line = ""
    for part in block.splitlines():
        line += part
        if line.endswith("\\"):
            line = line[:-1]
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quotation is still open
            line += "\n"
            continue
        line = ""
        if words:
            yield words
    if line:
        raise ValueError(f"a quotation is never closed: {line}")


@dataclass(frozen=True)
class Request:
    """What a curl command sends."""

    method: str
    path: str
    body: str | None

    @staticmethod
    def of(words: list[str]) -> Request | None:
        """None where the words are no curl of the API."""
        urls = [word for word in words if re.match(r"https?://(localhost|127\.0\.0\.1)\b", word)]
        if words[0] != "curl" or not urls:
            return None
        options = dict(pairwise(words))
        body = options.get("-d")
        method = options.get("-X") or ("POST" if body is not None or "--data-binary" in options else "GET")
        return Request(method, urlsplit(urls[0]).path, body)


def requests(text: str) -> list[Request]:
    """All requests that ``text`` shows."""
    words = [words for block in blocks(text, "sh", "bash", "console") for words in commands(block)]
    return [request for each in words if (request := Request.of(each)) is not None]


def check(request: Request) -> None:
    """Raises ValueError or ValidationError where the API would refuse the request's shape."""
    if request.path.startswith("/v1/"):
        known = next((path for path in SNAPSHOT["paths"] if _same(request.path, path)), None)
        if known is None or request.method.lower() not in SNAPSHOT["paths"][known]:
            raise ValueError(f"no {request.method} {request.path}")
    if request.body is None:
        return
    body = json.loads(request.body)
    if request.path.endswith("/probe"):
        SourceSpec.model_validate(body)
    elif request.path.startswith("/v1/streams"):
        base: dict[str, Any] = {"id": "some-id"}
        if request.method == "PATCH":
            base["source"] = {"url": "rtsp://10.0.0.7/ch1"}
        StreamSpec.model_validate({**base, **body})


def _same(path: str, template: str) -> bool:
    parts, wanted = path.split("/"), template.split("/")
    return len(parts) == len(wanted) and all(
        part == want or want.startswith("{") for part, want in zip(parts, wanted, strict=True)
    )


def unknown_commands(text: str) -> list[str]:
    """Commands and options of `raysight` that it does not have."""
    found = []
    for block in blocks(text, "sh", "bash", "console"):
        for words in commands(block):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["raysight"]:
                found += [f"{' '.join(words)}: {bad}" for bad in _unknown(get_command(app), words[1:])]
    return found


def _unknown(command: Any, words: list[str]) -> list[str]:
    inner = getattr(command, "commands", None)
    if inner is not None and words and words[0] in inner:
        return _unknown(inner[words[0]], words[1:])
    if inner is not None and command.name == "events" and words:
        return _unknown(inner["show"], words)
    if inner is not None:
        return [words[0] if words else "nothing"]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


def unknown_paths(text: str) -> list[str]:
    """Paths under ``/v1/`` that the API does not have."""
    return [path for path in _PATH.findall(text) if not any(_same(path, known) for known in SNAPSHOT["paths"])]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_keeps_its_word(document: Path) -> None:
    text = document.read_text()
    assert not broken_links(document)
    assert not unknown_targets(text, MAKEFILE.read_text())
    assert not unknown_paths(text)
    assert not unknown_commands(text)
    for request in requests(text):
        check(request)
    for block in blocks(text, "json"):
        body = json.loads(block)
        if "source" in body and "status" not in body:
            StreamSpec.model_validate(body)


def test_the_readme_shows_the_main_requests() -> None:
    sent = requests((ROOT / "README.md").read_text())
    shown = {(request.method, request.path.split("/")[2]) for request in sent if request.path.startswith("/v1/")}
    assert {
        ("PUT", "streams"),
        ("PATCH", "streams"),
        ("DELETE", "streams"),
        ("POST", "probe"),
        ("POST", "detect"),
    } <= shown


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text(
        "# One two\n[x](gone.md) [y](#one-two) [z](#three) [u](https://example.com) [a](a.md#one-two)\n"
    )
    assert broken_links(document) == ["gone.md", "#three"]


def test_an_unknown_target_is_found() -> None:
    text = "Make sure to `make demo`.\n```sh\nAPI_PORT=1 make tets\n```\nThey make up `X=1 make all-of-it`."
    assert unknown_targets(text, "demo: setup\ntest:\n") == {"tets", "all-of-it"}


def test_an_unknown_path_is_found() -> None:
    assert unknown_paths("`GET /v1/streams/{id}`, /v1/streams/gate-3/events and http://h/v1/models.") == [
        "/v1/streams/gate-3/events"
    ]


def test_an_unknown_command_is_found() -> None:
    text = (
        "```sh\nA=1 raysight streams lst\nraysight up --port 3\nraysight events gate --follow\nraysight keys rm x\n```"
    )
    assert unknown_commands(text) == ["raysight streams lst: lst", "raysight up --port 3: --port"]


@pytest.mark.parametrize(
    "command",
    [
        """curl -X PUT http://localhost:8000/v1/streams/a -d '{"sauce": {"url": "testsrc://"}}'""",
        """curl -X PUT http://localhost:8000/v1/streams/a -d '{"source": {"url": "testsrc://"},}'""",
        """curl -X PUT http://localhost:8000/v1/streams/a \\\n -d '{"source":\n {"url": "testsrc://", "fps": 3}}'""",
        """curl -X PATCH http://localhost:8000/v1/streams/a -d '{"detect": {"confidence": 7}}'""",
        """curl -X POST http://localhost:8000/v1/probe -d '{"source": "testsrc://"}'""",
        """curl -X DELETE http://127.0.0.1:8000/v1/streams""",
        """curl http://localhost:8000/v1/stream""",
    ],
)
def test_a_wrong_request_is_found(command: str) -> None:
    (request,) = requests(f"```sh\n{command}\n```\n")
    with pytest.raises((ValueError, ValidationError)):
        check(request)


def test_a_right_request_passes() -> None:
    text = "```sh\n# a comment\ncurl -N 'http://localhost:8000/v1/streams/a/detections?after=3' # more\n```\n"
    assert requests(text) == [Request("GET", "/v1/streams/a/detections", None)]
    check(requests(text)[0])

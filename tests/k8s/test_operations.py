"""What README and docs/operations.md tell people to type fits the manifests, and says whether it was tried."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from serve_app.fleet.file import read_fleet, read_secrets
from tests.contracts.test_readme import blocks
from tests.k8s.cluster import manifests
from tests.k8s.kustomize import OVERLAYS, ROOT
from tests.k8s.test_pods import secrets

README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SECTION = re.split(r"^## ", README.partition("\n## On Kubernetes\n")[2], maxsplit=1, flags=re.MULTILINE)[0]

_KINDS = {"svc": "Service", "job": "Job", "rayservice": "RayService"}
_BY_KUBERAY = {("Service", "raysight-head-svc")}


def kubectl(text: str) -> Iterator[list[str]]:
    """The words of every kubectl command, without what it runs in a pod."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r" && | \| ", re.sub(r" -- (?:bash|sh) -c .*", "", line)):
                if command.startswith("kubectl "):
                    yield shlex.split(command, comments=True)


def test_every_block_says_whether_it_was_tried() -> None:
    for block in blocks(OPERATIONS, "sh"):
        assert re.match(r"# (not tried here|tried)\b", block), block


def test_the_readme_takes_five_commands() -> None:
    (block,) = blocks(SECTION, "sh")
    assert len(block.strip().splitlines()) == 5


@pytest.mark.parametrize("text", [SECTION, OPERATIONS], ids=["README", "operations"])
def test_what_kubectl_is_asked_for_is_there(text: str) -> None:
    known = {(m["kind"], m["metadata"]["name"]) for overlay in OVERLAYS for m in manifests(overlay)} | _BY_KUBERAY
    seen = 0
    for words in kubectl(text):
        for path in (word for word in words if word.startswith("k8s/")):
            assert (ROOT / path).exists(), path
        for word in words[1:]:
            kind, slash, name = word.partition("/")
            if slash and kind in _KINDS:
                assert (_KINDS[kind], name) in known, word
                seen += 1
        for pod in (word for word in words if re.fullmatch(r"raysight-\w+-0", word)):
            assert ("StatefulSet", pod.removesuffix("-0")) in known
        if "secret" in words:
            assert {word for word in words if word.startswith("raysight-")} <= set(secrets())
        if "-n" in words:
            assert words[words.index("-n") + 1] == "raysight"
    assert seen >= 2


def test_the_first_stream_is_one() -> None:
    (told,) = re.findall(r'echo "(\{streams:.*?\})" >', SECTION)
    assert set(read_fleet(told, read_secrets("", {}))) == {"gate-3"}


def test_the_operator_goes_where_policies_expect_it() -> None:
    script = (ROOT / "scripts/k8s-local").read_text()
    for text in (SECTION, script):
        assert "kuberay-system" in text
        assert "--version 1.7.0" in text

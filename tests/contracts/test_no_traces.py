"""No tracked file names the machine it was made on, or a mirror that it was made with."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Put together from parts, so that this file does not hold what it looks for.
_FOLDERS = "|".join(("root", "home", "work", "Users"))
TRACES = {
    "an absolute path": re.compile(rf"(?<![\w.:/@~}}-])/(?:{_FOLDERS})/[\w.-]".encode()),
    "a package registry": re.compile(
        "|".join(("pypi" r"\.org", "python" r"hosted\.org", r"npmjs" r"\.(?:org|com)", r"artifact" "ory")).encode(),
        re.IGNORECASE,
    ),
    "an index option": re.compile(b"--(?:extra-)?" + b"index-url[ =]", re.IGNORECASE),
}


def traces(data: bytes) -> Iterator[str]:
    """What ``data`` gives away, with the place."""
    for what, pattern in TRACES.items():
        for match in pattern.finditer(data):
            line = data.count(b"\n", 0, match.start()) + 1
            yield f"line {line}: {what}: {match[0].decode(errors='replace')}"


def tracked() -> list[Path]:
    """Files that git holds and that are still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_gives_its_maker_away() -> None:
    found = [f"{path.relative_to(ROOT)}: {trace}" for path in tracked() for trace in traces(path.read_bytes())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "bad",
    [
        "see /" + "root/notes.txt",
        'open("/' + 'home/me/clip.mp4")',
        "cd /" + "work/main",
        "https://" + "pypi" + ".org/simple",
        "https://files.python" + "hosted.org/x.whl",
        "https://registry.npm" + "js.org/x",
        "pip install --index" + "-url https://mirror/x",
    ],
)
def test_a_trace_is_found(bad: str) -> None:
    assert list(traces(f"first line\n{bad}\n".encode()))


@pytest.mark.parametrize(
    "fine", ["media_root/clip.mp4", "http://host/home/page", "a network/home/x", "~/home/x", "/rootless"]
)
def test_what_is_fine_passes(fine: str) -> None:
    assert not list(traces(fine.encode()))

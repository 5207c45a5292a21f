"""One place on a GPU that is not there, and who gets it: real Ray resources, real streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system.test_main_job import online
from tests.support.cluster import Raysight, run_raysight, wait_until
from tests.support.media import WITHOUT_GPU

FAKE = {"engine": "fake", "fake": {"width": 64, "height": 48}}
CODE = "hwaccel_unavailable"


@pytest.fixture(scope="module")
def raysight(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Raysight]:
    yield from run_raysight(tmp_path_factory.mktemp("hardware"), street_clip, FAKE, resources={"nvdec": 1})


def clip(hwaccel: str) -> dict[str, Any]:
    return {"source": {"url": "file:street.mp4", "loop": True, "hwaccel": hwaccel}}


def told(raysight: Raysight, words: str) -> int:
    """How often the logs of the streams' processes say it."""
    logs = {path.resolve() for path in raysight.cluster.folder.rglob("worker-*.err")}
    return sum(path.read_text(errors="replace").count(words) for path in logs)


@WITHOUT_GPU
@pytest.mark.long
@pytest.mark.timeout(180)
def test_one_place_is_held_given_back_and_waited_for(raysight: Raysight) -> None:
    raysight.put("first", clip("auto"))
    raysight.wait("first", online)
    raysight.put("second", clip("auto"))
    raysight.put("needy", clip("cuda"))

    for stream_id in ("first", "second"):  # the one has the place and no GPU behind it, the other has none
        assert raysight.wait(stream_id, online)["source"]["decoder"] == "h264"
    wait_until(lambda: told(raysight, "stream=first deployments.streams.media.gpu: decodes in software: NVDEC") == 1)
    wait_until(lambda: told(raysight, "decodes in software: all 1 places of nvdec are taken") == 1)
    waits = raysight.status("needy")
    assert (waits["state"], waits["epoch"], waits["last_error"]["code"]) == ("pending", 0, CODE)
    assert "all 1 places of nvdec are taken" in waits["reason"]

    raysight.api.delete("/v1/streams/first").raise_for_status()
    tries = raysight.wait("needy", lambda status: status["epoch"] == 1 and status["last_error"] is not None)
    assert (tries["state"], tries["last_error"]["code"]) == ("reconnecting", CODE)
    assert "driver" in tries["last_error"]["message"]

    raysight.api.patch("/v1/streams/needy", json={"source": {"hwaccel": "none"}}).raise_for_status()
    assert raysight.wait("needy", online)["epoch"] == 2  # another process, which holds no place
    raysight.api.patch("/v1/streams/second", json={"source": {"hwaccel": "cuda"}}).raise_for_status()
    takes = raysight.wait("second", lambda status: status["last_error"] is not None and status["epoch"] == 2)
    assert takes["last_error"]["code"] == CODE
    assert takes["state"] == "reconnecting"
    raysight.api.patch("/v1/streams/second", json={"source": {"hwaccel": "auto"}}).raise_for_status()
    assert raysight.wait("second", online)["epoch"] == 2  # the same process goes on, in software

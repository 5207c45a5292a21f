"""Two models on one node, and packages that are swapped while streams run: real Ray, real Serve, real engines."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.models import DEFAULT_PACKAGE
from serve_app.api.v2.payload import write_request
from tests.integration.system.test_main_job import assert_ledgers
from tests.support.cluster import Raysight, attached, run_raysight, wait_until
from tests.unit.engines.packages import bright_model, manifest, write

pytestmark = pytest.mark.long

FPS = 8
CAMERAS = ("cam-0", "cam-1", "cam-2", "cam-3")
LARGER = {"width": 96, "height": 64}


def detect(**changes: Any) -> dict[str, Any]:
    return {"confidence": 0.05, "max_fps": FPS, **changes}


@dataclass
class Models:
    """A system with the models `default`, two replicas of a small package, and `street`, NanoDet-g."""

    raysight: Raysight
    root: Path

    def both_are_known(self) -> bool:
        return len(self.raysight.api.get("/v1/models").json().get("items", ())) == 2

    def play(self) -> None:
        """All cameras play with the default model."""
        for camera in CAMERAS:
            self.raysight.put(camera, {"source": {"url": "file:street.mp4", "loop": True}, "detect": detect()})
        for camera in CAMERAS:
            self.raysight.wait(camera, lambda status: status["online"] and status["frames"]["inferred"] > 0)

    def swap(self, package: str, model: str = "default") -> httpx.Response:
        return self.raysight.api.put(f"/v1/models/{model}", json={"package": package}, timeout=60)

    def model(self, name: str = "default") -> dict[str, Any]:
        answer: dict[str, Any] = self.raysight.api.get(f"/v1/models/{name}").json()
        return answer

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {camera: self.raysight.status(camera) for camera in CAMERAS}

    def labels(self, camera: str) -> set[str]:
        """What is found in the next frames."""
        return {found["label"] for event in self.raysight.events(camera, 5) for found in event["detections"]}

    def spread(self) -> list[int]:
        """Attached streams of each replica of the default model."""
        return [attached(replica) for replica in self.raysight.replicas()]

    def assert_whole(self, before: dict[str, dict[str, Any]]) -> None:
        """No source, no picture of the video and no count was lost since."""
        for camera, was in before.items():
            status = self.raysight.status(camera)
            assert_ledgers(status)
            for kept in ("epoch", "restarts", "since"):
                assert status[kept] == was[kept], kept
            assert status["frames"]["video_dropped"] == was["frames"]["video_dropped"]
            assert status["frames"]["dropped"]["invalid"] == was["frames"]["dropped"]["invalid"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Models]:
    """The running system."""
    root = tmp_path_factory.mktemp("packages")
    write(root / "old", bright_model(), manifest(name="old", class_names=["old-a", "old-b"]))
    write(root / "new", bright_model(), manifest(name="new", class_names=["new-a", "new-b"]))
    larger = bright_model(images=["batch", 3, LARGER["height"], LARGER["width"]])
    inputs = {f"input__{side}": pixels for side, pixels in LARGER.items()}
    write(root / "larger", larger, manifest(name="larger", class_names=["large-a", "large-b"], **inputs))
    broken = write(root / "broken", bright_model(), manifest())
    (broken / "model.onnx").write_bytes(b"no model")
    write(root / "misfit", bright_model(), manifest(class_names=["one", "two", "three"]))
    detector = {"package": str(root / "old"), "threads": 1, "num_cpus": 0.1, "num_replicas": 2}
    street = {"package": str(DEFAULT_PACKAGE), "threads": 2, "num_cpus": 0.1}
    folder = tmp_path_factory.mktemp("models")
    for raysight in run_raysight(folder, street_clip, detector, further={"street": street}, models_root=root):
        system = Models(raysight, root)
        wait_until(system.both_are_known)
        yield system


def test_each_stream_gets_the_model_that_it_names(models: Models) -> None:
    models.play()
    listed = {model["name"]: model for model in models.raysight.api.get("/v1/models").json()["items"]}
    assert [(m["engine"], m["replicas"]) for m in (listed["default"], listed["street"])] == [
        ("old", 2),
        ("nanodet-g-416", 1),
    ]
    assert listed["street"]["engine_fps"] > 0
    models.raysight.put(
        "people", {"source": {"url": "file:street.mp4", "loop": True}, "detect": detect(model="street")}
    )
    models.raysight.wait("people", lambda status: status["frames"]["inferred"] > 0)
    assert "person" in models.labels("people")
    assert models.labels(CAMERAS[0]) == {"old-a", "old-b"}

    before = models.statuses()
    models.raysight.api.patch(f"/v1/streams/{CAMERAS[0]}", json={"detect": {"model": "street"}})
    with closing(models.raysight.follow(CAMERAS[0])) as events:
        assert any(found["label"] == "person" for event in events for found in event["detections"])
    assert models.labels(CAMERAS[0]).isdisjoint({"old-a", "old-b"})
    models.assert_whole(before)
    assert models.raysight.api.get("/v1/capacity?model=street").json()["streams"] == 2

    refused = models.raysight.api.patch(f"/v1/streams/{CAMERAS[1]}", json={"detect": {"model": "none"}}).json()
    assert (refused["status"], refused["errors"][0]["field"]) == (422, "detect.model")
    assert "default, street" in refused["errors"][0]["message"]
    models.raysight.api.delete("/v1/streams/people")


def test_all_replicas_swap_at_once_and_streams_hardly_notice(models: Models) -> None:
    models.play()
    wait_until(lambda: models.spread() == [2, 2])
    before = models.statuses()
    for package, names in (("new", {"new-a", "new-b"}), ("larger", {"large-a", "large-b"})):
        seen = {camera: models.raysight.events(camera, 1)[0]["sequence"] for camera in CAMERAS}
        answer = models.swap(package)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["package"], answer.json()["replicas"]) == (str(models.root / package), 2)
        for camera in CAMERAS:
            wait_until(lambda camera=camera, names=names: models.labels(camera) == names, 10)  # type: ignore[misc]
            events = models.raysight.events(camera, FPS, after=seen[camera])
            found = [event["captured_at"] + event["latency_ms"] / 1e3 for event in events]
            assert max(later - earlier for earlier, later in itertools.pairwise(found)) < 1.0
        wait_until(lambda: sorted(models.spread()) == [2, 2])  # everyone stays where it was
    models.assert_whole(before)
    lost = {
        camera: models.raysight.status(camera)["frames"]["dropped"]["no_detector"]
        - before[camera]["frames"]["dropped"]["no_detector"]
        for camera in CAMERAS
    }
    print("frames without a detector in two swaps:", lost)
    assert max(lost.values()) <= 6, lost
    assert models.model()["width"] == LARGER["width"]


@pytest.mark.parametrize(
    ("package", "status", "code", "why"),
    [
        ("nowhere", 422, "package_refused", "there is no such folder"),
        ("broken", 422, "package_refused", "export the model again"),
        ("misfit", 422, "package_refused", "class"),
        ("../packages", 403, "forbidden_package", "models_root"),
        ("/etc", 403, "forbidden_package", "models_root"),
    ],
)
def test_a_bad_package_changes_nothing(models: Models, package: str, status: int, code: str, why: str) -> None:
    models.play()
    before, model = models.statuses(), models.model()
    replicas = {replica.pid for replica in models.raysight.replicas()}
    refused = models.swap(package).json()
    assert (refused["status"], refused["code"]) == (status, code)
    assert why in refused["detail"]
    assert "\n" not in refused["detail"]
    after = models.model()
    assert {**after, "engine_fps": None} == {**model, "engine_fps": None}
    models.assert_whole(before)
    assert {replica.pid for replica in models.raysight.replicas()} == replicas
    assert models.swap("old", "none").json()["code"] == "model_not_found"


def test_the_inference_protocol_serves_every_model_by_its_name_and_by_that_of_its_package(models: Models) -> None:
    api, loaded = models.raysight.api, models.model()["engine"]
    for name, engine in (("street", "nanodet-g-416"), ("nanodet-g-416", "nanodet-g-416"), (loaded, loaded)):
        facts = api.get(f"/v2/models/{name}").json()
        assert facts["name"] == engine
        (shape,) = (tensor["shape"] for tensor in facts["inputs"] if tensor["name"] == "frames")
        frames = np.zeros((20, *shape[1:]), np.uint8)  # more than go to a replica at once
        body, headers = write_request({"inputs": [_frames(frames)]}, [frames.tobytes()])
        answer = api.post(f"/v2/models/{name}/infer", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model_name"] == engine
    assert "street" in api.get("/v2/models/none").json()["error"]


def _frames(frames: NDArray[np.uint8]) -> dict[str, Any]:
    size = {"binary_data_size": frames.nbytes}
    return {"name": "frames", "datatype": "UINT8", "shape": list(frames.shape), "parameters": size}


def test_a_replica_that_starts_later_runs_what_was_swapped_to(models: Models) -> None:
    models.play()
    assert models.swap("new").status_code == 200
    victim, other = models.raysight.replicas()
    victim.kill()
    wait_until(lambda: attached(other) == len(CAMERAS))
    other.kill()  # so that only successors are left
    wait_until(lambda: len(models.raysight.replicas()) == 2 and sum(models.spread()) == len(CAMERAS))
    for camera in CAMERAS:
        wait_until(lambda camera=camera: models.labels(camera) == {"new-a", "new-b"}, 20)  # type: ignore[misc]
    assert models.model()["package"] == str(models.root / "new")


def test_a_redeployment_with_another_package_wins_and_one_without_changes_nothing(models: Models) -> None:
    models.play()
    assert models.swap("new").status_code == 200
    config = copy.deepcopy(models.raysight.config)
    models.raysight.cluster.deploy(config)
    assert models.model()["package"] == str(models.root / "new")
    config["applications"][0]["args"]["package"] = str(models.root / "larger")
    models.raysight.cluster.deploy(config)
    wait_until(lambda: models.model()["package"] == str(models.root / "larger"))
    for camera in CAMERAS:
        wait_until(lambda camera=camera: models.labels(camera) == {"large-a", "large-b"}, 20)  # type: ignore[misc]


def test_a_stream_whose_model_goes_away_says_so_and_its_video_goes_on(models: Models) -> None:
    source = {"url": "file:street.mp4", "loop": True}
    models.raysight.put("people", {"source": source, "detect": detect(model="street")})
    models.raysight.wait("people", lambda status: status["frames"]["inferred"] > 0)
    config = copy.deepcopy(models.raysight.config)
    models.raysight.cluster.deploy({**config, "applications": config["applications"][:2]})
    status = models.raysight.wait("people", lambda status: "'street'" in (status["reason"] or ""))
    assert status["online"]
    assert models.raysight.api.patch("/v1/streams/people", json={"priority": 1}).status_code == 200
    published = status["frames"]["published"]
    models.raysight.wait("people", lambda status: status["frames"]["published"] > published + 25)
    models.raysight.cluster.deploy(config)
    models.raysight.wait("people", lambda status: status["reason"] is None)
    assert "person" in models.labels("people")

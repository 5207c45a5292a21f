"""How the detector's arguments become what Serve is told; no cluster."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.detector.attaching.deployment import AttachRouter
from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.detector.deployment import Detector, build_detector
from deployments.detector.port import DetectRequest
from deployments.detector.service import DetectorService
from deployments.detector.serving import Release
from engines.fake import FakeEngine


def test_a_fixed_number_of_replicas_is_not_scaled() -> None:
    told = build_detector(DetectorConfig(num_replicas=3))._bound_deployment
    assert told.num_replicas == 3
    assert told._deployment_config.autoscaling_config is None


def test_a_range_of_replicas_is_scaled_by_frames_a_second() -> None:
    config = DetectorConfig(num_replicas=2, max_replicas=5, target_utilisation=0.5, upscale_delay_s=7)
    scaling = build_detector(config)._bound_deployment._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas, scaling.upscale_delay_s) == (2, 5, 7)
    assert scaling.policy.policy_function == "deployments.detector.autoscaling:FramesPolicy"
    assert scaling.policy.policy_kwargs == {"utilisation": 0.5}


def test_the_policy_reaches_serves_controller_without_any_module_of_ours() -> None:
    """An upgrade then replaces it, although the controller lives on."""
    config = DetectorConfig(max_replicas=2)
    scaling = build_detector(config)._bound_deployment._deployment_config.autoscaling_config
    assert scaling is not None
    code = "import pickle, sys; policy = pickle.load(sys.stdin.buffer)(utilisation=0.8); print(*sys.modules)"
    pickled = scaling.policy.get_serialized_policy_def()
    ran = subprocess.run([sys.executable, "-I", "-c", code], input=pickled, capture_output=True, check=True)
    assert "deployments" not in ran.stdout.decode().split()


@pytest.mark.parametrize(("given", "most"), [({}, 1), ({"num_replicas": 4}, 4), ({"max_replicas": 3}, 3)])
def test_replicas_know_how_many_there_may_be(given: dict[str, int], most: int) -> None:
    assert DetectorConfig.model_validate(given).most_replicas == most


def test_fewer_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_replicas"):
        DetectorConfig(num_replicas=3, max_replicas=2)


def choices(names: list[str], **asked: str) -> list[list[str]]:
    """Names of the replicas that the router would try; those in capitals are on its own node."""
    replicas: list[Any] = [
        SimpleNamespace(replica_id=SimpleNamespace(unique_id=name), node_id="here" if name.isupper() else "there")
        for name in names
    ]
    request: Any = SimpleNamespace(kwargs=asked)
    router: Any = SimpleNamespace(_self_node_id="here")
    groups = asyncio.run(AttachRouter.choose_replicas(router, replicas, request))
    return [[replica.replica_id.unique_id for replica in group] for group in groups]


def test_an_attachment_goes_to_the_replica_that_it_names_or_else_to_any() -> None:
    named, beside, rest = choices(["a", "b", "c"], to="b")
    assert (named, beside) == (["b"], [])
    assert len(set(rest)) == 2


@pytest.mark.parametrize("asked", [{}, {"to": ""}, {"to": "gone"}])
def test_other_requests_have_the_choice_of_two(asked: dict[str, str]) -> None:
    named, beside, rest = choices(["a", "b", "c"], **asked)
    assert (named, beside) == ([], [])
    assert len(set(rest)) == 2
    assert choices(["a"], **asked) == [[], [], ["a"]]


def test_an_attachment_stays_on_its_node_where_it_can_and_an_image_goes_anywhere() -> None:
    named, beside, rest = choices(["A", "b", "C", "D"], to="gone")
    assert named == []
    assert len(beside) == len(rest) == 2
    assert set(beside) <= {"A", "C", "D"}
    assert choices(["A", "b"])[1] == []


def test_a_step_of_the_wall_clock_delays_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """`@serve.batch` times its wait with it: here it goes back by an hour whenever somebody looks."""
    steps = itertools.count(time.time(), -3600.0)
    monkeypatch.setattr("ray.serve.batching.time", SimpleNamespace(time=lambda: next(steps)))
    monkeypatch.setattr(
        "ray.serve.batching._BatchQueue._warn_if_max_batch_size_exceeds_max_ongoing_requests", lambda queue: None
    )
    service = DetectorService(lambda: FakeEngine(width=64, height=48), stuck_after_s=5.0)
    replica: Any = Detector.__new__(Detector)  # a replica without its Ray: what a batch needs of it
    replica._telemetry = SimpleNamespace(batch=lambda outcomes: None)
    image = np.zeros((48, 64, 3), np.uint8)
    frames: Any = [SimpleNamespace(request=DetectRequest(image, None), arrived_at=time.monotonic()) for _ in range(3)]
    release = Release(service, frames)

    async def batches() -> list[int]:
        return [len(await asyncio.wait_for(replica._batch(release), 10)) for _ in range(3)]

    assert asyncio.run(batches()) == [3, 3, 3]
    assert next(steps) < time.time() - 3600
    service.close()


@pytest.fixture
def replica() -> Any:
    """A replica without its Ray: what a change of its settings needs of it."""
    bare: Any = Detector.__new__(Detector)
    bare._serving, bare._configured = SimpleNamespace(service=SimpleNamespace(settings=DetectorSettings())), False
    return bare


WRONG: dict[str, Any] = {"confidence": 7, "max_batch": 4}


def test_a_wrong_change_leaves_a_replica_as_it_is(replica: Any, caplog: pytest.LogCaptureFixture) -> None:
    replica.reconfigure({"confidence": 0.5})
    replica.reconfigure(WRONG)
    assert replica._serving.service.settings == DetectorSettings(confidence=0.5)
    (line,) = caplog.messages
    assert "user_config" in line
    assert "confidence" in line
    assert "max_batch" in line
    assert "\n" not in line
    replica.reconfigure({"confidence": 0.6})
    assert replica._serving.service.settings == DetectorSettings(confidence=0.6)


def test_a_replica_does_not_start_with_wrong_settings(replica: Any) -> None:
    with pytest.raises(ValueError, match=r"user_config can't be used: confidence: .*; max_batch: .*") as caught:
        replica.reconfigure(WRONG)
    assert "\n" not in str(caught.value)

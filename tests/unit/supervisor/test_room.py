"""Why an actor finds no node: what lacks, and the setting that asks for so much."""

from __future__ import annotations

import pytest

from deployments.detector.config import DetectorConfig
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.room import shortage

MIB = 1024**2
NEED = {"CPU": 0.03, "memory": 200.0 * MIB}
CPUS = "no node has 0.03 CPUs free: see streams.stream_num_cpus"
MEMORY = "no node has 200 MiB free: see streams.stream_memory_mb"
BOTH = "no node has 0.03 CPUs and 200 MiB free: see streams.stream_num_cpus and streams.stream_memory_mb"


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([], None),
        ([{"CPU": 0.03, "memory": 200.0 * MIB}], None),
        ([{"CPU": 0.02}, {"CPU": 1.0, "memory": 9e9}], None),
        ([{"CPU": 0.02, "memory": 9e9}], CPUS),
        ([{"memory": 9e9}, {"CPU": 0.01, "memory": 9e9}], CPUS),  # Ray leaves out what is used up
        ([{"CPU": 4.0, "memory": 199.0 * MIB}], MEMORY),
        ([{}], BOTH),
        ([{"CPU": 4.0}, {"memory": 9e9}], BOTH),
    ],
)
def test_what_lacks_is_named_with_its_setting(nodes: list[dict[str, float]], words: str | None) -> None:
    assert shortage(NEED, nodes) == words


def test_a_place_on_a_gpu_is_named_too() -> None:
    free = {"CPU": 4.0, "memory": 9e9}
    assert shortage({**NEED, "nvdec": 1.0}, [free]) == "no node has 1 of nvdec free: see Ray's --resources"


def test_what_ray_rounds_is_still_enough() -> None:
    assert shortage({"CPU": 0.1 + 0.2}, [{"CPU": 0.3}]) is None


def test_thirty_streams_fit_on_two_cores_and_8_gib_as_shipped() -> None:
    api_cpus = 0.1
    need = SupervisorConfig().resources
    free = {
        "CPU": 2 - DetectorConfig().num_cpus - api_cpus - 29 * need["CPU"],
        "memory": 6.5 * 1024**3 - 29 * need["memory"],
    }
    assert shortage(need, [free]) is None

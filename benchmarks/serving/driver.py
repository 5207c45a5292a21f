"""The program that joins Ray and drives the producers: a process of its own, as Ray reads its settings on import."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import ray

from benchmarks.serving.producer import Producer, Tally
from serve_app.local import LocalCluster

_producers: list[Any] = []

CALLED_WITHIN_S = 0.3
"""Time for all producers to be told."""


def start(cluster: LocalCluster, streams: int, width: int, height: int) -> ProcessPoolExecutor:
    """A driver in ``cluster`` with that many producers; `run` belongs on the executor that is returned."""
    os.environ.update(cluster.environment())
    driver = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    driver.submit(_join, f"127.0.0.1:{cluster.gcs_port}", streams, width, height).result()
    return driver


def _join(address: str, streams: int, width: int, height: int) -> None:
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    actor: Any = ray.remote(Producer)
    actor = actor.options(num_cpus=0, max_concurrency=2)
    _producers.extend(actor.remote(number, width, height) for number in range(streams))
    ray.get([producer.choose.remote("none") for producer in _producers])  # all are up: starting costs CPU


def choose(path: str, streams: int) -> None:
    """Have the first ``streams`` producers go over ``path``."""
    ray.get([producer.choose.remote(path) for producer in _producers[:streams]])


def run(streams: int, fps: float, seconds: float) -> list[Tally]:
    """Load whatever was chosen, from the same moment on."""
    start = time.monotonic() + CALLED_WITHIN_S
    tallies: list[Tally] = ray.get([producer.run.remote(fps, start, seconds) for producer in _producers[:streams]])
    return tallies

"""Ray and Serve on this machine alone: started as a child, on loopback, closed by a token, ended with the program.

Three settings of Ray make that so. It takes the machine's outward address even for ``127.0.0.1`` unless it is told
that there is no cluster (``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0``); the one server that it binds to all interfaces
all the same, Serve's gRPC between replicas, answers only to the token; and the token comes through the environment,
since Ray would otherwise write one into the home folder.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml

from serve_app.allocator import allocator

START_TIMEOUT_S = 90.0
"""A cold start takes some 10 s on two idle cores; a busy machine gets several times that."""

PATIENCE_S = 15.0
"""A wait that is longer is worth a word."""

POLL_S = 0.2
"""How often to look whether something is up."""

REQUEST_TIMEOUT_S = 30.0
"""The dashboard answers within milliseconds, but for seconds not at all while a busy machine starts workers."""

GRPC_MESSAGE_LIMIT = 64 * 2**20 + 64 * 2**10
"""Longest message that Serve's gRPC port takes in: 2 GiB by default. The API refuses all above 64 MiB by itself."""

ANSWERS_BY_GRPC = {
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
}
"""How the API's answers get to Serve's proxy. By default they are results of a call of Ray, which keeps 55 bytes of
each part of an answer, such as a detection, until the answer ends, be that weeks (Ray 2.60). gRPC has a limit of 4 MiB
of its own for what an answer has ready at once, such as a list of thousands of streams."""

DRAIN_TIMEOUT_S = 6.0
"""The streams together get this long to finish their files and say goodbye to their servers."""

STOP_TIMEOUT_S = 3.0
"""Ray's processes get this long to end by themselves."""


DASHBOARD_NICENESS = 15
"""More than that of all others: while the GCS is away, two processes of Ray's dashboard (2.60) look for it without a
pause, and took both cores of a small machine from its streams."""

DASHBOARD_UID = "raysight"
"""Besides Ray's own, the Metrics page of Ray's dashboard (2.60) has a tab for one dashboard of Grafana, Ray Data's,
which raysight does not use: k8s/monitoring/raysight-dashboard.json takes its place. It needs `RAY_GRAFANA_HOST`."""

HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
}
"""By which the GCS gives a node up: 3 s after its Ray has ended, which refuses connections at once; a node that is
slow, or cut off, has some 15 s. By default that takes 16 s (a period of 3 s, five failures) and a minute."""


class StartError(Exception):
    """Ray or Serve did not come up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that people use."""

    api: int = 8000
    dashboard: int = 8265

    def taken(self) -> list[int]:
        """Those that somebody else listens on."""
        return [port for port in (self.api, self.dashboard) if not _is_free(port)]


def _is_dashboard(command: list[str]) -> bool:
    """Whether it is that of Ray's dashboard, or of one of its modules; not of a node's agent, which exports metrics."""
    return any(word.startswith("ray-dashboard-") or word.endswith("/dashboard/dashboard.py") for word in command)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def drain(api_url: str, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
    """End all streams, as far as that is done within ``timeout_s``; nothing where no API answers.

    Of a family that is told to end, an output's relay is often faster than its actor, which would begin another file.
    """
    with suppress(OSError, HTTPException):
        urllib.request.urlopen(urllib.request.Request(f"{api_url}/v1/drain", method="POST"), timeout=timeout_s).close()


def end_family(pid: int) -> None:
    """End a process and all its descendants: politely first, and for good after `STOP_TIMEOUT_S`.

    ``ray stop`` would end every Ray of this machine, and ``ray start --block`` takes ten seconds to notice a SIGTERM.
    """
    try:
        head = psutil.Process(pid)
        family = [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, STOP_TIMEOUT_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, STOP_TIMEOUT_S)


@dataclass
class LocalCluster:
    """One Ray node with Serve; a context manager that ends everything it started.

    Args:
        config: path of a ``serve_config.yaml``.
        say: told about progress, a line at a time.
        num_cpus: CPUs that Ray may hand out; None for all there are.
        resources: what else it may hand out, such as places on a GPU (`deployments.streams.hardware`).
        metrics_port: where Ray serves all metrics of the node to Prometheus.
        gcs_port: where programs join it, with `environment`.
        store: where streams are kept, instead of where ``config`` says (`serve_app.config.AppArgs`).
    """

    config: Path
    ports: Ports = field(default_factory=Ports)
    say: Callable[[str], None] = print
    num_cpus: int | None = None
    resources: dict[str, int] = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    metrics_port: int = field(default_factory=lambda: free_port())
    gcs_port: int = field(default_factory=lambda: free_port())
    store: str | None = None
    _ray: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None

    @property
    def api_url(self) -> str:
        """Where the API and the page are."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def dashboard_url(self) -> str:
        """Where the Ray dashboard is."""
        return f"http://127.0.0.1:{self.ports.dashboard}"

    def environment(self) -> dict[str, str]:
        """Environment of every process of the cluster, and of programs that want to join it."""
        return {
            **os.environ,
            **allocator(os.environ),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(GRPC_MESSAGE_LIMIT),
            **ANSWERS_BY_GRPC,
            **HEALTH_CHECKS,
            "RAY_worker_niceness": "0",  # of 15 by default: a browser beside it would take the engine's time
            "RAY_task_events_report_interval_ms": "0",  # the GCS would grow by 10 MiB a minute: docs/reliability.md
            "RAY_GRAFANA_DATA_DASHBOARD_UID": DASHBOARD_UID,
            "RAY_TMPDIR": str(self._rays),
            "TMPDIR": str(self.folder),  # what its processes leave behind goes with it
            "AUTOSCALER_METRIC_PORT": str(free_port()),
            "DASHBOARD_METRIC_PORT": str(free_port()),
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """Of temporary files and logs while it runs; nobody but its owner can enter it."""
        assert self._folder is not None
        return self._folder

    @property
    def logs(self) -> Path:
        """Where the logs of all processes are."""
        return self._rays / "session_latest" / "logs"

    @property
    def _rays(self) -> Path:
        """Ray opens its own folder to everybody, and the first admin's key is in its logs."""
        return self.folder / "ray"

    @property
    def pid(self) -> int:
        """Of Ray's first process; all others descend from it."""
        assert self._ray is not None
        return self._ray.pid

    def deploy(self, config: dict[str, Any]) -> None:
        """Bring Serve to ``config``, as ``serve deploy`` does, and return once every application runs."""
        http = {**config.get("http_options", {}), "host": "127.0.0.1", "port": self.ports.api}
        self._request("PUT", "/api/serve/applications/", {**config, "http_options": http})
        self._wait(time.monotonic() + START_TIMEOUT_S, "the applications", self._applications_run)

    def serve_details(self) -> Any:
        """What Serve says of its applications and replicas. Raises OSError where the dashboard does not answer."""
        return self._request("GET", "/api/serve/applications/")

    def start(self) -> None:
        """Return once every application runs. Raises StartError."""
        self.launch()
        self.bring_up()

    def launch(self) -> None:
        """Start Ray's first process. Raises StartError where a port is taken."""
        self._refuse_taken_ports()
        # Ray keeps sockets below this folder, and a socket's path may have 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
        self.say("starting Ray")
        with (self._folder / "ray.log").open("wb") as log:
            self._ray = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
            )

    def bring_up(self) -> None:
        """After `launch`: return once every application runs. Raises StartError."""
        self._wait(time.monotonic() + START_TIMEOUT_S, "the Ray dashboard", self._dashboard_answers)
        self.say("deploying the detector and the API")
        config = yaml.safe_load(self.config.read_text())
        if self.store is not None:
            (api,) = (application for application in config["applications"] if application["name"] == "raysight")
            api["args"] = {**api.get("args", {}), "store": self.store}
        self.deploy(config)
        self._lower_dashboard()

    def stop(self) -> None:
        """End Ray and all that it started, and remove its folder."""
        if self._ray is not None:
            drain(self.api_url)
            end_family(self._ray.pid)
            self._ray.wait()
            self._ray = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _lower_dashboard(self) -> None:
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.Error, ProcessLookupError):
                if _is_dashboard(process.cmdline()):
                    niceness = min(19, process.nice() + DASHBOARD_NICENESS)
                    for thread in process.threads():  # Linux keeps it by thread
                        os.setpriority(os.PRIO_PROCESS, thread.id, niceness)

    def _refuse_taken_ports(self) -> None:
        taken = self.ports.taken()
        if taken:
            names = {self.ports.api: "API_PORT", self.ports.dashboard: "DASHBOARD_PORT"}
            busy = " and ".join(f"{port} ({names[port]})" for port in taken)
            example = " ".join(f"{name}={free_port() if port in taken else port}" for port, name in names.items())
            raise StartError(f"port {busy} is taken: end what listens there, or choose others: {example} make demo")

    def _command(self) -> list[str]:
        cpus = [] if self.num_cpus is None else [f"--num-cpus={self.num_cpus}"]
        return [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--node-ip-address=127.0.0.1",
            f"--port={self.gcs_port}",
            f"--ray-client-server-port={free_port()}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--metrics-export-port={self.metrics_port}",
            "--include-dashboard=true",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.ports.dashboard}",
            "--min-worker-port=0",  # any free ones: those that Ray has by default, 10002 to 19999, may be people's
            "--max-worker-port=0",
            f"--temp-dir={self._rays}",
            f"--resources={json.dumps(self.resources)}",
            "--disable-usage-stats",
            *cpus,
        ]

    def _wait(self, deadline: float, what: str, ready: Callable[[], bool]) -> None:
        assert self._ray is not None
        next_word = time.monotonic() + PATIENCE_S
        while not ready():
            if time.monotonic() > next_word:
                self.say(f"still waiting for {what}: a busy machine takes its time")
                next_word += PATIENCE_S
            with suppress(subprocess.TimeoutExpired):
                self._ray.wait(POLL_S)
                raise StartError(f"Ray ended by itself:\n{self._last_lines()}")
            if time.monotonic() > deadline:
                raise StartError(f"{what} did not come up within {START_TIMEOUT_S:g} s:\n{self._last_lines()}")

    def _last_lines(self) -> str:
        assert self._folder is not None
        lines = (self._folder / "ray.log").read_text(errors="replace").splitlines()
        telling = [line for line in lines if re.match(r"\w*(Exception|Error)\b", line)]
        return "\n".join(telling[-1:] or lines[-5:])

    def _dashboard_answers(self) -> bool:
        try:
            self.serve_details()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _applications_run(self) -> bool:
        try:
            details = self.serve_details()
        except OSError:  # busy starting them
            return False
        applications: dict[str, Any] = details["applications"]
        for name, application in applications.items():
            if application["status"] in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise StartError(f"application {name!r} failed: {_reason(application)}")
        return bool(applications) and all(a["status"] == "RUNNING" for a in applications.values())

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.dashboard_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
            text = response.read().decode()
        return json.loads(text) if text.startswith("{") else text


def _reason(application: dict[str, Any]) -> str:
    """The most telling lines of what Serve says of a failed application."""
    messages = [application.get("message", "")]
    messages += [d.get("message", "") for d in application.get("deployments", {}).values()]
    lines = [line for message in messages for line in message.splitlines() if line.strip()]
    return "\n".join(lines[-12:]) or "Serve gave no reason"

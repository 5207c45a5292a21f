"""Pods of a rendered RayService on this machine, without Kubernetes, closed in as Kubernetes would.

Each is a network namespace on one bridge, processes that end with the first of them, a root file system that is
read-only but for what the manifest mounts, and a user without capabilities. What KubeRay adds to the manifest is
written down in `Cluster.command` and `Cluster.environment`, after ray-operator/controllers/ray/common/pod.go of v1.7.0.
Addresses are from 198.18.0.0/15, which is set apart for tests (RFC 2544).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Self

import psutil

from tests.chaos.network import run
from tests.k8s.cluster import Pod, groups, pods, ray_cluster

BRIDGE = f"rsk{os.getpid() % 10**8}"
NET = f"198.18.{os.getpid() % 250}"
STORE, GCS = f"{NET}.1", f"{NET}.2"
"""Addresses of this machine, for the two Redis."""

HEAD_NAME = "raysight-head-svc"

_SETUP = """
set -e
mount -t tmpfs pod "$POD"
mkdir "$POD"/{upper,work,root}
mount -t overlay overlay -o lowerdir=/,upperdir="$POD/upper",workdir="$POD/work" "$POD/root"
cd "$POD/root"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mkdir -p recordings models etc/raysight
# Where this Python lies may be closed to others; an image's is not.
for folder in $PYTHON_FOLDERS; do
    while [ "$folder" != / ]; do chmod o+rx ".$folder"; folder=$(dirname "$folder"); done
done
cp "$FILES"/hosts etc/hosts
echo "nameserver 127.0.0.1" > etc/resolv.conf.here
mv -f etc/resolv.conf.here etc/resolv.conf
cp "$FILES"/store-keys etc/raysight/store-keys
for place in tmp recordings; do mount -t tmpfs "$place" "$place"; chmod 1777 "$place"; done
mount -t tmpfs -o size="$SHM" shm dev/shm
mount -o remount,ro "$POD/root"
cd /
exec chroot "$POD/root" "$@"
"""


@dataclass
class Cluster:
    """A head and worker pods of one overlay; everything ends with its context.

    Args:
        folder: for logs and files of the pods.
        overlay: whose manifest it is.
        secrets: what the manifest's references stand for, by name and key.
    """

    folder: Path
    overlay: str
    secrets: dict[str, dict[str, str]]
    _addresses: dict[str, str] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        _remove_left_over()
        try:
            run("ip", "link", "add", BRIDGE, "type", "bridge")
            for address in (STORE, GCS):
                run("ip", "addr", "add", f"{address}/24", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
            for number, name in enumerate(("head", *groups(self.overlay)), start=10):
                self._join(name, f"{NET}.{number}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self._running):
            self.kill(name)
        _remove(BRIDGE)

    def address(self, name: str) -> str:
        """Of a pod."""
        return self._addresses[name]

    def start(self, name: str) -> None:
        """Start a pod, or another one in its place; returns at once."""
        log = (self.folder / f"{name}.log").open("ab")
        self._running[name] = subprocess.Popen(
            self._closed_in(name, "bash", "-c", self.command(name)), stdout=log, stderr=log, env=self._outer(name)
        )
        log.close()

    def replace_ended(self) -> None:
        """Start those again that ended by themselves, as KubeRay does: Ray gives up where a start takes over 30 s."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self.kill(name)
                self.start(name)

    def kill(self, name: str) -> None:
        """End all processes of a pod, as a node does that is lost."""
        process = self._running.pop(name)
        process.kill()
        process.wait(20)

    def execute(self, name: str, *command: str) -> str:
        """What a command prints in a pod, as `kubectl exec` runs it."""
        first = psutil.Process(self._running[name].pid).children()[0].pid
        entered = ["nsenter", "--target", str(first), "--mount", "--net", "--pid", "--root"]
        done = subprocess.run(
            [*entered, *self._as_user(name), *command], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, name: str) -> str:
        """`ray start` as KubeRay generates it: the manifest's parameters, its own, and the container's limits."""
        pod = self._pod(name)
        limits = pod.spec["containers"][0]["resources"]["limits"]
        spec = ray_cluster(self.overlay)["headGroupSpec"] if name == "head" else groups(self.overlay)[name]
        given = {
            "metrics-export-port": "8080",
            "dashboard-agent-listen-port": "52365",
            "num-cpus": str(int(float(limits["cpu"]))),
            "memory": str(int(limits["memory"].removesuffix("Gi")) * 2**30),
            **spec["rayStartParams"],
        }
        if name == "head":
            given |= {"dashboard-host": "0.0.0.0", "redis-password": "$REDIS_PASSWORD"}
            flags = "--head --no-monitor"
        else:
            given["address"] = f"{HEAD_NAME}:6379"
            flags = f"--resources={shlex.quote(json.dumps(spec['resources']))}" if "resources" in spec else ""
        parameters = " ".join(f"--{key}={value}" for key, value in given.items())
        return f"ulimit -n 65536; ray start {flags} {parameters} --block"

    def environment(self, name: str) -> dict[str, str]:
        """The manifest's variables and those that KubeRay adds for a RayService with a token and a lasting GCS."""
        values = {
            entry["name"]: entry["value"] if "value" in entry else self._secret(entry["valueFrom"])
            for entry in self._pod(name).spec["containers"][0]["env"]
        }
        cluster = ray_cluster(self.overlay)
        token = self.secrets[cluster["authOptions"]["secretName"]]["auth_token"]
        values |= {"RAY_AUTH_MODE": cluster["authOptions"]["mode"], "RAY_AUTH_TOKEN": token}
        values |= {"RAY_SERVE_KV_TIMEOUT_S": "5", "RAY_gcs_server_request_timeout_seconds": "5"}
        values |= {"RAY_timeout_ms_task_wait_for_death_info": "0", "RAY_PORT": "6379"}
        if name == "head":
            lasting = cluster["gcsFaultToleranceOptions"]
            values |= {
                "RAY_REDIS_ADDRESS": lasting["redisAddress"],
                "REDIS_PASSWORD": self._secret(lasting["redisPassword"]["valueFrom"]),
                "RAY_external_storage_namespace": "the-uid-of-the-cluster",
                "RAY_enable_autoscaler_v2": "true",
                "RAY_ADDRESS": "127.0.0.1:6379",
            }
        else:
            values |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "600", "RAY_ADDRESS": f"{HEAD_NAME}:6379"}
        # Only here: there is no DNS, for whose answers gRPC would wait, and packages may lie where an image has none.
        return values | {
            "GRPC_DNS_RESOLVER": "native",
            "PATH": ":".join([*_programs(), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
            "PYTHONPATH": ":".join(filter(None, sys.path)),
        }

    def _pod(self, name: str) -> Pod:
        return pods(self.overlay)[name]

    def _secret(self, reference: dict[str, Any]) -> str:
        wanted = reference["secretKeyRef"]
        return self.secrets[wanted["name"]][wanted["key"]]

    def _namespace(self, name: str) -> str:
        return f"{BRIDGE}-{name}"

    def _join(self, name: str, address: str) -> None:
        namespace, end = self._namespace(name), f"{BRIDGE}-{address.rpartition('.')[2]}"
        run("ip", "netns", "add", namespace)
        self._addresses[name] = address
        run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "set", end, "master", BRIDGE, "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", STORE)

    def _closed_in(self, name: str, *command: str) -> list[str]:
        # The kernel ends the pod with this process, however that ends.
        lasting = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self._namespace(name)]
        apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        return [*lasting, *apart, "bash", "-c", _SETUP, "pod", *self._as_user(name), *command]

    def _as_user(self, name: str) -> list[str]:
        context = self._pod(name).spec["securityContext"]
        user = ["--reuid", str(context["runAsUser"]), "--regid", str(context["runAsGroup"]), "--clear-groups"]
        rights = ["--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all", "--pdeathsig", "KILL"]
        variables = [f"{key}={value}" for key, value in self.environment(name).items()]
        return ["setpriv", *user, *rights, "env", "-i", "--chdir=/tmp", *variables]

    def _outer(self, name: str) -> dict[str, str]:
        """What the script that closes the pod in needs."""
        volumes = {volume["name"]: volume for volume in self._pod(name).spec["volumes"]}
        mounted = self.folder / f"pod-{name}"
        mounted.mkdir(exist_ok=True)
        names = {HEAD_NAME: self._addresses["head"], "raysight-store": STORE, "raysight-gcs": GCS}
        files = self.folder / f"files-{name}"
        files.mkdir(exist_ok=True)
        lines = ["127.0.0.1 localhost", f"{self._addresses[name]} {os.uname().nodename}"]
        (files / "hosts").write_text("\n".join([*lines, *(f"{ip} {host}" for host, ip in names.items())]) + "\n")
        (files / "store-keys").write_text(self.secrets["raysight-api"]["store-keys"])
        (files / "store-keys").chmod(0o444)
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "POD": str(mounted),
            "FILES": str(files),
            "SHM": volumes["shm"]["emptyDir"]["sizeLimit"].removesuffix("i"),
            "PYTHON_FOLDERS": " ".join(
                {os.path.realpath(sys.base_prefix), *_programs(), *filter(os.path.isdir, sys.path)}
            ),
        }


def _remove(bridge: str) -> None:
    for namespace in _namespaces():
        if namespace.startswith(f"{bridge}-"):
            with suppress(subprocess.SubprocessError):
                run("ip", "netns", "del", namespace)
    for link in _links():  # a namespace may outlast its name by what its connections had still to send
        if link == bridge or link.startswith(f"{bridge}-"):
            with suppress(subprocess.SubprocessError):
                run("ip", "link", "del", link)


def _remove_left_over() -> None:
    """What a test left that was killed."""
    for bridge in {namespace.partition("-")[0] for namespace in [*_namespaces(), *_links()]}:
        number = bridge.removeprefix("rsk")
        if number != bridge and number.isdecimal() and not psutil.pid_exists(int(number)):
            _remove(bridge)


def _links() -> list[str]:
    return os.listdir("/sys/class/net")


def _namespaces() -> list[str]:
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines()]


def _programs() -> list[str]:
    """Folders of this Python's programs and of Ray's."""
    ray = next(file for file in distribution("ray").files or () if file.name == "ray")
    return [str(Path(sys.executable).parent), str(Path(os.path.normpath(ray.locate())).parent)]

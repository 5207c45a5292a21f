"""Pods of a rendered RayService on this machine, without Kubernetes, closed in as Kubernetes would.

Each is a network namespace on one bridge, a root file system that is read-only but for what the manifest mounts, and
a user without capabilities. What KubeRay adds to the manifest is written down in `Cluster.command` and
`Cluster.environment`, after ray-operator/controllers/ray/common/pod.go of v1.7.0. Addresses are from 198.18.0.0/15,
which is set apart for tests (RFC 2544).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
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
mount --rbind /proc proc
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
exec chroot "$POD/root" setpriv --reuid "$RUN_AS_USER" --regid "$RUN_AS_GROUP" --clear-groups --no-new-privs \\
    --bounding-set -all --inh-caps -all env -i --chdir=/tmp "$@"
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
        for name in self._addresses:
            with suppress(subprocess.SubprocessError):
                run("ip", "netns", "del", self._namespace(name))
        with suppress(subprocess.SubprocessError):
            run("ip", "link", "del", BRIDGE)

    def address(self, name: str) -> str:
        """Of a pod."""
        return self._addresses[name]

    def start(self, name: str) -> None:
        """Start a pod, or another one in its place; returns at once."""
        log = (self.folder / f"{name}.log").open("ab")
        self._running[name] = subprocess.Popen(
            self._inside(name, ["bash", "-c", self.command(name)]), stdout=log, stderr=log, env=self._outer(name)
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
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
        process.kill()
        process.wait(20)
        inside = subprocess.run(
            ["ip", "netns", "pids", self._namespace(name)], capture_output=True, text=True, check=False
        )
        for pid in inside.stdout.split():  # those that had left the family
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def execute(self, name: str, *command: str) -> str:
        """What a command prints in a pod like it, as `kubectl exec` would run it. Raises CalledProcessError."""
        done = subprocess.run(
            self._inside(name, list(command)),
            capture_output=True,
            text=True,
            timeout=60,
            env=self._outer(name),
            check=False,
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
        namespace, end = self._namespace(name), f"{BRIDGE[:11]}{address.rpartition('.')[2]}"
        run("ip", "netns", "add", namespace)
        self._addresses[name] = address
        run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "set", end, "master", BRIDGE, "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", STORE)

    def _inside(self, name: str, command: list[str]) -> list[str]:
        variables = [f"{key}={value}" for key, value in self.environment(name).items()]
        entered = ["ip", "netns", "exec", self._namespace(name), "unshare", "--mount", "--propagation", "private"]
        return [*entered, "bash", "-c", _SETUP, "pod", *variables, *command]

    def _outer(self, name: str) -> dict[str, str]:
        """What the script that closes the pod in needs."""
        context = self._pod(name).spec["securityContext"]
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
            "RUN_AS_USER": str(context["runAsUser"]),
            "RUN_AS_GROUP": str(context["runAsGroup"]),
            "PYTHON_FOLDERS": " ".join(
                {os.path.realpath(sys.base_prefix), *_programs(), *filter(os.path.isdir, sys.path)}
            ),
        }


def _programs() -> list[str]:
    """Folders of this Python's programs and of Ray's."""
    ray = next(file for file in distribution("ray").files or () if file.name == "ray")
    return [str(Path(sys.executable).parent), str(Path(os.path.normpath(ray.locate())).parent)]

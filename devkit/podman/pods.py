"""Real pods: the image and a simulated node in containers, as a manifest of deploy/examples says, by podman.

What stands in for Kubernetes: the host's network, a folder in memory for each volume, and for the kubelet this module,
which starts the node once the startup probe says so.  The API server is real, the pods have the role of deploy/rbac.
Needs root.  What a killed run left behind is removed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from devkit import keys, record
from devkit.api.server_protocol import ADMIN
from devkit.pod import MemoryFolder, free_port
from devkit.podman.base import ROOT
from devkit.podman.engine import EngineError, environment, run
from devkit.podman.manifest import Manifest
from devkit.pods import SERVICE_ACCOUNT, prepare
from devkit.realapi.client import AdminClient
from devkit.realapi.server import RealApi

NAMESPACES: Final = tuple(f"pool-{number}" for number in range(1, 30))
"""One for each cluster that is made."""
NODE: Final = "cardano-node"
_PREFIX: Final = "forge-manager-test"
_ROLE: Final = ROOT / "deploy" / "rbac" / "role.yaml"
_PODMAN: Final = "podman"


def new_api() -> RealApi:
    """A real API server that knows the account of every namespace; not started yet."""
    return RealApi(users=[f"system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}" for namespace in NAMESPACES])


class Pod:
    """One pod: an infra container whose pid namespace all share, the sidecar's containers, the node's."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        *,
        manifest: Manifest,
        extra: dict[str, str],
        sidecar_options: tuple[str, ...],
        shared_by_sidecar: bool,
        share_pids: bool,
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._manifest = manifest
        self._pod = f"{_PREFIX}-{os.getpid()}-{cluster.number}-{name}"
        self._sidecar_options = sidecar_options
        self._shared_by_sidecar = shared_by_sidecar
        self._share_pids = share_pids
        self.metrics_port, node_port = free_port(), free_port()
        self.folder = cluster.folder / name
        self.folder.mkdir()
        self.volumes = manifest.make_volumes(self.folder, cluster.secrets, cluster.account_files)
        self.record_file = self.volumes["data"] / "record"
        self.record = record.Follower(self.record_file)
        self._facts = {
            "POD_NAME": name,
            "NAMESPACE": cluster.namespace,
            "METRICS_PORT": str(self.metrics_port),
            "NODE_METRICS_URL": f"http://127.0.0.1:{node_port}/metrics",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": cluster.api.url.rpartition(":")[2],
            **extra,
        }
        self._node_options = ["--port", str(node_port), "--record", "/data/record", "--name", name]
        self.sidecars = [spec["name"] for spec in manifest.sidecars]

    # --- the kubelet ---

    def start(self) -> None:
        """The sidecar's containers, in their order.  The node comes with `start_node`."""
        if self._share_pids and not self._shared_by_sidecar:
            words = ["pod", "create", "--name", self._pod, "--share", "net,pid,ipc,uts", "--network", "host"]
            run(_PODMAN, *words, "--infra-image", self._cluster.node_image, "--infra-command", "/bin/sleep infinity")
        for spec in self._manifest.sidecars:
            made = self._manifest.container(spec, self.volumes, self._facts)
            image = [self._cluster.image, *made.command[1:]]
            self._run(made.name, (*made.options, *self._sidecar_options), image)

    def start_node(self, seconds: float = 60) -> None:
        """Once the startup probe answers, as the kubelet does.  Raises TimeoutError."""
        self._cluster.wait_for(
            lambda: self.get("/startup-status")[0] == 200, seconds, f"{self.name} may start its node"
        )
        spec = self._manifest.node
        made = self._manifest.container(spec, self.volumes, self._facts)
        code = ["--volume", f"{ROOT}:/checkout:ro"]
        assert made.command[0] == "cardano-node", "ours is in its place"
        command = ["python3", "-S", "-E", "/checkout/devkit/node.py", *made.command[1:], *self._node_options]
        self._run(made.name, (*made.options, *code), [self._cluster.node_image, *command])

    def _run(self, name: str, options: tuple[str, ...], image: list[str]) -> None:
        sidecar = self.container(self.sidecars[0])
        if self._shared_by_sidecar or not self._share_pids:
            where = ["--network", "host"]
            if name not in self.sidecars and self._share_pids:
                where += ["--pid", f"container:{sidecar}"]
        else:
            where = ["--pod", self._pod]
        self._podman("run", "--detach", "--name", self.container(name), *where, *options, *image)

    def _podman(self, *words: str) -> str:
        """Where files may be left: podman's monitor notes an OOM kill in the folder that it was started in."""
        return run(_PODMAN, *words, cwd=self.folder)

    def container(self, name: str) -> str:
        """podman's name for it."""
        return f"{self._pod}-{name}"

    @property
    def sidecar(self) -> str:
        """podman's name for the only container of the sidecar."""
        (name,) = self.sidecars
        return self.container(name)

    def close(self) -> None:
        remove(self._pod)

    # --- breaking and mending ---

    def kill(self, name: str = "", sig: str = "KILL") -> None:
        """`podman kill` of the sidecar, or of that container."""
        self._podman("kill", "--signal", sig, self.container(name) if name else self.sidecar)

    def begin_to_end(self) -> None:
        """The sidecar's hook, which the kubelet runs while the node's own keeps it alive.  Raises EngineError."""
        for name, command in self._manifest.hooks().items():
            if name in self.sidecars:
                self._podman("exec", self.container(name), *command)

    def stop(self) -> float:
        """The sidecar's hook, then `podman stop` of it; how long both took, in seconds."""
        began = time.monotonic()
        self.begin_to_end()
        self._podman("stop", "--time", "30", self.sidecar)
        return time.monotonic() - began

    def start_again(self, name: str = "") -> None:
        """The container that ended, as the kubelet does."""
        self._podman("start", self.container(name) if name else self.sidecar)

    def run_out_of_memory(self, victim: int) -> None:
        """Until the container's limit has killed this process of it, a pid as we see it.  Raises EngineError."""
        held = os.pidfd_open(victim)
        try:
            hog = [sys.executable, "-S", "-E", str(Path(__file__).with_name("hog.py")), str(victim)]
            code = subprocess.run(hog, timeout=60, check=False).returncode
            # The kernel may kill the hog too, before what the victim had is free.
            if code not in (0, -signal.SIGKILL) or not select.select([held], [], [], 1)[0]:
                raise EngineError(f"process {victim} was not killed for its memory; the hog ended with {code}")
        finally:
            os.close(held)

    def pid(self, name: str = "") -> int:
        """Of the container's main process, as we see it."""
        return int(self.inspect(name)["State"]["Pid"])

    def worker_pid(self, worker: str) -> int:
        """Of one of the sidecar's workers, as we see it.  LookupError: it is not there."""
        pid = self.pid()
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if f"workers.{worker}".encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise LookupError(f"{self.name} has no {worker}")

    def inspect(self, name: str = "") -> dict[str, Any]:
        """What podman knows of the sidecar, or of that container."""
        shown = json.loads(self._podman("inspect", self.container(name) if name else self.sidecar))
        found: dict[str, Any] = shown[0]
        return found

    def ended_after(self, event: str) -> float:
        """Seconds from the last such line of the sidecar's log until its container had ended."""
        lines = [json.loads(line) for line in self.logs().splitlines() if f'"event": "{event}"' in line]
        began = datetime.fromisoformat(lines[-1]["time"])
        ended = datetime.fromisoformat(self.inspect()["State"]["FinishedAt"][:26] + "+00:00")
        return (ended - began).total_seconds()

    def running(self, name: str = "") -> bool:
        return bool(self.inspect(name)["State"]["Running"])

    # --- looking ---

    def exec(self, *words: str, name: str = "") -> subprocess.CompletedProcess[str]:
        """`podman exec` in the sidecar, or in that container."""
        command = [_PODMAN, "exec", self.container(name) if name else self.sidecar, *words]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)

    def health_check(self) -> subprocess.CompletedProcess[str]:
        """The image's own, as an engine with a timer would run it."""
        command = [_PODMAN, "healthcheck", "run", self.sidecar]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)

    def logs(self, name: str = "") -> str:
        """What the container wrote, whatever came of it."""
        command = [_PODMAN, "logs", self.container(name) if name else self.sidecar]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=3) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        return self.get("/ready")[0] == 200

    def last(self, event: str, since: int) -> int:
        """When the node last wrote that down (CLOCK_MONOTONIC, ns).  AssertionError: not since then."""
        found = [int(e["t"]) for e in record.read(self.record_file) if e["event"] == event and int(e["t"]) >= since]
        assert found, f"{self.name}'s node wrote no {event!r}"
        return found[-1]


class Cluster:
    """Pods of one manifest around one API server."""

    _made = 0

    def __init__(
        self,
        api: RealApi,
        image: str,
        node_image: str,
        *,
        pods: int = 2,
        example: str = "single-uid",
        extra: dict[str, str] | None = None,
        sidecar_options: tuple[str, ...] = (),
        shared_by_sidecar: bool = False,
        share_pids: bool = True,
    ) -> None:
        """node_image: any with Python and `sleep`.  extra: variables beside the manifest's own.

        shared_by_sidecar: no infra container; the sidecar is process 1 of the pid namespace, and the node joins it.
        share_pids: whether sidecar and node see each other at all.
        """
        remove_orphans()
        self.number, self.namespace = Cluster._made + 1, NAMESPACES[Cluster._made]
        Cluster._made += 1
        self.api, self.image, self.node_image = api, image, node_image
        self._memory = MemoryFolder()
        self.folder = self._memory.path
        made = keys.generate(self.folder / "keys", kes_period=keys.current_kes_period("mainnet"))
        self.secrets = {path.name: path.read_bytes() for path in (made.kes, made.vrf, made.cert)}
        manifest = Manifest(example)
        admin = AdminClient(api.url, api.ca_file, api.token_for(ADMIN))
        user = prepare(api, admin, self.namespace, _ROLE, account=manifest.account)
        token, authority = api.token_for(user), api.ca_file
        assert token is not None
        assert authority is not None
        self.account_files = {
            "token": token.encode(),
            "ca.crt": authority.read_bytes(),
            "namespace": self.namespace.encode(),
        }
        self.began = time.monotonic_ns()
        self.pods = [
            Pod(
                f"cardano-producer-{number}",
                self,
                manifest=manifest,
                extra=extra or {},
                sidecar_options=sidecar_options,
                shared_by_sidecar=shared_by_sidecar,
                share_pids=share_pids,
            )
            for number in range(pods)
        ]

    def __enter__(self) -> Self:
        try:
            for pod in self.pods:
                pod.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove every container and every file."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._memory.close)
            for pod in self.pods:
                stack.callback(pod.close)

    def start_nodes(self) -> Self:
        for pod in self.pods:
            pod.start_node()
        return self

    # --- looking ---

    def nodes(self, now: int) -> dict[str, list[record.Interval]]:
        return {pod.name: pod.record.intervals(now) for pod in self.pods}

    def forgers(self) -> list[Pod]:
        at = time.monotonic_ns() - 1
        return [pod for pod in self.pods if pod.record.forges_at(at)]

    def overlap_s(self, since: int) -> float:
        """Seconds with two forgers, by the nodes' own records."""
        now = time.monotonic_ns()
        return record.overlap_s(self.nodes(now), since, now)

    def gap_s(self, since: int) -> float:
        """Seconds without a forger."""
        now = time.monotonic_ns()
        return record.gap_s(self.nodes(now), since, now)

    def wait_for(self, what: Callable[[], bool], seconds: float, why: str) -> None:
        """Poll until true.  Raises TimeoutError with what the containers wrote."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise TimeoutError(f"{why}: not within {seconds:g} s\n{self.describe()}")
            time.sleep(0.02)

    def wait_for_one_forger(self, seconds: float = 90, *, other_than: Pod | None = None) -> Pod:
        def one() -> bool:
            found = self.forgers()
            return len(found) == 1 and found[0] is not other_than

        self.wait_for(one, seconds, "one node forges")
        return self.forgers()[0]

    def wait_healthy(self, seconds: float = 90) -> tuple[Pod, Pod]:
        """All pods ready, one of them forging: that one, and another (itself where there is only one)."""
        self.wait_for_one_forger(seconds)
        self.wait_for(lambda: all(pod.ready() for pod in self.pods), seconds, "all pods are ready")
        leader = self.wait_for_one_forger(seconds)
        return leader, next((pod for pod in self.pods if pod is not leader), leader)

    def describe(self) -> str:
        """What each container wrote last, and what each node recorded."""
        lines = []
        for pod in self.pods:
            lines.append(f"--- {pod.name}: /ready {pod.get('/ready')}")
            events = [e for e in record.read(pod.record_file) if e["event"] != "slot"]
            lines += [f"    record {(int(e['t']) - self.began) / record.NS:8.3f} {e['event']}" for e in events[-40:]]
            for name in (*pod.sidecars, NODE):
                lines += [f"    {name}: {line}" for line in pod.logs(name).splitlines()[-60:]]
        return "\n".join(lines)


def remove(prefix: str) -> None:
    """Every container and pod whose name begins so; also those that still run."""
    for name in run(_PODMAN, "ps", "--all", "--format", "{{.Names}}").split():
        if name.startswith(prefix) and not name.endswith("-infra"):
            run(_PODMAN, "rm", "--force", "--depend", "--ignore", "--time", "0", name)
    for name in run(_PODMAN, "pod", "ps", "--format", "{{.Name}}").split():
        if name.startswith(prefix):
            run(_PODMAN, "pod", "rm", "--force", "--time", "0", name)


def remove_orphans() -> None:
    """What a killed process of ours left behind."""
    told = run(_PODMAN, "ps", "--all", "--format", "{{.Names}}") + run(_PODMAN, "pod", "ps", "--format", "{{.Name}}")
    for name in told.split():
        if name.startswith(_PREFIX) and not _alive(int(name.removeprefix(f"{_PREFIX}-").partition("-")[0])):
            with contextlib.suppress(EngineError):  # another one of us is doing the same
                remove(name.removesuffix("-infra"))


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()

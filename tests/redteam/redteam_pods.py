"""A pod of each separation with a back door in every worker, and what an attacker is told of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redteam_inside import HOOK, ask

from devkit import launch, states
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pod import _INSTALLATION
from devkit.pods import Cluster, Pod
from ipc.messages import (
    DebugRequest,
    DebugWhat,
    Grant,
    Role,
    StandDown,
    State,
    Worker,
    encode,
)
from kernel.clock import boottime_ns

MODES = ("single-uid", "uids", "containers", "names")
"""names: single-uid, with host names instead of addresses in the configuration, which takes more system calls."""
SHORT = {"LEASE_DURATION": "6", "SLEEP_INTERVAL": "1"}
"""Terms as short as they may be: a pod that starts waits for one."""
UID = 10001
"""Of a single-uid pod where the tests run as root."""


class Field:
    """One pod under attack, with listeners of its own that nobody may reach.  It starts at once; `wait` for it."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._stack = contextlib.ExitStack()
        separation = "single-uid" if mode == "names" else mode
        self.uid = UID if os.getuid() == 0 and separation == "single-uid" else os.getuid()
        try:
            api = ThreadedApi(EmbeddedApi())
            api.start_sync()
            self._stack.callback(api.stop_sync)
            uid = self.uid if self.uid != os.getuid() else None
            environment = {"PYTHONPATH": str(HOOK), **SHORT}
            if mode == "names":
                self._stack.enter_context(_by_name())
            self.cluster = Cluster(api, 1, environment=environment, separation=separation, uid=uid)
            self._stack.callback(self.cluster.close)
        except BaseException:
            self._stack.close()
            raise
        self._ready = False

    def wait(self) -> None:
        """Until the pod forges; then look at it."""
        if not self._ready:
            self.cluster.wait_healthy(90)
            self._ready = True
            self.pod: Pod = self.cluster.leader()
            self.since = time.monotonic_ns()
            self.pids = self.pod.worker_pids()
            self.node = self.pod.node_pid
            self._given = self._tell()

    def close(self) -> None:
        self._stack.close()

    def _listener(self, family: int, kind: int, address: Any) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(family, kind))
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        return sock

    def _tell(self) -> dict[str, Any]:
        pod = self.pod
        abstract = f"redteam-{secrets.token_hex(8)}"
        self._listener(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}")
        self._listener(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{abstract}-datagrams")
        stranger = self._listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        by_path = pod.root / "stranger.sock"
        self._listener(socket.AF_UNIX, socket.SOCK_STREAM, str(by_path))
        by_path.chmod(0o666)
        files = {name: str(pod.secrets / file) for name, file in _FILES.items()}
        kubeconfigs = sorted(str(path) for path in pod.root.glob("kubeconfig*"))
        if self.mode == "containers":  # the pod's own is what the others are made from; no container has it
            kubeconfigs.remove(str(pod.root / "kubeconfig"))
        return {
            **files,
            "secrets": list(files.values()),
            "hashes": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files.values()],
            "targets": [str(pod.ipc / file) for file in _FILES.values()],
            "pod": str(pod.root),
            "run_dir": str(pod.run_dir),
            "kubeconfigs": kubeconfigs,
            "node": self.node,
            "pids": self.pids,
            "supervisors": sorted(set(pod.sidecar_pids()) - set(self.pids.values())),
            "api_port": pod.proxy.port,
            "node_port": pod.node_port,
            "metrics_port": pod.metrics_port,
            "stranger_port": stranger.getsockname()[1],
            "stranger_socket": str(by_path),
            "abstract": abstract,
            "abstract_datagrams": f"{abstract}-datagrams",
            "debug_question": encode(DebugRequest(DebugWhat.COUNTERS)).hex(),
            "stand_down": encode(StandDown(60, "red team")).hex(),
            "forged_state": encode(forged_state(boottime_ns(), self.pids["elector"])).hex(),
        }

    def given(self, worker: str) -> dict[str, Any]:
        """What an attacker in this worker knows: everything but the secrets themselves."""
        return {**self._given, "me": worker, "own": str(self.pod.run_dir / worker)}

    def inside(self, worker: str, attempt: str) -> dict[str, Any]:
        """Make an attempt in a worker."""
        return ask(self.pod.run_dir / worker / "redteam.sock", "run", {"name": attempt, "given": self.given(worker)})

    def declares_api(self, worker: str) -> bool:
        answer = ask(self.pod.run_dir / worker / "redteam.sock", "declares_api", None)
        return bool(answer["done"] == "True")

    def outside(self, uid: int) -> Outside:
        """A process of this user outside of any sandbox."""
        made = Outside(self, uid)
        self._stack.callback(made.close)
        return made

    def untouched(self) -> str:
        """What is not as it was before the attempts; empty: everything is."""
        now = self.pod.worker_pids()
        changed = [worker for worker in self.pids if now.get(worker) != self.pids[worker]]
        if self.pod.node_pid != self.node:
            changed.append("node")
        if gap := self.cluster.gap_s(self.since):
            changed.append(f"forging stopped for {gap:.2f} s")
        return ", ".join(changed)


@contextlib.contextmanager
def _by_name() -> Iterator[None]:
    """Pods that are made meanwhile reach node and API server as `localhost`."""
    make = Pod._make_environment

    def with_names(pod: Pod) -> dict[str, str]:
        made = make(pod)
        made["NODE_METRICS_URL"] = made["NODE_METRICS_URL"].replace("127.0.0.1", "localhost")
        kubeconfig = Path(made["KUBECONFIG"])
        kubeconfig.write_text(kubeconfig.read_text().replace("127.0.0.1", "localhost"))
        return made

    with unittest.mock.patch.object(Pod, "_make_environment", with_names):
        yield


class Outside:
    """The same attempts without a sandbox."""

    def __init__(self, field: Field, uid: int) -> None:
        self._field = field
        folder = field.pod.root / f"outside-{uid}"
        folder.mkdir()
        (folder / "debug.sock").touch()
        os.chown(folder, uid, uid)
        self._folder = folder
        self._door = folder / "door"
        command = [sys.executable, str(Path(__file__).with_name("redteam_outside.py")), str(self._door)]
        if uid != os.getuid():
            reach = os.pathsep.join(_INSTALLATION)
            prefix = [sys.executable, "-S", "-E", str(Path(launch.__file__)), "--parent", str(os.getpid())]
            command = [*prefix, "--reach", reach, "--uid", str(uid), "--capabilities", "", "--", *command]
        self._process = subprocess.Popen(command, cwd="/")
        field.cluster.wait_for(self._door.exists, 20, "the process outside of the sandbox is there")

    def run(self, attempt: str) -> dict[str, Any]:
        given = {**self._field.given("nobody"), "own": str(self._folder)}
        return ask(self._door, "run", {"name": attempt, "given": given})

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


_FILES = {"kes": "kes.skey", "vrf": "vrf.skey", "cert": "node.cert"}


def forged_state(now: int, pid: int) -> State:
    """A state that would give the actuator its elector's key for a week, if anybody took it."""
    week = 7 * 86400 * 1_000_000_000
    grant = Grant("evil", 99, now + week, now, exclusive=True)
    body = states.elector(
        role=Role.LEADER,
        since=now,
        reason="forged",
        identity="evil",
        lease="cardano/cardano-node-leader",
        holder="evil",
        fencing_token=99,
        grant=grant,
    )
    return State(Worker.ELECTOR, "deadbeef", pid, 1, now, now, now + 6_000_000_000, body)

"""One pod without a cluster: what the kubelet does for it, with real processes.

A pod is a folder for /ipc, /secrets and RUN_DIR, a `forge-manager` tree, and a simulated node that is started when
/startup-status says so and restarted when it ends.  Everything dies with the thread that started it, by the kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from config import load
from devkit import record
from devkit.proxy import FaultyProxy
from kernel.identity import CAP_SETGID, CAP_SETUID
from sandbox.close import obstacles

LEASE: Final = "cardano-node-leader"
NAMESPACE: Final = "cardano"
NODE_RESTART_S: Final = 2.0
_LAUNCH: Final = str(Path(__file__).with_name("launch.py"))
_INSTALLATION: Final = tuple(
    str(path)
    for path in sorted({Path(sys.base_prefix).resolve(), Path(sys.prefix), Path(__file__).resolve().parents[1]})
)
UIDS: Final = {"actuator": 10001, "prober": 10002, "elector": 10003, "arbiter": 10004, "gateway": 10005}
"""For pods whose workers have users of their own; the node has the actuator's."""
CONTAINER_RESTART_S: Final = 0.3
LONGEST_BASE: Final = 28
"""Bytes of the folder that a MemoryFolder is made in: of an address's 107 a pod's name and its sockets need most."""
_OURS: Final = b"a folder of the dev kit of cardano-forge-manager\n"
"""What the lock of a MemoryFolder says."""
WORKERS: Final = ("actuator", "prober", "arbiter", "gateway", "elector")


_NO_ANSWER: Final = (OSError, http.client.HTTPException)
"""Nobody listens, or who began to answer has died."""
_open: Final = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Without a proxy: `http_proxy` is about elsewhere, and what is asked here is on this machine."""

_given: set[int] = set()
_giving = threading.Lock()


def free_port() -> int:
    """A TCP port that nobody uses now, and that was not given before."""
    with _giving:
        while True:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = int(sock.getsockname()[1])
            if port not in _given:
                _given.add(port)
                return port


def _forge_manager(given: Path | None) -> list[str]:
    """The command given, or the installed one, or its module from a checkout."""
    script = given or Path(sys.executable).with_name("forge-manager")
    return [str(script)] if script.exists() else [sys.executable, "-P", "-m", "cli.forge_manager"]


def _base() -> Path:
    """The first of the usual places that is ours to write and has a short name.  Raises OSError."""
    usual = ("/dev/shm", tempfile.gettempdir(), "/tmp", "/var/tmp")
    for place in map(Path, usual):
        if len(os.fsencode(place)) <= LONGEST_BASE and place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            return place
    raise OSError(f"no folder of at most {LONGEST_BASE} bytes can be written, of {', '.join(usual)}: set TMPDIR to one")


class MemoryFolder:
    """A fresh folder, in memory where the machine offers that; its path is short (Unix sockets: 107 bytes).

    Removed by `close`, or by the next one to be made if this process is killed.  Raises OSError.
    """

    def __init__(self) -> None:
        base = _base()
        self._remove_orphans(base)
        self.path = Path(tempfile.mkdtemp(prefix="fm-", dir=base))
        unlocked = self.path / "lock.new"
        self._lock = unlocked.open("wb", buffering=0)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._lock.write(_OURS)
        unlocked.rename(self.path / "lock")

    @staticmethod
    def _remove_orphans(base: Path) -> None:
        """Ours alone: the folder is everybody's, and so is the name of a lock."""
        for lock in base.glob("fm-*/lock"):
            with contextlib.suppress(OSError):  # in use, another user's, or just removed
                folder = lock.parent.lstat()
                if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.geteuid():
                    continue
                with os.fdopen(os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if file.read(len(_OURS) + 1) == _OURS:
                        shutil.rmtree(lock.parent, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


class Pod:
    """One pod.  Its methods may be called from any thread."""

    def __init__(
        self,
        name: str,
        root: Path,
        proxy: FaultyProxy,
        secrets_from: Path,
        *,
        namespace: str = NAMESPACE,
        environment: dict[str, str] | None = None,
        node_flags: tuple[str, ...] = (),
        non_producing: bool = True,
        separation: str = "single-uid",
        uid: int | None = None,
        volumes_group: int | None = None,
        forge_manager: Path | None = None,
    ) -> None:
        """separation: how the workers run; other than single-uid needs root.

        uid: of the whole pod, in single-uid; None: ours.  Another than ours needs root.
        volumes_group: fsGroup, where each worker has a container: volumes are root's and this group's, each container
        has it as a supplementary one.
        forge_manager: of another installation than the one that we run in.
        """
        self._command = _forge_manager(forge_manager)
        self.name = name
        self.namespace = namespace
        self.proxy = proxy
        self.root = root / name
        self.ipc, self.secrets, self.run_dir = self.root / "ipc", self.root / "secrets", self.root / "run"
        for folder in (self.ipc, self.secrets):
            folder.mkdir(parents=True)
        for file in secrets_from.iterdir():
            shutil.copy(file, self.secrets / file.name)
        self.log, self.record_file = self.root / "sidecar.log", self.root / "record"
        self.record = record.Follower(self.record_file)
        self.metrics_port, self.node_port = free_port(), free_port()
        self.node_flags = node_flags
        self.non_producing = non_producing
        self.restart_node = True
        self.restart_sidecar_after: float | None = None
        """Seconds; None: a sidecar that ended stays away."""
        self.separation = separation
        self._environment = self._make_environment() | (environment or {})
        self._uid = uid if separation == "single-uid" else None
        self._volumes_group = volumes_group if separation == "containers" else None
        if separation != "single-uid":
            self._give_away()
        elif uid is not None:
            self._give_all_to(uid)
        uids = {"WORKER_UIDS": self._environment.get("WORKER_UIDS", "")}
        self.not_closed_because = obstacles(load(uids))
        """What keeps this machine from closing a sandbox; empty: nothing.  The pod then runs with less."""
        if self.not_closed_because:
            self._environment.setdefault("SANDBOX", "permissive")
        self._sidecars: dict[str, subprocess.Popen[bytes]] = {}
        """By container: `sidecar`, or one for each worker."""
        self._node: subprocess.Popen[bytes] | None = None
        self._pidfds: dict[str, int] = {}
        self._want_sidecar = True
        self._revived = False
        """Asked back while it may still be ending."""
        self._sidecar_at = self._node_at = 0.0
        if separation == "containers":
            self.restart_sidecar_after = CONTAINER_RESTART_S
        self._closing = threading.Event()
        self._poke_r, self._poke_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.fault: BaseException | None = None
        self._thread = threading.Thread(target=self._kubelet, name=f"kubelet-{name}", daemon=True)
        self._thread.start()

    def _make_environment(self) -> dict[str, str]:
        kubeconfig = self.root / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": self.proxy.url}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": self.namespace}}],
                    "current-context": "x",
                }
            )
        )
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.root),
            "NAMESPACE": self.namespace,
            "POD_NAME": self.name,
            "LEASE_NAME": LEASE,
            "NODE_SOCKET": str(self.ipc / "node.socket"),
            "SOURCE_KES_KEY": str(self.secrets / "kes.skey"),
            "SOURCE_VRF_KEY": str(self.secrets / "vrf.skey"),
            "SOURCE_OP_CERT": str(self.secrets / "node.cert"),
            "TARGET_KES_KEY": str(self.ipc / "kes.skey"),
            "TARGET_VRF_KEY": str(self.ipc / "vrf.skey"),
            "TARGET_OP_CERT": str(self.ipc / "node.cert"),
            "TARGET_KES_AGENT_SOCKET": str(self.ipc / "kes-agent.socket"),
            "NODE_METRICS_URL": f"http://127.0.0.1:{self.node_port}/metrics",
            "METRICS_PORT": str(self.metrics_port),
            "RUN_DIR": str(self.run_dir),
            "KUBECONFIG": str(kubeconfig),
            "LOG_FORMAT": "console",
        }

    def _give_away(self) -> None:
        """What volumes with their modes do in a real pod: each file is its user's."""
        self._environment["WORKER_UIDS"] = ",".join(f"{name}={uid}" for name, uid in UIDS.items())
        node = UIDS["actuator"]
        for path in (self.root, self.ipc, self.secrets, *self.secrets.iterdir()):
            os.chown(path, node, node)
        self.root.parent.chmod(0o711)
        self.root.chmod(0o711)
        self.secrets.chmod(0o700)
        self.run_dir.mkdir()  # an emptyDir
        self.run_dir.chmod(0o777)
        for worker in ("elector", "arbiter"):  # in a real pod: one token volume for each
            mine = self.root / f"kubeconfig-{worker}"
            shutil.copy(self.root / "kubeconfig", mine)
            os.chown(mine, UIDS[worker], UIDS[worker])
            mine.chmod(0o400)
        (self.root / "kubeconfig").chmod(0o644 if self.separation == "uids" else 0o600)
        if self._volumes_group is not None:
            self._give_to_group(self._volumes_group)

    def _give_to_group(self, group: int) -> None:
        """What the kubelet does with volumes where there is an fsGroup."""
        for folder in (self.ipc, self.run_dir, self.secrets):
            os.chown(folder, 0, group)
            folder.chmod(0o2777)
        for file in (*self.secrets.iterdir(), self.root / "kubeconfig-elector", self.root / "kubeconfig-arbiter"):
            os.chown(file, 0, group)
            file.chmod(0o440)

    def _give_all_to(self, uid: int) -> None:
        """What `runAsUser` and `fsGroup` do in a real pod."""
        for path in (self.root, self.ipc, self.secrets, *self.secrets.iterdir(), self.root / "kubeconfig"):
            os.chown(path, uid, uid)
        self.root.parent.chmod(0o711)

    def _containers(self) -> dict[str, list[str]]:
        """Name -> command."""
        if self.separation != "containers":
            return {"sidecar": self._command}
        return {worker: [*self._command, "--worker", worker] for worker in WORKERS}

    # --- the kubelet: one thread starts and reaps everything of this pod ---

    def _kubelet(self) -> None:
        try:
            while not self._closing.is_set():
                self._reap()
                self._start_what_is_due()
                watched = [self._poke_r, *self._pidfds.values()]
                select.select(watched, [], [], 0.05)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._poke_r, 4096)
        except BaseException as error:
            self.fault = error
            raise
        finally:
            self._end_all()

    def _reap(self) -> None:
        now = time.monotonic()
        if self._node is not None and self._node.poll() is not None:
            line = {"t": time.monotonic_ns(), "event": "exit", "node": self.name}
            with self.record_file.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self._node, self._node_at = None, now + NODE_RESTART_S
            os.close(self._pidfds.pop("node"))
        for name, process in list(self._sidecars.items()):
            if process.poll() is None:
                continue
            del self._sidecars[name]
            os.close(self._pidfds.pop(name))
            self._want_sidecar = self._revived or self.restart_sidecar_after is not None
            if not self._revived:
                self._sidecar_at = now + (self.restart_sidecar_after or 0.0)
            if not self._sidecars:
                self._revived = False

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for name, command in self._containers().items():
            if name in self._sidecars or not self._want_sidecar or now < self._sidecar_at:
                continue
            self._revived = False
            environment = dict(self._environment)
            if self.separation == "containers" and (mine := self.root / f"kubeconfig-{name}").exists():
                environment["KUBECONFIG"] = str(mine)
            self._sidecars[name] = self._spawn(command, environment, self.log, container=name)
            self._pidfds[name] = os.pidfd_open(self._sidecars[name].pid)
        if self._node is None and self.restart_node and now >= self._node_at and self._startup_ok():
            self._node = self._spawn_node()
            self._pidfds["node"] = os.pidfd_open(self._node.pid)

    def _spawn(
        self, command: list[str], environment: dict[str, str], log: Path, *, container: str
    ) -> subprocess.Popen[bytes]:
        launch = [sys.executable, "-S", "-E", _LAUNCH, "--parent", str(os.getpid())]
        if self._uid is not None:
            launch += ["--reach", os.pathsep.join(_INSTALLATION), "--uid", str(self._uid), "--capabilities", ""]
        elif self.separation != "single-uid":
            launch += ["--reach", os.pathsep.join(_INSTALLATION)]
            if container == "sidecar":
                launch += ["--capabilities", f"{CAP_SETUID},{CAP_SETGID}"]
            else:
                launch += ["--uid", str(UIDS.get(container, UIDS["actuator"])), "--capabilities", ""]
                launch += ["--group", str(self._volumes_group)] if self._volumes_group is not None else []
            if container not in ("actuator", "sidecar"):  # whose container mounts the secret
                launch += ["--hide", str(self.secrets)]
        with log.open("ab") as output:
            return subprocess.Popen(
                [*launch, "--", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )

    def _spawn_node(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("node.py")
        command = [sys.executable, "-S", "-E", str(script), "run", "--name", self.name]
        command += ["--socket-path", str(self.ipc / "node.socket"), "--port", str(self.node_port)]
        command += ["--record", str(self.record_file), "--control", str(self.root / "control")]
        command += ["--network", self._environment.get("CARDANO_NETWORK", "mainnet")]
        if self._environment.get("CREDENTIAL_MODE") == "kes-agent":
            command += ["--shelley-kes-agent-socket", str(self.ipc / "kes-agent.socket")]
        else:
            command += ["--shelley-kes-key", str(self.ipc / "kes.skey")]
        command += ["--shelley-vrf-key", str(self.ipc / "vrf.skey")]
        command += ["--shelley-operational-certificate", str(self.ipc / "node.cert")]
        if self.non_producing:
            command.append("--start-as-non-producing-node")
        command += self.node_flags
        environment = {"PATH": os.environ.get("PATH", "")}
        return self._spawn(command, environment, self.root / "node.log", container="node")

    def _startup_ok(self) -> bool:
        if not self._sidecars:
            return False
        try:
            with _open(f"{self.address}/startup-status", timeout=1) as answer:
                return bool(answer.status == 200)
        except _NO_ANSWER:
            return False

    def _end_all(self) -> None:
        for pid in self.sidecar_pids():
            _kill(pid, signal.SIGKILL)
        for process in (*self._sidecars.values(), self._node):
            if process is not None:
                process.kill()
                process.wait()
        for fd in self._pidfds.values():
            os.close(fd)
        self._pidfds.clear()

    def begin_close(self) -> None:
        """Have the kubelet end everything of this pod."""
        self._closing.set()
        self._poke()

    def close(self) -> None:
        """The same, and wait until it is done."""
        self.begin_close()
        self._thread.join(20)
        for fd in (self._poke_r, self._poke_w):
            if fd >= 0:
                os.close(fd)
        self._poke_r = self._poke_w = -1

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._poke_w, b"x")

    # --- looking ---

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}"

    def status(self) -> dict[str, Any]:
        """/status; empty while nobody answers."""
        try:
            with _open(f"{self.address}/status", timeout=2) as answer:
                shown: dict[str, Any] = json.loads(answer.read())
                return shown
        except (*_NO_ANSWER, ValueError):
            return {}

    def api_requests(self) -> float:
        """How many requests to the API server the pod says it made since it was started."""
        _, text = self.get("/metrics")
        lines = [line for line in text.splitlines() if line.startswith("cardano_forge_manager_api_requests_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET.  OSError, http.client.HTTPException."""
        try:
            with _open(self.address + path, timeout=3) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @property
    def node_pid(self) -> int:
        return self._node.pid if self._node is not None else 0

    def worker_pids(self) -> dict[str, int]:
        """Worker -> pid, from /proc."""
        found = {}
        for pid in self.sidecar_pids():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                for worker in WORKERS:
                    if f"workers.{worker}" in text:
                        found[worker] = pid
        return found

    def sidecar_pids(self) -> list[int]:
        """supervisord and its children, or the worker of each container."""
        return [pid for process in list(self._sidecars.values()) for pid in (process.pid, *_children(process.pid))]

    def intervals(self, now: int, since: int = -1) -> list[record.Interval]:
        """When the node forged, as it says itself; `now` ends one that goes on (CLOCK_MONOTONIC, ns).

        Without those that were over at `since`.
        """
        return self.record.intervals(now, since)

    def healthy(self) -> bool:
        return bool(self.status().get("ready", {}).get("ready"))

    # --- breaking and mending ---

    def kill_node(self, sig: int = signal.SIGKILL) -> None:
        _kill(self.node_pid, sig)

    def kill_worker(self, worker: str, sig: int = signal.SIGKILL) -> None:
        _kill(self.worker_pids()[worker], sig)

    def kill_supervisor(self, sig: int = signal.SIGKILL) -> None:
        self._revived = False
        for process in list(self._sidecars.values()):
            _kill(process.pid, sig)

    def kill_sidecar(self) -> None:
        """Every process of the tree, as when the container is killed."""
        self._revived = False
        for pid in self.sidecar_pids():
            _kill(pid, signal.SIGKILL)

    def freeze_sidecar(self) -> list[int]:
        """SIGSTOP to the whole tree; who was stopped."""
        pids = self.sidecar_pids()
        for pid in pids:
            _kill(pid, signal.SIGSTOP)
        return pids

    @staticmethod
    def thaw(pids: list[int]) -> None:
        for pid in pids:
            _kill(pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM to the sidecar; it stays away until `revive`."""
        self.restart_sidecar_after = None
        self.kill_supervisor(signal.SIGTERM)

    def revive(self) -> None:
        """Start the sidecar again, once it has ended, and the node."""
        self._revived = True
        self._want_sidecar, self._sidecar_at, self.restart_node = True, 0.0, True
        self._poke()

    def sidecar_running(self) -> bool:
        return bool(self._sidecars)

    def sidecar_ended(self) -> bool:
        """It ended, and is not started again until it is asked for."""
        return not self._want_sidecar

    def node_control(self, command: str) -> str:
        """Tell the simulated node; its answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(3)
            sock.connect(str(self.root / "control"))
            sock.sendall(command.encode() + b"\n")
            return sock.recv(200).decode().strip()

    @property
    def environment(self) -> dict[str, str]:
        """What the sidecar's container has."""
        return dict(self._environment)

    def forgectl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("forgectl")), *words]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=20, check=False)

    def forgectl_json(self, *words: str, uid: int | None = None) -> tuple[int, Any]:
        """The exit code and what is printed with --json, to us or to this user (that needs root)."""
        command = [sys.executable, "-m", "cli.forgectl", *words, "--json"]
        if uid is not None:
            launch = [sys.executable, "-S", "-E", _LAUNCH, "--parent", str(os.getpid()), "--uid", str(uid)]
            command = [*launch, "--capabilities", "", "--reach", os.pathsep.join(_INSTALLATION), "--", *command]
        environment = self._environment | {"PYTHONDONTWRITEBYTECODE": "1"}
        root = Path(__file__).resolve().parent.parent
        ran = subprocess.run(command, env=environment, cwd=root, stdout=subprocess.PIPE, timeout=60, check=False)
        return ran.returncode, json.loads(ran.stdout)


def _kill(pid: int, sig: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []

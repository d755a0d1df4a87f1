"""Some instances of one peer around one API server: started, broken and mended like the pods of `devkit.pods`.

Each instance has an API path of its own (`devkit.proxy`).  One that ends by itself is started again two seconds later,
as a kubelet would; one that was killed on purpose stays away until `revive`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.peers.kinds import Kind
from bench.tail import Tail
from devkit import record
from devkit.api.server_protocol import ADMIN, SyncApiServer
from devkit.pod import MemoryFolder
from devkit.proxy import FaultyProxy
from devkit.realapi.client import AdminClient

RESTART_S: Final = 2.0
_ROOT: Final = Path(__file__).parents[2]
_LAUNCH: Final = str(_ROOT / "devkit" / "launch.py")


class Instance:
    """One process of a peer.  Its methods may be called from any thread."""

    def __init__(self, kind: Kind, command: Sequence[str], namespace: str, number: int, api: SyncApiServer, at: Path):
        self.name = f"{kind.name}-{number}"
        self.proxy = FaultyProxy(api, ADMIN)
        self._first, self._counted = kind.first, 0
        self.record_file = at / f"{self.name}.record"
        self._tail = Tail(self.record_file)
        kubeconfig = at / f"{self.name}.json"
        kubeconfig.write_text(json.dumps(_kubeconfig(self.proxy.url, namespace)))
        words = {"kubeconfig": kubeconfig, "name": self.name, "namespace": namespace, "lease": kind.name}
        words["record"] = self.record_file
        self._command = [*command, *(word for key, value in words.items() for word in (f"--{key}", str(value)))]
        self._log = at / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = True
        self._due = 0.0
        self.restarts = 0
        """How often it ended by itself."""
        self._closing = threading.Event()
        self._poked, self._poke = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._kubelet, name=f"kubelet-{self.name}", daemon=True)
        self._thread.start()

    # --- the kubelet: a process dies with the thread that started it ---

    def _kubelet(self) -> None:
        while not self._closing.is_set():
            if self._process is None and self._wanted and time.monotonic() >= self._due:
                self._process = self._spawn()
            watched = [self._poked]
            pidfd = os.pidfd_open(self._process.pid) if self._process is not None else -1
            if pidfd >= 0:
                watched.append(pidfd)
            select.select(watched, [], [], None if pidfd >= 0 or not self._wanted else 0.05)
            if pidfd >= 0:
                os.close(pidfd)
            with contextlib.suppress(BlockingIOError):
                os.read(self._poked, 4096)
            self._reap()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        launch = [sys.executable, "-S", "-E", _LAUNCH, "--parent", str(os.getpid()), "--", *self._command]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._log.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with self._log.open("ab") as log:
            return subprocess.Popen(
                launch,
                env=environment,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _reap(self) -> None:
        if self._process is None or self._process.poll() is None:
            return
        with self.record_file.open("a") as file:
            file.write(json.dumps({"t": time.monotonic_ns(), "event": "exit", "node": self.name}) + "\n")
        self._process = None
        if self._wanted:
            self.restarts += 1
            self._due = time.monotonic() + RESTART_S

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._poke, b"x")

    # --- looking ---

    @property
    def pids(self) -> list[int]:
        """Of the process; none while it does not run."""
        process = self._process
        return [process.pid] if process is not None else []

    def intervals(self, now: int) -> list[record.Interval]:
        """When it led, as it says itself (CLOCK_MONOTONIC, ns)."""
        return record.intervals(self._tail.events(), now)

    def events(self) -> list[dict[str, Any]]:
        """Of its record."""
        return self._tail.events()

    def log_lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines() if self._log.exists() else []

    def up(self) -> bool:
        """Runs, and has made its first request of the election since it was started or revived."""
        return bool(self.pids) and self.proxy.counts[self._first] > self._counted

    # --- breaking and mending ---

    def signal(self, number: int) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, number: int) -> None:
        """By this signal; it stays away until `revive`."""
        self._wanted = False
        self.signal(number)

    def revive(self) -> None:
        self._counted = self.proxy.counts[self._first]
        self._wanted, self._due = True, 0.0
        self._wake()

    def close(self) -> None:
        self._closing.set()
        self._wake()
        self._thread.join(10)
        os.close(self._poke)
        os.close(self._poked)
        self.proxy.close()


class Group:
    """Instances of one kind, in a namespace of their own."""

    def __init__(self, kind: Kind, api: SyncApiServer, number: int = 0) -> None:
        """Builds the peer if need be.  `number`: of one of several on the same server.  BuildError, SetupError."""
        self.kind = kind
        self._api = api
        self._command = kind.build()
        self.namespace = f"{kind.name}-{number}"
        admin = AdminClient(api.url, api.ca_file, api.token_for(ADMIN))
        admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        kind.prepare(admin, self.namespace)
        self._folder = MemoryFolder()
        self.instances: list[Instance] = []

    def add(self) -> Instance:
        """One more."""
        made = Instance(self.kind, self._command, self.namespace, len(self.instances), self._api, self._folder.path)
        self.instances.append(made)
        return made

    def describe(self) -> str:
        """Each instance's record and the end of its log."""
        lines = []
        for each in self.instances:
            lines.append(f"--- {each.name}: pids {each.pids}, {each.restarts} restarts, {dict(each.proxy.counts)}")
            lines += [f"    {event}" for event in each.events()[-12:]]
            lines += [f"    {line}" for line in each.log_lines()[-12:]]
        return "\n".join(lines)

    def close(self) -> None:
        for instance in self.instances:
            instance.signal(signal.SIGCONT)
            instance.close()
        self._folder.close()


def _kubeconfig(url: str, namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "current-context": "x",
    }

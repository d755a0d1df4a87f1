"""One `forge-manager` tree as a real process, for tests that break it.  Nothing of it outlives the test."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from devkit import launch

FORGE_MANAGER = str(Path(sys.executable).with_name("forge-manager"))
WORKERS = frozenset({"actuator", "prober", "arbiter", "gateway", "elector"})
NOBODY = 65534
LONG = 90.0
"""Seconds after which an event that should have come counts as missing, on however slow a machine."""


def folder(uid: int | None = None) -> Path:
    """A fresh folder in memory with a short path, owned by `uid`."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="fs-", dir=base))
    if uid is not None:
        os.chown(made, uid, uid)
    return made


def environment(root: Path, **more: str) -> dict[str, str]:
    """The least that a tree needs: every path below `root`, and an API server that is not there."""
    paths = {
        "RUN_DIR": root / "run",
        "NODE_SOCKET": root / "node.socket",
        "KUBECONFIG": root / "kubeconfig",
        **{f"SOURCE_{name}": root / f"source-{name}" for name in ("KES_KEY", "VRF_KEY", "OP_CERT")},
        **{f"TARGET_{name}": root / "ipc" / f"target-{name}" for name in ("KES_KEY", "VRF_KEY", "OP_CERT")},
    }
    (root / "ipc").mkdir(exist_ok=True)
    (root / "ipc").chmod(0o777)
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (root / "kubeconfig").write_text(json.dumps(kubeconfig))
    (root / "kubeconfig").chmod(0o644)
    fixed = {"METRICS_PORT": "0", "POD_NAME": "pod-0", "NODE_METRICS_URL": "http://127.0.0.1:9/metrics"}
    return {**fixed, **{name: str(path) for name, path in paths.items()}, **more}


_LIBC = ctypes.CDLL(None, use_errno=True)
_NEEDED = tuple(sorted({Path(sys.base_prefix).resolve(), Path(sys.prefix), Path(__file__).resolve().parents[2]}))


def become(uid: int | None, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
    """To be done in the child: another user, to die with us, `then`."""

    def do() -> None:
        if uid is not None:
            launch.see(reach=_NEEDED)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)
        then()

    return do


def run(root: Path, *words: str, uid: int | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """forge-manager that is expected to end by itself."""
    return subprocess.run(
        [FORGE_MANAGER, *words],
        env=environment(root, **more),
        cwd="/",
        preexec_fn=become(uid),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def visible(workers: dict[str, int]) -> dict[str, int]:
    """Those of whom /proc shows us everything: all to root; to their own user the one that is dumpable."""
    return workers if os.getuid() == 0 else {"actuator": workers["actuator"]}


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(what: Callable[[], object], why: str, seconds: float = LONG) -> None:
    """Look until true.  Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(why)
        time.sleep(0.01)


class Tree:
    """forge-manager with its workers."""

    def __init__(
        self,
        root: Path,
        *,
        uid: int | None = None,
        stdout: int | None = None,
        cwd: str = "/",
        then: Callable[[], object] = lambda: None,
        command: tuple[str, ...] = (FORGE_MANAGER,),
        **more: str,
    ) -> None:
        self.root = root
        self.log = root / "log"
        self.seen: set[int] = set()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment(root, **more),
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=cwd,
                preexec_fn=become(uid, then),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> dict[str, int]:
        """Worker -> pid; those that have begun to be one."""
        found = {}
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    words = Path(f"/proc/{word}/cmdline").read_bytes().decode(errors="replace").split("\0")
                    name = next((w[8:] for w in words if w.startswith("workers.")), "")
                    if name and alive(int(word)):
                        found[name] = int(word)
                        self.seen.add(int(word))
        return found

    def records(self, event: str = "", worker: str = "") -> list[dict[str, Any]]:
        """What was logged, as JSON; lines that are none raise ValueError."""
        *lines, _ = self.log.read_text(errors="replace").split("\n")
        found = [json.loads(line) for line in lines]
        return [r for r in found if event in ("", r["event"]) and worker in ("", r["worker"])]

    def wait_up(self, *names: str) -> dict[str, int]:
        """Until these workers (all) have said that they started, in their present lives."""
        wanted = set(names) or set(WORKERS)

        def up() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            here = self.workers()
            said = {r["pid"] for r in self.records("worker_started")}
            return all(here.get(name) in said for name in wanted)

        try:
            until(up, f"{wanted} are up")
        except TimeoutError as error:
            error.add_note(self.log.read_text()[-5000:])
            raise
        return self.workers()

    def wait_log(self, event: str, worker: str = "", count: int = 1) -> dict[str, Any]:
        """The `count`th record of this kind."""
        until(lambda: len(self.records(event, worker)) >= count, f"{count} {event}\n{self.log.read_text()[-4000:]}")
        return self.records(event, worker)[count - 1]

    def wait_end(self, seconds: float = LONG) -> int:
        """Its exit code.  Raises TimeoutExpired."""
        self.workers()
        return self.process.wait(seconds)

    def left_behind(self) -> list[int]:
        """Workers that are still there."""
        return [pid for pid in self.seen if alive(pid)]

    def close(self) -> None:
        """End it and all its workers, and wait for that."""
        watched = []
        for pid in self.workers().values():
            with contextlib.suppress(ProcessLookupError):
                watched.append((pid, os.pidfd_open(pid)))
        self.process.kill()
        self.process.wait()
        for pid, fd in watched:
            if not select.select([fd], [], [], 10)[0]:
                os.kill(pid, signal.SIGKILL)
            os.close(fd)


@contextlib.contextmanager
def tree(uid: int | None = None, **more: Any) -> Iterator[Tree]:
    """A tree in a folder of its own; gone with the block."""
    root = folder(uid)
    made = Tree(root, uid=uid, **more)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)

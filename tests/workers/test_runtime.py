"""What every worker promises: it ends at once when confused, hung, or alone; and in peace when asked."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipc.messages import Worker
from sandbox import landlock

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60
needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="no Landlock here")

_HEAD = """
import asyncio, logging, os, signal, sys, time
from pathlib import Path
from ipc.messages import Worker
from sandbox.privileges import Place, Port, Privileges
from sandbox.syscalls import Calls
from workers.runtime import Context, run_worker
PRIVILEGES = Privileges(
    worker=Worker.PROBER,
    calls=frozenset({Calls.PYTHON, Calls.THREADS, Calls.WRITE}),
    writes=frozenset({Place.OWN}),
    subscribes=frozenset({Worker.ARBITER}),
    # more
)
FOLDER = Path(os.environ["RUN_DIR"]) / "prober"
log = logging.getLogger("test")
async def forever(): await asyncio.Event().wait()
def boom(): raise ValueError("boom")
async def abroad(): raise ValueError("boom")
async def serve(context):
"""
_TAIL = "\nrun_worker(PRIVILEGES, serve, watchdog={watchdog})\n"


class Run:
    """A worker with a body of its own, as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run" / "prober").mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        body: str,
        *,
        parent: int | None = None,
        watchdog: int = 60_000_000_000,
        declares: str = "",
        before: str = "",
        **more: str,
    ) -> None:
        """before: code that runs before anything of the worker's does."""
        text = (
            before
            + _HEAD.replace("# more", declares)
            + "".join(f"    {line}\n" for line in body.strip().splitlines())
            + _TAIL.format(watchdog=watchdog)
        )
        given = {"RUN_DIR": str(self.folder / "run"), "PYTHONPATH": str(ROOT), **more}
        if parent is not None:
            given["FORGE_SUPERVISOR_PID"] = str(parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
        )

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        assert self.process is not None
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in out.decode().splitlines()], err.decode()

    def wait_for(self, message: str) -> list[dict[str, Any]]:
        """What it said before the line that says `message`; reads the log up to there."""
        assert self.process is not None
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(json.loads(line))
            if said[-1]["message"] == message:
                return said[:-1]
        raise AssertionError(f"it ended without saying {message!r}")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def do(self, body: str, **more: Any) -> tuple[int, list[dict[str, Any]], str]:
        self.start(body, **more)
        return self.end()


@pytest.fixture
def worker() -> Iterator[Run]:
    folder = Path(tempfile.mkdtemp(prefix="wr-"))
    made = Run(folder)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "body",
    [
        "boom()",
        "asyncio.get_running_loop().call_soon(boom); await forever()",
        "asyncio.create_task(abroad()); await forever()",
        "raise asyncio.CancelledError",
        "async def hang():\n    try: await forever()\n    finally: time.sleep(600)\n"
        "asyncio.create_task(hang()); await asyncio.sleep(0); boom()",
        "context.subscribe(Worker.ARBITER, boom); boom()",
    ],
    ids=["serve", "callback", "task", "cancelled", "a task that would hang the end", "subscribed"],
)
def test_anything_unforeseen_ends_a_worker_with_1_and_a_worker_fault(worker: Run, body: str) -> None:
    _faulted(*worker.do(body))


def test_a_session_without_a_token_is_said_in_words_and_is_no_fault(worker: Run) -> None:
    code, lines, _ = worker.do(
        "from kube.errors import SessionConfigError; raise SessionConfigError('no token: mount it')"
    )
    assert code == 1
    assert [each["message"] for each in lines if each["level"] == "CRITICAL"] == ["no token: mount it"]


def test_a_signal_handler_that_raises_ends_it_the_same_way(worker: Run) -> None:
    worker.start("asyncio.get_running_loop().add_signal_handler(10, boom); log.info('ready'); await forever()")
    worker.wait_for("ready")
    worker.signal(signal.SIGUSR1)
    _faulted(*worker.end())


def _faulted(code: int, said: list[dict[str, Any]], _: str) -> None:
    assert code == 1
    (fault,) = [r for r in said if r["event"] == "worker_fault"]
    assert fault["level"] == "CRITICAL"
    assert fault["worker"] == "prober"
    assert "Error" in fault.get("trace", fault["message"])


def test_asked_to_stop_it_ends_with_0_and_says_so(worker: Run) -> None:
    worker.start("log.info('ready'); await context.stopping.wait()")
    before = worker.wait_for("ready")
    worker.signal(signal.SIGTERM)
    code, said, err = worker.end()
    assert (code, err) == (0, "")
    assert [r["event"] for r in [*before, *said]] == ["worker_started", "worker_stopped"]


def test_a_sigterm_before_its_loop_runs_ends_it(worker: Run) -> None:
    worker.start("await forever()")
    assert worker.process is not None
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(PATIENCE) == -signal.SIGTERM


def test_it_dies_at_once_when_its_parent_is_not_supervisord(worker: Run) -> None:
    code, said, _ = worker.do("await forever()", parent=1)
    assert code == -signal.SIGKILL
    assert said == []


def test_a_parents_pid_that_is_none_is_no_fault(worker: Run) -> None:
    code, _, _ = worker.do("return", FORGE_SUPERVISOR_PID="none")
    assert code == 0


@pytest.mark.parametrize(
    "body",
    ["time.sleep(600)", "while True: pass"],
    ids=["blocked", "spinning"],
)
def test_a_loop_that_stands_still_is_ended_by_the_kernel(worker: Run, body: str) -> None:
    code, _, _ = worker.do(body, watchdog=500_000_000)
    assert code == -signal.SIGKILL


def test_a_stopped_process_is_ended_by_the_kernel_too(worker: Run) -> None:
    worker.start("log.info('ready'); await forever()", watchdog=3_000_000_000)
    worker.wait_for("ready")
    worker.signal(signal.SIGSTOP)
    code, _, _ = worker.end()
    assert code == -signal.SIGKILL


def test_a_loop_that_turns_is_left_alone_longer_than_the_watchdogs_patience(worker: Run) -> None:
    code, _, _ = worker.do("await asyncio.sleep(8)", watchdog=4_000_000_000)
    assert code == 0


def test_one_that_hangs_on_its_way_out_is_ended_by_the_kernel(worker: Run) -> None:
    body = "asyncio.get_running_loop().run_in_executor(None, time.sleep, 600); await asyncio.sleep(0)"
    code, said, _ = worker.do(body, watchdog=1_000_000_000)
    assert code == -signal.SIGKILL
    assert said[-1]["event"] == "worker_stopped"


def test_a_wrong_configuration_ends_it_with_2_and_names_the_variable(worker: Run) -> None:
    code, _, err = worker.do("return", LEASE_DURATION="x")
    assert code == 2
    assert err.startswith("LEASE_DURATION='x': ")


def test_a_log_that_nobody_reads_does_not_hold_its_loop(worker: Run) -> None:
    worker.start(
        "for n in range(20000): log.info('x' * 100)\n(FOLDER / 'done').touch()\nawait context.stopping.wait()",
    )
    assert worker.process is not None
    done = worker.folder / "run" / "prober" / "done"
    while not done.exists():
        assert worker.process.poll() is None
        select.select([], [], [], 0.02)
    worker.process.send_signal(signal.SIGTERM)
    code = worker.process.wait(PATIENCE)
    assert code == 0
    assert worker.process.stdout is not None
    for line in worker.process.stdout.read().split(b"\n")[:-1]:
        json.loads(line)


def test_it_leaves_no_core_and_only_private_files(worker: Run) -> None:
    code, said, _ = worker.do(
        "import resource\n(FOLDER / 'f').touch()\n"
        "log.info('x', extra={'core': resource.getrlimit(resource.RLIMIT_CORE)[1]})"
    )
    assert code == 0
    assert next(r for r in said if "core" in r)["core"] in (0, 1)
    assert (worker.folder / "run" / "prober" / "f").stat().st_mode & 0o077 == 0
    assert (worker.folder / "run" / "prober" / "state.sock").exists()


# --- the sandbox around it ---

SOURCES = "reads=frozenset({Place.SOURCES}),"


def sources(folder: Path) -> dict[str, str]:
    return {f"SOURCE_{name}": str(folder / name) for name in ("KES_KEY", "VRF_KEY", "OP_CERT")}


def test_when_its_code_begins_the_sandbox_is_closed_and_its_state_says_so(worker: Run) -> None:
    body = (
        "try: os.listdir('/')\nexcept OSError as error: log.info('root', extra={'errno': error.errno})\n"
        "log.info('sandbox', extra={'closed': context.sandbox.closed, 'separation': context.sandbox.separation})"
    )
    code, said, _ = worker.do(body)
    assert code == 0
    told = {r["message"]: r for r in said}
    assert told["sandbox"]["closed"] is True
    assert told["sandbox"]["separation"] == "single-uid"
    if landlock.abi():
        assert told["root"]["errno"] == errno.EACCES


@needs_landlock
def test_a_declared_folder_that_appears_later_starts_it_anew(worker: Run) -> None:
    secrets = worker.folder / "secrets"
    worker.start("log.info('ready'); await forever()", declares=SOURCES, **sources(secrets))
    worker.wait_for("ready")
    secrets.mkdir()
    code, said, _ = worker.end()
    assert code == 1
    assert [r["event"] for r in said] == ["place_appeared", "worker_fault"]
    assert str(secrets) in said[0]["message"]


def test_a_folder_that_is_there_is_no_reason_to_start_anew(worker: Run) -> None:
    secrets = worker.folder / "secrets"
    secrets.mkdir()
    code, said, _ = worker.do("await asyncio.sleep(3)", declares=SOURCES, **sources(secrets))
    assert code == 0
    assert "place_appeared" not in [r["event"] for r in said]


NAMES = "reads=frozenset({Place.NAMES}), connects=(Port.NODE_METRICS,), names=True,"


def names_in(folder: Path) -> str:
    """Code after which names are resolved by the files of this folder."""
    return f"import sandbox.places\nsandbox.places._NAMES = ({str(folder / 'resolv.conf')!r},)\n"


def replace(file: Path) -> None:
    """As whoever configures a host's network does it, and `sed -i`."""
    (file.parent / "new").write_text("nameserver 192.0.2.2\n")
    (file.parent / "new").rename(file)


@needs_landlock
@pytest.mark.parametrize("before", ["nameserver 192.0.2.1\n", None])
def test_a_name_file_that_is_replaced_or_comes_later_starts_it_anew_since_it_could_not_be_read(
    worker: Run, before: str | None
) -> None:
    file = worker.folder / "resolv.conf"
    if before is not None:
        file.write_text(before)
    url = {"NODE_METRICS_URL": "http://node.example:12798/metrics"}
    body = f"log.info('ready')\nwhile not os.path.exists({str(worker.folder / 'done')!r}): await asyncio.sleep(0.01)\n"
    read = f"try: open({str(file)!r})\nexcept OSError as error: log.info('read', extra={{'errno': error.errno}})\n"
    worker.start(body + read + "await forever()", declares=NAMES, before=names_in(worker.folder), **url)
    worker.wait_for("ready")
    replace(file)
    (worker.folder / "done").touch()
    code, said, _ = worker.end()
    assert code == 1
    assert (said[-1]["event"], said[-1]["path"]) == ("names_replaced", str(file))
    assert [r["errno"] for r in said if "errno" in r] == [errno.EACCES]


@needs_landlock
def test_a_name_file_that_is_edited_in_place_is_no_reason_to_start_anew(worker: Run) -> None:
    file = worker.folder / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    body = f"log.info('ready')\nawait asyncio.sleep(6)\nlog.info('read', extra={{'text': open({str(file)!r}).read()}})"
    url = {"NODE_METRICS_URL": "http://node.example:12798/metrics"}
    worker.start(body, declares=NAMES, before=names_in(worker.folder), **url)
    worker.wait_for("ready")
    file.write_text("nameserver 192.0.2.2\n")
    code, said, _ = worker.end()
    assert code == 0
    assert [r["text"] for r in said if "text" in r] == ["nameserver 192.0.2.2\n"]


def test_as_another_user_than_configured_it_ends_with_2(worker: Run) -> None:
    uids = ",".join(f"{name}={os.getuid() + 1 + n}" for n, name in enumerate(Worker))
    code, said, _ = worker.do("log.info('ready')", WORKER_UIDS=uids)
    assert code == 2
    assert [r["event"] for r in said] == ["wrong_uid"]
    assert f"runs as uid {os.getuid()}, but WORKER_UIDS says" in said[0]["message"]


def test_two_of_the_same_worker_do_not_run_at_once(worker: Run) -> None:
    hold_it = (
        "import fcntl, os, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
    )
    command = [sys.executable, "-c", hold_it + "; sys.stdin.read()", str(worker.folder / "run" / "prober" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        code, said, _ = worker.do("log.info('ready')")
        assert other.stdin is not None
        other.stdin.close()
    assert code == 1
    assert [r["event"] for r in said] == ["already_runs"]


def test_a_taken_port_ends_it_with_1_and_names_the_variable(worker: Run) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        code, said, _ = worker.do("return", declares="listens=(Port.METRICS,),", METRICS_PORT=str(port))
    assert code == 1
    assert said[0]["event"] == "port_taken"
    assert f"METRICS_PORT={port} cannot be used" in said[0]["message"]


def test_a_sandbox_that_cannot_be_closed_ends_it_with_1_and_says_why(worker: Run) -> None:
    keys = {"SOURCE_KES_KEY": str(worker.folder / "run" / "prober" / "kes.skey")}
    code, said, _ = worker.do("log.info('ready')", **keys)
    assert code == 1
    assert [r["event"] for r in said] == ["sandbox_open"]
    assert "which the prober may use, leads to SOURCE_KES_KEY" in said[0]["message"]
    assert "SANDBOX=permissive" in said[0]["message"]


def test_permissive_it_starts_all_the_same_and_its_state_says_what_is_open(worker: Run) -> None:
    keys = {"SOURCE_KES_KEY": str(worker.folder / "run" / "prober" / "kes.skey")}
    body = "log.info('sandbox', extra={'closed': context.sandbox.closed, 'missing': list(context.sandbox.missing)})"
    code, said, _ = worker.do(body, SANDBOX="permissive", **keys)
    assert code == 0
    told = next(r for r in said if r["message"] == "sandbox")
    assert told["closed"] is False
    assert "SOURCE_KES_KEY" in str(told["missing"])

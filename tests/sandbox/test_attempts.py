"""What workers try from inside: it follows from the declaration, and changes nothing even where it succeeds."""

from __future__ import annotations

import errno
import os
import platform
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mutants
import pytest
from mutants import PRIVILEGES, World

from ipc.messages import AuditRow, Worker
from kernel.inotify import Inotify
from sandbox import attempts, audit, harmless, seccomp
from sandbox import close as closing
from sandbox.attempts import Attempt, Scene
from sandbox.audit import Expect
from sandbox.close import errno_of
from sandbox.places import Endpoint
from sandbox.privileges import Port
from sandbox.syscalls import NUMBERS, Architecture, Calls, number

MACHINE = Architecture.of(platform.machine())
TARGETS = ("kes.skey", "vrf.skey", "node.cert")
ANY_EVENT = 0xFFF
UNNAMED = "#"
"""What the kernel calls a file without a name."""

pytestmark = pytest.mark.skipif(MACHINE is None, reason="no system call numbers for this machine")


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="at-") as folder:  # Unix sockets want short paths
        made = World(Path(folder))
        made.make()
        yield made


def scene(world: World, worker: Worker, *, host: str = "127.0.0.1", separation: str = "single-uid") -> Scene:
    privileges, config = PRIVILEGES[worker], world.config(host)
    api = Endpoint(("10.0.0.1",), (6443,), (world.api / "kubeconfig",))
    endpoint = api if Port.API in privileges.connects else None
    plan = closing._plan(privileges, config, endpoint)
    others = {attempts.NODE: os.getppid(), "the parent process": os.getppid(), "ourselves": os.getpid()}
    return Scene(privileges, config, endpoint, plan, separation, None, others, attempts.opened(plan))


def every(shown: Scene) -> Iterator[Attempt]:
    for kind in (attempts.files, attempts.processes, attempts.calls, attempts.network):
        yield from kind(shown)


def expected(shown: Scene) -> dict[str, Expect]:
    return {attempt.check: attempt.expect for attempt in every(shown)}


# --- what is expected ---


def test_only_the_actuator_is_expected_to_read_the_sources_and_nobody_to_write_them(world: World) -> None:
    for worker in Worker:
        found = expected(scene(world, worker))
        reads = Expect.DONE if worker is Worker.ACTUATOR else Expect.REFUSED
        for name in ("SOURCE_KES_KEY", "SOURCE_VRF_KEY", "SOURCE_OP_CERT"):
            assert found[f"read {name}"] is reads
            assert found[f"write {name}"] is Expect.REFUSED


def test_only_the_actuator_is_expected_to_replace_targets_and_nobody_to_make_plain_files_there(world: World) -> None:
    for worker in Worker:
        found = expected(scene(world, worker))
        assert found["replace TARGET_KES_KEY"] is (Expect.DONE if worker is Worker.ACTUATOR else Expect.REFUSED)
        assert found[f"make a file in {world.ipc}"] is Expect.REFUSED


def test_a_worker_is_expected_in_its_own_folder_at_most(world: World) -> None:
    for worker in Worker:
        found = expected(scene(world, worker))
        for other in set(Worker) - {worker}:
            assert found[f"read the {other}'s folder"] is Expect.REFUSED
            assert found[f"write the {other}'s folder"] is Expect.REFUSED


def test_only_who_declares_it_is_expected_to_read_the_kubeconfig_and_connect_to_the_api(world: World) -> None:
    for worker in Worker:
        found = expected(scene(world, worker))
        mine = Expect.DONE if PRIVILEGES[worker].api_token else Expect.REFUSED
        assert found["read KUBECONFIG"] is mine
        assert found["connect to TCP port 6443"] is mine
        assert found["connect to TCP port 443"] is Expect.REFUSED


def test_a_token_beside_a_kubeconfig_in_use_may_be_refused_to_those_who_declare_credentials(world: World) -> None:
    assert PRIVILEGES[Worker.ELECTOR].api_token
    assert not PRIVILEGES[Worker.PROBER].api_token
    assert expected(scene(world, Worker.ELECTOR))["read the service account's token"] is Expect.EITHER
    assert expected(scene(world, Worker.PROBER))["read the service account's token"] is Expect.REFUSED


def test_only_the_actuator_is_expected_to_signal_the_node_and_nobody_to_use_kill(world: World) -> None:
    for worker in Worker:
        found = expected(scene(world, worker))
        assert found["signal the node"] is (Expect.DONE if worker is Worker.ACTUATOR else Expect.REFUSED)
        assert found["kill the node"] is found["trace the node"] is Expect.REFUSED


def test_nobody_tries_itself(world: World) -> None:
    assert not [check for check in expected(scene(world, Worker.PROBER)) if "ourselves" in check]


def test_with_a_container_for_each_the_secrets_must_not_even_be_seen_elsewhere(world: World) -> None:
    assert expected(scene(world, Worker.PROBER, separation="containers"))["see SOURCE_KES_KEY"] is Expect.REFUSED
    assert "see SOURCE_KES_KEY" not in expected(scene(world, Worker.ACTUATOR, separation="containers"))
    assert "see SOURCE_KES_KEY" not in expected(scene(world, Worker.PROBER))


def test_threads_and_datagrams_are_expected_where_names_are_looked_up_and_only_there(world: World) -> None:
    for host, expect in (("node.example", Expect.DONE), ("127.0.0.1", Expect.REFUSED)):
        found = expected(scene(world, Worker.PROBER, host=host))
        assert found["clone a thread"] is found["socket inet datagram"] is expect
        assert found["clone a process"] is found["socket inet raw"] is Expect.REFUSED
        assert found["send to UDP port 53"] is expect
        assert found["send to UDP port 443"] is Expect.REFUSED
    assert expected(scene(world, Worker.ACTUATOR))["socket inet stream"] is Expect.REFUSED


def test_its_own_socket_stands_for_all_that_it_does_not_declare_unless_all_lie_in_the_same_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = "connect to a Unix socket outside by its path"
    for worker in Worker:
        assert expected(scene(world, worker))[check] is Expect.REFUSED
        monkeypatch.setattr(closing, "separation", lambda _: "containers")
        assert check not in expected(scene(world, worker))
        monkeypatch.undo()


def test_every_call_with_a_number_is_tried_or_has_a_reason_not_to_be() -> None:
    tried = set(harmless.ARGUMENTS) | {variant.call for variant in harmless.VARIANTS}
    assert not tried & set(harmless.NOT_TRIED)
    assert tried | set(harmless.NOT_TRIED) | Calls.PYTHON.value == set(NUMBERS)


@pytest.mark.parametrize("worker", Worker)
def test_a_call_is_expected_to_be_let_through_exactly_where_the_filters_program_does(
    world: World, worker: Worker
) -> None:
    assert MACHINE is not None
    shown = scene(world, worker, host="node.example")
    code = seccomp.program(shown.plan.permits, MACHINE)
    permits = {permit.call: permit for permit in shown.plan.permits}
    tries = [(name, arguments) for name, arguments in harmless.ARGUMENTS.items()]
    tries += [(variant.call, variant.arguments) for variant in harmless.VARIANTS]
    for name, arguments in tries:
        nr = number(name, MACHINE)
        if nr is None:
            continue
        padded = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *(0,) * (6 - len(arguments)))]
        answer = seccomp.evaluate(code, seccomp.DATA.pack(nr, MACHINE.audit, 0, *padded))
        assert harmless.permitted(permits, name, arguments) == (answer == seccomp.ALLOW), name


# --- nothing changes ---


def state_of(root: Path) -> dict[str, object]:
    """Everything about the files that anybody could have changed; reading a link's text changes its atime."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns)
        found[f"{path} changed"] = info.st_ctime_ns
        if path.is_file():
            found[f"{path} read"] = info.st_atime_ns
    return found


def state_of_ourselves() -> dict[str, object]:
    status = Path("/proc/self/status").read_text().splitlines()
    kept = (
        "Uid",
        "Gid",
        "Groups",
        "Cap",
        "NoNewPrivs",
        "Seccomp",
        "Threads",
        "SigP",
        "SigB",
        "SigI",
        "SigC",
        "Shd",
        "TracerPid",
        "Umask",
    )
    return {
        "status": [line for line in status if line.startswith(kept)],
        "files": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        "cwd": Path.cwd(),
        "group and session": (os.getpgrp(), os.getsid(0)),
        "limits": Path("/proc/self/limits").read_text(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": os.sched_getaffinity(0),
        "personality": Path("/proc/self/personality").read_text() if os.access("/proc/self/personality", 4) else "",
        "timers": (signal.getitimer(signal.ITIMER_REAL), resource.getrlimit(resource.RLIMIT_CORE)),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "host": socket.gethostname(),
    }


def changed_by(attempt: Attempt, before: dict[str, object]) -> tuple[list[str], dict[str, object]]:
    """What of ourselves is another after it, and how we are then."""
    changed: list[str] = []
    for _ in range(3):  # what is mounted on the machine others change too, but hardly at each of three attempts
        attempt.make()
        now = state_of_ourselves()
        changed = [name for name in before if before[name] != now[name]]
        before = now
        if changed != ["mounts"]:
            break
    return changed, before


def in_a_child(work: Callable[[], list[str]]) -> list[str]:
    """What went wrong there."""
    found = mutants._in_a_child(lambda: [AuditRow(text, "", "", "") for text in work()])
    assert isinstance(found, list), found
    return [row["check"] for row in found]


@pytest.mark.parametrize("worker", Worker)
def test_without_any_sandbox_every_attempt_may_succeed_and_nothing_has_changed(world: World, worker: Worker) -> None:
    def try_everything() -> list[str]:
        shown = scene(world, worker)
        for attempt in every(shown):  # once before: what the first call of each kind imports or opens is no change
            attempt.make()
        files, ours = state_of(world.root), state_of_ourselves()
        wrong = []
        for attempt in every(shown):
            changed, ours = changed_by(attempt, ours)
            wrong += [f"{attempt.check} changed our {name}" for name in changed]
        later = state_of(world.root)
        return wrong + [
            f"{path} is not as before" for path in files.keys() | later if files.get(path) != later.get(path)
        ]

    assert in_a_child(try_everything) == []


def test_without_any_sandbox_most_attempts_do_succeed(world: World) -> None:
    """Else the tests above would say nothing."""

    def try_everything() -> list[str]:
        shown = scene(world, Worker.PROBER)
        rows = [audit.row(a.check, a.way, a.expect, a.make()) for a in every(shown)]
        return [row.check for row in rows if row.verdict == audit.Verdict.EXCEEDS]

    found = in_a_child(try_everything)
    assert len(found) > 150
    wanted = {"read SOURCE_KES_KEY", "write SOURCE_KES_KEY", "replace TARGET_KES_KEY", "list /", "execve"}
    assert wanted <= set(found)


@pytest.mark.parametrize("worker", Worker)
def test_no_attempt_looks_like_the_nodes_reading_of_a_target(world: World, worker: Worker) -> None:
    for name in TARGETS:
        (world.ipc / name).unlink()
        (world.ipc / name).write_text("not a key")
    watch = Inotify()
    watch.watch(world.ipc, ANY_EVENT)

    def try_everything() -> list[str]:
        for attempt in every(scene(world, worker)):
            attempt.make()
        return []

    in_a_child(try_everything)
    assert {event.name for event in watch.read() if not event.name.startswith(UNNAMED)} <= {""}


def test_the_broadcast_address_cannot_be_connected_to_at_all() -> None:
    def connect() -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.connect((attempts._ABROAD, 80))

    assert errno_of(connect) == errno.ENETUNREACH

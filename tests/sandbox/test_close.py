"""Closing: either as declared, or a refusal that says why; each try in a process of its own."""

from __future__ import annotations

import errno
import os
import platform
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from locked_up import alone

from config import load
from devkit.privileges import DECLARED
from ipc.messages import Worker
from ipc.pubsub import listen
from kernel import identity
from sandbox import close as closing
from sandbox import landlock, seccomp
from sandbox.close import CannotClose, Closed, close, connects_to, errno_of, obstacles, reaches, separation
from sandbox.landlock import Ruleset
from sandbox.places import Endpoint
from sandbox.privileges import Privileges
from sandbox.syscalls import Architecture

PRIVILEGES = {declaration.worker: declaration for declaration in DECLARED}
UIDS = "actuator=10001,prober=10002,elector=10003,arbiter=10004,gateway=10005"
KEYS = "SOURCE_KES_KEY, SOURCE_VRF_KEY, SOURCE_OP_CERT"

pytestmark = pytest.mark.skipif(Architecture.of(platform.machine()) is None, reason="no numbers for this machine")
needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="no Landlock here")


@pytest.fixture
def pod() -> Iterator[dict[str, str]]:
    """The environment of a pod whose files are there."""
    with tempfile.TemporaryDirectory(prefix="close-", dir="/tmp") as name:
        root = Path(name).resolve()
        for folder in ("secrets", "ipc", "api", *(f"run/{worker}" for worker in Worker)):
            (root / folder).mkdir(parents=True)
        for file in ("secrets/kes.skey", "secrets/vrf.skey", "secrets/node.cert", "api/kubeconfig"):
            (root / file).write_text("secret")
        yield {
            "SOURCE_KES_KEY": f"{root}/secrets/kes.skey",
            "SOURCE_VRF_KEY": f"{root}/secrets/vrf.skey",
            "SOURCE_OP_CERT": f"{root}/secrets/node.cert",
            "TARGET_KES_KEY": f"{root}/ipc/kes.skey",
            "TARGET_VRF_KEY": f"{root}/ipc/vrf.skey",
            "TARGET_OP_CERT": f"{root}/ipc/node.cert",
            "NODE_SOCKET": f"{root}/ipc/node.socket",
            "RUN_DIR": f"{root}/run",
            "KUBECONFIG": f"{root}/api/kubeconfig",
        }
        for path in root.rglob("*"):
            path.chmod(0o700)


def shut(pod: dict[str, str], *, but: Worker) -> None:
    """To everybody, its owner included: what owners and modes do where each worker has its uid."""
    for name in ("SOURCE_KES_KEY", "SOURCE_VRF_KEY", "SOURCE_OP_CERT", "KUBECONFIG"):
        Path(pod[name]).chmod(0)
    for worker in Worker:
        if worker is not but:
            (Path(pod["RUN_DIR"]) / worker).chmod(0)


def closed(environment: dict[str, str], worker: str, change: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """What became of it: told in words that JSON carries."""
    declaration = PRIVILEGES[Worker(worker)]
    config = load(environment)
    endpoint = Endpoint(("127.0.0.1",), (6443,), (Path(environment["KUBECONFIG"]),))
    change()
    made: Closed | None = None
    why = ""
    try:
        made = close(declaration, config, endpoint if declaration.api_token else None)
    except CannotClose as error:
        why = str(error)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return {
        "why": why,
        "failures": made.failures if made else None,
        "missing": made.missing if made else None,
        "absent": made.absent if made else None,
        "seccomp": int(re.findall(r"^Seccomp:\s+(\d)", status, re.MULTILINE)[0]),
        "no_new_privs": int(re.findall(r"^NoNewPrivs:\s+(\d)", status, re.MULTILINE)[0]),
        "effective": int(re.findall(r"^CapEff:\s+(\w+)", status, re.MULTILINE)[0], 16),
        "keys": errno_of(lambda: os.close(os.open(environment["SOURCE_KES_KEY"], os.O_RDONLY))),
        "kubeconfig": errno_of(lambda: os.close(os.open(environment["KUBECONFIG"], os.O_RDONLY))),
        "own": errno_of(lambda: os.close(os.open(f"{environment['RUN_DIR']}/{worker}", os.O_RDONLY))),
        "root": errno_of(lambda: os.close(os.open("/", os.O_RDONLY))),
        "signal": errno_of(lambda: os.kill(os.getppid(), 0)),
        "port": connects_to(6443),
    }


# --- as declared ---


@needs_landlock
@pytest.mark.parametrize("worker", Worker)
def test_every_workers_sandbox_closes_as_it_declares(pod: dict[str, str], worker: Worker) -> None:
    found = alone(closed, pod, str(worker))
    declaration = PRIVILEGES[worker]
    assert (found["why"], found["failures"], found["absent"]) == ("", [], [])
    assert found["missing"] == list(landlock.missing(landlock.abi(), datagrams=False))
    assert (found["seccomp"], found["no_new_privs"], found["effective"]) == (2, 1, 0)
    assert found["root"] == errno.EACCES
    assert found["signal"] == errno.ENOSYS
    assert found["keys"] == (0 if worker is Worker.ACTUATOR else errno.EACCES)
    assert found["kubeconfig"] == (0 if declaration.api_token else errno.EACCES)
    if not declaration.internet:
        assert found["port"] == errno.ENOSYS
    elif landlock.abi() >= landlock.NET_ABI:
        assert found["port"] == (errno.EINPROGRESS if declaration.api_token else errno.EACCES)


def reaching(environment: dict[str, str], worker: str, stranger: str) -> dict[str, int]:
    """Who of those that serve a Unix socket can be connected to."""
    config = load(environment)
    api = Endpoint(("127.0.0.1",), (6443,), (Path(environment["KUBECONFIG"]),))
    close(PRIVILEGES[Worker(worker)], config, api if PRIVILEGES[Worker(worker)].api_token else None)
    siblings = {str(sibling): str(config.state_socket(sibling)) for sibling in Worker if sibling != worker}
    paths = siblings | {"the node": str(config.node_socket), "a stranger": stranger}
    return {who: reaches(path) for who, path in paths.items()}


@needs_landlock
@pytest.mark.parametrize("way", ["single-uid", "containers"])
@pytest.mark.parametrize("worker", Worker)
def test_a_worker_reaches_whom_it_follows_and_where_the_kernel_can_tell_nobody_else(
    pod: dict[str, str], worker: Worker, way: str
) -> None:
    config, declaration = load(pod), PRIVILEGES[worker]
    stranger = Path(pod["KUBECONFIG"]).with_name("socket")
    if way == "containers":
        pod |= {"WORKER_UIDS": UIDS}
    with ExitStack() as servers:
        for path in (*map(config.state_socket, Worker), config.node_socket, stranger):
            servers.enter_context(listen(path))
        found = alone(reaching, pod, str(worker), str(stranger))
    no = errno.EACCES if landlock.abi() >= landlock.UNIX_ABI else 0
    others = 0 if way == "containers" else no  # SO_PEERCRED is for them
    expected = {str(sibling): 0 if sibling in declaration.subscribes else others for sibling in Worker}
    expected |= {"the node": 0 if declaration.node_socket else no, "a stranger": no}
    del expected[str(worker)]
    assert found == expected


def absent(environment: dict[str, str]) -> list[str]:
    config = load(environment)
    return close(PRIVILEGES[Worker.ACTUATOR], config, None).absent


@needs_landlock
def test_declared_folders_that_do_not_exist_are_told(pod: dict[str, str]) -> None:
    Path(pod["TARGET_KES_KEY"]).parent.rmdir()
    assert alone(absent, pod) == [str(Path(pod["TARGET_KES_KEY"]).parent)]


@pytest.mark.parametrize(
    ("uids", "supervisor", "name"), [("", "1", "single-uid"), (UIDS, "1", "uids"), (UIDS, "", "containers")]
)
def test_the_way_it_is_separated(monkeypatch: pytest.MonkeyPatch, uids: str, supervisor: str, name: str) -> None:
    monkeypatch.setenv("FORGE_SUPERVISOR_PID", supervisor)
    assert separation(load({"WORKER_UIDS": uids})) == name


# --- what cannot be done ---


def no_landlock() -> None:
    landlock.abi = lambda: 0


def test_one_user_for_all_without_landlock_is_refused_and_nothing_has_been_given_up(pod: dict[str, str]) -> None:
    found = alone(closed, pod, "elector", no_landlock)
    assert "this kernel has no Landlock" in found["why"]
    assert "give each its uid (WORKER_UIDS)" in found["why"]
    assert (found["seccomp"], found["no_new_privs"]) == (0, 0)


def test_with_a_user_each_it_may_be_missing_and_owners_keep_them_out(pod: dict[str, str]) -> None:
    shut(pod, but=Worker.GATEWAY)
    found = alone(closed, pod | {"WORKER_UIDS": UIDS}, "gateway", no_landlock)
    assert (found["why"], found["failures"]) == ("", [])
    assert "owners and modes alone" in found["missing"][0]
    assert (found["seccomp"], found["no_new_privs"], found["effective"]) == (2, 1, 0)
    assert (found["keys"], found["own"]) == (errno.EACCES, 0)


def test_with_a_user_each_but_files_that_anybody_reads_it_is_refused(pod: dict[str, str]) -> None:
    found = alone(closed, pod | {"WORKER_UIDS": UIDS}, "gateway", no_landlock)
    assert found["why"].startswith(f"undeclared, but it can be read: {KEYS}, KUBECONFIG, the prober's folder")
    assert "take it from this worker's user, or mount it elsewhere" in found["why"]


def test_permissive_closes_what_it_can_and_says_what_it_could_not(pod: dict[str, str]) -> None:
    found = alone(closed, pod | {"SANDBOX": "permissive"}, "gateway", no_landlock)
    assert found["why"] == ""
    assert any("no Landlock" in each for each in found["failures"])
    assert any("it can be read" in each for each in found["failures"])
    assert (found["seccomp"], found["no_new_privs"], found["effective"]) == (2, 1, 0)
    assert found["keys"] == 0


def test_a_secret_where_the_worker_may_read_is_refused_before_anything_is_given_up(pod: dict[str, str]) -> None:
    environment = pod | {"KUBECONFIG": f"{pod['RUN_DIR']}/elector/kubeconfig", "RUN_DIR": pod["RUN_DIR"]}
    environment["SOURCE_KES_KEY"] = f"{pod['RUN_DIR']}/elector/kes.skey"
    found = alone(closed, environment, "elector")
    assert f"{pod['RUN_DIR']}/elector, which the elector may use, leads to SOURCE_KES_KEY" in found["why"]
    assert (found["seccomp"], found["no_new_privs"]) == (0, 0)


def an_unknown_machine() -> None:
    platform.machine = lambda: "riscv64"


def test_a_machine_without_numbers_is_refused_and_named(pod: dict[str, str]) -> None:
    assert (
        "no system call numbers for riscv64; known are x86_64 and aarch64"
        in alone(closed, pod, "gateway", an_unknown_machine)["why"]
    )


@needs_landlock
def test_a_machine_without_numbers_gets_the_rest_where_less_is_accepted(pod: dict[str, str]) -> None:
    found = alone(closed, pod | {"SANDBOX": "permissive"}, "gateway", an_unknown_machine)
    assert found["failures"] == ["no system call numbers for riscv64; known are x86_64 and aarch64"]
    assert (found["seccomp"], found["no_new_privs"], found["keys"]) == (0, 1, errno.EACCES)


def another_thread() -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()


@needs_landlock
def test_a_thread_that_is_there_already_is_refused(pod: dict[str, str]) -> None:
    assert alone(closed, pod, "gateway", another_thread)["why"] == (
        "there are threads already, which Landlock would not cover"
    )


def refusing(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def deaf(*_: object) -> None:
    return


@needs_landlock
@pytest.mark.parametrize(
    ("where", "attribute", "step"),
    [
        (identity, "no_new_privs", "no_new_privs: Operation not permitted"),
        (identity, "keep_only", "capabilities: Operation not permitted"),
        (closing, "set_dumpable", "dumpable: Operation not permitted"),
        (Ruleset, "restrict", "Landlock: Operation not permitted"),
        (seccomp, "install", "seccomp: Operation not permitted"),
    ],
)
def test_a_step_that_fails_is_refused_and_named(pod: dict[str, str], where: Any, attribute: str, step: str) -> None:
    found = alone(closed, pod, "gateway", lambda: setattr(where, attribute, refusing))
    assert step in found["why"].split("; ")
    found = alone(closed, pod | {"SANDBOX": "permissive"}, "gateway", lambda: setattr(where, attribute, refusing))
    assert step in found["failures"]


@needs_landlock
def test_landlock_that_says_yes_and_does_nothing_is_found_out(pod: dict[str, str]) -> None:
    found = alone(closed, pod | {"SANDBOX": "permissive"}, "gateway", lambda: setattr(Ruleset, "restrict", deaf))
    expected = ["Landlock: the root folder can still be read"]
    if landlock.abi() >= landlock.NET_ABI:
        expected.append("Landlock: any TCP port can still be connected to")
    if landlock.abi() >= landlock.SCOPE_ABI:
        expected.append("Landlock: processes outside can still be signalled")
        expected.append("Landlock: abstract sockets outside can still be connected to")
    assert found["failures"][:-1] == expected
    assert found["failures"][-1].startswith("undeclared, but it can be read: SOURCE_KES_KEY")


@needs_landlock
def test_a_filter_that_refuses_nothing_is_found_out(pod: dict[str, str]) -> None:
    assert alone(closed, pod, "gateway", lambda: setattr(seccomp, "install", deaf))["why"] == (
        "seccomp: the filter does not refuse"
    )


@needs_landlock
@pytest.mark.parametrize("version", range(1, 11))
def test_on_an_older_kernel_it_closes_as_far_as_that_goes_and_says_what_is_missing(
    pod: dict[str, str], version: int
) -> None:
    if version > landlock.abi():
        pytest.skip(f"the kernel has {landlock.abi()}")
    for worker in (Worker.ACTUATOR, Worker.ELECTOR, Worker.GATEWAY):
        found = alone(closed, pod, str(worker), lambda: setattr(landlock, "abi", lambda: version))
        assert (found["why"], found["failures"]) == ("", [])
        assert found["missing"] == list(landlock.missing(version, datagrams=False))
        assert found["root"] == errno.EACCES


def test_what_cannot_be_closed_on_this_machine_is_known_before_any_worker_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    (one,) = obstacles(load({}))
    assert "no Landlock" in one
    assert obstacles(load({"WORKER_UIDS": UIDS})) == ()
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert len(obstacles(load({}))) == 2


def handing_over(environment: dict[str, str]) -> list[Any]:
    """Sockets that listened before are accepted on afterwards; none can be made."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        close(PRIVILEGES[Worker.GATEWAY], load(environment), None)
        connection, _ = server.accept()
        connection.close()
        with socket.socket(socket.AF_UNIX) as unix:
            return [
                errno_of(lambda: unix.bind(f"{environment['RUN_DIR']}/gateway/x")),
                errno_of(lambda: unix.listen(1)),
            ]


@needs_landlock
def test_only_what_listens_before_can_be_connected_to_afterwards(pod: dict[str, str]) -> None:
    assert alone(handing_over, pod) == [errno.ENOSYS, errno.ENOSYS]


def signalling(environment: dict[str, str]) -> list[int]:
    pidfd = os.pidfd_open(os.getppid())
    close(PRIVILEGES[Worker.ACTUATOR], load(environment), None)
    return [
        errno_of(lambda: signal.pidfd_send_signal(pidfd, 0)),  # type: ignore[arg-type]
        errno_of(lambda: os.kill(os.getppid(), 0)),
    ]


@needs_landlock
def test_the_actuator_signals_by_descriptor_and_not_by_number(pod: dict[str, str]) -> None:
    assert alone(signalling, pod) == [0, errno.ENOSYS]


def less(environment: dict[str, str], declaration: Privileges) -> list[str]:
    try:
        return close(declaration, load(environment), None).failures
    except CannotClose as error:
        return [str(error)]


@needs_landlock
def test_who_declares_nothing_can_still_be_closed(pod: dict[str, str]) -> None:
    nothing = replace(PRIVILEGES[Worker.GATEWAY], subscribes=frozenset(), listens=())
    assert alone(less, pod, nothing) == []

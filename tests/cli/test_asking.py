"""Whom forgectl believes, what it says when nobody answers, and what it shows of uids and sandboxes."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from cli import asking, forgectl
from cli.asking import Failed, NotAllowed, NotThere
from config import load
from ipc.debug import CannotAnswer, DebugServer
from ipc.messages import DebugLogLevel, DebugWhat, GatewayState, Sandbox, Worker
from ipc.peers import Peer
from ipc.pubsub import StatePublisher, listen
from kernel import identity
from kernel.clock import boottime_ns
from kernel.process import set_dumpable
from policy import timing

PATIENCE_S = 60
US = os.getuid()
NUMBERS = {"actuator": 10001, "prober": 10002, "elector": 10003, "arbiter": 10004, "gateway": 10005}
UIDS = ",".join(f"{name}={uid}" for name, uid in NUMBERS.items())
needs_root = pytest.mark.skipif(US != 0, reason="serves as another user: needs root")
Ran = tuple[int | None, str, str]


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="as-") as folder:
        Path(folder).chmod(0o711)
        for worker in Worker:
            (Path(folder) / worker).mkdir(mode=0o711)
        yield Path(folder)


@pytest.fixture
def run(run_dir: Path) -> Callable[..., Awaitable[Ran]]:
    async def forgectl_with(*arguments: str, **variables: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.forgectl", *arguments),
            env={"RUN_DIR": str(run_dir), "POD_NAME": "p", "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
            | variables,
            cwd=Path(forgectl.__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert b"Traceback" not in err
        return process.returncode, out.decode(), err.decode()

    return forgectl_with


@pytest.fixture
async def publish(run_dir: Path) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    publishers: list[StatePublisher] = []

    async def begin(sandbox: Sandbox, *, uid: int = US) -> None:
        os.seteuid(uid)  # whoever listens is who serves, says SO_PEERCRED
        try:
            folder = run_dir / Worker.GATEWAY / "state.sock"
            made = StatePublisher(Worker.GATEWAY, folder, allowed_uids=frozenset({US, uid}), mode=0o666)
        finally:
            os.seteuid(US)
            set_dumpable(True)  # the change of uid took it away, and the tests after this one look into their own /proc
        made.sandbox = sandbox
        publishers.append(made)
        await made.start()
        made.publish(GatewayState(8123, {}))

    yield begin
    for made in publishers:
        made.close()


def row(out: str, name: str) -> str:
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    return rows[name]


# --- whom it believes ---


def config(run_dir: Path, **variables: str) -> asking.Config:
    return load({"RUN_DIR": str(run_dir), "POD_NAME": "p", **variables})


def test_with_worker_uids_each_workers_socket_is_its_uids(run_dir: Path) -> None:
    for name, uid in NUMBERS.items():
        assert asking.owner(config(run_dir, WORKER_UIDS=UIDS), Worker(name)) == uid


def test_without_worker_uids_a_socket_is_ours_or_for_root_its_folders_owners(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert asking.owner(config(run_dir), Worker.PROBER) == 4711
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert asking.owner(config(run_dir), Worker.PROBER) == US
    (run_dir / "prober").rmdir()
    with pytest.raises(NotThere, match="is the sidecar running here"):
        asking.owner(config(run_dir), Worker.PROBER)


@pytest.mark.parametrize("uid", [0, 10001, 65534], ids=["root", "a sibling", "nobody"])
def test_a_server_of_any_other_user_is_not_believed_not_even_root(run_dir: Path, uid: int) -> None:
    path = run_dir / "prober" / "state.sock"
    with pytest.raises(Failed, match=f"is served by uid {uid}, not 10002"):
        asking.believed(config(run_dir, WORKER_UIDS=UIDS), Worker.PROBER, path, Peer(1, uid, uid))
    asking.believed(config(run_dir, WORKER_UIDS=UIDS), Worker.PROBER, path, Peer(1, 10002, 10002))


@needs_root
@pytest.mark.root
async def test_root_sees_the_status_of_workers_that_have_users_of_their_own(
    run_dir: Path, run: Callable[..., Awaitable[Ran]], publish: Callable[..., Awaitable[None]]
) -> None:
    os.chown(run_dir / "gateway", NUMBERS["gateway"], NUMBERS["gateway"])
    await publish(Sandbox(closed=True, separation="uids"), uid=NUMBERS["gateway"])
    code, out, err = await run("status", WORKER_UIDS=UIDS)
    assert (code, err) == (0, "")
    assert row(out, "worker/gateway") == "alive, port 8123"
    code, out, err = await run("inspect", "gateway", "--json", WORKER_UIDS=UIDS)
    assert (code, json.loads(out)["body"]["port"]) == (0, 8123)
    code, out, err = await run("trace", "--worker", "gateway", "--count", "1", WORKER_UIDS=UIDS)
    assert (code, err) == (0, "")
    assert "port 8123" in out


async def test_a_status_that_no_worker_we_believe_gives_says_whose_it_is(
    run_dir: Path, run: Callable[..., Awaitable[Ran]], publish: Callable[..., Awaitable[None]]
) -> None:
    await publish(Sandbox())
    code, out, err = await run("status", WORKER_UIDS=UIDS)
    assert (code, out) == (1, "")
    assert f"is served by uid {US}, not 10005; does WORKER_UIDS say here what it says to the sidecar?" in err


# --- asking ---


@pytest.fixture
async def server(run_dir: Path) -> AsyncIterator[Callable[..., DebugServer]]:
    servers: list[DebugServer] = []

    def begin(parent: int | None = None) -> DebugServer:
        servers.append(DebugServer(listen(run_dir / "elector" / "debug.sock"), parent=parent))
        servers[-1].start()
        return servers[-1]

    yield begin
    for each in servers:
        each.close()


async def told(run_dir: Path, **variables: str) -> DebugLogLevel:
    return await asyncio.to_thread(
        asking.told, config(run_dir, **variables), Worker.ELECTOR, DebugWhat.LOG_LEVEL, DebugLogLevel
    )


async def test_an_answer_is_what_was_asked_for(run_dir: Path, server: Callable[..., DebugServer]) -> None:
    server().answer(DebugWhat.LOG_LEVEL, lambda _: DebugLogLevel("INFO"))
    assert await told(run_dir) == DebugLogLevel("INFO")


async def test_a_refusal_is_said_in_the_workers_words(run_dir: Path, server: Callable[..., DebugServer]) -> None:
    def refuse(_: str) -> DebugLogLevel:
        raise CannotAnswer("not on a Monday")

    server().answer(DebugWhat.LOG_LEVEL, refuse)
    with pytest.raises(Failed, match="not on a Monday"):
        await told(run_dir)


async def test_a_sibling_is_told_that_siblings_may_not_ask(
    run: Callable[..., Awaitable[Ran]], server: Callable[..., DebugServer]
) -> None:
    server(os.getpid())  # forgectl is our child: to this server a sibling worker
    code, out, err = await run("inspect", "elector", "--decisions")
    assert (code, out) == (1, "")
    assert err.startswith("forgectl: the elector does not let us ask: only the workers' own user and root may ask, ")
    assert err.endswith("and no sibling worker\n")


async def test_root_that_was_left_without_its_power_is_told_so(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in a container that drops ALL: "root may ask" would send it in circles."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    for power, said in ((False, "root without CAP_DAC_OVERRIDE may not: ask as its user"), (True, "may ask")):
        monkeypatch.setattr(identity, "has", lambda _, power=power: power)
        with pytest.raises(NotAllowed, match=said):
            await told(run_dir)


async def test_a_worker_that_does_not_answer_is_said_to_hang(
    run_dir: Path, server: Callable[..., DebugServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: str) -> DebugLogLevel:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    server().answer(DebugWhat.LOG_LEVEL, never)
    monkeypatch.setattr(asking, "PATIENCE_S", 0.2)
    with pytest.raises(Failed, match="the worker hangs"):
        await told(run_dir)


async def test_without_a_worker_the_socket_is_named(run_dir: Path) -> None:
    with pytest.raises(NotThere, match=re.escape(str(run_dir / "elector" / "debug.sock"))):
        await told(run_dir)


def test_time_that_has_run_out_is_still_a_time_to_wait() -> None:
    assert asking.left(time.monotonic() - 100) > 0


# --- the sandbox in status ---


def sandbox(**more: object) -> Sandbox:
    at = boottime_ns() - 20 * timing.SECOND
    return Sandbox(**{"closed": True, "separation": "single-uid", "audited_at": at, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (sandbox(), r"single-uid, closed; nothing missing; 0 violations, audited ([2-9]\d|\d{3,}) s ago; silent: .*"),
        (sandbox(audited_at=0), r"single-uid, closed; .*; 0 violations, not audited yet: gateway; .*"),
        (sandbox(violations=("execve", "x")), r".*; 2 violations \(gateway: 2\), audited .*"),
        (sandbox(violations=("execve",)), r".*; 1 violation \(gateway: 1\), audited .*"),
        (sandbox(missing=("no scope",)), r"single-uid, closed; missing: no scope; .*"),
        (sandbox(closed=False, missing=("no Landlock",)), r"single-uid, NOT closed: gateway; missing: no Landlock; .*"),
        (sandbox(separation="uids"), r"uids, closed; .*"),
    ],
)
async def test_the_sandbox_is_one_row_of_the_status(
    run: Callable[..., Awaitable[Ran]], publish: Callable[..., Awaitable[None]], told: Sandbox, shown: str
) -> None:
    await publish(told)
    code, out, _ = await run("status")
    assert code == 0
    assert re.fullmatch(shown, row(out, "sandbox")), row(out, "sandbox")
    assert "actuator, prober, arbiter, elector" in row(out, "sandbox")


def test_of_several_workers_the_oldest_audit_counts_and_who_is_open_is_named() -> None:
    known = {"closed": True, "separation": "uids", "missing": ["a"], "violations": [], "audited_seconds_ago": 4.0}
    shown = {"elector": known | {"audited_seconds_ago": 70.2}, "prober": known | {"closed": False, "missing": ["b"]}}
    assert forgectl._sandbox_text(shown) == "uids, NOT closed: prober; missing: a, b; 0 violations, audited 70 s ago"
    assert forgectl._sandbox_text({"elector": None}) == "unknown: every worker is silent"


# --- config ---


async def test_config_shows_worker_uids_as_they_are_written(run: Callable[..., Awaitable[Ran]]) -> None:
    rows = {row["name"]: row for row in json.loads((await run("config", "--json", WORKER_UIDS=UIDS))[1])}
    assert sorted(rows["WORKER_UIDS"]["value"].split(",")) == sorted(UIDS.split(","))
    assert rows["WORKER_UIDS"]["source"] == "environment"
    rows = {row["name"]: row for row in json.loads((await run("config", "--json"))[1])}
    assert (rows["WORKER_UIDS"]["value"], rows["WORKER_UIDS"]["source"]) == ("", "default")


async def test_the_uids_that_config_shows_can_be_given_again(run_dir: Path, run: Callable[..., Awaitable[Ran]]) -> None:
    rows = {row["name"]: row["value"] for row in json.loads((await run("config", "--json", WORKER_UIDS=UIDS))[1])}
    assert config(run_dir, WORKER_UIDS=rows["WORKER_UIDS"]).worker_uids == NUMBERS

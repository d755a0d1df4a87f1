"""`forgectl audit` as an operator meets it: workers that answer, deviate, refuse or are not there."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import auditing
from ipc.debug import CannotAnswer, DebugServer
from ipc.messages import AuditRow, DebugAudit, DebugReply, DebugWhat, ProcessView, Worker
from ipc.pubsub import listen
from workers import self_audit

from processes import Ran, begin, ended

NO_PID = 1 << 30
"""None that this machine has."""
BLIND = "from cli import auditing; auditing.look = lambda peer: None; from cli.forgectl import main; main()"
"""forgectl where /proc shows nothing: who answers here is this very process, which has no sandbox."""
SEEING = "from cli.forgectl import main; main()"
OK = AuditRow("read SOURCE_KES_KEY", "refused", "refused (EACCES)", "ok")
EXCEEDS = AuditRow("execve", "refused", "done (EFAULT)", "exceeds")


Serve = Callable[..., None]
Run = Callable[..., Awaitable[Ran]]


def answer(*rows: AuditRow, permissive: bool = False) -> DebugAudit:
    view = ProcessView(1, (1,) * 4, (1,) * 4, (), 0, 0, 0, 0, 0, 1, 2, 1, 1, 0, 0, 0, files=("3 /x",), mounts=("/",))
    told = AuditRow("dumpable", "0", "0", "ok")
    return DebugAudit("single-uid", permissive, view, rows or (OK,), (), (), (), (told,), 5_000_000, 900_000)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="au-") as folder:  # Unix sockets want short paths
        for worker in Worker:
            (Path(folder) / worker).mkdir()
        yield Path(folder)


@pytest.fixture
async def serve(run_dir: Path) -> AsyncIterator[Serve]:
    servers = []

    def begin(*workers: Worker, reply: DebugReply | Exception | None = None) -> None:
        for worker in workers:
            server = DebugServer(listen(run_dir / worker / "debug.sock"), parent=None)

            def give(_: str) -> DebugReply:
                if isinstance(reply, Exception):
                    raise reply
                return reply if reply is not None else answer()

            server.answer(DebugWhat.AUDIT, give)
            server.start()
            servers.append(server)

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def run(run_dir: Path) -> Run:
    async def forgectl(*arguments: str, program: str = BLIND, **variables: str) -> Ran:
        given = {"RUN_DIR": str(run_dir), "POD_NAME": "p", "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
        return await ended(await begin(given | variables, "audit", *arguments, program=("-c", program)))

    return forgectl


async def test_workers_within_their_declarations_are_green_and_shown_in_a_line_each(run: Run, serve: Serve) -> None:
    serve(*Worker)
    ran = await run()
    assert (ran.code, ran.err) == (0, "")
    assert all(f"{worker} " in ran.out for worker in Worker)
    assert "green" in ran.out
    assert "VERDICT" not in ran.out


async def test_one_excess_of_one_worker_ends_with_1_and_is_named(run: Run, serve: Serve) -> None:
    serve(*set(Worker) - {Worker.GATEWAY})
    serve(Worker.GATEWAY, reply=answer(OK, EXCEEDS))
    ran = await run()
    assert ran.code == 1
    assert "NOT green: gateway" in ran.out
    (line,) = [line for line in ran.out.splitlines() if "execve" in line]
    assert line.split()[-2:] == ["exceeds", "worker"]
    assert "SOURCE_KES_KEY" not in ran.out


@pytest.mark.parametrize("verdict", ["lacks", "unclear", "something new"])
async def test_whatever_is_neither_ok_nor_excused_is_not_green(run: Run, serve: Serve, verdict: str) -> None:
    serve(Worker.PROBER, reply=answer(dataclasses.replace(OK, verdict=verdict)))
    assert (await run("--worker", "prober")).code == 1


async def test_what_the_kernel_cannot_refuse_is_told_and_green(run: Run, serve: Serve) -> None:
    why = AuditRow("this kernel", "enough", "no scope for signals", "excused")
    tried = AuditRow("connect to an abstract socket outside", "refused", "done", "excused")
    serve(Worker.PROBER, reply=answer(why, tried))
    ran = await run("--worker", "prober")
    assert ran.code == 0
    assert "this kernel: no scope for signals" in ran.out
    assert "2 excused" in ran.out
    assert ran.out.count("this kernel") == 1


async def test_a_worker_that_is_not_there_is_never_green(run: Run, serve: Serve) -> None:
    serve(*set(Worker) - {Worker.ARBITER})
    ran = await run()
    assert ran.code == 1
    assert "arbiter   NOT AUDITED" in ran.out


async def test_a_worker_that_cannot_audit_itself_is_never_green_and_says_why(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER, reply=CannotAnswer("no audit could be made: too many open files"))
    ran = await run("--worker", "prober")
    assert ran.code == 1
    assert "too many open files" in ran.out


async def test_a_worker_that_closes_the_door_is_never_green(run: Run, run_dir: Path) -> None:
    server = DebugServer(listen(run_dir / "prober" / "debug.sock"), parent=os.getpid())  # we are its siblings' parent
    server.start()
    ran = await run("--worker", "prober")
    server.close()
    assert ran.code == 1
    assert "NOT AUDITED" in ran.out


async def test_a_worker_served_by_another_user_than_configured_is_not_believed(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER)
    uids = "actuator=10001,prober=10002,elector=10003,arbiter=10004,gateway=10005"
    ran = await run("--worker", "prober", WORKER_UIDS=uids)
    assert ran.code == 1
    assert "not 10002" in ran.out


async def test_only_the_worker_asked_for_counts(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER)
    ran = await run("--worker", "prober")
    assert ran.code == 0
    assert "elector" not in ran.out


async def test_what_the_kernel_shows_counts_whatever_the_worker_says_of_itself(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER)
    ran = await run("--worker", "prober", "--json", program=SEEING)
    shown = json.loads(ran.out)["workers"]["prober"]
    assert ran.code == 1
    rows = {row["check"]: row for row in shown["rows"]}
    assert (rows["seccomp mode"]["verdict"], rows["seccomp mode"]["said_by"]) == ("exceeds", "kernel")
    assert rows["read SOURCE_KES_KEY"]["said_by"] == "worker"
    assert shown["pid"] == os.getpid()
    if os.getuid() == 0:  # of root's own processes /proc does not tell it
        assert rows["dumpable"]["said_by"] == "worker"


async def test_json_has_every_row_and_both_witnesses_views(run: Run, serve: Serve) -> None:
    serve(*Worker)
    ran = await run("--json")
    shown = json.loads(ran.out)
    assert (ran.code, shown["green"]) == (0, True)
    prober: dict[str, Any] = shown["workers"]["prober"]
    assert prober["rows"][0] == {**dataclasses.asdict(OK), "said_by": "worker"}
    assert prober["counts"]["ok"] == 2
    assert prober["view"]["kernel"] is None
    assert prober["view"]["worker"]["mounts"] == ["/"]
    assert (prober["took_ms"], prober["longest_ms"], prober["permissive"]) == (5.0, 0.9, False)


async def test_json_of_a_worker_that_was_not_audited_says_so(run: Run) -> None:
    ran = await run("--json", "--worker", "prober")
    shown = json.loads(ran.out)
    assert (ran.code, shown["green"], shown["workers"]["prober"]["green"]) == (1, False, False)
    assert shown["workers"]["prober"]["problem"]


async def test_all_shows_every_row(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER)
    ran = await run("--all", "--worker", "prober")
    assert "SOURCE_KES_KEY" in ran.out
    assert "refused (EACCES)" in ran.out


async def test_permissive_is_said(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER, reply=answer(permissive=True))
    assert "SANDBOX=permissive" in (await run("--worker", "prober")).out


async def test_nothing_a_worker_says_speaks_to_the_terminal(run: Run, serve: Serve) -> None:
    serve(Worker.PROBER, reply=answer(dataclasses.replace(EXCEEDS, got="/tmp/\x1b[2Jx")))
    assert "\x1b" not in (await run("--worker", "prober")).out


async def test_no_such_worker_is_a_mistake_in_usage(run: Run) -> None:
    assert (await run("--worker", "nobody")).code == 2


def test_a_process_of_ours_can_be_looked_at_from_outside() -> None:
    from ipc.peers import Peer

    seen = auditing.look(Peer(os.getpid(), os.getuid(), os.getgid()))
    assert seen is not None
    itself = self_audit.view_of_ourselves()
    assert (seen.uids, seen.seccomp, seen.core_limit) == (itself.uids, itself.seccomp, itself.core_limit)
    assert seen.files
    assert auditing.look(Peer(NO_PID, 0, 0)) is None

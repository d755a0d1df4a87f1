"""A worker tries, now and then and when asked, what it must not be able to do.

`SelfAudit` promises: nothing is changed by it (`sandbox.attempts`), and the event loop goes on meanwhile; every state
of the worker says what came of it.  The first time shortly after the start, then at a low rate; siblings' sockets
are knocked at only when somebody asks for the audit, since each knock is a line in their log.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from config import Config
from ipc.complaints import Complaint
from ipc.debug import CannotAnswer, DebugServer
from ipc.frames import frame
from ipc.messages import (
    ActuatorState,
    AuditRow,
    Body,
    DebugAudit,
    DebugRequest,
    DebugWhat,
    ProcessView,
    ProtocolError,
    Worker,
    encode,
)
from ipc.peers import parent_of
from ipc.pubsub import StatePublisher, Subscription
from kernel.clock import boottime_ns
from kernel.libc import LIBC
from sandbox import attempts, audit
from sandbox.attempts import Attempt, Scene
from sandbox.audit import Expect, NotAView, Standard, Way
from sandbox.close import Closed
from sandbox.privileges import Privileges, Socket
from workers import logs
from workers.tasks import fail_stop

log = logging.getLogger("audit")

FIRST_S: Final = 20.0
EVERY_S: Final = 600.0
SPREAD: Final = 0.1
"""Of EVERY_S: so that the workers of a pod, and the pods of a pool, do not audit in step."""
SLICE_NS: Final = 1_000_000
"""The loop gets its turn when the attempts of one go took this long."""
KNOCK_S: Final = 2.0
MOST_TOLD: Final = 32
SUPERVISOR: Final = "the supervisor"
_PR_GET_DUMPABLE: Final = 3


class SelfAudit:
    """The audits of one worker, from inside."""

    def __init__(
        self,
        privileges: Privileges,
        config: Config,
        closed: Closed,
        publisher: StatePublisher,
        subscriptions: list[Subscription],
        *,
        parent: int | None,
    ) -> None:
        """parent: pid of the supervisor whose children are our siblings; None: none."""
        self._privileges, self._config, self._closed = privileges, config, closed
        self._publisher, self._subscriptions = publisher, subscriptions
        self._parent = parent
        self._failing = Complaint(log, "audit_failed", "no audit could be made", level=logging.ERROR)
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self, server: DebugServer) -> None:
        """Audit from time to time, and answer who asks."""
        server.answer(DebugWhat.AUDIT, self._asked)
        self._task = asyncio.get_running_loop().create_task(self._regularly(), name="self-audit")
        self._task.add_done_callback(fail_stop)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _regularly(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                await self.audit(knock=False)
            except (OSError, NotAView) as error:  # no descriptors left, /proc hidden: the next one may be better
                self._failing.again(why=str(error))
            else:
                self._failing.over()
            await asyncio.sleep(EVERY_S * random.uniform(1 - SPREAD, 1 + SPREAD))  # noqa: S311  # no secret

    async def _asked(self, argument: str) -> DebugAudit:
        try:
            return _fitting(await self.audit(knock=True))
        except (OSError, NotAView) as error:
            raise CannotAnswer(f"no audit could be made: {error}") from None

    async def audit(self, *, knock: bool) -> DebugAudit:
        """Try everything now; every state says what came of it from then on.  Raises OSError, NotAView.

        knock: at the sockets of siblings too.
        """
        async with self._one_at_a_time:
            found = await self._attempt(knock=knock)
        self._tell(audit.violations(audit.rows_of(found)))
        return found

    async def _attempt(self, *, knock: bool) -> DebugAudit:
        begun = boottime_ns()
        pace = _Pace()
        processes = await self._others(pace)
        await pace.turn()
        scene = Scene(
            privileges=self._privileges,
            config=self._config,
            endpoint=self._closed.endpoint,
            plan=self._closed.plan,
            separation=self._closed.separation,
            stranger=self._closed.stranger,
            processes=processes,
            opened=attempts.opened(self._closed.plan),
        )
        await pace.turn()
        files = await self._make(attempts.files(scene), pace)
        others = await self._make(attempts.processes(scene), pace)
        calls = await self._make(attempts.calls(scene), pace)
        network = await self._make(attempts.network(scene), pace)
        await pace.turn()
        seen = view_of_ourselves()
        itself = (*self._of_closing(), *audit.examine(seen, self._standard(scene)))
        pace.stop()
        if knock:
            others = (*others, *await self._knock())
        return DebugAudit(
            separation=self._closed.separation,
            permissive=self._config.sandbox == "permissive",
            view=seen,
            files=files,
            processes=others,
            calls=calls,
            network=network,
            itself=itself,
            took_ns=boottime_ns() - begun,
            longest_ns=pace.longest_ns,
        )

    async def _make(self, these: Iterable[Attempt], pace: _Pace) -> tuple[AuditRow, ...]:
        rows = []
        for each in these:
            able = self._closed.abi >= each.abi
            rows.append(audit.row(each.check, each.way, each.expect, each.make(), enforceable=able))
            await pace.turn()
        return tuple(rows)

    def _of_closing(self) -> list[AuditRow]:
        """What could not be closed (permissive), and what this kernel cannot."""
        open_ = [AuditRow("closing the sandbox", "closed", why, audit.Verdict.EXCEEDS) for why in self._closed.failures]
        missing = [AuditRow(audit.THIS_KERNEL, "enough", why, audit.Verdict.EXCUSED) for why in self._closed.missing]
        return [*open_, *missing]

    def _standard(self, scene: Scene) -> Standard:
        own = self._config.worker_dir(self._privileges.worker)  # its lock and sockets are open from before
        return Standard(
            privileges=self._privileges,
            separation=self._closed.separation,
            uid=self._config.worker_uids.get(self._privileges.worker, os.getuid()),
            threads=any(permit.call == "clone" for permit in self._closed.plan.permits),
            reach=(*scene.opened, Path(os.path.realpath(own))),
        )

    def _tell(self, violations: tuple[str, ...]) -> None:
        before = self._publisher.sandbox
        kept = tuple(map(logs.cut, violations[:MOST_TOLD]))
        self._publisher.sealed(dataclasses.replace(before, violations=kept, audited_at=boottime_ns()))
        if kept == before.violations:
            return
        if violations:
            what = "this worker can do what it does not declare: %s"
            log.error(what, logs.cut("; ".join(kept)), extra={"event": "privilege_violation", "count": len(violations)})
        else:
            log.info("nothing beyond the declaration any more", extra={"event": "privileges_kept"})

    # --- who else there is ---

    async def _others(self, pace: _Pace) -> dict[str, int]:
        """The node, our parent, and our siblings by their names; those in other pid namespaces cannot be tried."""
        found = {SUPERVISOR if self._parent is not None else "the parent process": os.getppid()}
        if (node := self._node()) > 0:
            found[attempts.NODE] = node
        names = {f"forge-{worker}": worker for worker in Worker if worker is not self._privileges.worker}
        for entry in os.listdir("/proc"):  # noqa: PTH208
            if not entry.isdecimal():
                continue
            await pace.turn()
            worker = names.get(_comm(int(entry)))
            if worker is not None and (self._parent is None or parent_of(int(entry)) == self._parent):
                found[f"the {worker}"] = int(entry)
        return found

    def _node(self) -> int:
        """Its pid as the actuator knows it; 0: none."""
        bodies: list[Body | None] = [self._publisher.body]  # the actuator's own
        bodies += [state.body for each in self._subscriptions if (state := each.last()) is not None]
        for body in bodies:
            if isinstance(body, ActuatorState) and body.node is not None:
                return body.node.pid
        return 0

    # --- siblings' sockets ---

    async def _knock(self) -> list[AuditRow]:
        rows = []
        for worker in Worker:
            if worker is self._privileges.worker:
                continue
            doors = [(Socket.DEBUG, self._config.debug_socket(worker))]
            if worker is Worker.ELECTOR:
                doors.append((Socket.COMMAND, self._config.command_socket))
            for door, path in doors:
                code = await _knock_at(path, door)
                rows.append(audit.row(f"use the {worker}'s {door.value}", Way.FILE, Expect.REFUSED, code))
        return rows


class _Pace:
    """Lets the loop turn often enough, and knows the longest time it had to wait."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self._begun = time.perf_counter_ns()

    async def turn(self) -> None:
        """Let others run if it is time."""
        if time.perf_counter_ns() - self._begun >= SLICE_NS:
            self.stop()
            await asyncio.sleep(0)
            self._begun = time.perf_counter_ns()

    def stop(self) -> None:
        self.longest_ns = max(self.longest_ns, time.perf_counter_ns() - self._begun)


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(64).decode("ascii", "replace").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or hidden (hidepid)
        return ""


async def _knock_at(path: Path, door: Socket) -> int:
    """EACCES: not let in; 0: let in; EAGAIN: it does not say.  Asks for what every worker answers: its log level."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            async with asyncio.timeout(KNOCK_S):
                await loop.sock_connect(sock, str(path))
                if door is Socket.DEBUG:
                    await loop.sock_sendall(sock, frame(encode(DebugRequest(DebugWhat.LOG_LEVEL))))
                return 0 if await loop.sock_recv(sock, 1) else errno.EACCES
        except TimeoutError:
            return errno.EAGAIN if door is Socket.DEBUG else 0
        except ConnectionRefusedError:  # a file that nobody serves
            return errno.ENOENT
        except ConnectionError:
            return errno.EACCES
        except OSError as error:
            return error.errno or errno.EINVAL


def _fitting(found: DebugAudit) -> DebugAudit:
    """With every row if a frame can hold them, else with those that deviate."""
    try:
        encode(found)
    except ProtocolError:
        return dataclasses.replace(
            found,
            view=dataclasses.replace(found.view, files=None, mounts=()),
            files=audit.deviations(found.files)[:MOST_TOLD],
            processes=audit.deviations(found.processes)[:MOST_TOLD],
            calls=audit.deviations(found.calls)[:MOST_TOLD],
            network=audit.deviations(found.network)[:MOST_TOLD],
            itself=audit.deviations(found.itself)[:MOST_TOLD],
        )
    return found


# --- ourselves ---


def view_of_ourselves() -> ProcessView:
    """As the kernel shows us to ourselves.  Raises OSError, NotAView."""
    texts = {name: Path(f"/proc/self/{name}").read_text("utf-8", "replace") for name in _TEXTS}
    return audit.view(os.getpid(), **texts, files=_open_files(), dumpable=int(LIBC.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)))


_TEXTS: Final = ("status", "limits", "mountinfo")


def _open_files() -> list[str]:
    """`number target` of each, sockets with what they are."""
    found = []
    for entry in sorted(os.listdir("/proc/self/fd"), key=int):  # noqa: PTH208
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115
        except FileNotFoundError:  # the folder that was just listed
            continue
        found.append(f"{entry} {_socket_text(int(entry)) if target.startswith('socket:') else target}")
    return found


def _socket_text(fd: int) -> str:
    """`socket unix stream listening /run/...`"""
    with socket.socket(fileno=os.dup(fd)) as sock:
        family = getattr(sock.family, "name", str(sock.family)).removeprefix("AF_").lower()
        kind = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "datagram"}.get(sock.type, "other")
        listening = " listening" if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else ""
        return f"socket {family} {kind}{listening} {_address(sock.getsockname)} {_address(sock.getpeername)}".rstrip()


def _address(ask: Callable[[], object]) -> str:
    try:
        address = ask()
    except OSError:  # no peer
        return ""
    if isinstance(address, tuple):
        return ":".join(map(str, address[:2]))
    if isinstance(address, bytes):  # an abstract one
        return "@" + address[1:].decode("ascii", "replace")
    return str(address)

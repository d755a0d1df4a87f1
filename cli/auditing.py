"""`forgectl audit`: does each worker hold exactly what it declares?

Two witnesses: the worker itself, which is asked to try (its attempts, and what only it can see), and the kernel, as
/proc shows the worker to us.  Every row says who said it.  Green means that nothing exceeds its declaration, nothing
declared is refused, and every worker that was asked for could be audited; anything else ends with exit code 1.
"""

from __future__ import annotations

import ssl  # noqa: F401  # first: some workers forbid it to whatever is imported after them

# isort: split
import argparse
import dataclasses
import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli import asking
from cli.asking import Failed, columns, printable
from config import Config
from ipc.messages import (
    AuditRow,
    DebugAudit,
    DebugWhat,
    ProcessView,
    Worker,
)
from ipc.peers import Peer, peer_of
from sandbox import attempts, audit
from sandbox.audit import NotAView, Standard, Verdict
from sandbox.privileges import Privileges
from workers import actuator, arbiter, elector, gateway, prober

PATIENCE_S: Final = 20.0
"""For all workers together; an audit takes some tens of milliseconds, and 2 s where a sibling does not answer."""
DECLARED: Final[dict[Worker, Privileges]] = {
    module.PRIVILEGES.worker: module.PRIVILEGES for module in (actuator, prober, elector, arbiter, gateway)
}
KERNEL, WORKER = "kernel", "worker"


@dataclass(frozen=True, slots=True)
class Said:
    """A row, and whose word it is."""

    row: AuditRow
    by: str


@dataclass(frozen=True, slots=True)
class Audited:
    """What is known of one worker."""

    worker: Worker
    problem: str = ""
    """Why it could not be audited; empty: it could."""
    pid: int = 0
    """0: in a pid namespace that we do not see."""
    told: DebugAudit | None = None
    seen: ProcessView | None = None
    """From outside, by the kernel; None: /proc does not show it to us."""
    rows: tuple[Said, ...] = ()

    @property
    def deviations(self) -> tuple[Said, ...]:
        return tuple(each for each in self.rows if each.row.verdict not in (Verdict.OK, Verdict.EXCUSED))

    @property
    def green(self) -> bool:
        return not self.problem and self.told is not None and not self.deviations


def command(config: Config, arguments: argparse.Namespace) -> None:
    """Audit, print, exit 1 unless green.  Raises Failed where there is no sidecar."""
    asking.need_sidecar(config)
    workers = (Worker(arguments.worker),) if arguments.worker else tuple(Worker)
    found = examine(config, workers)
    print(json.dumps(_as_json(found), indent=2) if arguments.json else _as_table(found, every=arguments.all))
    if not all(each.green for each in found):
        sys.stdout.flush()
        sys.exit(1)


# --- asking the workers ---


def examine(config: Config, workers: Iterable[Worker]) -> list[Audited]:
    """Ask all of them at once, look at each from outside; in at most PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    asked: dict[Worker, socket.socket] = {}
    found: dict[Worker, Audited] = {}
    try:
        for worker in workers:
            try:
                asked[worker] = asking.ask(config, worker, DebugWhat.AUDIT, until)
            except Failed as why:
                found[worker] = Audited(worker, problem=str(why))
        for worker, sock in asked.items():
            found[worker] = _one(config, worker, sock, until)
    finally:
        for sock in asked.values():
            sock.close()
    return [found[worker] for worker in workers]


def _one(config: Config, worker: Worker, sock: socket.socket, until: float) -> Audited:
    try:
        told = asking.answer(config, worker, DebugWhat.AUDIT, sock, until, DebugAudit)
    except Failed as why:
        return Audited(worker, problem=str(why))
    peer = peer_of(sock)
    standard = Standard(
        privileges=DECLARED[worker],
        separation=told.separation if told.separation in _possible(config) else _possible(config)[0],
        uid=config.worker_uids.get(worker, peer.uid),
        threads=DECLARED[worker].names,
        reach=attempts.reach(DECLARED[worker], config),
    )
    seen = look(peer) if peer.pid else None  # the kernel's word for who it is, never its own
    return Audited(worker, pid=peer.pid, told=told, seen=seen, rows=_rows(told, seen, standard))


def _possible(config: Config) -> tuple[str, ...]:
    """The ways to run that this configuration leaves."""
    return ("uids", "containers") if config.worker_uids else ("single-uid",)


def _rows(told: DebugAudit, seen: ProcessView | None, standard: Standard) -> tuple[Said, ...]:
    """The kernel's word where we have it; the worker's for the rest."""
    kernels = audit.examine(seen, standard) if seen is not None else ()
    known = {row.check for row in kernels if not row.got.startswith("socket:")}
    found = [Said(row, WORKER) for row in (*told.files, *told.processes, *told.calls, *told.network)]
    found += [Said(row, WORKER) for row in told.itself if row.check not in known]
    return (*found, *(Said(row, KERNEL) for row in kernels if row.check in known))


# --- looking from outside ---


def look(peer: Peer) -> ProcessView | None:
    """The process as /proc shows it to us; None: it does not.  Its open files are shown to root (CAP_SYS_PTRACE)."""
    folder = Path(f"/proc/{peer.pid}")
    try:
        texts = {name: (folder / name).read_text("utf-8", "replace") for name in ("status", "limits", "mountinfo")}
        return audit.view(peer.pid, **texts, files=_files(folder), dumpable=_dumpable(folder, peer))
    except (OSError, NotAView):
        return None


def _files(folder: Path) -> list[str] | None:
    found = []
    try:
        for entry in sorted((folder / "fd").iterdir(), key=lambda path: int(path.name)):
            try:
                found.append(f"{entry.name} {os.readlink(entry)}")  # noqa: PTH115
            except FileNotFoundError:  # closed meanwhile
                continue
    except PermissionError:
        return None
    return found


def _dumpable(folder: Path, peer: Peer) -> int:
    """What is not dumpable belongs to root below /proc (proc(5)); of root's own processes that says nothing."""
    return -1 if peer.uid == 0 else int((folder / "environ").stat().st_uid != 0)


# --- telling ---


def _as_json(found: list[Audited]) -> dict[str, Any]:
    return {
        "green": all(each.green for each in found),
        "workers": {
            str(each.worker): {
                "green": each.green,
                "problem": each.problem or None,
                "pid": each.pid or None,
                "separation": each.told.separation if each.told else None,
                "permissive": each.told.permissive if each.told else None,
                "took_ms": round(each.told.took_ns / 1e6, 3) if each.told else None,
                "longest_ms": round(each.told.longest_ns / 1e6, 3) if each.told else None,
                "counts": audit.counts(said.row for said in each.rows),
                "rows": [dataclasses.asdict(said.row) | {"said_by": said.by} for said in each.rows],
                "view": {
                    KERNEL: dataclasses.asdict(each.seen) if each.seen else None,
                    WORKER: dataclasses.asdict(each.told.view) if each.told else None,
                },
            }
            for each in found
        },
    }


def _as_table(found: list[Audited], *, every: bool) -> str:
    lines = [_summary(each) for each in found]
    rows = [
        (str(each.worker), said.row.check, said.row.expected, said.row.got, said.row.verdict, said.by)
        for each in found
        for said in (each.rows if every else each.deviations)
    ]
    if rows:
        lines += ["", *columns([("WORKER", "CHECK", "EXPECTED", "GOT", "VERDICT", "SAID BY"), *rows])]
    excused = sorted({said.row.got for each in found for said in each.rows if said.row.check == audit.THIS_KERNEL})
    lines += [f"{audit.THIS_KERNEL}: {printable(text)}" for text in excused] if not every else []
    if all(each.green for each in found):
        return "\n".join([*lines, "", "green: every worker asked for holds what it declares, and nothing else"])
    bad = ", ".join(str(each.worker) for each in found if not each.green)
    return "\n".join([*lines, "", f"NOT green: {bad}"])


def _summary(each: Audited) -> str:
    if each.told is None:
        return f"{each.worker:<9} NOT AUDITED: {printable(each.problem)}"
    counts = audit.counts(said.row for said in each.rows)
    pid = f"pid {each.pid}" if each.pid else "in another pid namespace"
    text = f"{each.worker:<9} {pid}, {each.told.separation}: {counts[Verdict.OK]} of {len(each.rows)} checks ok"
    text += "".join(f", {counts[v]} {v}" for v in Verdict if v is not Verdict.OK and counts[v])
    if each.told.permissive:
        text += "; SANDBOX=permissive"
    return text if each.seen is not None else text + "; on its own word alone"

"""The tables of docs/privileges.md, from the workers' own declarations: what is written there is what is enforced."""

from __future__ import annotations

import ssl  # noqa: F401  # first: some workers forbid it to whatever is imported after them

# isort: split
from collections.abc import Iterable
from enum import Enum
from typing import Final

from sandbox.privileges import Place, Port, Privileges
from sandbox.syscalls import Calls
from workers import actuator, arbiter, elector, gateway, prober

COLUMNS: Final = {
    "`prober`": prober.PRIVILEGES,
    "`prober` with NOTIFY_URL": prober.NOTIFYING,
    **{f"`{each.worker}`": each for each in (elector.PRIVILEGES, arbiter.PRIVILEGES, actuator.PRIVILEGES)},
    "`gateway`": gateway.PRIVILEGES,
}
DECLARED: Final = (
    prober.PRIVILEGES,
    elector.PRIVILEGES,
    arbiter.PRIVILEGES,
    actuator.PRIVILEGES,
    gateway.PRIVILEGES,
)


def worker_table() -> str:
    """What each worker declares, in Markdown."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for what, cell in (
        ("reads", lambda p: _names(p.reads - p.writes)),
        ("reads and writes", lambda p: _names(p.writes)),
        ("keeps mapped, to write", lambda p: "`ledger`" if p.keeps else ""),
        ("serves", lambda p: ", ".join(f"`{socket.value}`" for socket in p.serves)),
        ("follows the state of", lambda p: ", ".join(sorted(p.subscribes))),
        ("connects to the node's socket", lambda p: _yes(p.node_socket)),
        ("listens on TCP", lambda p: _names(p.listens)),
        ("connects by TCP to", lambda p: _names(p.connects)),
        ("looks up names", lambda p: _yes(p.names)),
        ("signals", lambda p: "the node" if p.signals else ""),
        ("API token", lambda p: _yes(p.api_token)),
        ("dumpable", lambda p: _yes(p.dumpable)),
        ("system calls", _calls),
    ):
        lines.append(f"| {what} | " + " | ".join(cell(each) or "-" for each in COLUMNS.values()) + " |")
    return "\n".join(lines)


def _names(things: Iterable[Place | Port]) -> str:
    return ", ".join(sorted(thing.value for thing in things))


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _calls(declared: Privileges) -> str:
    groups = set(declared.calls)
    looked_up = {Calls.THREADS, Calls.NAMES} if declared.names else set()
    return ", ".join([*_sorted(groups), *(f"({name})" for name in _sorted(looked_up - groups))])


def _sorted(groups: Iterable[Enum]) -> list[str]:
    return sorted(group.name for group in groups)


def call_table() -> str:
    """What is in each group of system calls."""
    lines = ["| group | system calls |", "|---|---|"]
    lines += [f"| {group.name} | {' '.join(sorted(group.value))} |" for group in Calls]
    return "\n".join(lines)

"""`forgectl inspect`, `forgectl log-level` and `forgectl trace`: what the workers know, did, and say to each other.

Nothing here changes a worker but `log-level` with a level.  States come from the state sockets, everything else from
the debug sockets; what must not be shown of them is masked (ipc/shown.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from cli import asking
from cli.asking import PATIENCE_S, Failed, columns, connect, first, frames, printable, state_of, timestamp
from config import Config
from ipc.messages import (
    DEBUG_REPLIES,
    DebugCounters,
    DebugDecisions,
    DebugLogLevel,
    DebugSubscriptions,
    DebugTasks,
    DebugWhat,
    Decision,
    Worker,
)
from policy import timing

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


def add_commands(commands: Any, seconds: Callable[[str], float]) -> None:
    """Add them to forgectl's (what `add_subparsers` gave).  seconds: parses a number of seconds above 0."""
    workers = [str(worker) for worker in Worker]
    inspect = commands.add_parser("inspect", help="one worker's state as it is, as JSON; or what it did and does")
    inspect.add_argument("worker", choices=workers)
    inspect.add_argument("--json", action="store_true", help="as JSON on one line")
    how = inspect.add_mutually_exclusive_group()
    how.add_argument("--follow", action="store_true", help="each state as it comes, a JSON object a line")
    for what, text in (
        (DebugWhat.DECISIONS, "what it did and noticed last, and why"),
        (DebugWhat.SUBSCRIPTIONS, "whom it follows, and who follows it"),
        (DebugWhat.COUNTERS, "what it counted since its start"),
        (DebugWhat.TASKS, "what it waits for now"),
    ):
        how.add_argument(f"--{what}", dest="what", action="store_const", const=what, help=text)
    inspect.set_defaults(command=_inspect)
    level = commands.add_parser("log-level", help="what a worker logs; with LEVEL: from now until it ends")
    level.add_argument("worker", choices=workers)
    level.add_argument("level", nargs="?", type=str.upper, choices=LEVELS, metavar="LEVEL", help=", ".join(LEVELS))
    level.add_argument("--json", action="store_true")
    level.set_defaults(command=_log_level)
    trace = commands.add_parser("trace", help="what the workers tell each other, live: what changed, a line each")
    trace.add_argument("--worker", action="append", choices=workers, help="this one only; may be repeated")
    trace.add_argument("--for", dest="seconds", type=seconds, metavar="SECONDS", help="end after this time")
    trace.add_argument("--count", type=_count, metavar="N", help="end after so many messages were shown")
    trace.add_argument("--heartbeats", action="store_true", help="also messages that only say: still so")
    trace.add_argument("--json", action="store_true", help="each message whole, a JSON object a line")
    trace.set_defaults(command=_trace)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


# --- inspect ---


def _inspect(config: Config, arguments: argparse.Namespace) -> None:
    worker = Worker(arguments.worker)
    if arguments.what is not None:
        _ask(config, worker, arguments.what, as_json=arguments.json)
        return
    with connect(config, worker, config.state_socket(worker), time.monotonic() + PATIENCE_S) as sock:
        if not arguments.follow:
            state = state_of(first(sock, time.monotonic() + PATIENCE_S), worker)
            print(json.dumps(dataclasses.asdict(state), indent=None if arguments.json else 2))
            return
        for payload in _payloads(sock):
            print(json.dumps(dataclasses.asdict(state_of(payload, worker))), flush=True)
        raise Failed(f"the {worker} ended the connection")


def _payloads(sock: socket.socket) -> Iterator[bytes]:
    """As they come.  Raises Failed; what goes wrong with our own output is not the worker's fault."""
    try:
        yield from frames(sock, None)
    except ConnectionError as error:
        raise Failed(f"no answer: {error}") from None


def _ask(config: Config, worker: Worker, what: DebugWhat, *, as_json: bool) -> None:
    reply = asking.told(config, worker, what, DEBUG_REPLIES[what])
    print(json.dumps(dataclasses.asdict(reply)) if as_json else "\n".join(_TABLES[what](reply)))


def decisions(reply: DebugDecisions) -> list[str]:
    """A line each, oldest first."""
    if not reply.decisions:
        return ["no decisions yet"]
    lines = columns([(timestamp(each.at), each.level, each.event, _words(each)) for each in reply.decisions])
    return [f"({reply.cut} older ones do not fit into an answer)", *lines] if reply.cut else lines


def _words(decision: Decision) -> str:
    return "  ".join([decision.message, *(f"{name}={value}" for name, value in decision.fields.items())])


def subscriptions(reply: DebugSubscriptions) -> list[str]:
    """Whom it follows; who follows it."""
    rows: list[tuple[str, ...]] = [("FOLLOWS", "CONNECTED", "LAST STATE", "PROTOCOL ERRORS")]
    for each in reply.subscriptions:
        age = "never" if each.age_ns < 0 else f"{each.age_ns / timing.SECOND:.1f} s old"
        rows.append((str(each.worker), "yes" if each.connected else "no", age, str(each.errors_total)))
    lines = columns(rows) if len(rows) > 1 else ["follows nobody"]
    rows = [("FOLLOWED BY", "UID"), *((_pid(each.pid), str(each.uid)) for each in reply.subscribers)]
    return [*lines, "", *(columns(rows) if len(rows) > 1 else ["followed by nobody"])]


def _pid(pid: int) -> str:
    return f"pid {pid}" if pid else "a process in another pid namespace"


def counters(reply: DebugCounters) -> list[str]:
    """Name and number."""
    counted = dataclasses.asdict(reply)
    by_level = counted.pop("log_lines")
    rows = [(name.replace("_", " "), str(value)) for name, value in counted.items()]
    return columns([*rows, *((f"log lines, {level}", str(value)) for level, value in sorted(by_level.items()))])


def tasks(reply: DebugTasks) -> list[str]:
    """Each task with its stack, the innermost place first: that is where it waits."""
    lines = []
    for each in reply.tasks:
        lines.append(printable(each.name))
        lines += [f"    {printable(place)}" for place in reversed(each.stack)]
    return [*lines, f"({reply.cut} more do not fit into an answer)"] if reply.cut else lines


_TABLES: Final[dict[DebugWhat, Callable[[Any], list[str]]]] = {
    DebugWhat.DECISIONS: decisions,
    DebugWhat.SUBSCRIPTIONS: subscriptions,
    DebugWhat.COUNTERS: counters,
    DebugWhat.TASKS: tasks,
}


# --- log-level ---


def _log_level(config: Config, arguments: argparse.Namespace) -> None:
    worker = Worker(arguments.worker)
    before = now = asking.told(config, worker, DebugWhat.LOG_LEVEL, DebugLogLevel).level
    if arguments.level is not None:
        now = asking.told(config, worker, DebugWhat.LOG_LEVEL, DebugLogLevel, arguments.level).level
    if arguments.json:
        print(json.dumps({"worker": worker, "level": now, "before": before}))
    else:
        print(printable(f"{worker}: {now}" + (f" (was {before})" if before != now else "")))


# --- trace ---


def _trace(config: Config, arguments: argparse.Namespace) -> None:
    from cli import tracing  # with asyncio: costs more than all the rest of this program

    tracing.command(config, arguments)

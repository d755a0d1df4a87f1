"""This product beside others that elect a leader on Kubernetes: fail-over by fault, cost at rest, start-up.

    python -m bench.failover [--rounds 3] [--seconds 60] [--starts 2] [--api real|embedded] [--peers NAME,NAME]

All on the same API server in the same run, three instances each, lease 15 s, renew deadline 10 s, retry after 2 s.  A
fault comes to the leaders of all contenders within the same seconds, one second apart.  For each: the seconds in which
nobody leads, and those in which two do.  A peer has no node to fence: it stops when it believes so, which makes its
times lower bounds (`bench.peers`).  The results are JSON, which `python -m bench.report` makes tables and plots of.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import report, results
from bench.contenders import LASTS_S, Contender, Fault, PeerContender, Product
from bench.cost import api_server
from bench.figures import Round, judged, mean, per_minute, successor, summary
from bench.peers.kinds import KINDS, Kind
from devkit.api import SyncApiServer
from devkit.gobuild import BuildError

INSTANCES: Final = 3
APART_S: Final = 1.0
"""Between the same fault's coming to two contenders, so that one's hand-over does not slow the other's."""
STEADY_S: Final = 3.0
"""So long everything has to be at rest without a break."""
PATIENCE_S: Final = 75.0
LOOK_EVERY_S: Final = 0.02


def wait(what: Callable[[], object], seconds: float = PATIENCE_S, *, every_s: float = LOOK_EVERY_S) -> bool:
    """Until it is true; False: it was not in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


def wait_at_rest(contender: Contender) -> bool:
    """Until it has been at rest for `STEADY_S`; False: patience ended."""
    steady_since = time.monotonic()

    def steady() -> bool:
        nonlocal steady_since
        if not contender.settled():
            steady_since = time.monotonic()
        return time.monotonic() - steady_since >= STEADY_S

    return wait(steady, every_s=0.1)


# --- start-up ---


def start(make: Callable[[int], Contender], starts: int) -> tuple[Contender, dict[str, list[float]]]:
    """Starts `starts` of them one after the other and keeps the last, complete.  Seconds until one leads, stands by."""
    leads, stands_by = [], []
    for number in range(starts):
        contender, last = make(number), number == starts - 1
        try:
            leads.append(_took(contender, contender.add, contender.leader, "lead"))
            stands_by += [
                _took(contender, contender.add, contender.complete, "stand by")
                for _ in range(INSTANCES - 1 if last else 1)
            ]
        except BaseException:
            contender.close()
            raise
        if not last:
            contender.close()
    return contender, {"leads_s": leads, "stands_by_s": stands_by}


def _took(contender: Contender, do: Callable[[], object], done: Callable[[], object], what: str) -> float:
    began = time.monotonic()
    do()
    if not wait(done):
        raise TimeoutError(f"{contender.name} does not {what}\n{contender.describe()}")
    return round(time.monotonic() - began, 3)


# --- rest ---


def at_rest(contenders: list[Contender], seconds: float) -> dict[str, dict[str, Any]]:
    """All are watched at the same time.  Per minute: requests and processor time, of the leader and of a standby."""
    before = [contender.looks() for contender in contenders]
    began = time.monotonic()
    time.sleep(seconds)
    after = [contender.looks() for contender in contenders]
    took = time.monotonic() - began
    found = {}
    for contender, old, new in zip(contenders, before, after, strict=True):
        found[contender.name] = {
            role: {
                "requests": mean(per_minute(old[name].requests, new[name].requests, took) for name in names),
                "cpu_s": mean(per_minute(old[name].cpu_s, new[name].cpu_s, took) for name in names),
                "pss_mib": mean(new[name].pss_kib / 1024 for name in names),
            }
            for role, leads in (("leader", True), ("standby", False))
            if (names := [name for name, look in new.items() if look.leads is leads])
        }
    return found


# --- faults ---


def _met(contender: Contender, fault: Fault, delay_s: float, all_seen: threading.Barrier) -> Round:
    """One fault of one contender; whoever was killed comes back only after everybody's window is over."""
    try:
        figures = _window(contender, fault, delay_s)
    except BaseException:
        all_seen.abort()
        raise
    all_seen.wait()
    contender.mend()
    wait_at_rest(contender)
    return figures


def _window(contender: Contender, fault: Fault, delay_s: float) -> Round:
    time.sleep(delay_s)
    if not wait(contender.leader):
        raise TimeoutError(f"{contender.name} has no leader\n{contender.describe()}")
    leader = contender.leader()
    since = time.monotonic_ns()
    contender.make(fault)
    settled = True
    if fault in LASTS_S:
        time.sleep(LASTS_S[fault])
        contender.mend()
        settled = wait_at_rest(contender)
    else:

        def another() -> bool:
            now = time.monotonic_ns()
            return successor(contender.intervals(now), since, leader, now) != ""

        settled = wait(another)
        time.sleep(1)
    until = time.monotonic_ns()
    return judged(contender.intervals(until), since, until, settled=settled)


def meet(contenders: list[Contender], fault: Fault) -> dict[str, Round]:
    """The fault comes to all who can meet it."""
    able = [contender for contender in contenders if fault in contender.faults]
    all_seen = threading.Barrier(len(able))
    with ThreadPoolExecutor(len(able)) as pool:
        tasks = {
            contender.name: pool.submit(_met, contender, fault, APART_S * place, all_seen)
            for place, contender in enumerate(able)
        }
        return {name: task.result() for name, task in tasks.items()}


def restart(contenders: list[Contender], api: SyncApiServer) -> dict[str, Round]:
    """The API server is restarted, once for all."""
    since = time.monotonic_ns()
    api.restart_sync()
    with ThreadPoolExecutor(len(contenders)) as pool:
        tasks = {contender.name: pool.submit(wait_at_rest, contender) for contender in contenders}
        settled = {name: task.result() for name, task in tasks.items()}
    until = time.monotonic_ns()
    return {
        contender.name: judged(contender.intervals(until), since, until, settled=settled[contender.name])
        for contender in contenders
    }


# --- the run ---


def run(rounds: int, seconds: float, starts: int, which: str, kinds: tuple[Kind, ...]) -> results.Json:
    """Everything, in one go.  Raises BuildError, TimeoutError."""
    version = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
    for kind in kinds:
        kind.build()
    machine = results.Machine()
    with contextlib.ExitStack() as stack:
        name, api = stack.enter_context(api_server(which))
        contenders: list[Contender] = []
        started = {}
        makes: list[Callable[[int], Contender]] = [partial(Product, api, version)]
        makes += [partial(PeerContender, api, kind) for kind in kinds]
        for make in makes:
            contender, took = start(make, starts)
            stack.callback(contender.close)
            contenders.append(contender)
            started[contender.name] = took
            _say(f"{contender.name} {contender.version}: {took}")
        for contender in contenders:
            if not wait_at_rest(contender):
                raise TimeoutError(f"{contender.name} is not at rest\n{contender.describe()}")
        rest = at_rest(contenders, seconds)
        _say(f"at rest: {rest}")
        met: dict[Fault, list[dict[str, Round]]] = {fault: [] for fault in Fault}
        for number in range(rounds):
            for fault in Fault:
                found = restart(contenders, api) if fault is Fault.RESTART else meet(contenders, fault)
                met[fault].append(found)
                _say(f"round {number + 1}, {fault}: {found}")
        return {
            "kind": "failover",
            "command": results.command("bench.failover"),
            "facts": machine.facts(),
            "api": name,
            "rounds": rounds,
            "instances": INSTANCES,
            "rest_seconds": seconds,
            "contenders": [
                {"name": each.name, "version": each.version, "settings": each.settings} for each in contenders
            ],
            "start": started,
            "rest": rest,
            "faults": {
                fault: {
                    contender.name: summary([found[contender.name] for found in all_found])
                    for contender in contenders
                    if fault in contender.faults
                }
                for fault, all_found in met.items()
            },
        }


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each fault")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long all are watched at rest")
    parser.add_argument("--starts", type=int, default=2, help="of each contender")
    parser.add_argument("--api", choices=["real", "embedded"], default="real")
    names = ",".join(kind.name for kind in KINDS)
    parser.add_argument("--peers", default=names, help=f"default: {names}")
    parser.add_argument("--out", type=Path, default=results.FOLDER / "failover.json")
    chosen = parser.parse_args()
    kinds = tuple(kind for kind in KINDS if kind.name in chosen.peers.split(","))
    try:
        found = run(chosen.rounds, chosen.seconds, chosen.starts, chosen.api, kinds)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results.write(chosen.out, found)
    print(f"{report.cost(found)}\n\n{report.failover(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

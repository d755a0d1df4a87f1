"""Endurance: the right to forge goes from pod to pod, thousands of times.  Do two ever forge, does anything wear out?

    python tests/campaign/endurance.py --transitions 10000 [--seed N]

Three real pods around one embedded API server.  The forger is told to stand down as soon as another pod is ready; now
and then something happens that is part of a long life: the credentials are rotated, a worker is killed, a sidecar is
restarted, a pod is replaced by a new one, the API server is restarted or killed.  The first pod's processes are spared:
what they hold after thousands of hand-overs is compared with what they held before.

Checked, by the nodes' own records: never two forge, each hand-over is within its bound, each incident within its own
(tests/campaign); by the Lease: leaseTransitions counts each of them; of every process and folder, and of the Lease:
nothing grows.  In a run that is long enough all of the first pod's must have been judged, or it has not held.
Writes endurance.json and endurance.txt into a folder (build/endurance), whatever the outcome.  Exit code 0: all held.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import secrets
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_HERE.parent / "e2e"), str(_ROOT)]

from cli.asking import Failed, NotThere, connect, first, told  # noqa: E402
from config import Config, load  # noqa: E402
from devkit import record  # noqa: E402
from devkit.pods import WORKERS, Pod  # noqa: E402
from devkit.record import NS  # noqa: E402
from ipc.frames import frame  # noqa: E402
from ipc.messages import DebugTasks, DebugWhat, StandDown, StandDownReply, Worker, decode, encode  # noqa: E402
from kernel.wallclock import WallClockWatch  # noqa: E402

from campaign_arenas import REFUSALS, ClusterArena, Pulse  # noqa: E402
from campaign_breaks import BREAKS, CLUSTER, MissedError, Stroke  # noqa: E402
from campaign_judge import MEASURING_S, quantile  # noqa: E402
from campaign_logs import Reader  # noqa: E402
from campaign_parts import ROTATION, STALL_S  # noqa: E402
from endurance_trends import SPAN, Sample, Trend, contents, look, trends, unjudged  # noqa: E402
from hands import lease  # noqa: E402

BOUND_S: Final = 1.0
"""Of a planned hand-over: seconds in which nobody forges."""
OUT_S: Final = 1.0
"""Who stood down may lead again so long after it was told: longer than any fence should take, or it takes its own
release."""
UNHEEDED_S: Final = 5.0
"""Who forges on for so long after it was told was busy elsewhere until the time was over for which it was told."""
START_S: Final = 240.0
READY_S: Final = 120.0
ANSWER_S: Final = 10.0
SAMPLES: Final = 400
"""Of each life, at most about so many."""
LONG: Final = 3 * SPAN
"""Hand-overs from which on the first pod's life is long enough to be judged, whatever came between."""
LEASE: Final = "API Lease"

INCIDENTS: Final = (
    *(f"SIGKILL of the {worker}" for worker in WORKERS),
    ROTATION,
    ROTATION,
    "SIGTERM of the sidecar",
    "the pod is replaced",
    "an API server restarts in order",
    "an API server is killed and comes back",
)
"""Kinds of tests/campaign/campaign_breaks.py, as often as they come before any comes again."""


@dataclass(slots=True)
class Stretch:
    """From one look at the Lease to the next."""

    began: int
    """CLOCK_MONOTONIC, ns."""
    transitions: int
    """What the Lease said then."""
    hand_overs: int = 0
    returns: int = 0
    """Who released the Lease took it again."""
    incidents: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Incident:
    """As it was."""

    kind: str
    pod: str
    after: int
    """Hand-overs."""
    gap_s: float = 0.0
    bound_s: float = 0.0
    lasted_s: float = 0.0


class Endurance:
    """Plays until its number is full; `results` is there in any case."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.dice = random.Random(asked.seed)
        self.violations: list[str] = []
        self.remarks: list[str] = []
        self.gaps_s: list[float] = []
        """Of each planned hand-over."""
        self.waits_s: list[float] = []
        """From the command until another forges."""
        self.returns = 0
        """So often who stood down took the Lease again: its fence had taken longer than it stood down for."""
        self.unheeded = 0
        """So often the time for which it was told was over before the elector got round to it."""
        self.incidents: list[Incident] = []
        self.samples: list[Sample] = []
        self.looks_ms: list[float] = []
        """What it takes us to find out who forges, in the order of time."""
        self.counted = [0, 0]
        """Transitions: of the Lease, and of the records."""
        self._every = max(1, asked.every or asked.transitions // SAMPLES)
        self._out: dict[str, float] = {}
        self._logged: dict[str, tuple[int, int]] = {}
        """Of each pod's log: its size, and after how many hand-overs."""
        self._spared: dict[str, int] = {}
        """Of the first pod: process -> pid.  Nobody ends them."""
        self._sampled_at = 0
        self._arena: ClusterArena
        self._configs: dict[str, Config] = {}
        self._readers: list[Reader] = []
        self._pulse: Pulse
        self._clock: WallClockWatch
        self._begun = self._ended = 0

    @property
    def done(self) -> int:
        return len(self.gaps_s)

    def say(self, text: str) -> None:
        since = (time.monotonic_ns() - self._begun) / NS
        print(f"{since:8.1f} s {self.done:6d}  {text}", flush=True)

    def wrong(self, text: str) -> None:
        self.violations.append(f"after {self.done} hand-overs: {text}")
        self.say(f"VIOLATION {text}")

    # --- the whole ---

    def run(self) -> dict[str, Any]:
        self._begun = self._ended = time.monotonic_ns()
        self._pulse, self._clock = Pulse(), WallClockWatch()
        self._arena = arena = ClusterArena()
        try:
            arena.pods.wait_healthy(START_S)
            arena.prepare()
            arena.pods.wait_for(arena.at_rest, START_S, "the pool is at rest")
            self._configs = {pod.name: load(pod.environment) for pod in arena.pods.pods}
            self._readers = [Reader(pod.name, pod.log) for pod in arena.pods.pods]
            self._begun = time.monotonic_ns()
            self.say(f"at rest, in {arena.root}")
            self._play()
        except (AssertionError, Failed, RuntimeError, *REFUSALS) as error:
            self.wrong(f"{type(error).__name__}: {error}"[:4000])
        except KeyboardInterrupt:
            self.remarks.append("interrupted")
        finally:
            self._ended = time.monotonic_ns()
            with contextlib.suppress(*REFUSALS):
                self._check_all()
            arena.close()
            self._pulse.close()
            self._clock.close()
        return self._results()

    def _play(self) -> None:
        deck: list[str] = []
        self._sample()
        stretch = self._open_stretch()
        while self.done < self.asked.transitions:
            self._hand_over(stretch)
            if self.done % self._every == 0:
                self._sample()
            if self.done % self.asked.incidents_every == 0:
                self._close_stretch(stretch)
                deck = deck or self.dice.sample(INCIDENTS, len(INCIDENTS))
                stretch = self._open_stretch()
                self._incident(deck.pop(), stretch)
                self._close_stretch(stretch)
                stretch = self._open_stretch()
                self._progress()
        self._close_stretch(stretch)

    def _progress(self) -> None:
        last = self.gaps_s[-self.asked.incidents_every :]
        late = quantile(last, 0.95)
        incident = self.incidents[-1]
        self.say(
            f"median {statistics.median(last):.3f} s, 95 % {late:.3f} s, longest {max(last):.3f} s; then "
            f"{incident.kind} ({incident.pod}): {incident.gap_s:.3f} s"
        )

    # --- one hand-over ---

    def _hand_over(self, stretch: Stretch) -> None:
        pods = self._arena.pods
        leader = pods.wait_for_one_forger(READY_S)
        pods.wait_for(lambda: self._another_could(leader), READY_S, "another pod is ready")
        began = time.monotonic_ns()
        self._stand_down(leader)
        while (successor := self._next_forger(began)) is None:
            self.unheeded += 1
            began = time.monotonic_ns()
            self._stand_down(leader)
        now = time.monotonic_ns()
        gap_s = pods.gap_s(began, now)
        self.gaps_s.append(gap_s)
        self.waits_s.append((now - began) / NS)
        if successor is leader:
            stretch.returns += 1
            self.returns += 1
        else:
            stretch.hand_overs += 1
        if gap_s > BOUND_S + self.asked.slack and not (why := self._excuse(began)):
            self.wrong(f"{leader.name} handed over: {gap_s:.3f} s without a forger, at most {BOUND_S:g} s promised")
            self._evidence(began)
        elif gap_s > BOUND_S + self.asked.slack:
            self.remarks.append(f"after {self.done} hand-overs: {gap_s:.3f} s without a forger, but {why}")

    def _next_forger(self, began: int) -> Pod | None:
        """Who alone forges, and began after this (CLOCK_MONOTONIC, ns); None: the leader forges on as if not told."""
        found: list[Pod | None] = []

        def one() -> bool:
            now = time.monotonic_ns()
            found[:] = self._arena.pods.forgers()
            if len(found) != 1 or found[0] is None:
                return False
            if found[0].intervals(now, began)[-1].begin > began:
                return True
            if now - began < UNHEEDED_S * NS:
                return False
            found[0] = None
            return True

        self._arena.pods.wait_for(one, READY_S, "one forges again")
        return found[0]

    def _another_could(self, leader: Pod) -> bool:
        now = time.monotonic()
        return any(
            pod is not leader and now >= self._out.get(pod.name, 0.0) and pod.get("/ready")[0] == 200
            for pod in self._arena.pods.pods
            if pod.sidecar_running()
        )

    def _stand_down(self, pod: Pod) -> None:
        """As `forgectl stand-down --now` does it; again while its elector is being started anew."""

        def heard() -> bool:
            try:
                self._tell(pod)
            except NotThere:
                return False
            return True

        self._arena.pods.wait_for(heard, READY_S, f"the elector of {pod.name} takes a command")
        self._out[pod.name] = time.monotonic() + OUT_S

    def _tell(self, pod: Pod) -> None:
        config, until = self._configs[pod.name], time.monotonic() + ANSWER_S
        with connect(config, Worker.ELECTOR, config.command_socket, until) as sock:
            sock.sendall(frame(encode(StandDown(OUT_S, "endurance", True))))
            reply = decode(first(sock, until), StandDownReply)
        if not reply.accepted:
            raise Failed(reply.message)

    def _excuse(self, began: int) -> str:
        """Why a bound proves nothing since then; empty: it does."""
        if self._clock.jumped():
            return "somebody set the machine's clock"
        late_s = self._pulse.worst_since(began)
        return f"the machine stood still for {late_s:.1f} s" if late_s >= STALL_S else ""

    # --- incidents ---

    def _incident(self, kind: str, stretch: Stretch) -> None:
        """Made, mended, and waited for until all pods could forge."""
        pods, known = self._arena.pods, BREAKS[kind]
        pool = "pool" in known.card.victims
        pod = self.dice.choice(pods.pods[1:])
        forging = pool or pod in pods.forgers()
        stroke = Stroke(pod, 0.5, self.dice, forging)
        found = Incident(kind, "pool" if pool else pod.name, self.done)
        self.incidents.append(found)
        stretch.incidents.append(kind)
        began = time.monotonic_ns()
        making: Iterator[None] = known.make(self._arena, stroke)
        try:
            next(making)
            time.sleep(stroke.hold_s)
            next(making, None)
        except MissedError as error:
            self.remarks.append(f"after {self.done} hand-overs: {kind} missed {pod.name}: {error}")
        found.lasted_s = (time.monotonic_ns() - began) / NS
        pods.wait_for(self._all_are_back, READY_S, f"the pool is at rest after {kind}")
        if kind == ROTATION:
            pods.wait_for(self._forges_with_the_new_set, READY_S, "the forger has the new certificate")
        now = time.monotonic_ns()
        found.gap_s = pods.gap_s(began, now)
        found.bound_s = known.bound_s(CLUSTER, found.lasted_s, forging=forging)
        allowed = found.bound_s + self.asked.slack if found.bound_s else MEASURING_S
        if found.gap_s > allowed and not (why := self._excuse(began)):
            self.wrong(f"{kind} ({found.pod}): {found.gap_s:.3f} s without a forger, {found.bound_s:g} s promised")
            self._evidence(began)
        elif found.gap_s > allowed:
            self.remarks.append(f"after {self.done} hand-overs: {kind}: {found.gap_s:.3f} s, but {why}")

    def _all_are_back(self) -> bool:
        """What a worker said counts for seconds after its end: a pod is ready without it for as long."""
        return self._arena.at_rest() and all(pod.worker_pids().keys() == set(WORKERS) for pod in self._arena.pods.pods)

    def _forges_with_the_new_set(self) -> bool:
        forgers = self._arena.pods.forgers()
        told = [json.loads(pod.node_control("state"))["counter"] for pod in forgers]
        return told == [self._arena.counter]

    # --- what is checked ---

    def _open_stretch(self) -> Stretch:
        return Stretch(time.monotonic_ns(), self._arena.transitions())

    def _close_stretch(self, stretch: Stretch) -> None:
        """Nobody forged beside another, and the Lease counted what the records tell."""
        pods, now = self._arena.pods, time.monotonic_ns()
        nodes = pods.nodes(now, stretch.began)
        for overlap in record.overlaps(nodes, stretch.began, now):
            self.wrong(f"two forged for {overlap.seconds:.6f} s")
            self._evidence(stretch.began)
        counted, changes = self._arena.transitions() - stretch.transitions, changed_hands(nodes)
        self.counted[0] += counted
        self.counted[1] += changes
        asked, returns = stretch.hand_overs, stretch.returns
        told = f"the Lease counted {counted} transitions, the records {changes}; {asked} hand-overs, {returns} returns"
        if stretch.incidents:
            if counted < changes:
                self.wrong(f"{told}; {', '.join(stretch.incidents)}")
        elif (counted, changes) != (asked + returns, asked):
            self.wrong(told)
        kinds = [ROTATION, *(each.kind for each in self.incidents)][-2:]  # the pool was prepared by a rotation
        for reader in self._readers:
            for line in reader.unexpected(kinds):
                self.wrong(f"unexpected in a log: {line}")

    def _check_all(self) -> None:
        """The whole of the records at once."""
        nodes = self._arena.pods.nodes(self._ended, self._begun)
        if overlaps := record.overlaps(nodes, self._begun, self._ended):
            self.wrong(f"two forged {len(overlaps)} times, the longest for {max(o.seconds for o in overlaps):.6f} s")

    def _evidence(self, since: int) -> None:
        number = len(list(self.asked.out.glob("evidence-*.txt")))
        if number < 20:
            told = self._arena.pods.describe(since - 5 * NS)
            (self.asked.out / f"evidence-{number}.txt").write_text(f"{self.violations[-1]}\n{told}\n")

    # --- samples ---

    def _sample(self) -> None:
        for pod in self._arena.pods.pods:
            tree = pod.sidecar_pids()
            pids = pod.worker_pids() | ({"supervisord": tree[0]} if tree else {})
            if tree:
                self.samples.append(Sample(self.done, f"{pod.name} tree", tree[0], {"processes": float(len(tree))}))
            if pod is self._arena.pods.pods[0]:
                self._look_after(pod, pids)
            for name, pid in pids.items():
                figures = look(pid)
                if figures is None:
                    continue
                if name in WORKERS:
                    with contextlib.suppress(Failed):  # it is being restarted
                        figures["tasks"] = self._tasks(pod, Worker(name))
                self.samples.append(Sample(self.done, f"{pod.name} {name}", pid, figures))
            with contextlib.suppress(FileNotFoundError):  # it is being replaced
                self.samples.append(
                    Sample(self.done, f"{pod.name} RUN_DIR", pod.run_dir.stat().st_ino, contents(pod.run_dir))
                )
            self._sample_log(pod)
        with contextlib.suppress(*REFUSALS):
            size = float(len(json.dumps(lease(self._arena.cluster, "GET"))))
            self.samples.append(Sample(self.done, LEASE, 0, {"object_bytes": size}))
        self._sampled_at = time.monotonic_ns()
        began = time.perf_counter()
        self._arena.pods.forgers()
        self.looks_ms.append((time.perf_counter() - began) * 1000)

    def _look_after(self, pod: Pod, pids: dict[str, int]) -> None:
        """Of the pod that is spared: a process that ended, ended by itself, and what it held is not judged."""
        for name, pid in pids.items():
            if self._spared.setdefault(name, pid) == pid:
                continue
            self._spared[name] = pid
            if why := self._excuse(self._sampled_at):
                self.remarks.append(f"after {self.done} hand-overs: {pod.name} {name} was started anew, but {why}")
            else:
                self.wrong(f"{pod.name} {name} was started anew, and nobody ended it")

    def _must_be_judged(self) -> list[str]:
        """None in a short run."""
        if self.done < LONG or not self._spared:
            return []
        first = self._arena.pods.pods[0].name
        return [LEASE, *(f"{first} {each}" for each in ("supervisord", *WORKERS, "tree", "RUN_DIR", "log"))]

    def _tasks(self, pod: Pod, worker: Worker) -> float:
        shown = told(self._configs[pod.name], worker, DebugWhat.TASKS, DebugTasks)
        return float(len(shown.tasks) + shown.cut)

    def _sample_log(self, pod: Pod) -> None:
        size = pod.log.stat().st_size
        before, after = self._logged.get(pod.name, (size, self.done))
        if self.done > after:
            rate = (size - before) / (self.done - after)
            self.samples.append(Sample(self.done, f"{pod.name} log", 0, {"log_bytes": rate}))
        self._logged[pod.name] = size, self.done

    # --- the end ---

    def _results(self) -> dict[str, Any]:
        found = trends(self.samples)
        leaks = [each for each in found if each.leaks]
        self.violations += [str(each) for each in leaks]
        unknown = unjudged(found, self._must_be_judged())
        self.violations += [f"{each} was not seen for long enough to know that nothing of it grows" for each in unknown]
        seconds = (self._ended - self._begun) / NS
        return {
            "held": not self.violations and self.done >= self.asked.transitions,
            "violations": self.violations,
            "remarks": self.remarks,
            "seed": self.asked.seed,
            "slack_s": self.asked.slack,
            "asked": self.asked.transitions,
            "hand_overs": self.done,
            "returns": self.returns,
            "unheeded": self.unheeded,
            "seconds": seconds,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "processors": os.cpu_count(),
            "load": os.getloadavg()[0],
            "gap_s": distribution(self.gaps_s),
            "until_another_forges_s": distribution(self.waits_s),
            "transitions": {"lease": self.counted[0], "records": self.counted[1]},
            "incidents": [asdict(each) for each in self.incidents],
            "trends": [asdict(each) for each in found if each.judged],
            "look_ms": {"first": _median(self.looks_ms[:20]), "last": _median(self.looks_ms[-20:])},
            "samples": [asdict(each) for each in self.samples],
        }


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def changed_hands(nodes: dict[str, list[record.Interval]]) -> int:
    """How often the node that began to forge was another than the one before."""
    order = sorted((each.begin, name) for name, found in nodes.items() for each in found)
    return sum(a != b for (_, a), (_, b) in itertools.pairwise(order))


def distribution(values: list[float]) -> dict[str, float]:
    """Seconds; empty of none."""
    if not values:
        return {}
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
    return {
        **{name: quantile(values, share) for name, share in shares.items()},
        "max": max(values),
        "over_the_bound": sum(value > BOUND_S for value in values),
    }


def text(results: dict[str, Any]) -> str:
    """For a person."""
    lines = [
        f"{results['hand_overs']} hand-overs in {results['seconds']:.0f} s, seed {results['seed']}; the Lease counted "
        f"{results['transitions']['lease']} transitions, the records {results['transitions']['records']}; "
        f"{results['returns']} returned to who stood down, {results['unheeded']} commands were over before they were "
        "heeded"
    ]
    if gap := results["gap_s"]:
        lines.append(
            f"without a forger: median {gap['median']:.3f} s, 95 % {gap['p95']:.3f} s, 99 % {gap['p99']:.3f} s, "
            f"longest {gap['max']:.3f} s; {gap['over_the_bound']} longer than {BOUND_S:g} s"
        )
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in results["incidents"]:
        kinds.setdefault(each["kind"], []).append(each)
    for kind, found in sorted(kinds.items()):
        gaps = [each["gap_s"] for each in found]
        lines.append(
            f"  {kind}: {len(found)} times, median {statistics.median(gaps):.3f} s, longest {max(gaps):.3f} s "
            f"without a forger (promised: {max(each['bound_s'] for each in found):g} s)"
        )
    lines.append("in the second half of each life that was long enough, the largest growth by its trend:")
    worst: dict[tuple[str, str], Trend] = {}
    for each in (Trend(**found) for found in results["trends"]):
        key = each.owner.partition(" ")[2], each.figure
        if key not in worst or each.growth > worst[key].growth:
            worst[key] = each
    for (kind, figure), each in sorted(worst.items()):
        lines.append(
            f"  {kind:<12} {figure:<14} {each.first:>9.0f} -> {each.last:>9.0f}  {each.growth:+9.1f} in {each.span} "
            f"({each.owner.partition(' ')[0]}){'  LEAKS' if each.leaks else ''}"
        )
    if not worst:
        lines.append("  none was")
    lines += [f"remark: {remark}" for remark in results["remarks"]]
    lines += [f"VIOLATION: {violation}" for violation in results["violations"]]
    lines.append("held" if results["held"] else "FAILED")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make endurance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transitions", type=int, default=10_000, help="planned hand-overs (10000)")
    parser.add_argument("--seed", type=int, help="repeats the order of the incidents; a new one otherwise")
    parser.add_argument("--incidents-every", type=int, default=40, help="hand-overs between two incidents (40)")
    parser.add_argument("--every", type=int, help="hand-overs between two samples of all processes")
    parser.add_argument("--slack", type=float, default=1.5, help="seconds beside each bound, for a busy machine")
    parser.add_argument("--out", type=Path, default=_ROOT / "build" / "endurance")
    asked = parser.parse_args()
    if asked.seed is None:
        asked.seed = secrets.randbelow(1_000_000)
    asked.out.mkdir(parents=True, exist_ok=True)
    for old in asked.out.glob("evidence-*.txt"):
        old.unlink()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = Endurance(asked).run()
    (asked.out / "endurance.json").write_text(json.dumps(results, indent=1))
    told = text(results)
    (asked.out / "endurance.txt").write_text(told + "\n")
    print(told, flush=True)
    return 0 if results["held"] else 1


if __name__ == "__main__":
    sys.exit(main())

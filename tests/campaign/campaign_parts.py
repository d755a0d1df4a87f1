"""One part of a campaign: rounds upon one pool, told line by line, measured from the nodes' own records."""

from __future__ import annotations

import contextlib
import random
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from devkit.record import NS
from kernel.wallclock import WallClockWatch

import campaign_judge as judge
import campaign_plan as plan
from campaign_arenas import REFUSALS, Arena, ClusterArena, FleetArena, Pulse
from campaign_breaks import BREAKS, MissedError, Stroke, cards, scripts
from campaign_logs import STARVED, Reader
from campaign_oracle import Critic, Onlooker, Turn, turned
from campaign_resources import Pressure, Sampler, drifts, left_behind
from faults import FAULTS, LEASE_S
from fleets import REAL

START_S: Final = 240.0
RECOVERY_S: Final = 2 * LEASE_S + 10
"""After all was mended: one lease that has to run out, another that a lost attempt may cost, and the start of a pod."""
READY_S: Final = 120.0
"""Until all are ready again, and every member has the lock."""
AGREE_S: Final = 30.0
"""A pool at rest contradicts neither itself nor its nodes' records for longer: an object's status is due by then."""
LONG_MINUTES: Final = 60
SCRIPT_SHARE: Final = {"cluster": 0.12, "fleet": 0.0}
SHORT_SCRIPTS_S: Final = 30.0
"""In a campaign of less than an hour no longer ones are played."""
STALL_S: Final = 2.0
"""A machine that lets nobody run for so long is a fault that was not planned: in that round no bound proves anything.

Two forgers are never excused.
"""
ENDED_S: Final = 10.0
"""What was killed has ended after so long, also where it had to wait for a processor to do so."""
GONE_S: Final = 3.0
"""A sidecar that was ended by none of us is started again after so long, as the kubelet would."""
RESTLESS: Final = 3
"""So many interruptions after all was mended are remarked upon: a lease that runs out and a way home are two."""
PLANNED_S: Final = 1.0
PREFIX: Final = "script: "
ROTATION: Final = "the credentials are rotated"
MISHAPS: Final = (KeyError, IndexError, ValueError)
"""What a fault may come upon beside a refusal: a worker that has just ended, a status that has gone, half an answer."""


def remaining(folder: Path, seconds: float) -> list[str]:
    """Processes that have to do with the folder, or are children of ours, when this time is over or none is left."""
    end = time.monotonic() + seconds
    while (left := [*left_behind(folder), *map(str, psutil.Process().children(recursive=True))]) and (
        time.monotonic() < end
    ):
        time.sleep(0.1)
    return left


class BrokenError(Exception):
    """The pool does not come to rest: nothing more can be learned from it."""


def terms(name: str, slack_s: float) -> judge.Terms:
    """A cluster's bounds are those of tests/e2e/faults.py, a fleet's those of tests/simulation."""
    if name == "fleet":
        return judge.Terms(slack_s, RECOVERY_S, PLANNED_S, longest=True)
    return judge.Terms(slack_s, RECOVERY_S)


def planned_rounds(name: str, seed: int, minutes: float, *, real: bool) -> Iterator[plan.Round]:
    """What a part plays."""
    longest = float("inf") if minutes >= LONG_MINUTES else SHORT_SCRIPTS_S
    share = SCRIPT_SHARE[name]
    return plan.rounds(cards(name, real=real), seed, name, scripts(longest) if share else (), share)


@dataclass(frozen=True, slots=True)
class Setting:
    """How a part is played."""

    name: str
    seed: int
    minutes: float
    slack_s: float
    zero: int
    """CLOCK_MONOTONIC, ns: the campaign's beginning, from which all times in the results count."""
    folder: Path
    """For evidence."""
    pods_each: int = 2
    """In each region of a fleet."""


class Part:
    """Plays until its time is up; `results` is there in any case."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.terms = terms(setting.name, setting.slack_s)
        self.rounds: list[judge.Round] = []
        self.trouble: list[str] = []
        """What went wrong beside the rounds."""
        self.remarks: list[str] = []
        self._arena: Arena
        self._began = self._ended = 0
        self._transitions = [-1, -1]
        self._turn: Turn | None = None
        """Who forged when the pool was last at rest."""
        self._why: list[str] = []
        """Why it was not at rest when it was last looked at."""
        self._told = False
        """Whether a record was printed: the first one is enough."""

    # --- telling ---

    def say(self, text: str) -> None:
        now = time.time()
        stamp = time.strftime("%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}"
        since = (time.monotonic_ns() - self.setting.zero) / NS
        print(f"{stamp} {since:8.1f} s  {self.setting.name:<7} {text}", flush=True)

    # --- the whole ---

    def run(self) -> dict[str, Any]:
        """Play; what came of it."""
        setting = self.setting
        arena = self._arena = FleetArena(setting.pods_each) if setting.name == "fleet" else ClusterArena()
        arena.pods.patience_s = setting.slack_s
        folder = arena.root
        self.say(f"{len(arena.pods.pods)} pods around {len(arena.apis)} API server(s), in {folder}")
        pulse, clock, pressure = Pulse(), WallClockWatch(), Pressure()
        sampler = Sampler(arena.pods.pods, setting.zero, setting.minutes)
        onlooker = Onlooker(arena.pods.pods, Critic(arena.leases(), setting.slack_s))
        readers = [Reader(pod.name, pod.log) for pod in arena.pods.pods]
        results: dict[str, Any] = {}
        try:
            self._start()
            self._read_of_the_start(readers)
            pressure.share()
            onlooker.found()
            end = time.monotonic() + setting.minutes * 60
            for planned in planned_rounds(setting.name, setting.seed, setting.minutes, real=REAL):
                if time.monotonic() >= end:
                    break
                self._round(planned, pulse, clock, pressure, onlooker, readers)
        except (BrokenError, RuntimeError, *REFUSALS) as error:  # an API server that does not start, too
            self._trouble(error)
        except KeyboardInterrupt:
            self.trouble.append("interrupted")
        except Exception as error:  # noqa: BLE001  # a fault of the campaign's own: what was seen until then is told
            self._trouble(error, traceback.format_exc())
        finally:
            self._ended = self._ended or time.monotonic_ns()
            self._transitions[1] = arena.transitions()
            onlooker.close()
            sampler.close()
            pulse.close()
            clock.close()
            results = self._results(sampler, readers)
            results["looks"] = onlooker.looks
            if results["violations"]:
                self._keep_logs()
            arena.close()
            if left := remaining(folder, ENDED_S + setting.slack_s):
                results["violations"].append(f"processes are left behind: {left}")
            results["held"] = not results["violations"]
        return results

    def _trouble(self, error: Exception, trace: str = "") -> None:
        """What ends the part is a violation, not a lost report.  trace: where it was not foreseen."""
        text = f"the campaign itself failed: {trace}" if trace else f"{type(error).__name__}: {error}"
        self.trouble.append(text[-2000:] if trace else text[:2000])
        self.say(f"BROKEN: {error!r}")

    def _start(self) -> None:
        arena = self._arena
        try:
            arena.pods.wait_healthy(START_S)
            arena.prepare()
            arena.disturbed()
            arena.pods.wait_for(self._quiet, START_S, "the pool is at rest")
        except TimeoutError as error:
            raise BrokenError(f"the pool never came to rest: {'; '.join(self._why)}: {error}") from error
        self._began = time.monotonic_ns()
        self._transitions[0] = arena.transitions()
        self.say("at rest: the first round begins")

    def _read_of_the_start(self, readers: Iterable[Reader]) -> None:
        """What is logged until the pool is at rest is no round's: it comes to its keys by a rotation."""
        for reader in readers:
            self.trouble += [f"unexpected in a log: {line}" for line in reader.unexpected([ROTATION])]

    def _quiet(self) -> bool:
        """Whether the pool is at rest and all that is told of it is so."""
        self._why = self._arena.unrest() or self._arena.contradictions()
        return not self._why

    # --- a round ---

    def _round(
        self,
        planned: plan.Round,
        pulse: Pulse,
        clock: WallClockWatch,
        pressure: Pressure,
        onlooker: Onlooker,
        readers: list[Reader],
    ) -> None:
        began = time.monotonic_ns()
        if self.rounds:
            self.rounds[-1].ended = began
        played = judge.Round(planned.number, began, began, home=self._arena.home)
        self.rounds.append(played)
        doubts: list[str] = []
        try:
            self._arena.disturbed()
            if planned.faults[0].kind.startswith(PREFIX):
                doubts = self._script(planned, played)
            else:
                self._strike(planned, played)
            self._recover(played)
            time.sleep(planned.rest_s)
        finally:
            played.ended = self._ended = time.monotonic_ns()
            played.late_s = pulse.worst_since(began)
            played.waited = pressure.share()
            played.notes += onlooker.found()
            if clock.jumped():
                played.excused = "somebody set the machine's clock"
            elif played.late_s >= STALL_S:
                played.excused = f"the machine stood still for {played.late_s:.1f} s"
            if played.excused:  # what a fault test waits for in vain proves as little as a gap
                self.remarks += [f"round {played.number}, excused: {doubt}" for doubt in doubts]
            else:
                played.notes += doubts
            # What the round before did may be told only now.
            kinds = [fault.kind for each in self.rounds[-2:] for fault in each.faults]
            kinds += [STARVED] if any(each.busy or each.excused for each in self.rounds[-2:]) else []
            for reader in readers:
                played.notes += [f"unexpected in a log: {line}" for line in reader.unexpected(kinds)]
            self._report(played)
            self._ended = 0

    def _script(self, planned: plan.Round, played: judge.Round) -> list[str]:
        """One of the fault tests, with its own assertions; what did not hold."""
        assert isinstance(self._arena, ClusterArena)
        kind = planned.faults[0].kind
        fault = FAULTS[kind.removeprefix(PREFIX).replace(" ", "_")]
        now = time.monotonic_ns()
        done = judge.Fault(kind, "pool", now, now, fault.bound)
        played.faults.append(done)
        self.say(f"#{played.number} {kind}")
        doubts = []
        try:
            fault.make(self._arena.cluster)
        except (*REFUSALS, *MISHAPS) as error:
            doubts.append(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}")
        done.ended = time.monotonic_ns()
        return doubts

    def _strike(self, planned: plan.Round, played: judge.Round) -> None:
        """Begin and mend what the plan says, when it says it."""
        running: dict[int, tuple[Iterator[None], Stroke]] = {}
        done: dict[int, judge.Fault] = {}
        began = time.monotonic()
        for act in plan.acts(planned):
            time.sleep(max(0.0, began + act.at_s - time.monotonic()))
            if act.begins:
                done[act.fault] = self._begin(planned.faults[act.fault], played, running, act.fault)
            elif act.fault in running:
                making, stroke = running.pop(act.fault)
                self._mend(done[act.fault], making, stroke, played)

    def _begin(
        self,
        fault: plan.Planned,
        played: judge.Round,
        running: dict[int, tuple[Iterator[None], Stroke]],
        place: int,
    ) -> judge.Fault:
        arena, dice = self._arena, random.Random(fault.dice)
        pod = arena.victim(fault.victim, dice)
        stroke = Stroke(pod, fault.hold_s, dice, pod in arena.pods.forgers())
        victim = "pool" if fault.victim == "pool" else pod.name
        now = time.monotonic_ns()
        done = judge.Fault(fault.kind, victim, now, now)
        played.faults.append(done)
        making = BREAKS[fault.kind].make(arena, stroke)
        beside = " + " if place else ""
        try:
            next(making)
        except MissedError as error:
            done.missed = str(error) or "nothing to strike"
        except (*REFUSALS, *MISHAPS) as error:  # half of it may have been done: it struck, and is mended as a whole
            stroke.tell(f"broke off: {type(error).__name__}: {error}"[:200])
            done.bound_s = BREAKS[fault.kind].bound_s(self.setting.name, fault.hold_s, forging=True)
            arena.insist(arena.heal)
        else:
            running[place] = making, stroke
        done.told = ", ".join(stroke.told)
        role = "" if victim == "pool" else ", who forges" if stroke.forging else ", who does not forge"
        text = f"#{played.number} {beside}{fault.kind}: {victim}{role}"
        text += f" ({done.told})" if done.told else ""
        self.say(text + (f" MISSED: {done.missed}" if done.missed else f", for {fault.hold_s:.1f} s"))
        done.ended = time.monotonic_ns()
        return done

    def _mend(self, done: judge.Fault, making: Iterator[None], stroke: Stroke, played: judge.Round) -> None:
        try:
            next(making)
        except StopIteration:
            pass
        except (*REFUSALS, *MISHAPS) as error:
            self.remarks.append(f"round {played.number}: {done.kind}: mending: {type(error).__name__}: {error}"[:300])
            self._arena.insist(self._arena.heal)
        else:
            raise AssertionError(f"{done.kind} has two yields")
        done.ended = time.monotonic_ns()
        done.told = ", ".join(stroke.told)
        known = BREAKS[done.kind].bound_s(self.setting.name, done.lasted_s, forging=stroke.forging)
        done.bound_s = stroke.bound_s if stroke.bound_s is not None else known

    # --- its end ---

    def _recover(self, played: judge.Round) -> None:
        """Until the pool is at rest.  BrokenError: it does not, not even when everything is mended that could be."""
        for chance in ("", "after everything was mended once more"):
            if chance:
                self._arena.heal()
            if self._at_rest(played):
                return
            played.notes.append(
                f"not at rest within {READY_S:g} s {chance}".strip() + f": {'; '.join(self._why)[:600]}"
            )
            self._evidence(played, "not at rest")
        raise BrokenError(f"round {played.number}: the pool does not come to rest")

    def _at_rest(self, played: judge.Round) -> bool:
        """Whether it does in time.  What is told of a pool at rest and is not so is a violation, and ends the wait."""
        arena, end = self._arena, time.monotonic() + READY_S + self.setting.slack_s
        gone: dict[str, float] = {}
        calm = 0.0
        while True:
            now = time.monotonic()
            settled = arena.settle_debts()
            for pod in arena.pods.pods:
                if pod.fault is not None:
                    raise BrokenError(f"{pod.name}'s kubelet failed: {pod.fault}")
                if pod.sidecar_running():
                    gone.pop(pod.name, None)
                elif time.monotonic() - gone.setdefault(pod.name, time.monotonic()) > GONE_S:
                    self.remarks.append(f"round {played.number}: the sidecar of {pod.name} had ended, started again")
                    pod.restart_node = True
                    pod.revive()
            self._why = arena.unrest() if settled else ["something is still to be mended"]
            if self._why:
                calm = 0.0
            else:
                calm = calm or now
                self._why = arena.contradictions()
                if not self._why or now - calm > AGREE_S + self.setting.slack_s:
                    self._rested(played)
                    return True
            if now >= end:
                return False
            time.sleep(0.2)

    def _rested(self, played: judge.Round) -> None:
        """What a pool at rest says must be so, and its token may not fall.

        But by a hand on the one Lease of a cluster: who takes what was made anew knows nothing of the one before.
        """
        turn = self._arena.turn()
        if turn is not None:
            by_hand = any(fault.kind.startswith(("the Lease is", PREFIX)) for fault in played.faults)
            self._why = [*self._why, *turned(None if by_hand else self._turn, turn)]
            self._turn = turn
        played.notes += [f"at rest, and contradicts itself: {each}" for each in self._why]
        told, self._arena.told = self._arena.told, []
        self.remarks += [f"round {played.number}: {each}" for each in told]
        if not self._arena.home:
            self.remarks.append(f"round {played.number}: the pool has not come home yet")

    def _report(self, played: judge.Round) -> None:
        nodes = self._arena.nodes(played.ended)
        verdict = judge.verdict(nodes, [played], self.terms, played.began, played.ended)
        (judged,) = verdict.judgements
        allowed = "recovery alone is bounded" if judged.bound_s is None else f"bound {judged.bound_s:g} s"
        measured = judged.longest_s if self.terms.longest else judged.gap_s
        late = f", the machine was late by {played.late_s:.2f} s" if played.late_s > 0.2 else ""
        late += f", something waited for a processor in {played.waited:.0%} of it" if played.busy else ""
        took = (played.ended - played.began) / NS
        self.say(f"#{played.number} over after {took:.1f} s: {measured:.3f} s without a forger ({allowed}){late}")
        if judged.restless >= RESTLESS:
            remark = f"round {played.number}: forging ceased {judged.restless} times after all was mended"
            self.remarks.append(remark)
            self.say(remark)
        wrong = [*(each for each in verdict.violations if each.startswith("two")), *judged.violations]
        for violation in wrong:
            self.say(f"VIOLATION {violation}")
        if wrong:
            self._evidence(played, "; ".join(wrong))

    # --- what is kept ---

    def _evidence(self, played: judge.Round, why: str) -> None:
        """The last minute of every record, and what the pods say of themselves."""
        since = max(played.ended, time.monotonic_ns()) - 60 * NS
        since = min(since, played.began)
        file = self.setting.folder / f"evidence-{self.setting.name}-{played.number}.txt"
        try:
            described = self._arena.pods.describe(since)
        except (*REFUSALS, *MISHAPS) as error:
            described = f"the pods cannot be described: {error!r}"
        lines = [
            f"seed {self.setting.seed}, {self.setting.name}, round {played.number}: {why}",
            *(f"{asdict(fault)}" for fault in played.faults),
            *(f"not at rest, or not as it says: {each}" for each in self._why),
            f"times count from {(since - self.setting.zero) / NS:.3f} s of the campaign",
            *self._record_lines(since),
            described,
        ]
        with file.open("a") as out:
            out.write("\n".join(lines) + "\n")
        self.say(f"evidence: {file}")
        if not self._told:
            self._told = True
            print("\n".join(self._record_lines(since)), flush=True)

    def _record_lines(self, since: int) -> list[str]:
        events = [
            (int(event["t"]), pod.name, event["event"])
            for pod in self._arena.pods.pods
            for event in pod.record.events()
            if int(event["t"]) >= since
        ]
        return [f"    {(at - since) / NS:9.3f} s  {name:<14} {what}" for at, name, what in sorted(events)]

    def _keep_logs(self) -> None:
        folder = self.setting.folder / f"logs-{self.setting.name}"
        for pod in self._arena.pods.pods:
            kept = folder / pod.name
            kept.mkdir(parents=True, exist_ok=True)
            for file in (pod.log, pod.root / "node.log", pod.record_file):
                with contextlib.suppress(FileNotFoundError):
                    (kept / file.name).write_bytes(file.read_bytes())
        self.say(f"logs and records are kept in {folder}")

    def _results(self, sampler: Sampler, readers: list[Reader]) -> dict[str, Any]:
        """As JSON; seconds count from the campaign's beginning."""
        end = self._ended
        nodes = self._arena.nodes(end)
        begin = self._began or end
        verdict = judge.verdict(nodes, self.rounds, self.terms, begin, end)
        drift = drifts(sampler.samples)
        leaks = [
            f"{each.kind}: PSS {each.pss_first_kib:.0f} to {each.pss_last_kib:.0f} KiB, descriptors "
            f"{each.fds_first:g} to {each.fds_last:g}, from the first quarter to the last"
            for each in drift
            if each.leaks
        ]
        s = self._seconds
        logged: dict[str, int] = {}
        for reader in readers:
            for name, count in reader.counts.items():
                logged[name] = logged.get(name, 0) + count
        return {
            "name": self.setting.name,
            "terms": asdict(self.terms),
            "began_s": s(begin),
            "ended_s": s(end),
            "nodes": {name: [[s(i.begin), s(i.end)] for i in found if i.end > begin] for name, found in nodes.items()},
            "operations": {pod.name: pod.record.counts() for pod in self._arena.pods.pods},
            "lease_transitions": self._transitions,
            "rounds": [
                self._round_result(played, judged)
                for played, judged in zip(self.rounds, verdict.judgements, strict=True)
            ],
            "overlaps": [[s(i.begin), s(i.end)] for i in verdict.overlaps],
            "gaps": [
                {"begin_s": s(gap.begin), "end_s": s(gap.end), "round": gap.round, "faults": list(gap.faults)}
                for gap in verdict.gaps
            ],
            "kinds": [asdict(k) for k in judge.by_kind(self.rounds, verdict.judgements, longest=self.terms.longest)],
            "resources": {
                "every_s": sampler.every_s,
                "drift": [asdict(each) | {"leaks": each.leaks} for each in drift],
                "samples": [asdict(sample) for sample in sampler.samples],
            },
            "logged": dict(sorted(logged.items())),
            "remarks": self.remarks,
            "violations": [*self.trouble, *verdict.violations, *leaks],
        }

    def _round_result(self, played: judge.Round, judged: judge.Judgement) -> dict[str, Any]:
        s = self._seconds
        return {
            "number": played.number,
            "began_s": s(played.began),
            "ended_s": s(played.ended),
            "faults": [
                {
                    "kind": fault.kind,
                    "victim": fault.victim,
                    "began_s": s(fault.began),
                    "ended_s": s(fault.ended),
                    "told": fault.told,
                    "missed": fault.missed,
                }
                for fault in played.faults
            ],
            "gap_s": round(judged.gap_s, 6),
            "longest_s": round(judged.longest_s, 6),
            "bound_s": judged.bound_s if judged.bound_s is None else round(judged.bound_s, 3),
            "back_s": round(judged.back_s, 3),
            "restless": judged.restless,
            "late_s": round(played.late_s, 3),
            "waited": round(played.waited, 3),
            "home": played.home,
            "excused": played.excused,
            "violations": list(judged.violations),
        }

    def _seconds(self, at: int) -> float:
        return round((at - self.setting.zero) / NS, 6)

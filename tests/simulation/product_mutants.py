"""Deliberate faults of the product, each of which the simulation must see: what is not seen is not checked.

    make mutants                   all of them; exit code 1 if one is not caught
    make mutants ONLY=margin       those whose name contains it
    make mutants RECORD=1          all of them, from the first schedule on; what saw each goes into docs/simulation.md

A mutant is a copy of the product with some lines changed.  First the schedules are played that failed when the page was
written; only where these hold now it is searched, from the first one on.  So the outcome is the same in every run, and
how long it takes does not depend on how deep a fault is hidden.  The lines must be in the product as they stand here,
or the list is out of date: a test compares.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a script it is started in its own folder

from devkit.ending import end_cleanly

from script import ROW

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = [
    "cardano",
    "cli",
    "config",
    "devkit",
    "gateway",
    "health",
    "ipc",
    "kernel",
    "kube",
    "outgoing",
    "policy",
    "sandbox",
    "workers",
    "tests/simulation",
]
MOST_SEEDS: Final = 3000
PAGE: Final = ROOT / "docs/simulation.md"
BEGIN: Final = "<!-- mutants -->\n"
END: Final = "<!-- end of mutants -->\n"
POD: Final = r"(?:[a-z0-9-]+/)?\b[abc]-[a-z]+-[0-9]+(?:_[0-9a-f]{8})?\b"
"""A pod's name, or how a Lease or the lock names it as its holder."""
MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Mutant:
    """What is made wrong."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    """(file, lines as they are, lines instead); each is there once."""
    by: str = ""
    """A test (`file::name`, below tests/) that sees it; empty: the schedules of `make sim` do."""


def _one(name: str, file: str, old: str, new: str, by: str = "") -> Mutant:
    return Mutant(name, ((file, old, new),), by)


MUTANTS: Final = (
    _one("no margin", "policy/timing.py", "FENCE_MARGIN: Final = 2 * SECOND", "FENCE_MARGIN: Final = 0 * SECOND"),
    _one(
        "nothing set aside for the drift of clocks",
        "policy/timing.py",
        "    return sent_at + lease_duration - FENCE_MARGIN - lease_duration // DRIFT_SHARE",
        "    return sent_at + lease_duration - FENCE_MARGIN",
    ),
    _one(
        "the elector's grant counts from the answer",
        "policy/election.py",
        "            deadline=timing.grant_deadline(sent_at, self._duration),",
        "            deadline=timing.grant_deadline(now, self._duration),",
    ),
    _one(
        "the witness's grant counts from when the watch told of it",
        "policy/witness.py",
        "        deadline = timing.grant_deadline(anchor, duration)",
        "        deadline = timing.grant_deadline(self._event_at, duration)",
    ),
    _one(
        "the wall clock in place of the monotonic one",
        "workers/elector.py",
        "        sent = boottime_ns()",
        "        sent = int(time.time() * 1e9)",
    ),
    _one(
        "an expired grant of the arbiter counts",
        "policy/grants.py",
        "        if now >= timing.soft_deadline(grant.deadline):",
        '        if name == "elector" and now >= timing.soft_deadline(grant.deadline):',
    ),
    _one(
        "expired grants count",
        "policy/grants.py",
        "        if now >= timing.soft_deadline(grant.deadline):",
        "        if False:",
    ),
    Mutant(
        "the elector's grant is enough",
        (
            (
                "policy/grants.py",
                '    for name, grant in (("elector", elector), ("arbiter", arbiter)):',
                '    for name, grant in (("elector", elector),):',
            ),
            (
                "policy/grants.py",
                "    assert arbiter is not None\n    if not (arbiter.exclusive if managed else elector.exclusive):",
                "    if managed and arbiter is None:\n        return Right(elector.deadline, elector.fencing_token)\n"
                "    if not (arbiter.exclusive if managed else elector.exclusive):",
            ),
            (
                "policy/grants.py",
                "    return Right(min(elector.deadline, arbiter.deadline), token)",
                "    return Right(elector.deadline, token)",
            ),
        ),
    ),
    Mutant(
        "the kernel is not told when to kill",
        (
            ("policy/fencing.py", "            SetDeath(right.deadline),\n", ""),
            ("policy/fencing.py", "            actions.append(SetDeath(right.deadline))", "            pass"),
            (
                "policy/timing.py",
                "ACTUATOR_WATCHDOG: Final = 10 * SECOND",
                "ACTUATOR_WATCHDOG: Final = 1000 * SECOND",
            ),
        ),
    ),
    _one("the kernel is not told whom to signal", "policy/fencing.py", "            Aim(view.node.pid),\n", ""),
    Mutant(
        "released before the fence is confirmed",
        (
            (
                "policy/election.py",
                "        if self.role is Role.HANDOVER and world.fence is Fence.FENCED:",
                "        if self.role is Role.HANDOVER:",
            ),
            (
                "policy/witness.py",
                "        elif half == self.half and ledger.giving_up and fenced_and_heard == half:",
                "        elif half == self.half and ledger.giving_up:",
            ),
        ),
    ),
    Mutant(
        "a lease duration is counted too short, by elector and witness",
        (
            (
                "policy/election.py",
                "        return seen.at + max(seen.duration_s * timing.SECOND, self._duration)",
                "        return seen.at + max(seen.duration_s * timing.SECOND, self._duration) - 4 * timing.SECOND",
            ),
            (
                "policy/witness.py",
                "            until = now + max(record.duration_s * timing.SECOND, self._duration)",
                "            until = now + max(record.duration_s * timing.SECOND, self._duration) - 4 * timing.SECOND",
            ),
        ),
    ),
    _one(
        "the lock is taken before its holder's right has ended",
        "policy/pool_lock.py",
        "        return max(seen.at + max(seen.duration_s * timing.SECOND, self._duration), seen.displaced_until)",
        "        return max(seen.at + max(seen.duration_s * timing.SECOND, self._duration), seen.displaced_until) "
        "- 4 * timing.SECOND",
    ),
    _one(
        "half of the members are a majority",
        "policy/pool_lock.py",
        "        return len(self.members) // 2 + 1",
        "        return max(len(self.members) // 2, 1)",
    ),
    _one(
        "the lock's right ends with its best member",
        "policy/pool_lock.py",
        "        renewed_at = confirmed[self.majority - 1]",
        "        renewed_at = confirmed[0]",
    ),
    _one(
        "the lock's right is a whole lease duration",
        "policy/pool_lock.py",
        "        deadline = timing.grant_deadline(renewed_at, self._duration)\n        if self.granted",
        "        deadline = renewed_at + self._duration\n        if self.granted",
    ),
    _one(
        "the lock is released before the fence is confirmed",
        "policy/pool_lock.py",
        "        if not self.over and wish.fenced:",
        "        if not self.over:",
    ),
    _one(
        "a lapsed term of the lock is revived",
        "policy/pool_lock.py",
        "        return self.granted is not None and now >= self.granted.renewed_at + lasts",
        "        return False",
        by="simulation/test_fleet.py::test_a_holder_that_was_away_for_long_does_not_forge_by_a_backup_of_its_own_term",
    ),
    _one(
        "any gauge is a proof of the fence",
        "policy/fencing.py",
        "            if sample.forging_enabled == 0 and not self._strict:\n                return Proof.METRICS",
        "            if sample.forging_enabled is not None and not self._strict:\n                return Proof.METRICS",
    ),
    _one(
        "a node that does not confirm is not killed",
        "policy/fencing.py",
        "        if waited >= kill and not self._killed:",
        "        if False:",
    ),
    _one(
        "a node that does not confirm is killed too late",
        "policy/timing.py",
        "CONFIRM_HURRY_KILL: Final = SECOND * 19 // 10",
        "CONFIRM_HURRY_KILL: Final = SECOND * 60 // 10",
    ),
    _one(
        "a node that was there before is taken for off",
        "policy/fencing.py",
        "        if quiet and view.born_after_us:",
        "        if quiet:",
    ),
    Mutant(
        "a node without a handler is signalled",
        (
            ("workers/node_watch.py", "            if not self._takes_hup:\n", "            if False:\n"),
            ("policy/fencing.py", "        elif not view.node.takes_hup:", "        elif False:"),
            ("policy/fencing.py", "        elif not view.node.up:", "        elif False:"),
        ),
    ),
    _one(
        "who handed over stays away for ever",
        "policy/timing.py",
        "STEP_BACK: Final = 20 * SECOND",
        "STEP_BACK: Final = 20000 * SECOND",
    ),
    _one(
        "after a failed request nothing is read",
        "policy/election.py",
        "        self._must_read = True\n        self._unanswered = self._unanswered or not conflict",
        "        self._unanswered = self._unanswered or not conflict",
    ),
    _one(
        "a fence is not told to the node",
        "policy/fencing.py",
        '        return [Withdraw(why), *self._hup(now, "disable"), ClearDeath()]',
        "        self._become(Fence.FENCED, now, why, Proof.METRICS)\n        return [Withdraw(why), ClearDeath()]",
    ),
    _one(
        "the elector's degraded grant outlasts the lock",
        "policy/election.py",
        "            return Grant(self.identity, self.token, pool.deadline, pool.renewed_at, exclusive=False)",
        "            return Grant(self.identity, self.token, pool.deadline + 9 * timing.SECOND, pool.renewed_at, "
        "exclusive=False)",
    ),
    _one(
        "a refused request is made again at once",
        "workers/elector.py",
        "        pause = timing.RETRY_PAUSE + random.randrange(timing.RETRY_PAUSE // 2)",
        "        pause = 0",
    ),
    _one(
        "a new term has the old token",
        "policy/election.py",
        "        self._tried_token = max(record.transitions if record is not None else 0, self.token) + 1",
        "        self._tried_token = max(record.transitions if record is not None else 0, self.token)",
    ),
    _one(
        "a copy's renewals count as one's own",
        "policy/lease.py",
        "        return record is not None and bool(self._known) and record.renew_time not in self._known",
        "        return False",
        by="policy/test_election.py::test_of_a_machine_that_was_copied_while_it_forged_only_one_renews_its_term",
    ),
    Mutant(
        "requests have no time-out",
        (
            (
                "policy/election.py",
                "            return timing.CONTENDER_TIMEOUT\n",
                "            return 1000 * timing.SECOND\n",
            ),
            (
                "policy/election.py",
                "        return max(timing.REQUEST_TIMEOUT, (self._right_ends() - now) // 3)",
                "        return 1000 * timing.SECOND",
            ),
        ),
    ),
    _one(
        "an unanswered renewal counts",
        "policy/election.py",
        "        self._must_read = True\n        self._unanswered = self._unanswered or not conflict",
        "        if self.grant is not None and not conflict:\n"
        "            deadline = timing.grant_deadline(now, self._duration)\n"
        "            self.grant = Grant(self.identity, self.token, deadline, now, exclusive=True)\n"
        "            self._renewed_at = now\n"
        "        self._must_read = True\n        self._unanswered = self._unanswered or not conflict",
    ),
    Mutant(
        "a Lease that is emptied is released, by whomever, to elector and witness",
        (
            (
                "policy/lease.py",
                "        return opens(self.key, self.seal) if self.seal else self.duration_s <= RELEASED_DURATION_S",
                "        return True",
            ),
            (
                "policy/lease.py",
                "    return record.transitions == before.transitions and opens(record.key, before.seal)",
                "    return True",
            ),
            (
                "policy/witness.py",
                "        if record.key:\n            ledger.rights.pop(seal_of(record.key), None)\n",
                "        if not record.holder:\n            ledger.rights = {}\n",
            ),
        ),
    ),
    Mutant(
        "a deleted Lease is free at once, to elector and witness",
        (
            (
                "policy/election.py",
                "        free_at = self._runs_out(self.observed)\n",
                "        free_at = self._runs_out(self.observed) if record is not None else 0\n",
            ),
            (
                "policy/election.py",
                "        if now < (displaced := self.observed.displaced_until):",
                "        if record is not None and now < (displaced := self.observed.displaced_until):",
            ),
            (
                "policy/witness.py",
                "            return  # whoever held it may still",
                "            ledger.rights = {}\n            return  # he may still",
            ),
        ),
    ),
    Mutant(
        "a Lease that names us is ours, whoever wrote that, to elector and witness",
        (
            (
                "policy/election.py",
                "        record, held = seen.record, self._held\n",
                "        return True\n        record, held = seen.record, self._held\n",
            ),
            (
                "policy/witness.py",
                "        if not record.holder.startswith(self._prefix) or arbiters_half(record.seal) != self.half:\n"
                "            return None\n",
                "        if not record.holder.startswith(self._prefix):\n"
                "            return None\n"
                "        if arbiters_half(record.seal) != self.half:\n"
                "            return self._event_at\n",
            ),
            (
                "policy/witness.py",
                "            ledger.stolen = not gap and issued < before\n",
                "            ledger.stolen, ledger.rights = False, {}\n",
            ),
        ),
    ),
    _one(
        "a term that was written over is not waited for",
        "policy/election.py",
        "        if now < (displaced := self.observed.displaced_until):",
        "        if False and (displaced := 0):",
        by="policy/test_election.py::test_a_thief_s_own_release_does_not_make_others_believe_that_its_victim_stopped",
    ),
    _one(
        "a term that was written over is forgotten with a restart",
        "workers/notebook.py",
        '        displaced=tuple((str(seal), int(until)) for seal, until in raw["displaced"]),',
        "        displaced=(),",
        by="workers/test_notebook.py::test_an_observation_is_read_as_it_was",
    ),
    _one(
        "an operator's pause is ignored",
        "policy/election.py",
        '        return last if last != self._pod else ""',
        '        return ""',
        by="policy/test_election.py::test_in_a_pause_nobody_takes_over_from_a_leader_that_is_lost",
    ),
    _one(
        "grants of before a jump of the wall clock count",
        "policy/grants.py",
        "        if grant.renewed_at <= void_before:",
        "        if False:",
    ),
    _one(
        "a jump of the wall clock is forgotten with the actuator's restart",
        "workers/actuator.py",
        "        self._void_before = self._jumped_before()",
        "        self._void_before = 0",
        by="workers/test_actuator.py::test_what_a_jump_of_the_clock_made_void_stays_so_in_the_next_life",
    ),
    _one(
        "the lock's majority is one of the members that answer",
        "policy/pool_lock.py",
        "        return len(self.members) // 2 + 1",
        "        return sum(member.reachable for member in self.members) // 2 + 1",
    ),
    _one(
        "a majority is not enough (<= for <)",
        "policy/pool_lock.py",
        "        if len(confirmed) < self.majority:",
        "        if len(confirmed) <= self.majority:",
    ),
    _one(
        "what a node said before the signal is a proof",
        "policy/fencing.py",
        " or mute(sample) or sample.asked_at < since:",
        " or mute(sample):",
        by="policy/test_fencing.py::test_what_a_node_said_before_it_was_told_to_stop_is_no_proof_that_it_did",
    ),
    _one(
        "a Lease is taken by what was seen of it long ago",
        "policy/lease.py",
        "    return now - max(read_at, told_at) <= SEEN_LATELY",
        "    return True",
        by="policy/test_election.py::test_a_lease_that_was_free_long_ago_is_read_before_it_is_taken",
    ),
)


def faulty(mutant: Mutant, folder: Path) -> None:
    """A copy of the product with the mutant's lines.  Raises ValueError where the product has not those lines once."""
    tests = [f"tests/{mutant.by.partition('/')[0]}"] if mutant.by else []
    for package in dict.fromkeys((*PACKAGES, *tests)):
        shutil.copytree(ROOT / package, folder / package)  # with what is compiled of it
    for file, old, new in mutant.edits:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{mutant.name}: {file} has these lines {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()  # as long and as old as the other, it would pass for this one's


def caught(mutant: Mutant, seeds: int, recorded: str = "") -> tuple[str, float]:
    """What the first failing schedule says (empty: none of `seeds` fails), and the seconds that it took.

    `recorded`: the seed that failed when the page was written, which is tried first; empty: there is none.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-", dir=MEMORY) as name:
        folder = Path(name)
        faulty(mutant, folder)
        if mutant.by:
            what = (recorded and _failing_test(mutant, folder, recorded)) or _failing_test(mutant, folder)
        else:
            row = int(recorded) - int(recorded) % ROW if recorded else 0
            what = (recorded and _failing_seed(mutant, folder, row, ROW)) or _failing_seed(mutant, folder, 0, seeds)
    return what, time.monotonic() - began


def _failing_seed(mutant: Mutant, folder: Path, first: int, count: int) -> str:
    """What the first of these schedules that fails says; empty: none does."""
    program = str(folder / "tests/simulation/sim.py")
    done = _run(folder, program, "--start", str(first), "--seeds", str(count), "--jobs", "1", "--failures", "1")
    lines = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    if done.returncode not in (0, 1) or (done.returncode == 1 and not lines):
        raise RuntimeError(f"{mutant.name}: the simulation itself failed\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return lines[0] if lines else ""


def _failing_test(mutant: Mutant, folder: Path, example: str = "") -> str:
    """Which of the test's examples (or this one) fails first; empty: it passes."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    file, _, test = mutant.by.partition("::")
    which = f"tests/{file}::{test}" + (f"[{example}]" if example else "")
    done = _run(folder, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", which)
    if done.returncode not in (0, 1, 4):  # 4: there is no such example any more
        raise RuntimeError(f"{mutant.name}: the test could not be run\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(f"FAILED tests/{file}::{test}")]
    seed = failed[0].partition(test)[2].partition(" - ")[0].strip("[]") if failed else ""
    return f"seed {seed}: `{test}` fails" if failed else ""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def on_the_page() -> dict[str, str]:
    """The seed by which each fault was seen when the page was written; empty: it has none."""
    rows = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {name: seed.strip("–") for name, *_, seed in cells}


def said(line: str) -> str:
    """The kind of a failure, without its seed, its time and whom it is about."""
    text = line.partition(": ")[2]
    text = re.sub(r"^[0-9.]+: ", "", text)
    text = re.sub(r"\[[^]]*\]", "", re.sub(POD, "a pod", text))
    text = re.sub(r"[0-9.]+ s\b", "some time", text)
    return text.strip(" :")


def seed_of(line: str) -> str:
    """Empty: it is about none."""
    return line.partition(":")[0].removeprefix("seed ").strip()


def table(found: Sequence[tuple[Mutant, str]]) -> str:
    """For the page."""
    lines = ["| fault | files | the first that was seen | seed |", "|---|---|---|---|"]
    for mutant, line in found:
        files = ", ".join(f"`{file}`" for file in sorted({file for file, _, _ in mutant.edits}))
        lines.append(f"| {mutant.name} | {files} | {said(line) or 'NOT SEEN'} | {seed_of(line) or '–'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="schedules at most for each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--after", default="", help="those after the one of this name")
    parser.add_argument("--record", action="store_true", help="write what saw each into the page")
    chosen = parser.parse_args()
    end_cleanly(with_children=True)
    names = [mutant.name for mutant in MUTANTS]
    first = names.index(chosen.after) + 1 if chosen.after else 0
    mutants = [mutant for mutant in MUTANTS[first:] if chosen.only in mutant.name]
    known = {} if chosen.record else on_the_page()
    survived, found = [], []

    def play(mutant: Mutant) -> tuple[str, float]:
        return caught(mutant, chosen.seeds, known.get(mutant.name, ""))

    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        for mutant, (what, took) in zip(mutants, pool.map(play, mutants), strict=True):
            seed = known.get(mutant.name, "")
            other = (
                f"; the page says seed {seed}: make mutants RECORD=1"
                if what and seed not in ("", seed_of(what))
                else ""
            )
            print(f"{mutant.name}: {what or 'NOT CAUGHT'} ({took:.0f} s){other}", flush=True)  # its output
            survived += [] if what else [mutant.name]
            found.append((mutant, what))
    if chosen.record:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}{table(found)}{END}{after}", encoding="utf-8")
    print(f"{len(mutants) - len(survived)} of {len(mutants)} caught")  # its output
    for name in survived:
        print(f"NOT CAUGHT: {name}: nothing that is checked depends on these lines, or no schedule gets there")  # too
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())

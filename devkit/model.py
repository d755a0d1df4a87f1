"""`make model`: every state of the models in model/, by spin; and the mutants of the models, each of which must fail.

A search counts only if it was a whole one: nothing truncated, hashed away or out of memory, no error, and as many
states as model/states.json has.  `RECORD=1` (or `--record`) writes that file anew, and `python -m devkit.docs` the
tables of docs/model.md then.  `ONLY=lock` (`--only`): the searches whose model and name contain it, and no others.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devkit.ending import end_cleanly

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "model"
STATES: Final = FOLDER / "states.json"

DEEPEST: Final = 2_000_000
MEMORY_MB: Final = 4000
NEEDED: Final = {"spin": "spin", "gcc": "gcc"}
"""Programs, and the Debian packages that have them."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, in which model."""

    name: str
    model: str
    what: str
    """For people."""
    switches: tuple[str, ...] = ()
    claim: str = ""
    """Of the model's ltl claims; empty: its assertions."""
    fair: bool = False
    """Only runs in which each process that can go on does so at some time."""

    @property
    def key(self) -> str:
        return f"{self.model}: {self.name}"


class Check(Search):
    """It must find nothing."""


class Mutant(Search):
    """A switch of a model that breaks it: the search must find that."""


_COPIED: Final = ("COPIES=1",)
_RASH: Final = ("EDITS=1", "LEDGER", "RASH")
_SIBLINGS: Final = ("SIBLINGS", "NO_REBIRTH", "NO_LATE")
_RESTORED: Final = ("RESTORES=1", "NO_REBIRTH", "NO_LATE")

CHECKS: Final = (
    Check("fence", "fence", "one pod's actuator, kernel and node, action by action"),
    Check(
        "electors alone",
        "election",
        "two pods; a stranger writes over the Lease and releases it, or erases what it says",
        ("EDITS=1",),
    ),
    Check("both keys", "election", "the same with the arbiters' ledgers", ("EDITS=1", "LEDGER")),
    Check("arbiters alone", "election", "the same; the electors wait for nothing but their arbiters", _RASH),
    Check("a machine copied", "election", "a pod's, while it runs, with its memory", _COPIED),
    Check("somebody forges", "election", "after the faults", ("LIVENESS",), "somebody_forges", fair=True),
    Check("a hand-over ends", "election", "after the faults", ("LIVENESS",), "handover_completes", fair=True),
    Check("lock", "lock", "two contenders, three members; writes that arrive late, pods that are made anew"),
    Check("a member restored", "lock", "one member goes back to a backup; nothing arrives late", _RESTORED),
    Check("one cluster's pods", "lock", "which lose sight of their own API server, and lead on degraded", _SIBLINGS),
    Check("somebody holds", "lock", "after the faults", (*_SIBLINGS, "LIVENESS"), "somebody_forges"),
    Check(
        "goes on degraded", "lock", "for ever, while the majority is held", (*_SIBLINGS, "LIVENESS"), "goes_on_degraded"
    ),
)

MUTANTS: Final = (
    Mutant("exposed_before_the_timer", "fence", "keys are shown before the kernel knows the right's end"),
    Mutant("not_aimed", "fence", "the actuator's death signals nobody"),
    Mutant("keys_left", "fence", "the node is told to stop beside keys that are visible yet"),
    Mutant("confirmed_without_proof", "fence", "`fenced` is said when the signal was sent"),
    Mutant("signal_before_the_keys_vanish", "fence", "a dying actuator's signal overtakes its working directory"),
    Mutant("margin_zero", "election", "a grant lasts as long as the lease"),
    Mutant("counted_from_the_answer", "election", "a grant counts from the answer, not from before the request"),
    Mutant("takes_without_waiting", "election", "who waits counts less than the lease duration"),
    Mutant(
        "wait_not_begun_anew", "election", "the wait counts from the first sight of a term, not from its last change"
    ),
    Mutant("release_before_the_fence", "election", "the Lease is released without the arbiter's half of the key"),
    Mutant(
        "key_given_before_it_is_heard", "election", "the arbiter gives its half away before its withdrawal is heard"
    ),
    Mutant("fenced_without_proof", "election", "the actuator is fenced before its node is off"),
    Mutant("one_key", "election", "the actuator arms without the arbiter's grant"),
    Mutant("lost_answer_is_a_yes", "election", "a renewal whose answer was lost counts"),
    Mutant("gap_not_noticed", "election", "a release is believed of a term that was not seen", ("EDITS=1",)),
    Mutant("displaced_term_forgotten", "election", "a term that was written over is forgotten", ("EDITS=1",)),
    Mutant("named_by_hand_is_ours", "election", "a Lease that names us is ours, whoever wrote it", ("EDITS=1",)),
    Mutant(
        "regains_after_a_release",
        "election",
        "who has sent a release claims whatever is erased, in whosever seal",
        ("EDITS=1",),
    ),
    Mutant("copies_renewals_are_ours", "election", "what a copy has renewed counts as one's own", _COPIED),
    Mutant("stolen_term_signed", "election", "an arbiter signs a term that began too early", _RASH),
    Mutant(
        "expired_term_never_taken",
        "election",
        "who waits believes a release, and nothing else",
        ("LIVENESS",),
        "somebody_forges",
        fair=True,
    ),
    Mutant("majority_of_one", "lock", "the majority is one less"),
    Mutant("right_of_the_best_member", "lock", "the right ends with the last confirmation, not the majority's"),
    Mutant("counted_from_the_answer", "lock", "a confirmation counts from its answer"),
    Mutant("takes_without_waiting", "lock", "a member is taken while another's right from it lasts"),
    Mutant("lost_answer_is_a_yes", "lock", "a write whose answer was lost counts as a confirmation"),
    Mutant("released_before_the_fence", "lock", "members are released before the node is fenced"),
    Mutant("withdrawal_not_heard", "lock", "`fenced` is believed of an actuator that has not heard of the withdrawal"),
    Mutant("gap_not_noticed", "lock", "a restored member is believed", _RESTORED),
    Mutant("lapsed_term_revived", "lock", "a term that has lapsed goes on where a member names it", _RESTORED),
    Mutant("degraded_without_the_lock", "lock", "a degraded grant is given without the pool-wide lock", _SIBLINGS),
    Mutant(
        "degraded_gives_up",
        "lock",
        "a leader without sight of its API server lets go, though it holds the lock",
        (*_SIBLINGS, "LIVENESS"),
        "goes_on_degraded",
    ),
)

PROPERTIES: Final = (
    ("==p)||(node[k]==0)", "at most one forges"),
    ("==c)||(node[j]==0)", "at most one forges"),
    ("(before", "at most one forges, but for the rest of a grant after a copy"),
    ("(node==1)&&(right==0)", "nobody forges beyond his right and the margin"),
    ("(node!=1)", "`fenced` is said only of a node that does not forge"),
    ("(node[p]==0)", "released only after fenced"),
    ("(node[c]==0)", "released only after fenced"),
    ("old_grant[p]", "two keys"),
)
"""Of the models' assertions, by what pan prints of them."""


class Refusal(Exception):  # noqa: N818  # a search that says nothing
    """What spin, gcc or pan said is no result."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a whole search found."""

    states: int
    transitions: int
    error: str = ""
    """The first; empty: there is none."""


def parsed(text: str, *, claim: str = "", fair: bool = False) -> Outcome:
    """What pan printed, of a search for what was asked.  Raises Refusal where it was another, or not a whole one.

    A search that ended with an error need not be a whole one.
    """
    for wrong in ("out of memory", "search depth too small", "memlim", "interrupted", "aborting", "pan: error"):
        if wrong in text.lower():
            raise Refusal(f"the search is not a whole one: {wrong}")
    if "Full statespace search for:" not in text or "hash-compact" in text:
        raise Refusal("not a search of the full state space")
    errors = re.search(r"errors: (\d+)\s*$", text, re.MULTILINE)
    states = re.search(r"^\s*(\d+) states, stored", text, re.MULTILINE)
    transitions = re.search(r"^\s*(\d+) transitions \(=", text, re.MULTILINE)
    if errors is None or states is None or transitions is None:
        raise Refusal("no result")
    if int(errors[1]):
        found = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", text, re.MULTILINE)
        if found is None:
            raise Refusal("an error without a name")
        return Outcome(int(states[1]), int(transitions[1]), found[1])
    if "Search not completed" in text:
        raise Refusal("the search was not completed")
    never = re.search(r"never claim\s+([+-]) \((.*)\)", text)
    claimed = never[2] if never is not None and never[1] == "+" else ""
    if never is None or claimed != claim or not re.search(r"assertion violations\s+\+", text):
        raise Refusal(f"not a search for {claim or 'violated assertions'}")
    if claim and not re.search(rf"acceptance\s+cycles\s+\+\s+\(fairness {'enabled' if fair else 'disabled'}\)", text):
        raise Refusal("not a search for acceptance cycles")
    return Outcome(int(states[1]), int(transitions[1]))


def property_of(error: str, claim: str = "") -> str:
    """The property that an error of a search (for this claim) violates, in words; the error where it is none."""
    if claim and error.startswith("acceptance cycle"):
        return f"`{claim}`"
    return next((words for part, words in PROPERTIES if part in error.replace(" ", "")), error)


def missing() -> list[str]:
    """What to install; empty: nothing."""
    return [package for program, package in NEEDED.items() if shutil.which(program) is None]


def search(model: str, switches: Sequence[str], *, claim: str = "", fair: bool = False, soon: bool = False) -> Outcome:
    """Search all states of a model.  `soon`: an error is expected before the compiler has paid off.  Raises Refusal."""
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        macros = [f"-D{switch}" for switch in switches]
        _run(["spin", *macros, "-a", str(FOLDER / f"{model}.pml")], folder)
        kind = ["-DNFAIR=4" if fair else "-DNOFAIR"] if claim else ["-DSAFETY", "-DNOFAIR"]
        _run(["gcc", "-O1" if soon else "-O2", "-w", f"-DMEMLIM={MEMORY_MB}", *kind, "-o", "pan", "pan.c"], folder)
        asked = ["-a", "-N", claim, *(["-f"] if fair else [])] if claim else []
        return parsed(_run(["./pan", f"-m{DEEPEST}", *asked], folder), claim=claim, fair=fair)


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and command[0] != "./pan":
        raise Refusal(f"{command[0]}: {(done.stdout + done.stderr).strip()[-2000:]}")
    if command[0] == "spin" and "Error" in done.stdout:
        raise Refusal(f"spin: {done.stdout.strip()[-2000:]}")
    return done.stdout + done.stderr


def recorded() -> dict[str, dict[str, dict[str, int | str]]]:
    """What model/states.json says: `checks`, by name, and `mutants`, by model and name."""
    found: dict[str, dict[str, dict[str, int | str]]] = json.loads(STATES.read_text("utf-8"))
    return found


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*, record: bool, only: str = "") -> list[str]:
    """Every check and every mutant (`only`: those whose key contains it), told as they come; what is wrong."""
    wrong: list[str] = []
    known = {"checks": {}, "mutants": {}} if record or not STATES.exists() else recorded()
    found = recorded() if only and STATES.exists() else {"checks": {}, "mutants": {}}
    for check in (each for each in CHECKS if only in each.key):
        began = _cpu_s()
        try:
            outcome = search(check.model, check.switches, claim=check.claim, fair=check.fair)
        except Refusal as refusal:
            wrong.append(f"{check.name}: {refusal}")
            continue
        counted: dict[str, int | str] = {"states": outcome.states, "transitions": outcome.transitions}
        found["checks"][check.name] = counted
        told = f"{outcome.states:>9} states {outcome.transitions:>10} transitions {_cpu_s() - began:5.1f} s"
        print(
            f"{check.key:32} {told}  {property_of(outcome.error, check.claim) or 'ok'}",
            flush=True,
        )
        if outcome.error:
            wrong.append(f"{check.name}: violated: {property_of(outcome.error, check.claim)}")
        elif not record and known["checks"].get(check.name) != counted:
            said = known["checks"].get(check.name, "nothing")
            wrong.append(f"{check.name}: {counted}, recorded is {said}; if the model was changed: make model RECORD=1")
    for mutant in (each for each in MUTANTS if only in each.key):
        began = _cpu_s()
        try:
            switches = (*mutant.switches, f"MUTANT_{mutant.name}")
            outcome = search(mutant.model, switches, claim=mutant.claim, fair=mutant.fair, soon=True)
        except Refusal as refusal:
            wrong.append(f"mutant {mutant.key}: {refusal}")
            continue
        caught: dict[str, int | str] = {"caught_by": property_of(outcome.error, mutant.claim)}
        found["mutants"][mutant.key] = caught
        print(f"{mutant.key:48} {_cpu_s() - began:5.1f} s  {caught['caught_by'] or 'NOT CAUGHT'}", flush=True)
        properties = {f"`{mutant.claim}`", *dict(PROPERTIES).values()}
        if caught["caught_by"] not in properties:  # an end that was not meant proves nothing
            wrong.append(f"mutant {mutant.key}: not caught: {outcome.error or 'no error'}")
        elif not record and known["mutants"].get(mutant.key) != caught:
            wrong.append(
                f"mutant {mutant.key}: caught by {caught['caught_by']}, which is not recorded: make model RECORD=1"
            )
    if record and not wrong:
        kept = {
            "checks": {each.name: found["checks"][each.name] for each in CHECKS if each.name in found["checks"]},
            "mutants": {each.key: found["mutants"][each.key] for each in MUTANTS if each.key in found["mutants"]},
        }
        STATES.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return wrong


def check_table() -> str:
    """The searches and their recorded counts, in Markdown."""
    known = recorded()["checks"]
    lines = ["| model | search | of what | states | transitions |", "|---|---|---|---|---|"]
    for check in CHECKS:
        counted = known[check.name]
        fair = ", fair runs" if check.fair else ""
        claim = f" (`{check.claim}`{fair})" if check.claim else ""
        of = f"{check.what}{claim}"
        lines.append(f"| `{check.model}` | {check.name} | {of} | {counted['states']} | {counted['transitions']} |")
    return "\n".join(lines)


def mutant_table() -> str:
    """The mutants, and what each one violates, in Markdown."""
    known = recorded()["mutants"]
    lines = ["| model | mutant | what is wrong in it | violates |", "|---|---|---|---|"]
    lines += [f"| `{m.model}` | `{m.name}` | {m.what} | {known[m.key]['caught_by']} |" for m in MUTANTS]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkit.model", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write model/states.json anew")
    parser.add_argument("--only", default="", help="those whose model and name contain this")
    chosen = parser.parse_args()
    end_cleanly()
    if packages := missing():
        sys.exit(f"needed: apt-get install {' '.join(packages)}")
    wrong = run(record=chosen.record, only=chosen.only)
    print(f"{_cpu_s():.0f} s of processor time", flush=True)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()

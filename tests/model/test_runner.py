"""What pan prints counts as a result only if the search was a whole one, and the one that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devkit import model
from devkit.model import CHECKS, MUTANTS, Outcome, Refusal, parsed, property_of

WHOLE = """
(Spin Version 6.5.2 -- 6 December 2019)
\t+ Partial Order Reduction

Full statespace search for:
\tnever claim         \t- (none specified)
\tassertion violations\t+
\tcycle checks       \t- (disabled by -DSAFETY)
\tinvalid end states\t+

State-vector 124 byte, depth reached 46722, errors: 0
   669509 states, stored
  7987404 states, matched
  8656913 transitions (= stored+matched)
        0 atomic steps
hash conflicts:    198404 (resolved)
"""
FAIR = """
(Spin Version 6.5.2 -- 6 December 2019)

Full statespace search for:
\tnever claim         \t+ (somebody_forges)
\tassertion violations\t+ (if within scope of claim)
\tacceptance   cycles \t+ (fairness enabled)
\tinvalid end states\t- (disabled by never claim)

State-vector 140 byte, depth reached 175, errors: 0
  1927902 states, stored (3.59792e+06 visited)
     5072 states, matched
     7869 transitions (= visited+matched)
"""
VIOLATED = """
pan:1: assertion violated ((k==p)||(node[k]==0)) (at depth 2938)
pan: wrote election.pml.trail

(Spin Version 6.5.2 -- 6 December 2019)
Warning: Search not completed
\t+ Partial Order Reduction

Full statespace search for:
\tnever claim         \t- (none specified)
\tassertion violations\t+
\tcycle checks       \t- (disabled by -DSAFETY)
\tinvalid end states\t+

State-vector 124 byte, depth reached 43566, errors: 1
   404470 states, stored
  4607043 states, matched
  5011513 transitions (= stored+matched)
"""


def test_a_whole_search_without_an_error_is_its_counts() -> None:
    assert parsed(WHOLE) == Outcome(669509, 8656913)
    assert parsed(FAIR, claim="somebody_forges", fair=True) == Outcome(1927902, 7869)


def test_an_error_is_what_was_violated() -> None:
    outcome = parsed(VIOLATED)
    assert outcome.error == "assertion violated ((k==p)||(node[k]==0))"
    assert property_of(outcome.error) == "at most one forges"
    assert property_of("acceptance cycle", "somebody_forges") == "`somebody_forges`"
    assert property_of("invalid end state", "somebody_forges") == "invalid end state"


@pytest.mark.parametrize(
    "spoilt",
    [
        WHOLE.replace("Full statespace search", "Bit statespace search"),
        WHOLE.replace("Partial Order Reduction", "Partial Order Reduction\n\t+ Compression\nhash-compact 4"),
        "error: max search depth too small\n" + WHOLE,
        WHOLE + "pan: out of memory\n",
        WHOLE + "pan: reached -DMEMLIM bound\n",
        "Interrupted\n" + WHOLE,
        WHOLE.replace("\t+ Partial", "Warning: Search not completed\n\t+ Partial"),
        WHOLE.replace("assertion violations\t+", "assertion violations\t- (disabled by -A)"),
        WHOLE.replace("errors: 0", ""),
        WHOLE.replace("669509 states, stored", ""),
        VIOLATED.replace("pan:1: assertion violated", "pan: something"),
        "",
    ],
    ids=[
        "bit state",
        "hash compact",
        "too deep",
        "out of memory",
        "memory limit",
        "interrupted",
        "not completed",
        "no assertions",
        "no errors line",
        "no count",
        "an error without a name",
        "nothing",
    ],
)
def test_what_is_not_a_whole_search_is_no_result(spoilt: str) -> None:
    with pytest.raises(Refusal):
        parsed(spoilt)


def test_a_search_for_something_else_is_no_result() -> None:
    with pytest.raises(Refusal):
        parsed(WHOLE, claim="somebody_forges", fair=True)
    with pytest.raises(Refusal):
        parsed(FAIR)
    with pytest.raises(Refusal):
        parsed(FAIR, claim="handover_completes", fair=True)
    with pytest.raises(Refusal):
        parsed(FAIR, claim="somebody_forges", fair=False)


def test_what_is_missing_is_named_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.shutil, "which", lambda program: None if program == "spin" else "/usr/bin/" + program)
    assert model.missing() == ["spin"]
    monkeypatch.setattr("sys.argv", ["model"])
    with pytest.raises(SystemExit, match="apt-get install spin"):
        model.main()


def test_every_search_and_every_mutant_is_recorded_and_no_other() -> None:
    known = model.recorded()
    assert list(known["checks"]) == [check.name for check in CHECKS]
    assert list(known["mutants"]) == [mutant.key for mutant in MUTANTS]
    assert all(each["caught_by"] for each in known["mutants"].values())


def test_another_count_than_the_recorded_one_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "CHECKS", CHECKS[:1])
    monkeypatch.setattr(model, "MUTANTS", MUTANTS[:1])
    counted = model.recorded()["checks"][CHECKS[0].name]
    right = Outcome(int(counted["states"]), int(counted["transitions"]))
    caught = Outcome(1, 1, "assertion violated !(((node==1)&&(right==0)))")

    def searched(first: Outcome, then: Outcome) -> list[str]:
        found = [first, then]
        monkeypatch.setattr(model, "search", lambda *_, **__: found.pop(0))
        return model.run(record=False)

    assert searched(right, caught) == []
    assert "make model RECORD=1" in searched(Outcome(right.states + 1, right.transitions), caught)[0]
    assert "not caught" in searched(right, Outcome(1, 1))[0]
    assert "not caught" in searched(right, Outcome(1, 1, "invalid end state"))[0]
    assert "violated" in searched(Outcome(1, 1, caught.error), caught)[0]


def test_of_some_that_are_searched_alone_the_counts_are_recorded_and_those_of_the_others_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = model.recorded()
    monkeypatch.setattr(model, "STATES", tmp_path / "states.json")
    model.STATES.write_text(json.dumps(before), "utf-8")
    monkeypatch.setattr(model, "search", lambda *_, **__: Outcome(5, 6))
    assert model.run(record=True, only="fence: fence") == []
    assert model.recorded() == {**before, "checks": {**before["checks"], "fence": {"states": 5, "transitions": 6}}}


def test_a_search_that_is_refused_is_an_error_and_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object, **__: object) -> Outcome:
        raise Refusal("out of memory")

    before = model.STATES.read_bytes()
    monkeypatch.setattr(model, "search", search)
    assert len(model.run(record=True)) == len(CHECKS) + len(MUTANTS)
    assert model.STATES.read_bytes() == before

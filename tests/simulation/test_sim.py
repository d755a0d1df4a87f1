"""Schedules of whole pods: a handful in every run (`make sim` plays ten thousand), and that they would see a fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from product_mutants import (
    BEGIN,
    END,
    MUTANTS,
    PACKAGES,
    PAGE,
    ROOT,
    Mutant,
    caught,
    faulty,
    on_the_page,
    said,
    seed_of,
    table,
)
from script import FAULTS, ROW, row_of, script

SIM = Path(__file__).with_name("sim.py")
ENOUGH = 400
"""Schedules in which the faults that are tried here are seen; most are within fifty."""
TRIED = ("the kernel is not told whom to signal", "released before the fence is confirmed")


def run(*arguments: str, hash_seed: str = "1") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(SIM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=110)


def test_no_fault_of_the_first_schedules_breaks_an_invariant_and_somebody_forges_again() -> None:
    done = run("--seeds", "100", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 schedules" in done.stdout
    assert "0 failed" in done.stdout


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    one, other = (run("--seed", "7", hash_seed=seed) for seed in ("1", "2"))
    assert one.returncode == 0, one.stdout + one.stderr
    assert one.stdout == other.stdout
    assert ">>>" in one.stdout


def test_clocks_whose_rates_differ_by_more_than_is_assumed_are_seen_to_break_it() -> None:
    """A2 is an assumption: beyond it two forge, and nothing here hides that."""
    done = run("--seeds", str(ENOUGH), "--jobs", "1", "--drift", "0.3", "--failures", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout


def test_what_fails_is_shortened_and_told(tmp_path: Path) -> None:
    mutant = next(each for each in MUTANTS if each.name == TRIED[0])
    what, _ = caught(mutant, ENOUGH)
    seed = seed_of(what)
    faulty(mutant, tmp_path)
    program = tmp_path / "tests/simulation/sim.py"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(program), "--seed", seed]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=110)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "shortened to what still fails:" in done.stdout
    assert "VIOLATION" in done.stdout
    assert "!!!" in done.stdout


@pytest.mark.parametrize("name", TRIED)
def test_a_deliberate_fault_of_the_product_is_seen(name: str) -> None:
    what, _ = caught(next(each for each in MUTANTS if each.name == name), ENOUGH)
    assert what


@pytest.mark.parametrize("mutant", MUTANTS, ids=[each.name for each in MUTANTS])
def test_each_deliberate_fault_changes_lines_that_are_in_the_product_once(mutant: Mutant) -> None:
    for file, old, new in mutant.edits:
        assert file.partition("/")[0] in PACKAGES
        assert (ROOT / file).read_text(encoding="utf-8").count(old) == 1
        assert old != new


def test_the_page_has_every_deliberate_fault_and_what_saw_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = page.partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [each.name for each in MUTANTS]
    assert len(rows) >= 30
    assert "NOT SEEN" not in page


def test_the_schedule_that_failed_when_the_page_was_written_is_tried_first_and_the_others_if_it_holds() -> None:
    mutant = next(each for each in MUTANTS if each.name == TRIED[1])
    seed = on_the_page()[mutant.name]
    what, _ = caught(mutant, 0, recorded=seed)
    assert seed_of(what) == seed, "of no others any was played"
    what, _ = caught(mutant, ENOUGH, recorded="15")  # which holds
    assert seed_of(what) == seed


def test_a_fault_that_nothing_sees_survives() -> None:
    harmless = Mutant("a word", (("policy/election.py", '"giving others a turn', '"leaving others a turn'),))
    what, _ = caught(harmless, ROW, recorded="0")
    assert what == ""
    assert "| NOT SEEN | – |" in table([(harmless, what)])


def test_the_page_tells_the_seeds_that_it_was_written_with() -> None:
    assert on_the_page().keys() == {each.name for each in MUTANTS}
    assert all(seed.isdecimal() for name, seed in on_the_page().items() if not by(name))


def by(name: str) -> str:
    return next(each.by for each in MUTANTS if each.name == name)


def test_what_was_seen_is_told_without_what_differs_from_run_to_run() -> None:
    assert said("seed 7: 1015.4: a-east-2: the elector grants 0.008 s more than it gives") == (
        "a pod: the elector grants some time more than it gives"
    )
    assert said("seed 8: 1061.25: two forge: ['a-east-0', 'b-west-0']") == "two forge"
    assert said("") == ""


def test_every_kind_of_fault_is_played_and_each_row_in_one_world() -> None:
    scripts = [script(seed) for seed in range(3000)]
    assert {step.fault for each in scripts for step in each.steps} == set(FAULTS)
    assert all(script(seed).kind == scripts[seed - seed % ROW].kind for seed in range(200))
    assert list(row_of(13)) == [10, 11, 12, 13]

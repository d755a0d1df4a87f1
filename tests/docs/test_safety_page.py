"""docs/safety.md names tests, properties, searches and deliberate faults that there are, and that do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devkit.model import CHECKS, MUTANTS, PROPERTIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text()
SIMULATED = (ROOT / "docs" / "simulation.md").read_text().partition("<!-- mutants -->")[2]
MODELLED = (ROOT / "docs" / "model.md").read_text().partition("## The mutants")[2]
ORACLE = "".join((ROOT / "tests" / "simulation" / name).read_text() for name in ("world.py", "script.py"))
SOURCE = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
TESTS = set(re.findall(r"^(?:async )?def (\w+)\(", SOURCE, re.MULTILINE))
"""And faults of tests/e2e, which are functions, too."""


def table(text: str) -> list[list[str]]:
    """The cells of each row of the first one."""
    lines = text.partition("|---|")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]


def rows(heading: str) -> dict[str, list[str]]:
    """The cells behind the first one of each row of the table that follows."""
    return {first: rest for first, *rest in table(PAGE.partition(heading)[2])}


def quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


INVARIANTS = rows("## Invariants, and the test that holds each")
CHECKED = rows("### Where else each is checked")


def test_each_invariant_is_said_to_be_checked_elsewhere_or_why_it_is_not() -> None:
    assert list(CHECKED) == [*INVARIANTS, "one does"]
    assert all(len(cells) == 2 for cells in CHECKED.values())


@pytest.mark.parametrize("name", CHECKED)
def test_what_the_model_searches_for_and_found_is_there(name: str) -> None:
    known = {words for _, words in PROPERTIES} | {check.claim for check in CHECKS} | {each.name for each in MUTANTS}
    assert set(quoted(CHECKED[name][0])) <= known


@pytest.mark.parametrize("name", CHECKED)
def test_what_was_made_wrong_in_the_model_violated_what_it_stands_beside(name: str) -> None:
    words = quoted(CHECKED[name][0])
    for mutant in {each.name for each in MUTANTS} & set(words):
        violated = {cells[3].strip("`") for cells in table(MODELLED) if cells[1] == f"`{mutant}`"}
        assert violated & set(words), f"{mutant} violates {violated}"


@pytest.mark.parametrize("name", CHECKED)
def test_what_the_simulation_says_it_says_and_each_fault_made_it_say_so(name: str) -> None:
    words, faults = quoted(CHECKED[name][1]), re.findall('"([^"]+)"', CHECKED[name][1])
    assert [each for each in words if each not in ORACLE] == []
    seen = {cells[0]: cells[2] for cells in table(SIMULATED)}
    for fault in faults:
        assert any(each in seen[fault] for each in words), f"{fault} was seen by: {seen[fault]}"


@pytest.mark.parametrize("name", INVARIANTS)
def test_the_tests_that_hold_an_invariant_are_there(name: str) -> None:
    named = quoted(INVARIANTS[name][-1])
    for each in named:
        if "/" in each:
            assert (ROOT / each).exists(), each
        elif not each.startswith(("make ", "python ")):
            assert each in TESTS or (each.endswith("…") and any(test.startswith(each[:-1]) for test in TESTS)), each
    assert TESTS & set(named), "a file, or a command, is no test that can be looked up"


def test_every_assumption_says_what_happens_if_it_is_false() -> None:
    assumptions = rows("## Assumptions")
    assert list(assumptions) == [f"A{number}" for number in range(1, len(assumptions) + 1)]
    assert all(len(cells) == 2 and all(cells) for cells in assumptions.values())
    assert set(re.findall(r"\bA\d+\b", PAGE)) == set(assumptions), (
        "one is referred to that is not there, or the reverse"
    )

"""docs/safety.md names properties, searches and deliberate faults that there are, for each of its invariants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devkit.model import CHECKS, MUTANTS, PROPERTIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text()
SIMULATED = (ROOT / "docs" / "simulation.md").read_text().partition("<!-- mutants -->")[2]
ORACLE = "".join((ROOT / "tests" / "simulation" / name).read_text() for name in ("world.py", "script.py"))


def rows(heading: str) -> dict[str, list[str]]:
    """The cells behind the first one of each row of the table that follows."""
    table = PAGE.partition(heading)[2].partition("|---|")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[1:]]
    return {first: rest for first, *rest in cells}


INVARIANTS = rows("## Invariants, and the test that holds each")
CHECKED = rows("### Where else each is checked")


def test_each_invariant_is_said_to_be_checked_elsewhere_or_why_it_is_not() -> None:
    assert list(CHECKED) == [*INVARIANTS, "one does"]
    assert all(len(cells) == 2 for cells in CHECKED.values())


@pytest.mark.parametrize("name", CHECKED)
def test_what_the_model_searches_for_and_found_is_there(name: str) -> None:
    known = {words for _, words in PROPERTIES} | {check.claim for check in CHECKS} | {each.name for each in MUTANTS}
    assert set(re.findall("`([^`]+)`", CHECKED[name][0])) <= known


@pytest.mark.parametrize("name", CHECKED)
def test_what_the_simulation_says_it_says_and_each_fault_that_it_found_is_one(name: str) -> None:
    faults = re.findall('"([^"]+)"', CHECKED[name][1])
    assert [fault for fault in faults if f"| {fault} |" not in SIMULATED] == []
    assert [words for words in re.findall("`([^`]+)`", CHECKED[name][1]) if words not in ORACLE] == []


@pytest.mark.parametrize("name", INVARIANTS)
def test_the_tests_that_hold_an_invariant_are_there(name: str) -> None:
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for named in re.findall("`([^`]+)`", INVARIANTS[name][-1]):
        if named.startswith(("tests/", "policy/", "workers/")):
            assert (ROOT / named).exists(), named
        elif not named.startswith(("make ", "python ")):
            assert named.rstrip("…") in source, named

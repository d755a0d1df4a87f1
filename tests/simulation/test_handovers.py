"""Hand-overs one after another: a hundred in every run, and what is not as it should be is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handovers import POOLS

HERE = Path(__file__).parent


def run(*arguments: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """`first`: Python, before the program."""
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import handovers; {first or 0}; sys.exit(handovers.main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )


@pytest.mark.parametrize("pool", [kind.name for kind in POOLS])
def test_a_hundred_hand_overs_move_the_right_a_hundred_times_and_leave_nothing_behind(pool: str) -> None:
    done = run("--transitions", "100", "--pool", pool)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{pool}: 100 hand-overs" in done.stdout
    assert f"{pool}: held" in done.stdout


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("handovers.MOST_S = 0.001", "hand-over 1: nobody forged for "),
        ("handovers.HandOvers._counted = lambda self: [7]", "hand-over 1: transitions were [7], and are [7]"),
        ("handovers.READY_S = 0.0", "not within 0 s: another forges"),
    ],
    ids=["too long", "not counted", "not at all"],
)
def test_a_hand_over_that_is_not_as_it_should_be_is_told_with_its_story(first: str, told: str) -> None:
    done = run("--transitions", "20", "--pool", POOLS[0].name, first=first)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "VIOLATION" in done.stdout
    assert told in done.stdout
    assert "forging: " in done.stdout
    assert done.stdout.endswith(f"{POOLS[0].name}: FAILED\n")

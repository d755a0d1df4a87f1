"""docs/proof.md: every command that puts something to the proof is there, and is one that can be typed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "proof.md").read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.partition("## ")[0].splitlines() if line.startswith("| `make ")]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
ELSEWHERE = {"test-chart", "test-image", "test-systemd", "test-package", "test-page"}
"""Of what is delivered around the claim that one forges: the page says where these are listed."""
PARTS = {"test-fast", "test-e2e", "test-coverage"}
"""Of `make test`."""


def commands(text: str) -> set[str]:
    return set(re.findall(r"`make ([a-z0-9-]+)", text))


def test_every_make_command_on_the_page_is_a_target() -> None:
    assert commands(PAGE) - {"help"} <= TARGETS


def test_every_target_that_tests_or_searches_has_a_row() -> None:
    proves = {each for each in TARGETS if each.startswith("test")} - ELSEWHERE - PARTS
    proves |= {
        "check",
        "model",
        "sim",
        "fleets",
        "handovers",
        "mutants",
        "days",
        "endurance",
        "campaign",
        "explore",
        "fuzz",
        "soak",
        "benchmarks",
    }
    assert {found[1] for row in ROWS if (found := re.match("`make ([a-z0-9-]+)", row[0]))} == proves


def test_each_row_says_how_long_it_takes_and_what_it_needs() -> None:
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in ROWS)


def test_readme_and_contributing_lead_to_it() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/proof.md)" in (ROOT / page).read_text("utf-8")
